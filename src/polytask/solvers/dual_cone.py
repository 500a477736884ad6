"""Projection of combinations of gradients on the cone of directions that hurt no task.

Shape legend: T tasks, M vectors to project, P shared parameters, N problems of a batch.
"""

from __future__ import annotations

import numpy as np
from torch import Tensor

from polytask.solvers.arrays import (
    Array,
    Solution,
    SolverReport,
    accepted,
    gram_to_array,
    rounding,
    to_array,
    to_tensor,
    unit_gram,
)
from polytask.solvers.nonnegative import solve_nonnegative

__all__ = ["project_dual_cone", "project_dual_cone_arrays"]


def project_dual_cone(gram: Tensor, coefficients: Tensor) -> Solution:
    """Project vectors ``J^T u`` on the dual cone ``{y : J y >= 0}`` of the gradients, exactly.

    The nearest point is ``J^T (u + v)`` with ``v = argmin_{v >= 0} ||J^T (u + v)||^2``. It is
    solved with rows of length one, so that tasks with short gradients are protected as well as
    those with long ones.

    Args:
        gram: ``[..., T, T]``, ``J J^T``.
        coefficients: ``u`` ``[..., M, T]``, one row per vector.

    Returns:
        ``u + v`` ``[..., M, T]`` and the report. The projected vectors are unique, ``v`` is so only
        if the gradients that it uses are linearly independent.

    Raises:
        ValueError: If shapes do not fit or numbers are not finite.

    Cost: a few rounds of M linear systems of at most T equations.

    References:
        Lopez-Paz, Ranzato. Gradient episodic memory for continual learning. NeurIPS 2017, equation
        11.
        https://arxiv.org/abs/1706.08840
        Quinton, Rey. Jacobian descent for multi-objective optimization. 2024, section 3.
        https://arxiv.org/abs/2406.16232
    """
    if coefficients.shape[:-2] != gram.shape[:-2] or coefficients.shape[-1:] != gram.shape[-1:]:
        raise ValueError(
            "`coefficients` must have shape [..., M, T] for a Gramian of shape"
            f" {tuple(gram.shape)}, found {tuple(coefficients.shape)}."
        )
    array, sides = gram_to_array(gram), to_array(coefficients, 2, "coefficients")
    result, iterations, residual = project_dual_cone_arrays(array, sides, rounding(gram))
    report = SolverReport(residual <= accepted(rounding(gram)), iterations, residual)
    return Solution(to_tensor(result, gram, tuple(coefficients.shape)), report)


def project_dual_cone_arrays(
    gram: Array, coefficients: Array, precision: float
) -> tuple[Array, int, float]:
    """``project_dual_cone`` on float64 arrays ``[N, T, T]`` and ``[N, M, T]``."""
    cosines, norms = unit_gram(gram)
    inverse = np.where(norms > 0, 1 / np.where(norms > 0, norms, 1), 0)
    result = coefficients.copy()
    iterations, residual = 0, 0.0
    for problem in range(len(gram)):
        slopes = (coefficients[problem] * norms[problem]) @ cosines[problem]
        # First guess: whoever is hurt by the vector pushes back.
        extra, steps, wrong = solve_nonnegative(
            cosines[problem : problem + 1], -slopes, slopes < 0, precision
        )
        result[problem] += extra * inverse[problem]
        iterations, residual = max(iterations, steps), max(residual, wrong)
    return result, iterations, residual
