"""Statistics across tasks: what a leaderboard says, computed from one table of scores.

Shape legend: C candidates, S seeds, M moments, T tasks.

Every statistic is computed per seed over the tasks and then averaged over the seeds, so that an
interval can stand beside it. A task whose score is undefined in a seed (AUC with one class in the
test rows) is left out of that seed for all candidates; a candidate that lacks any other score of a
seed (a run failed) is left out of that seed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

__all__ = [
    "Interval",
    "ScoreHistory",
    "ScoreTable",
    "best_per_task",
    "delta_m",
    "interval",
    "mean_of_known",
    "mean_scores",
    "relative_gains",
    "standings",
]


@dataclass(frozen=True)
class ScoreTable:
    """Primary scores of every candidate, seed and task, in the user's units.

    Args:
        candidates: Names ``[C]``.
        seeds: ``[S]``.
        tasks: Names ``[T]``.
        metrics: Name of each task's primary metric ``[T]``.
        higher_is_better: ``[T]``.
        validation: ``[C, S, T]``; NaN where there is no score.
        test: ``[C, S, T]``.
        complete: ``[C, S]`` whether all runs of the candidate and seed have a result.
    """

    candidates: tuple[str, ...]
    seeds: tuple[int, ...]
    tasks: tuple[str, ...]
    metrics: tuple[str, ...]
    higher_is_better: np.ndarray
    validation: np.ndarray
    test: np.ndarray
    complete: np.ndarray

    def place(self, candidate: str) -> int:
        """Index of a candidate."""
        if candidate not in self.candidates:
            raise ValueError(
                f"No candidate {candidate!r} in this comparison; it has {list(self.candidates)}."
            )
        return self.candidates.index(candidate)

    def with_choice(self, name: str, choice: np.ndarray) -> ScoreTable:
        """One more candidate, which has each task's scores from the one chosen ``[T]``."""
        tasks = np.arange(len(self.tasks))
        chosen = {part: getattr(self, part)[choice, :, tasks].T for part in ("validation", "test")}
        return replace(
            self,
            candidates=(*self.candidates, name),
            validation=np.concatenate([self.validation, chosen["validation"][None]]),
            test=np.concatenate([self.test, chosen["test"][None]]),
            complete=np.concatenate([self.complete, self.complete[choice].all(0)[None]]),
        )


@dataclass(frozen=True)
class ScoreHistory:
    """Primary scores of every task after each moment of training, in the user's units.

    The time axis of ``ScoreTable``: ``values[:, :, -1]`` is the table's own ``[C, S, T]``, on which
    gains, tests and the verdict rest. A candidate whose fits have no moments has its scores there
    and NaN before.

    Args:
        candidates: Names ``[C]``.
        seeds: ``[S]``.
        moments: Names ``[M]``, in the order of time.
        tasks: Names ``[T]``.
        metrics: Name of each task's primary metric ``[T]``.
        higher_is_better: ``[T]``.
        values: ``[C, S, M, T]``; NaN where there is no score.
    """

    candidates: tuple[str, ...]
    seeds: tuple[int, ...]
    moments: tuple[str, ...]
    tasks: tuple[str, ...]
    metrics: tuple[str, ...]
    higher_is_better: np.ndarray
    values: np.ndarray


@dataclass(frozen=True)
class Interval:
    """A mean with its 95 % interval; the ends are NaN where there are fewer than two values."""

    mean: float
    low: float
    high: float
    count: int

    @property
    def half_width(self) -> float:
        """Distance from the mean to either end."""
        return (self.high - self.low) / 2


def interval(values: np.ndarray | Sequence[float], *, overlap: float = 0.0) -> Interval:
    """Student's t interval of a mean: ``m ± t(0.975, n - 1) s sqrt(1 / n + overlap)``.

    Args:
        values: One value per seed; NaN are left out.
        overlap: Ratio of test to training rows where every seed draws the split anew (Nadeau and
            Bengio), else 0.
    """
    from scipy import stats

    kept = np.asarray(values, dtype=np.float64)
    kept = kept[~np.isnan(kept)]
    count = len(kept)
    if count == 0:
        return Interval(math.nan, math.nan, math.nan, 0)
    mean = float(kept.mean())
    if count == 1:
        return Interval(mean, math.nan, math.nan, 1)
    error = float(kept.std(ddof=1)) * math.sqrt(1 / count + overlap)
    half = float(stats.t.ppf(0.975, count - 1)) * error
    return Interval(mean, mean - half, mean + half, count)


def mean_of_known(values: np.ndarray) -> float:
    """Mean of the values that are not NaN; NaN where there is none."""
    kept = values[~np.isnan(values)]
    return float(kept.mean()) if len(kept) else math.nan


