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
    gram_to_array,
    rounding,
    to_tensor,
    unit_gram,
)
from polytask.solvers.min_norm import min_norm_arrays
from polytask.solvers.nonnegative import solve_positive

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
    if not 0 < power < np.inf:
        raise ValueError(f"`power` must be positive and finite, found {power}.")
    array = gram_to_array(gram)
    squares = np.einsum("nii->ni", array)
    alive = squares > 0
    # Powers of the squared norms of the original Gramian, so that the weights have their proper
    # scale.
    units = np.where(alive, np.where(alive, squares, 1) ** (-1 / (1 + power)), 0)
    cosines, norms = unit_gram(array)
    alive &= norms > 0
    relative = np.where(alive, np.where(alive, norms, 1) ** ((power - 1) / (power + 1)), 1)
    # D G D with D = units: cosines times the square roots of its diagonal, up to one common factor.
    precision = rounding(gram)
    solution, residual = np.empty_like(units), np.empty(len(array))
    iterations = 0
    for problem, own in enumerate(cosines):
        solution[problem], steps, residual[problem] = _newton(
            own, relative[problem], power, precision
        )
        iterations = max(iterations, steps)
    weights = solution * units
    failed = ~(residual <= _TOLERANCE) | _cancels(array, weights, precision)
    if failed.any():
        weights[failed] = _fallback(array[failed], units[failed], alive[failed], precision)
    _fill_zero_rows(weights, alive)
    report = SolverReport(
        not failed.any(),
        iterations,
        float(residual.max()),
        "minimum-norm combination of normalised gradients" if failed.any() else None,
    )
    return Solution(to_tensor(weights, gram, tuple(gram.shape[:-1])), report)


def _newton(
    cosines: Array, sizes: Array, power: float, precision: float
) -> tuple[Array, int, float]:
    """Solve ``sum_j R_ij z_i z_j x_j = z_i^2 x_i^(-p)`` for ``x`` ``[T]``, with sizes ``z``.

    Written for ``y = z x``: ``R y = z (y / z)^(-p)``, whose Jacobian ``R + diag`` has a diagonal
    near one.
    """
    target = sizes ** (1 + power)
    solution = best = _start(cosines, sizes, power)
    product = cosines @ solution
    best_residual, stalled, iteration = np.inf, 0, 0
    diagonal = np.arange(len(sizes))
    while iteration < _LIMIT:
        iteration += 1
        pull = target * solution**-power
        slope = product - pull
        residual = float(np.abs(slope / pull).max())
        stalled = 0 if residual < 0.5 * best_residual else stalled + 1
        if residual < best_residual:
            best, best_residual = solution, residual
        # Close to the solution every step doubles the digits: two that do not have met the rounding
        # error. Far from it weights may have to double many times before the residual moves.
        if residual <= 1e-13 or (best_residual <= _TOLERANCE and stalled >= 2):
            break
        if float(solution @ product) <= 64 * precision * float(solution.sum()) ** 2:
            # Nothing but rounding is left of the combination: there is no solution.
            break
        hessian = cosines.copy()
        hessian[diagonal, diagonal] += power * pull / solution
        step = -solve_positive(hessian, slope)
        solution, product = _advance(cosines, target, power, solution, product, step, slope)
    return best / sizes, iteration, best_residual


def _start(cosines: Array, sizes: Array, power: float) -> Array:
    """The multiple of the solution for orthogonal gradients that minimises the potential."""
    pull = float((sizes**2).sum())
    curvature = max(float(sizes @ cosines @ sizes), 1e-3 * pull)
    start: Array = sizes * (pull / curvature) ** (1 / (1 + power))
    return start


def _advance(
    cosines: Array,
    target: Array,
    power: float,
    solution: Array,
    product: Array,
    step: Array,
    slope: Array,
) -> tuple[Array, Array]:
    """A Newton step, shortened to stay positive and to decrease the potential.

    Returns the new point and its product with the cosines.
    """
    change = step / solution
    ratio = -float(change.min())
    length = 1.0 if ratio <= 0.9 else 0.9 / ratio
    moved, moved_product = cosines @ step, product
    if float(np.abs(change).max()) < 0.1:
        # Steps this short are in the region of quadratic convergence.
        return solution + step, product + moved
    decrement = -float(slope @ step)
    start = _potential(target, power, solution, product)
    for _ in range(30):
        point = solution + length * step
        moved_product = product + length * moved
        gain = start - _potential(target, power, point, moved_product)
        if gain >= 1e-4 * length * decrement - 1e-14 * (1 + abs(start)):
            break
        length /= 2
    return point, cosines @ point


def _potential(target: Array, power: float, solution: Array, product: Array) -> float:
    """``1/2 y' R y`` minus the barrier, from ``y`` and ``R y``."""
    if power == 1:
        barrier = float(target @ np.log(solution))
    else:
        barrier = float(target @ solution ** (1 - power)) / (1 - power)
    return 0.5 * float(solution @ product) - barrier


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
