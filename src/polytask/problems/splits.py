"""The rows of one part of a problem, in one of two layouts behind one interface.

Shape legend: N rows, B batch, K tasks of one block.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import ClassVar, Literal

import torch
from torch import Tensor

from polytask.problems.batch import Batch
from polytask.tasks import Kind, Task, TaskTensors, group_into_blocks

__all__ = ["SPLIT_NAMES", "AnySplit", "Layout", "SeparateSplit", "Split", "SplitRows"]

Layout = Literal["shared", "separate"]
SPLIT_NAMES = ("train", "validation", "test")


class SplitRows(ABC):
    """Rows of one part of a problem, whichever way its data arrive.

    ``len`` is the number of rows of the longest task.
    """

    layout: ClassVar[Layout]
    #: In the problem's order.
    tasks: tuple[Task, ...]

    @abstractmethod
    def __len__(self) -> int: ...

    @property
    @abstractmethod
    def num_rows(self) -> int:
        """All rows; a row that several tasks share counts once."""

    @property
    @abstractmethod
    def pieces(self) -> dict[str, Split]:
        """The rows by what they share inputs with: one split per task, or one named ""."""

    @property
    @abstractmethod
    def parts(self) -> dict[str, Split]:
        """One split per task, of that task alone."""

    @abstractmethod
    def piece(self, name: str) -> Split:
        """The split that holds a task's inputs and targets."""

    @abstractmethod
    def gather(self, rows: Mapping[str, Tensor]) -> Batch:
        """The batch made of some rows of some pieces, by the pieces' names."""

    @abstractmethod
    def batches(self, size: int) -> Iterator[Batch]:
        """All rows in order, one task after the other where they are separate."""

    @abstractmethod
    def select(self, names: Sequence[str]) -> AnySplit:
        """The split restricted to some tasks."""

    @abstractmethod
    def with_tasks(self, function: Callable[[Task], Task]) -> AnySplit:
        """The same rows with tasks of the same names and kinds in place of the old ones."""

    @abstractmethod
    def to(self, device: torch.device | str) -> AnySplit:
        """The same rows on another device."""

    def labels(self, name: str) -> Tensor:
        """Encoded labels ``[n, ...]`` of a task, without the rows that have none."""
        piece = self.piece(name)
        return piece.targets[name][piece.labelled(name)]

    def num_labels(self, name: str) -> int:
        """How many rows have a label of this task."""
        return len(self.piece(name).labelled(name))


class Split(SplitRows):
    """Rows of one part of a problem in the shared layout.

    Args:
        inputs: ``[N, ...]``.
        targets: Encoded targets ``[N, ...]`` per task; NaN or -1 where the label is missing.
        tasks: The tasks, in order.
    """

    layout = "shared"

    def __init__(
        self, inputs: Tensor, targets: Mapping[str, Tensor], tasks: Sequence[Task]
    ) -> None:
        self.inputs = inputs
        self.tasks = tuple(tasks)
        tensors = TaskTensors.from_mapping(targets)
        blocks, masks, safe = [], [], []
        for group in group_into_blocks(self.tasks):
            names = tuple(task.name for task in group)
            tensor = tensors.stacked(names)
            if len(tensor) != len(inputs):
                raise ValueError(
                    f"Targets of task {names[0]!r} have {len(tensor)} rows but the inputs have "
                    f"{len(inputs)}."
                )
            missing = group[0].kind.missing(tensor)
            any_missing = bool(missing.any())
            blocks.append((names, tensor))
            masks.append(~missing if any_missing else None)
            safe.append((names, _without_missing(group[0].kind, tensor) if any_missing else tensor))
        self.targets = TaskTensors(blocks)
        self.masks: tuple[Tensor | None, ...] = tuple(masks)
        self._safe = TaskTensors(safe)

    def __len__(self) -> int:
        return len(self.inputs)

    def __repr__(self) -> str:
        return (
            f"Split({len(self)} rows, inputs {tuple(self.inputs.shape[1:])}, {len(self.tasks)} "
            "task(s))"
        )

    def batch(self, rows: Tensor) -> Batch:
        """The batch made of some rows ``[B]``."""
        targets, masks, absent = [], [], set[str]()
        for (names, tensor), mask in zip(self._safe.blocks, self.masks, strict=True):
            taken = None if mask is None else mask.index_select(0, rows)
            targets.append((names, tensor.index_select(0, rows)))
            masks.append(taken)
            if taken is not None:
                labelled = taken.any(0).tolist()
                absent.update(name for name, some in zip(names, labelled, strict=True) if not some)
        inputs = self.inputs.index_select(0, rows)
        present = tuple(task.name for task in self.tasks if task.name not in absent)
        return Batch(inputs, TaskTensors(targets), tuple(masks), present, rows)

    def gather(self, rows: Mapping[str, Tensor]) -> Batch:
        return self.batch(rows[""])

    def batches(self, size: int) -> Iterator[Batch]:
        for rows in torch.arange(len(self), device=self.inputs.device).split(size):
            yield self.batch(rows)

    def take(self, rows: Tensor) -> Split:
        """The split restricted to some rows."""
        return Split(self.inputs[rows], self.targets.map(lambda t: t[rows]), self.tasks)

    def select(self, names: Sequence[str]) -> Split:
        kept = [task for task in self.tasks if task.name in set(names)]
        return Split(self.inputs, self.targets, kept)

    def labelled_rows(self) -> Tensor | None:
        """Rows ``[n]`` that have a label of any task; None where all have."""
        some = torch.zeros(len(self), dtype=torch.bool, device=self.inputs.device)
        for mask in self.masks:
            if mask is None:
                return None
            some |= mask.any(1)
        return None if bool(some.all()) else torch.nonzero(some).flatten()

    def labelled(self, name: str) -> Tensor:
        """Rows ``[n]`` that have a label of this task."""
        kind = next(task.kind for task in self.tasks if task.name == name)
        return torch.nonzero(~kind.missing(self.targets[name])).flatten()

    def with_tasks(self, function: Callable[[Task], Task]) -> Split:
        tasks = [function(task) for task in self.tasks]
        for old, new in zip(self.tasks, tasks, strict=True):
            if (old.name, old.kind) != (new.name, new.kind):
                raise ValueError(
                    f"A task must keep its name and kind, found {new.name!r} ({new.kind!r}) for"
                    f" {old.name!r} ({old.kind!r})."
                )
        return Split(self.inputs, {t.name: self.targets[t.name] for t in tasks}, tasks)

    def to(self, device: torch.device | str) -> Split:
        return Split(self.inputs.to(device), self.targets.map(lambda t: t.to(device)), self.tasks)

    @property
    def pieces(self) -> dict[str, Split]:
        return {"": self}

    def piece(self, name: str) -> Split:
        del name
        return self

    @property
    def num_rows(self) -> int:
        return len(self)

    @property
    def parts(self) -> dict[str, Split]:
        """One split per task that holds its labelled rows only."""
        return {t.name: self.select([t.name]).take(self.labelled(t.name)) for t in self.tasks}


