"""From raw scores to answers: gains, tests, standings, the winner, and who is best on which task.

Shape legend: C candidates, S seeds, T tasks.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from polytask.evaluation.scores import (
    ScoreTable,
    Standings,
    best_per_task,
    delta_m,
    mean_scores,
    relative_gains,
    standings,
)
from polytask.evaluation.significance import PairedTest, holm, paired_test

__all__ = ["CHOSEN_PER_TASK", "LEVEL", "Analysis", "analyse"]

#: Name of the composite row: for each task the candidate that validation prefers.
CHOSEN_PER_TASK = "chosen per task"
#: Adjusted p values below this count as shown.
LEVEL = 0.05


@dataclass(frozen=True)
class Analysis:
    """Everything that tables, figures and the verdict say about a comparison.

    Args:
        table: Scores of the candidates; the composite is the last row where there is one.
        baseline: Index of the candidate that gains are relative to; None if it was not asked for.
        overlap: Ratio of test to training rows if every seed draws the split anew, else 0.
        gains: ``[C, S, T]`` test gains over the baseline (fractions).
        delta: ``[C, S]`` mean test gain over the tasks.
        validation_delta: ``[C, S]`` the same on validation.
        tests: Per candidate, the paired test of ``delta``; None for the baseline.
        adjusted: Holm's adjusted p per candidate; NaN for the baseline and the composite, which
            repeats other rows.
        task_tests: Per candidate and task, the paired test of ``gains``.
        task_adjusted: ``[C, T]`` adjusted over the tasks of each candidate.
        standings: Among the candidates without the composite.
        means: Per metric, mean test score ``[C, S]`` over its tasks.
        winner: Index of the candidate with the best mean validation gain; None if no seed is
            complete.
        choice: Per task, index of the candidate that validation prefers; None without a composite.
    """

    table: ScoreTable
    baseline: int | None
    overlap: float
    gains: np.ndarray
    delta: np.ndarray
    validation_delta: np.ndarray
    tests: list[PairedTest | None]
    adjusted: list[float]
    task_tests: list[list[PairedTest]]
    task_adjusted: np.ndarray
    standings: Standings
    means: dict[str, np.ndarray]
    winner: int | None
    choice: tuple[int, ...] | None
    undefined: tuple[str, ...] = field(default=())

    @property
    def has_composite(self) -> bool:
        """Whether the last row is the composite."""
        return self.choice is not None

    @property
    def num_real(self) -> int:
        """Number of candidates without the composite."""
        return len(self.table.candidates) - self.has_composite


def analyse(table: ScoreTable, *, baseline: str | None, overlap: float) -> Analysis:
    """Compute everything from the scores.

    The composite row is chosen by mean validation scores and scored on test from runs that exist.
    Where splits are redrawn, one seed's validation rows are test rows of another, so that its test
    score is slightly optimistic; it therefore takes no part in the tests' correction nor in the
    standings.

    Args:
        table: Scores of the candidates.
        baseline: Name of the candidate that gains are relative to.
        overlap: See ``paired_test``.
    """
    base = table.place(baseline) if baseline is not None else None
    choice: tuple[int, ...] | None = None
    ranks = standings(table.test, table.higher_is_better, table.complete)
    real = len(table.candidates)
    if base is not None and real > 1 and len(table.tasks) > 1:
        picked = best_per_task(table, base)
        choice = tuple(int(c) for c in picked)
        table = table.with_choice(CHOSEN_PER_TASK, picked)
    gains, delta, validation_delta = _gains(table, base)
    tests, adjusted = _tests(delta, base, real, overlap)
    task_tests = [
        [paired_test(gains[c, :, t], overlap=overlap) for t in range(len(table.tasks))]
        for c in range(len(gains))
    ]
    task_adjusted = np.array([holm([test.p for test in row]) for row in task_tests]).reshape(
        len(gains), -1
    )
    if base is not None:
        task_adjusted[base] = np.nan
    undefined = tuple(
        f"task {task!r} has no {metric} in seed(s) {', '.join(str(table.seeds[s]) for s in seeds)}"
        for t, (task, metric) in enumerate(zip(table.tasks, table.metrics, strict=True))
        if (seeds := _undefined_seeds(table, t))
    )
    return Analysis(
        table=table,
        baseline=base,
        overlap=overlap,
        gains=gains,
        delta=delta,
        validation_delta=validation_delta,
        tests=tests,
        adjusted=adjusted,
        task_tests=task_tests,
        task_adjusted=task_adjusted,
        standings=ranks,
        means=mean_scores(table.test, table.metrics),
        winner=_winner(validation_delta[:real]),
        choice=choice,
        undefined=undefined,
    )


def _gains(table: ScoreTable, base: int | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    if base is None:
        nothing = np.full(table.test.shape, np.nan)
        return nothing, nothing[:, :, 0], nothing[:, :, 0]
    gains = relative_gains(table.test, base, table.higher_is_better)
    validation = relative_gains(table.validation, base, table.higher_is_better)
    return gains, delta_m(gains, base, table.complete), delta_m(validation, base, table.complete)


def _tests(
    delta: np.ndarray, base: int | None, real: int, overlap: float
) -> tuple[list[PairedTest | None], list[float]]:
    tests = [
        None if c == base else paired_test(row, overlap=overlap) for c, row in enumerate(delta)
    ]
    p_values = [math.nan if test is None or c >= real else test.p for c, test in enumerate(tests)]
    return tests, holm(p_values)


def _winner(validation_delta: np.ndarray) -> int | None:
    """The best mean validation gain among the candidates with the most complete seeds."""
    number = (~np.isnan(validation_delta)).sum(1)
    if not number.max(initial=0):
        return None
    enough = number == number.max()
    mean = np.where(enough, np.nansum(validation_delta, axis=1) / np.maximum(number, 1), -np.inf)
    return int(mean.argmax())


def _undefined_seeds(table: ScoreTable, task: int) -> list[int]:
    """Seeds in which other tasks have test scores and this one has none for any candidate."""
    present = ~np.isnan(table.test)
    own, others = present[:, :, task].any(0), present.any((0, 2))
    return [int(s) for s in np.flatnonzero(~own & others)]
