"""Which of the networks at hand to keep under a budget, exactly.

Shape legend: K networks, T tasks.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from polytask.grouping.scores import PairScores

__all__ = ["Selection", "hoa_table", "select_networks"]

Array = NDArray[np.float64]
Indices = NDArray[np.int64]
Flags = NDArray[np.bool_]

#: Losses that differ by less than this share are equal.
ROUNDING = 1e-12
#: A choice may cost this share more than the budget: ten costs of 0.1, in single precision, fit
#: into a budget of 1.
BUDGET_ROUNDING = 1e-6


@dataclass(frozen=True, eq=False)
class Selection:
    """The networks to keep.

    Args:
        chosen: Indices of the networks, ascending.
        total: Sum of the tasks' losses.
        per_task: ``[T]``, each task's lowest loss among the chosen networks.
        networks: ``[T]``, the network that has it.
    """

    chosen: tuple[int, ...]
    total: float
    per_task: Tensor
    networks: Tensor


def select_networks(losses: Tensor, costs: Tensor, budget: float) -> Selection:
    """Choose networks of limited total cost with the lowest sum of the tasks' losses.

    minimise over sets C of networks: sum over t of min over c in C of L[c, t], subject to the sum
    of the costs in C being at most ``budget``. Exact branch and bound: a branch is cut if even
    (a) every task's lowest loss among the networks that still fit, or (b) the largest falls per
    cost, as if falls added up and networks could be kept in part, are no better than what is known.

    Args:
        losses: ``[K, T]``; NaN or infinity for a task that a network does not have.
        costs: ``[K]``, greater than 0.
        budget: The most that all chosen networks may cost together.

    Raises:
        ValueError: Shapes that do not fit, costs that are not positive, or a budget that is too
            small to cover all tasks.

    Cost: exponential at worst; milliseconds for all networks of five tasks (K = 36), seconds to
        minutes for those of ten (K = 1033).

    Example:
        >>> losses = torch.tensor([[3.0, 3.0], [1.0, torch.nan], [torch.nan, 1.0]])
        >>> select_networks(losses, torch.tensor([1.0, 1.0, 1.0]), 2).chosen
        (1, 2)

    References:
        Standley et al.: Which Tasks Should Be Learned Together in Multi-task Learning? ICML 2020,
        https://arxiv.org/abs/1905.07553 (section 5).
    """
    table = losses.detach().to("cpu", torch.float64)
    prices = torch.as_tensor(costs).detach().to("cpu", torch.float64)
    if table.dim() != 2 or prices.shape != table.shape[:1]:
        raise ValueError(
            "`losses` must be [networks, tasks] and `costs` [networks], found shapes"
            f" {tuple(table.shape)} and {tuple(prices.shape)}."
        )
    if not bool(((prices > 0) & prices.isfinite()).all()):
        raise ValueError(f"`costs` must be > 0 and finite, found {prices.tolist()}.")
    table = torch.where(table.isnan(), torch.inf, table)
    search = _Selector(table.numpy(), prices.numpy(), budget)
    chosen = sorted(search.best())
    if not chosen or bool((table[chosen].amin(0) == torch.inf).any()):
        raise ValueError(
            f"A budget of {budget} is too small to cover all {table.shape[1]} tasks; raise it or"
            " add networks."
        )
    per_task, rows = table[chosen].min(0)
    return Selection(tuple(chosen), float(per_task.sum()), per_task, torch.tensor(chosen)[rows])


def hoa_table(losses: Tensor) -> Tensor:
    """Predict networks of more than two tasks from networks of two (higher-order approximation).

    L_t(S) = mean over j in S, j != t, of L_t({t, j}); networks of one and two tasks stay.

    Args:
        losses: ``[K, T]``; NaN or infinity for a task that a network does not have. The entries of
            networks of three and more tasks only say which tasks they have. A pair that is there
            twice counts with its mean.

    Raises:
        ValueError: A pair that a larger network needs is missing.

    References:
        Standley et al.: Which Tasks Should Be Learned Together in Multi-task Learning? ICML 2020
        (section 6).
    """
    table = losses.detach().to("cpu", torch.float64)
    inside = table.isfinite()
    sums = torch.zeros(table.shape[1], table.shape[1], dtype=torch.float64)
    counts = torch.zeros_like(sums)
    for row in (inside.sum(1) == 2).nonzero().flatten().tolist():
        i, j = inside[row].nonzero().flatten().tolist()
        sums[i, j] += table[row, j]
        sums[j, i] += table[row, i]
        counts[i, j] += 1
        counts[j, i] += 1
    larger = inside.sum(1) > 2
    needed = (inside[larger].to(torch.float64).T @ inside[larger].to(torch.float64)) > 0
    for i, j in (needed & (counts == 0)).fill_diagonal_(False).nonzero().tolist():
        raise ValueError(f"`losses` has no network of tasks {i} and {j} alone; add this pair.")
    predicted = PairScores(sums / counts.clamp(min=1))(inside)
    return torch.where(larger[:, None] & inside, predicted, table)


class _Selector:
    """Depth-first branch and bound over the networks, largest fall per cost first.

    A task that is not covered yet counts with the largest loss that it can have in a choice better
    than the greedy one: all others at their lowest loss, the rest is its own. Losses above that are
    as good as none. This keeps the bounds near the losses that matter; that all tasks are covered
    is asked of every choice on top of it.
    """

    def __init__(self, losses: Array, costs: Array, budget: float) -> None:
        self.losses, self.costs = losses, costs
        self.budget = budget * (1 + BUDGET_ROUNDING)
        self.top = np.inf
        self.chosen: list[int] = []

    def best(self) -> list[int]:
        """Indices of the best networks, none of which could be left out; none where a budget is too
        small.
        """
        self._greedy()
        lowest = self.losses.min(0)
        largest = np.where(np.isfinite(self.losses), self.losses, -np.inf).max(0)
        if not np.isfinite(lowest).all():
            return []
        caps = np.minimum(largest, self.top - (lowest.sum() - lowest))
        caps = np.maximum(caps, lowest)
        self.inside = self.losses <= caps + ROUNDING * np.abs(caps)
        self.filled = np.where(self.inside, np.minimum(self.losses, caps), caps)
        nothing = np.zeros(len(lowest), dtype=bool)
        self._branch([], caps, nothing, self.budget, self._undominated())
        for network in sorted(self.chosen, key=lambda k: -self.costs[k]):
            rest = [k for k in self.chosen if k != network]
            if rest and (self.losses[rest].min(0) <= self.losses[network]).all():
                self.chosen = rest
        return self.chosen

    def _greedy(self) -> None:
        """A first choice: cover the most tasks per cost, then lower the total most per cost."""
        now, left = np.full(self.losses.shape[1], np.inf), self.budget
        chosen: list[int] = []
        while True:
            after = np.minimum(now, self.losses)
            covers = (np.isfinite(after).sum(1) - np.isfinite(now).sum()) / self.costs
            known = np.isfinite(now)
            falls = (np.where(known, now, 0.0) - np.where(known, after, 0.0)).sum(1) / self.costs
            sums = np.where(np.isfinite(after), after, 0.0).sum(1)
            fits = (self.costs <= left) & ((covers > 0) | (falls > 0))
            if not fits.any():
                break
            k = int(np.lexsort((sums, -falls, -covers, ~fits))[0])
            now, left, chosen = after[k], left - self.costs[k], [*chosen, k]
        if np.isfinite(now).all():
            self.top, self.chosen = float(now.sum()), chosen

    def _undominated(self) -> Indices:
        """Networks that no other one equals or beats in all losses and in cost."""
        filled, inside, costs = self.filled, self.inside, self.costs
        kept = []
        for k in range(len(costs)):
            as_good = (filled <= filled[k]).all(1) & (inside >= inside[k]).all(1)
            better = as_good & (costs <= costs[k])
            equal = better & (filled == filled[k]).all(1) & (inside == inside[k]).all(1)
            equal &= costs == costs[k]
            # Of equal networks the first one stays.
            equal[:k] = False
            if not (better & ~equal).any():
                kept.append(k)
        return np.array(kept, dtype=np.int64)

    def _branch(
        self, chosen: list[int], now: Array, covered: Flags, left: float, candidates: Indices
    ) -> None:
        """Extend a choice by every network that still fits and helps."""
        candidates = candidates[self.costs[candidates] <= left]
        falls = np.maximum(now - self.filled[candidates], 0.0)
        useful = (falls.sum(1) > 0) | (self.inside[candidates] & ~covered).any(1)
        candidates, falls = candidates[useful], falls[useful]
        if not len(candidates):
            return
        costs, fall, total = self.costs[candidates], falls.sum(1), float(now.sum())
        order = np.argsort(-fall / costs, kind="stable")
        candidates, falls, costs, fall = candidates[order], falls[order], costs[order], fall[order]
        ends = (covered | self.inside[candidates]).all(1)
        last = int(np.where(ends, fall, -1.0).argmax())
        if ends[last] and total - fall[last] < self.top:
            self.top = total - float(fall[last])
            self.chosen = [*chosen, int(candidates[last])]
        # What the networks after each one could add: by their best fall per cost (the next one's,
        # as they are sorted), and by every task's largest fall among them.
        rate = np.append((fall / costs)[1:], 0.0)
        later = np.maximum.accumulate(falls[::-1])[::-1]
        later = np.append(later[1:], np.zeros_like(later[:1]), axis=0)
        most = np.minimum(fall + rate * (left - costs), np.maximum(falls, later).sum(1))
        most[left - costs < costs.min()] = -np.inf
        for k in np.flatnonzero(total - most < self.top):
            if total - most[k] < self.top:
                network = candidates[k]
                self._branch(
                    [*chosen, int(network)],
                    np.minimum(now, self.filled[network]),
                    covered | self.inside[network],
                    left - costs[k],
                    candidates[k + 1 :],
                )
