"""Convex quadratic problems in the positive orthant: ``min 1/2 x' K x - b' x`` over ``x >= 0``.

Shape legend: N problems, T unknowns.

Three methods rest on this one problem: the minimum-norm point (MGDA, CAGrad) and the projection on
the dual cone (UPGrad, DualProj). ``K`` is expected with a diagonal near one (see
``arrays.unit_gram``), which makes the tolerances scale-free.
"""

from __future__ import annotations

from contextlib import suppress

import numpy as np

from polytask.solvers.arrays import Array, Mask

__all__ = ["solve_nonnegative", "solve_positive"]

#: Exchanges of whole blocks that may fail to reduce the number of wrong signs before the safe
#: method takes over.
_CHANCES = 4
#: Up to this many unknowns one batch, filled up with the identity, beats a loop over the problems.
_SMALL = 16
#: Relative error of a gradient, to be multiplied by the root of T.
_ROUNDING = 1e-13


def solve_nonnegative(
    matrix: Array, target: Array, passive: Mask, rounding: float
) -> tuple[Array, int, float]:
    """Minimise ``1/2 x' K x - b' x`` over ``x >= 0`` for a batch of problems, exactly.

    Block principal pivoting: guess which unknowns are positive, solve the linear equations for
    them, exchange every unknown with a wrong sign, repeat. The few problems in which whole
    exchanges cycle go to the active-set method of Lawson and Hanson, started from what was reached.

    Args:
        matrix: ``K`` ``[N, T, T]``, symmetric positive semi-definite, or ``[1, T, T]`` shared by
            all problems.
        target: ``b`` ``[N, T]``.
        passive: First guess of the positive unknowns, ``[N, T]``.
        rounding: Relative error of the elements of ``K``; a ridge of that size keeps its singular
            blocks solvable.

    Returns:
        ``x`` ``[N, T]``, the number of iterations, and the largest violation of the optimality
        conditions.

    References:
        Portugal, Judice, Vicente. A comparison of block pivoting and interior-point algorithms for
        linear least squares problems with nonnegative variables. Mathematics of Computation 63,
        1994. https://doi.org/10.2307/2153286
        Lawson, Hanson. Solving Least Squares Problems. Prentice-Hall 1974, chapter 23.
        https://doi.org/10.1137/1.9781611971217
    """
    size = target.shape[1]
    ridged = matrix + 4 * rounding * np.sqrt(size) * np.eye(size)
    if len(target) == 1:
        solution, iterations, open_rows = _exchange_one(ridged[0], target, passive[0].copy())
    else:
        solution, iterations, open_rows = _exchange_blocks(ridged, target, passive.copy())
    for row in open_rows:
        own = ridged[row if len(matrix) > 1 else 0]
        solution[row], more = _lawson_hanson(own, target[row], solution[row].clip(min=0))
        iterations = max(iterations, more)
    if rounding > 1e-12:
        # Solve again without the ridge; where that changes little, the blocks are regular.
        exact = _solve_blocks(matrix, target, solution > 0)
        change = np.abs(exact - solution).max(axis=-1)
        regular = (exact.min(axis=-1) >= 0) & (change <= 0.01 * solution.max(axis=-1))
        solution[regular] = exact[regular]
    return solution, iterations, _violation(matrix, target, solution)


def _slack(matrix: Array, target: Array, solution: Array) -> Array:
    """The gradient ``K x - b``."""
    shared = len(matrix) == 1
    product = solution @ matrix[0] if shared else (matrix @ solution[..., None])[..., 0]
    slack: Array = product - target
    return slack


def _tolerance(target: Array, solution: Array) -> Array:
    """Rounding level of the gradient, ``[N, 1]``."""
    size = np.abs(target).max(axis=-1, keepdims=True) + np.abs(solution).max(axis=-1, keepdims=True)
    tolerance: Array = _ROUNDING * np.sqrt(target.shape[-1]) * size
    return tolerance


def _violation(matrix: Array, target: Array, solution: Array) -> float:
    """Largest relative violation of ``x >= 0``, ``Kx - b >= 0`` and complementarity."""
    slack = _slack(matrix, target, solution)
    scale = np.abs(target).max(axis=-1) + np.abs(solution).max(axis=-1)
    scale[scale == 0] = 1
    wrong = np.abs(np.minimum(slack, solution)).max(axis=-1)
    return float((wrong / scale).max())


def _exchange_one(matrix: Array, target: Array, passive: Mask) -> tuple[Array, int, list[int]]:
    """``_exchange_blocks`` for one problem, with a third of its array operations."""
    side = target[0]
    fewest, chances, iterations = len(side) + 1, _CHANCES, 0
    largest = float(np.abs(side).max())
    while True:
        iterations += 1
        solution = np.zeros_like(side)
        index = passive.nonzero()[0]
        if len(index):
            solution[index] = solve_positive(matrix[index][:, index], side[index])
        size = largest + float(np.abs(solution).max())
        wrong = np.where(passive, solution, matrix @ solution - side) < -_ROUNDING * (
            len(side) ** 0.5 * size
        )
        number = int(np.count_nonzero(wrong))
        if number == 0:
            return solution.clip(min=0)[None], iterations, []
        chances = _CHANCES if number < fewest else chances - 1
        fewest = min(number, fewest)
        if chances == 0 or iterations >= 10 * _CHANCES:
            return solution[None], iterations, [0]
        passive ^= wrong


