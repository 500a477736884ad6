"""Bargaining between tasks: positive weights at which ``G w = w^(-p)``, elementwise.

Shape legend: T tasks, N problems of a batch.
"""

from __future__ import annotations

import numpy as np
from torch import Tensor

from polytask.solvers.arrays import (
    Array,
    Mask,
    Solution,
    SolverReport,
    check_gram,
    rounding,
    to_array,
    to_tensor,
    unit_gram,
)
from polytask.solvers.min_norm import min_norm_arrays

__all__ = ["bargain"]

_LIMIT = 60
#: Accepted residual; where the gradients nearly cancel, rounding keeps it above 1e-13.
_TOLERANCE = 1e-6


def bargain(gram: Tensor, *, power: float = 1.0) -> Solution:
    """Positive weights with ``(G w)_i = w_i^(-p)``: Nash bargaining or alpha-fairness.

    Nash bargaining is ``p = 1``, alpha-fairness ``p = 1/alpha``.

    They minimise the strictly convex ``1/2 w' G w - sum_i w_i^(1-p) / (1-p)`` (``- sum log w_i``
    for ``p = 1``). Newton steps that keep the weights positive, in the variables
    ``w_i = G_ii^(-1/(1+p)) x_i``, for which orthogonal gradients have the solution ``x = 1``
    whatever their lengths.

    There is no solution where a combination of gradients with positive weights is zero up to
    rounding (a Pareto-stationary point, opposite gradients for example). Then, and if the iteration
    limit is reached, the fallback is the minimum-norm combination of the normalised gradients,
    scaled to the total weight that orthogonal gradients would have.

    Rows of zeros take no part; they get the mean weight of the others (one if all rows are zero).

    Args:
        gram: ``[..., T, T]``.
        power: ``p`` > 0.

    Returns:
        Weights ``[..., T]`` and the report; its residual is the largest ``|(G w)_i w_i^p - 1|``.

    Raises:
        ValueError: If ``power`` is not positive or ``gram`` is not square or not finite.

    Cost: 5-40 linear systems of T equations.

    References:
        Navon, Shamsian, Achituve, Maron, Kawaguchi, Chechik, Fetaya. Multi-task learning as a
        bargaining game. ICML 2022, claim 3.1. https://arxiv.org/abs/2202.01017
        Ban, Ji. Fair resource allocation in multi-task learning. ICML 2024, equation 5.
        https://arxiv.org/abs/2402.15638
    """
    check_gram(gram)
    if not 0 < power < np.inf:
        raise ValueError(f"`power` must be positive and finite, found {power}.")
    array = to_array(gram, 2)
    squares = np.einsum("nii->ni", array)
    alive = squares > 0
    # Powers of the squared norms of the original Gramian, so that the weights have their proper
    # scale.
    units = np.where(alive, np.where(alive, squares, 1) ** (-1 / (1 + power)), 0)
    cosines, norms = unit_gram(array)
    alive &= norms > 0
    relative = np.where(alive, np.where(alive, norms, 1) ** ((power - 1) / (power + 1)), 1)
    # D G D with D = units: cosines times the square roots of its diagonal, up to one common factor.
    solution, iterations, residual = _newton(cosines, relative, power)
    weights = solution * units
    failed = ~(residual <= _TOLERANCE) | _cancels(array, weights, rounding(gram))
    if failed.any():
        weights[failed] = _fallback(array[failed], units[failed], alive[failed], rounding(gram))
    _fill_zero_rows(weights, alive)
    report = SolverReport(
        not failed.any(),
        iterations,
        float(residual.max()),
        "minimum-norm combination of normalised gradients" if failed.any() else None,
    )
    return Solution(to_tensor(weights, gram, tuple(gram.shape[:-1])), report)


