"""The best groups for few tasks, exactly, by dynamic programming over subsets.

Sets are integers here: bit t is task t.

Shape legend: n tasks, k groups, C sets of one size s.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

__all__ = ["SubsetSearch"]

#: Subsets that are looked at in one go: 8 MiB per column of numbers.
CHUNK = 2**20


class SubsetSearch:
    """The best choice of at most k overlapping groups, for every k.

    Every task of a choice is served by one of its groups, so a choice is a partition of the tasks
    into the parts P that are served together, each with the best set that trains all of P::

        f(P)   = max over S containing P of sum over j in P of V[S, j]
        g_1(P) = f(P),   g_k(P) = max over Q in P of f(Q) + g_(k-1)(P - Q)

    and g_k(all tasks) is the largest possible sum of scores. Unlike branch and bound this takes the
    same time on every table.

    Args:
        values: V ``[2^n, n]``, score of task j in set S; minus infinity outside and for sets that
            are not to be had. Row 0, the empty set, is not looked at.

    Cost: 3^n additions for f and half as many for every k beyond 2; memory 2^n numbers per k.
    """

    def __init__(self, values: Tensor) -> None:
        self.values = values
        self.num_tasks = values.shape[1]
        self._sizes = _bits(torch.arange(len(values)), self.num_tasks).sum(1)
        self._parts = [self._serve()]

    def groups(self, num_groups: int) -> Tensor:
        """The sets ``[m]`` of the best choice of at most so many groups, m <= ``num_groups``; none
        where no choice covers all tasks.
        """
        while len(self._parts) < num_groups - 1:
            self._parts.append(self._split())
        everyone = 2**self.num_tasks - 1
        left, parts = everyone, []
        for level in range(num_groups - 1, 0, -1):
            part = self._best_part(left, self._parts[level - 1])
            parts.append(part)
            left -= part
            if left == 0:
                break
        if left:
            parts.append(left)
        chosen = [self._best_set(part) for part in parts]
        if -1 in chosen:
            return torch.empty(0, dtype=torch.int64)
        return torch.tensor(sorted(set(chosen)))

    def _serve(self) -> Tensor:
        """Tabulate f for all parts ``[2^n]``."""
        best = torch.full((2**self.num_tasks,), -torch.inf, dtype=torch.float64)
        for codes, members in self._sets_by_size():
            subsets = torch.zeros(len(codes), 1, dtype=torch.int64)
            sums = torch.zeros(len(codes), 1, dtype=torch.float64)
            for column in members.unbind(1):
                score = self.values[codes, column][:, None]
                subsets = torch.cat([subsets, subsets + (1 << column)[:, None]], 1)
                sums = torch.cat([sums, sums + score], 1)
            best.scatter_reduce_(0, subsets.flatten(), sums.flatten(), "amax")
        return best

    def _split(self) -> Tensor:
        """Tabulate g of the next level ``[2^n]`` from the last one."""
        serve, before = self._parts[0], self._parts[-1]
        best = before.clone()
        for codes, members in self._sets_by_size():
            # The part with the lowest task is as good a first part as any other.
            subsets = (1 << members[:, 0])[:, None]
            for column in members.unbind(1)[1:]:
                subsets = torch.cat([subsets, subsets + (1 << column)[:, None]], 1)
            rest = codes[:, None] - subsets
            best[codes] = torch.maximum(best[codes], (serve[subsets] + before[rest]).amax(1))
        return best

    def _best_part(self, tasks: int, before: Tensor) -> int:
        """The part Q of some tasks to serve together, the rest being left to the level before."""
        subsets = torch.tensor([tasks & -tasks])
        for bit in range(self.num_tasks):
            if tasks >> bit & 1 and 1 << bit != tasks & -tasks:
                subsets = torch.cat([subsets, subsets + (1 << bit)])
        rest = tasks - subsets
        found = self._parts[0][subsets] + before[rest]
        return int(subsets[self._first_best(found, self._sizes[rest])])

    def _best_set(self, part: int) -> int:
        """The set that serves a part best, the smallest of equals; -1 where there is none."""
        codes = torch.arange(len(self.values))
        codes = codes[codes & part == part]
        served = _bits(torch.tensor([part]), self.num_tasks)[0]
        found = self.values[codes][:, served].sum(1)
        if not bool((found > -torch.inf).any()):
            return -1
        return int(codes[self._first_best(found, self._sizes[codes])])

    @staticmethod
    def _first_best(found: Tensor, sizes: Tensor) -> int:
        """Index of the largest entry; among those that differ by rounding only, of the smallest
        size.
        """
        top = float(found.max())
        if top == -torch.inf:
            return 0
        equal = found >= top - 1e-13 * max(1.0, abs(top))
        return int(sizes.masked_fill(~equal, torch.iinfo(sizes.dtype).max).argmin())

    def _sets_by_size(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Sets of one size ``[C]`` with their members ``[C, s]``, few enough to look at all subsets
        at once.
        """
        for size in range(1, self.num_tasks + 1):
            codes = (self._sizes == size).nonzero().flatten()
            for chunk in codes.split(max(1, CHUNK // 2**size)):
                members = _bits(chunk, self.num_tasks).nonzero()[:, 1].reshape(-1, size)
                yield chunk, members


def _bits(codes: Tensor, num_tasks: int) -> Tensor:
    return (codes[:, None] >> torch.arange(num_tasks) & 1).bool()
