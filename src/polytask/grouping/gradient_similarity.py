"""Groups of tasks whose gradients point the same way.

Shape legend: T tasks, P shared parameters.
"""

from __future__ import annotations

from typing import Literal

import torch

from polytask.grouping.affinity_grouper import AffinityGrouper
from polytask.grouping.base import Affinity
from polytask.grouping.grouping import GroupingCost
from polytask.grouping.learner import Learner
from polytask.grouping.pairs import pair_affinity, too_few_tasks
from polytask.grouping.tag import check_shares
from polytask.problems.problem import Problem
from polytask.training.observers import GradientCosines
from polytask.training.reports import TrainingStart

__all__ = ["GradientSimilarity"]

SimilarityScope = Literal["trunk", "last", "features"]


class GradientSimilarity(AffinityGrouper):
    """Trains one joint network and groups tasks by the mean cosine between their gradients.

    ``A_ij = mean over looks of <g_i, g_j> / (|g_i| |g_j|)``, with g_i = ∇ L_i of the same batch.
    Unlike TAG's affinity it is symmetric and does not depend on the sizes of losses and gradients.

    Args:
        every: Steps between two looks; 10 as for TAG.
        scope: What the gradients are taken of: "trunk" (all shared parameters), "last" (those of
            the last shared layer) or "features" (the shared representation; with linear heads a
            closed form, made for a thousand tasks).
        alone: Score of a task without partners; 0, no agreement, lets tasks stay alone. None: a
            task is alone only where no other choice covers all tasks.

    Differences: none known; the idea has no single source. Scope "features" compares what the
        tasks want of each example's representation, an upper bound on their conflict in the trunk:
        tasks that ask for changes of different examples have cosine 0 there.

    Cost: one network, and per look one forward pass and with scope "trunk" T backward passes; T^2
        inner products.

    Raises:
        ValueError: A scope that does not exist, an architecture whose tasks share no parameters, or
            scope "features" where there is no single shared representation.

    References:
        C. Fifty, E. Amid, Z. Zhao, T. Yu, R. Anil, C. Finn, Efficiently Identifying Task Groupings
        for Multi-Task Learning, NeurIPS 2021, https://arxiv.org/abs/2109.04617 (the baseline
        "cosine similarity").
    """

    def __init__(
        self,
        *,
        every: int = 10,
        scope: SimilarityScope = "trunk",
        alone: float | None = 0.0,
    ) -> None:
        self.every = every
        self.scope: SimilarityScope = scope
        self.alone = alone
        self._observer()  # checks the settings that both have

    @property
    def name(self) -> str:
        return "gradient-similarity"

    def why_not(self, problem: Problem) -> str | None:
        if self.scope == "features" and problem.layout == "separate":
            return (
                "Scope 'features' compares what tasks want of the same rows, and every task has "
                "rows of its own here; use scope 'trunk'."
            )
        return too_few_tasks(problem)

    def models_trained(self, num_tasks: int) -> int:
        del num_tasks
        return 1

    def affinity(
        self, problem: Problem, *, learner: Learner | None = None, seed: int = 0
    ) -> Affinity:
        observer = self._observer()
        trained = (learner or Learner()).train(problem, seed=seed, observers=[observer])
        tasks = tuple(task.name for task in problem.tasks)
        looks = -(-trained.cost.steps // self.every)
        backward = len(tasks) if self.scope == "trunk" else 0
        cost = trained.cost + GroupingCost(passes=looks * (1 + backward))
        unknown = torch.full((len(tasks), len(tasks)), torch.nan, dtype=torch.float64)
        matrix = unknown if observer.mean is None else observer.mean
        return pair_affinity(tasks, matrix, cost=cost, alone=self.alone)

    def _observer(self) -> _Cosines:
        return _Cosines(every=self.every, scope=self.scope)


class _Cosines(GradientCosines):
    """Says before training that there is nothing to compare, instead of recording nothing."""

    def on_start(self, start: TrainingStart) -> None:
        check_shares(start.architecture, "GradientSimilarity")
        super().on_start(start)
