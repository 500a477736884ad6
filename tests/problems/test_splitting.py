"""Splits: complete, disjoint, deterministic, stratified over all targets, true to groups."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from polytask.problems import SplitPlan, grouped_split, stratified_split
from polytask.problems.splitting import (
    missing_from_training,
    named_parts,
    named_split,
    quantile_bins,
)

FRACTIONS = (0.6, 0.2, 0.2)


def check_partition(rows, count):
    assert list(rows) == ["train", "validation", "test"]
    assert sorted(np.concatenate(list(rows.values())).tolist()) == list(range(count))


@given(
    count=st.integers(1, 60),
    targets=st.integers(0, 4),
    classes=st.integers(1, 6),
    seed=st.integers(0, 50),
)
def test_every_row_is_in_one_part_and_every_class_in_training(count, targets, classes, seed):
    strata = np.random.default_rng(seed).integers(-1, classes, size=(count, targets))
    rows = stratified_split(strata, FRACTIONS, seed)
    check_partition(rows, count)
    for t in range(targets):
        assert missing_from_training(strata[:, t], rows) == {}


@pytest.mark.parametrize(
    ("count", "expected"),
    [(1, (1, 0, 0)), (2, (1, 0, 1)), (3, (1, 1, 1)), (4, (2, 1, 1)), (10, (6, 2, 2))],
)
def test_few_rows_go_to_training_then_test_then_validation(count, expected):
    rows = stratified_split(np.zeros((count, 1), dtype=int), FRACTIONS, 0)
    assert tuple(len(part) for part in rows.values()) == expected


def test_all_targets_are_stratified_at_once():
    rng = np.random.default_rng(0)
    digit = rng.integers(0, 10, 2000)
    strata = np.stack(
        [
            *((digit == k).astype(int) for k in range(10)),
            digit % 2,
            rng.integers(0, 2, 2000),
            (rng.random(2000) < 0.02).astype(int),
            quantile_bins(rng.normal(size=2000)),
        ],
        axis=1,
    )
    rows = stratified_split(strata, FRACTIONS, 0)
    shares = np.array(FRACTIONS)
    for t in range(strata.shape[1]):
        for value in np.unique(strata[:, t]):
            held = np.array([(strata[part, t] == value).sum() for part in rows.values()])
            assert np.abs(held - shares * held.sum()).max() <= 12, (t, value, held)
    rare = np.array([strata[part, 12].sum() for part in rows.values()])
    assert np.abs(rare - shares * rare.sum()).max() <= 1


def test_missing_labels_are_spread_as_the_others():
    strata = np.full((500, 2), -1)
    strata[:100, 0] = 0
    strata[60:90, 1] = np.arange(30) % 3
    rows = stratified_split(strata, FRACTIONS, 3)
    check_partition(rows, 500)
    assert [int((strata[p, 0] == 0).sum()) for p in rows.values()] == [60, 20, 20]
    assert [len(p) for p in rows.values()] == [300, 100, 100]


def test_seeds_draw_splits_and_equal_seeds_equal_splits():
    strata = np.random.default_rng(0).integers(0, 3, size=(200, 2))
    for make in (
        lambda seed: stratified_split(strata, FRACTIONS, seed),
        lambda seed: grouped_split(np.arange(200) // 5, strata, FRACTIONS, seed),
    ):
        first, again, other = make(1), make(1), make(2)
        assert all(np.array_equal(first[p], again[p]) for p in first)
        assert not np.array_equal(first["test"], other["test"])


@pytest.mark.parametrize("seed", range(5))
def test_groups_never_cross(seed):
    rng = np.random.default_rng(seed)
    groups = rng.choice(["a", "b", "ç", *map(str, range(40))], 1000)
    strata = rng.integers(0, 2, size=(1000, 2))
    rows = grouped_split(groups, strata, FRACTIONS, seed)
    check_partition(rows, 1000)
    held = [set(groups[part]) for part in rows.values()]
    assert not held[0] & held[1]
    assert not held[0] & held[2]
    assert not held[1] & held[2]
    sizes = np.array([len(part) for part in rows.values()])
    assert np.abs(sizes / 1000 - FRACTIONS).max() < 0.05


def test_three_groups_fill_three_parts():
    rows = grouped_split(np.repeat([1, 2, 3], 10), np.zeros((30, 1), dtype=int), FRACTIONS, 0)
    assert all(len(part) == 10 for part in rows.values())


def test_groups_are_drawn_until_every_class_is_in_training():
    groups = np.repeat(np.arange(10), 10)
    strata = np.zeros((100, 1), dtype=int)
    strata[groups == 4] = 1
    for seed in range(10):
        rows = grouped_split(groups, strata, FRACTIONS, seed)
        assert 4 in set(groups[rows["train"]])


def test_too_few_groups():
    with pytest.raises(ValueError, match=r"at least 3 different groups.*found 2 .'a', 'b'"):
        grouped_split(np.array(["a", "b"] * 5), np.zeros((10, 1), dtype=int), FRACTIONS, 0)


def test_quantile_bins():
    bins = quantile_bins(np.append(np.arange(100.0), np.nan))
    assert bins[-1] == -1
    assert np.bincount(bins[:-1]).tolist() == [20] * 5
    assert set(quantile_bins(np.arange(12.0)).tolist()) == {0}
    assert set(quantile_bins(np.array([0.0] * 90 + [1.0] * 10)).tolist()) <= {0, 1}
    assert quantile_bins(np.array([np.nan, np.nan])).tolist() == [-1, -1]


def test_parts_are_read_from_words():
    words = ["Train", " training ", "VAL", "dev", "test", "holdout"]
    assert named_parts(words).tolist() == ["train"] * 2 + ["validation"] * 2 + ["test"] * 2
    with pytest.raises(ValueError, match="found 'maybe' in row 2"):
        named_parts(["train", "maybe", "test"])
    with pytest.raises(ValueError, match="names no test rows"):
        named_parts(["train", "validation"])
    with pytest.raises(ValueError, match="names no train rows"):
        named_parts(["test", "validation"])


def test_validation_rows_are_drawn_from_training_where_none_are_named():
    parts = np.array(["train"] * 80 + ["test"] * 20)
    strata = np.arange(100)[:, None] % 4
    rows = named_split(parts, strata, FRACTIONS, 0)
    check_partition(rows, 100)
    assert rows["test"].tolist() == list(range(80, 100))
    assert len(rows["validation"]) == 20
    assert np.bincount(strata[rows["validation"], 0]).tolist() == [5] * 4


def test_classes_that_training_lacks_are_found():
    rows = {"train": np.array([0, 1]), "validation": np.array([2]), "test": np.array([3, 4])}
    assert missing_from_training(np.array([0, 1, 0, 2, -1]), rows) == {2: "test"}


@pytest.mark.parametrize("fractions", [(0.5, 0.5), (0.6, 0.2, 0.3), (1.0, 0.0, 0.0)])
def test_bad_fractions(fractions):
    with pytest.raises(ValueError, match="three positive shares that add up to 1"):
        SplitPlan(fractions=fractions)


def test_one_way_to_split():
    with pytest.raises(ValueError, match="not both"):
        SplitPlan(by="patient", column="part")
