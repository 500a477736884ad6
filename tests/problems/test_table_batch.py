"""Rows of many tables in one piece: nothing is lost, and outputs are those of every task's own."""

from __future__ import annotations

import pytest
import torch

from polytask.problems.table_batch import TableBatch, TableShape, TableVariables
from polytask.tasks import Binary, Depth, Multiclass, Regression, Task

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


def test_cells_can_be_left_out_and_changed():
    packed = TableBatch.pack({"a": torch.tensor([[1.0, 2.0], [3.0, 4.0]])})
    kept = packed.observed(torch.tensor([True, False, False, True]))
    assert same(kept["a"], torch.tensor([[1.0, NAN], [NAN, 4.0]]))
    assert same(packed.map_cells(lambda cells: 10 * cells)["a"], 10 * packed["a"])
    assert packed.observed() is packed


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


# --- TableVariables ------------------------------------------------------------------------------

TASKS = (
    Task("price", Regression()),
    Task("species", Multiclass(4)),
    Task("sold", Binary()),
    Task("grade", Multiclass(3)),
)
SHAPES = {
    "price": TableShape(2),
    "species": TableShape(1, (2, 3)),
    "sold": TableShape(0, (2,)),
    "grade": TableShape(3),
}
#: In order: 2 + 1, (1 + 3 + 4) + 4, 3 + 1, 3 + 3.
FIRST = {"price": 0, "species": 3, "sold": 15, "grade": 19}


@pytest.fixture
def variables():
    return TableVariables(tasks=TASKS, tables=SHAPES)


def rows_of(variables, names, size=2):
    """Rows of some tables in one piece, as a packed split makes them."""
    inputs = {}
    for name in names:
        shape = SHAPES[name]
        codes = [torch.arange(size) % (count + 1) for count in shape.cardinalities]
        numbers = torch.randn(size, shape.num_numeric)
        inputs[name] = torch.cat([numbers, *(c.float().unsqueeze(1) for c in codes)], dim=1)
    packed = variables.pack(inputs)
    packed.lengths = None
    return inputs, packed


def test_variables_follow_each_other_table_by_table(variables):
    assert variables.num_variables == 25
    for name, first in FIRST.items():
        end = first + SHAPES[name].variables
        outputs = next(task.kind.output_size for task in TASKS if task.name == name)
        assert variables.variables_of(name) == slice(first, end + outputs)
        assert variables.outputs_of(name) == slice(end, end + outputs)


def test_a_category_is_a_variable_of_value_one(variables):
    table = torch.tensor([[0.5, 1.0, 0.0], [-2.0, 2.0, 3.0]])
    cells = variables.cells(variables.pack({"species": table}))
    # One numeric variable, three for a column of two categories and a code for what is missing.
    first = FIRST["species"]
    assert cells.variables.tolist() == [first + v for v in (0, 1 + 1, 4 + 0, 0, 1 + 2, 4 + 3)]
    assert cells.values.tolist() == [0.5, 1, 1, -2, 1, 1]
    assert cells.rows.tolist() == [0, 0, 0, 1, 1, 1]
    assert cells.num_rows == 2


def test_cells_of_several_tables_in_any_order(variables):
    inputs, packed = rows_of(variables, ("grade", "price"))
    cells = variables.cells(packed)
    expected = [FIRST["grade"] + j for j in range(3)] * 2 + [
        FIRST["price"] + j for j in range(2)
    ] * 2
    assert cells.variables.tolist() == expected
    assert cells.values.tolist() == [*inputs["grade"].flatten(), *inputs["price"].flatten()]
    assert cells.rows.tolist() == [0] * 3 + [1] * 3 + [2] * 2 + [3] * 2


def test_a_missing_number_is_no_cell(variables):
    cells = variables.cells(variables.pack({"price": torch.tensor([[NAN, 1.0], [NAN, NAN]])}))
    assert cells.variables.tolist() == [1]
    assert cells.rows.tolist() == [0]
    assert cells.num_rows == 2


def test_queries_are_every_output_row_by_row(variables):
    _, packed = rows_of(variables, ("sold", "species"))
    queries = variables.queries(packed)
    assert queries.rows.tolist() == [0, 1, 2, 2, 2, 2, 3, 3, 3, 3]
    assert queries.variables.tolist() == [18, 18, 11, 12, 13, 14, 11, 12, 13, 14]


