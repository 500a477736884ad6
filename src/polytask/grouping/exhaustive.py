"""Task grouping by training every set of tasks.

Shape legend: T tasks, S sets of tasks.
"""

from __future__ import annotations

import torch

from polytask.grouping.affinity_grouper import AffinityGrouper, refuse
from polytask.grouping.base import Affinity
from polytask.grouping.learner import Learner
from polytask.grouping.scores import TableScores, all_sets
from polytask.grouping.trained_gains import (
    measure_losses,
    relative_gains,
    why_not_validated,
)
from polytask.problems.problem import Problem
from polytask.training.settings import TrainingSettings

__all__ = ["Exhaustive"]

#: Tasks beyond which not all sets are trained: 1023 networks is an overnight run, twice that for
#: every further task.
MOST_TASKS = 10


class Exhaustive(AffinityGrouper):
    """Trains every set of tasks and chooses the groups with the best measured gains.

    gain(j, S) = (L_j - L_j(S)) / L_j, with L_j and L_j(S) the validation losses of task j alone
    and in a network of the tasks S; a task alone gains 0. The groups are those with the largest
    mean gain over tasks (``best_groups``). It is the yardstick of the other methods, not the truth:
    the best of many noisy gains looks better than it is.

    Differences: the paper adds up losses of tasks that were scaled by hand; here every task counts
        by its gain relative to its single-task network. The budget is a number of networks of equal
        size.

    Cost: 2^T - 1 networks; up to 10 tasks. Needs: validation labels for every task.

    References:
        Standley, Zamir, Chen, Guibas, Malik, Savarese: Which Tasks Should Be Learned Together in
        Multi-task Learning? ICML 2020, https://arxiv.org/abs/1905.07553 (section 5).
    """

    def why_not(self, problem: Problem) -> str | None:
        if len(problem.tasks) > MOST_TASKS:
            return (
                f"All sets of {len(problem.tasks)} tasks are"
                f" {self.models_trained(len(problem.tasks))} networks; Exhaustive takes up to"
                f" {MOST_TASKS} tasks."
            )
        return why_not_validated(problem)

    def models_trained(self, num_tasks: int) -> int:
        return int(2**num_tasks - 1)

    def affinity(
        self, problem: Problem, *, learner: Learner | None = None, seed: int = 0
    ) -> Affinity:
        """What every task gains in every set.

        Raises:
            ValueError: ``why_not`` has a reason.
        """
        refuse(self, problem)
        return measured_sets(problem, learner or Learner(), seed=seed)


def measured_sets(
    problem: Problem, learner: Learner, *, seed: int, settings: TrainingSettings | None = None
) -> Affinity:
    """Gains in networks of all sets of tasks over networks of one."""
    num_tasks = len(problem.tasks)
    masks = all_sets(num_tasks)
    losses, cost = measure_losses(problem, learner, masks, seed=seed, settings=settings)
    single = losses[masks.sum(1) == 1].diagonal()
    gains = relative_gains(losses, single)
    matrix = torch.zeros(num_tasks, num_tasks, dtype=torch.float64)
    for row in (masks.sum(1) == 2).nonzero().flatten().tolist():
        i, j = masks[row].nonzero().flatten().tolist()
        matrix[i, j], matrix[j, i] = gains[row, j], gains[row, i]
    scores = TableScores(masks, gains)
    return Affinity(tuple(task.name for task in problem.tasks), scores, matrix, cost)
