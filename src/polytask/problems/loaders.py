"""Batches for training: shuffled by seed and epoch, so that a position is all there is to save.

The order of epoch e is drawn from a generator seeded with (seed, e); a stream that stopped at any
batch continues exactly there from ``state_dict`` (two numbers per stream).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from polytask.problems.batch import Batch
from polytask.problems.splits import AnySplit, SeparateSplit, Split
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
        self.epoch = 0
        self.position = 0
        self._order: Tensor | None = None

    @property
    def batches_per_epoch(self) -> int:
        """Batches that one pass over the rows takes."""
        full, rest = divmod(self.count, self.batch_size)
        return full + (1 if rest > 1 or (rest == 1 and full == 0) else 0)

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
    2 of the first lecture), whatever their sizes are. Packed tables do so in one go.

    Args:
        split: Training rows.
        batch_size: Rows per step (separate layout: rows per task and step).
        seed: Of the order.
    """

    def __init__(self, split: AnySplit | TableBatchSplit, *, batch_size: int, seed: int) -> None:
        if batch_size < 1:
            raise ValueError(f"`batch_size` must be >= 1, found {batch_size}.")
        self.split = split
        self.streams: dict[str, RowStream | TableBatchStream] = {}
        if isinstance(split, TableBatchSplit):
            size = min(batch_size, int(split.counts.max()))
            self.streams[""] = TableBatchStream(split.counts, size, seed, split.device)
        elif isinstance(split, SeparateSplit):
            for offset, (name, part) in enumerate(split.parts.items()):
                stream_seed = seed + 7919 * (offset + 1)
                self.streams[name] = RowStream(
                    len(part), batch_size, stream_seed, part.inputs.device
                )
        else:
            self.streams[""] = RowStream(len(split), batch_size, seed, split.inputs.device)

    @property
    def steps_per_epoch(self) -> int:
        """Steps after which the largest task has been passed once."""
        return max(stream.batches_per_epoch for stream in self.streams.values())

    def draw(self, tasks: Sequence[str] | None = None) -> Batch:
        """The next batch for some tasks (None: all)."""
        if isinstance(self.split, TableBatchSplit):
            names = self.split.names if tasks is None else tuple(tasks)
            stream = self.streams[""]
            assert isinstance(stream, TableBatchStream)
            return self.split.batch(names, stream.draw([self.split.places[n] for n in names]))
        if isinstance(self.split, Split):
            batch = self.split.batch(self._rows(""))
            return batch if tasks is None else _restrict(batch, tasks)
        chosen = self.split.parts if tasks is None else tasks
        return self.split.batch({name: self._rows(name) for name in chosen})

    def _rows(self, name: str) -> Tensor:
        stream = self.streams[name]
        assert isinstance(stream, RowStream)
        return stream.draw()

    def state_dict(self) -> dict[str, dict[str, Any]]:
        """Position of every stream."""
        return {name: dict(stream.state_dict()) for name, stream in self.streams.items()}

    def load_state_dict(self, state: dict[str, dict[str, Any]]) -> None:
        """Continue where the saved loader stopped."""
        for name, stream in self.streams.items():
            stream.load_state_dict(state[name])


def _restrict(batch: Batch, tasks: Sequence[str]) -> Batch:
    wanted = set(tasks)
    return replace(batch, tasks=tuple(t for t in batch.tasks if t in wanted))
