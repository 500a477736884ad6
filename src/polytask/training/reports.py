"""What a step, an epoch and a whole training say about themselves: frozen records."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from torch import Tensor

from polytask.problems.batch import Batch

__all__ = ["EpochReport", "StepReport", "StopReason", "TrainingResult"]

StopReason = Literal["epochs", "patience", "time limit", "interrupt"]


@dataclass(frozen=True)
class StepReport:
    """One optimiser step.

    Args:
        step: Number of the step, from 1.
        epoch: Number of the epoch, from 1.
        tasks: Tasks that had labels.
        losses: ``[T]``, detached.
        weights: ``[T]``, detached; what the balancer used.
        outputs: Detached outputs of every batch of the step.
        batches: The batches of the step (one, unless gradients accumulate).
        auxiliary: Terms added outside the balancer, by name.
        notes: Facts the balancer wants shown (a solver that did not converge).
    """

    step: int
    epoch: int
    tasks: tuple[str, ...]
    losses: Tensor
    weights: Tensor
    outputs: tuple[Mapping[str, Tensor], ...]
    batches: tuple[Batch, ...]
    auxiliary: Mapping[str, Tensor] = field(default_factory=dict)
    notes: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class EpochReport:
    """One pass over the training rows.

    Args:
        epoch: From 1.
        step: Steps done so far.
        train_losses: Mean loss per task of the epoch's steps.
        weights: Mean weight per task of the epoch's steps.
        validation_losses: Per task; empty in an epoch without validation.
        criterion: What early stopping compares (lower is better); None without validation.
        best: Whether this is the best epoch so far.
        learning_rate: At the end of the epoch.
        seconds: Training time so far, validation included.
    """

    epoch: int
    step: int
    train_losses: Mapping[str, float]
    weights: Mapping[str, float]
    validation_losses: Mapping[str, float]
    criterion: float | None
    best: bool
    learning_rate: float
    seconds: float


@dataclass(frozen=True)
class TrainingResult:
    """How a training went; the model itself now holds the best epoch's parameters.

    Args:
        history: One report per epoch.
        best_epoch: The epoch whose parameters were kept.
        steps: Optimiser steps in all.
        seconds: Training time in all, over every resumed part.
        stopped_by: Why it ended.
        reproducible: False if a time limit or an interrupt decided where it ended.
    """

    history: tuple[EpochReport, ...]
    best_epoch: int
    steps: int
    seconds: float
    stopped_by: StopReason

    @property
    def reproducible(self) -> bool:
        """False if a clock or a person decided where training ended."""
        return self.stopped_by in ("epochs", "patience")
