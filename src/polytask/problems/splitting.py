"""Training, validation and test rows: stratified over all targets, by groups, or as told.

Shape legend: N rows, T targets, L labels (a label is one class, or one quantile bin, of one
target), G groups.

Strata are given as whole numbers ``[N, T]``: class or bin of every target, -1 where the label is
missing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

__all__ = [
    "SplitPlan",
    "grouped_split",
    "missing_from_training",
    "named_split",
    "quantile_bins",
    "stratified_split",
]

PART_NAMES = ("train", "validation", "test")
#: Parts in the order in which they get a row: a class must be learned before it can be tested.
PRIORITY = (0, 2, 1)
#: Quantile bins of a regression target, and the fewest labels that each should hold.
BINS = 5
FEWEST_IN_BIN = 10
#: Draws of a grouped split before it is given up to have every class in training.
ATTEMPTS = 20
#: Targets whose labels order the rows of a label before they are dealt out.
SORT_TARGETS = 16
WORDS = {
    "train": "train", "training": "train", "fit": "train",
    "validation": "validation", "val": "validation", "valid": "validation", "dev": "validation",
    "test": "test", "testing": "test", "holdout": "test",
}  # fmt: skip

Rows = dict[str, np.ndarray]


@dataclass(frozen=True, kw_only=True)
class SplitPlan:
    """How rows become training, validation and test rows.

    Args:
        fractions: Shares of the three parts.
        by: A column of groups that no two parts may share (patients, households); it is not an
            input.
        column: A column that says train, validation or test for every row; it is not an input.
            Without any validation row, some of the training rows become that.
    """

    fractions: tuple[float, float, float] = (0.6, 0.2, 0.2)
    by: str | None = None
    column: str | None = None

    def __post_init__(self) -> None:
        fractions = tuple(self.fractions)
        if len(fractions) != 3 or min(fractions) <= 0 or abs(sum(fractions) - 1) > 1e-6:
            raise ValueError(
                "`fractions` must be three positive shares that add up to 1, found"
                f" {self.fractions}."
            )
        if self.by is not None and self.column is not None:
            raise ValueError(
                f"Rows are split by the groups of {self.by!r} or as {self.column!r} says, not"
                " both; give one of them."
            )


def quantile_bins(values: np.ndarray, bins: int = BINS) -> np.ndarray:
    """Bins ``[N]`` of equally many values (fewer where values repeat or are few); -1 for NaN."""
    present = ~np.isnan(values)
    codes = np.full(len(values), -1, dtype=np.int64)
    if present.any():
        bins = max(1, min(bins, int(present.sum()) // FEWEST_IN_BIN))
        edges = np.unique(np.quantile(values[present], np.linspace(0, 1, bins + 1)[1:-1]))
        codes[present] = np.searchsorted(edges, values[present], side="right")
    return codes


def stratified_split(strata: np.ndarray, fractions: Sequence[float], seed: int) -> Rows:
    """Rows of each part, with the labels of all targets in the same shares.

    Iterative stratification: again and again the label with the fewest undealt rows is taken and
    its rows are dealt out to the parts that still lack it. Before that they are sorted by their
    other labels, so that those are spread evenly too. Every label gets a training row first, then a
    test row, then a validation row; a label of a single row is in training.

    Args:
        strata: ``[N, T]``.
        fractions: Shares of training, validation and test.
        seed: Equal seeds give equal splits.

    Cost: O(N T log N) plus O(N) per label.

    References:
        Sechidis, Tsoumakas, Vlahavas. On the stratification of multi-label data. ECML PKDD 2011,
        algorithm 1 (which deals out single rows).
    """
    strata = np.asarray(strata, dtype=np.int64).reshape(len(strata), -1)
    rng = np.random.default_rng(seed)
    labels, counts = _label_matrix(strata)
    part = np.full(len(strata), -1, dtype=np.int64)
    wanted = np.array([_quota(int(count), fractions) for count in counts]).reshape(-1, 3)
    left = counts.copy()
    shuffled = rng.permutation(len(strata))
    order = (
        shuffled[np.lexsort(strata[shuffled][:, :SORT_TARGETS].T)] if strata.shape[1] else shuffled
    )
    rank = np.empty(len(strata), dtype=np.int64)
    rank[order] = np.arange(len(strata))
    while left.any():
        label = int(np.where(left > 0, left, len(strata) + 1).argmin())
        rows = np.flatnonzero((labels == label).any(1) & (part < 0))
        rows = rows[np.argsort(rank[rows], kind="stable")]
        chosen = _deal(len(rows), wanted[label], fractions, rng)
        part[rows] = chosen
        for i in range(3):
            taken = labels[rows[chosen == i]]
            wanted[:, i] -= np.bincount(taken[taken >= 0], minlength=len(counts))
        dealt = labels[rows]
        left -= np.bincount(dealt[dealt >= 0], minlength=len(counts))
    free = np.flatnonzero(part < 0)
    if len(free):
        open_places = _quota(len(strata), fractions) - np.bincount(part[part >= 0], minlength=3)
        part[rng.permutation(free)] = _deal(len(free), open_places, fractions, rng)
    _cover_training(part, labels, len(counts))
    return {name: np.flatnonzero(part == i) for i, name in enumerate(PART_NAMES)}


def grouped_split(
    groups: np.ndarray, strata: np.ndarray, fractions: Sequence[float], seed: int
) -> Rows:
    """Rows of each part such that no group is in two of them, with labels in similar shares.

    Groups come in random order; each goes to the part where the squared deviation of label shares
    from ``fractions`` grows least. Up to ``ATTEMPTS`` orders are tried until every label is in
    training.

    Args:
        groups: ``[N]`` values of any kind.
        strata: ``[N, T]``.
        fractions: Shares of training, validation and test.
        seed: Equal seeds give equal splits.

    Raises:
        ValueError: There are fewer than three groups.
    """
    values, codes = np.unique(groups, return_inverse=True)
    if len(values) < 3:
        raise ValueError(
            "Splitting by groups needs at least 3 different groups, one per part, found"
            f" {len(values)}"
            f" ({', '.join(map(repr, values.tolist()))}); split by another column."
        )
    labels, counts = _label_matrix(np.asarray(strata, dtype=np.int64).reshape(len(groups), -1))
    table = np.zeros((len(values), len(counts) + 1))
    table[:, -1] = np.bincount(codes, minlength=len(values))  # the rows themselves count as a label
    present = labels >= 0
    np.add.at(table, (np.broadcast_to(codes[:, None], labels.shape)[present], labels[present]), 1)
    shares = table / table.sum(0)
    best: tuple[int, np.ndarray] | None = None
    for attempt in range(ATTEMPTS):
        rng = np.random.default_rng([seed, attempt])
        part = _place_groups(shares, np.asarray(fractions), rng.permutation(len(values)))
        uncovered = int((shares[part == 0].sum(0) == 0).sum())
        if best is None or uncovered < best[0]:
            best = (uncovered, part)
        if uncovered == 0:
            break
    assert best is not None
    chosen = best[1][codes]
    return {name: np.flatnonzero(chosen == i) for i, name in enumerate(PART_NAMES)}


def named_parts(words: Sequence[object]) -> np.ndarray:
    """Part ``[N]`` of every row from the words of a column.

    Raises:
        ValueError: A value is no name of a part; there are no training or no test rows.
    """
    parts = np.array([WORDS.get(str(word).strip().lower(), "") for word in words])
    if (parts == "").any():
        row = int((parts == "").argmax())
        raise ValueError(
            f"The split column must say train, validation or test, found {str(words[row])!r} in"
            f" row {row + 1}."
        )
    for name in ("train", "test"):
        if not (parts == name).any():
            raise ValueError(
                f"The split column names no {name} rows; mark some rows with {name!r}."
            )
    return parts


def named_split(
    parts: np.ndarray, strata: np.ndarray, fractions: Sequence[float], seed: int
) -> Rows:
    """Rows of each part as told; without validation rows, some training rows become that."""
    rows = {name: np.flatnonzero(parts == name) for name in PART_NAMES}
    if not len(rows["validation"]):
        share = fractions[1] / (fractions[0] + fractions[1])
        inner = stratified_split(np.asarray(strata)[rows["train"]], (1 - share, share, 0.0), seed)
        rows["validation"] = rows["train"][inner["validation"]]
        rows["train"] = rows["train"][inner["train"]]
    return rows


def missing_from_training(codes: np.ndarray, rows: Mapping[str, np.ndarray]) -> dict[int, str]:
    """Classes (``codes [N]``) that training rows lack, and which part has them."""
    seen = set(codes[rows["train"]].tolist())
    found: dict[int, str] = {}
    for name in ("validation", "test"):
        for code in np.unique(codes[rows[name]]).tolist():
            if code >= 0 and code not in seen:
                found[code] = name
    return found


def _label_matrix(strata: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Labels ``[N, T]`` numbered through over all targets (-1: missing), and counts ``[L]``."""
    labels = np.full(strata.shape, -1, dtype=np.int64)
    start = 0
    for t in range(strata.shape[1]):
        present = strata[:, t] >= 0
        values, codes = np.unique(strata[present, t], return_inverse=True)
        labels[present, t] = codes + start
        start += len(values)
    return labels, np.bincount(labels[labels >= 0], minlength=start)


