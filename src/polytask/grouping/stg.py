"""STG-MTL: groups of tasks whose training examples were learned alike.

Shape legend: T tasks, m groups.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from polytask.grouping.affinity_grouper import refuse
from polytask.grouping.base import Grouper
from polytask.grouping.clustering.clusters import ClusterMethod, Clusters, cluster
from polytask.grouping.clustering.fuzzy import check_fuzzifier
from polytask.grouping.data_map import DataMap
from polytask.grouping.data_map_recorder import record_data_map, why_no_data_map
from polytask.grouping.grouping import Grouping
from polytask.grouping.learner import Learner
from polytask.grouping.moments import Deviation
from polytask.problems.problem import Problem

__all__ = ["STG"]

#: Share of the largest possible entropy from which memberships are called nearly equal.
NEARLY_EQUAL = 0.95


class STG(Grouper):
    """Groups tasks by their data maps: how sure a network was of each example while it learned.

    One network learns all tasks; its data map gives a vector ``x_i`` per task (mean and deviation,
    over the epochs, of the probability of each example's true class). K-means of the vectors gives
    centres ``c_j``, and the distances to them the memberships
    ``w_ij = ||x_i - c_j||^(-2/(F-1)) / sum_k ||x_i - c_k||^(-2/(F-1))``: the weight of task i's
    loss in the network of group j, and of that network's output in the prediction of task i.

    Args:
        clustering: "memberships" (default, the paper's), "fuzzy", "votes" or "hard", as in
            ``cluster``.
        fuzzifier: ``F`` > 1. 2, the paper's. Where tasks differ from each other mostly by noise of
            their own, in many directions, a group of s tasks keeps only odds of
            ``((s + 1) / (s - 1))^(1 / (F - 1))`` over another of that size (a task is part of its
            own centre): with 2 all memberships are then nearly equal, which the notes say; the
            released code's default, 1.07, makes them nearly hard.
        max_groups: The most groups that are tried where the number is not given; None as in
            ``choose_num_groups``.
        source: Whose data map: "joint", one network for all tasks, or "single", a network per task.
        epochs: After which epochs the map is taken, as in ``record_data_map``.
        deviation: "population" or "sample", as in ``record_data_map``.
        folder: Keep the map there, in float16, instead of in memory.

    Raises:
        ValueError: An unknown clustering or source, a fuzzifier that is not > 1, or no group.

    Differences: the number of groups can be chosen (the paper sets it by hand), and k-means finds
        lower sums. Where labels are missing, tasks are compared on the examples that both have.

    Cost: one network (T with ``source="single"``); then as ``cluster``. Needs: shared inputs and
        classes or numbers as targets.

    References:
        A. Sherif, A. Abid, M. Elattar, M. ElHelw, STG-MTL: Scalable Task Grouping for Multi-Task
        Learning Using Data Maps, 2023, https://arxiv.org/abs/2307.03374, section 3, equations 1-4.
    """

    def __init__(
        self,
        *,
        clustering: ClusterMethod = "memberships",
        fuzzifier: float = 2.0,
        max_groups: int | None = None,
        source: Literal["joint", "single"] = "joint",
        epochs: Sequence[int] | None = None,
        deviation: Deviation = "population",
        folder: Path | str | None = None,
    ) -> None:
        if clustering not in ("memberships", "fuzzy", "votes", "hard"):
            raise ValueError(
                "`clustering` must be 'memberships', 'fuzzy', 'votes' or 'hard', found"
                f" {clustering!r}."
            )
        if source not in ("joint", "single"):
            raise ValueError(f"`source` must be 'joint' or 'single', found {source!r}.")
        if max_groups is not None and max_groups < 1:
            raise ValueError(f"`max_groups` must be >= 1, found {max_groups}.")
        check_fuzzifier(fuzzifier)
        self.clustering = clustering
        self.fuzzifier = fuzzifier
        self.max_groups = max_groups
        self.source = source
        self.epochs = epochs
        self.deviation = deviation
        self.folder = folder

    def why_not(self, problem: Problem) -> str | None:
        """No shared inputs, or a task without classes or numbers."""
        return why_no_data_map(problem)

    def models_trained(self, num_tasks: int) -> int:
        """One, or one per task."""
        return 1 if self.source == "joint" else num_tasks

    def find(
        self,
        problem: Problem,
        *,
        learner: Learner | None = None,
        num_groups: int | None = None,
        seed: int = 0,
    ) -> Grouping:
        """Record a data map and group by it."""
        refuse(self, problem, num_groups)
        data_map = record_data_map(
            problem,
            learner,
            source=self.source,
            epochs=self.epochs,
            deviation=self.deviation,
            seed=seed,
            dtype=torch.float32 if self.folder is None else torch.float16,
            folder=self.folder,
        )
        return self.group(data_map, num_groups=num_groups, seed=seed)

    def group(self, data_map: DataMap, *, num_groups: int | None = None, seed: int = 0) -> Grouping:
        """Group by a data map that is there already.

        Args:
            data_map: Of the tasks.
            num_groups: ``m``; None chooses it.
            seed: Fixes the clustering.

        Raises:
            ValueError: There cannot be this many groups, or two tasks have no example in common.
        """
        found = cluster(
            data_map.vectors(),
            num_groups,
            method=self.clustering,
            fuzzifier=self.fuzzifier,
            max_groups=self.max_groups,
            seed=seed,
        )
        return Grouping(
            data_map.tasks,
            found.memberships,
            method=self.name,
            cost=data_map.cost,
            score=None if math.isnan(found.silhouette) else found.silhouette,
            notes=(*data_map.notes, *_notes(found, self.clustering)),
        )


def _notes(found: Clusters, method: ClusterMethod) -> list[str]:
    notes = []
    if found.count is not None and found.num_groups == 1:
        notes.append(
            "No division of the tasks is clearer than divisions of data without groups: learn them"
            " all together."
        )
    elif found.count is not None:
        notes.append(
            f"{found.num_groups} groups are as clear as any number (average silhouette"
            f" {found.count.silhouettes[found.num_groups]:.2f}, data without groups at most"
            f" {found.count.threshold:.2f})."
        )
    if found.num_groups > 1 and method != "hard" and _entropy(found.memberships) > NEARLY_EQUAL:
        remedy = "" if method == "votes" else "; a fuzzifier nearer to 1 would tell them apart"
        notes.append(
            "All tasks belong almost equally to all groups, so that the groups are little more than"
            f" an ensemble{remedy}."
        )
    return notes


def _entropy(memberships: Tensor) -> float:
    """Mean over tasks of the entropy of the memberships, as a share of the largest possible."""
    return float(torch.special.entr(memberships).sum(1).mean()) / math.log(memberships.shape[1])
