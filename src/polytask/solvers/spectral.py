"""Weights from the eigenvalues of a Gramian: aligned components and equal projections.

Shape legend: T tasks, P shared parameters, N problems of a batch.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from torch import Tensor

from polytask.solvers.arrays import (
    Array,
    Mask,
    gram_to_array,
    rounding,
    to_array,
    to_tensor,
    unit_gram,
    unit_trace,
)

__all__ = ["AlignedScale", "align_components", "conflict_free", "equal_projections"]

AlignedScale = Literal["min", "median", "rmse"]


def align_components(gram: Tensor, preference: Tensor, *, scale: AlignedScale = "min") -> Tensor:
    """Weights that make the principal components of the gradients equally long.

    With ``G = V diag(lambda) V'`` restricted to its rank, ``B = sqrt(s) V diag(lambda^-1/2) V'``
    makes ``B J`` a matrix whose singular values all equal ``sqrt(s)``; the weights are ``B u``.

    Args:
        gram: ``[..., T, T]``.
        preference: ``u`` ``[T]``, the task weights wanted for orthogonal gradients of one length.
        scale: ``s``: the smallest eigenvalue of the rank ("min"), the lower median ("median") or
            the mean ("rmse").

    Returns:
        ``[..., T]``; zeros for a Gramian of zeros.

    Raises:
        ValueError: If ``scale`` is unknown or ``gram`` is not square or not finite.

    Cost: one eigendecomposition of a T x T matrix.

    References:
        Senushkin, Patakin, Kuznetsov, Konushin. Independent component alignment for multi-task
        learning. CVPR 2023, algorithm 1, equations 9-12. https://arxiv.org/abs/2305.19000
    """
    if scale not in ("min", "median", "rmse"):
        raise ValueError(f"`scale` must be 'min', 'median' or 'rmse', found {scale!r}.")
    array = unit_trace(gram_to_array(gram))
    values, vectors = np.linalg.eigh(array)
    size = values.shape[-1]
    kept = (values > values[:, -1:] * size * rounding(gram)) & (values > 0)
    rank = kept.sum(axis=-1)
    # Eigenvalues ascend: those that are kept are the last ones.
    present = np.maximum(rank, 1)
    position = size - present + (0 if scale == "min" else (present - 1) // 2)
    chosen = np.take_along_axis(values, position[:, None], axis=-1)
    if scale == "rmse":
        chosen = np.where(kept, values, 0).sum(axis=-1, keepdims=True) / present[:, None]
    factors = np.where(kept, np.sqrt(chosen.clip(min=0) / np.where(kept, values, 1)), 0)
    wanted = to_array(preference, 1, "preference")
    rotated = wanted @ vectors if len(wanted) == 1 else np.einsum("ni,nij->nj", wanted, vectors)
    rotated = rotated.reshape(len(values), size)
    weights = np.einsum("nij,nj->ni", vectors, factors * rotated)
    return to_tensor(weights, gram, tuple(gram.shape[:-1]))


def equal_projections(gram: Tensor) -> Tensor:
    """Weights whose combination has the same projection on the direction of every gradient.

    They sum to one.

    With the cosines ``R`` and norms ``n`` of the gradients: ``R v = mu 1`` and ``w_i = v_i / n_i``,
    ``sum w_i = 1``. This is the stable form of ``w_{2:T} = g_1 U^T (D U^T)^-1``. Where ``R`` is
    singular we take the shortest ``v``; if no direction has equal positive projections (opposite
    gradients) then ``mu = 0`` and the combination vanishes.

    Args:
        gram: ``[..., T, T]``.

    Returns:
        ``[..., T]``; weights may be negative. Rows of zeros get ``1 / T`` each and the others share
        one as before.

    Raises:
        ValueError: If ``gram`` is not square or not finite.

    Cost: one eigendecomposition of a T x T matrix.

    References:
        Liu, Li, Kuang, Xue, Chen, Yang, Liao, Zhang. Towards impartial multi-task learning. ICLR
        2021, equation 6.
        https://openreview.net/forum?id=IMPnRXEWpvr
    """
    cosines, norms = unit_gram(gram_to_array(gram))
    alive = norms > 0
    shortest = np.where(alive, norms, np.inf).min(axis=-1, keepdims=True)
    shortest[np.isinf(shortest)] = 1
    inverse = np.where(alive, shortest / np.where(alive, norms, 1), 0)
    values, vectors, kept = _range_of(cosines, rounding(gram))
    ones = alive.astype(np.float64)
    rotated = np.einsum("nij,ni->nj", vectors, ones)
    outside = np.where(kept, 0, rotated)
    regular = np.where(kept, rotated / np.where(kept, values, 1), 0)
    # Equal non-zero projections exist if the ones lie in the range of R; else only the null space
    # gives equal (zero) ones.
    reachable = (outside**2).sum(axis=-1) <= np.sqrt(rounding(gram)) * ones.sum(axis=-1)
    null = np.where(kept, 0, np.einsum("nij,ni->nj", vectors, inverse))
    solution = np.einsum("nij,nj->ni", vectors, np.where(reachable[:, None], regular, null))
    weights = solution * inverse
    total = weights.sum(axis=-1, keepdims=True)
    usable = np.abs(total) > 1e-12 * np.abs(weights).sum(axis=-1, keepdims=True)
    size = weights.shape[-1]
    weights = np.where(usable & alive, weights / np.where(usable, total, 1), 1 / size)
    return to_tensor(weights, gram, tuple(gram.shape[:-1]))


def conflict_free(gram: Tensor) -> Tensor:
    """Weights of the direction that has the same cosine with all gradients.

    ``d = pinv(U) 1`` for the matrix ``U`` of normalised gradients, ``u = d / ||d||``, combination
    ``(sum_i g_i . u) u``. Since ``pinv(U) = U^T pinv(U U^T)``, the cosines ``R = U U^T`` are all
    that is needed.

    Args:
        gram: ``[..., T, T]``.

    Returns:
        ``[..., T]``; weights may be negative; zeros where no direction has positive cosines
        (opposite gradients).

    Raises:
        ValueError: If ``gram`` is not square or not finite.

    Cost: one eigendecomposition of a T x T matrix.

    References:
        Liu, Chu, Thuerey. ConFIG: towards conflict-free training of physics informed neural
        networks. ICLR 2025, equations 2-3. https://arxiv.org/abs/2408.11104
    """
    cosines, norms = unit_gram(gram_to_array(gram))
    alive = (norms > 0).astype(np.float64)
    values, vectors, kept = _range_of(cosines, rounding(gram))
    rotated = np.einsum("nij,ni->nj", vectors, alive)
    direction = np.einsum(
        "nij,nj->ni", vectors, np.where(kept, rotated / np.where(kept, values, 1), 0)
    )
    projections = np.einsum("nij,nj->ni", cosines, direction)
    square = (direction * projections).sum(axis=-1, keepdims=True)
    # Relative to a single gradient the square is at least 1 / T unless it is rounding.
    found = square > 1e-8 / cosines.shape[-1]
    length = (norms * projections * alive).sum(axis=-1, keepdims=True) / np.where(found, square, 1)
    inverse = np.where(norms > 0, 1 / np.where(norms > 0, norms, 1), 0)
    weights = np.where(found, direction * length * inverse, 0)
    return to_tensor(weights, gram, tuple(gram.shape[:-1]))


def _range_of(matrix: Array, precision: float) -> tuple[Array, Array, Mask]:
    """Eigenvalues, eigenvectors, and which of them span the range."""
    values, vectors = np.linalg.eigh(matrix)
    return values, vectors, values > 10 * values.shape[-1] * precision * values[:, -1:]
