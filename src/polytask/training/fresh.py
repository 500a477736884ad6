"""Training a network from the start without leaving a trace in the caller's process."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from polytask.architectures.base import Architecture
from polytask.balancers.base import Balancer
from polytask.problems.problem import Problem
from polytask.training.observers import Observer
from polytask.training.reports import TrainingResult
from polytask.training.settings import TrainingSettings
from polytask.training.trainer import Trainer

__all__ = ["ArchitectureFactory", "train_fresh"]

ArchitectureFactory = Callable[[Problem], Architecture]


def train_fresh(
    problem: Problem,
    build: ArchitectureFactory,
    *,
    settings: TrainingSettings,
    balancer: Balancer | None = None,
    observers: Sequence[Observer] = (),
) -> tuple[Trainer, TrainingResult]:
    """Build a network and train it; the caller's random state stays as it was.

    Args:
        problem: Tasks and rows.
        build: From the problem to a fresh model, whose initialisation the seed of the settings
            fixes.
        settings: Of the training.
        balancer: A fresh one; None means equal weights.
        observers: Told about every step and epoch.

    Raises:
        KeyboardInterrupt: Training was interrupted. A trainer keeps the best model for whoever
            called it; here whatever asked for this network, one of many, is to stop.
    """
    device = settings.resolved_device()
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(settings.seed)
        trainer = Trainer(
            problem, build(problem), balancer=balancer, settings=settings, observers=observers
        )
        result = trainer.fit()
    if result.stopped_by == "interrupt":
        raise KeyboardInterrupt
    return trainer, result