def _quota(count: int, fractions: Sequence[float]) -> np.ndarray:
    """Rows of each part, rounded: training has one first, then test, then validation."""
    shares = np.asarray(fractions, dtype=float)
    quota = _rounded(shares * count, count)
    for i in PRIORITY:
        largest = int(quota.argmax())
        if quota[i] == 0 and shares[i] > 0 and quota[largest] > 1:
            quota[i], quota[largest] = 1, quota[largest] - 1
    if quota[0] == 0 and count:
        quota[int(quota.argmax())] -= 1
        quota[0] = 1
    return quota


def _deal(
    count: int, wanted: np.ndarray, fractions: Sequence[float], rng: np.random.Generator
) -> np.ndarray:
    """Parts ``[count]`` for rows in order, as wanted, evenly interleaved."""
    need = np.maximum(wanted, 0).astype(float)
    if need.sum() == 0:
        need = np.asarray(fractions, dtype=float)
    whole = _rounded(need * (count / need.sum()), count)
    places = np.concatenate([(np.arange(n) + rng.random()) / n for n in whole if n])
    parts = np.repeat(np.arange(3), whole)
    result: np.ndarray = parts[np.argsort(places, kind="stable")]
    return result


def _rounded(shares: np.ndarray, count: int) -> np.ndarray:
    """Whole numbers that add up to ``count``: largest remainders, then training, then test."""
    whole = np.floor(np.round(shares, 9)).astype(np.int64)
    rest = np.round(shares - whole, 9)
    for i in sorted(PRIORITY, key=lambda part: -rest[part])[: count - int(whole.sum())]:
        whole[i] += 1
    return whole


def _cover_training(part: np.ndarray, labels: np.ndarray, num_labels: int) -> None:
    """Move one row of every label without a training row into training."""
    taken = labels[part == 0]
    covered = np.bincount(taken[taken >= 0], minlength=num_labels) > 0
    for label in np.flatnonzero(~covered):
        rows = np.flatnonzero((labels == label).any(1))
        if not (part[rows] == 0).any():
            part[rows[0]] = 0


def _place_groups(shares: np.ndarray, fractions: np.ndarray, order: np.ndarray) -> np.ndarray:
    """Part ``[G]`` of every group; every part has at least one."""
    have = np.zeros((3, shares.shape[1]))
    part = np.empty(len(shares), dtype=np.int64)
    for group in order:
        share = shares[group]
        growth = (share * (2 * (have - fractions[:, None]) + share)).sum(1)
        part[group] = int(growth.argmin())
        have[part[group]] += share
    for i in PRIORITY:
        if not (part == i).any():
            sizes = np.bincount(part, minlength=3)
            donors = np.flatnonzero(part == int(sizes.argmax()))
            part[donors[shares[donors, -1].argmin()]] = i
    return part
