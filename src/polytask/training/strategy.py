"""Where methods for tasks that arrive one after the other take part in training."""

from __future__ import annotations

from torch import Tensor, nn

from polytask.problems.batch import Batch
from polytask.problems.problem import Problem

__all__ = ["Strategy"]


class Strategy:
    """Five moments of training; every one does nothing unless a method fills it."""

    def begin_task(self, model: nn.Module, problem: Problem) -> None:
        """Before the first step on a problem of a stream."""

    def extra_losses(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Named terms that are added to the loss of the step, outside the balancer."""
        del model, batch
        return {}

    def edit_gradients(self, model: nn.Module) -> None:
        """After the gradients are there and before the optimiser uses them."""

    def end_task(self, model: nn.Module, problem: Problem) -> None:
        """After the last step on a problem of a stream."""

    def state_dict(self) -> dict[str, object]:
        """What must survive a checkpoint."""
        return {}

    def load_state_dict(self, state: dict[str, object]) -> None:
        """Continue from ``state_dict``."""
        del state
