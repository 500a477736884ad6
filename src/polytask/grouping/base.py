"""One interface for all ways to group tasks: affinity -> search -> Grouping.

Shape legend: T tasks, S sets of tasks, m groups.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Protocol

from torch import Tensor

from polytask.config import rebuildable_repr
from polytask.grouping.grouping import Grouping, GroupingCost
from polytask.grouping.learner import Learner
from polytask.problems.problem import Problem

__all__ = ["Affinity", "GroupScores", "Grouper"]


class GroupScores(Protocol):
    """How well every task would do in a set of tasks; higher is better, comparable within a
    task.
    """

    def __call__(self, masks: Tensor) -> Tensor:
        """Scores ``[S, T]`` (float64) of sets ``[S, T]`` (bool); minus infinity where a task is not
        in the set. Pure, and cheap for thousands of sets.
        """


@dataclass(frozen=True, eq=False)
class Affinity:
    """What a method found out about the tasks before it searches.

    Args:
        tasks: Names, in order.
        scores: Predicts a score for any task in any set.
        matrix: ``[T, T]``, entry (i, j): what training with task i does for task j (the more, the
            better); None where a method does not look at pairs. The diagonal is a task alone, NaN
            where the method says nothing about that.
        cost: What it took.
        notes: For the reader.
    """

    tasks: tuple[str, ...]
    scores: GroupScores
    matrix: Tensor | None = None
    cost: GroupingCost = field(default_factory=GroupingCost)
    notes: tuple[str, ...] = ()


class Grouper(ABC):
    """A way to find out which tasks belong together; holds settings only, for any number of
    problems.
    """

    def __repr__(self) -> str:
        return rebuildable_repr(self)

    @property
    def name(self) -> str:
        """What tables call it, and what the command line's ``--method`` means by it."""
        return type(self).__name__.lower()

    @abstractmethod
    def why_not(self, problem: Problem) -> str | None:
        """Why it cannot group these tasks (a sentence), or None if it can; known before any
        training.
        """

    @abstractmethod
    def models_trained(self, num_tasks: int) -> int:
        """Networks that it trains to group this many tasks."""

    @abstractmethod
    def find(
        self,
        problem: Problem,
        *,
        learner: Learner | None = None,
        num_groups: int | None = None,
        seed: int = 0,
    ) -> Grouping:
        """Group the tasks of a problem, looking at training and validation rows only.

        Args:
            problem: All tasks.
            learner: How networks are trained; None means the default network and settings.
            num_groups: The number of groups m (methods that choose among overlapping sets: the most
                that they may use); None chooses it by the method's stated criterion.
            seed: Fixes every random choice.

        Raises:
            ValueError: ``why_not`` has a reason, or there cannot be this many groups.
        """
