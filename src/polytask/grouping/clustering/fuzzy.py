"""Soft groups: memberships by the distances to given centres, and fuzzy c-means.

Shape legend: T tasks, P numbers per task, m groups.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = [
    "FuzzyMeans",
    "check_fuzzifier",
    "fuzzy_c_means",
    "fuzzy_weights",
    "memberships",
]


class FuzzyMeans(NamedTuple):
    """Centres ``[m, P]``, the memberships ``[T, m]`` that they are the means by, and the number of
    turns, the first included.
    """

    centres: Tensor
    memberships: Tensor
    rounds: int


def memberships(points: Tensor, centres: Tensor, fuzzifier: float = 2.0) -> Tensor:
    """How much each point belongs to each centre: the nearer, the more.

    ``w_ij = d_ij^(-2/(F-1)) / sum_k d_ik^(-2/(F-1))`` with ``d_ij = ||x_i - c_j||``, computed as
    the softmax over j of ``-2/(F-1) log d_ij``, which does not overflow for F near 1. A point on a
    centre, up to the rounding of a mean of T points, belongs to it wholly, on several centres
    equally. The unit of the points is irrelevant.

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
    # A centre that is the mean of equal points misses them by rounding: a mean of T equal numbers
    # is off by (T + 1) eps / 2 of them at most, the division above by eps / 2 on either side.
    rounding = 2 * points.shape[-2] * torch.finfo(torch.float64).eps
    sizes = torch.linalg.vector_norm(points / unit, dim=-1, keepdim=True)
    touching = distances <= rounding * sizes
    logits = torch.where(touching, 1.0, distances).log() * (-2 / (fuzzifier - 1))
    shared = touching.double() / touching.sum(-1, keepdim=True).clamp_min(1)
    return torch.where(touching.any(-1, keepdim=True), shared, logits.softmax(-1))


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
        updated = fuzzy_weights(inside, fuzzifier) @ points
        moved = (updated - centres).square().sum()
        centres = updated
    return FuzzyMeans(centres, inside, turns)


def fuzzy_weights(inside: Tensor, fuzzifier: float) -> Tensor:
    """``[m, T]``: ``w_ij^F / sum_i w_ij^F``, also where all powers would be 0 in float64."""
    return (fuzzifier * inside.T.log()).softmax(1)


def check_fuzzifier(fuzzifier: float) -> None:
    """Raise a ValueError unless it is > 1 and finite."""
    if not 1 < fuzzifier < math.inf:
        raise ValueError(f"`fuzzifier` must be > 1 and finite, found {fuzzifier}.")
