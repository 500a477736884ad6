"""Rows of many tables of different widths in one piece, so that a step needs no loop over tables.

Shape legend: K tables in the batch, B rows of each, R = K * B rows, L observed cells, F_k columns
of table k, Q outputs asked for, V variables.

Row r of a batch belongs to table r // B. Its observed cells follow each other in ``cells``; what
is not observed (NaN) is simply absent. To an architecture over variables a cell is a pair of a
variable and a number: a numeric column is one variable, and a category is a variable of its own
that has the value 1 where it applies, so that a categorical column costs one cell per row whatever
its number of categories is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from polytask.tasks import Task, TaskTensors, group_into_blocks

__all__ = ["Cells", "Queries", "TableBatch", "TableShape", "TableVariables"]

#: Sets of tables whose index arithmetic is kept; a sampler may draw another set in every step.
REMEMBERED = 64


@dataclass(frozen=True)
class TableShape:
    """Columns of one table: first the numeric ones, then the codes of the categorical ones.

    Args:
        num_numeric: F, numeric columns; NaN where not observed.
        cardinalities: Categories of every categorical column; column j holds codes 0 .. c_j, where
            c_j stands for whatever is missing, unseen or rare.

    Raises:
        ValueError: a table without columns, or a categorical column without categories.
    """

    num_numeric: int
    cardinalities: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        """Check the arguments."""
        if self.num_numeric < 0 or any(count < 0 for count in self.cardinalities):
            raise ValueError(f"A table cannot have negative sizes, found {self!r}.")
        if self.width == 0:
            raise ValueError("A table needs at least one column that can be an input, found none.")

    @property
    def width(self) -> int:
        """Columns of the table."""
        return self.num_numeric + len(self.cardinalities)

    @property
    def variables(self) -> int:
        """Variables: one per numeric column, one per category and code for missing ones."""
        return self.num_numeric + sum(count + 1 for count in self.cardinalities)


class TableBatch(Mapping[str, Tensor]):
    """B rows of each of K tables; as a mapping it yields each table's own rows ``[B_k, F_k]``.

    Args:
        cells: Observed cells ``[L]``, row by row.
        positions: Their columns within their own tables ``[L]``.
        counts: Observed cells of every row ``[R]``.
        names: The K tables, in the order of the rows.
        widths: Their numbers of columns.
        lengths: Rows of every table that count, where short tables were filled up by repeating
            their first rows; None if all B count.
    """

    def __init__(
        self,
        *,
        cells: Tensor,
        positions: Tensor,
        counts: Tensor,
        names: Sequence[str],
        widths: Sequence[int],
        lengths: Sequence[int] | None = None,
    ) -> None:
        self.cells = cells
        self.positions = positions
        self.counts = counts
        self.names = tuple(names)
        self.widths = tuple(widths)
        self.lengths = None if lengths is None else tuple(lengths)
        self._rows: Tensor | None = None

    @classmethod
    def pack(cls, tables: Mapping[str, Tensor]) -> TableBatch:
        """The rows of some tables ``[B_k, F_k]``; shorter tables are filled up with their first
        rows.

        Raises:
            ValueError: no table, a table without rows, or inputs that are not ``[rows, columns]``.
        """
        if isinstance(tables, TableBatch):
            return tables
        if not tables:
            raise ValueError("At least one table is needed, found none.")
        for name, table in tables.items():
            if table.dim() != 2 or not len(table):
                raise ValueError(
                    f"Table {name!r} must be [rows, columns] with at least one row, found shape"
                    f" {list(table.shape)}."
                )
        size = max(len(table) for table in tables.values())
        filled = [
            table
            if len(table) == size
            else table[torch.arange(size, device=table.device) % len(table)]
            for table in tables.values()
        ]
        lengths = [len(table) for table in tables.values()]
        widths = [table.shape[1] for table in filled]
        counts = torch.tensor(widths, device=filled[0].device).repeat_interleave(size)
        return cls(
            cells=torch.cat([table.flatten() for table in filled]),
            positions=within(counts),
            counts=counts,
            names=tuple(tables),
            widths=widths,
            lengths=lengths,
        ).observed()

    @property
    def size(self) -> int:
        """B, rows of each table."""
        return len(self.counts) // len(self.names)

    @property
    def rows(self) -> Tensor:
        """Row of every cell ``[L]``, ascending."""
        if self._rows is None:
            every = torch.arange(len(self.counts), device=self.counts.device)
            self._rows = every.repeat_interleave(self.counts, output_size=len(self.cells))
        return self._rows

    @property
    def device(self) -> torch.device:
        """Where the cells live."""
        return self.cells.device

    def observed(self, keep: Tensor | None = None) -> TableBatch:
        """The same rows without cells that are NaN, and without those where ``keep [L]`` is
        False.
        """
        present = ~torch.isnan(self.cells)
        if keep is not None:
            present &= keep
        if bool(present.all()):
            return self
        counts = torch.zeros_like(self.counts).index_add_(0, self.rows, present.to(torch.int64))
        return TableBatch(
            cells=self.cells[present],
            positions=self.positions[present],
            counts=counts,
            names=self.names,
            widths=self.widths,
            lengths=self.lengths,
        )

    def head(self, fraction: float) -> TableBatch:
        """The first share of the rows of every table, at least one."""
        size = max(1, -int(-fraction * self.size // 1))
        chosen = torch.arange(len(self.counts), device=self.device) % self.size < size
        kept = chosen[self.rows]
        return TableBatch(
            cells=self.cells[kept],
            positions=self.positions[kept],
            counts=self.counts[chosen],
            names=self.names,
            widths=self.widths,
            lengths=None if self.lengths is None else [min(n, size) for n in self.lengths],
        )

    def map_cells(self, function: Callable[[Tensor], Tensor]) -> TableBatch:
        """The same cells with other numbers in them."""
        return TableBatch(
            cells=function(self.cells),
            positions=self.positions,
            counts=self.counts,
            names=self.names,
            widths=self.widths,
            lengths=self.lengths,
        )

    def __getitem__(self, name: str) -> Tensor:
        k = self.names.index(name) if name in self.names else None
        if k is None:
            raise KeyError(name)
        ends = self.counts.cumsum(0)
        first, last = k * self.size, (k + 1) * self.size
        start = int(ends[first] - self.counts[first])
        own = slice(start, int(ends[last - 1]))
        table = self.cells.new_full((self.size, self.widths[k]), torch.nan)
        table[self.rows[own] - first, self.positions[own]] = self.cells[own]
        return table if self.lengths is None else table[: self.lengths[k]]

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)

    def __repr__(self) -> str:
        return (
            f"TableBatch({len(self.names)} table(s), {self.size} rows each,"
            f" {len(self.cells)} cells)"
        )


class Cells(NamedTuple):
    """Observed cells: value ``[L]``, variable ``[L]``, row ``[L]`` (ascending) of R rows."""

    values: Tensor
    variables: Tensor
    rows: Tensor
    num_rows: int


class Queries(NamedTuple):
    """Outputs asked for: row ``[Q]`` (ascending) and variable ``[Q]``."""

    rows: Tensor
    variables: Tensor


class TableVariables(nn.Module):
    """Numbers the variables of many tables, and says which of them a batch reads and asks for.

    The variables of table t follow each other: its numeric columns, its categories, its outputs
    (one for a number or a yes/no, one per class of several). Tables do not share variables.

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

    def __init__(self, *, tasks: Sequence[Task], tables: Mapping[str, TableShape]) -> None:
        super().__init__()
        self.tasks = tuple(tasks)
        names = [task.name for task in self.tasks]
        if set(tables) != set(names):
            raise ValueError(
                f"Every task needs exactly one table, found no pair for"
                f" {sorted(set(tables) ^ set(names))}."
            )
        for task in self.tasks:
            if task.kind.output_dims != 1:
                raise ValueError(
                    f"Task {task.name!r} is a {type(task.kind).__name__}, whose outputs are not "
                    "vectors; a variable is one number."
                )
        self.tables = {name: tables[name] for name in names}
        self.places = {name: position for position, name in enumerate(names)}
        self._selected: dict[tuple[str, ...], tuple[Tensor, list[tuple[Task, ...]]]] = {}
        shapes = list(self.tables.values())
        outputs = torch.tensor([task.kind.output_size for task in self.tasks])
        inputs = torch.tensor([shape.variables for shape in shapes])
        first = torch.cat([torch.zeros(1, dtype=torch.int64), (inputs + outputs).cumsum(0)])
        widths = torch.tensor([shape.width for shape in shapes])
        # Within its table a column's variables start where those of the columns before it end.
        sizes = [[1] * s.num_numeric + [c + 1 for c in s.cardinalities] for s in shapes]
        offsets = [torch.tensor([0, *row[:-1]]).cumsum(0) for row in sizes]
        category = [torch.arange(s.width) >= s.num_numeric for s in shapes]
        self._buffer("first_variable", first)
        self._buffer("first_output", first[:-1] + inputs)
        self._buffer("num_outputs", outputs)
        self._buffer("first_column", widths.cumsum(0) - widths)
        self._buffer("column_variable", torch.cat(offsets) + first[:-1].repeat_interleave(widths))
        self._buffer("column_is_category", torch.cat(category))

    def _buffer(self, name: str, tensor: Tensor) -> None:
        self.register_buffer(name, tensor, persistent=False)

    @property
    def num_variables(self) -> int:
        """V."""
        return int(self.first_variable[-1])

    def variables_of(self, name: str) -> slice:
        """The variables of one table, inputs and outputs."""
        place = self.places[name]
        return slice(int(self.first_variable[place]), int(self.first_variable[place + 1]))

    def outputs_of(self, name: str) -> slice:
        """The variables that one task predicts."""
        place = self.places[name]
        return slice(int(self.first_output[place]), int(self.first_variable[place + 1]))

    def pack(self, inputs: Tensor | Mapping[str, Tensor]) -> TableBatch:
        """The inputs of a batch as packed rows, checked against the tables.

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
        packed = TableBatch.pack(inputs)
        for name, width in zip(packed.names, packed.widths, strict=True):
            if width != self.tables[name].width:
                raise ValueError(
                    f"Table {name!r} must have {self.tables[name].width} columns, found {width}."
                )
        if packed is not inputs:
            for name, table in inputs.items():
                self._check_codes(name, table)
        return packed

    def _check_codes(self, name: str, table: Tensor) -> None:
        shape = self.tables[name]
        for j, count in enumerate(shape.cardinalities):
            codes = table[:, shape.num_numeric + j]
            wrong = ~((codes >= 0) & (codes <= count) & (codes == codes.round()))
            if bool(wrong.any()):
                raise ValueError(
                    f"Column {shape.num_numeric + j} of table {name!r} holds codes 0 .. {count},"
                    f" found {codes[wrong][0].item():g}."
                )

    def cells(self, packed: TableBatch) -> Cells:
        """Variables and values of the observed cells."""
        place, _ = self._select(packed.names)
        rows = packed.rows
        column = self.first_column[place].repeat_interleave(packed.size)[rows] + packed.positions
        category = self.column_is_category[column]
        code = torch.where(category, packed.cells, 0).to(torch.int64)
        values = torch.where(category, 1, packed.cells)
        return Cells(values, self.column_variable[column] + code, rows, len(packed.counts))

    def queries(self, packed: TableBatch) -> Queries:
        """Every output of every row, row by row."""
        place, _ = self._select(packed.names)
        wanted = self.num_outputs[place].repeat_interleave(packed.size)
        every = torch.arange(len(wanted), device=wanted.device)
        rows = every.repeat_interleave(wanted)
        first = self.first_output[place].repeat_interleave(packed.size)
        return Queries(rows, first[rows] + within(wanted))

    def outputs(self, packed: TableBatch, answers: Tensor, *, members: int = 1) -> TaskTensors:
        """The answers ``[Q]`` (``[M, Q]`` with M members) to ``queries`` per task.

        Returns:
            A block ``[B, K', C]`` for the K' tables of one kind; classes that a task does not have
            are -inf. For a plain mapping, one block ``[B_k, 1, C_k]`` per task.
        """
        place, groups = self._select(packed.names)
        sizes = self.num_outputs[place]
        wanted = sizes.repeat_interleave(packed.size)
        rows = torch.arange(len(wanted), device=wanted.device).repeat_interleave(wanted)
        width = max(task.kind.output_size for group in groups for task in group)
        leading = () if members == 1 else (members,)
        flat = answers.new_full((*leading, len(wanted) * width), -torch.inf)
        flat = flat.index_copy(-1, rows * width + within(wanted), answers)
        padded = flat.unflatten(-1, (len(packed.names), packed.size, width)).transpose(-3, -2)
        if packed.lengths is not None:
            return self._cut(packed, packed.lengths, padded, members)
        order = {name: k for k, name in enumerate(packed.names)}
        blocks = []
        for group in groups:
            names = tuple(task.name for task in group)
            block = padded[..., : max(task.kind.output_size for task in group)]
            if len(groups) > 1:
                chosen = torch.tensor([order[name] for name in names], device=block.device)
                block = block.index_select(-2, chosen)
            blocks.append((names, block))
        return TaskTensors(blocks, members, sizes=self._sizes(groups))

    def _cut(
        self, packed: TableBatch, lengths: Sequence[int], padded: Tensor, members: int
    ) -> TaskTensors:
        blocks = []
        for k, (name, length) in enumerate(zip(packed.names, lengths, strict=True)):
            size = self.tasks[self.places[name]].kind.output_size
            blocks.append(((name,), padded[..., :length, k : k + 1, :size]))
        return TaskTensors(blocks, members)

    @staticmethod
    def _sizes(groups: Sequence[Sequence[Task]]) -> dict[str, int] | None:
        sizes = {task.name: task.kind.output_size for group in groups for task in group}
        uneven = any(len({task.kind.output_size for task in group}) > 1 for group in groups)
        return sizes if uneven else None

    def _select(self, names: tuple[str, ...]) -> tuple[Tensor, list[tuple[Task, ...]]]:
        """Places of some tasks, and their blocks; both are remembered."""
        found = self._selected.get(names)
        if found is None or found[0].device != self.first_variable.device:
            places = [self.places[name] for name in names]
            groups = group_into_blocks((self.tasks[p] for p in places), padded=True)
            found = (torch.tensor(places, device=self.first_variable.device), groups)
            if len(self._selected) >= REMEMBERED:
                self._selected.clear()
            self._selected[names] = found
        return found


def within(counts: Tensor) -> Tensor:
    """0 .. count - 1 for every count, one after the other."""
    starts = counts.cumsum(0) - counts
    every = torch.arange(int(counts.sum()), device=counts.device)
    return every - starts.repeat_interleave(counts, output_size=len(every))
