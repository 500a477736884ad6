"""The direction near the mean gradient that serves the worst-off task best.

Shape legend: T tasks, N problems of a batch.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from polytask.solvers.arrays import (
    Array,
    Solution,
    SolverReport,
    accepted,
    gram_to_array,
    rounding,
    to_tensor,
    unit_trace,
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
    if not c >= 0:
        raise ValueError(f"`c` must be >= 0, found {c}.")
    array = unit_trace(gram_to_array(gram))
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
    converged = residual <= accepted(precision)
    report = SolverReport(
        converged, iterations, residual, None if converged else "nearest radius reached"
    )
    return Solution(to_tensor(weights, gram, tuple(gram.shape[:-1])), report)


def _solve_one(gram: Array, radius: float, precision: float) -> tuple[Array, int, float]:
    """``s w`` for one problem, the number of radii tried, and the relative error of the radius."""
    norms = np.sqrt(np.diagonal(gram).clip(min=0))
    shortest = float(norms[norms > 0].min())
    means = gram.mean(axis=0)
    mean_square = float(means.mean())
    sums = means[:, None] + means
    low, high = 0.0, np.inf
    # What it would be if the combination were as long as a typical gradient.
    shift = radius / float((norms**2).mean()) ** 0.5
    support = None
    for iteration in range(1, _LIMIT + 1):
        shifted = mean_square + shift * sums + shift**2 * gram
        weights = min_norm_arrays(shifted[None], precision, support)[0][0]
        length = max(float(weights @ gram @ weights), 0.0) ** 0.5
        wrong = float(abs(shift * length / radius - 1))
        if wrong <= 1e-10:
            break
        if shift * length > radius:
            high = shift
        elif length <= 8 * precision**0.5 * max(float(weights @ norms), shortest):
            return _nearest_harmless(gram, precision), iteration, 0.0
        else:
            low = shift
        if high - low <= 1e-14 * high < np.inf:
            break
        support = (weights > 0)[None]
        guess, on_face = _solve_face(gram, means, norms, weights.nonzero()[0], radius)
        if on_face is not None:
            return on_face, iteration, 0.0
        if low < guess < high:
            shift = guess
        elif np.isinf(high):
            shift *= 10
        else:
            shift = (low * high) ** 0.5 if low > 0 else high / 10
    return weights * (radius / length), iteration, wrong


def _solve_face(
    gram: Array, means: Array, norms: Array, face: NDArray[np.intp], radius: float
) -> tuple[float, Array | None]:
    """The ``s`` at which the radius is met if the positive weights are those of the face.

    The second value is the solution ``s w`` if it satisfies the conditions of optimality.
    """
    columns = gram[:, face]
    block = columns[face]
    lengths = norms[face]
    scale = 1 / np.where(lengths > 0, lengths, 1)
    unit = block * scale[:, None] * scale
    unit[np.arange(len(face)), np.arange(len(face))] += 1e-14
    sides = np.empty((len(face), 2))
    sides[:, 0] = scale
    sides[:, 1] = means[face] * scale
    try:
        ones, pulls = (np.linalg.solve(unit, sides) * scale[:, None]).T
    except np.linalg.LinAlgError:
        # The bracket alone then leads the search.
        return np.nan, None
    # On the face  s w = s slope + offset  solves  G v + G m = t 1,  1' v = s.
    slope = ones / ones.sum()
    offset = slope * pulls.sum() - pulls
    product = block @ slope
    square, cross = float(slope @ product), float(offset @ product)
    discriminant = cross**2 - square * (float(offset @ block @ offset) - radius**2)
    if not discriminant >= 0 < square:
        return np.nan, None
    shift = (discriminant**0.5 - cross) / square
    weights = shift * slope + offset
    gains = columns @ weights + means
    worst = float(gains[face].mean())
    # Gains of unit gradients are compared with the radius, which bounds them.
    slack = (gains - worst) / np.where(norms > 0, norms, 1)
    length = max(float(weights @ block @ weights), 0.0) ** 0.5
    exact = abs(length / radius - 1) <= 1e-10 and float(slack.min()) >= -1e-11 * radius
    if not exact or float(weights.min()) < 0:
        return shift, None
    solution = np.zeros(len(gram))
    solution[face] = weights
    return shift, solution


def _nearest_harmless(gram: Array, precision: float) -> Array:
    """What to add to the mean weights to project the mean gradient on the dual cone."""
    mean = np.full((1, 1, len(gram)), 1 / len(gram))
    projected = project_dual_cone_arrays(gram[None], mean, precision)[0]
    extra: Array = (projected - mean)[0, 0]
    return extra
