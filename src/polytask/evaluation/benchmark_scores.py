"""Methods compared on many data sets: the five numbers of the UCI-121 literature.

Shape legend: M methods, T tasks (data sets).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

__all__ = ["BenchmarkScore", "score_benchmark"]


@dataclass(frozen=True)
class BenchmarkScore:
    """One method's row; shares and accuracies in per cent.

    Attributes:
        win: Share of tasks where the method alone has the highest accuracy.
        best: Share of tasks where no method has a higher accuracy; ties count for all.
        mean_rank: Mean over tasks of the number of methods that are better, ties counting half;
            0 is best.
        normalized_accuracy: Mean over tasks of the accuracy on a scale where the worst method of
            the task has 0 and the best 100; 100 for all where all are equal.
        mean_accuracy: Mean over tasks.
    """

    win: float
    best: float
    mean_rank: float
    normalized_accuracy: float
    mean_accuracy: float


def score_benchmark(
    accuracies: np.ndarray | Sequence[Sequence[float]], methods: Sequence[str]
) -> Mapping[str, BenchmarkScore]:
    """Win %, Best %, Mean Rank, Norm. Acc. and Mean Acc. of every method.

    All but the mean accuracy depend on which methods are compared. Equal accuracies share the mean
    of their ranks.

    Args:
        accuracies: ``[M, T]`` in [0, 1], one row per method.
        methods: Their names.

    Raises:
        ValueError: an array of another shape, no tasks, or a value that is no accuracy.

    Example:
        >>> found = score_benchmark([[0.9, 0.5], [0.8, 0.5]], ["ours", "theirs"])
        >>> found["ours"]
        BenchmarkScore(win=50.0, best=100.0, mean_rank=0.25, normalized_accuracy=100.0,
            mean_accuracy=70.0)

    References:
        E. Meyerson, R. Miikkulainen, The Traveling Observer Model, ICLR 2021,
        https://arxiv.org/abs/2010.02354, tables 2 and 3.
    """
    found = np.asarray(accuracies, dtype=np.float64)
    if found.ndim != 2 or found.shape[0] != len(methods) or found.shape[1] == 0:
        raise ValueError(
            f"`accuracies` must be [{len(methods)} methods, tasks], found shape"
            f" {list(found.shape)}."
        )
    wrong = ~((found >= 0) & (found <= 1))
    if wrong.any():
        m, t = np.argwhere(wrong)[0]
        raise ValueError(
            f"`accuracies` must lie in [0, 1], found {found[m, t]} for method {methods[m]!r} and"
            f" task {t}."
        )
    highest, lowest = found.max(0), found.min(0)
    is_best = found == highest
    alone = is_best & (is_best.sum(0) == 1)
    better = (found[None] > found[:, None]).sum(1)
    equal = (found[None] == found[:, None]).sum(1) - 1
    ranks = better + equal / 2
    spread = highest - lowest
    normalized = np.where(spread > 0, (found - lowest) / np.where(spread > 0, spread, 1), 1.0)
    return {
        method: BenchmarkScore(
            win=float(100 * alone[m].mean()),
            best=float(100 * is_best[m].mean()),
            mean_rank=float(ranks[m].mean()),
            normalized_accuracy=float(100 * normalized[m].mean()),
            mean_accuracy=float(100 * found[m].mean()),
        )
        for m, method in enumerate(methods)
    }
