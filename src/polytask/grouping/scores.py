"""How well every task would do in a set of tasks: predicted from pairs, or looked up in a table.

Shape legend: T tasks, S sets of tasks.
"""

from __future__ import annotations

from itertools import combinations

import torch
from torch import Tensor

from polytask.config import rebuildable_repr

__all__ = [
    "ALONE_UNKNOWN",
    "PairScores",
    "TableScores",
    "all_sets",
    "sets_of_size",
]

#: Score of a task alone where a method says nothing about that. It is the constant of TAG's network
#: selection: far below every affinity, so that a task is left alone only where no other choice
#: covers all tasks, and small enough that sums of it keep ten decimals of the affinities.
ALONE_UNKNOWN = -1e6


class PairScores:
    """A task's score in a set is the mean of what its partners do for it one by one.

    score(j, S) = mean over i in S, i != j, of A_ij, with A = ``matrix``; score(j, {j}) = a_j, with
    a = ``alone``. This is the higher-order approximation of Standley et al. where A holds results
    of pairs, and the group score of TAG where A holds affinities.

    Args:
        matrix: ``[T, T]``, entry (i, j): what training with task i does for task j, higher is
            better. The published tables hold the transpose. The diagonal is not looked at.
        alone: ``[T]``, a task's score without partners; None means ``ALONE_UNKNOWN`` for all.

    Raises:
        ValueError: Not square, or not finite.

    Cost: one product ``[S, T] @ [T, T]``.

    Example:
        >>> scores = PairScores(torch.tensor([[0.0, 0.5], [0.25, 0.0]]))
        >>> scores(torch.tensor([[True, True]])).tolist()
        [[0.25, 0.5]]

    References:
        Standley, Zamir, Chen, Guibas, Malik, Savarese: Which Tasks Should Be Learned Together in
        Multi-task Learning? ICML 2020, https://arxiv.org/abs/1905.07553 (section 6).
        Fifty, Amid, Zhao, Yu, Anil, Finn: Efficiently Identifying Task Groupings for Multi-Task
        Learning, NeurIPS 2021, https://arxiv.org/abs/2109.04617 (section 3.3).
    """

    def __init__(self, matrix: Tensor, alone: Tensor | None = None) -> None:
        matrix = torch.as_tensor(matrix).detach().to("cpu", torch.float64).clone()
        if matrix.dim() != 2 or matrix.shape[0] != matrix.shape[1] or len(matrix) == 0:
            raise ValueError(f"`matrix` must be [tasks, tasks], found shape {tuple(matrix.shape)}.")
        matrix.fill_diagonal_(0.0)
        for i, j in (~matrix.isfinite()).nonzero().tolist():
            raise ValueError(
                f"`matrix` must be finite off its diagonal, found {matrix[i, j]} for what task {i}"
                f" does for task {j}."
            )
        if alone is None:
            alone = torch.full((len(matrix),), ALONE_UNKNOWN)
        alone = torch.as_tensor(alone).detach().to("cpu", torch.float64)
        if alone.shape != (len(matrix),) or not bool(alone.isfinite().all()):
            raise ValueError(
                f"`alone` must hold {len(matrix)} finite scores, found {alone.tolist()}."
            )
        self.matrix = matrix
        self.alone = alone

    def __repr__(self) -> str:
        return rebuildable_repr(self)

    def __call__(self, masks: Tensor) -> Tensor:
        """Scores ``[S, T]`` of sets ``[S, T]``; minus infinity outside."""
        inside = masks.to(torch.float64)
        partners = inside.sum(1, keepdim=True) - 1
        means = inside @ self.matrix / partners.clamp(min=1)
        return torch.where(partners < 1, self.alone, means).masked_fill(~masks, -torch.inf)


class TableScores:
    """Measured scores of known sets; a set that is not in the table scores minus infinity.

    Args:
        masks: ``[S, T]`` (bool), the known sets, each once.
        values: ``[S, T]``, higher is better; entries outside the sets are not looked at.

    Raises:
        ValueError: Shapes that differ, an empty set, a set that is given twice, or a score of a
            member that is not finite.
    """

    def __init__(self, masks: Tensor, values: Tensor) -> None:
        if masks.dim() != 2 or masks.dtype != torch.bool or masks.shape != values.shape:
            raise ValueError(
                "`masks` (bool) and `values` must both be [sets, tasks], found"
                f" {masks.dtype} {tuple(masks.shape)} and {tuple(values.shape)}."
            )
        values = values.detach().to("cpu", torch.float64).masked_fill(~masks, -torch.inf)
        for row, task in (masks & ~values.isfinite()).nonzero().tolist():
            raise ValueError(
                f"`values` must be finite inside the sets, found {values[row, task]} for task"
                f" {task} in row {row}."
            )
        if not bool(masks.any(1).all()):
            raise ValueError("`masks` has an empty row; leave it out.")
        self.masks = masks
        self.values = values
        self._rows = {key: row for row, key in enumerate(_keys(masks))}
        if len(self._rows) < len(masks):
            raise ValueError("`masks` gives a set twice; keep one row of each.")

    def __repr__(self) -> str:
        return f"TableScores({len(self.masks)} sets of {self.masks.shape[1]} tasks)"

    def __call__(self, masks: Tensor) -> Tensor:
        """Scores ``[S, T]`` of sets ``[S, T]``; minus infinity outside and for unknown sets."""
        rows = torch.tensor([self._rows.get(key, -1) for key in _keys(masks)], dtype=torch.int64)
        found = self.values[rows.clamp(min=0)]
        return found.masked_fill((rows < 0)[:, None], -torch.inf)


def all_sets(num_tasks: int) -> Tensor:
    """All non-empty sets ``[2^T - 1, T]``; row r holds the binary digits of r + 1, task 0 first."""
    codes = torch.arange(1, 2**num_tasks)
    return (codes[:, None] >> torch.arange(num_tasks) & 1).bool()


def sets_of_size(num_tasks: int, size: int) -> Tensor:
    """All sets ``[S, T]`` of so many tasks, in lexicographic order."""
    chosen = torch.tensor(list(combinations(range(num_tasks), size)), dtype=torch.int64)
    masks = torch.zeros(len(chosen), num_tasks, dtype=torch.bool)
    return masks.scatter_(1, chosen.reshape(-1, size), True)


def _keys(masks: Tensor) -> list[bytes]:
    return [row.tobytes() for row in masks.cpu().numpy()]