def relative_gains(scores: np.ndarray, baseline: int, higher_is_better: np.ndarray) -> np.ndarray:
    """Gain over the baseline relative to its score, positive where the candidate is better.

    ``g_t = (-1)^{lower is better} (M_t - B_t) / |B_t|``; NaN where the baseline's score is 0 or
    undefined.

    Args:
        scores: ``[C, S, T]``.
        baseline: Index of the candidate that gains are relative to.
        higher_is_better: ``[T]``.

    Returns:
        ``[C, S, T]``.
    """
    base = scores[baseline]
    sign = np.where(higher_is_better, 1.0, -1.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        gains = sign * (scores - base) / np.abs(base)
    return np.where(base == 0, np.nan, gains)


def delta_m(gains: np.ndarray, baseline: int, complete: np.ndarray) -> np.ndarray:
    """Mean gain over the tasks, per candidate and seed ``[C, S]``.

    ``Delta_m = mean_t g_t`` over the tasks on which the baseline's own gain is defined; NaN in a
    seed for which the candidate or the baseline is not complete.

    Args:
        gains: ``[C, S, T]`` from ``relative_gains``.
        baseline: Index of the baseline.
        complete: ``[C, S]`` whether all runs have a result.
    """
    defined = ~np.isnan(gains[baseline])
    number = defined.sum(-1)
    total: np.ndarray = np.where(defined, gains, 0.0).sum(-1)
    counted = complete & complete[baseline] & (number > 0)
    return np.where(counted, total / np.maximum(number, 1), np.nan)


@dataclass(frozen=True)
class Standings:
    """How candidates stand against each other, ``[C, S]`` each.

    Args:
        win: Per cent of the tasks on which the candidate is strictly the best.
        best: Per cent of the tasks on which nobody is better (ties count for all).
        mean_rank: Mean number of candidates that are better, ties sharing the mean of their places:
            the best has 0.
        normalised: Mean over the tasks of 0 for the worst and 100 for the best candidate, linear in
            between; tasks on which all tie are left out.
    """

    win: np.ndarray
    best: np.ndarray
    mean_rank: np.ndarray
    normalised: np.ndarray


def standings(scores: np.ndarray, higher_is_better: np.ndarray, complete: np.ndarray) -> Standings:
    """Win %, best %, mean rank, normalised score, as Meyerson and Miikkulainen (ICLR 2021).

    There the mean ranks of eight methods add up to 28 = 0 + 1 + ... + 7: the best rank is 0 and
    ties share a mean rank.

    Args:
        scores: ``[C, S, T]``.
        higher_is_better: ``[T]``.
        complete: ``[C, S]``; others are left out of their seed.
    """
    from scipy import stats

    count, seeds, _ = scores.shape
    found = {
        name: np.full((count, seeds), np.nan) for name in ("win", "best", "mean_rank", "normalised")
    }
    oriented = np.where(higher_is_better, scores, -scores)
    for s in range(seeds):
        values = oriented[:, s]
        defined = ~np.isnan(values).all(0)
        taking = complete[:, s] & ~np.isnan(values[:, defined]).any(1)
        if not taking.any() or not defined.any():
            continue
        kept = values[np.ix_(taking, defined)]
        top, bottom = kept.max(0), kept.min(0)
        is_top = kept == top
        found["best"][taking, s] = 100 * is_top.mean(1)
        found["win"][taking, s] = 100 * (is_top & (is_top.sum(0) == 1)).mean(1)
        found["mean_rank"][taking, s] = (stats.rankdata(-kept, axis=0) - 1).mean(1)
        spread = top > bottom
        if spread.any():
            scaled = (kept[:, spread] - bottom[spread]) / (top - bottom)[spread]
            found["normalised"][taking, s] = 100 * scaled.mean(1)
    return Standings(**found)


def mean_scores(scores: np.ndarray, metrics: Sequence[str]) -> dict[str, np.ndarray]:
    """Mean score over the tasks of each metric ``[C, S]``; metrics are never mixed.

    Args:
        scores: ``[C, S, T]``.
        metrics: Name of each task's metric ``[T]``.
    """
    found = {}
    for metric in dict.fromkeys(metrics):
        chosen = scores[:, :, [m == metric for m in metrics]]
        undefined = np.isnan(chosen).all(0)
        kept = np.where(undefined, 0.0, chosen)
        number = (~undefined).sum(-1)
        found[metric] = np.where(number > 0, kept.sum(-1) / np.maximum(number, 1), np.nan)
    return found


def best_per_task(table: ScoreTable, baseline: int) -> np.ndarray:
    """For each task the candidate ``[T]`` with the best mean validation score.

    Only candidates that have all the seeds that the most complete candidate has are chosen from.
    """
    oriented = np.where(table.higher_is_better, table.validation, -table.validation)
    number = (~np.isnan(oriented)).sum(1)
    enough = (number == number.max(0)) & (number > 0)
    mean = np.where(enough, np.nansum(oriented, axis=1) / np.maximum(number, 1), -np.inf)
    choice = mean.argmax(0)
    # The baseline is kept unless another candidate is really better.
    tied = mean[baseline] >= mean.max(0)
    return np.where(tied | ~enough.any(0), baseline, choice)
