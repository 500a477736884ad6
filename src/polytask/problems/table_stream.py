"""Many tables in one piece: batches of all of them by index arithmetic, without a loop over tables.

Shape legend: T tasks, K of them in a batch, N_t rows and F_t columns of task t, B rows of each.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from polytask.problems.batch import Batch
from polytask.problems.splits import SeparateSplit
from polytask.problems.table_batch import REMEMBERED, TableBatch, within
from polytask.tasks import TaskTensors, group_into_blocks

__all__ = ["TableBatchSplit", "TableBatchStream"]

#: Of the permutation. Four are enough for large tables, but with them some orders of a handful of
#: rows come up several times as often as others.
_ROUNDS = 8
#: Draws whose rows are computed at once.
_AHEAD = 16


class TableBatchSplit:
    """The rows of a ``SeparateSplit`` of tables, stored as one vector of cells.

    Args:
        split: Tasks with inputs ``[N_t, F_t]`` and targets of one number or class per row.

    Raises:
        ValueError: inputs that are no tables; a task whose rows have no single target.
    """

    def __init__(self, split: SeparateSplit) -> None:
        self.source = split
        self.tasks = split.tasks
        self.names = tuple(task.name for task in self.tasks)
        self.places = {name: t for t, name in enumerate(self.names)}
        parts = [split.parts[name] for name in self.names]
        for task, part in zip(self.tasks, parts, strict=True):
            if part.inputs.dim() != 2 or part.targets[task.name].dim() != 1:
                raise ValueError(
                    f"Task {task.name!r} is no table with one target: inputs"
                    f" {list(part.inputs.shape)}, targets {list(part.targets[task.name].shape)}."
                )
        self.device = parts[0].inputs.device
        self.counts = torch.tensor([len(part) for part in parts])
        self.widths = torch.tensor([part.inputs.shape[1] for part in parts])
        self._cells = torch.cat([part.inputs.float().flatten() for part in parts])
        self._has_gaps = bool(torch.isnan(self._cells).any())
        sizes = self.counts * self.widths
        self._first_cell = (sizes.cumsum(0) - sizes).to(self.device)
        self._first_row = (self.counts.cumsum(0) - self.counts).to(self.device)
        # Numbers and classes in one vector: a class index is exact in float64.
        found = [
            (task, part.targets[task.name]) for task, part in zip(self.tasks, parts, strict=True)
        ]
        labelled = torch.cat([~task.kind.missing(target) for task, target in found])
        self._labelled = None if bool(labelled.all()) else labelled
        self._targets = torch.where(
            labelled, torch.cat([target.double() for _, target in found]), 0
        )
        self._selections: dict[tuple[str, ...], _Selection] = {}

    @staticmethod
    def takes(split: SeparateSplit) -> bool:
        """Whether every task is a table with one number or class per row."""
        return all(
            part.inputs.dim() == 2 and part.targets[name].dim() == 1
            for name, part in split.parts.items()
        )

    def __len__(self) -> int:
        return len(self.source)

    def __repr__(self) -> str:
        return f"TableBatchSplit({len(self.tasks)} tables, {int(self.counts.sum())} rows)"

    def batch(self, names: tuple[str, ...], rows: Tensor, *, valid: Tensor | None = None) -> Batch:
        """The batch of some rows of some tasks.

        Args:
            names: K tasks.
            rows: ``[K, B]``, row numbers of each.
            valid: ``[K, B]``, False where a row only fills up; None if all count.
        """
        chosen = self._select(names)
        flat = rows.flatten()
        size = rows.shape[1]
        place = chosen.places.repeat_interleave(size)
        widths = chosen.widths.repeat_interleave(size)
        positions = within(widths)
        starts = self._first_cell[place] + flat * widths - (widths.cumsum(0) - widths)
        every = torch.arange(len(positions), device=self.device)
        cells = every + starts.repeat_interleave(widths, output_size=len(every))
        inputs = TableBatch(
            cells=self._cells[cells],
            positions=positions,
            counts=widths,
            names=names,
            widths=chosen.plain_widths,
        )
        numbers = self._first_row[place] + flat
        targets = self._targets[numbers].view(rows.shape).T
        present = valid
        if self._labelled is not None:
            labelled = self._labelled[numbers].view(rows.shape)
            present = labelled if valid is None else labelled & valid
        blocks, masks = [], []
        for block_names, columns, dtype in chosen.blocks:
            whole = len(chosen.blocks) == 1
            found = targets if whole else targets.index_select(1, columns)
            blocks.append((block_names, found.to(dtype)))
            masks.append(None if present is None else present.T[:, columns])
        return Batch(
            inputs=inputs.observed() if self._has_gaps else inputs,
            targets=TaskTensors(blocks),
            present=tuple(masks),
            tasks=_with_labels(names, present),
            indices=_RowNumbers(names, rows, valid),
            all_rows_count=valid is None,
        )

    def batches(self, size: int) -> Iterator[Batch]:
        """All rows in order, about ``size`` of them at a time over all tables together; tables that
        end are filled up with their last row, which ``Batch.present`` leaves out.
        """
        start = 0
        while True:
            left = self.counts > start
            if not bool(left.any()):
                return
            names = tuple(n for n, more in zip(self.names, left.tolist(), strict=True) if more)
            # As many rows of each table as fit, but no more than the longest table still has.
            longest = int(self.counts.max()) - start
            each = min(longest, max(1, size // len(names)))
            wanted = start + torch.arange(each)
            counts = self.counts[left].unsqueeze(1)
            valid = wanted < counts
            rows = torch.minimum(wanted.expand_as(valid), counts - 1).to(self.device)
            whole = bool(valid.all())
            yield self.batch(names, rows, valid=None if whole else valid.to(self.device))
            start += each

    def _select(self, names: tuple[str, ...]) -> _Selection:
        if names not in self._selections:
            if len(self._selections) >= REMEMBERED:
                self._selections.clear()
            self._selections[names] = _Selection(self, names)
        return self._selections[names]


def _with_labels(names: tuple[str, ...], present: Tensor | None) -> tuple[str, ...]:
    """Tasks with a label in some row ``[K, B]``."""
    if present is None:
        return names
    some = present.any(1).tolist()
    return tuple(name for name, labelled in zip(names, some, strict=True) if labelled)


class _Selection:
    """What a batch of some tasks needs to know about them."""

    def __init__(self, split: TableBatchSplit, names: tuple[str, ...]) -> None:
        unknown = [name for name in names if name not in split.places]
        if unknown:
            raise ValueError(f"No task {unknown[0]!r}; there are {list(split.names)}.")
        places = [split.places[name] for name in names]
        tasks = [split.tasks[place] for place in places]
        order = {name: k for k, name in enumerate(names)}
        self.places = torch.tensor(places, device=split.device)
        self.widths = split.widths[places].to(split.device)
        self.plain_widths = split.widths[places].tolist()
        self.blocks = [
            (
                tuple(task.name for task in group),
                torch.tensor([order[task.name] for task in group], device=split.device),
                torch.int64 if group[0].kind.is_categorical else torch.float32,
            )
            for group in group_into_blocks(tasks, padded=True)
        ]


class _RowNumbers(Mapping[str, Tensor]):
    """Row numbers ``[B]`` per task; -1 where a row only fills up."""

    def __init__(self, names: tuple[str, ...], rows: Tensor, valid: Tensor | None) -> None:
        self._names = names
        self._rows = rows if valid is None else torch.where(valid, rows, -1)

    def __getitem__(self, name: str) -> Tensor:
        if name not in self._names:
            raise KeyError(name)
        return self._rows[self._names.index(name)]

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


class TableBatchStream:
    """Endless streams of row numbers, one per task, drawn for many tasks at once.

    Every epoch of a task visits each of its rows once, in an order of its own. The order is not
    stored: row ``o`` of epoch ``e`` is a keyed permutation of ``o``, computed when it is asked for
    (a Feistel network on pairs of half words, walked until the number is below N_t; J. Black and
    P. Rogaway, Ciphers with arbitrary finite domains, CT-RSA 2002). So a position per task is all
    the state, and a batch of a hundred small tables that start over at different times is still a
    handful of operations.

    Args:
        counts: N_t, ``[T]``.
        batch_size: B, rows per task and draw.
        seed: Of the orders.
        device: Where the row numbers live.
    """

    def __init__(
        self,
        counts: Tensor,
        batch_size: int,
        seed: int,
        device: torch.device | str | None = None,
    ) -> None:
        self.counts = counts.to(torch.int64).cpu()
        self.batch_size = batch_size
        self.seed = seed
        self.device = torch.device(device) if device is not None else torch.device("cpu")
        self.drawn = torch.zeros_like(self.counts)
        # Rows computed ahead, and where they start; an empty memory starts behind every position.
        self._ahead = torch.empty(len(self.counts), _AHEAD * batch_size, dtype=torch.int64)
        self._start = torch.full_like(self.counts, torch.iinfo(torch.int64).min // 2)

    @property
    def batches_per_epoch(self) -> int:
        """Draws after which the largest task has been passed once."""
        return -(-int(self.counts.max()) // self.batch_size)

    def draw(self, tasks: Sequence[int] | Tensor) -> Tensor:
        """The next rows ``[K, B]`` of some tasks, by number."""
        chosen = torch.as_tensor(tasks)
        place = self.drawn[chosen] - self._start[chosen]
        stale = place > self._ahead.shape[1] - self.batch_size
        if bool(stale.any()):
            self._look_ahead(chosen[stale])
            place = self.drawn[chosen] - self._start[chosen]
        columns = place.unsqueeze(1) + torch.arange(self.batch_size)
        self.drawn[chosen] += self.batch_size
        return self._ahead[chosen.unsqueeze(1), columns].to(self.device)

    def _look_ahead(self, chosen: Tensor) -> None:
        counts = self.counts[chosen].unsqueeze(1)
        number = self.drawn[chosen].unsqueeze(1) + torch.arange(self._ahead.shape[1])
        epoch = torch.div(number, counts, rounding_mode="floor")
        key = _mixed(_mixed(chosen.unsqueeze(1) + self.seed * 1_000_003) + epoch)
        self._ahead[chosen] = _permuted(number - epoch * counts, counts, key)
        self._start[chosen] = self.drawn[chosen]

    def state_dict(self) -> dict[str, list[int]]:
        """Rows drawn so far, per task."""
        return {"drawn": self.drawn.tolist()}

    def load_state_dict(self, state: Mapping[str, Sequence[int]]) -> None:
        """Continue where the saved stream stopped."""
        self.drawn = torch.tensor(list(state["drawn"]), dtype=torch.int64)
        self._start.fill_(torch.iinfo(torch.int64).min // 2)


def _permuted(offsets: Tensor, counts: Tensor, key: Tensor) -> Tensor:
    """A permutation of 0 .. count - 1, drawn by ``key``, at ``offsets``; shapes broadcast."""
    bits = torch.ceil(torch.log2(counts.double().clamp_min(2)) / 2).to(torch.int64)
    counts, bits, key = (t.expand_as(offsets) for t in (counts, bits, key))
    found = _feistel(offsets, bits, key)
    outside = found >= counts
    while bool(outside.any()):  # fewer than four numbers of the domain per row: ends fast
        found[outside] = _feistel(found[outside], bits[outside], key[outside])
        outside = found >= counts
    return found


def _feistel(numbers: Tensor, bits: Tensor, key: Tensor) -> Tensor:
    mask = (torch.ones_like(bits) << bits) - 1
    left, right = numbers >> bits, numbers & mask
    for turn in range(_ROUNDS):
        left, right = right, left ^ (_mixed(right + key + turn * 0x5851F42D) & mask)
    return (left << bits) | right


def _mixed(numbers: Tensor) -> Tensor:
    """The finaliser of splitmix64 (Steele, Lea, Flood 2014) on int64; shifts are logical."""
    value = numbers + -0x61C8864680B583EB
    value = (value ^ ((value >> 30) & 0x3FFFFFFFF)) * -0x40A7B892E31B1A47
    value = (value ^ ((value >> 27) & 0x1FFFFFFFFF)) * -0x6B2FB644ECCEEE15
    return value ^ ((value >> 31) & 0x1FFFFFFFF)
