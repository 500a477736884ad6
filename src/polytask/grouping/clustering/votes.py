"""Soft groups by votes: the share of a task's examples in each region of the data map.

Shape legend: T tasks, P numbers per task, m groups.
"""

from __future__ import annotations

import torch
from torch import Tensor

from polytask.grouping.clustering.distances import CHUNK, Points, columns_in_chunks
from polytask.grouping.clustering.kmeans import k_means

__all__ = [
    "point_votes",
]

#: Pairs on which ``point_votes`` finds its centres if there are more; all pairs vote.
SAMPLE = 50_000


def point_votes(points: Points, num_clusters: int, *, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Memberships as the shares of a task's examples that lie in each region of the data map.

    The pairs (mean, deviation) of all tasks, epochs and examples are clustered together by k-means
    in the plane; every pair of a task is one vote for the cluster it lies in. Regions of the map
    (easy, ambiguous, hard examples) are what is compared, not which examples lie there.

    Args:
        points: ``[T, P]`` with pairs side by side, as a data map's vectors have them; pairs with a
            missing number do not vote.
        num_clusters: ``m`` >= 1.
        seed: Fixes the starts, and the sample on which centres are found if there are more than
            50,000 pairs.

    Returns:
        Memberships ``[T, m]`` and centres ``[m, 2]``, float64.

    Raises:
        ValueError: An odd number of columns, a task without any pair, or fewer different pairs than
            clusters.

    Differences: the released code (its type POINT_BASED; the paper does not describe it) fits
        k-means on all pairs, which for many examples takes long and changes nothing.

    Cost: two passes over the data, ``2 T P m`` operations.
    """
    num_tasks, width = points.shape
    if width % 2:
        raise ValueError(f"`points` must hold pairs of numbers, found {width} numbers per task.")
    generator = torch.Generator().manual_seed(seed)
    share = SAMPLE / (num_tasks * width / 2)
    kept = []
    for chunk in columns_in_chunks(points, 2 * max(1, CHUNK // num_tasks // 2)):
        pairs = chunk.reshape(-1, 2)
        chosen = torch.rand(len(pairs), generator=generator) < share if share < 1 else True
        kept.append(pairs[~pairs.isnan().any(1) & chosen])
    sample = torch.cat(kept)
    if len(sample) < num_clusters:
        raise ValueError(
            f"There cannot be {num_clusters} groups: found {len(sample)} pairs without NaN."
        )
    centres = k_means(sample, num_clusters, seed=seed).centres
    votes = torch.zeros(num_tasks, num_clusters, dtype=torch.float64)
    for chunk in columns_in_chunks(points, 2 * max(1, CHUNK // num_tasks // num_clusters // 2)):
        pairs = chunk.reshape(num_tasks, -1, 2)
        nearest = (centres.square().sum(1) - 2 * pairs @ centres.T).argmin(-1)
        votes.scatter_add_(1, nearest, (~pairs.isnan().any(-1)).double())
    totals = votes.sum(1, keepdim=True)
    for i in (totals[:, 0] == 0).nonzero().flatten().tolist()[:1]:
        raise ValueError(f"Task {i} has no pair without NaN, so it cannot vote.")
    return votes / totals, centres
