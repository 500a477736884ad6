"""Variables of many tables as one grid; outputs are those of every task's own."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from polytask.architectures.variables.variable_grid import TableVariables
from polytask.problems.table_batch import REMEMBERED, TableShape
from polytask.tasks import Binary, Depth, Multiclass, Regression, Task

NAN = float("nan")
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
    return inputs, replace(variables.pack(inputs), lengths=None)


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


def test_a_grid_has_the_numbers_of_all_tables_below_each_other(variables):
    inputs, packed = rows_of(variables, ("grade", "species"))
    grid = variables.read(packed)
    assert grid.columns.tolist() == [FIRST["grade"] + j for j in range(3)] + [FIRST["species"]]
    assert grid.column_tables.tolist() == [0, 0, 0, 1]
    expected = torch.cat([inputs["grade"].T, inputs["species"][:, :1].T])
    assert torch.equal(grid.values, expected)
    assert grid.observed is None
    categories, rows = grid.categories
    # Codes 0, 1 of the first column and of the second, whose variables start three later.
    assert categories.tolist() == [FIRST["species"] + v for v in (1, 4, 2, 5)]
    assert rows.tolist() == [2, 2, 3, 3]


def test_what_is_asked_for_are_the_outputs_of_every_table(variables):
    grid = variables.read(rows_of(variables, ("sold", "species"))[1])
    assert grid.outputs.tolist() == [18, 11, 12, 13, 14]
    assert grid.output_tables.tolist() == [0, 1, 1, 1, 1]


def answered(grid):
    """Answers ``[Q, B]`` that say which row and variable they are for."""
    rows = grid.output_tables.unsqueeze(1) * grid.num_rows + torch.arange(grid.num_rows)
    return (100 * rows + grid.outputs.unsqueeze(1)).float().requires_grad_()


def test_answers_become_padded_blocks_with_their_sizes(variables):
    grid = variables.read(rows_of(variables, ("grade", "sold", "species", "price"))[1])
    answers = answered(grid)
    outputs = variables.write(grid, answers)
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
    grid = variables.read(rows_of(variables, ("price",))[1])
    outputs = variables.write(grid, torch.tensor([[1.0, 2.0]]))
    assert outputs.sizes is None
    assert outputs["price"].tolist() == [[1.0], [2.0]]


def test_a_plain_mapping_has_outputs_for_its_own_rows(variables):
    grid = variables.read({"price": torch.zeros(1, 2), "grade": torch.zeros(3, 3)})
    outputs = variables.write(grid, grid.outputs.unsqueeze(1).expand(-1, 3).float())
    assert outputs["price"].tolist() == [[2.0]]
    assert outputs["grade"].tolist() == [[22.0, 23.0, 24.0]] * 3
    assert [tuple(block.shape) for _, block in outputs.blocks] == [(1, 1, 1), (3, 1, 3)]


def test_arithmetic_of_a_few_sets_of_tasks_is_kept():
    tasks = [Task(f"t{i}", Regression()) for i in range(REMEMBERED + 5)]
    variables = TableVariables(tasks=tasks, tables={task.name: 1 for task in tasks})
    for task in tasks:
        variables.read({task.name: torch.zeros(1, 1)})
    assert len(variables._sets) <= REMEMBERED
    assert variables.tables_of(("t1", "t0")) is variables.tables_of(("t1", "t0"))


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
