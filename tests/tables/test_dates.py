"""Dates as people write them: forms, orders of day and month, mixtures, and far years."""

from __future__ import annotations

import datetime

import numpy as np
import pandas as pd
import pytest

from polytask.tables import TableSource, fit_table, transform_table
from polytask.tables.columns import infer_columns, plain_frame
from polytask.tables.dates import days_since_1970, find_dates, parse_dates

MOMENTS = [
    datetime.datetime(2021, 1, 14, 0, 5, 7),
    datetime.datetime(2022, 12, 29, 14, 25, 0),
    datetime.datetime(2023, 6, 6, 12, 0, 59),
    datetime.datetime(2023, 9, 30, 23, 59, 1),
]


def written(form):
    return pd.Series([moment.strftime(form) for moment in MOMENTS], dtype="object")


def infer(values):
    return infer_columns(plain_frame(pd.DataFrame({"x": values})))[0]


@pytest.mark.parametrize(
    "form",
    [
        "%m/%d/%Y %H:%M:%S",
        "%-m/%-d/%Y %-H:%M:%S",
        "%m/%d/%Y %I:%M:%S %p",
        "%-m/%-d/%Y %-I:%M:%S%p",
        "%d.%m.%Y %H:%M:%S",
        "%-d.%-m.%y %H:%M:%S",
        "%m/%d/%y %H:%M:%S",
        "%d-%m-%Y %H:%M:%S",
        "%m-%d-%Y %H:%M:%S",
        "%Y.%m.%d %H:%M:%S",
        "%Y-%-m-%-d %-H:%M:%S",
        "%Y/%m/%d, %H:%M:%S",
        "%d-%b-%Y %H:%M:%S",
        "%d-%b-%y %H:%M:%S",
        "%d %B %Y %H:%M:%S",
        "%B %d, %Y %H:%M:%S",
        "%a, %d %b %Y %H:%M:%S",
        "%a, %d %b %Y %H:%M:%S GMT",
        "%d%b%Y %H:%M:%S",
        "%Y-%m-%dT%H:%M:%SZ",
        "%d/%m/%Y %H:%M:%S.250",
    ],
)
def test_moments_come_back_from_how_they_are_written(form):
    cells = written(form)
    found = find_dates(cells)
    assert (found.note, found.odd) == ("", 0)
    more = datetime.timedelta(milliseconds=250 * form.endswith(".250"))
    assert parse_dates(cells, found.form).tolist() == [m + more for m in MOMENTS]
    assert infer(cells).type == "date"


@pytest.mark.parametrize(
    ("form", "days"),
    [
        ("%m/%d/%Y %H:%M", 0),
        ("%d-%b-%Y", 0),
        ("%m/%d/%y", 0),
        ("%b %d, %Y", 0),
        ("%Y-%m", 1),
        ("%m/%Y", 1),
        ("%b-%y", 1),
        ("%B %Y", 1),
    ],
)
def test_days_and_months(form, days):
    cells = written(form)
    dates = parse_dates(cells, find_dates(cells).form)
    expected = [m.date().replace(day=1) if days else m.date() for m in MOMENTS]
    assert [date.date() for date in dates] == expected


@pytest.mark.parametrize(
    ("cells", "form", "first"),
    [
        (["03/04/2023", "01/02/2023"], "%m/%d/%Y", "2023-03-04"),
        (["03-04-2023", "01-02-2023"], "%d-%m-%Y", "2023-04-03"),
        (["3/4/23 6:05", "1/2/23 7:00"], "%m/%d/%y %H:%M", "2023-03-04"),
    ],
)
def test_an_order_that_is_a_guess_is_noted(cells, form, first):
    column = infer(cells)
    assert column.date_format == form
    assert column.note == (
        f"looks like dates, read as {form}; day and month could be the other way round"
    )
    assert str(parse_dates(pd.Series(cells), form)[0])[:10] == first


