"""A batch as a rectangle of variables and rows: what models over variables compute on.

Shape legend: K tables in the batch, B rows of each, R = K * B rows, L observed cells, N numeric
columns of all tables, Q outputs of all tables, W most outputs of one, V variables, n columns of
shared inputs, C output size.

A numeric column is one variable, and a category is a variable of its own that has the value 1 where
it applies, so that a categorical column costs one cell per row whatever its number of categories
is. Every variable has its own embedding but all B rows of a column have the same one. With the
columns of all tables below each other, ``[N, B]``, whatever depends on the variable alone is
broadcast over the rows instead of being gathered per cell. Shared inputs are the case of one table.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from polytask.architectures.base import Inputs
from polytask.encoders.base import check_positive
from polytask.problems.table_batch import TableBatch, TableSet, TableShape, remembered, within
from polytask.tasks import Task, TaskTensors, group_into_blocks

__all__ = ["Cells", "Grid", "SharedVariables", "TableVariables", "VariableSource"]

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
        categories: Variables that have the value 1 in some row, and those rows (ascending, among
            the R rows table by table); None if there is no categorical column.
        batch: The rows that the grid was made of; None for shared inputs.
    """

    values: Tensor
    observed: Tensor | None
    columns: Tensor
    column_tables: Tensor
    outputs: Tensor
    output_tables: Tensor
    num_tables: int
    categories: tuple[Tensor, Tensor] | None = None
    batch: TableBatch | None = None

    @property
    def num_rows(self) -> int:
        """B."""
        return self.values.shape[1]


class Cells(NamedTuple):
    """Observed cells: value ``[L]``, variable ``[L]``, row ``[L]`` (ascending) of R rows."""

    values: Tensor
    variables: Tensor
    rows: Tensor
    num_rows: int


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
        self.shape = shape = table_shape(columns)
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
        _check_codes(inputs, self.shape, "", may_lack=True)
        variables = self.first_category + codes.masked_fill(~known, 0).to(torch.int64)
        return variables[known], known.nonzero()[:, 0]


