"""Task grouping from many small trainings: all pairs, or all sets for a short time.

Shape legend: T tasks, S sets of tasks.
"""

from __future__ import annotations

import dataclasses

import torch

from polytask.grouping.affinity_grouper import AffinityGrouper, refuse
from polytask.grouping.base import Affinity
from polytask.grouping.exhaustive import MOST_TASKS, measured_sets
from polytask.grouping.learner import Learner
from polytask.grouping.scores import PairScores, sets_of_size
from polytask.grouping.trained_gains import (
    measure_losses,
    relative_gains,
    why_not_validated,
)
from polytask.problems.problem import Problem
from polytask.training.settings import TrainingSettings

__all__ = ["ESA", "HOA"]


class HOA(AffinityGrouper):
    """Trains every pair of tasks and predicts larger groups from them (higher-order approximation).

    gain(j, S) = mean over i in S, i != j, of (L_j - L_j({i, j})) / L_j, with L_j and L_j({i, j})
    the validation losses of task j alone and beside task i; a task alone gains 0. The groups are
    those with the largest mean gain over tasks (``best_groups``).

    Differences: the paper adds up losses of tasks that were scaled by hand; here every task counts
        by its gain relative to its single-task network, so that scales do not matter. The budget
        is a number of networks of equal size. ``select_networks`` and ``hoa_table`` are the paper's
        own selection, on a table of losses.

    Cost: T (T - 1) / 2 + T networks. Needs: validation labels for every task.

    References:
        Standley, Zamir, Chen, Guibas, Malik, Savarese: Which Tasks Should Be Learned Together in
        Multi-task Learning? ICML 2020, https://arxiv.org/abs/1905.07553 (section 6).
    """

    def why_not(self, problem: Problem) -> str | None:
        return why_not_validated(problem)

    def models_trained(self, num_tasks: int) -> int:
        return num_tasks * (num_tasks - 1) // 2 + num_tasks

    def affinity(
        self, problem: Problem, *, learner: Learner | None = None, seed: int = 0
    ) -> Affinity:
        """What every task gains from every other one.

        Raises:
            ValueError: ``why_not`` has a reason.
        """
        refuse(self, problem)
        return measured_pairs(problem, learner or Learner(), seed=seed)


class ESA(AffinityGrouper):
    """Trains every set of tasks for a fraction of the epochs (early stopping approximation).

    The gains are those of ``Exhaustive`` (or of ``HOA``, with ``pairs_only``), read off networks
    that were stopped early, the single-task ones among them.

    Args:
        fraction: Of the epochs, in (0, 1]. 0.2 is that of the authors' published tables of networks
            stopped early; their learning rates and epochs differ from ours.
        pairs_only: Train pairs only and predict the rest from them: both approximations at once.

    Differences: gains instead of sums of losses, as in ``HOA``. A learner that stops by patience
        may stop before the fraction is reached; it then costs no less than ``Exhaustive``.

    Cost: 2^T - 1 networks (T (T + 1) / 2 with ``pairs_only``), each trained for ``fraction`` of the
        epochs. Needs: validation labels for every task.

    References:
        Standley, Zamir, Chen, Guibas, Malik, Savarese: Which Tasks Should Be Learned Together in
        Multi-task Learning? ICML 2020, https://arxiv.org/abs/1905.07553.
    """

    def __init__(self, *, fraction: float = 0.2, pairs_only: bool = False) -> None:
        if not 0 < fraction <= 1:
            raise ValueError(f"`fraction` must be in (0, 1], found {fraction}.")
        self.fraction = fraction
        self.pairs_only = pairs_only

    def why_not(self, problem: Problem) -> str | None:
        if not self.pairs_only and len(problem.tasks) > MOST_TASKS:
            return (
                f"All sets of {len(problem.tasks)} tasks are"
                f" {self.models_trained(len(problem.tasks))} networks; ESA takes up to"
                f" {MOST_TASKS} tasks, or any number with pairs_only=True."
            )
        return why_not_validated(problem)

    def models_trained(self, num_tasks: int) -> int:
        return num_tasks * (num_tasks + 1) // 2 if self.pairs_only else int(2**num_tasks - 1)

    def affinity(
        self, problem: Problem, *, learner: Learner | None = None, seed: int = 0
    ) -> Affinity:
        """What every task gains in every set, as far as short trainings tell.

        Raises:
            ValueError: ``why_not`` has a reason.
        """
        refuse(self, problem)
        learner = learner or Learner()
        settings = learner.settings or TrainingSettings.for_problem(problem)
        epochs = max(1, round(self.fraction * settings.epochs))
        short = dataclasses.replace(settings, epochs=epochs)
        measure = measured_pairs if self.pairs_only else measured_sets
        return measure(problem, learner, seed=seed, settings=short)


def measured_pairs(
    problem: Problem, learner: Learner, *, seed: int, settings: TrainingSettings | None = None
) -> Affinity:
    """Gains in networks of two tasks over networks of one, and larger sets predicted from them."""
    num_tasks = len(problem.tasks)
    masks = torch.cat([sets_of_size(num_tasks, 1), sets_of_size(num_tasks, 2)])
    losses, cost = measure_losses(problem, learner, masks, seed=seed, settings=settings)
    gains = relative_gains(losses, losses[:num_tasks].diagonal())
    matrix = torch.zeros(num_tasks, num_tasks, dtype=torch.float64)
    for row in range(num_tasks, len(masks)):
        i, j = masks[row].nonzero().flatten().tolist()
        matrix[i, j], matrix[j, i] = gains[row, j], gains[row, i]
    scores = PairScores(matrix, alone=torch.zeros(num_tasks))
    return Affinity(tuple(task.name for task in problem.tasks), scores, matrix, cost)
