"""Clusters of tasks from one long vector per task: soft, hard, by votes.

Shape legend: T tasks, P numbers per task, m groups.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from polytask.grouping.clustering.distances import (
    Points,
    coordinates,
    first_equal,
    squared_distances,
)
from polytask.grouping.clustering.fuzzy import (
    check_fuzzifier,
    fuzzy_c_means,
    fuzzy_weights,
    memberships,
)
from polytask.grouping.clustering.kmeans import check_num_clusters, k_means, mean_weights
from polytask.grouping.clustering.num_groups import GroupCount, choose_num_groups, silhouette
from polytask.grouping.clustering.votes import point_votes

__all__ = [
    "ClusterMethod",
    "Clusters",
    "cluster",
]

ClusterMethod = Literal["memberships", "fuzzy", "votes", "hard"]


@dataclass(frozen=True, eq=False)
class Clusters:
    """Groups of tasks.

    Args:
        memberships: ``[T, m]`` float64, rows sum to 1.
        labels: ``[T]``: the group of each task.
        weights: ``[m, T]``: the centre of group j is ``weights[j] @ points``; None for votes, where
            centres are not made of tasks.
        silhouette: Average ``silhouette`` of the labels where ``coordinates(noise=False)`` puts the
            tasks; NaN for one group.
        count: How the number of groups was chosen; None where it was given.
    """

    memberships: Tensor
    labels: Tensor
    weights: Tensor | None
    silhouette: float
    count: GroupCount | None = None

    @property
    def num_groups(self) -> int:
        """The number of groups m."""
        return self.memberships.shape[1]


def cluster(
    points: Points,
    num_groups: int | None = None,
    *,
    method: ClusterMethod = "memberships",
    fuzzifier: float = 2.0,
    max_groups: int | None = None,
    seed: int = 0,
    restarts: int = 10,
) -> Clusters:
    """Group tasks by their vectors.

    Args:
        points: ``[T, P]``, such as a data map's vectors: any floating type, memory-mapped or not.
            NaN is missing, as in ``squared_distances``.
        num_groups: ``m`` from 1 to T; None: ``choose_num_groups``.
        method: "memberships": k-means, then ``memberships`` of its centres (the paper's, default);
            "fuzzy": ``fuzzy_c_means`` from there; "votes": ``point_votes``; "hard": k-means.
        fuzzifier: Of the soft two.
        max_groups: Of ``choose_num_groups``.
        seed: Fixes every random choice.
        restarts: Runs of k-means.

    Raises:
        ValueError: An unknown method, a number of groups that there cannot be, or what
            ``squared_distances`` says.

    Cost: one pass over the data (votes: three), then ``O(T^3)``.
    """
    if method not in ("memberships", "fuzzy", "votes", "hard"):
        raise ValueError(
            f"`method` must be 'memberships', 'fuzzy', 'votes' or 'hard', found {method!r}."
        )
    check_fuzzifier(fuzzifier)
    if num_groups is not None:
        check_num_clusters(num_groups, points.shape[0])
    squared = squared_distances(points)
    different = len(first_equal(squared).unique())
    if num_groups is not None and num_groups > different and method != "votes":
        raise ValueError(
            f"There cannot be {num_groups} groups: only {different} of the {len(squared)} tasks"
            " differ."
        )
    count = None
    if num_groups is None:
        count = choose_num_groups(squared, max_groups=max_groups, seed=seed)
        num_groups = count.num_groups
    weights: Tensor | None = None
    if method == "votes":
        inside = point_votes(points, num_groups, seed=seed)[0]
    else:
        places = coordinates(squared)
        centres, labels, _ = k_means(places, num_groups, seed=seed, restarts=restarts)
        weights = mean_weights(labels, num_groups)
        inside = torch.nn.functional.one_hot(labels, num_groups).double()
        if method == "memberships":
            inside = memberships(places, centres, fuzzifier)
        elif method == "fuzzy":
            inside = fuzzy_c_means(places, centres, fuzzifier=fuzzifier).memberships
            weights = fuzzy_weights(inside, fuzzifier)
    labels = inside.argmax(1)
    quality = math.nan
    if len(labels.unique()) > 1:
        clear = coordinates(squared, noise=False)
        quality = float(silhouette(torch.cdist(clear, clear), labels).mean())
    return Clusters(inside, labels, weights, quality, count)
