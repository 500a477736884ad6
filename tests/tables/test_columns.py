"""What is inferred about a column from its values."""

from __future__ import annotations

import datetime
import decimal

import numpy as np
import pandas as pd
import pytest
from tests.tables.frames_for_tests import houses

from polytask.tables.columns import infer_columns, plain_frame, plain_series


def infer(values, **options):
    frame = plain_frame(pd.DataFrame({"x": values}))
    return infer_columns(frame, **options)[0]


def test_types_of_a_table_with_everything():
    types = {c.name: c.type for c in infer_columns(plain_frame(houses()))}
    assert types == {
        "house": "identifier",
        "größe": "numeric",
        "rooms": "numeric",
        "town": "categorical",
        "garden": "boolean",
        "built": "date",
        "country": "constant",
        "price": "numeric",
        "sold": "boolean",
        "grade": "categorical",
    }


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([1, 2, 3], "numeric"),
        ([1.5, None, 2.5], "numeric"),
        (pd.array([1, None, 3], dtype="Int64"), "numeric"),
        ([decimal.Decimal("1.5"), decimal.Decimal("2.5"), None], "numeric"),
        (pd.to_timedelta([1, 2, 3], unit="D"), "numeric"),
        ([True, False, True], "boolean"),
        ([True, None, False], "boolean"),
        (pd.array([True, None, False], dtype="boolean"), "boolean"),
        (["Yes", "no", None], "boolean"),
        (["a", "b", None], "categorical"),
        (pd.Categorical([1, 2, 1]), "categorical"),
        ([b"a", b"b", b"a"], "categorical"),
        ([1, "a", 2.5], "categorical"),
        ([datetime.date(2020, 1, 1), datetime.date(2021, 1, 1), None], "date"),
        (pd.date_range("2020-01-01", periods=3, tz="Europe/Berlin"), "date"),
        (["2020-01-01", "2020-02-01 12:30", "2021-01-01"], "date"),
        (["2020-01-01T10:00:00Z", "2020-02-01T10:00:00+02:00", None], "date"),
        (["2020/1/1", "2020/12/31", None], "date"),
        (["2020-13-45", "2020-01-01", "x"], "categorical"),
        ([None, None, None], "constant"),
        (["a", "a", "a"], "constant"),
        ([7, 7, 7], "constant"),
    ],
)
def test_type_of_a_column(values, expected):
    assert infer(values).type == expected


def test_a_single_value_with_missing_cells_still_says_something():
    assert infer([1.0, np.nan, 1.0]).type == "numeric"
    assert infer(["x", None, "x"]).type == "categorical"


@pytest.mark.parametrize(
    ("values", "date_format", "note"),
    [
        (["31.12.2020", "01.02.2021"], "%d.%m.%Y", ""),
        (["12/31/2020", "01/02/2021"], "%m/%d/%Y", ""),
        (["31/12/2020", "01/02/2021"], "%d/%m/%Y", ""),
        (
            ["03/04/2020", "01/02/2021"],
            "%m/%d/%Y",
            "looks like dates, read as %m/%d/%Y; day and month could be the other way round",
        ),
        (["2020-01-01", "2021-01-01"], "ISO8601", ""),
    ],
)
def test_how_dates_are_written(values, date_format, note):
    column = infer(values)
    assert (column.type, column.date_format, column.note) == ("date", date_format, note)


def test_identifiers_are_left_out_with_a_reason():
    column = infer([f"id-{i}" for i in range(30)])
    assert column.type == "identifier"
    assert not column.used
    assert column.note == "left out: 30 different texts in 30 rows look like an identifier"


def test_a_few_different_texts_are_categories_however_few_rows_there_are():
    assert infer([f"town {i}" for i in range(10)]).type == "categorical"


def test_a_row_counter_is_kept_and_named():
    column = infer(range(100, 150))
    assert column.used
    assert "counts the rows" in column.note


def test_one_word_among_numbers_is_missing_and_named_with_the_row():
    column = infer([*map(str, range(1, 20)), "unknown"])
    assert (column.type, column.odd_cells) == ("numeric", 1)
    assert column.note == "'unknown' in row 20 among numbers taken as missing"


def test_numbers_can_be_declared_categories():
    assert infer([1, 2, 3, 1], categorical=["x"]).type == "categorical"


def test_counts_of_missing_and_different_values():
    column = infer(["a", None, "b", "a"])
    assert (column.missing, column.distinct) == (0.25, 2)


@pytest.mark.parametrize("value", [float("inf"), -float("inf")])
def test_infinity_names_column_and_row(value):
    with pytest.raises(ValueError, match=rf"Column 'x' must hold finite.* found {value} in row 3"):
        infer([1.0, 2.0, value])


def test_whole_numbers_are_written_alike_whatever_their_type():
    for values in ([1, 2], [1.0, 2.0], pd.array([1, 2], dtype="Int64"), pd.Categorical([1.0, 2.0])):
        frame = pd.DataFrame({"x": values})
        column = plain_series(frame["x"].astype("category"), "x")
        assert column.tolist() == ["1", "2"]


def test_column_names_become_text_and_must_differ():
    assert list(plain_frame(pd.DataFrame([[1, 2]], columns=[0, "b"])).columns) == ["0", "b"]
    with pytest.raises(ValueError, match="column name 'a' more than once"):
        plain_frame(pd.DataFrame([[1, 2]], columns=["a", "a"]))


def test_complex_numbers_have_no_plain_form():
    with pytest.raises(ValueError, match="Column 'x' holds complex numbers"):
        infer([1j, 2j])
