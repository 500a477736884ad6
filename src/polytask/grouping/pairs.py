"""Affinities from a matrix of pairs of tasks.

Shape legend: T tasks.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from polytask.grouping.base import Affinity
from polytask.grouping.grouping import GroupingCost
from polytask.grouping.scores import PairScores
from polytask.problems.problem import Problem

__all__ = ["pair_affinity", "too_few_tasks"]


def pair_affinity(
    tasks: Sequence[str],
    matrix: Tensor,
    *,
    cost: GroupingCost,
    alone: float | Tensor | None = None,
    notes: Sequence[str] = (),
) -> Affinity:
    """An affinity from a matrix of pairs.

    Args:
        tasks: Names, in order.
        matrix: ``[T, T]``, entry (i, j): what task i does for task j; NaN where that is not known,
            which counts as 0, no effect.
        cost: What it took.
        alone: A task's score without partners, one for all or ``[T]``; None as ``PairScores``.
        notes: For the reader.
    """
    known = matrix.detach().to("cpu", torch.float64)
    off = ~torch.eye(len(tasks), dtype=torch.bool)
    unknown = int((known.isnan() & off).sum())
    said = list(notes)
    if unknown:
        pairs = len(tasks) * (len(tasks) - 1)
        said.append(f"{unknown} of {pairs} ordered pairs of tasks are unknown; they count as 0.")
    if alone is not None:
        alone = torch.as_tensor(alone, dtype=torch.float64).expand(len(tasks))
    scores = PairScores(known.nan_to_num(nan=0.0), alone)
    return Affinity(tuple(tasks), scores, known, cost, tuple(said))


def too_few_tasks(problem: Problem) -> str | None:
    """Why a problem of one task has no pairs, or None if there are some."""
    if len(problem.tasks) >= 2:
        return None
    return f"Grouping by pairs needs at least two tasks, found {len(problem.tasks)}."