def _newton(cosines: Array, sizes: Array, power: float) -> tuple[Array, int, Array]:
    """Solve ``sum_j R_ij z_i z_j x_j = z_i^2 x_i^(-p)`` for ``x`` ``[N, T]``, with sizes ``z``.

    Written for ``y = z x``: ``R y = z (y / z)^(-p)``, whose Jacobian ``R + diag`` has a diagonal
    near one.
    """
    target = sizes ** (1 + power)
    solution = _start(cosines, sizes, target, power)
    best, best_residual = solution, np.full(len(cosines), np.inf)
    diagonal = np.arange(sizes.shape[1])
    stalled = iteration = 0
    while iteration < _LIMIT:
        iteration += 1
        pull: Array = target * solution**-power
        slope: Array = (cosines @ solution[..., None])[..., 0] - pull
        residual = np.abs(slope / pull).max(axis=-1)
        stalled = 0 if (residual < 0.5 * best_residual).any() else stalled + 1
        best = np.where((residual < best_residual)[:, None], solution, best)
        best_residual = np.minimum(residual, best_residual)
        # Close to the solution every step doubles the digits: two that do not have met the rounding
        # error. Far from it weights may have to double many times before the residual moves.
        if (residual <= 1e-13).all() or ((best_residual <= _TOLERANCE).all() and stalled >= 2):
            break
        if (solution / sizes).max() > 1e9:
            break
        hessian = cosines.copy()
        hessian[:, diagonal, diagonal] += power * pull / solution
        try:
            step = -np.linalg.solve(hessian, slope[..., None])[..., 0].astype(np.float64)
        except np.linalg.LinAlgError:
            break
        solution = _advance(cosines, target, power, solution, step, slope)
    return best / sizes, iteration, best_residual


def _start(cosines: Array, sizes: Array, target: Array, power: float) -> Array:
    """The multiple of the solution for orthogonal gradients that minimises the potential."""
    curvature = np.einsum("ni,nij,nj->n", sizes, cosines, sizes)
    pull = (target * sizes ** (1 - power)).sum(axis=-1)
    ratio = pull / np.maximum(curvature, 1e-3 * pull)
    start: Array = sizes * (ratio ** (1 / (1 + power)))[:, None]
    return start


def _advance(
    cosines: Array, target: Array, power: float, solution: Array, step: Array, slope: Array
) -> Array:
    """A Newton step, shortened to stay positive and to decrease the potential."""
    ratio = (-step / solution).max(axis=-1)
    length = np.minimum(1.0, 0.9 / np.maximum(ratio, 0.9))
    decrement = -(slope * step).sum(axis=-1)
    start = _potential(cosines, target, power, solution)
    noise = 1e-14 * (1 + np.abs(start))
    for _ in range(30):
        moved: Array = solution + length[:, None] * step
        gain = start - _potential(cosines, target, power, moved)
        short = gain < 1e-4 * length * decrement - noise
        if not short.any():
            break
        length = np.where(short, length / 2, length)
    return moved


def _potential(cosines: Array, target: Array, power: float, solution: Array) -> Array:
    quadratic = 0.5 * np.einsum("ni,nij,nj->n", solution, cosines, solution, optimize=False)
    if power == 1:
        barrier = target * np.log(solution)
    else:
        barrier = target * solution ** (1 - power) / (1 - power)
    potential: Array = quadratic - barrier.sum(axis=-1)
    return potential


def _fallback(gram: Array, units: Array, alive: Mask, precision: float) -> Array:
    """Minimum-norm weights of the normalised gradients with the total of ``units``."""
    norms = np.where(alive, np.sqrt(np.where(alive, np.einsum("nii->ni", gram), 1)), 1)
    cosines = unit_gram(gram)[0]
    inner = min_norm_arrays(cosines, precision)[0]
    weights = np.where(alive, inner / norms, 0)
    total = weights.sum(axis=-1, keepdims=True)
    scaled: Array = weights * units.sum(axis=-1, keepdims=True) / np.where(total > 0, total, 1)
    return scaled


def _cancels(gram: Array, weights: Array, precision: float) -> Mask:
    """Whether the combination is nothing but what rounding left of longer vectors."""
    norms = np.sqrt(np.einsum("nii->ni", gram).clip(min=0))
    square = np.einsum("ni,nij,nj->n", weights, gram, weights)
    cancelled: Mask = square <= 64 * precision * (weights * norms).sum(axis=-1) ** 2
    cancelled &= (norms > 0).any(axis=-1)
    return cancelled


def _fill_zero_rows(weights: Array, alive: Mask) -> None:
    """Give tasks without a gradient the mean weight of the others."""
    number = alive.sum(axis=-1, keepdims=True)
    total = np.where(alive, weights, 0).sum(axis=-1, keepdims=True)
    mean = np.where(number > 0, total / np.maximum(number, 1), 1)
    np.copyto(weights, np.broadcast_to(mean, weights.shape), where=~alive)