class SeparateSplit(SplitRows):
    """Rows of one part of a problem in the separate layout.

    Args:
        parts: One ``Split`` of a single task per task.
    """

    layout = "separate"

    def __init__(self, parts: Mapping[str, Split]) -> None:
        self._parts = dict(parts)
        self.tasks = tuple(task for part in parts.values() for task in part.tasks)

    def __len__(self) -> int:
        return max(len(part) for part in self.parts.values())

    def __repr__(self) -> str:
        return f"SeparateSplit({', '.join(f'{n}: {len(p)} rows' for n, p in self.parts.items())})"

    def gather(self, rows: Mapping[str, Tensor]) -> Batch:
        return self.batch(rows)

    def batch(self, rows: Mapping[str, Tensor]) -> Batch:
        """The batch made of some rows ``[B_t]`` of some tasks."""
        taken = {name: self.parts[name].batch(index) for name, index in rows.items()}
        return Batch(
            inputs={name: b.inputs for name, b in taken.items() if isinstance(b.inputs, Tensor)},
            targets=TaskTensors(block for b in taken.values() for block in b.targets.blocks),
            present=tuple(mask for b in taken.values() for mask in b.present),
            tasks=tuple(name for b in taken.values() for name in b.tasks),
            indices=dict(rows),
        )

    def batches(self, size: int) -> Iterator[Batch]:
        for name, part in self.parts.items():
            for rows in torch.arange(len(part), device=part.inputs.device).split(size):
                yield self.batch({name: rows})

    def select(self, names: Sequence[str]) -> SeparateSplit:
        wanted = set(names)
        return SeparateSplit({n: part for n, part in self.parts.items() if n in wanted})

    def with_tasks(self, function: Callable[[Task], Task]) -> SeparateSplit:
        return SeparateSplit({name: part.with_tasks(function) for name, part in self.parts.items()})

    def to(self, device: torch.device | str) -> SeparateSplit:
        return SeparateSplit({name: part.to(device) for name, part in self.parts.items()})

    @property
    def parts(self) -> dict[str, Split]:
        return self._parts

    @property
    def pieces(self) -> dict[str, Split]:
        return self._parts

    def piece(self, name: str) -> Split:
        return self.parts[name]

    @property
    def num_rows(self) -> int:
        return sum(len(part) for part in self.parts.values())


AnySplit = Split | SeparateSplit


def _without_missing(kind: Kind, tensor: Tensor) -> Tensor:
    """Missing labels replaced by a valid value; dense and sequence kinds mask their own parts."""
    if kind.target_dims:
        return tensor
    return tensor.clamp_min(0) if kind.is_categorical else tensor.nan_to_num()
