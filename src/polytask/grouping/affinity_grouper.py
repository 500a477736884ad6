"""What the groupers have in common that measure an affinity and then search.

Shape legend: T tasks.
"""

from __future__ import annotations

from abc import abstractmethod

from polytask.grouping.base import Affinity, Grouper
from polytask.grouping.grouping import Grouping
from polytask.grouping.learner import Learner
from polytask.grouping.search import find_groups
from polytask.problems.problem import Problem

__all__ = ["AffinityGrouper", "refuse"]


class AffinityGrouper(Grouper):
    """A grouper that predicts how well every task would do in any set of tasks, and searches for
    the best sets.
    """

    @abstractmethod
    def affinity(
        self, problem: Problem, *, learner: Learner | None = None, seed: int = 0
    ) -> Affinity:
        """What the tasks do for each other, looking at training and validation rows only.

        Args:
            problem: All tasks.
            learner: How networks are trained; None means the default network and settings.
            seed: Fixes every random choice.

        Raises:
            ValueError: ``why_not`` has a reason.
        """

    def find(
        self,
        problem: Problem,
        *,
        learner: Learner | None = None,
        num_groups: int | None = None,
        seed: int = 0,
    ) -> Grouping:
        """Group the tasks of a problem; see ``Grouper.find``."""
        refuse(self, problem, num_groups)
        found = self.affinity(problem, learner=learner, seed=seed)
        return find_groups(found, method=self.name, num_groups=num_groups, seed=seed)


def refuse(grouper: Grouper, problem: Problem, num_groups: int | None = None) -> None:
    """Raise the grouper's reason not to group these tasks, or what is wrong with the number of
    groups, before anything is trained.
    """
    reason = grouper.why_not(problem)
    if reason is not None:
        raise ValueError(reason)
    if num_groups is not None and not 1 <= num_groups <= len(problem.tasks):
        raise ValueError(
            f"`num_groups` must be 1 .. {len(problem.tasks)}, the number of tasks, found"
            f" {num_groups}."
        )
