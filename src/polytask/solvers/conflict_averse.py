"""The direction near the mean gradient that serves the worst-off task best.

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
)
from polytask.solvers.dual_cone import project_dual_cone_arrays
from polytask.solvers.min_norm import min_norm_arrays

__all__ = ["conflict_averse"]

_LIMIT = 60


def conflict_averse(gram: Tensor, *, c: float) -> Solution:
    """Weights of ``argmax_d min_i g_i . d`` subject to ``||d - g_0|| <= c ||g_0||``, exactly.

    With the mean gradient ``g_0`` and ``g_w = J^T w``, ``d = g_0 + (c ||g_0|| / ||g_w||) g_w`` for
    ``w = argmin_{simplex} g_w . g_0 + c ||g_0|| ||g_w||``. We use that ``w`` is also the
    minimum-norm point of the shifted gradients ``g_0 + s g_i`` for the one ``s`` at which
    ``s ||g_w|| = c ||g_0||``; the left side grows with ``s``, and is the root of a quadratic as
    long as the set of positive weights stays the same.

    If the hull of the gradients holds zero within the radius (a Pareto-stationary point), every
    ``d`` that hurts no task is optimal; we return the one nearest to ``g_0``.

    Args:
        gram: ``[..., T, T]``.
        c: Radius relative to the mean gradient, >= 0; 0 gives the mean.

    Returns:
        Weights ``1/T + (c ||g_0|| / ||g_w||) w`` ``[..., T]`` of ``d``, and the report.

    Raises:
        ValueError: If ``c`` is negative or ``gram`` is not square or not finite.

    Cost: about five minimum-norm points.

    References:
        Liu, Liu, Jin, Stone, Liu. Conflict-averse gradient descent for multi-task learning. NeurIPS
        2021, equations 3-4, algorithm 1. https://arxiv.org/abs/2110.14048
    """
    check_gram(gram)
    if not c >= 0:
        raise ValueError(f"`c` must be >= 0, found {c}.")
    array = to_array(gram, 2)
    trace = np.einsum("nii->n", array)
    array /= np.where(trace > 0, trace, 1)[:, None, None]
    precision = rounding(gram)
    weights = np.full(array.shape[:2], 1 / array.shape[1])
    iterations, residual = 0, 0.0
    for problem, own in enumerate(array):
        mean_square = own.mean()
        # A mean gradient of zero, up to rounding, leaves no ball to move in.
        if c > 0 and mean_square > precision * np.diagonal(own).mean():
            extra, steps, wrong = _solve_one(own, c * np.sqrt(mean_square), precision)
            weights[problem] += extra
            iterations, residual = max(iterations, steps), max(residual, wrong)
    converged = residual <= 1e-8
    report = SolverReport(
        converged, iterations, residual, None if converged else "nearest radius reached"
    )
    return Solution(to_tensor(weights, gram, tuple(gram.shape[:-1])), report)


def _solve_one(gram: Array, radius: float, precision: float) -> tuple[Array, int, float]:
    """``s w`` for one problem, the number of radii tried, and the relative error of the radius."""
    norms = np.sqrt(np.diagonal(gram).clip(min=0))
    mean_products = gram.mean(axis=0)
    low, high = 0.0, np.inf
    shift = radius / np.sqrt(gram.mean())
    for iteration in range(1, _LIMIT + 1):
        shifted = gram.mean() + shift * (mean_products[:, None] + mean_products) + shift**2 * gram
        weights = min_norm_arrays(shifted[None], precision)[0][0]
        length = np.sqrt(max(weights @ gram @ weights, 0))
        wrong = abs(shift * length / radius - 1)
        if wrong <= 1e-11:
            break
        if shift * length > radius:
            high = shift
        elif length <= 8 * np.sqrt(precision) * (weights @ norms):
            return _nearest_harmless(gram, precision), iteration, 0.0
        else:
            low = shift
        if high - low <= 1e-14 * high < np.inf:
            break
        shift = _next_shift(gram, mean_products, weights > 0, radius, (low, high), shift)
    return weights * (radius / length), iteration, float(wrong)


def _next_shift(
    gram: Array,
    mean_products: Array,
    support: Mask,
    radius: float,
    bracket: tuple[float, float],
    shift: float,
) -> float:
    """The ``s`` at which the radius is met if the support stays, kept inside the bracket."""
    low, high = bracket
    index = np.flatnonzero(support)
    block = gram[np.ix_(index, index)]
    scale = 1 / np.sqrt(np.diagonal(block))
    unit = block * scale[:, None] * scale + 1e-14 * np.eye(len(index))
    sides = np.stack([scale, mean_products[index] * scale], axis=1)
    ones, means = (np.linalg.solve(unit, sides) * scale[:, None]).T
    # On the support s w = s slope + offset solves  G v + G m = t 1,  1' v = s.
    slope = ones / ones.sum()
    offset = slope * means.sum() - means
    square, cross = slope @ block @ slope, slope @ block @ offset
    constant = offset @ block @ offset - radius**2
    discriminant = cross**2 - square * constant
    guess = (np.sqrt(discriminant) - cross) / square if discriminant >= 0 < square else np.nan
    if low < guess < high:
        return float(guess)
    if np.isinf(high):
        return 10 * shift
    return float(np.sqrt(low * high)) if low > 0 else high / 10


def _nearest_harmless(gram: Array, precision: float) -> Array:
    """What to add to the mean weights to project the mean gradient on the dual cone."""
    mean = np.full((1, 1, len(gram)), 1 / len(gram))
    projected = project_dual_cone_arrays(gram[None], mean, precision)[0]
    extra: Array = (projected - mean)[0, 0]
    return extra
