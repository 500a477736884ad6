"""The minimum-norm point of the convex hull of T gradients, from their Gramian.

Shape legend: T tasks, P shared parameters, N problems of a batch.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from polytask.solvers.arrays import (
    Array,
    Mask,
    Solution,
    SolverReport,
    accepted,
    gram_to_array,
    rounding,
    to_tensor,
    unit_gram,
)
from polytask.solvers.nonnegative import solve_nonnegative

__all__ = ["min_norm", "min_norm_arrays", "min_norm_frank_wolfe", "min_norm_two"]


def min_norm(gram: Tensor) -> Solution:
    """Weights of the shortest convex combination of gradients, exactly.

    ``alpha = argmin ||J^T alpha||^2`` over ``alpha >= 0, sum alpha = 1``, with ``gram = J J^T``.

    The sum is handled by a penalty that does not change the direction of the solution: with the
    cosines ``R`` and the norms ``n`` of the rows and ``c = min(n) / n``, the minimiser of
    ``x' R x + (c' x - 1)^2`` over ``x >= 0`` gives ``alpha`` proportional to ``x / n``. The change
    of variables keeps rows of very different lengths exact.

    A zero gradient is itself the shortest combination: it gets all the weight (shared between
    several).

    Args:
        gram: ``[..., T, T]``, symmetric positive semi-definite.

    Returns:
        Weights ``[..., T]`` on the simplex, and the report. The combination is unique, the weights
        are so only if the gradients are affinely independent.

    Raises:
        ValueError: If ``gram`` is not square or not finite.

    Cost: a few linear systems of at most T equations.

    References:
        Wolfe. Finding the nearest point in a polytope. Mathematical Programming 11, 1976.
        https://doi.org/10.1007/BF01580381
        Desideri. Multiple-gradient descent algorithm (MGDA) for multiobjective optimization.
        Comptes Rendus Mathematique 350, 2012, theorem 2.2.
        https://doi.org/10.1016/j.crma.2012.03.014
    """
    weights, iterations, residual = min_norm_arrays(gram_to_array(gram), rounding(gram))
    report = SolverReport(residual <= accepted(rounding(gram)), iterations, residual)
    return Solution(to_tensor(weights, gram, tuple(gram.shape[:-1])), report)


def min_norm_arrays(
    gram: Array, precision: float, support: Mask | None = None
) -> tuple[Array, int, float]:
    """``min_norm`` on float64 arrays ``[N, T, T]``: weights ``[N, T]``, iterations, residual.

    ``support`` ``[N, T]`` is a guess of the positive weights.
    """
    cosines, norms = unit_gram(gram)
    zero = norms == 0
    shortest = np.where(zero, np.inf, norms).min(axis=-1, keepdims=True)
    shortest[np.isinf(shortest)] = 1
    scale = np.where(zero, 0, shortest / np.where(zero, 1, norms))
    penalised = cosines + scale[:, :, None] * scale[:, None, :]
    guess = ~zero if support is None else support & ~zero
    solution, iterations, residual = solve_nonnegative(penalised, scale, guess, precision)
    weights = solution * scale
    stationary = zero.any(axis=-1)
    weights[stationary] = zero[stationary]
    return weights / weights.sum(axis=-1, keepdims=True), iterations, residual


def min_norm_two(first: Tensor, inner: Tensor, second: Tensor) -> Tensor:
    """The weight ``gamma`` of ``a`` in the shortest point between vectors ``a`` and ``b``.

    ``gamma = 1`` if ``a.b >= a.a``; ``0`` if ``a.b >= b.b``; else ``(b - a).b / ||a - b||^2``.

    Args:
        first: ``a.a``, ``[...]``.
        inner: ``a.b``, ``[...]``.
        second: ``b.b``, ``[...]``.

    Returns:
        ``gamma`` ``[...]`` in [0, 1].

    Cost: O(1).

    References:
        Sener, Koltun. Multi-task learning as multi-objective optimization. NeurIPS 2018, algorithm
        1.
        https://arxiv.org/abs/1810.04650
    """
    distance = first - 2 * inner + second
    # Only a = b makes the distance zero, and then the first condition decides.
    gamma = (second - inner) / torch.where(distance > 0, distance, torch.ones_like(distance))
    gamma = torch.where(inner >= second, torch.zeros_like(gamma), gamma.clamp(0, 1))
    return torch.where(inner >= first, torch.ones_like(gamma), gamma)


def min_norm_frank_wolfe(
    gram: Tensor, *, max_iterations: int = 250, tolerance: float = 1e-5
) -> Solution:
    """The Frank-Wolfe iteration of MGDA's paper: an approximation of ``min_norm``.

    Start at ``alpha = 1/T``; repeat: ``t = argmin_r (G alpha)_r``; ``gamma`` from ``min_norm_two``
    between the gradient of task ``t`` and the present combination;
    ``alpha <- (1 - gamma) alpha + gamma e_t``; until ``gamma`` is below the tolerance or the limit
    is reached. It zig-zags near faces of the simplex (errors of several per cent after a hundred
    iterations are common): use ``min_norm`` unless the paper's own iteration is wanted.

    Args:
        gram: ``[..., T, T]``.
        max_iterations: Limit; 250 in the authors' code.
        tolerance: Stop when no ``gamma`` of the batch exceeds it; 1e-5 in the authors' code.

    Returns:
        Weights ``[..., T]`` and a report whose residual is the last ``gamma``.

    Raises:
        ValueError: If an argument is out of range or ``gram`` is not square or not finite.

    Cost: O(T) per iteration.

    References:
        Sener, Koltun. Multi-task learning as multi-objective optimization. NeurIPS 2018, algorithm
        2.
        https://arxiv.org/abs/1810.04650
    """
    if max_iterations < 1 or tolerance < 0:
        raise ValueError(
            "`max_iterations` must be >= 1 and `tolerance` >= 0,"
            f" found {max_iterations} and {tolerance}."
        )
    array = gram_to_array(gram)
    found = [_frank_wolfe(own, max_iterations, tolerance) for own in array]
    weights = np.stack([own for own, _, _ in found]) if found else np.zeros(array.shape[:2])
    iterations = max((own for _, own, _ in found), default=0)
    largest = max((own for _, _, own in found), default=0.0)
    report = SolverReport(
        largest <= tolerance,
        iterations,
        largest,
        None if largest <= tolerance else "last Frank-Wolfe iterate",
    )
    return Solution(to_tensor(weights, gram, tuple(gram.shape[:-1])), report)


def _frank_wolfe(gram: Array, max_iterations: int, tolerance: float) -> tuple[Array, int, float]:
    """The iteration for one problem: weights, iterations, last step."""
    size = len(gram)
    trace = float(np.trace(gram))
    gram = gram / trace if trace > 0 else gram
    weights = np.full(size, 1 / size)
    # Products of the combination with every gradient, and its squared norm, are updated.
    products = gram.mean(axis=-1)
    square = float(products.mean())
    step, iteration = 1.0, 0
    while iteration < max_iterations and step > tolerance:
        iteration += 1
        vertex = int(products.argmin())
        own, inner = float(gram[vertex, vertex]), float(products[vertex])
        step = _segment(own, inner, square)
        weights *= 1 - step
        weights[vertex] += step
        square = step**2 * own + 2 * step * (1 - step) * inner + (1 - step) ** 2 * square
        products = (1 - step) * products + step * gram[vertex]
    return weights, iteration, step


def _segment(first: float, inner: float, second: float) -> float:
    """``min_norm_two`` on numbers."""
    if inner >= first:
        return 1.0
    if inner >= second:
        return 0.0
    return (second - inner) / (first - 2 * inner + second)
