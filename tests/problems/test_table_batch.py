"""Rows of many tables in one piece: nothing is lost."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from polytask.problems.table_batch import TableBatch, TableShape

NAN = float("nan")


def tables(rows=(3, 3, 3)):
    generator = torch.Generator().manual_seed(0)
    widths = {"wide": 5, "single": 1, "pair": 2}
    return {
        name: torch.randn(count, width, generator=generator)
        for count, (name, width) in zip(rows, widths.items(), strict=True)
    }


def same(first: torch.Tensor, second: torch.Tensor) -> bool:
    return torch.allclose(first, second, rtol=0, atol=0, equal_nan=True)


# --- TableBatch ----------------------------------------------------------------------------------


@pytest.mark.parametrize("rows", [(3, 3, 3), (1, 4, 2)], ids=["even", "uneven"])
def test_packing_loses_nothing(rows):
    given = tables(rows)
    given["wide"][0, 3] = NAN
    given["pair"][-1] = NAN
    packed = TableBatch.pack(given)
    assert list(packed) == list(given)
    assert len(packed) == 3
    assert packed.size == max(rows)
    for name, table in given.items():
        assert same(packed[name], table)
    assert TableBatch.pack(packed) is packed


def test_what_is_nan_is_absent():
    packed = TableBatch.pack({"a": torch.tensor([[1.0, NAN, 3.0], [NAN, NAN, NAN]])})
    assert packed.cells.tolist() == [1.0, 3.0]
    assert packed.positions.tolist() == [0, 2]
    assert packed.counts.tolist() == [2, 0]
    assert packed.rows.tolist() == [0, 0]


def test_short_tables_are_filled_up_with_their_first_rows():
    packed = TableBatch.pack({"a": torch.tensor([[1.0], [2.0]]), "b": torch.zeros(5, 1)})
    assert packed.cells[:5].tolist() == [1.0, 2.0, 1.0, 2.0, 1.0]
    assert packed.lengths == (2, 5)


def test_cells_can_be_changed():
    packed = TableBatch.pack({"a": torch.tensor([[1.0, 2.0], [3.0, 4.0]])})
    assert packed.observed() is packed
    changed = replace(packed, cells=torch.tensor([1.0, NAN, NAN, 4.0])).observed()
    assert same(changed["a"], torch.tensor([[1.0, NAN], [NAN, 4.0]]))
    assert changed.cells.tolist() == [1.0, 4.0]


@pytest.mark.parametrize(
    ("fraction", "rows"), [(1.0, 4), (0.5, 2), (0.51, 3), (0.01, 1), (0.25, 1)]
)
def test_head_keeps_the_first_rows_of_every_table(fraction, rows):
    given = tables((4, 4, 4))
    given["pair"][0, 1] = NAN
    head = TableBatch.pack(given).head(fraction)
    assert head.size == rows
    for name, table in given.items():
        assert same(head[name], table[:rows])


def test_head_of_short_tables():
    head = TableBatch.pack(tables((1, 4, 2))).head(0.75)
    assert head.lengths == (1, 3, 2)
    for name, table in tables((1, 4, 2)).items():
        assert same(head[name], table[:3])


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({}, "At least one table"),
        ({"a": torch.zeros(3)}, r"Table 'a' must be \[rows, columns\].*found shape \[3\]"),
        ({"a": torch.zeros(2, 1), "b": torch.zeros(0, 4)}, r"Table 'b' .*found shape \[0, 4\]"),
    ],
)
def test_what_is_no_table_cannot_be_packed(given, words):
    with pytest.raises(ValueError, match=words):
        TableBatch.pack(given)


def test_an_unknown_table_is_a_key_error():
    packed = TableBatch.pack(tables())
    assert "other" not in packed
    with pytest.raises(KeyError):
        packed["other"]


# --- TableShape ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((0,), "at least one column"),
        ((0, ()), "at least one column"),
        ((-1, (2,)), "negative sizes"),
        ((1, (-2,)), "negative sizes"),
    ],
)
def test_shapes_that_no_table_has(arguments, words):
    with pytest.raises(ValueError, match=words):
        TableShape(*arguments)


def test_a_column_whose_categories_are_all_rare_has_one_variable():
    shape = TableShape(0, (0,))
    assert (shape.width, shape.variables) == (1, 1)
