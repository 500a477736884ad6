"""How groupers train the networks that they look at."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from polytask.architectures.base import Architecture
from polytask.architectures.defaults import default_architecture
from polytask.config import rebuildable_repr
from polytask.grouping.grouping import GroupingCost
from polytask.problems.problem import Problem
from polytask.training.fresh import ArchitectureFactory, train_fresh
from polytask.training.observers import Observer
from polytask.training.prediction import validation_losses
from polytask.training.reports import TrainingResult
from polytask.training.settings import TrainingSettings

__all__ = ["Learner", "Trained"]


@dataclass(frozen=True)
class Trained:
    """One network that a grouper had trained.

    Args:
        architecture: With the best epoch's parameters.
        result: How the training went.
        losses: Validation loss per task.
        cost: One model, its steps and processor seconds.
    """

    architecture: Architecture
    result: TrainingResult
    losses: Mapping[str, float]
    cost: GroupingCost = field(default_factory=GroupingCost)


class Learner:
    """Trains a fresh network on all tasks of a problem, always in the same way.

    Args:
        architecture: From a problem to a fresh model; None means ``default_architecture``.
        settings: Training settings; None means ``TrainingSettings.for_problem``. The seed comes
            from the call.
    """

    def __init__(
        self,
        *,
        architecture: ArchitectureFactory | None = None,
        settings: TrainingSettings | None = None,
    ) -> None:
        self.architecture = architecture
        self.settings = settings

    def __repr__(self) -> str:
        return rebuildable_repr(self)

    def train(
        self,
        problem: Problem,
        *,
        seed: int = 0,
        observers: Sequence[Observer] = (),
        settings: TrainingSettings | None = None,
    ) -> Trained:
        """Train with equal weights.

        Args:
            problem: The tasks of one group; only training and validation rows are looked at.
            seed: Fixes initialisation and batch order; the caller's random state is left as it was.
            observers: Told about every step and epoch.
            settings: Instead of the learner's own.
        """
        base = settings or self.settings or TrainingSettings.for_problem(problem)
        chosen = dataclasses.replace(base, seed=seed)
        started = time.process_time()
        trainer, result = train_fresh(
            problem, self.architecture or default_architecture, settings=chosen, observers=observers
        )
        losses = validation_losses(trainer.architecture, trainer.problem.validation)
        seconds = time.process_time() - started
        cost = GroupingCost(models=1, steps=result.steps, seconds=seconds)
        return Trained(trainer.architecture, result, losses, cost)
