"""Hard groups with the least sum of squared distances to their means: k-means.

Lloyd's algorithm and its k-means++ starts are scikit-learn's; merged groups to start from and the
moves of single points, which in high dimension find what Lloyd's algorithm misses, are added here.

Shape legend: T tasks, P numbers per task, Q coordinates per task, m groups; B data sets, R runs.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

__all__ = [
    "KMeans",
    "best_labels",
    "check_num_clusters",
    "k_means",
    "mean_weights",
    "ward_labels",
]

#: Turns of k-means at most; it ends by itself long before.
MOST_ROUNDS = 300
#: Points at most for which k-means moves single ones; it needs their inner products.
MOST_MOVED = 2048


class KMeans(NamedTuple):
    """Centres ``[m, P]``, the group of each task ``[T]``, and the sum of squared distances."""

    centres: Tensor
    labels: Tensor
    inertia: float


def k_means(points: Tensor, num_clusters: int, *, seed: int = 0, restarts: int = 10) -> KMeans:
    """Hard groups with the least sum of squared distances to their means, the best of some runs.

    Every run is Lloyd's k-means; then single points are moved while that lowers the sum further
    (Hartigan). The first run starts from the groups that merging gives (Ward), the others from
    k-means++. Beyond 2,048 points there are only plain runs from k-means++. Groups are numbered in
    the order of their first points.

    Args:
        points: ``[T, P]``, finite; of long vectors give ``coordinates``.
        num_clusters: ``m``, from 1 to T.
        seed: Fixes the starts (k-means++).
        restarts: Runs >= 1, of which the best is kept.

    Raises:
        ValueError: No run, not 1 <= ``num_clusters`` <= T, or fewer different points than that.

    Cost: ``2 T m P`` operations per round and run.

    References:
        S. P. Lloyd, Least squares quantization in PCM, IEEE Transactions on Information Theory 28,
        1982. J. A. Hartigan, Clustering Algorithms, 1975, chapter 4. J. H. Ward, Hierarchical
        grouping to optimize an objective function, JASA 58, 1963. D. Arthur, S. Vassilvitskii,
        k-means++: the advantages of careful seeding, SODA 2007.
    """
    check_num_clusters(num_clusters, points.shape[0])
    if restarts < 1:
        raise ValueError(f"`restarts` must be >= 1, found {restarts}.")
    points = points.detach().double()
    starts = []
    if points.shape[0] <= MOST_MOVED:
        starts = [mean_weights(ward_labels(points, [num_clusters])[0], num_clusters) @ points]
    starts += _plus_plus(points, num_clusters, restarts - len(starts), seed)
    found = best_labels(points[None], torch.stack(starts)[None])[0]
    order = list(dict.fromkeys(found.tolist()))
    if len(order) < num_clusters:
        raise ValueError(
            f"There cannot be {num_clusters} groups: only {len(order)} of the"
            f" {points.shape[0]} tasks differ."
        )
    rank = torch.empty(num_clusters, dtype=torch.int64)
    rank[order] = torch.arange(num_clusters)
    labels = rank[found]
    centres = mean_weights(labels, num_clusters) @ points
    return KMeans(centres, labels, float((points - centres[labels]).square().sum()))


def _plus_plus(points: Tensor, num_clusters: int, runs: int, seed: int) -> list[Tensor]:
    """Centres ``[m, Q]`` per run: points drawn far from each other (k-means++)."""
    from sklearn.cluster import kmeans_plusplus

    # Drawn by torch, whose seeds may be negative or of 64 bits; scikit-learn's may not.
    generator = torch.Generator().manual_seed(seed)
    seeds = torch.randint(2**31, (runs,), generator=generator).tolist()
    drawn = [kmeans_plusplus(points.numpy(), num_clusters, random_state=one)[0] for one in seeds]
    return [torch.from_numpy(centres) for centres in drawn]


def ward_labels(points: Tensor, numbers: Sequence[int]) -> Tensor:
    """Labels ``[len(numbers), T]``: the two groups whose union raises the sum of squared distances
    least are merged until that many are left (Ward).
    """
    if len(points) == 1:
        return torch.zeros(len(numbers), 1, dtype=torch.int64)
    from scipy.cluster.hierarchy import cut_tree, linkage

    tree = linkage(points.numpy(), "ward")
    return torch.from_numpy(cut_tree(tree, n_clusters=list(numbers)).T.astype(np.int64))


def best_labels(batch: Tensor, starts: Tensor) -> Tensor:
    """Labels ``[B, T]`` of the best run of k-means on each of ``[B, T, Q]``, from starts
    ``[B, R, m, Q]``.
    """
    num_clusters = starts.shape[2]
    # Distances come from products, which lose what is small beside the numbers themselves.
    middle = batch.mean(1, keepdim=True)
    batch, starts = batch - middle, starts - middle[:, None]
    labels = torch.stack(
        [
            torch.stack([_lloyd(points, centres) for centres in runs])
            for points, runs in zip(batch, starts, strict=True)
        ]
    )
    if batch.shape[1] <= MOST_MOVED:
        labels = _moved(batch @ batch.mT, labels, num_clusters)
    inside = torch.nn.functional.one_hot(labels, num_clusters).double()
    # The sum of squared distances to the means is that of the points less this.
    sums = inside.mT @ batch[:, None]
    means = (sums.square().sum(-1) / inside.sum(2).clamp_min(1)).sum(-1)
    return labels[torch.arange(len(batch)), means.argmax(1)]


def _lloyd(points: Tensor, centres: Tensor) -> Tensor:
    """Labels ``[T]`` of k-means on points ``[T, Q]`` from centres ``[m, Q]``, by scikit-learn."""
    from sklearn.cluster import KMeans as Lloyd
    from sklearn.exceptions import ConvergenceWarning

    run = Lloyd(len(centres), init=centres.numpy(), n_init=1, max_iter=MOST_ROUNDS, tol=0)
    with warnings.catch_warnings():
        # That fewer points differ than there are groups: the moves or the caller see to it.
        warnings.simplefilter("ignore", ConvergenceWarning)
        labels = run.fit(points.numpy()).labels_
    return torch.from_numpy(labels).long()


def _moved(gram: Tensor, labels: Tensor, num_clusters: int) -> Tensor:
    """Labels ``[B, R, T]`` after moving single points, the best first, while that lowers the sum.

    In high dimension nearly every point is nearest to the mean that it is part of, so that plain
    k-means stops where it starts. What counts is how the sum changes when point i leaves its group
    of s points, ``-s / (s - 1) d^2``, and joins one of s points, ``+s / (s + 1) d^2`` (Hartigan).

    Args:
        gram: ``[B, T, T]``.
        labels: ``[B, R, T]``.
        num_clusters: m.
    """
    shape, labels = labels.shape, labels.flatten(0, 1)
    gram = gram.repeat_interleave(shape[1], 0)
    inside = torch.nn.functional.one_hot(labels, num_clusters).double()
    sizes, sums = inside.sum(1), gram @ inside
    norms = (inside * sums).sum(1)
    own = gram.diagonal(dim1=1, dim2=2)
    least = 1e-10 * own.sum(1)
    runs = torch.arange(len(gram))
    while len(runs) > 0:
        size = sizes[runs].clamp_min(1)
        squared = sums[runs] * (-2 / size)[:, None]
        squared += own[runs, :, None] + (norms[runs] / size.square())[:, None]
        here = labels[runs][..., None]
        left = size.gather(1, here[..., 0])
        leaving = squared.gather(2, here)[..., 0] * left / (left - 1)
        leaving[left == 1] = -math.inf
        gains = leaving[..., None] - squared.mul_(sizes[runs, None] / (sizes[runs, None] + 1))
        gain, place = gains.scatter_(2, here, -math.inf).flatten(1).max(1)
        better = gain > least[runs]
        runs, place = runs[better], place[better]
        point, target = place // num_clusters, place % num_clusters
        for group, sign in ((labels[runs, point], -1.0), (target, 1.0)):
            norms[runs, group] += sign * 2 * sums[runs, point, group] + own[runs, point]
            sums[runs, :, group] += sign * gram[runs, :, point]
            sizes[runs, group] += sign
        labels[runs, point] = target
    return labels.reshape(shape)


def mean_weights(labels: Tensor, num_clusters: int) -> Tensor:
    """``[m, T]``: the means of the groups are this times the points."""
    inside = torch.nn.functional.one_hot(labels, num_clusters).double().T
    return inside / inside.sum(1, keepdim=True)


def check_num_clusters(num_groups: int, num_tasks: int) -> None:
    """Raise a ValueError unless there can be that many groups of so many tasks."""
    if not 1 <= num_groups <= num_tasks:
        raise ValueError(
            f"The number of groups must be from 1 to the number of tasks, {num_tasks}, found"
            f" {num_groups}."
        )
