"""What can be compared: a method fits one model to a group of tasks, within a budget.

Shape legend: N rows, C output size, T tasks.
"""

from __future__ import annotations

import dataclasses
import json
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Protocol, runtime_checkable

from torch import Tensor

from polytask.architectures import Architecture
from polytask.files import write_atomically
from polytask.problems.problem import Problem
from polytask.problems.splits import AnySplit

__all__ = [
    "RATE_GRID",
    "ArchitectureFactory",
    "Budget",
    "FitRecord",
    "Fitted",
    "FittedModel",
    "FittedOverTime",
    "Method",
    "Resumable",
    "load_fitted",
]

#: Learning rates that trials try, relative to the method's own default: the default first, then
#: what is most often better. The same for every method.
RATE_GRID = (1.0, 1 / 3, 3.0, 1 / 10, 10.0)
METHOD_FILE = "method.json"
#: From a problem to a fresh model.
ArchitectureFactory = Callable[[Problem], Architecture]


@dataclass(frozen=True, kw_only=True)
class Budget:
    """What every candidate may spend on a run (one group of tasks and one seed).

    Args:
        epochs: Most passes over the training rows.
        patience: Epochs without a better validation criterion before training stops.
        trials: Learning rates tried per run, from ``RATE_GRID``; the best on validation is kept.
        time_limit: Seconds of training per run, over all its trials; None for no limit.
    """

    epochs: int = 100
    patience: int | None = 16
    trials: int = 1
    time_limit: float | None = None

    def __post_init__(self) -> None:
        if self.epochs < 1:
            raise ValueError(f"`epochs` must be >= 1, found {self.epochs}.")
        if self.patience is not None and self.patience < 1:
            raise ValueError(f"`patience` must be >= 1 or None, found {self.patience}.")
        if not 1 <= self.trials <= len(RATE_GRID):
            raise ValueError(
                f"`trials` must be between 1 and {len(RATE_GRID)}, found {self.trials}."
            )
        if self.time_limit is not None and not (
            math.isfinite(self.time_limit) and self.time_limit > 0
        ):
            raise ValueError(f"`time_limit` must be > 0 seconds or None, found {self.time_limit}.")

    @property
    def trial_seconds(self) -> float | None:
        """Seconds of training per trial."""
        return None if self.time_limit is None else self.time_limit / self.trials

    @property
    def hard_limit(self) -> float | None:
        """Seconds after which a run is ended: half as much again, and start-up time."""
        return None if self.time_limit is None else 1.5 * self.time_limit + 30.0


@dataclass(frozen=True)
class FitRecord:
    """How one fit went, as plain values.

    Args:
        seconds: Training time.
        steps: Optimiser steps, or boosting iterations.
        epochs: Passes over the training rows.
        learning_rate: That was used.
        stopped_by: Why training ended.
        device: Where it ran.
        curves: Per quantity ("train_loss", "validation_loss", "weight"), per task, one value per
            entry of ``epoch``.
        cosines: Mean cosines ``[T][T]`` between the tasks' gradients; None for methods without
            shared parameters.
        notes: Sentences that a reader of the results should see.
    """

    seconds: float
    steps: int
    epochs: int
    learning_rate: float
    stopped_by: str
    device: str
    curves: Mapping[str, Any] = field(default_factory=dict)
    cosines: list[list[float | None]] | None = None
    notes: tuple[str, ...] = ()


@runtime_checkable
class Fitted(Protocol):
    """A model of one group of tasks."""

    @property
    def record(self) -> FitRecord:
        """How the fit went."""

    @property
    def num_parameters(self) -> int:
        """Numbers that the fit chose (weights; for trees, split thresholds and leaf values)."""

    def outputs(self, split: AnySplit) -> Mapping[str, Tensor]:
        """Outputs ``[N, C]`` per task, on the CPU."""

    def save(self, folder: Path) -> None:
        """Write safetensors and JSON that ``load_fitted`` reads; never a pickle."""


