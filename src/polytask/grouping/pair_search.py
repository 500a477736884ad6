"""Good groups for many tasks, where a task's score is the mean of what its partners do for it.

Shape legend: T tasks, k groups.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

__all__ = ["PairSearch"]

Array = NDArray[np.float64]
Labels = NDArray[np.int64]

#: Up to this many tasks helpers are part of every move, which sorts 2 k + 1 columns of T numbers;
#: beyond it they are added to finished parts.
MANY_TASKS = 64
#: Up to this many tasks exchanges of two tasks are tried when no single move helps.
EXCHANGE_TASKS = 300
#: Sweeps over all tasks before a descent is cut short; in practice 5 to 20 are enough.
MOST_SWEEPS = 100


class PairSearch:
    """Local search over the parts that are served together; the helpers of a part are optimal.

    A part P with helpers H scores, over its tasks,

        f(P, H) = (w(P) + sum over h in H of c_h(P)) / (|P| + |H| - 1),

    with w(P) the sum of A_ij over ordered pairs of P and c_h(P) = sum over j in P of A_hj. For a
    given number of helpers the best are those with the largest c_h, so f(P) = max over H is found
    by one sort. A sweep takes every task to the part where it raises the sum of f most.

    Args:
        matrix: A ``[T, T]``, entry (i, j): what i does for j; its diagonal is 0.
        alone: ``[T]``, scores without partners.
        num_groups: The most parts.
        seed: Fixes random starts and the order of sweeps.

    Cost: a sweep looks at T k moves, each in O(1) without and in O(T log T) with helpers, which are
        part of the moves up to ``MANY_TASKS``.
    """

    def __init__(self, matrix: Array, alone: Array, num_groups: int, seed: int) -> None:
        self.matrix = matrix
        self.alone = alone
        self.num_groups = num_groups
        self.random = np.random.default_rng(seed)
        # Rounding of sums of scores; a move that gains less could be undone by the next.
        self.least_gain = 1e-13 * max(float(np.abs(matrix).max()), float(np.abs(alone).max()))

    def best(self, restarts: int) -> NDArray[np.bool_]:
        """The best of several searches, as groups ``[k, T]``; a group may be empty.

        Starts alternate between spectral clusters, random parts, and the best parts so far with a
        tenth of the tasks moved at random.
        """
        top, parts = -np.inf, self._spectral()
        for start in range(max(1, restarts)):
            labels = self._start(start, parts)
            self._improve(labels)
            found = sum(self._with_helpers(labels, group)[0] for group in range(self.num_groups))
            if found > top + self.least_gain:
                top, parts = found, labels
        return np.stack([self._with_helpers(parts, group)[1] for group in range(self.num_groups)])

    def _start(self, start: int, parts: Labels) -> Labels:
        tasks = len(self.matrix)
        if start == 0:
            return parts.copy()
        if start % 3 == 1:
            return self.random.integers(self.num_groups, size=tasks)
        moved = self.random.choice(tasks, size=max(2, tasks // 10), replace=False)
        labels = parts.copy()
        labels[moved] = self.random.integers(self.num_groups, size=len(moved))
        return labels

    def _spectral(self) -> Labels:
        """Clusters of the leading eigenvectors of A + A^T: farthest-first centres, then Lloyd."""
        k = self.num_groups
        # PyTorch's is several times faster than NumPy's for a thousand tasks.
        _, vectors = torch.linalg.eigh(torch.from_numpy(self.matrix + self.matrix.T))
        points = vectors[:, -k:].numpy()
        points = points / np.maximum(np.linalg.norm(points, axis=1, keepdims=True), 1e-12)
        centres = points[[int(self.random.integers(len(points)))]]
        nearest = np.full(len(points), np.inf)
        while len(centres) < k:
            nearest = np.minimum(nearest, ((points - centres[-1]) ** 2).sum(1))
            centres = np.concatenate([centres, points[[int(nearest.argmax())]]])
        labels = np.zeros(len(points), dtype=np.int64)
        for _ in range(20):
            labels = (points @ centres.T - (centres**2).sum(1) / 2).argmax(1)
            counts = np.bincount(labels, minlength=k)
            sums = np.eye(k)[labels].T @ points
            centres = np.where(counts[:, None] > 0, sums / np.maximum(counts, 1)[:, None], centres)
        return labels

    def _improve(self, labels: Labels) -> None:
        """Sweep until nothing helps."""
        state = _Parts(self, labels)
        few = len(self.matrix) <= MANY_TASKS
        gains = state.helper_gains if few else state.part_gains
        for _ in range(MOST_SWEEPS):
            moved = False
            for task in self.random.permutation(len(labels)):
                gain = gains(int(task))
                group = int(gain.argmax())
                if gain[group] > self.least_gain:
                    state.move(int(task), group)
                    moved = True
            if not moved and (few or not (state.exchange() or state.regroup())):
                return

    def _with_helpers(self, labels: Labels, group: int) -> tuple[float, NDArray[np.bool_]]:
        """Score f of a part, and the part with its helpers ``[T]``."""
        inside = labels == group
        if not inside.any():
            return 0.0, inside
        helps = np.where(inside, -np.inf, self.matrix[:, inside].sum(1))
        order = np.argsort(-helps, kind="stable")
        within = float(self.matrix[np.ix_(inside, inside)].sum())
        found = _best_helpers(within, helps[order], inside.sum(), float(self.alone[inside].sum()))
        count = int(found.argmax())
        chosen = inside.copy()
        chosen[order[:count]] = True
        return float(found[count]), chosen


class _Parts:
    """A partition with the sums that make a move cheap; it edits ``labels`` in place."""

    def __init__(self, search: PairSearch, labels: Labels) -> None:
        self.search, self.labels = search, labels
        onehot = np.eye(search.num_groups)[labels]
        self.counts = onehot.sum(0)
        self.alone = onehot.T @ search.alone
        # does[h, g]: what task h does for part g; gets[j, g]: what part g does for task j.
        self.does = search.matrix @ onehot
        self.gets = search.matrix.T @ onehot
        self.within = (self.does * onehot).sum(0)

    def part_gains(self, task: int) -> Array:
        """By how much the sum of f without helpers rises if a task goes to each part ``[k]``."""
        pulls = self.does[task] + self.gets[task]
        alone = self.search.alone[task]
        here = self.labels[task]
        now = _part_score(self.within, self.counts, self.alone)
        joined = _part_score(self.within + pulls, self.counts + 1, self.alone + alone) - now
        left = _part_score(
            self.within[here] - pulls[here], self.counts[here] - 1, self.alone[here] - alone
        )
        gain = joined + (left - now[here])
        gain[here] = 0.0
        return np.asarray(gain)

    def helper_gains(self, task: int) -> Array:
        """By how much the sum of f rises if a task goes to each part ``[k]``."""
        k, here = self.search.num_groups, int(self.labels[task])
        pulls = self.does[task] + self.gets[task]
        alone = self.search.alone[task]
        # Rows 0 .. k-1 as they are, rows k .. 2k-1 with the task, the last without it.
        rows = np.concatenate([np.arange(k), np.arange(k), [here]])
        sign = np.repeat([0.0, 1.0, -1.0], [k, k, 1])
        helps = self.does.T[rows] + sign[:, None] * self.search.matrix[:, task]
        inside = self.labels[None, :] == rows[:, None]
        inside[:, task] = (sign > 0) | ((sign == 0) & (rows == here))
        helps[inside] = -np.inf
        helps = -np.sort(-helps, axis=1)
        scores = _best_helpers(
            self.within[rows] + sign * pulls[rows],
            helps,
            self.counts[rows] + sign,
            self.alone[rows] + sign * alone,
        ).max(1)
        gain = scores[k : 2 * k] - scores[:k] + (scores[-1] - scores[here])
        gain[here] = 0.0
        return np.asarray(gain)

    def move(self, task: int, group: int) -> None:
        """Take a task to a part."""
        here, matrix = self.labels[task], self.search.matrix
        pulls = self.does[task] + self.gets[task]
        for part, sign in ((here, -1.0), (group, 1.0)):
            self.within[part] += sign * pulls[part]
            self.counts[part] += sign
            self.alone[part] += sign * self.search.alone[task]
            self.does[:, part] += sign * matrix[:, task]
            self.gets[:, part] += sign * matrix[task]
        self.labels[task] = group

    def exchange(self) -> bool:
        """Make the best exchange of two tasks between parts, if one helps."""
        tasks = len(self.labels)
        if tasks > EXCHANGE_TASKS:
            return False
        matrix, labels, counts = self.search.matrix, self.labels, self.counts
        pulls = (self.does + self.gets)[:, labels]
        both = matrix + matrix.T
        # change[t, u]: of the sum within t's part, when u takes the place of t.
        change = pulls.T - np.diagonal(pulls)[:, None] - both
        sizes = np.maximum(counts[labels] - 1, 1)
        single = counts[labels] == 1
        alone = self.search.alone
        gain = np.where(single[:, None], alone[None, :] - alone[:, None], change / sizes[:, None])
        gain = gain + gain.T
        gain[labels[:, None] == labels[None, :]] = 0.0
        one, other = np.unravel_index(int(gain.argmax()), gain.shape)
        if gain[one, other] <= self.search.least_gain:
            return False
        first, second = int(labels[one]), int(labels[other])
        self.move(int(one), second)
        self.move(int(other), first)
        return True

    def regroup(self) -> bool:
        """Split one part in two and make one part of two others, if that helps: the way out of two
        clusters in one part and one cluster in two, which no move of single tasks leaves.
        """
        k = self.search.num_groups
        both = self.search.matrix + self.search.matrix.T
        onehot = np.eye(k)[self.labels]
        now = _part_score(self.within, self.counts, self.alone)
        merged = _part_score(
            self.within[:, None] + self.within + onehot.T @ both @ onehot,
            self.counts[:, None] + self.counts,
            self.alone[:, None] + self.alone,
        )
        loss = now[:, None] + now - merged
        np.fill_diagonal(loss, np.inf)
        best, change = self.search.least_gain, None
        for part in range(k):
            half = self._half(part, both)
            gain = sum(self._score_of(side) for side in half) - now[part]
            others = loss.copy()
            others[part], others[:, part] = np.inf, np.inf
            kept, freed = divmod(int(others.argmin()), k)
            if gain - others[kept, freed] > best:
                best, change = gain - others[kept, freed], (half[1], kept, freed)
        if change is None:
            return False
        moving, kept, freed = change
        for task, group in [(t, kept) for t in np.flatnonzero(self.labels == freed)] + [
            (t, freed) for t in moving
        ]:
            self.move(int(task), group)
        return True

    def _half(self, part: int, both: Array) -> tuple[Labels, Labels]:
        """A part in two by the sign of the leading eigenvector of its centred matrix."""
        tasks = np.flatnonzero(self.labels == part)
        if len(tasks) < 2:
            return tasks, tasks[:0]
        block = both[np.ix_(tasks, tasks)]
        centred = block - block.mean(0) - block.mean(1)[:, None] + block.mean()
        _, vectors = torch.linalg.eigh(torch.from_numpy(centred))
        first = vectors[:, -1].numpy() > 0
        return tasks[first], tasks[~first]

    def _score_of(self, tasks: Labels) -> float:
        """Score f of some tasks without helpers."""
        within = self.search.matrix[np.ix_(tasks, tasks)].sum()
        return float(_part_score(within, np.asarray(len(tasks)), self.search.alone[tasks].sum()))


def _part_score(within: Array, counts: Array, alone: Array) -> Array:
    """Score f of parts without helpers; an empty part scores 0."""
    shared = within / np.maximum(counts - 1, 1)
    return np.where(counts > 1, shared, np.where(counts == 1, alone, 0.0))


def _best_helpers(
    within: Array | float, helps: Array, counts: Array, alone: Array | float
) -> Array:
    """Score f for 0, 1, 2, ... helpers ``[..., T + 1]``.

    Args:
        within: w(P) ``[...]``.
        helps: c_h(P) in descending order ``[..., T]``; minus infinity for members.
        counts: |P| ``[...]``.
        alone: Sum of the members' scores alone ``[...]``.
    """
    counts = np.asarray(counts, dtype=np.float64)
    partners = counts[..., None] + np.arange(helps.shape[-1] + 1) - 1
    sums = np.cumsum(np.concatenate([np.asarray(within)[..., None], helps], axis=-1), axis=-1)
    found = sums / np.maximum(partners, 1)
    found[..., 0] = _part_score(np.asarray(within), counts, np.asarray(alone))
    # An empty part has nobody to serve, whoever helps.
    return np.where(counts[..., None] > 0, found, 0.0)
