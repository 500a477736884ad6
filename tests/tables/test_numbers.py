"""Numbers as people write them, odd cells among them, and numbers that nothing computes with."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
import torch

from polytask.tables import TableSource, fit_table, transform_table
from polytask.tables.columns import infer_columns, plain_frame, plain_series
from polytask.tables.extremes import beyond_float32, extreme_notes
from polytask.tables.numbers import COMMA, POINT, find_numbers, parse_numbers


def infer(values, **options):
    return infer_columns(plain_frame(pd.DataFrame({"x": values})), **options)[0]


@pytest.mark.parametrize(
    ("text", "form", "number"),
    [
        ("1,234.50", POINT, 1234.5),
        ("$1,234.50 ", POINT, 1234.5),
        ("-$5", POINT, -5.0),
        ("$-5", POINT, -5.0),
        ("US$ 7.25", POINT, 7.25),
        ("1 234.5 EUR", POINT, 1234.5),
        ("1'234.5", POINT, 1234.5),
        ("12,34,567.8", POINT, 1234567.8),
        ("17.3%", POINT, 0.173),
        ("38.8 %", POINT, 0.388),
        ("(4.95)", POINT, -4.95),
        ("($4.95)", POINT, -4.95),
        ("$(4.95)", POINT, -4.95),
        ("(12%)", POINT, -0.12),
        ("5-", POINT, -5.0),
        ("\u22125", POINT, -5.0),
        ("1e5", POINT, 1e5),
        ("0,75", COMMA, 0.75),
        ("1.234,50 €", COMMA, 1234.5),
        ("1\u202f234,5", COMMA, 1234.5),
        ("R$ 5,00", COMMA, 5.0),
        ("1,234", POINT, 1234.0),
        ("1,234", COMMA, 1.234),
    ],
)
def test_a_number_in_its_form(text, form, number):
    assert parse_numbers(pd.Series([text, None]), form)[0] == number


@pytest.mark.parametrize(
    "text",
    [
        "2100 - 2850",
        "Total",
        "1,23.4",
        "1.2.3",
        "12 34",
        "(5",
        "1/2",
        "5 kg",
        "A5",
        "",
        "$",
        "0,750",
    ],
)
def test_what_is_no_number_with_a_decimal_point(text):
    assert math.isnan(parse_numbers(pd.Series([text]), POINT)[0])


@pytest.mark.parametrize(
    ("cells", "form"),
    [
        (["1,234.5", "2,000.0", "17.25"], POINT),
        (["0,75", "12,5", "3"], COMMA),
        (["1.234,5", "2.000,0", "17,25"], COMMA),
        (["1,234", "22,000", "17"], POINT),
    ],
)
def test_the_decimal_sign_is_found(cells, form):
    found = find_numbers(pd.Series(cells, dtype="object"))
    assert found.form == form
    assert found.odd == 0
    assert len(found.notes) == 1
    assert found.notes[0].startswith("numbers are read like")


def test_the_file_decides_where_the_column_does_not():
    cells = pd.Series(["1.234", "22.000", "17.500", "1.234.567"], dtype="object")
    assert find_numbers(cells).form == COMMA
    cells = pd.Series(["$1,234", "$22,000"], dtype="object")
    assert find_numbers(cells, decimal=",").form == COMMA
    assert find_numbers(cells).form == POINT


def test_odd_cells_are_named_with_row_and_value():
    cells = [str(i) for i in range(100, 300)]
    cells[60], cells[90] = "Total", "2100 - 2850"
    column = infer(cells)
    assert (column.type, column.odd_cells) == ("numeric", 2)
    assert (
        column.note == "'Total' in row 61, '2100 - 2850' in row 91 among numbers taken as missing"
    )
    info = fit_table(pd.DataFrame({"x": cells}))
    inputs = transform_table(info, pd.DataFrame({"x": ["150", "Total", "see below"]}))
    assert inputs[:, 0].isnan().tolist() == [False, True, True]
    with pytest.raises(ValueError, match="'x' must hold numbers, found 'Total' in row 1"):
        transform_table(info, pd.DataFrame({"x": ["Total", "Total"]}))


@pytest.mark.parametrize("word", ["unknown", "-", "n/a ", "Not available", "#DIV/0!"])
def test_a_word_for_missing_may_be_in_most_cells(word):
    cells = [word if i % 3 else str(i / 7) for i in range(90)]
    column = infer(cells)
    assert column.type == "numeric"
    assert column.odd_cells == 60
    expected = f"{word.strip()!r} in 60 rows (67 %) among numbers is taken as missing"
    assert column.note == expected


@pytest.mark.parametrize(
    ("cells", "kind"),
    [
        (["0", "1", "2", "3+"] * 20, "categorical"),
        ([f"{i:05d}" for i in range(40)] * 3, "categorical"),
        (["1", "2", "3"] * 9, "categorical"),
        ([f"A{i}" for i in range(30)], "identifier"),
        (["low", "1", "2", "3"] * 9, "categorical"),
    ],
)
def test_codes_stay_what_they_were(cells, kind):
    assert infer(cells).type == kind


def test_a_new_table_is_read_in_the_form_of_the_training_rows():
    prices = np.arange(100) * 1234.5
    frame = pd.DataFrame({"x": [f"${price:,.2f}" for price in prices]})
    info = fit_table(frame)
    assert info.columns[0].number_format == POINT
    plain = fit_table(pd.DataFrame({"x": prices}))
    assert info.numeric == plain.numeric
    new = pd.DataFrame({"x": ["$1,000.00", "($20.00)"]})
    expected = transform_table(plain, pd.DataFrame({"x": [1000.0, -20.0]}))
    assert torch.equal(transform_table(info, new), expected)


def table(y, rows=90):
    rng = np.random.default_rng(0)
    return pd.DataFrame({"x": rng.normal(size=rows), "y": y})


def test_a_target_of_written_numbers_is_a_regression():
    values = np.arange(90) * 12.5
    source = TableSource(table([f"€{v:,.2f}" for v in values]), ["y"])
    column = source.target_columns[0]
    assert type(column.kind).__name__ == "Regression"
    assert column.values.tolist() == values.tolist()
    assert any("numbers are read like" in note for note in column.notes)


def test_a_target_with_a_total_row_is_a_regression():
    cells = [str(i / 4) for i in range(90)]
    cells[40] = "Total"
    column = TableSource(table(cells), ["y"]).target_columns[0]
    assert np.isnan(column.values).nonzero()[0].tolist() == [40]
    assert "target y: 'Total' in row 41 among numbers taken as missing" in column.notes


def test_classes_that_are_asked_for_stay_texts():
    column = TableSource(table(["1,5", "2,5", "3,5"] * 30), ["y:multiclass"]).target_columns[0]
    assert column.labels == ("1,5", "2,5", "3,5")


def test_whole_numbers_above_63_bits():
    for values in ([2**63 + 5, 7, 8], [2**70, 7, 8]):
        plain = plain_series(pd.Series(values), "x")
        assert plain.tolist() == [float(value) for value in values]
    column = infer([2**63 + 7000 * i for i in range(30)])
    assert column.type == "numeric"
    assert "above 2^53 are rounded to floats" in column.note


def test_one_value_at_the_edge_of_floats_is_a_missing_label():
    y = np.linspace(0, 1, 90)
    y[17] = 1e308
    problem = TableSource(table(y), ["y:regression"]).problem(0)
    kind = problem.task("y").kind
    assert 0.4 < kind.mean < 0.6
    assert 0.2 < kind.scale < 0.4
    assert any("1e+308 in row 18 of `y` is beyond float32" in note for note in problem.notes)


def test_a_wild_value_is_noted():
    values = np.linspace(0, 1, 90)
    values[3] = -1e20
    notes = extreme_notes("y", values, is_target=True)
    assert len(notes) == 1
    assert notes[0].startswith("-1e+20 in row 4 of `y` is far from the rest")
    assert extreme_notes("y", np.exp(np.linspace(-8, 8, 90)), is_target=True) == []
    assert not beyond_float32(np.full(9, 1e300)).any()


def test_an_input_of_zeros_with_one_value_at_the_edge_keeps_its_scale():
    values = np.where(np.arange(90) % 9 == 0, 1.0, 0.0)
    values[5] = 1e308
    info = fit_table(pd.DataFrame({"x": values, "z": np.arange(90.0)}))
    kept = np.delete(values, 5)
    assert info.numeric[0].scale == pytest.approx(kept.std())
