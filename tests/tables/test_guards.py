"""Notes about what makes scores too good; a clean table gets none."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from polytask.problems import SplitPlan
from polytask.tables import TableSource


def notes(frame, targets, **options):
    found = TableSource(frame, targets, **options).problem(0).notes
    return [note for note in found if "taken for" not in note]


def clean(rows=200):
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, rows)).round(3)
    return pd.DataFrame(
        {
            "a": a,
            "b": b,
            "count": rng.integers(0, 50, rows),
            "town": rng.choice(["n", "s", "w"], rows),
            "y": (a + b + 0.1 * rng.normal(size=rows)).round(3),
            "c": np.where(a + rng.normal(size=rows) > 0, "yes", "no"),
        }
    )


def test_a_clean_table_gets_no_note():
    assert notes(clean(), ["y:regression", "c:binary"]) == []


def test_an_input_that_alone_tells_a_class():
    frame = clean()
    sold = frame["c"] == "yes"
    frame["score"] = np.where(sold, 5, -5) + frame["a"] / 10
    assert notes(frame, ["y", "c"]) == [
        "column score alone tells target c (AUC 1.0000): known only afterwards? drop it then"
    ]
    frame["score"] = -frame["score"]
    assert "column score alone tells target c (AUC 1.0000)" in notes(frame, ["y", "c"])[0]


def test_a_category_that_alone_tells_a_class():
    rng = np.random.default_rng(1)
    frame = clean()
    words = {"yes": ["paid", "sent"], "no": ["open", "lost"]}
    frame["state"] = [rng.choice(words[c]) for c in frame["c"]]
    assert notes(frame, ["c:binary"]) == [
        "column state alone tells target c in every row: known only afterwards? drop it then"
    ]


def test_an_input_that_is_a_function_of_a_number():
    frame = clean()
    frame["score"] = np.exp(frame["y"])
    assert notes(frame, ["y"]) == [
        "column score is nearly a function of target y (rank correlation 1.0000): known only"
        " afterwards? drop it then"
    ]


def test_a_target_that_is_a_sum_of_inputs():
    frame = clean()
    frame["y"] = frame["a"] + 2 * frame["b"]
    assert notes(frame, ["y"]) == [
        "target y is a sum of multiples of the columns a, b: known only afterwards? drop them then"
    ]


@pytest.mark.parametrize("name", ["customer_id", "ID", "caseId", "order no", "n"])
def test_a_different_whole_number_in_every_row(name):
    frame = clean()
    spread = 1 if name == "n" else 977
    frame[name] = np.random.default_rng(2).permutation(200) * spread
    assert notes(frame, ["y"]) == [
        f"column {name} holds a different whole number in every row: drop it if it is an identifier"
    ]


@pytest.mark.parametrize("name", ["paid", "humid", "amount", "notional"])
def test_names_that_only_end_alike(name):
    frame = clean()
    frame[name] = np.random.default_rng(2).permutation(200) * 977
    assert notes(frame, ["y"]) == []


def test_rows_in_time_order_with_a_random_split():
    frame = clean()
    frame["when"] = pd.date_range("2021-01-01", periods=200, freq="h").strftime("%d.%m.%Y %H:%M")
    found = notes(frame, ["y"])
    assert len(found) == 1
    assert found[0].startswith("column when: the rows are in time order but are split at random")
    assert notes(frame.sample(frac=1, random_state=0), ["y"]) == []
    frame["part"] = ["train"] * 120 + ["validation"] * 40 + ["test"] * 40
    assert notes(frame, ["y"], split=SplitPlan(column="part")) == []