@runtime_checkable
class FittedOverTime(Fitted, Protocol):
    """A fit that can be looked at as it was after each moment of training, such as after each
    context of a stream.

    It is a ``Fitted`` as it was after the last moment: that is what is scored, saved and served.
    Its snapshots are scored after training has ended, so that ``fit`` sees no test row.
    """

    @property
    def moments(self) -> tuple[str, ...]:
        """Names ``[M]`` in the order of time, at least one; the same for every seed, so that a
        stream whose order depends on the seed numbers its contexts.
        """

    def at(self, moment: int) -> Fitted:
        """The model after the moment ``0 <= moment < M``; answers for every task, also for those
        that had not come yet. The last one's outputs are this fit's own.
        """


class FittedModel(ABC):
    """A ``Fitted`` that can be read back: every subclass that has been imported is known by its
    ``saved_as``, those that ``polytask.candidates`` exports always.

    Args:
        record: How the fit went.
    """

    #: What its files call it; a name that has been used stays readable.
    saved_as: ClassVar[str]

    def __init__(self, record: FitRecord) -> None:
        self.record = record

    @property
    @abstractmethod
    def num_parameters(self) -> int:
        """See ``Fitted``."""

    @abstractmethod
    def outputs(self, split: AnySplit) -> Mapping[str, Tensor]:
        """See ``Fitted``."""

    @abstractmethod
    def save(self, folder: Path) -> None:
        """Write all files of the model, the last one with ``write_record``."""

    @classmethod
    @abstractmethod
    def load(cls, folder: Path, record: Mapping[str, Any]) -> FittedModel:
        """Read what ``save`` wrote; ``record`` is what ``write_record`` wrote."""

    def write_record(self, folder: Path, **content: Any) -> None:
        """Write the file that says what the folder holds, with plain values of one's own."""
        record = {"method": self.saved_as, **content, "fit": dataclasses.asdict(self.record)}
        write_atomically(folder / METHOD_FILE, json.dumps(record, ensure_ascii=False))


@runtime_checkable
class Method(Protocol):
    """A way to learn a group of tasks; holds settings only, for any number of fits."""

    def config(self, num_tasks: int) -> dict[str, Any]:
        """Plain values that fix the results on ``num_tasks`` tasks; part of a run's key."""

    def why_not(self, problem: Problem) -> str | None:
        """Why the method cannot learn this problem, or None if it can."""

    def fit(self, problem: Problem, *, seed: int, budget: Budget, rate: float = 1.0) -> Fitted:
        """Fit all tasks of a problem, looking at training and validation rows only.

        Args:
            problem: The tasks of one group.
            seed: Fixes every random choice.
            budget: Epochs, patience and time of this fit.
            rate: Factor on the method's learning rate.
        """


@runtime_checkable
class Resumable(Method, Protocol):
    """A method whose fit is many trainings, and which can go on where a killed fit has stopped."""

    def trainings(self, num_tasks: int) -> int:
        """Most trainings per fit of this many tasks, each with the budget's time."""

    def resuming_in(self, folder: Path) -> Method:
        """The same method, which writes down in a folder what it has finished, and reads it."""


def load_fitted(folder: Path | str) -> FittedModel:
    """Read what ``Fitted.save`` wrote.

    Raises:
        ValueError: The folder holds no model of a kind that this version knows.
    """
    folder = Path(folder)
    record = read_record(folder)
    kinds = {kind.saved_as: kind for kind in FittedModel.__subclasses__()}
    if record.get("method") not in kinds:
        raise ValueError(
            f"{folder / METHOD_FILE} names the method {record.get('method')!r}, which this version"
            " does not know."
        )
    return kinds[record["method"]].load(folder, record)


def read_record(folder: Path) -> dict[str, Any]:
    """What ``FittedModel.write_record`` wrote.

    Raises:
        ValueError: There is no model in the folder.
    """
    try:
        record: dict[str, Any] = json.loads((folder / METHOD_FILE).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ValueError(f"{folder} holds no saved model ({METHOD_FILE} is missing).") from error
    return record


def fit_record_from(record: Mapping[str, Any]) -> FitRecord:
    """The inverse of ``dataclasses.asdict`` on a ``FitRecord`` that went through JSON."""
    return FitRecord(**{**record, "notes": tuple(record["notes"])})