class TableVariables(nn.Module):
    """Variables of one table per task, and the batch as one grid.

    The variables of table t follow each other: its numeric columns, its categories (with one more
    per column for missing ones), its outputs (one for a number or a yes/no, one per class of
    several). Tables do not share variables.

    Args:
        tasks: With vector outputs, in order.
        tables: Columns of every task's table.

    Raises:
        ValueError: a task without a table, or with dense or sequence outputs.

    Cost: no parameters; index arithmetic over the cells and outputs of a batch, without a loop over
        tables.
    """

    first_variable: Tensor
    first_output: Tensor
    num_outputs: Tensor
    first_column: Tensor
    column_variable: Tensor
    column_is_category: Tensor

    def __init__(self, *, tasks: Sequence[Task], tables: Mapping[str, TableShape | int]) -> None:
        super().__init__()
        self.tasks = tuple(tasks)
        names = [task.name for task in self.tasks]
        if set(tables) != set(names):
            raise ValueError(
                f"Every task needs exactly one table, found no pair for"
                f" {sorted(set(tables) ^ set(names))}."
            )
        _check_vector_outputs(tasks)
        self.tables = {name: table_shape(tables[name], f"columns[{name!r}]") for name in names}
        self.places = {name: position for position, name in enumerate(names)}
        self._sets: dict[Hashable, _Tables] = {}
        shapes = list(self.tables.values())
        outputs = torch.tensor([task.kind.output_size for task in self.tasks])
        inputs = torch.tensor([shape.variables for shape in shapes])
        first = torch.cat([torch.zeros(1, dtype=torch.int64), (inputs + outputs).cumsum(0)])
        widths = torch.tensor([shape.width for shape in shapes])
        # Within its table a column's variables start where those of the columns before it end.
        sizes = [[1] * s.num_numeric + [c + 1 for c in s.cardinalities] for s in shapes]
        offsets = torch.cat([torch.tensor([0, *row[:-1]]).cumsum(0) for row in sizes])
        category = torch.cat([torch.arange(s.width) >= s.num_numeric for s in shapes])
        for name, tensor in {
            "first_variable": first,
            "first_output": first[:-1] + inputs,
            "num_outputs": outputs,
            "first_column": widths.cumsum(0) - widths,
            "column_variable": offsets + first[:-1].repeat_interleave(widths),
            "column_is_category": category,
        }.items():
            self.register_buffer(name, tensor, persistent=False)

    @property
    def num_variables(self) -> int:
        """V."""
        return int(self.first_variable[-1])

    def variables_of(self, name: str) -> slice:
        """The variables of one table, inputs and outputs: those that only this task uses."""
        place = self.places[name]
        return slice(int(self.first_variable[place]), int(self.first_variable[place + 1]))

    def outputs_of(self, name: str) -> slice:
        """The variables that one task predicts."""
        place = self.places[name]
        return slice(int(self.first_output[place]), int(self.first_variable[place + 1]))

    def fan_in(self, hidden: int) -> Tensor:
        """Inputs ``[V]`` of the linear layer that each variable's embedding is a part of: the
        columns of its table for what is read, ``hidden`` for what is asked for.
        """
        found = torch.full((self.num_variables,), hidden)
        for name, shape in self.tables.items():
            first = self.variables_of(name).start
            found[first : first + shape.variables] = shape.width
        return found

    def tables_of(self, names: tuple[str, ...]) -> _Tables:
        """The index arithmetic of some tables."""
        device = self.first_variable.device
        return remembered(self._sets, (names, device), lambda: _Tables(self, names))

    def pack(self, inputs: Inputs) -> TableBatch:
        """The inputs of a batch in one piece, checked against the tables.

        Raises:
            ValueError: inputs that are one tensor, an unknown task, another number of columns.
        """
        if not isinstance(inputs, Mapping):
            raise ValueError(
                f"A model over tables takes one tensor per task, found one tensor of shape"
                f" {list(inputs.shape)}."
            )
        unknown = [name for name in inputs if name not in self.places]
        if unknown:
            raise ValueError(f"No table for task {unknown[0]!r}; there are {list(self.places)}.")
        batch = TableBatch.pack(inputs)
        for name, width in zip(batch.names, batch.widths, strict=True):
            if width != self.tables[name].width:
                raise ValueError(
                    f"Table {name!r} must have {self.tables[name].width} columns, found {width}."
                )
        if batch is not inputs:
            for name, table in inputs.items():
                _check_codes(table, self.tables[name], f" of table {name!r}")
        return batch

    def cells(self, batch: TableBatch) -> Cells:
        """Variables and values of the observed cells."""
        column = self._columns(batch)
        category = self.column_is_category[column]
        codes = torch.where(category, batch.cells, 0).to(torch.int64)
        values = torch.where(category, 1, batch.cells)
        return Cells(values, self.column_variable[column] + codes, batch.rows, len(batch.counts))

    def read(self, inputs: Inputs) -> Grid:
        """Inputs ``{task: [B_k, F_k]}``, packed or not, as a grid.

        Raises:
            ValueError: inputs of another form, an unknown task, another number of columns.
        """
        batch = self.pack(inputs)
        tables, size = self.tables_of(batch.names), batch.size
        column, row, values = self._columns(batch), batch.rows, batch.cells
        place, categories = tables.place_of_column[column], None
        if tables.has_categories:
            numeric = place >= 0
            codes = values[~numeric].to(torch.int64)
            categories = (self.column_variable[column[~numeric]] + codes, row[~numeric])
            place, row, values = place[numeric], row[numeric], values[numeric]
        shape = (len(tables.columns), size)
        index = place * size + row % size
        observed = None
        if len(index) < shape[0] * size:
            observed = index.new_zeros(shape[0] * size, dtype=torch.bool)
            observed = observed.index_fill(0, index, True).view(shape)
        return Grid(
            values=values.new_zeros(shape[0] * size).index_copy(0, index, values).view(shape),
            observed=observed,
            columns=tables.columns,
            column_tables=tables.column_tables,
            outputs=tables.outputs,
            output_tables=tables.output_tables,
            num_tables=len(batch.names),
            categories=categories,
            batch=batch,
        )

    def write(self, grid: Grid, answers: Tensor) -> TaskTensors:
        """Outputs per task from answers ``[Q, B]``."""
        batch = grid.batch
        assert batch is not None
        tables, count = self.tables_of(batch.names), len(batch.names)
        padded = answers.new_full((count * tables.width, batch.size), -torch.inf)
        padded = padded.index_copy(0, tables.slots, answers)
        return self.blocks(batch, padded.view(count, tables.width, batch.size).mT)

    def blocks(self, batch: TableBatch, answers: Tensor) -> TaskTensors:
        """The answers ``[K, B, W]`` per task; what a task does not have is -inf.

        Returns:
            A block ``[B, K', C]`` for the K' tables of one kind. For a plain mapping, one block
            ``[B_k, 1, C_k]`` per task.
        """
        tables, rows = self.tables_of(batch.names), answers.transpose(0, 1)
        if batch.lengths is not None:
            return TaskTensors(
                ((name,), rows[:length, k : k + 1, : tables.sizes[name]])
                for k, (name, length) in enumerate(zip(batch.names, batch.lengths, strict=True))
            )
        whole = len(tables.blocks) == 1
        return TaskTensors(
            [
                (b.names, (rows if whole else rows.index_select(1, b.columns))[..., : b.width])
                for b in tables.blocks
            ],
            sizes=tables.sizes if tables.padded else None,
        )

    def _columns(self, batch: TableBatch) -> Tensor:
        """Column ``[L]`` of every cell among those of all tables."""
        first = self.tables_of(batch.names).first_column
        return first[batch.rows // batch.size] + batch.positions


VariableSource = SharedVariables | TableVariables


class _Tables(TableSet):
    """Some tables: where their columns and outputs lie in their grid."""

    def __init__(self, source: TableVariables, names: tuple[str, ...]) -> None:
        device = source.first_variable.device
        super().__init__(source.tasks, names, device)
        chosen = self.places
        every = torch.arange(len(names), device=device)
        widths = torch.tensor([source.tables[name].width for name in names], device=device)
        self.first_column = source.first_column[chosen]
        columns = self.first_column.repeat_interleave(widths) + within(widths)
        numeric = ~source.column_is_category[columns]
        self.has_categories = not bool(numeric.all())
        self.columns = source.column_variable[columns[numeric]]
        self.column_tables = every.repeat_interleave(widths)[numeric]
        self.place_of_column = torch.full_like(source.column_variable, -1)
        self.place_of_column[columns[numeric]] = torch.arange(len(self.columns), device=device)
        self.num_outputs = source.num_outputs[chosen]
        self.first_output = source.first_output[chosen]
        self.outputs = self.first_output.repeat_interleave(self.num_outputs) + within(
            self.num_outputs
        )
        self.output_tables = every.repeat_interleave(self.num_outputs)
        #: W, and the rows of the outputs in ``[K * W, B]``.
        self.width = max(block.width for block in self.blocks)
        self.slots = self.output_tables * self.width + within(self.num_outputs)
        self.sizes = dict(zip(names, self.num_outputs.tolist(), strict=True))
        self.padded = any(len({self.sizes[n] for n in b.names}) > 1 for b in self.blocks)


def table_shape(columns: int | TableShape, name: str = "columns") -> TableShape:
    """A number of columns as numeric ones."""
    return TableShape(check_positive(name, columns)) if isinstance(columns, int) else columns


def _check_codes(table: Tensor, shape: TableShape, where: str, *, may_lack: bool = False) -> None:
    if not shape.cardinalities:
        return
    codes = table[:, shape.num_numeric :]
    largest = codes.new_tensor(shape.cardinalities)
    wrong = ~((codes >= 0) & (codes <= largest) & (codes == codes.round()))
    if may_lack:
        wrong &= ~torch.isnan(codes)
    if bool(wrong.any()):
        row, column = (int(i) for i in wrong.nonzero()[0])
        raise ValueError(
            f"Column {shape.num_numeric + column}{where} holds codes 0 .. "
            f"{shape.cardinalities[column]}, found {codes[row, column].item():g}."
        )


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
