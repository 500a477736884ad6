"""Rows of many tables of different widths in one piece, so that a step needs no loop over tables.

Shape legend: K tables in the batch, B rows of each, R = K * B rows, L observed cells, F_k columns
of table k.

Row r of a batch belongs to table r // B. Its observed cells follow each other in ``cells``; what
is not observed (NaN) is simply absent.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor

from polytask.tasks import Task, group_into_blocks

__all__ = ["TableBatch", "TableSet", "TableShape"]

#: Sets of tables whose index arithmetic is kept; a sampler may draw another set in every step.
REMEMBERED = 64

Value = TypeVar("Value")


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


@dataclass(frozen=True, eq=False, repr=False)
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

    cells: Tensor
    positions: Tensor
    counts: Tensor
    names: tuple[str, ...]
    widths: tuple[int, ...]
    lengths: tuple[int, ...] | None = None

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
        lengths = tuple(len(table) for table in tables.values())
        widths = tuple(table.shape[1] for table in tables.values())
        size = max(lengths)
        filled = [
            table
            if len(table) == size
            else table[torch.arange(size, device=table.device) % len(table)]
            for table in tables.values()
        ]
        counts = torch.tensor(widths, device=filled[0].device).repeat_interleave(size)
        cells = torch.cat([table.flatten() for table in filled])
        return cls(cells, within(counts), counts, tuple(tables), widths, lengths).observed()

    @property
    def size(self) -> int:
        """B, rows of each table."""
        return len(self.counts) // len(self.names)

    @functools.cached_property
    def rows(self) -> Tensor:
        """Row of every cell ``[L]``, ascending."""
        every = torch.arange(len(self.counts), device=self.device)
        return every.repeat_interleave(self.counts, output_size=len(self.cells))

    @property
    def device(self) -> torch.device:
        """Where the cells live."""
        return self.cells.device

    def observed(self) -> TableBatch:
        """The same rows without cells that are NaN."""
        present = ~torch.isnan(self.cells)
        if bool(present.all()):
            return self
        counts = torch.zeros_like(self.counts).index_add_(0, self.rows, present.to(torch.int64))
        return replace(
            self, cells=self.cells[present], positions=self.positions[present], counts=counts
        )

    def head(self, fraction: float) -> TableBatch:
        """The first share of the rows of every table, at least one."""
        size = max(1, -int(-fraction * self.size // 1))
        chosen = torch.arange(len(self.counts), device=self.device) % self.size < size
        kept = chosen[self.rows]
        return replace(
            self,
            cells=self.cells[kept],
            positions=self.positions[kept],
            counts=self.counts[chosen],
            lengths=None if self.lengths is None else tuple(min(n, size) for n in self.lengths),
        )

    def __getitem__(self, name: str) -> Tensor:
        if name not in self.names:
            raise KeyError(name)
        k = self.names.index(name)
        first = k * self.size
        bounds = torch.tensor([first, first + self.size], device=self.device)
        own = slice(*torch.searchsorted(self.rows, bounds).tolist())
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


class Block(NamedTuple):
    """Tasks of a batch that are one block: names, places in the batch ``[K']``, most outputs of a
    task, type of the targets.
    """

    names: tuple[str, ...]
    columns: Tensor
    width: int
    dtype: torch.dtype


class TableSet:
    """Some of the tasks in the order of a batch: what index arithmetic over their tables needs to
    know, worked out once per set (see ``remembered``) so that no step loops over tables.

    Args:
        tasks: All tasks, each with a table.
        names: K of them.
        device: Where the index tensors live.

    Raises:
        ValueError: a name that no task has.
    """

    def __init__(self, tasks: Sequence[Task], names: tuple[str, ...], device: torch.device) -> None:
        place = {task.name: t for t, task in enumerate(tasks)}
        unknown = [name for name in names if name not in place]
        if unknown:
            raise ValueError(f"No table for task {unknown[0]!r}; there are {list(place)}.")
        order = {name: k for k, name in enumerate(names)}
        self.names = names
        self.places = torch.tensor([place[name] for name in names], device=device)
        self.blocks = [
            Block(
                names=tuple(task.name for task in group),
                columns=torch.tensor([order[task.name] for task in group], device=device),
                width=max(task.kind.output_size for task in group),
                dtype=torch.int64 if group[0].kind.is_categorical else torch.float32,
            )
            for group in group_into_blocks((tasks[place[name]] for name in names), padded=True)
        ]


def remembered(memory: dict[Hashable, Value], key: Hashable, make: Callable[[], Value]) -> Value:
    """The value under a key, made if it is missing; a memory holds at most ``REMEMBERED``."""
    if key not in memory:
        if len(memory) >= REMEMBERED:
            memory.clear()
        memory[key] = make()
    return memory[key]


def within(counts: Tensor) -> Tensor:
    """0 .. count - 1 for every count, one after the other."""
    starts = counts.cumsum(0) - counts
    every = torch.arange(int(counts.sum()), device=counts.device)
    return every - starts.repeat_interleave(counts, output_size=len(every))
