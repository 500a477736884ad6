"""Many tables in one piece: batches of all of them by index arithmetic, without a loop over tables.

Shape legend: T tasks, K of them in a batch, N_t rows and F_t columns of task t, B rows of each.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence

import torch
from torch import Tensor

from polytask.problems.batch import Batch
from polytask.problems.splits import AnySplit
from polytask.problems.table_batch import TableBatch, TableSet, remembered, within
from polytask.tasks import TaskTensors

__all__ = ["TableBatchSplit", "TableBatchStream"]

#: Draws whose rows are known at least when orders are drawn.
_AHEAD = 16


class TableBatchSplit:
    """The rows of a ``SeparateSplit`` of tables, stored as one vector of cells.

    Args:
        split: Tasks with inputs ``[N_t, F_t]`` and targets of one number or class per row.

    Raises:
        ValueError: inputs that are no tables; a task whose rows have no single target.
    """

    def __init__(self, split: AnySplit) -> None:
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
        self._sets: dict[Hashable, _Tables] = {}

    @staticmethod
    def takes(split: AnySplit) -> bool:
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
        chosen = remembered(self._sets, names, lambda: _Tables(self, names))
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
        for block in chosen.blocks:
            whole = len(chosen.blocks) == 1
            found = targets if whole else targets.index_select(1, block.columns)
            blocks.append((block.names, found.to(block.dtype)))
            masks.append(None if present is None else present.T[:, block.columns])
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


def _with_labels(names: tuple[str, ...], present: Tensor | None) -> tuple[str, ...]:
    """Tasks with a label in some row ``[K, B]``."""
    if present is None:
        return names
    some = present.any(1).tolist()
    return tuple(name for name, labelled in zip(names, some, strict=True) if labelled)


class _Tables(TableSet):
    """Some tables of a split: their widths as well."""

    def __init__(self, split: TableBatchSplit, names: tuple[str, ...]) -> None:
        super().__init__(split.tasks, names, split.device)
        widths = split.widths[self.places.cpu()]
        self.widths = widths.to(split.device)
        self.plain_widths = tuple(widths.tolist())


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

    Every epoch of a task visits each of its rows once, in an order of its own: by a hash of seed,
    task, epoch and row. So a position per task is all the state, and the orders of all tasks that
    need new ones are one sort, however many epochs of a small table a batch takes.

    Args:
        counts: N_t, ``[T]``.
        batch_size: B, rows per task and draw.
        seed: Of the orders.
        device: Where the row numbers live.

    Cost: holds the orders of two epochs (of small tables those of 16 draws), sorted anew after
        each.
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
        # Epochs whose orders are known, task after task: one more than `_AHEAD` draws take.
        self._epochs = -(-_AHEAD * batch_size // self.counts) + 1
        self._sizes = self._epochs * self.counts
        self._offsets = self._sizes.cumsum(0) - self._sizes
        self._orders = torch.empty(int(self._sizes.sum()), dtype=torch.int64)
        self._first = torch.full_like(self.counts, -1)  # of the known epochs; -1: none is

    @property
    def batches_per_epoch(self) -> int:
        """Draws after which the largest task has been passed once."""
        return -(-int(self.counts.max()) // self.batch_size)

    def draw(self, tasks: Sequence[int] | Tensor) -> Tensor:
        """The next rows ``[K, B]`` of some tasks, by number."""
        chosen = torch.as_tensor(tasks)
        place = self._places(chosen)
        stale = (self._first[chosen] < 0) | (place > self._sizes[chosen] - self.batch_size)
        if bool(stale.any()):
            self._sort(chosen[stale])
            place = self._places(chosen)
        start = (self._offsets[chosen] + place).unsqueeze(1)
        self.drawn[chosen] += self.batch_size
        return self._orders[start + torch.arange(self.batch_size)].to(self.device)

    def _places(self, tasks: Tensor) -> Tensor:
        """Positions within the known orders."""
        return self.drawn[tasks] - self._first[tasks] * self.counts[tasks]

    def _sort(self, tasks: Tensor) -> None:
        """The orders of some tasks from their present epochs on."""
        self._first[tasks] = self.drawn[tasks] // self.counts[tasks]
        epochs = self._epochs[tasks]
        task = tasks.repeat_interleave(epochs)
        epoch = self._first[task] + within(epochs)
        counts = self.counts[task]
        rows = within(counts)
        seeds = _mixed(_mixed(task + self.seed * 1_000_003) + epoch)
        order = _mixed(seeds.repeat_interleave(counts) + rows).argsort()
        of_epoch = torch.arange(len(task)).repeat_interleave(counts)
        order = order[of_epoch[order].argsort(stable=True)]
        sizes = self._sizes[tasks]
        places = self._offsets[tasks].repeat_interleave(sizes) + within(sizes)
        self._orders[places] = rows[order]

    def state_dict(self) -> dict[str, list[int]]:
        """Rows drawn so far, per task."""
        return {"drawn": self.drawn.tolist()}

    def load_state_dict(self, state: Mapping[str, Sequence[int]]) -> None:
        """Continue where the saved stream stopped."""
        self.drawn = torch.tensor(list(state["drawn"]), dtype=torch.int64)
        self._first.fill_(-1)


def _mixed(numbers: Tensor) -> Tensor:
    """The finaliser of splitmix64 (Steele, Lea, Flood 2014) on int64; shifts are logical."""
    value = numbers + -0x61C8864680B583EB
    value = (value ^ ((value >> 30) & 0x3FFFFFFFF)) * -0x40A7B892E31B1A47
    value = (value ^ ((value >> 27) & 0x1FFFFFFFFF)) * -0x6B2FB644ECCEEE15
    return value ^ ((value >> 31) & 0x1FFFFFFFF)
