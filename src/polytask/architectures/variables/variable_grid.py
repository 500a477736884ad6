"""A batch as a rectangle of variables and rows: what models over variables compute on.

Shape legend: K tables in the batch, B rows of each, R = K * B rows, N numeric columns of all
tables, Q outputs of all tables, L categorical cells, n columns of shared inputs, C output size.

Every variable has its own embedding but all B rows of a column have the same one. With the columns
of all tables below each other, ``[N, B]``, whatever depends on the variable alone is broadcast over
the rows instead of being gathered per cell. Shared inputs are the case of one table.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from polytask.architectures.base import Inputs, TaskIndex
from polytask.architectures.variables.variable_embeddings import VariableEmbeddings
from polytask.encoders.base import check_positive
from polytask.problems.table_batch import REMEMBERED, TableBatch, TableShape, TableVariables, within
from polytask.tasks import Task, TaskTensors, group_into_blocks

if TYPE_CHECKING:
    from polytask.problems import Problem

__all__ = ["Grid", "SharedVariables", "TableGrid", "VariableSource", "variable_source"]

#: What a model over variables can read: columns shared by all tasks, or a table per task.
Columns = int | TableShape | Mapping[str, TableShape | int]


@dataclass(frozen=True)
class Grid:
    """B rows of K tables.

    Args:
        values: Numbers ``[N, B]``; 0 where not observed.
        observed: ``[N, B]``, or None if everything is.
        columns: Variable of every column ``[N]``.
        column_tables: Table of every column ``[N]``, ascending.
        outputs: Variables asked for ``[Q]``.
        output_tables: Table of every output ``[Q]``, ascending.
        num_tables: K.
        categories: Variables that have the value 1 in some row ``[L]``, and those rows ``[L]``
            (ascending, among the R rows table by table); None if there is no categorical column.
        packed: The rows that the grid was made of; None for shared inputs.
    """

    values: Tensor
    observed: Tensor | None
    columns: Tensor
    column_tables: Tensor
    outputs: Tensor
    output_tables: Tensor
    num_tables: int
    categories: tuple[Tensor, Tensor] | None = None
    packed: TableBatch | None = None

    @property
    def num_rows(self) -> int:
        """B."""
        return self.values.shape[1]


class SharedVariables(nn.Module):
    """Variables of inputs that all tasks share: those of the columns, then the outputs of every
    task.

    Args:
        tasks: With vector outputs, in order; a task has one variable per number that it outputs
            (one per class of several).
        columns: n; a ``TableShape`` where some columns hold codes of categories.
        same_variables: Whether the outputs are the columns themselves (in order; as many numbers as
            columns), or which tasks are: task name to its (first) column.

    Raises:
        ValueError: a task with dense outputs; outputs that do not fit the columns.
    """

    input_ids: Tensor
    output_ids: Tensor
    first_category: Tensor

    def __init__(
        self,
        *,
        tasks: Sequence[Task],
        columns: int | TableShape,
        same_variables: bool | Mapping[str, int] = False,
    ) -> None:
        super().__init__()
        shape = _shape(columns)
        self.shape = shape
        _check_vector_outputs(tasks)
        first = _first_columns(tasks, shape.num_numeric, same_variables)
        self.groups = group_into_blocks(tasks)
        fresh, ids = shape.variables, {}
        for task in tasks:
            size = task.kind.output_size
            start = first.get(task.name, fresh)
            ids[task.name] = range(start, start + size)
            fresh += 0 if task.name in first else size
        self.num_variables = fresh
        ordered = [i for group in self.groups for task in group for i in ids[task.name]]
        counts = torch.tensor([count + 1 for count in shape.cardinalities], dtype=torch.int64)
        first_category = shape.num_numeric + counts.cumsum(0) - counts
        self.register_buffer("input_ids", torch.arange(shape.num_numeric), persistent=False)
        self.register_buffer("output_ids", torch.tensor(ordered), persistent=False)
        self.register_buffer("first_category", first_category, persistent=False)

    def read(self, inputs: Inputs) -> Grid:
        """Inputs ``[B, n]`` as a grid; NaN is not observed.

        Raises:
            ValueError: inputs of another form.
        """
        width = self.shape.width
        if not isinstance(inputs, Tensor) or inputs.dim() != 2 or inputs.shape[1] != width:
            found = list(inputs.shape) if isinstance(inputs, Tensor) else "one tensor per task"
            raise ValueError(
                f"The inputs must be [rows, {width}], found {found}; for a table per task give "
                "`columns` as {task: number of columns}."
            )
        numbers = inputs[:, : self.shape.num_numeric].T
        missing = torch.isnan(numbers)
        observed = ~missing if bool(missing.any()) else None
        return Grid(
            values=(numbers if observed is None else numbers.masked_fill(missing, 0)).contiguous(),
            observed=observed,
            columns=self.input_ids,
            column_tables=torch.zeros_like(self.input_ids),
            outputs=self.output_ids,
            output_tables=torch.zeros_like(self.output_ids),
            num_tables=1,
            categories=self._categories(inputs) if self.shape.cardinalities else None,
        )

    def write(self, grid: Grid, answers: Tensor) -> TaskTensors:
        """Blocks ``[B, K, C]`` from answers ``[Q, B]``."""
        del grid
        sizes = [sum(task.kind.output_size for task in group) for group in self.groups]
        names = [tuple(task.name for task in group) for group in self.groups]
        columns = answers.T.split(sizes, dim=1)
        return TaskTensors(
            (group, block.unflatten(1, (len(group), -1)))
            for group, block in zip(names, columns, strict=True)
        )

    def variables_of(self, name: str) -> slice | None:
        """The variables that only this task uses; None: all are shared."""
        del name
        return None

    def fan_in(self, hidden: int) -> Tensor:
        """Inputs ``[V]`` of the linear layer that each variable's embedding is a part of: the
        columns of its table for what is read, ``hidden`` for what is asked for.
        """
        found = torch.full((self.num_variables,), hidden)
        found[: self.shape.variables] = self.shape.width
        return found

    def _categories(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        codes = inputs[:, self.shape.num_numeric :]
        known = ~torch.isnan(codes)
        largest = codes.new_tensor(self.shape.cardinalities)
        wrong = known & ((codes < 0) | (codes > largest) | (codes != codes.round()))
        if bool(wrong.any()):
            row, column = (int(i) for i in wrong.nonzero()[0])
            raise ValueError(
                f"Column {self.shape.num_numeric + column} holds codes 0 .. "
                f"{self.shape.cardinalities[column]}, found {codes[row, column].item():g}."
            )
        variables = self.first_category + codes.masked_fill(~known, 0).to(torch.int64)
        return variables[known], known.nonzero()[:, 0]


class TableGrid(nn.Module):
    """Variables of one table per task, see ``TableVariables``; the batch as one grid.

    Args:
        tasks: With vector outputs, in order.
        tables: Columns of every task's table.

    Cost: index arithmetic over the cells and outputs of a batch, without a loop over tables.
    """

    def __init__(self, *, tasks: Sequence[Task], tables: Mapping[str, TableShape | int]) -> None:
        super().__init__()
        shapes = {name: _shape(shape, f"columns[{name!r}]") for name, shape in tables.items()}
        self.tables = TableVariables(tasks=tasks, tables=shapes)
        self.num_variables = self.tables.num_variables
        self._layouts: dict[tuple[tuple[str, ...], torch.device], _Layout] = {}

    def read(self, inputs: Inputs) -> Grid:
        """Inputs ``{task: [B_k, F_k]}``, packed or not, as a grid.

        Raises:
            ValueError: inputs of another form, an unknown task, another number of columns.
        """
        tables, packed = self.tables, self.tables.pack(inputs)
        layout = self._layout(packed.names)
        table, row = packed.rows // packed.size, packed.rows % packed.size
        column = layout.first_column[table] + packed.positions
        place, values = layout.place_of_column[column], packed.cells
        categories = None
        if layout.has_categories:
            numeric = place >= 0
            codes = values[~numeric].to(torch.int64)
            categories = (tables.column_variable[column[~numeric]] + codes, packed.rows[~numeric])
            place, row, values = place[numeric], row[numeric], values[numeric]
        count = len(layout.columns) * packed.size
        index = place * packed.size + row
        observed = None
        if len(index) < count:
            observed = index.new_zeros(count, dtype=torch.bool).index_fill(0, index, True)
        return Grid(
            values=values.new_zeros(count)
            .index_copy(0, index, values)
            .view(len(layout.columns), packed.size),
            observed=None if observed is None else observed.view(len(layout.columns), packed.size),
            columns=layout.columns,
            column_tables=layout.column_tables,
            outputs=layout.outputs,
            output_tables=layout.output_tables,
            num_tables=len(packed.names),
            categories=categories,
            packed=packed,
        )

    def write(self, grid: Grid, answers: Tensor) -> TaskTensors:
        """Outputs per task from answers ``[Q, B]``."""
        packed = grid.packed
        assert packed is not None
        layout = self._layout(packed.names)
        sizes = layout.num_outputs.repeat_interleave(packed.size)
        rows = torch.arange(len(sizes), device=sizes.device).repeat_interleave(sizes)
        output = layout.first_answer[rows // packed.size] + within(sizes)
        flat = answers.flatten().index_select(0, output * packed.size + rows % packed.size)
        return self.tables.outputs(packed, flat)

    def variables_of(self, name: str) -> slice | None:
        """The variables that only this task uses."""
        return self.tables.variables_of(name)

    def fan_in(self, hidden: int) -> Tensor:
        """Inputs ``[V]`` of the linear layer that each variable's embedding is a part of: the
        columns of its table for what is read, ``hidden`` for what is asked for.
        """
        found = torch.full((self.num_variables,), hidden)
        for name, shape in self.tables.tables.items():
            first = self.tables.variables_of(name).start
            found[first : first + shape.variables] = shape.width
        return found

    def _layout(self, names: tuple[str, ...]) -> _Layout:
        key = (names, self.tables.first_column.device)
        if key not in self._layouts:
            if len(self._layouts) >= REMEMBERED:
                self._layouts.clear()
            self._layouts[key] = _Layout(self.tables, names)
        return self._layouts[key]


VariableSource = SharedVariables | TableGrid


class _Layout:
    """Where the columns and outputs of some tables lie in their grid."""

    def __init__(self, tables: TableVariables, names: tuple[str, ...]) -> None:
        device = tables.first_column.device
        chosen = torch.tensor([tables.places[name] for name in names], device=device)
        widths = torch.tensor([tables.tables[name].width for name in names], device=device)
        every = torch.arange(len(names), device=device)
        self.first_column = tables.first_column[chosen]
        columns = self.first_column.repeat_interleave(widths) + within(widths)
        numeric = ~tables.column_is_category[columns]
        self.has_categories = not bool(numeric.all())
        self.columns = tables.column_variable[columns[numeric]]
        self.column_tables = every.repeat_interleave(widths)[numeric]
        self.place_of_column = torch.full_like(tables.column_variable, -1)
        self.place_of_column[columns[numeric]] = torch.arange(len(self.columns), device=device)
        self.num_outputs = tables.num_outputs[chosen]
        self.first_answer = self.num_outputs.cumsum(0) - self.num_outputs
        first = tables.first_output[chosen].repeat_interleave(self.num_outputs)
        self.outputs = first + within(self.num_outputs)
        self.output_tables = every.repeat_interleave(self.num_outputs)


def variable_source(
    tasks: Sequence[Task], columns: Columns, same_variables: bool | Mapping[str, int] = False
) -> VariableSource:
    """The variables of shared inputs, or of a table per task.

    Raises:
        ValueError: ``same_variables`` with a table per task.
    """
    if isinstance(columns, Mapping):
        if same_variables:
            raise ValueError(
                "`same_variables` needs inputs that all tasks share, found a table per task."
            )
        return TableGrid(tasks=tasks, tables=columns)
    return SharedVariables(tasks=tasks, columns=columns, same_variables=same_variables)


def columns_of(problem: Problem) -> Columns:
    """What a model over variables reads of a problem.

    Raises:
        ValueError: inputs that are no tables, such as images.
    """
    shapes = problem.table_shapes()
    return shapes if problem.layout == "separate" else next(iter(shapes.values()))


def own_rows(
    source: VariableSource, table: VariableEmbeddings, name: str
) -> Iterator[tuple[nn.Parameter, TaskIndex]]:
    """The embeddings that only this task uses, if they are trained."""
    rows = source.variables_of(name)
    if rows is not None and isinstance(table.weight, nn.Parameter):
        yield table.weight, (rows,)


def _shape(columns: int | TableShape, name: str = "columns") -> TableShape:
    return TableShape(check_positive(name, columns)) if isinstance(columns, int) else columns


def _check_vector_outputs(tasks: Sequence[Task]) -> None:
    for task in tasks:
        if task.kind.output_dims != 1:
            raise ValueError(
                f"Task {task.name!r} is a {type(task.kind).__name__}, whose outputs are not "
                "vectors; a variable is one number."
            )


def _first_columns(
    tasks: Sequence[Task], num_columns: int, same: bool | Mapping[str, int]
) -> dict[str, int]:
    """The first column of every task whose outputs are columns of the inputs."""
    sizes = {task.name: task.kind.output_size for task in tasks}
    if not isinstance(same, Mapping):
        total = sum(sizes.values())
        if same and total != num_columns:
            raise ValueError(
                f"`same_variables=True` needs as many outputs as columns ({num_columns}), found"
                f" {total}; give a mapping from task to column instead."
            )
        starts = torch.tensor([0, *sizes.values()]).cumsum(0).tolist()
        return dict(zip(sizes, starts[:-1], strict=True)) if same else {}
    for name, column in same.items():
        if name not in sizes:
            raise ValueError(f"`same_variables` names {name!r}, which is no task of {list(sizes)}.")
        if not 0 <= column <= num_columns - sizes[name]:
            raise ValueError(
                f"`same_variables` gives task {name!r} column {column}, but its {sizes[name]} "
                f"output(s) must lie in columns 0 .. {num_columns - 1}."
            )
    return dict(same)