def test_answers_become_padded_blocks_with_their_sizes(variables):
    _, packed = rows_of(variables, ("grade", "sold", "species", "price"))
    queries = variables.queries(packed)
    answers = (100 * queries.rows + queries.variables).float().requires_grad_()
    outputs = variables.outputs(packed, answers)
    assert [names for names, _ in outputs.blocks] == [("grade", "species"), ("sold",), ("price",)]
    assert outputs.sizes == {"grade": 3, "sold": 1, "species": 4, "price": 1}
    block = outputs.blocks[0][1]
    assert block.shape == (2, 2, 4)
    assert torch.isneginf(block[:, 0, 3]).all()
    assert outputs["grade"].tolist() == [[22, 23, 24], [122, 123, 124]]
    assert outputs["sold"].tolist() == [[218], [318]]
    assert outputs["species"].tolist() == [[411, 412, 413, 414], [511, 512, 513, 514]]
    assert outputs["price"].tolist() == [[602], [702]]
    # Nothing that is padded reaches the answers.
    loss = TASKS[3].kind.loss(block, torch.zeros(2, 2, dtype=torch.int64)).sum()
    loss.backward()
    assert torch.isfinite(answers.grad).all()


def test_tasks_of_one_size_need_no_sizes(variables):
    _, packed = rows_of(variables, ("price",))
    outputs = variables.outputs(packed, torch.tensor([1.0, 2.0]))
    assert outputs.sizes is None
    assert outputs["price"].tolist() == [[1.0], [2.0]]


def test_members_come_first(variables):
    _, packed = rows_of(variables, ("grade", "species"))
    answers = torch.arange(14.0)
    single = variables.outputs(packed, answers)
    outputs = variables.outputs(packed, torch.stack([answers, -answers, 2 * answers]), members=3)
    assert outputs.members == 3
    for name in ("grade", "species"):
        torch.testing.assert_close(outputs[name][2], 2 * single[name])
        torch.testing.assert_close(outputs[name][1], -single[name])


def test_a_plain_mapping_has_outputs_for_its_own_rows(variables):
    inputs = {"price": torch.zeros(1, 2), "grade": torch.zeros(3, 3)}
    packed = variables.pack(inputs)
    queries = variables.queries(packed)
    outputs = variables.outputs(packed, queries.variables.float())
    assert outputs["price"].tolist() == [[2.0]]
    assert outputs["grade"].tolist() == [[22.0, 23.0, 24.0]] * 3
    assert [tuple(block.shape) for _, block in outputs.blocks] == [(1, 1, 1), (3, 1, 3)]


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        (torch.zeros(3, 2), r"one tensor per task, found one tensor of shape \[3, 2\]"),
        ({"rent": torch.zeros(3, 2)}, "No table for task 'rent'"),
        ({"price": torch.zeros(3, 5)}, "Table 'price' must have 2 columns, found 5"),
        ({"sold": torch.tensor([[0.0], [3.0]])}, r"Column 0 of table 'sold'.*0 .. 2, found 3"),
        ({"sold": torch.tensor([[-1.0]])}, r"0 .. 2, found -1"),
        ({"sold": torch.tensor([[0.5]])}, r"0 .. 2, found 0.5"),
        ({"species": torch.tensor([[0.5, 2.0, 4.0]])}, r"Column 2 of .*0 .. 3, found 4"),
    ],
    ids=["tensor", "unknown", "width", "code", "negative", "fraction", "second column"],
)
def test_inputs_that_do_not_fit_the_tables(variables, inputs, words):
    with pytest.raises(ValueError, match=words):
        variables.pack(inputs)


@pytest.mark.parametrize(
    ("tasks", "shapes", "words"),
    [
        (TASKS[:2], {"price": TableShape(2)}, r"no pair for \['species'\]"),
        (TASKS[:1], {"price": TableShape(2), "b": TableShape(1)}, r"no pair for \['b'\]"),
        ([Task("depth", Depth())], {"depth": TableShape(2)}, "'depth' is a Depth"),
    ],
)
def test_tables_that_do_not_fit_the_tasks(tasks, shapes, words):
    with pytest.raises(ValueError, match=words):
        TableVariables(tasks=tasks, tables=shapes)


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
