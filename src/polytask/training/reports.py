"""What a training says about itself when it starts, after steps and epochs, and at the end: frozen
records.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from polytask.architectures.base import Architecture
from polytask.problems.batch import Batch
from polytask.problems.problem import Problem

__all__ = ["EpochReport", "StepReport", "StopReason", "TrainingResult", "TrainingStart"]

StopReason = Literal["epochs", "patience", "time limit", "interrupt"]


@dataclass(frozen=True)
class TrainingStart:
    """A training before its first step.

    Args:
        problem: Tasks and rows, on the device of the training.
        architecture: The model; whoever is told must not change it.
        device: Where training takes place.
        epochs: Most epochs that it will have in all.
        steps_per_epoch: Optimiser steps of an epoch.
        epoch: Epochs that are done already, where a training is resumed.
    """

    problem: Problem
    architecture: Architecture
    device: torch.device
    epochs: int
    steps_per_epoch: int
    epoch: int = 0


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
