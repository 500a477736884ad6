"""Good groups where a set's scores are not a formula: any predictor, or a table of known sets.

Shape legend: T tasks, S sets, k groups.
"""

from __future__ import annotations

import torch
from torch import Tensor

from polytask.grouping.base import GroupScores

__all__ = ["SetSearch", "best_rows"]

#: A sum of T scores is rounded by less than this share of the largest of them.
ROUNDING = 1e-12


class SetSearch:
    """Local search over k overlapping sets by putting tasks in, taking them out and moving them.

    All T neighbours of a set are scored in one call. When no single change helps, every task is
    tried as a move between two sets, which needs no further scores.

    Args:
        scores: Of any set.
        num_tasks: T.
        num_groups: k.
        seed: Fixes random starts.

    Cost: T sets are scored per change; k T at every start.
    """

    def __init__(self, scores: GroupScores, num_tasks: int, num_groups: int, seed: int) -> None:
        self.scores = scores
        self.num_tasks = num_tasks
        self.num_groups = num_groups
        self.generator = torch.Generator().manual_seed(seed)

    def best(self, first: Tensor, restarts: int) -> Tensor:
        """The best groups ``[k, T]`` of several searches.

        Args:
            first: The groups ``[k, T]`` that the first search starts from. The others start from
                random parts and, in turn, from the best groups so far with random changes.
            restarts: Searches.
        """
        top, groups = -torch.inf, first
        for start in range(max(1, restarts)):
            found = self._improve(self._start(start, groups))
            worth = float(_worth(self._score(found).amax(0)))
            if start == 0 or worth > top:
                top, groups = worth, found
        return groups

    def _start(self, start: int, groups: Tensor) -> Tensor:
        if start == 0:
            return groups.clone()
        if start % 3 == 1:
            labels = torch.randint(self.num_groups, (self.num_tasks,), generator=self.generator)
            return labels == torch.arange(self.num_groups)[:, None]
        flips = torch.rand(groups.shape, generator=self.generator) < 2 / self.num_tasks
        return groups ^ flips

    def _improve(self, groups: Tensor) -> Tensor:
        values = self._score(groups)
        nearby = torch.stack([self._neighbours(group) for group in groups])
        while True:
            now = _worth(values.amax(0))
            least = ROUNDING * self.num_tasks * max(1.0, abs(float(now)))
            changed = self._toggle(values, nearby, float(now) + least)
            changed = changed or self._transfer(values, nearby, float(now) + least)
            if not changed:
                return groups
            for group, task in changed:
                groups[group, task] = ~groups[group, task]
                values[group] = nearby[group, task]
            for group, _ in changed:
                nearby[group] = self._neighbours(groups[group])

    def _toggle(self, values: Tensor, nearby: Tensor, least: float) -> list[tuple[int, int]]:
        """The best single change, if it is worth more than ``least``."""
        worth = torch.stack(
            [_worth(torch.maximum(_others(values, g), nearby[g])) for g in range(len(values))]
        )
        group, task = divmod(int(worth.argmax()), self.num_tasks)
        return [(group, task)] if worth[group, task] > least else []

    def _transfer(self, values: Tensor, nearby: Tensor, least: float) -> list[tuple[int, int]]:
        """The best change of one task in two sets, if it is worth more than ``least``."""
        top, changed = least, []
        for a in range(len(values)):
            for b in range(a):
                both = torch.maximum(nearby[a], nearby[b])
                worth = _worth(torch.maximum(_others(values, a, b), both))
                task = int(worth.argmax())
                if worth[task] > top:
                    top, changed = float(worth[task]), [(a, task), (b, task)]
        return changed

    def _neighbours(self, group: Tensor) -> Tensor:
        """Scores ``[T, T]`` of the set with each task put in or taken out."""
        return self._score(group ^ torch.eye(self.num_tasks, dtype=torch.bool))

    def _score(self, masks: Tensor) -> Tensor:
        """Scores of sets that may be empty."""
        values = torch.full(masks.shape, -torch.inf, dtype=torch.float64)
        filled = masks.any(1)
        if bool(filled.any()):
            values[filled] = self.scores(masks[filled]).to("cpu", torch.float64)
        return values


def best_rows(values: Tensor, num_groups: int, *, seed: int, restarts: int) -> Tensor:
    """The best k of many known sets: exchange one at a time for the best other one.

    Args:
        values: ``[S, T]``, minus infinity outside the sets.
        num_groups: k.
        seed: Fixes random starts; the first start is greedy.
        restarts: Searches.

    Returns:
        Rows ``[k]``.
    """
    generator = torch.Generator().manual_seed(seed)
    top, best = -torch.inf, torch.zeros(num_groups, dtype=torch.int64)
    for start in range(max(1, restarts)):
        rows = torch.randint(len(values), (num_groups,), generator=generator)
        chosen = values[rows] if start else torch.full_like(values[rows], -torch.inf)
        worth, before = -torch.inf, None
        while before is None or worth > before + ROUNDING * values.shape[1] * max(1, abs(before)):
            before = worth
            for group in range(num_groups):
                found = _worth(torch.maximum(_others(chosen, group), values))
                rows[group] = found.argmax()
                chosen[group] = values[rows[group]]
            worth = float(_worth(chosen.amax(0)))
        if start == 0 or worth > top:
            top, best = worth, rows
    return best


def _worth(best: Tensor) -> Tensor:
    """Sum of each task's best score ``[..., T]``; a task without any outweighs all scores."""
    return torch.where(best == -torch.inf, -1e9, best).sum(-1)


def _others(values: Tensor, *groups: int) -> Tensor:
    """Each task's best score ``[T]`` outside some groups."""
    kept = [row for row in range(len(values)) if row not in groups]
    if not kept:
        return torch.full(values.shape[1:], -torch.inf, dtype=values.dtype)
    return values[kept].amax(0)
