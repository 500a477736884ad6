"""Which fixed weights to try next: grids on the simplex from coarse to fine, or Optuna.

Shape legend: T tasks, R resolution, N points.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import numpy as np

__all__ = ["Search", "Weights", "load_optuna", "search_grid", "search_optuna", "simplex_grid"]

#: One weight per task, all > 0, summing to 1.
Weights = tuple[float, ...]
#: A grid with more points is a slip: nobody trains a million models.
MOST_POINTS = 1_000_000
#: Steps are not made finer than this fraction of an equal weight; validation scores are too noisy.
FINEST = 1 / 500
#: Uniform numbers are kept this far from 0 and 1, where their logarithm gives no usable weight.
MARGIN = 1e-3


class Search(Protocol):
    """A way to spend a number of evaluations; it sees nothing but their gains."""

    def __call__(
        self,
        gain_of: Callable[[Weights], float],
        *,
        num_tasks: int,
        evaluations: int,
        seed: int,
    ) -> Weights:
        """The weights with the largest gain among those tried; equal weights are tried first.

        Args:
            gain_of: Trains with some weights and says how good they are.
            num_tasks: At least 2.
            evaluations: Most calls of ``gain_of``.
            seed: Fixes the points, given the gains.
        """


def simplex_grid(num_tasks: int, resolution: int, *, interior: bool = False) -> np.ndarray:
    """All weight vectors on the simplex with steps of ``1 / resolution``.

    ``{k / R : k_t = 0, 1, 2, ..., sum_t k_t = R}``, which has ``C(R + T - 1, T - 1)`` points.

    Args:
        num_tasks: T.
        resolution: R.
        interior: Only points with every ``k_t >= 1``: ``C(R - 1, T - 1)`` of them.

    Returns:
        ``[N, T]`` in lexicographic order, rows summing to 1.

    Raises:
        ValueError: There would be no point, or more than a million.

    Example:
        >>> simplex_grid(2, 4, interior=True)
        array([[0.25, 0.75],
               [0.5 , 0.5 ],
               [0.75, 0.25]])
    """
    if num_tasks < 1 or resolution < 1:
        raise ValueError(
            "`num_tasks` and `resolution` must be >= 1,"
            f" found num_tasks={num_tasks} and resolution={resolution}."
        )
    units = resolution - num_tasks if interior else resolution
    if units < 0:
        raise ValueError(
            f"A grid of positive weights needs `resolution` >= `num_tasks` = {num_tasks}, found"
            f" {resolution}."
        )
    count = math.comb(units + num_tasks - 1, num_tasks - 1)
    if count > MOST_POINTS:
        raise ValueError(
            f"The grid of {num_tasks} tasks with resolution {resolution} has {count} points, more"
            f" than {MOST_POINTS}; lower `resolution`, or let WeightSearch draw points instead."
        )
    # Column by column: every row so far is repeated once per share that the next task may have.
    left = np.array([units])
    columns = np.empty((1, 0), dtype=np.int64)
    for _ in range(num_tasks - 1):
        repeats = left + 1
        first = np.cumsum(repeats) - repeats
        share = np.arange(repeats.sum()) - np.repeat(first, repeats)
        columns = np.column_stack([np.repeat(columns, repeats, axis=0), share])
        left = np.repeat(left, repeats) - share
    points: np.ndarray = np.column_stack([columns, left])
    return (points + interior) / resolution


def search_grid(
    gain_of: Callable[[Weights], float], *, num_tasks: int, evaluations: int, seed: int
) -> Weights:
    """From a coarse grid on the simplex to finer ones around the best so far; see ``Search``.

    Half of the evaluations go to the coarse stage. The rest poll the nearest points of the best
    one on a grid of half the step, each of which moves one step of weight from a task to another,
    in seeded order; the step is halved when all of them are known. Weights of 0 are never tried:
    such a task would not be learned at all.
    """
    equal = (1 / num_tasks,) * num_tasks
    coarse, step = _coarse(num_tasks, evaluations // 2, seed)
    moves = list(itertools.permutations(range(num_tasks), 2))
    order = np.random.default_rng(seed).permutation(len(moves))
    moves = [moves[i] for i in order]
    tried: dict[Weights, float] = {}
    best, best_gain = equal, -math.inf
    queue = iter([equal, *coarse])
    finest = FINEST / num_tasks
    while len(tried) < evaluations and step >= finest:
        point = _first_new(queue, tried)
        if point is None:
            point = _first_new(_neighbours(best, step, moves, finest), tried)
        if point is None:
            step /= 2
            continue
        gain = tried[_key(point)] = gain_of(point)
        if gain > best_gain:
            best, best_gain = point, gain
    return best


def _coarse(num_tasks: int, budget: int, seed: int) -> tuple[list[Weights], float]:
    """At most ``budget`` points all over the simplex, and the step that refines them.

    A grid, if one with steps of half an equal weight is affordable; for more tasks scrambled Sobol
    points, made uniform on the simplex by ``w_t = log u_t / sum_s log u_s``.
    """
    resolution = 2 * num_tasks
    if math.comb(resolution - 1, num_tasks - 1) <= budget:
        while math.comb(resolution, num_tasks - 1) <= budget:
            resolution += 1
        grid = simplex_grid(num_tasks, resolution, interior=True)
        return [tuple(row) for row in grid.tolist()], 1 / (2 * resolution)
    import torch

    engine = torch.quasirandom.SobolEngine(num_tasks, scramble=True, seed=seed)
    uniform = engine.draw(budget, dtype=torch.float64).numpy()
    return [_on_simplex(row) for row in uniform], 1 / resolution


def _on_simplex(uniform: Sequence[float] | np.ndarray) -> Weights:
    logs = -np.log(np.clip(uniform, MARGIN, 1 - MARGIN))
    return tuple((logs / logs.sum()).tolist())


def _neighbours(
    point: Weights, step: float, moves: Sequence[tuple[int, int]], least: float
) -> Iterator[Weights]:
    """The points that are one move of ``step`` away and keep every weight at ``least``."""
    for source, target in moves:
        if point[source] - step >= least:
            moved = list(point)
            moved[source] -= step
            moved[target] += step
            yield tuple(moved)


def _first_new(points: Iterator[Weights], tried: dict[Weights, float]) -> Weights | None:
    return next((point for point in points if _key(point) not in tried), None)


def _key(point: Weights) -> Weights:
    """Equal for points that differ by rounding only."""
    return tuple(round(weight, 9) for weight in point)


def search_optuna(
    gain_of: Callable[[Weights], float], *, num_tasks: int, evaluations: int, seed: int
) -> Weights:
    """Optuna's tree-structured Parzen estimator, told about equal weights first; see ``Search``.

    Each task has a number ``u_t`` in (0, 1) and ``w_t = log u_t / sum_s log u_s``, so that the
    sampler's first, random points are uniform on the simplex.

    References:
        T. Akiba, S. Sano, T. Yanase, T. Ohta, M. Koyama, Optuna: A Next-generation Hyperparameter
        Optimization Framework, KDD 2019, https://arxiv.org/abs/1907.10902.
    """
    optuna = load_optuna()
    ranges = {
        f"u{t}": optuna.distributions.FloatDistribution(MARGIN, 1 - MARGIN)
        for t in range(num_tasks)
    }
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        sampler = optuna.samplers.TPESampler(seed=seed)
        study = optuna.create_study(direction="maximize", sampler=sampler)
        best = (1 / num_tasks,) * num_tasks
        best_gain = gain_of(best)
        study.add_trial(
            optuna.trial.create_trial(
                params=dict.fromkeys(ranges, 0.5), distributions=ranges, value=best_gain
            )
        )
        for _ in range(evaluations - 1):
            trial = study.ask(ranges)
            point = _on_simplex([trial.params[name] for name in ranges])
            gain = gain_of(point)
            study.tell(trial, gain)
            if gain > best_gain:
                best, best_gain = point, gain
    finally:
        optuna.logging.set_verbosity(verbosity)
    return best


def load_optuna() -> Any:
    """The module ``optuna``.

    Raises:
        ImportError: It is not installed; names the extra.
    """
    try:
        import optuna
    except ImportError as error:
        raise ImportError(
            "WeightSearch(strategy='optuna') needs the extra: pip install 'polytask[tune]';"
            " strategy='grid' needs none."
        ) from error
    return optuna
