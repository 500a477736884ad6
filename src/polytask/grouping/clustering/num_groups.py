"""How clearly tasks lie in their groups, and how many groups there are.

Shape legend: T tasks, Q coordinates per task, B data sets, m groups.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Set
from typing import NamedTuple

import torch
from torch import Tensor

from polytask.grouping.clustering.distances import CHUNK, coordinates, first_equal
from polytask.grouping.clustering.kmeans import best_labels, mean_weights, ward_labels

__all__ = [
    "GroupCount",
    "choose_num_groups",
    "silhouette",
]

#: Data sets without groups that the task maps must beat, every one: 1 in 20 does so by chance.
DRAWS = 19
#: Numbers of groups that are tried: on the tasks (before the best one's neighbours), on the draws.
TRIED, TRIED_ON_DRAWS = 24, 8


class GroupCount(NamedTuple):
    """The number of groups, the average silhouette of each number tried, and the highest average
    silhouette that was found in data without groups.
    """

    num_groups: int
    silhouettes: Mapping[int, float]
    threshold: float


def silhouette(distances: Tensor, labels: Tensor) -> Tensor:
    """How clearly each task lies in its group ``[T]``, from -1 to 1; 0 for a task alone in it.

    ``(b_i - a_i) / max(a_i, b_i)`` with the mean distance ``a_i`` of task i to the others of its
    group and the least mean distance ``b_i`` to the tasks of another group.

    Args:
        distances: ``[T, T]``.
        labels: ``[T]``, at least two different.

    References:
        P. J. Rousseeuw, Silhouettes: a graphical aid to the interpretation and validation of
        cluster analysis, Journal of Computational and Applied Mathematics 20, 1987.
    """
    inside = torch.nn.functional.one_hot(labels).double()
    sizes = inside.sum(0)
    means = distances @ inside / sizes
    own = inside.bool()
    size = sizes[labels]
    a = means[own] * size / (size - 1).clamp_min(1)
    # A number without tasks is 0 / 0 here, and no other group.
    b = means.masked_fill(own, math.inf).nan_to_num(math.inf, math.inf).amin(1)
    values = (b - a) / torch.maximum(a, b).clamp_min(torch.finfo(torch.float64).tiny)
    return torch.where(size > 1, values, 0.0)


def choose_num_groups(
    squared: Tensor, *, max_groups: int | None = None, seed: int = 0
) -> GroupCount:
    """The fewest groups whose average silhouette is as good as the best, or 1 if data without
    groups reach that too.

    Silhouettes are those of k-means on ``coordinates(squared, noise=False)``; "as good" means that
    the mean difference over tasks is at most one standard error of it. The data without groups are
    19 draws of T points from one Gaussian with the same variance along every principal axis; the
    best average of the tasks must beat the best of every draw, which by chance happens about once
    in 20 problems. A normal continuum of tasks (from easy to hard, say) is therefore one group.
    What this gets wrong (``benchmarks/grouping/clustering.py --part count``): groups that differ
    little beside the tasks' own noise are missed with few tasks; many tasks spread evenly over a
    continuum, and tasks that differ in nothing but the amount of their noise, are divided.

    Args:
        squared: Squared distances between tasks ``[T, T]``.
        max_groups: The most that there may be, at most T - 1; None: ``max(10, 2 sqrt(T))``.
        seed: Fixes k-means and the draws.

    Raises:
        ValueError: ``max_groups`` below 1.

    Cost: ``O(T^3)`` once, then one run of k-means, from merged groups, for each of up to 24 numbers
        of groups and their neighbours, and for 8 of them on up to 19 draws (the first ones that are
        as good as the tasks end it).

    References:
        Rousseeuw 1987 as in ``silhouette``. The comparison with one Gaussian follows Y. Liu, D. N.
        Hayes, A. Nobel, J. S. Marron, Statistical significance of clustering for high-dimension,
        low-sample size data, JASA 103, 2008.
    """
    if max_groups is not None and max_groups < 1:
        raise ValueError(f"`max_groups` must be >= 1, found {max_groups}.")
    num_tasks = squared.shape[0]
    most = max(10, math.ceil(2 * math.sqrt(num_tasks))) if max_groups is None else max_groups
    points = coordinates(squared, noise=False)
    most = min(most, num_tasks - 1, len(first_equal(squared).unique()))
    if most < 2:
        return GroupCount(1, {}, math.nan)
    found = _silhouettes(points[None], _spaced(most, TRIED))
    tried = sorted(found)
    place = tried.index(_best(found))
    low, high = tried[max(0, place - 1)], tried[min(len(tried) - 1, place + 1)]
    found |= _silhouettes(points[None], {*range(low, high + 1)} - {*found})
    best = _best(found)
    means = {k: float(found[k].mean()) for k in sorted(found)}
    threshold = _threshold(points, {*_spaced(most, TRIED_ON_DRAWS), best}, means[best], seed)
    if threshold >= means[best]:
        return GroupCount(1, means, threshold)
    for fewest in sorted(found):
        missing = (found[best] - found[fewest])[0]
        if missing.mean() <= missing.std() / math.sqrt(num_tasks):
            break
    return GroupCount(fewest, means, threshold)


def _best(found: Mapping[int, Tensor]) -> int:
    return max(sorted(found), key=lambda number: float(found[number].mean()))


def _threshold(points: Tensor, numbers: Set[int], reached: float, seed: int) -> float:
    """The best silhouette on the draws; once one is as good as ``reached``, no more are made."""
    generator = torch.Generator().manual_seed(seed)
    deviations = points.std(0, correction=0)
    side_by_side = max(1, min(DRAWS, CHUNK // (4 * points.numel())))
    threshold = -math.inf
    for start in range(0, DRAWS, side_by_side):
        shape = (min(side_by_side, DRAWS - start), *points.shape)
        draws = torch.randn(shape, generator=generator, dtype=torch.float64) * deviations
        for values in _silhouettes(draws, numbers).values():
            threshold = max(threshold, float(values.mean(1).max()))
        if threshold >= reached:
            break
    return threshold


def _silhouettes(batch: Tensor, numbers: Iterable[int]) -> dict[int, Tensor]:
    """By number of groups, the silhouettes ``[B, T]`` of k-means on each of ``[B, T, Q]``."""
    numbers = sorted(numbers)
    if not numbers:
        return {}
    distances = torch.cdist(batch, batch)
    merged = torch.stack([ward_labels(points, numbers) for points in batch], 1)
    found = {}
    for number, start in zip(numbers, merged, strict=True):
        means = torch.stack([mean_weights(one, number) for one in start]) @ batch
        labels = best_labels(batch, means[:, None])
        found[number] = torch.stack([*map(silhouette, distances, labels)])
    return found


def _spaced(most: int, count: int) -> list[int]:
    """Up to ``count`` whole numbers from 2 to ``most``, in equal ratios."""
    return sorted({round(2 * (most / 2) ** (i / (count - 1))) for i in range(count)})
