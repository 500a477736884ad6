"""What a report shows, as plain values: the renderer knows nothing of training."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = [
    "CandidateRow",
    "ColumnRow",
    "CosineMatrix",
    "Curve",
    "Estimate",
    "Failure",
    "Gain",
    "ReportData",
    "SeedScore",
    "TaskGroups",
    "TaskRow",
    "WeightHistory",
]

NAN = float("nan")


@dataclass(frozen=True)
class Estimate:
    """A mean with the ends of its 95 % interval.

    Args:
        mean: NaN where nothing was measured.
        low: NaN where there are too few runs for an interval.
        high: As ``low``.
    """

    mean: float = NAN
    low: float = NAN
    high: float = NAN

    @property
    def known(self) -> bool:
        """Whether there is a mean."""
        return math.isfinite(self.mean)

    @property
    def has_interval(self) -> bool:
        """Whether both ends are known."""
        return math.isfinite(self.low) and math.isfinite(self.high)


@dataclass(frozen=True, kw_only=True)
class CandidateRow:
    """One line of the leaderboard; NaN where a number is not known.

    Args:
        name: Of the candidate.
        description: What it is, in words.
        is_baseline: Whether the others are compared with it.
        is_winner: Whether it is the one that validation prefers.
        is_composite: Whether it is made of other candidates' runs and has no costs of its own.
        runs: Finished runs and runs asked for, as text ("15 of 15").
        scores: Mean score over the tasks of each metric, in the metric's own direction.
        gain: Mean relative gain over the baseline, Δm, in percent.
        p_value: Of the paired test against the baseline, corrected for several candidates.
        win: Percent of the tasks on which it alone is best.
        best: Percent of the tasks on which it is best, ties counted.
        mean_rank: 0 is best.
        normalised: Mean over tasks of 0 for the worst candidate up to 100 for the best.
        parameters: Trained numbers in all its models.
        training_seconds: Per seed, all its models together.
        prediction_seconds: Per thousand rows, all its models together.
        memory_bytes: Peak of a process while training one of its models.
    """

    name: str
    description: str = ""
    is_baseline: bool = False
    is_winner: bool = False
    is_composite: bool = False
    runs: str = ""
    scores: Mapping[str, Estimate] = field(default_factory=dict)
    gain: Estimate = Estimate()
    p_value: float = NAN
    win: float = NAN
    best: float = NAN
    mean_rank: float = NAN
    normalised: float = NAN
    parameters: float = NAN
    training_seconds: float = NAN
    prediction_seconds: float = NAN
    memory_bytes: float = NAN


@dataclass(frozen=True)
class Gain:
    """Gain of one candidate over the baseline on one task, in percent; above zero is better."""

    candidate: str
    task: str
    estimate: Estimate


@dataclass(frozen=True)
class SeedScore:
    """Test score of one candidate on one task with one seed, in the units of the task's metric."""

    candidate: str
    task: str
    seed: int
    value: float


@dataclass(frozen=True)
class Curve:
    """Mean loss over the tasks of one training run, epoch by epoch; NaN where an epoch has none.

    Args:
        candidate: Whose run it is.
        seed: Of the run.
        epochs: Numbers of the epochs.
        train: Loss on the training rows.
        validation: Loss on the validation rows.
    """

    candidate: str
    seed: int
    epochs: tuple[int, ...]
    train: tuple[float, ...]
    validation: tuple[float, ...]


@dataclass(frozen=True)
class WeightHistory:
    """What a balancer weighed the tasks with in one training run.

    Args:
        candidate: Whose run it is.
        seed: Of the run.
        epochs: Numbers of the epochs.
        weights: Per task, mean weight of each epoch.
    """

    candidate: str
    seed: int
    epochs: tuple[int, ...]
    weights: Mapping[str, tuple[float, ...]]


@dataclass(frozen=True)
class CosineMatrix:
    """Mean cosine ``[T][T]`` between the tasks' gradients on the shared parameters."""

    candidate: str
    tasks: tuple[str, ...]
    matrix: tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class TaskGroups:
    """Which tasks a candidate learned together, in the first seed that is finished.

    Args:
        candidate: Whose groups they are.
        seed: Whose groups are shown.
        tasks: In the user's order.
        memberships: ``[T][m]``.
        agreement: Mean adjusted Rand index of the groups of two seeds; NaN with one seed.
    """

    candidate: str
    seed: int
    tasks: tuple[str, ...]
    memberships: tuple[tuple[float, ...], ...]
    agreement: float = NAN


@dataclass(frozen=True, kw_only=True)
class TaskRow:
    """One target, as it was learned and scored.

    Args:
        name: Of the task.
        kind: "regression", "binary", ...
        metric: Name of the primary metric.
        higher_is_better: Its direction.
        labels: Labelled rows per split.
        classes: Number of classes; 0 for numbers.
        positives: Share of the second label in the training rows; NaN for other kinds.
        note: How it was treated (class weights, scale).
    """

    name: str
    kind: str
    metric: str
    higher_is_better: bool = True
    labels: Mapping[str, int] = field(default_factory=dict)
    classes: int = 0
    positives: float = NAN
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class ColumnRow:
    """One column of the user's table; its role is "input", "target", "dropped" or the like."""

    name: str
    type: str
    role: str = "input"
    missing: float = 0.0
    distinct: int = 0
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Failure:
    """A run that has no result, and why."""

    candidate: str
    group: str
    seed: int
    error: str
    attempts: int = 1


@dataclass(frozen=True, kw_only=True)
class ReportData:
    """Everything that a report shows.

    Args:
        title: Name of the comparison.
        verdict: The answer in words, one paragraph.
        headline: The answer in one short sentence; may be empty.
        status: Why the comparison is not complete; empty if it is.
        baseline: Name of the candidate that gains are measured against; empty if there is none.
        candidates: The leaderboard, best first.
        tasks: In the user's order.
        gains: Per candidate and task.
        scores: Raw scores, one per candidate, task and seed.
        curves: One per training run.
        weights: One per training run with a balancer.
        cosines: One per candidate on which gradients were looked at.
        groups: One per candidate that found groups of tasks.
        rows: Rows per split.
        columns: Columns of the user's table; empty for other data.
        notes: Sentences about the data.
        failures: Runs without a result.
        budget: What every run was allowed, as names and values.
        repeat: What else repeats it (versions, seeds, fingerprint, machine), as names and values.
        run_notes: Sentences that runs left about themselves.
        interval_note: How the intervals and tests of gains treat rows that seeds share.
        command: The command line, or empty.
        raw_scores: Name of the file with the raw scores; empty if it was not written.
    """

    title: str
    verdict: str
    headline: str = ""
    status: str = ""
    baseline: str = ""
    candidates: tuple[CandidateRow, ...] = ()
    tasks: tuple[TaskRow, ...] = ()
    gains: tuple[Gain, ...] = ()
    scores: tuple[SeedScore, ...] = ()
    curves: tuple[Curve, ...] = ()
    weights: tuple[WeightHistory, ...] = ()
    cosines: tuple[CosineMatrix, ...] = ()
    groups: tuple[TaskGroups, ...] = ()
    rows: Mapping[str, int] = field(default_factory=dict)
    columns: tuple[ColumnRow, ...] = ()
    notes: tuple[str, ...] = ()
    failures: tuple[Failure, ...] = ()
    budget: Mapping[str, str] = field(default_factory=dict)
    repeat: Mapping[str, str] = field(default_factory=dict)
    run_notes: tuple[str, ...] = ()
    interval_note: str = ""
    command: str = ""
    raw_scores: str = ""
