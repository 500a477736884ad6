"""Targets: kinds that are said or inferred, what cannot be learned, and uneven classes."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from polytask.tables import Target
from polytask.tables.columns import plain_series
from polytask.tables.targets import parse_targets, read_target, weigh_classes
from polytask.tasks import Binary, Multiclass, Regression, Task


def read(values, kind=None, name="y"):
    return read_target(Target(name, kind), plain_series(pd.Series(values, name=name), name))


# --- which columns -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("price:regression", Target("price", "regression")),
        ("price", Target("price")),
        ("sold: Binary", Target("sold", "binary")),
        ("Jitter:RAP", Target("Jitter:RAP")),
        ("Jitter:RAP:regression", Target("Jitter:RAP", "regression")),
        ("größe:multiclass", Target("größe", "multiclass")),
    ],
)
def test_column_and_kind_from_text(text, expected):
    assert Target.parse(text) == expected


def test_a_column_of_that_very_name_wins():
    assert parse_targets(["a:binary"], ["a", "a:binary"]) == (Target("a:binary"),)


def test_targets_from_a_mapping():
    targets = parse_targets({"price": "regression", "sold": None}, ["sold", "price"])
    assert targets == (Target("price", "regression"), Target("sold"))


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        ([], "at least one target"),
        (["prize"], "Target 'prize' is not a column of the table; did you mean 'price'?"),
        (["zzz"], "Target 'zzz' is not a column of the table; its columns are 'price', 'sold'"),
        (["price:logistic"], "'logistic' is no kind; the kinds are regression, binary"),
        (["price", "price:regression"], "Target 'price' is named twice"),
        (["id"], "Column 'id' is both a target and left out"),
        ({"price": "number"}, "kind must be regression, binary or multiclass, found 'number'"),
    ],
)
def test_targets_that_do_not_fit_the_table(targets, message):
    with pytest.raises(ValueError, match=message.replace("(", r"\(").replace("?", r"\?")):
        parse_targets(targets, ["price", "sold", "id"], dropped=["id"])


# --- kinds ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([1.5, 2.5, 3.5, np.nan], Regression()),
        ([3, 4, 5, 6, 7], Regression()),
        (range(20), Regression()),
        ([0, 1, 2, 1], Multiclass(3, (0, 1, 2))),
        ([1, 2, 3, np.nan], Multiclass(3, (1, 2, 3))),
        ([0, 1, 1, 0], Binary((0, 1))),
        ([2.5, 7.5, 2.5], Binary((2.5, 7.5))),
        (["no", "yes", None, "no"], Binary(("no", "yes"))),
        ([True, False, True], Binary(("False", "True"))),
        (["b", "ä", "c", "b"], Multiclass(3, ("b", "c", "ä"))),
    ],
)
def test_kind_is_inferred_and_said(values, expected):
    column = read(list(values))
    assert column.kind == expected
    assert len(column.notes) == 1
    assert f"target y: taken for {type(expected).__name__.lower()}" in column.notes[0]


def test_a_kind_that_is_said_is_taken():
    assert read([0, 1, 2, 1], "regression").kind == Regression()
    assert read([0, 1, 2, 1], "regression").notes == ()
    assert read([3, 4, 5], "multiclass").kind == Multiclass(3, (3, 4, 5))
    assert read(["1", "2.5", None, "3"], "regression").values.tolist()[:2] == [1.0, 2.5]


def test_missing_labels_stay_missing():
    column = read(["no", None, "yes", "no"])
    assert column.codes.tolist() == [0, -1, 1, 0]
    assert column.values.tolist() == ["no", None, "yes", "no"]
    numbers = read([1.5, np.nan, 2.5, 7.0])
    assert np.isnan(numbers.values).tolist() == [False, True, False, False]
    assert numbers.codes.tolist() == [0, -1, 0, 0]


@pytest.mark.parametrize(
    ("values", "kind", "message"),
    [
        ([None, None, None], None, "Target 'y' has no label: every cell is missing"),
        ([5, 5, 5, None], None, "Target 'y' is 5.0 in every row that has a label"),
        (["a", "a"], "binary", "Target 'y' is 'a' in every row that has a label"),
        ([1.0, 2.0, None], None, "Target 'y' has 2 labels; at least 3 are needed"),
        (
            [1, "two", 3],
            "regression",
            "Regression target 'y' must hold numbers, found 'two' in row 2",
        ),
        (
            [1.0, np.inf, 3.0],
            "regression",
            "Target 'y' must hold finite numbers, found inf in row 2",
        ),
        (
            [0, 1, 2],
            "binary",
            r"Binary target 'y' must have 2 different values, found 3 \(0, 1, 2\)",
        ),
        (list(range(300)) * 2, "multiclass", "'y' has 300 classes in 600 .*say y:regression"),
        ([f"n{i}" for i in range(40)], "multiclass", "'y' has 40 classes in 40 .*merge classes"),
        (pd.date_range("2020", periods=5), None, "Target 'y' holds dates"),
    ],
)
def test_targets_that_cannot_be_learned(values, kind, message):
    with pytest.raises(ValueError, match=message) as caught:
        read(values, kind)
    assert "\n" not in str(caught.value)


# --- uneven classes ------------------------------------------------------------------------------


def weigh(counts, kind):
    codes = np.repeat(np.arange(len(counts)), counts)
    return weigh_classes(Task("sold", kind), np.append(codes, [-1, -1]))


def test_a_rare_positive_class_gets_a_weight():
    task, note = weigh([900, 100], Binary())
    assert task.class_weights == (1.0, 9.0)
    assert note == "target sold: 10.0 % positive in training, positive weight 9"


def test_a_rare_negative_class_gets_a_weight():
    task, note = weigh([10, 90], Binary(("no", "yes")))
    assert task.class_weights == (9.0, 1.0)
    assert "10.0 % 'no' in training" in note


def test_weights_are_capped():
    task, note = weigh([959, 41], Binary())
    assert task.class_weights == (1.0, 20.0)
    assert note == "target sold: 4.1 % positive in training, positive weight 20"


@pytest.mark.parametrize("counts", [[50, 50], [80, 20], [20, 80]])
def test_even_classes_are_left_alone(counts):
    task, note = weigh(counts, Binary())
    assert (task.class_weights, note) == (None, "")


def test_uneven_multiclass_targets_are_reported_only():
    task, note = weigh([960, 30, 10], Multiclass(3, ("a", "b", "c")))
    assert task.class_weights is None
    assert "from c (1.0 %) to a (96.0 %)" in note
    assert weigh([30, 40, 30], Multiclass(3))[1] == ""


def test_numbers_have_no_classes_to_weigh():
    task = Task("price", Regression())
    assert weigh_classes(task, np.zeros(10, dtype=int)) == (task, "")
