"""What the groupers have in common that look at pairs of tasks and then search.

Shape legend: T tasks.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor

from polytask.grouping.base import Affinity, Grouper
from polytask.grouping.grouping import Grouping, GroupingCost
from polytask.grouping.learner import Learner
from polytask.grouping.scores import PairScores
from polytask.grouping.search import find_groups
from polytask.problems.problem import Problem

__all__ = ["PairGrouper", "pair_affinity", "too_few_tasks"]


class PairGrouper(Grouper):
    """A grouper that measures an affinity per pair of tasks and searches for the groups with the
    best mean affinity.
    """

    @abstractmethod
    def affinity(
        self, problem: Problem, *, learner: Learner | None = None, seed: int = 0
    ) -> Affinity:
        """What each task does for each other, looking at training and validation rows only.

        Args:
            problem: All tasks.
            learner: How networks are trained; None means the default network and settings.
            seed: Fixes every random choice.
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
        reason = self.why_not(problem)
        if reason is not None:
            raise ValueError(reason)
        count = len(problem.tasks)
        if num_groups is not None and not 1 <= num_groups <= count:  # before anything is trained
            raise ValueError(
                f"`num_groups` must be 1 .. {count}, the number of tasks, found {num_groups}."
            )
        found = self.affinity(problem, learner=learner, seed=seed)
        return find_groups(found, method=self.name, num_groups=num_groups, seed=seed)


def pair_affinity(
    tasks: Sequence[str],
    matrix: Tensor,
    *,
    cost: GroupingCost,
    alone: float | Tensor | None = None,
    notes: Sequence[str] = (),
) -> Affinity:
    """An affinity from a matrix of pairs.

    Args:
        tasks: Names, in order.
        matrix: ``[T, T]``, entry (i, j): what task i does for task j; NaN where that is not known,
            which counts as 0, no effect.
        cost: What it took.
        alone: A task's score without partners, one for all or ``[T]``; None as ``PairScores``.
        notes: For the reader.
    """
    known = matrix.detach().to("cpu", torch.float64)
    off = ~torch.eye(len(tasks), dtype=torch.bool)
    unknown = int((known.isnan() & off).sum())
    said = list(notes)
    if unknown:
        pairs = len(tasks) * (len(tasks) - 1)
        said.append(f"{unknown} of {pairs} ordered pairs of tasks are unknown; they count as 0.")
    if alone is not None:
        alone = torch.as_tensor(alone, dtype=torch.float64).expand(len(tasks))
    scores = PairScores(known.nan_to_num(nan=0.0), alone)
    return Affinity(tuple(tasks), scores, known, cost, tuple(said))


def too_few_tasks(problem: Problem) -> str | None:
    """Why a problem of one task has no pairs, or None if there are some."""
    if len(problem.tasks) >= 2:
        return None
    return f"Grouping by pairs needs at least two tasks, found {len(problem.tasks)}."
