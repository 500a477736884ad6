"""The probability simplex: Euclidean projection, and projected gradient descent on a quadratic.

Shape legend: T tasks, N problems of a batch.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from polytask.solvers.arrays import Array, gram_to_array, to_array, to_tensor

__all__ = ["descend_simplex", "project_simplex"]


def project_simplex(point: Tensor) -> Tensor:
    """The nearest point of the simplex.

    It is ``max(point - tau, 0)`` with the ``tau`` that makes the sum one. With the coordinates
    sorted in descending order, ``u_1 >= ... >= u_T``, and ``k`` the last position at which
    ``u_k > (sum_{i <= k} u_i - 1) / k``, ``tau`` is the right-hand side at ``k``.

    Args:
        point: ``[..., T]``.

    Returns:
        ``[..., T]``, non-negative, summing to one.

    Raises:
        ValueError: If there is no coordinate.

    Cost: one sort.

    References:
        Held, Wolfe, Crowder. Validation of subgradient optimization. Mathematical Programming 6,
        1974.
        https://doi.org/10.1007/BF01580223
        Duchi, Shalev-Shwartz, Singer, Chandra. Efficient projections onto the l1-ball for learning
        in high dimensions. ICML 2008, figure 1. https://doi.org/10.1145/1390156.1390191
    """
    if point.dim() == 0 or point.shape[-1] == 0:
        raise ValueError(
            f"`point` must have shape [..., T] with T >= 1, found {tuple(point.shape)}."
        )
    # The projection ignores a common shift; without it large equal coordinates would drown the 1.
    shifted = point - point.amax(dim=-1, keepdim=True)
    ordered = shifted.sort(dim=-1, descending=True).values
    ranks = torch.arange(1, point.shape[-1] + 1, dtype=point.dtype, device=point.device)
    thresholds = (ordered.cumsum(dim=-1) - 1) / ranks
    last = (ordered > thresholds).sum(dim=-1, keepdim=True) - 1
    return (shifted - thresholds.gather(-1, last)).clamp(min=0)


def descend_simplex(
    gram: Tensor,
    start: Tensor,
    *,
    steps: int,
    step_size: float,
    momentum: float = 0.0,
    pull: Tensor | None = None,
) -> Tensor:
    """Projected gradient descent for ``1/2 w' G w + b' w`` on the simplex.

    ``v <- m v + (G w + b)``, ``w <- project(w - a v)``, starting from ``v = 0``. ``G`` need not be
    symmetric: with the product of gradients from two independent batches ``G w`` is an unbiased
    estimate.

    Args:
        gram: ``G`` ``[..., T, T]``.
        start: First ``w`` ``[..., T]``.
        steps: Number of steps.
        step_size: ``a`` > 0.
        momentum: ``m`` in [0, 1).
        pull: ``b`` ``[..., T]``; None is zero.

    Returns:
        ``w`` ``[..., T]``.

    Raises:
        ValueError: If an argument is out of range, or shapes do not fit.

    Cost: O(T^2) per step.

    References:
        Xiao, Ban, Ji. Direction-oriented multi-objective learning. NeurIPS 2023, algorithm 1.
        https://arxiv.org/abs/2305.18409
    """
    if steps < 0 or not step_size > 0 or not 0 <= momentum < 1:
        raise ValueError(
            "`steps` must be >= 0, `step_size` > 0 and `momentum` in [0, 1),"
            f" found {steps}, {step_size} and {momentum}."
        )
    shape = tuple(gram.shape[:-1])
    for name, vector in (("start", start), ("pull", pull)):
        if vector is not None and tuple(vector.shape) != shape:
            raise ValueError(f"`{name}` must have shape {shape}, found {tuple(vector.shape)}.")
    matrix, point = gram_to_array(gram), to_array(start, 1, "start")
    linear = np.zeros_like(point) if pull is None else to_array(pull, 1, "pull")
    for problem, own in enumerate(matrix):
        weights, velocity = point[problem], np.zeros(shape[-1])
        for _ in range(steps):
            velocity = momentum * velocity + own @ weights + linear[problem]
            weights = _project(weights - step_size * velocity)
        point[problem] = weights
    return to_tensor(point, gram, shape)


def _project(point: Array) -> Array:
    """``project_simplex`` on one array ``[T]``."""
    shifted = point - point.max()
    ordered = np.sort(shifted)[::-1]
    thresholds = (ordered.cumsum() - 1) / np.arange(1, len(point) + 1)
    last = int(np.count_nonzero(ordered > thresholds)) - 1
    projected: Array = (shifted - thresholds[last]).clip(min=0)
    return projected
