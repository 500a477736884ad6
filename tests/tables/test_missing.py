"""Codes for missing: which look so, which are named, and that a model keeps them."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
import torch

from polytask.datasets import load_source
from polytask.problems import TableInfo
from polytask.tables import TableSource, TablesSource, fit_table, transform_table
from polytask.tables.missing import blank_codes, code_notes, parse_codes


def normal(rows=200, seed=0):
    return np.random.default_rng(seed).normal(size=rows)


def with_code(values, code, every):
    values = np.array(values, dtype=float)
    values[::every] = code
    return values


@pytest.mark.parametrize(
    ("values", "start"),
    [
        (with_code(normal(), -999, 10), "-999 in 10 % of `y` (20 rows), far from the rest"),
        (with_code(normal() * 30 + 20, -200, 4), "-200 in 25 % of `y` (50 rows), far from"),
        (with_code(np.arange(200) + 600.0, -200, 50), "-200 in 2 % of `y` (4 rows), far from"),
        (
            with_code(np.arange(200) * 9.0, -200, 4),
            "-200 in 25 % of `y` (50 rows), the only number",
        ),
        (
            with_code(np.abs(normal()), -1, 4),
            "-1 in 25 % of `y` (50 rows), the only number below 0",
        ),
        (
            with_code(np.arange(200) % 9, -1, 4),
            "-1 in 25 % of `y` (50 rows), the only number below",
        ),
        (with_code(normal(), -1, 4), "-1 in 25 % of `y` (50 rows), far more often than any other"),
        (with_code(np.arange(200) % 7, 99, 20), "99 in 5 % of `y` (10 rows), far from the rest"),
        (with_code(normal(), 9999, 150), "9999 in 1 % of `y` (2 rows), far from the rest"),
        (with_code(normal(), 1e20, 100), "1e+20 in 1 % of `y` (2 rows), far from the rest"),
        (np.resize([1.0, 0.0, -1.0, -1.0], 200), "-1 in 50 % of `y` (100 rows), beside 0 and 1"),
    ],
)
def test_what_looks_like_a_code(values, start):
    notes = code_notes("y", values)
    assert len(notes) == 1
    assert notes[0].startswith(start)
    assert notes[0].endswith(": missing?")


def test_two_codes_are_two_notes():
    values = with_code(normal(), -999, 10)
    values[1::10] = -998
    assert [note.split()[0] for note in code_notes("y", values)] == ["-999", "-998"]


@pytest.mark.parametrize(
    "values",
    [
        normal(),
        np.round(normal(5000), 1),
        np.arange(-200.0, 200.0),
        np.arange(100) % 10 - 1.0,
        np.resize([1.0, 2.0, 3.0], 90),
        np.resize([-1.0, 1.0], 90),
        np.minimum(np.abs(normal(2000)) * 3, 5.0),
        np.where(np.arange(500) % 3 == 0, normal(500), 0.0),
        np.exp(3 * normal(2000)),
        np.round(20 + 5 * normal(1000)),
    ],
)
def test_clean_numbers_get_no_note(values):
    assert code_notes("y", values) == []


@pytest.mark.parametrize(
    ("codes", "expected"),
    [
        (["-999"], (("", "-999"),)),
        (["-999", "flag=-1", "flag=-1"], (("", "-999"), ("flag", "-1"))),
        ({"": -999, "flag": [-1, "unknown"]}, (("", "-999"), ("flag", "-1"), ("flag", "unknown"))),
        ((), ()),
    ],
)
def test_codes_from_text_and_mapping(codes, expected):
    assert parse_codes(codes, ["flag"]) == expected


def test_codes_that_do_not_fit():
    with pytest.raises(ValueError, match="names the column 'flog', which the table does not have"):
        parse_codes(["flog=-1"], ["flag"])
    with pytest.raises(ValueError, match="needs a code such as -999"):
        parse_codes(["flag="], ["flag"])


@pytest.mark.parametrize(
    ("values", "codes", "missing"),
    [
        ([1.5, -999.0, 2.0], [("", "-999")], [1]),
        ([1, -999, 2], [("", "-999.0")], [1]),
        ([1, -999, 2], [("other", "-999")], []),
        (["a", "unknown", "b"], [("", "unknown")], [1]),
        (["1", "-999", "-999.00"], [("x", "-999")], [1, 2]),
        (list(pd.to_datetime(["2020-01-01", "1900-01-01"])), [("", "1900-01-01")], [1]),
    ],
)
def test_codes_become_missing_cells(values, codes, missing):
    found = blank_codes(pd.Series(values), "x", tuple(codes))
    assert np.flatnonzero(found.isna()).tolist() == missing


def frame():
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "x": with_code(rng.normal(size=120), -999, 10),
            "words": np.resize(["a", "b", "unknown"], 120),
            "y": with_code(rng.normal(size=120), -999, 15),
            "flag": np.resize([1, 0, -1, None], 120),
        }
    )


def test_inputs_and_targets_are_blank_and_a_flag_is_binary():
    plain = TableSource(frame(), ["y", "flag"])
    assert any("-999 in 10 % of `x` (12 rows)" in n for n in plain.problem(0).notes)
    assert any("-999 in 6.7 % of `y` (8 rows)" in n for n in plain.problem(0).notes)
    source = TableSource(frame(), ["y", "flag"], missing=["-999", "flag=-1", "words=unknown"])
    problem = source.problem(0)
    assert not any("missing?" in note for note in problem.notes)
    labels = {
        c.name: (type(c.kind).__name__, int((c.codes >= 0).sum())) for c in source.target_columns
    }
    assert labels == {"y": ("Regression", 112), "flag": ("Binary", 60)}
    assert source.target_columns[1].labels == (0, 1)
    assert problem.table.categorical[0].categories == ("a", "b")
    assert abs(problem.task("y").kind.mean) < 1


def test_codes_are_stored_with_the_source_and_with_the_model(tmp_path):
    source = TableSource(frame(), ["y", "flag"], missing={"": -999, "flag": -1})
    source.save(tmp_path)
    copy = load_source(tmp_path)
    assert copy.missing == source.missing == (("", "-999"), ("flag", "-1"))
    assert copy.fingerprint() == source.fingerprint()
    assert copy.problem(0).fingerprint() == source.problem(0).fingerprint()
    table = source.problem(0).table
    again = TableInfo.from_record(json.loads(json.dumps(table.to_record())))
    assert again == table
    new = frame().head(3)
    assert transform_table(again, new)[:, 0].isnan().tolist() == [True, False, False]


def test_a_record_without_codes_still_loads():
    info = fit_table(frame()[["x", "words"]])
    record = info.to_record()
    assert set(record) == {"columns", "numeric", "categorical"}
    assert set(record["columns"][0]) == {
        "name", "type", "missing", "distinct", "note", "date_format",
    }  # fmt: skip
    assert TableInfo.from_record(record) == info


def test_tables_of_their_own_share_codes():
    tables = {"a": (frame(), "y"), "b": (frame().drop(columns="flag"), "y")}
    source = TablesSource(tables, missing=["-999", "flag=-1"])
    assert source.sources["a"].missing == (("", "-999"), ("flag", "-1"))
    assert source.sources["b"].missing == (("", "-999"),)
    with pytest.raises(ValueError, match="names the column 'flog'"):
        TablesSource(tables, missing=["flog=-1"])


def test_no_code_changes_nothing():
    clean = frame().drop(columns="flag")
    one, two = (TableSource(clean, ["y"], missing=m) for m in ((), ["-12345"]))
    first, second = one.problem(0), two.problem(0)
    assert torch.equal(first.train.inputs.nan_to_num(7.0), second.train.inputs.nan_to_num(7.0))
