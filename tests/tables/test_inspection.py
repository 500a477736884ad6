"""What would be learned from a table: types, statistics, targets, split, notes."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from tests.tables.frames_for_tests import HOUSE_TARGETS, houses

import polytask
from polytask.problems import SplitPlan
from polytask.tables import TableSource, inspect_source


@pytest.fixture(scope="module")
def found():
    return polytask.inspect(houses(), HOUSE_TARGETS, drop=["rooms"])


def test_types_of_columns(found):
    assert {name: about["type"] for name, about in found.columns.items()} == {
        "house": "left out",
        "größe": "number",
        "rooms": "left out",
        "town": "category",
        "garden": "category",
        "built": "date",
        "country": "left out",
        "price": "target",
        "sold": "target",
        "grade": "target",
    }
    assert found.columns["rooms"]["role"] == "dropped"


def test_statistics(found):
    frame, columns = houses(), found.columns
    size, built = columns["größe"], columns["built"]
    assert (size["min"], size["max"]) == (frame["größe"].min(), frame["größe"].max())
    assert size["mean"] == pytest.approx(frame["größe"].mean())
    assert (built["min"][:10], built["max"][:10]) == (frame["built"].min(), frame["built"].max())
    town = columns["town"]
    assert (town["missing"], town["distinct"]) == (int(frame["town"].isna().sum()), 4)
    assert town["most_rows"] == frame["town"].value_counts().iloc[0]
    assert columns["price"]["max"] == frame["price"].max()


def test_targets_split_and_rows(found):
    assert (found.rows, sum(found.split.values())) == (120, 120)
    assert {n: (a["kind"], a["labels"]) for n, a in found.targets.items()} == {
        "price": ("regression", 120),
        "sold": ("binary", 120),
        "grade": ("multiclass", 120),
    }
    assert found.targets["sold"]["classes"] == houses()["sold"].value_counts().to_dict()
    assert found.targets["price"]["labels_per_split"] == found.split


def test_the_record_is_json_and_the_text_is_short(found):
    record = json.loads(json.dumps(found.to_record(), allow_nan=False))
    assert set(record) == {"name", "rows", "columns", "targets", "split", "notes"}
    assert str(found).startswith("table: 120 rows, 4 inputs; targets: price (regression), sold")


def test_all_notes_of_columns_are_listed_however_many():
    frame = pd.DataFrame({f"c{i}": np.resize([1.5, 2.5, i + 3.5], 120) for i in range(30)})
    frame.iloc[::20] = -999
    frame["y"] = np.linspace(0, 1, 120)
    source = TableSource(frame, ["y"])
    assert any("20 more columns have notes" in note for note in source.problem(0).notes)
    notes = inspect_source(source).notes
    assert sum("-999 in 5 % of" in note for note in notes) == 30
    assert not any("more columns" in note for note in notes)


def test_a_file_and_all_options(tmp_path):
    frame = houses().assign(part=["train"] * 80 + ["test"] * 40)
    frame.loc[:9, "größe"] = -999
    path = tmp_path / "houses.csv"
    path.write_text("Houses of 2021\n" + frame.to_csv(index=False), encoding="utf-8")
    found = polytask.inspect(
        path,
        ["sold"],
        drop=["price"],
        split=SplitPlan(column="part"),
        categorical=["rooms"],
        missing=["-999"],
        fold_case=True,
        skip_rows=1,
    )
    assert found.name == "houses"
    assert found.columns["größe"]["missing"] == 10
    assert found.columns["rooms"]["type"] == "category"
    assert found.columns["part"] == {
        "type": "left out", "role": "split", "missing": 0, "distinct": 2, "most": "train",
        "most_rows": 80,
    }  # fmt: skip
    assert found.split["test"] == 40
    assert found == polytask.inspect(path, ["sold"], drop=["price"], categorical=["rooms"],
                                     split=SplitPlan(column="part"), missing={"": -999},
                                     fold_case=True, skip_rows=1)  # fmt: skip


def test_frames_with_other_names_and_cells():
    frame = pd.DataFrame(np.random.default_rng(0).normal(size=(40, 3)), columns=[0, 1, 2])
    assert set(polytask.inspect(frame, [2], drop=[0]).columns) == {"0", "1", "2"}
    frame.columns = pd.MultiIndex.from_tuples([("a", "x"), ("a", "z"), ("b", "")])
    assert set(polytask.inspect(frame, ["b"]).columns) == {"a x", "a z", "b"}
    lists = pd.DataFrame({"x": [[1, 2]] * 40, "y": range(40)})
    with pytest.raises(ValueError, match="Column 'x' must hold one value per cell, found a list"):
        polytask.inspect(lists, ["y"])
    arrays = pd.DataFrame({"x": [np.zeros(2)] * 40, "y": range(40)})
    with pytest.raises(ValueError, match="Column 'x' must hold one value per cell, found a ndarr"):
        polytask.inspect(arrays, ["y"])