def test_dots_say_that_the_day_stands_first():
    column = infer(["03.04.2023", "01.02.2023"])
    assert (column.date_format, column.note) == ("%d.%m.%Y", "")
    assert infer(["12.29.2023", "01.02.2023"]).date_format == "%m.%d.%Y"


def test_one_family_settles_the_order_of_another():
    column = infer(["14/03/2023", "04/03/2023", "05-03-2023", "06-03-2023"])
    assert column.date_format == "%d/%m/%Y|%d-%m-%Y"
    assert column.note == "looks like dates of mixed forms, read as %d/%m/%Y and %d-%m-%Y"
    column = infer(["12/29/2022", "5/20/2023", "02-06-21", "05-20-23"])
    assert column.date_format == "%m/%d/%Y|%m-%d-%y"


def test_some_times_of_day_are_missing_without_a_word():
    cells = ["3/14/2023 6:05", "3/15/2023", "3/16/2023 7:00"]
    column = infer(cells)
    assert (column.type, column.note) == ("date", "")
    hours = [d.hour for d in parse_dates(pd.Series(cells), column.date_format)]
    assert hours == [6, 0, 7]


def test_words_among_dates_are_missing_and_named():
    cells = [*pd.date_range("2023-01-20", periods=30).strftime("%d.%m.%Y"), "unknown", "unknown"]
    column = infer(cells)
    assert (column.type, column.odd_cells) == ("date", 2)
    assert column.note == "cells among dates are taken as missing: 'unknown' (2 rows)"
    info = fit_table(pd.DataFrame({"x": cells}))
    inputs = transform_table(info, pd.DataFrame({"x": ["21.01.2023", "unknown", None]}))
    assert inputs.isnan().all(dim=1).tolist() == [False, True, True]


def test_both_orders_at_once_are_left_out_with_a_note():
    days = pd.date_range("2023-01-01", periods=60)
    cells = [d.strftime("%d/%m/%Y" if i % 2 else "%m/%d/%Y") for i, d in enumerate(days)]
    column = infer(cells)
    assert (column.type, column.used) == ("unreadable", False)
    assert "looks like dates in part" in column.note
    few = infer(cells[24:40])
    assert few.type == "categorical"
    assert "looks like dates in part" in few.note


@pytest.mark.parametrize(
    "cells",
    [
        ["1.2.3", "10.4.2", "2.0.1"],
        ["2019-20", "2020-21", "2021-22"],
        ["192.168.0.1", "10.0.0.1", "10.0.0.2"],
        ["555-1234", "555-9876", "555-1111"],
        ["12:30", "14:15", "16:00"],
        ["march", "may", "june"],
        ["may be", "sat on it", "decent"],
    ],
)
def test_what_is_no_date(cells):
    assert find_dates(pd.Series(cells, dtype="object")) is None


def test_years_far_away_do_not_end_anything():
    cells = ["0001-01-01", "1066-10-14", "2023-03-14", "9999-12-31", "2024-01-01"]
    column = infer(cells)
    assert column.type == "date"
    assert "3 dates outside 1678 to 2261 (0001-01-01 in row 1): missing?" in column.note
    days = days_since_1970(parse_dates(pd.Series(cells), column.date_format))
    start = datetime.date(1970, 1, 1)
    assert days.tolist() == [(datetime.date.fromisoformat(c) - start).days for c in cells]
    info = fit_table(pd.DataFrame({"x": cells}))
    assert np.isfinite(transform_table(info, pd.DataFrame({"x": cells})).numpy()).all()
    objects = [datetime.date(1066, 10, 14), None, datetime.date(9999, 12, 31)]
    plain = plain_frame(pd.DataFrame({"x": objects}))["x"]
    assert [str(date)[:10] for date in plain] == ["1066-10-14", "NaT", "9999-12-31"]


def test_dates_are_no_targets():
    frame = pd.DataFrame({"x": range(40), "y": [f"{i % 28 + 1}-Mar-2023" for i in range(40)]})
    with pytest.raises(ValueError, match="Target 'y' holds dates"):
        TableSource(frame, ["y"])
