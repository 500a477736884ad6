"""Groups that know nothing about the tasks: what a method must beat.

Shape legend: T tasks, m groups.
"""

from __future__ import annotations

from typing import Literal

import torch

from polytask.grouping.affinity_grouper import refuse
from polytask.grouping.base import Grouper
from polytask.grouping.grouping import Grouping
from polytask.grouping.learner import Learner
from polytask.problems.problem import Problem

__all__ = ["RandomGroups"]

#: Groups where nobody says how many: a control should be told the number of what it stands beside.
DEFAULT_GROUPS = 2


class RandomGroups(Grouper):
    """Draws groups at random, as a control for methods that choose them.

    "hard": every task in one of m groups whose sizes differ by at most one. "soft": memberships
    w_i ~ Dirichlet(1, ..., 1), so that every task is in every group and predictions are averaged
    with weights that mean nothing. "ensemble": all memberships 1 / m, which is a plain ensemble of
    m joint networks: what averaging alone is worth.

    Args:
        kind: "hard", "soft" or "ensemble".

    Cost: no network is trained. Without a number of groups it draws two.

    References:
        The controls that soft groups need: Lakshminarayanan, Pritzel, Blundell: Simple and Scalable
        Predictive Uncertainty Estimation using Deep Ensembles, NeurIPS 2017,
        https://arxiv.org/abs/1612.01474.
    """

    def __init__(self, *, kind: Literal["hard", "soft", "ensemble"] = "hard") -> None:
        if kind not in ("hard", "soft", "ensemble"):
            raise ValueError(f"`kind` must be 'hard', 'soft' or 'ensemble', found {kind!r}.")
        self.kind = kind

    @property
    def name(self) -> str:
        return {"hard": "random", "soft": "random-soft", "ensemble": "ensemble"}[self.kind]

    def why_not(self, problem: Problem) -> str | None:
        return None

    def models_trained(self, num_tasks: int) -> int:
        return 0

    def find(
        self,
        problem: Problem,
        *,
        learner: Learner | None = None,
        num_groups: int | None = None,
        seed: int = 0,
    ) -> Grouping:
        # Soft groups can outnumber the tasks: they stand beside any number of networks.
        refuse(self, problem, num_groups if self.kind == "hard" else None)
        tasks = tuple(task.name for task in problem.tasks)
        m = min(DEFAULT_GROUPS, len(tasks)) if num_groups is None else num_groups
        if m < 1:
            raise ValueError(f"`num_groups` must be >= 1, found {m}.")
        generator = torch.Generator().manual_seed(seed)
        if self.kind == "hard":
            labels = torch.randperm(len(tasks), generator=generator) % m
            memberships = torch.nn.functional.one_hot(labels, m).to(torch.float64)
        elif self.kind == "soft":
            # Exponential numbers divided by their sum are Dirichlet(1, ..., 1).
            numbers = torch.empty(len(tasks), m, dtype=torch.float64)
            numbers.exponential_(generator=generator)
            memberships = numbers / numbers.sum(1, keepdim=True)
        else:
            memberships = torch.full((len(tasks), m), 1 / m, dtype=torch.float64)
        return Grouping(tasks, memberships, method=self.name)