def _exchange_blocks(matrix: Array, target: Array, passive: Mask) -> tuple[Array, int, list[int]]:
    """Block principal pivoting; returns the rows that it left unsolved as the third value."""
    count, size = target.shape
    solution = np.zeros_like(target)
    rows = np.arange(count)
    fewest = np.full(count, size + 1)
    chances = np.full(count, _CHANCES)
    iterations = 0
    while len(rows) and iterations < 10 * _CHANCES:
        iterations += 1
        own = matrix if len(matrix) == 1 else matrix[rows]
        solution[rows] = _solve_blocks(own, target[rows], passive[rows])
        slack = _slack(own, target[rows], solution[rows])
        tolerance = _tolerance(target[rows], solution[rows])
        inside = passive[rows]
        wrong = np.where(inside, solution[rows] < -tolerance, slack < -tolerance)
        number = wrong.sum(axis=-1)
        better = number < fewest[rows]
        chances[rows] = np.where(better, _CHANCES, chances[rows] - 1)
        fewest[rows] = np.minimum(number, fewest[rows])
        keep = (number > 0) & (chances[rows] > 0)
        passive[rows] ^= wrong & keep[:, None]
        finished = number == 0
        solution[rows[finished]] = solution[rows[finished]].clip(min=0)
        left = rows[~finished & ~keep]
        if len(left):
            # Marked with a negative count: the safe method continues from here.
            fewest[left] = -1
        rows = rows[keep]
    unsolved = np.concatenate([np.flatnonzero(fewest < 0), rows])
    return solution, iterations, [int(row) for row in unsolved]


def _solve_blocks(matrix: Array, target: Array, passive: Mask) -> Array:
    """Solve ``K_PP x_P = b_P`` per problem, zero outside ``P``.

    One factorisation after the other: blocks of different sizes filled up to one batch take three
    times as long.
    """
    if len(target) > 1 and target.shape[1] <= _SMALL:
        blocks = matrix * (passive[:, :, None] & passive[:, None, :])
        diagonal = np.arange(target.shape[1])
        blocks[:, diagonal, diagonal] += ~passive
        # One singular block stops the whole batch; the loop deals with each on its own.
        with suppress(np.linalg.LinAlgError):
            return np.linalg.solve(blocks, (target * passive)[..., None])[..., 0].astype(np.float64)
    solution = np.zeros_like(target)
    for row, inside in enumerate(passive):
        index = np.flatnonzero(inside)
        if len(index):
            own = matrix[row if len(matrix) > 1 else 0]
            solution[row, index] = solve_positive(own[index][:, index], target[row, index])
    return solution


def solve_positive(block: Array, side: Array) -> Array:
    """Solve a positive definite system; least squares where rounding made it indefinite."""
    from scipy.linalg.lapack import dposv

    _, solution, failed = dposv(block.T, side)
    if failed:
        solution = np.linalg.lstsq(block, side, rcond=None)[0]
    result: Array = solution
    return result


def _lawson_hanson(matrix: Array, target: Array, start: Array) -> tuple[Array, int]:
    """Active-set method for one problem: the objective falls in every round, so it cannot cycle."""
    size = len(target)
    solution = start.copy()
    passive = solution > 0
    for iteration in range(1, 10 * size + 10):
        solution = _descend_to_face(matrix, target, solution, passive)
        slack = matrix @ solution - target
        slack[passive] = 0
        tolerance = float(_tolerance(target[None], solution[None])[0, 0])
        entering = int(slack.argmin())
        if slack[entering] >= -tolerance:
            return solution, iteration
        passive[entering] = True
    return solution, 10 * size + 10


def _descend_to_face(matrix: Array, target: Array, solution: Array, passive: Mask) -> Array:
    """Move to the minimum over the passive unknowns, dropping those that reach zero on the way."""
    while passive.any():
        index = np.flatnonzero(passive)
        goal = solve_positive(matrix[index][:, index], target[index])
        current = solution[index]
        falling = goal <= 0
        if not falling.any():
            moved = np.zeros_like(solution)
            moved[index] = goal
            return moved
        # The largest feasible step; at least one unknown arrives at zero.
        steps = np.full(len(index), np.inf)
        steps[falling] = current[falling] / np.maximum(
            current[falling] - goal[falling], np.finfo(np.float64).tiny
        )
        step = min(1.0, float(steps.min()))
        current = current + step * (goal - current)
        current[falling & (steps <= step)] = 0
        solution = np.zeros_like(solution)
        solution[index] = current.clip(min=0)
        passive &= solution > 0
    return np.zeros_like(solution)
