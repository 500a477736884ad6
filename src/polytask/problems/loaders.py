"""Batches for training: shuffled by seed and epoch, so that a position is all there is to save.

The order of epoch e is drawn from a generator seeded with (seed, e); a stream that stopped at any
batch continues exactly there from ``state_dict`` (two numbers per stream).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from polytask.problems.batch import Batch
from polytask.problems.splits import AnySplit
from polytask.problems.table_stream import TableBatchSplit, TableBatchStream

__all__ = ["BatchLoader", "RowStream"]


class RowStream:
    """An endless stream of row numbers: every epoch visits each row once, in a fresh order.

    A last batch of a single row is left out (batch statistics of one row are undefined); every
    epoch leaves out another.

    Args:
        count: Number of rows N.
        batch_size: Rows per batch; capped at N.
        seed: Together with the epoch it fixes the order.
        device: Where the row numbers live.
    """

    def __init__(
        self, count: int, batch_size: int, seed: int, device: torch.device | None = None
    ) -> None:
        self.count = count
        self.batch_size = min(batch_size, count)
        self.seed = seed
        self.device = device
        full, rest = divmod(self.count, self.batch_size)
        #: Batches that one pass over the rows takes.
        self.batches_per_epoch = full + (1 if rest > 1 or (rest == 1 and full == 0) else 0)
        self.epoch = 0
        self.position = 0
        self._order: Tensor | None = None

    def draw(self) -> Tensor:
        """Rows ``[B]`` of the next batch."""
        if self.position >= self.batches_per_epoch:
            self.epoch, self.position, self._order = self.epoch + 1, 0, None
        if self._order is None:
            generator = torch.Generator().manual_seed(
                (self.seed * 1_000_003 + self.epoch) % (2**63)
            )
            order = torch.randperm(self.count, generator=generator)
            self._order = order if self.device is None else order.to(self.device)
        start = self.position * self.batch_size
        self.position += 1
        return self._order[start : start + self.batch_size]

    def state_dict(self) -> dict[str, int]:
        """Epoch and position."""
        return {"epoch": self.epoch, "position": self.position}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Continue where the saved stream stopped."""
        self.epoch, self.position, self._order = int(state["epoch"]), int(state["position"]), None


class BatchLoader:
    """Draws training batches of the tasks that a step asks for, in both layouts.

    In the separate layout every task has a stream of its own; small tasks start over while large
    ones go on, so that each step holds the mean over the tasks of the mean over their samples (eq.
    2 of the first lecture), whatever their sizes are. Packed tables do so in one go. Rows without a
    label of any task teach nothing and are left out.

    Args:
        split: Training rows.
        batch_size: Rows per step (separate layout: rows per task and step).
        seed: Of the order.
    """

    def __init__(self, split: AnySplit | TableBatchSplit, *, batch_size: int, seed: int) -> None:
        if batch_size < 1:
            raise ValueError(f"`batch_size` must be >= 1, found {batch_size}.")
        self.split = split
        self.streams: dict[str, RowStream] = {}
        self._labelled: dict[str, Tensor | None] = {}
        self.table_stream: TableBatchStream | None = None
        if isinstance(split, TableBatchSplit):
            size = min(batch_size, int(split.counts.max()))
            self.table_stream = TableBatchStream(split.counts, size, seed, split.device)
        else:
            # Streams of tasks of one size must not walk through their rows in the same order.
            first = 1 if split.layout == "separate" else 0
            for place, (name, piece) in enumerate(split.pieces.items(), first):
                rows = piece.labelled_rows()
                count, device = len(piece) if rows is None else len(rows), piece.inputs.device
                self.streams[name] = RowStream(count, batch_size, seed + 7919 * place, device)
                self._labelled[name] = rows

    @property
    def steps_per_epoch(self) -> int:
        """Steps after which the largest task has been passed once."""
        return max(stream.batches_per_epoch for stream in self._all_streams.values())

    @property
    def _all_streams(self) -> Mapping[str, RowStream | TableBatchStream]:
        return self.streams if self.table_stream is None else {"": self.table_stream}

    def draw(self, tasks: Sequence[str] | None = None) -> Batch:
        """The next batch for some tasks (None: all), with a label of one of them at least."""
        split = self.split
        if isinstance(split, TableBatchSplit):
            assert self.table_stream is not None
            names = split.names if tasks is None else tuple(tasks)
            return split.batch(names, self.table_stream.draw([split.places[n] for n in names]))
        if tasks is None:
            return split.gather({name: self._rows(name) for name in self.streams})
        if split.layout == "separate":
            return split.gather({name: self._rows(name) for name in tasks})
        while not (batch := _restrict(split.gather({"": self._rows("")}), tasks)).tasks:
            # Rows that have labels of other tasks only; an epoch meets those of these tasks, too.
            continue
        return batch

    def _rows(self, name: str) -> Tensor:
        """Numbers of the next rows of a stream, which leaves out rows without any label."""
        places, labelled = self.streams[name].draw(), self._labelled[name]
        return places if labelled is None else labelled[places]

    def state_dict(self) -> dict[str, dict[str, Any]]:
        """Position of every stream."""
        return {name: dict(stream.state_dict()) for name, stream in self._all_streams.items()}

    def load_state_dict(self, state: dict[str, dict[str, Any]]) -> None:
        """Continue where the saved loader stopped."""
        for name, stream in self._all_streams.items():
            stream.load_state_dict(state[name])


def _restrict(batch: Batch, tasks: Sequence[str]) -> Batch:
    wanted = set(tasks)
    return replace(batch, tasks=tuple(t for t in batch.tasks if t in wanted))
