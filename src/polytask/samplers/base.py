"""Samplers: which tasks take part in the next step."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from polytask.config import rebuildable_repr
from polytask.problems.problem import Problem

__all__ = ["Sampler"]


class Sampler(ABC):
    """Draws the task(s) of the next step."""

    @abstractmethod
    def draw(self, problem: Problem) -> tuple[str, ...] | None:
        """Names of the tasks of the next batch; None for all of them."""

    def state_dict(self) -> dict[str, Any]:
        """What must survive a checkpoint."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from ``state_dict``."""
        del state

    def __repr__(self) -> str:
        return rebuildable_repr(self)
