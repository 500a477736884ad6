"""Clusters of tasks from one long vector per task: soft, hard, by votes, and how many.

There are many more numbers per task than tasks, so the vectors are read once, in chunks of columns,
for the distances between tasks; the clustering then runs on at most T coordinates per task that
have exactly these distances.

Shape legend: T tasks, P numbers per task, Q coordinates per task (Q <= T), m groups.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

__all__ = [
    "Clusters",
    "FuzzyMeans",
    "GroupCount",
    "KMeans",
    "Points",
    "check_fuzzifier",
    "choose_num_groups",
    "cluster",
    "coordinates",
    "fuzzy_c_means",
    "k_means",
    "memberships",
    "point_votes",
    "silhouette",
    "squared_distances",
]

Points = Tensor | np.ndarray[Any, np.dtype[Any]]
ClusterMethod = Literal["memberships", "fuzzy", "votes", "hard"]

#: Numbers of one chunk of columns: 64 MiB in float64.
CHUNK = 2**23
#: Pairs on which ``point_votes`` finds its centres if there are more; all pairs vote.
SAMPLE = 50_000
#: Data sets without groups that the task maps must beat, every one: 1 in 20 does so by chance.
DRAWS = 19
#: Numbers of groups that are tried: on the tasks (before the best one's neighbours), on the draws.
TRIED, TRIED_ON_DRAWS = 24, 8
#: Turns of k-means at most; it ends by itself long before.
MOST_ROUNDS = 300
#: Points at most for which k-means moves single ones; it needs their inner products.
MOST_MOVED = 2048


class KMeans(NamedTuple):
    """Centres ``[m, P]``, the group of each task ``[T]``, and the sum of squared distances."""

    centres: Tensor
    labels: Tensor
    inertia: float


class FuzzyMeans(NamedTuple):
    """Centres ``[m, P]``, the memberships ``[T, m]`` that they are the means by, and the number of
    turns, the first included.
    """

    centres: Tensor
    memberships: Tensor
    rounds: int


class GroupCount(NamedTuple):
    """The number of groups, the average silhouette of each number tried, and the highest average
    silhouette that was found in data without groups.
    """

    num_groups: int
    silhouettes: Mapping[int, float]
    threshold: float


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


def memberships(points: Tensor, centres: Tensor, fuzzifier: float = 2.0) -> Tensor:
    """How much each point belongs to each centre: the nearer, the more.

    ``w_ij = d_ij^(-2/(F-1)) / sum_k d_ik^(-2/(F-1))`` with ``d_ij = ||x_i - c_j||``, computed as
    the softmax over j of ``-2/(F-1) log d_ij``, which does not overflow for F near 1. A point on a
    centre belongs to it wholly, on several centres equally. The unit of the points is irrelevant.

    Args:
        points: ``x``, ``[..., T, P]``, finite.
        centres: ``c``, ``[..., m, P]``, finite.
        fuzzifier: ``F`` > 1: near 1 the nearest centre takes all, the larger the more equal they
            are. 2, the paper's; its released code has 1.07.

    Returns:
        ``[..., T, m]`` float64.

    Raises:
        ValueError: A fuzzifier that is not > 1 and finite.

    Differences: the paper prints the sum up to the number of tasks; it runs over the centres. The
        released code adds 1e-10 to every distance, so that its results depend on the unit.

    Cost: ``3 T m P`` operations.

    Example:
        >>> memberships(torch.tensor([[0.0], [1.0]]), torch.tensor([[0.0], [3.0]]))
        tensor([[1.0000, 0.0000],
                [0.8000, 0.2000]], dtype=torch.float64)

    References:
        A. Sherif, A. Abid, M. Elattar, M. ElHelw, STG-MTL: Scalable Task Grouping for Multi-Task
        Learning Using Data Maps, 2023, https://arxiv.org/abs/2307.03374, equations 1 and 2.
    """
    check_fuzzifier(fuzzifier)
    points, centres = points.double(), centres.double()
    largest = torch.maximum(
        points.abs().amax((-2, -1), keepdim=True), centres.abs().amax((-2, -1), keepdim=True)
    )
    unit = torch.where(largest > 0, largest, 1.0)
    # By matrix products, distances that are small beside the points themselves would be lost.
    distances = torch.cdist(
        points / unit, centres / unit, compute_mode="donot_use_mm_for_euclid_dist"
    )
    touching = distances == 0
    logits = torch.where(touching, 1.0, distances).log() * (-2 / (fuzzifier - 1))
    shared = touching.double() / touching.sum(-1, keepdim=True).clamp_min(1)
    return torch.where(touching.any(-1, keepdim=True), shared, logits.softmax(-1))


def squared_distances(points: Points) -> Tensor:
    """Squared Euclidean distances between tasks ``[T, T]``, float64, in one pass over the data.

    Where numbers are missing (NaN), ``d_ij = P / P_ij sum_p (x_ip - x_jp)^2`` over the ``P_ij``
    columns that both tasks have, of the ``P`` columns that any task has: the columns in which two
    tasks can be compared stand for the others.

    Args:
        points: ``[T, P]`` of any floating type, a tensor or an array, memory-mapped or not.

    Raises:
        ValueError: Not a matrix, infinite numbers, a task without any number, or two tasks that
            share no column.

    Cost: ``2 T^2 P`` operations, three times that in chunks with missing numbers. Memory: about
        ``40 T^2`` bytes and three chunks of 64 MiB.
    """
    if points.ndim != 2 or min(points.shape) < 1:
        raise ValueError(f"`points` must be [tasks, numbers], found shape {tuple(points.shape)}.")
    products, squares, counts = torch.zeros(
        3, points.shape[0], points.shape[0], dtype=torch.float64
    ).unbind()
    columns = 0
    for chunk in _chunks(points):
        known = ~chunk.isnan()
        used = known.any(0)
        columns += int(used.sum())
        if bool(known.all()):
            squares += chunk.square().sum(1, keepdim=True)
            counts += chunk.shape[1]
        else:
            chunk, known = chunk[:, used].nan_to_num_(), known[:, used].double()
            squares.addmm_(chunk.square(), known.T)
            counts.addmm_(known, known.T)
        products.addmm_(chunk, chunk.T)
    for i in (counts.diagonal() == 0).nonzero().flatten().tolist()[:1]:
        raise ValueError(f"`points` has no number (all NaN) for task {i}.")
    for i, j in (counts == 0).nonzero().tolist()[:1]:
        raise ValueError(
            f"`points` has no column that is known (not NaN) for both tasks {i} and {j}."
        )
    found = (squares + squares.T - products - products.T) * (columns / counts)
    return found.clamp_min(0).fill_diagonal_(0)


def _chunks(points: Points) -> Iterator[Tensor]:
    """Columns ``[T, some]`` in float64, each less the first of its numbers that is known.

    That changes no distance, makes the numbers of equal tasks exactly 0, and loses nothing to
    cancellation where numbers are large beside their differences.
    """
    for chunk in _columns(points, max(1, CHUNK // points.shape[0])):
        first = (~chunk.isnan()).int().argmax(0, keepdim=True)
        yield chunk.sub_(chunk.gather(0, first))


def _columns(points: Points, width: int) -> Iterator[Tensor]:
    """Copies ``[T, width]`` in float64 on the CPU; the last one may be narrower."""
    for start in range(0, points.shape[1], width):
        part = points[:, start : start + width]
        if isinstance(part, Tensor):
            chunk = part.detach().to("cpu", torch.float64, copy=True)
        else:
            chunk = torch.from_numpy(part.astype(np.float64))
        if bool(chunk.isinf().any()):
            row = int(chunk.isinf().any(1).nonzero()[0])
            raise ValueError(f"`points` holds infinite numbers, first for task {row}.")
        yield chunk


def coordinates(squared: Tensor, *, noise: bool = True) -> Tensor:
    """Points ``[T, Q]`` with these distances (classical scaling), principal axes first.

    ``Y Y^T = G = -1/2 C D C`` with the squared distances ``D`` and the centring matrix ``C``.
    Distances that no points have (missing numbers can give such) are replaced by those of the
    positive part of ``G``.

    Args:
        squared: ``D``, ``[T, T]``, symmetric.
        noise: True keeps the distances. False takes the median eigenvalue of ``G`` off all of them:
            what every task has for itself, in all directions alike, says nothing about groups but
            hides them in high dimension.

    Cost: ``O(T^3)``.

    References:
        J. C. Gower, Some distance properties of latent root and vector methods used in multivariate
        analysis, Biometrika 53, 1966.
    """
    num_tasks = squared.shape[0]
    centred = squared - squared.mean(0, keepdim=True)
    gram = (centred - centred.mean(1, keepdim=True)) / -2
    values, vectors = torch.linalg.eigh((gram + gram.T) / 2)
    if not noise and num_tasks > 2:
        # The first of the T eigenvalues is the 0 of the centring.
        values = values - values[1 + (num_tasks - 1) // 2].clamp_min(0)
    values, vectors = values.flip(0), vectors.flip(1)
    rank = max(1, int((values > num_tasks * torch.finfo(torch.float64).eps * values[0]).sum()))
    places: Tensor = vectors[:, :rank] * values[:rank].clamp_min(0).sqrt()
    return places[_first_equal(squared)]


def _first_equal(squared: Tensor) -> Tensor:
    """Per task ``[T]`` the first task at distance 0 from it, up to rounding; often itself."""
    rounding = squared.shape[0] * torch.finfo(torch.float64).eps * squared.max()
    return (squared <= rounding).int().argmax(1)


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
    _check_count(num_clusters, points.shape[0])
    if restarts < 1:
        raise ValueError(f"`restarts` must be >= 1, found {restarts}.")
    points = points.detach().double()
    generator = torch.Generator().manual_seed(seed)
    starts = []
    if points.shape[0] <= MOST_MOVED:
        starts = [_mean_weights(_merged(points, [num_clusters])[0], num_clusters) @ points]
    runs = points.expand(restarts - len(starts), *points.shape)
    starts += [*_plus_plus(runs, num_clusters, generator)]
    found = _best_of(points[None], torch.stack(starts)[None])[0]
    order = list(dict.fromkeys(found.tolist()))
    if len(order) < num_clusters:
        raise ValueError(
            f"There cannot be {num_clusters} groups: only {len(order)} of the"
            f" {points.shape[0]} tasks differ."
        )
    rank = torch.empty(num_clusters, dtype=torch.int64)
    rank[order] = torch.arange(num_clusters)
    labels = rank[found]
    centres = _mean_weights(labels, num_clusters) @ points
    return KMeans(centres, labels, float((points - centres[labels]).square().sum()))


def _merged(points: Tensor, numbers: Sequence[int]) -> Tensor:
    """Labels ``[len(numbers), T]``: the two groups whose union raises the sum of squared distances
    least are merged until that many are left (Ward).
    """
    if len(points) == 1:
        return torch.zeros(len(numbers), 1, dtype=torch.int64)
    from scipy.cluster.hierarchy import cut_tree, linkage

    tree = linkage(points.numpy(), "ward")
    return torch.from_numpy(cut_tree(tree, n_clusters=list(numbers)).T.astype(np.int64))


def _best_of(batch: Tensor, starts: Tensor) -> Tensor:
    """Labels ``[B, T]`` of the best run of k-means on each of ``[B, T, Q]``, from starts
    ``[B, R, m, Q]``.
    """
    count, restarts, num_clusters, _ = starts.shape
    num_points = batch.shape[1]
    # Distances come from products, which lose what is small beside the numbers themselves.
    middle = batch.mean(1, keepdim=True)
    batch, starts = batch - middle, starts - middle[:, None]
    runs = batch.repeat_interleave(restarts, 0)
    labels = _lloyd(runs, starts.flatten(0, 1))
    if num_points <= MOST_MOVED:
        labels = _moved(batch @ batch.mT, labels.reshape(count, restarts, -1), num_clusters)
    inside = torch.nn.functional.one_hot(labels.reshape(-1, num_points), num_clusters).double()
    # The sum of squared distances to the means is that of the points less this.
    means = ((inside.mT @ runs).square().sum(-1) / inside.sum(1).clamp_min(1)).sum(-1)
    best = means.reshape(count, restarts).argmax(1)
    return labels.reshape(count, restarts, num_points)[torch.arange(count), best]


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


def _lloyd(runs: Tensor, centres: Tensor) -> Tensor:
    """Labels ``[R, T]`` of k-means on points ``[R, T, Q]`` from centres ``[R, m, Q]``."""
    num_clusters = centres.shape[1]
    labels = torch.empty(0)
    for _ in range(MOST_ROUNDS):
        squared = _squared(runs, centres)
        nearest, updated = squared.min(-1)
        if torch.equal(updated, labels):
            break
        labels = updated
        inside = torch.nn.functional.one_hot(labels, num_clusters).double()
        sizes = inside.sum(1)
        centres = inside.mT @ runs / sizes.clamp_min(1)[..., None]
        # A group that lost all its points starts again at the point that is worst off.
        run, empty = (sizes == 0).nonzero(as_tuple=True)
        centres[run, empty] = runs[run, nearest.argmax(1)[run]]
    return labels


def _plus_plus(runs: Tensor, num_clusters: int, generator: torch.Generator) -> Tensor:
    """Starts ``[R, m, Q]``: points drawn in proportion to their squared distance to the nearest
    start so far; of a few drawn, the one that leaves the least sum of these.
    """
    count, num_points, width = runs.shape
    tries = 2 + int(math.log(num_clusters))
    rows = torch.arange(count)
    first = torch.randint(num_points, (count,), generator=generator)
    centres = torch.zeros(count, num_clusters, width, dtype=runs.dtype)
    centres[:, 0] = runs[rows, first]
    nearest = _squared(runs, centres[:, :1])[..., 0]
    for j in range(1, num_clusters):
        # Where all points are starts already, every one is as good.
        odds = torch.where(nearest.sum(1, keepdim=True) > 0, nearest, 1.0)
        drawn = odds.multinomial(tries, replacement=True, generator=generator)
        candidates = runs[rows[:, None], drawn]
        left = torch.minimum(nearest[..., None], _squared(runs, candidates))
        best = left.sum(1).argmin(1)
        centres[:, j] = candidates[rows, best]
        nearest = left[rows, :, best]
    return centres


def _squared(points: Tensor, centres: Tensor) -> Tensor:
    """Squared distances ``[R, T, m]``."""
    cross = points @ centres.mT
    squares = points.square().sum(-1, keepdim=True) + centres.square().sum(-1)[:, None]
    return (squares - 2 * cross).clamp_min(0)


def _mean_weights(labels: Tensor, num_clusters: int) -> Tensor:
    """``[m, T]``: the means of the groups are this times the points."""
    inside = torch.nn.functional.one_hot(labels, num_clusters).double().T
    return inside / inside.sum(1, keepdim=True)


def fuzzy_c_means(
    points: Tensor,
    centres: Tensor,
    *,
    fuzzifier: float = 2.0,
    tolerance: float = 1e-9,
    max_rounds: int = 300,
) -> FuzzyMeans:
    """Soft groups: memberships by distance and centres as means by memberships, in turns.

    ``w = memberships(x, c, F)``, ``c_j = sum_i w_ij^F x_i / sum_i w_ij^F`` until
    ``sum_j ||c_j - c_j'||^2 <= tolerance * mean_i ||x_i - mean(x)||^2``. Every turn lowers
    ``sum_ij w_ij^F ||x_i - c_j||^2``. In high dimension, with F = 2, all centres tend to the mean
    of all points (Winkler et al. 2011); a smaller F keeps them apart.

    Args:
        points: ``x``, ``[T, P]``, finite; of long vectors give ``coordinates``.
        centres: ``c`` to start from, ``[m, P]``; those of ``k_means`` are a good choice.
        fuzzifier: ``F`` > 1; 2 as in Bezdek et al. and the paper, the released code has 1.07.
        tolerance: When to stop; small enough that the result does not depend on it.
        max_rounds: Turns at most; 300, the released code's.

    Returns:
        The last centres and the memberships that they are the means by (Bezdek et al. and the
        released code return these, not those of the last centres; once converged they are equal).

    Raises:
        ValueError: A fuzzifier that is not > 1 and finite, or no round.

    Differences: the released code's tolerance is absolute, 0.01 or 0.001.

    Cost: ``5 T m P`` operations per turn.

    References:
        J. C. Bezdek, R. Ehrlich, W. Full, FCM: The fuzzy c-means clustering algorithm, Computers &
        Geosciences 10, 1984. R. Winkler, F. Klawonn, R. Kruse, Fuzzy c-means in high dimensional
        spaces, International Journal of Fuzzy System Applications 1, 2011.
    """
    check_fuzzifier(fuzzifier)
    if max_rounds < 1:
        raise ValueError(f"`max_rounds` must be >= 1, found {max_rounds}.")
    points, centres = points.detach().double(), centres.detach().double()
    spread = (points - points.mean(0)).square().sum(1).mean()
    turns = 0
    moved = torch.tensor(math.inf)
    while turns < max_rounds and bool(moved > tolerance * spread):
        turns += 1
        inside = memberships(points, centres, fuzzifier)
        updated = _fuzzy_weights(inside, fuzzifier) @ points
        moved = (updated - centres).square().sum()
        centres = updated
    return FuzzyMeans(centres, inside, turns)


def _fuzzy_weights(inside: Tensor, fuzzifier: float) -> Tensor:
    """``[m, T]``: ``w_ij^F / sum_i w_ij^F``, also where all powers would be 0 in float64."""
    return (fuzzifier * inside.T.log()).softmax(1)


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
    for chunk in _columns(points, 2 * max(1, CHUNK // num_tasks // 2)):
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
    for chunk in _columns(points, 2 * max(1, CHUNK // num_tasks // num_clusters // 2)):
        pairs = chunk.reshape(num_tasks, -1, 2)
        nearest = (centres.square().sum(1) - 2 * pairs @ centres.T).argmin(-1)
        votes.scatter_add_(1, nearest, (~pairs.isnan().any(-1)).double())
    totals = votes.sum(1, keepdim=True)
    for i in (totals[:, 0] == 0).nonzero().flatten().tolist()[:1]:
        raise ValueError(f"Task {i} has no pair without NaN, so it cannot vote.")
    return votes / totals, centres


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
    most = min(most, num_tasks - 1, len(_first_equal(squared).unique()))
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
    merged = torch.stack([_merged(points, numbers) for points in batch], 1)
    found = {}
    for number, start in zip(numbers, merged, strict=True):
        means = torch.stack([_mean_weights(one, number) for one in start]) @ batch
        labels = _best_of(batch, means[:, None])
        found[number] = torch.stack([*map(silhouette, distances, labels)])
    return found


def _spaced(most: int, count: int) -> list[int]:
    """Up to ``count`` whole numbers from 2 to ``most``, in equal ratios."""
    return sorted({round(2 * (most / 2) ** (i / (count - 1))) for i in range(count)})


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
        _check_count(num_groups, points.shape[0])
    squared = squared_distances(points)
    different = len(_first_equal(squared).unique())
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
        weights = _mean_weights(labels, num_groups)
        inside = torch.nn.functional.one_hot(labels, num_groups).double()
        if method == "memberships":
            inside = memberships(places, centres, fuzzifier)
        elif method == "fuzzy":
            inside = fuzzy_c_means(places, centres, fuzzifier=fuzzifier).memberships
            weights = _fuzzy_weights(inside, fuzzifier)
    labels = inside.argmax(1)
    quality = math.nan
    if len(labels.unique()) > 1:
        clear = coordinates(squared, noise=False)
        quality = float(silhouette(torch.cdist(clear, clear), labels).mean())
    return Clusters(inside, labels, weights, quality, count)


def check_fuzzifier(fuzzifier: float) -> None:
    """Raise a ValueError unless it is > 1 and finite."""
    if not 1 < fuzzifier < math.inf:
        raise ValueError(f"`fuzzifier` must be > 1 and finite, found {fuzzifier}.")


def _check_count(num_groups: int, num_tasks: int) -> None:
    if not 1 <= num_groups <= num_tasks:
        raise ValueError(
            f"The number of groups must be from 1 to the number of tasks, {num_tasks}, found"
            f" {num_groups}."
        )
