"""Problems: the tasks together with their training, validation and test rows, in one of two
layouts.

*Shared inputs*: one input and a column of targets per task; labels may be missing. *Separate
inputs*: every task has its own rows, input dimensions and size. Missing labels are masked and never
imputed: a batch says which tasks have labels in it, and a task without any takes part in nothing.

Shape legend: N rows, B batch, K tasks of one block.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor

from polytask.packed import PackedRows, TableShape
from polytask.tasks import (
    IGNORE_INDEX,
    Binary,
    Kind,
    Multiclass,
    Regression,
    Task,
    TaskTensors,
    check_unique_names,
    group_into_blocks,
)

if TYPE_CHECKING:
    import pandas as pd

    from polytask.problems.splitting import SplitPlan
    from polytask.problems.tables import TableInfo

__all__ = ["Batch", "Layout", "Problem", "SeparateSplit", "Split"]

Layout = Literal["shared", "separate"]
SPLIT_NAMES = ("train", "validation", "test")


@dataclass(frozen=True)
class Batch:
    """What one step sees.

    Args:
        inputs: ``[B, ...]``, or one tensor per task in the separate layout (``PackedRows`` where
            an architecture takes many tables in one piece).
        targets: Encoded targets per task; missing ones hold an arbitrary valid value.
        present: Per block of ``targets``, a mask ``[B, K]`` of the labels that exist, or None if
            all do.
        tasks: Names of the tasks that have at least one label here, in the order of the problem.
        indices: Row numbers ``[B]`` in the split (per task in the separate layout).
        all_rows_count: False where some rows only fill up a short table; their indices are -1 and
            they are not ``present``.
    """

    inputs: Tensor | Mapping[str, Tensor]
    targets: TaskTensors
    present: tuple[Tensor | None, ...]
    tasks: tuple[str, ...]
    indices: Tensor | Mapping[str, Tensor]
    all_rows_count: bool = True

    def head(self, fraction: float) -> Batch:
        """The first share of the rows (of every task where inputs are separate), at least one."""

        def cut(tensor: Tensor) -> Tensor:
            return tensor[: max(1, math.ceil(fraction * len(tensor)))]

        def cut_all(tensors: Tensor | Mapping[str, Tensor]) -> Tensor | Mapping[str, Tensor]:
            if isinstance(tensors, Tensor):
                return cut(tensors)
            if isinstance(tensors, PackedRows):
                return tensors.head(fraction)
            return {name: cut(tensor) for name, tensor in tensors.items()}

        return replace(
            self,
            inputs=cut_all(self.inputs),
            targets=self.targets.map(cut),
            present=tuple(None if mask is None else cut(mask) for mask in self.present),
            indices=cut_all(self.indices),
        )


class Split:
    """Rows of one part of a problem in the shared layout.

    Args:
        inputs: ``[N, ...]``.
        targets: Encoded targets ``[N, ...]`` per task; NaN or -1 where the label is missing.
        tasks: The tasks, in order.
    """

    def __init__(
        self, inputs: Tensor, targets: Mapping[str, Tensor], tasks: Sequence[Task]
    ) -> None:
        self.inputs = inputs
        self.tasks = tuple(tasks)
        stacked = targets if isinstance(targets, TaskTensors) else TaskTensors(())
        blocks, masks, safe = [], [], []
        for group in group_into_blocks(self.tasks):
            names = tuple(task.name for task in group)
            tensor = stacked.block(names)
            if tensor is None:
                tensor = torch.stack([targets[name] for name in names], dim=1)
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
        targets = self._safe.map(lambda t: t.index_select(0, rows))
        masks: list[Tensor | None] = []
        absent: set[str] = set()
        for (names, _), mask in zip(self._safe.blocks, self.masks, strict=True):
            taken = None if mask is None else mask.index_select(0, rows)
            masks.append(taken)
            if taken is not None:
                labelled = taken.any(0).tolist()
                absent.update(name for name, some in zip(names, labelled, strict=True) if not some)
        names = tuple(task.name for task in self.tasks)
        present = tuple(name for name in names if name not in absent) if absent else names
        return Batch(self.inputs.index_select(0, rows), targets, tuple(masks), present, rows)

    def batches(self, size: int) -> Iterator[Batch]:
        """All rows in order."""
        for rows in torch.arange(len(self), device=self.inputs.device).split(size):
            yield self.batch(rows)

    def take(self, rows: Tensor) -> Split:
        """The split restricted to some rows."""
        return Split(self.inputs[rows], self.targets.map(lambda t: t[rows]), self.tasks)

    def select(self, names: Sequence[str]) -> Split:
        """The split restricted to some tasks."""
        kept = [task for task in self.tasks if task.name in set(names)]
        return Split(self.inputs, self.targets, kept)

    def labelled(self, name: str) -> Tensor:
        """Rows ``[n]`` that have a label of this task."""
        kind = next(task.kind for task in self.tasks if task.name == name)
        return torch.nonzero(~kind.missing(self.targets[name])).flatten()

    def num_labels(self, name: str) -> int:
        """How many rows have a label of this task."""
        return len(self.labelled(name))

    def to(self, device: torch.device | str) -> Split:
        """The same rows on another device."""
        return Split(self.inputs.to(device), self.targets.map(lambda t: t.to(device)), self.tasks)

    @property
    def parts(self) -> dict[str, Split]:
        """One split per task that holds its labelled rows only."""
        return {t.name: self.select([t.name]).take(self.labelled(t.name)) for t in self.tasks}


class SeparateSplit:
    """Rows of one part of a problem in the separate layout: one ``Split`` of a single task per
    task.
    """

    def __init__(self, parts: Mapping[str, Split]) -> None:
        self.parts = dict(parts)
        self.tasks = tuple(task for part in self.parts.values() for task in part.tasks)

    def __len__(self) -> int:
        return max(len(part) for part in self.parts.values())

    def __repr__(self) -> str:
        return f"SeparateSplit({', '.join(f'{n}: {len(p)} rows' for n, p in self.parts.items())})"

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
        """All rows in order, one task after the other."""
        for name, part in self.parts.items():
            for rows in torch.arange(len(part), device=part.inputs.device).split(size):
                yield self.batch({name: rows})

    def select(self, names: Sequence[str]) -> SeparateSplit:
        """The split restricted to some tasks."""
        wanted = set(names)
        return SeparateSplit({n: part for n, part in self.parts.items() if n in wanted})

    def num_labels(self, name: str) -> int:
        """How many rows have a label of this task."""
        return self.parts[name].num_labels(name)

    def to(self, device: torch.device | str) -> SeparateSplit:
        """The same rows on another device."""
        return SeparateSplit({name: part.to(device) for name, part in self.parts.items()})


AnySplit = Split | SeparateSplit


class Problem:
    """Tasks and their splits.

    Args:
        name: Used in files and reports.
        train: Rows that parameters are fitted to.
        validation: Rows that every choice is made on.
        test: Rows that are read once per run.
        table: How a table's columns became inputs; None where the inputs are no table.
        tables: The same per task, in the separate layout.
        notes: Sentences about the data that a report should show (imbalance, identical targets).
        check_classes: False accepts classes of validation and test rows that no training row has
            (they are errors then, whatever is learned), for published splits that are so.

    Raises:
        ValueError: Two tasks of one name; a task without labels, or with a single value, in the
            training rows; a class that occurs in validation or test rows only; inputs that are
            infinite (or NaN, outside tables).
    """

    def __init__(
        self,
        *,
        name: str,
        train: AnySplit,
        validation: AnySplit,
        test: AnySplit,
        table: TableInfo | None = None,
        tables: Mapping[str, TableInfo] | None = None,
        notes: Sequence[str] = (),
        check_classes: bool = True,
    ) -> None:
        self.name = name
        self.train = train
        self.validation = validation
        self.test = test
        self.table = table
        self.tables = dict(tables or {})
        self.notes = tuple(notes)
        self.check_classes = check_classes
        self.tasks = train.tasks
        self.layout: Layout = "separate" if isinstance(train, SeparateSplit) else "shared"
        check_unique_names(self.tasks)
        self._check()

    @classmethod
    def from_arrays(
        cls,
        inputs: np.ndarray | Tensor,
        targets: Mapping[str, np.ndarray | Tensor],
        kinds: Mapping[str, Kind],
        *,
        name: str = "arrays",
        fractions: tuple[float, float, float] = (0.6, 0.2, 0.2),
        splits: Mapping[str, Sequence[int] | np.ndarray] | None = None,
        seed: int = 0,
    ) -> Problem:
        """A problem in the shared layout from arrays in the user's units.

        Args:
            inputs: ``[N, ...]`` numbers.
            targets: Per task ``[N, ...]``; NaN, None (labels) or -1 (class indices) where the label
                is missing.
            kinds: Per task; the mean and scale of a Regression are taken from the training rows.
            name: Name of the problem.
            fractions: Shares of training, validation and test rows, drawn at random.
            splits: Row numbers per part ("train", "validation", "test") instead of ``fractions``.
            seed: Of the random split.
        """
        features = torch.as_tensor(np.asarray(inputs, dtype=np.float32))
        rows = _split_rows(len(features), fractions, splits, seed)
        tasks, encoded = encode_targets(targets, kinds, rows["train"])
        parts = {
            part: Split(features[index], {n: t[index] for n, t in encoded.items()}, tasks)
            for part, index in rows.items()
        }
        return cls(
            name=name, train=parts["train"], validation=parts["validation"], test=parts["test"]
        )

    @classmethod
    def from_separate(
        cls,
        data: Mapping[str, tuple[np.ndarray | Tensor, np.ndarray | Tensor]],
        kinds: Mapping[str, Kind],
        *,
        name: str = "separate",
        fractions: tuple[float, float, float] = (0.6, 0.2, 0.2),
        seed: int = 0,
    ) -> Problem:
        """A problem in the separate layout: per task its own inputs ``[N_t, ...]`` and targets
        ``[N_t, ...]``.
        """
        problems = {
            task: cls.from_arrays(
                x, {task: y}, {task: kinds[task]}, name=task, fractions=fractions, seed=seed
            )
            for task, (x, y) in data.items()
        }
        return cls.join(problems, name=name)

    @classmethod
    def from_tables(
        cls,
        tables: Mapping[str, tuple[pd.DataFrame | np.ndarray | Tensor, Any]],
        *,
        name: str = "tables",
        kinds: Mapping[str, str] | None = None,
        split: SplitPlan | None = None,
        categorical: Collection[str] = (),
        seed: int = 0,
    ) -> Problem:
        """Tables of any shapes, each with its own columns, rows and target, as one problem in the
        separate layout; an architecture over variables trains them all in one batch.

        Columns are read as ``polytask compare`` reads them: numbers are scaled by the training
        rows, dates become numbers, text becomes categories, missing cells stay missing. Rows
        without a label are left out.

        Args:
            tables: Per task its features and its target: a data frame and the name of the target
                column (or the target's values ``[N]``), or an array ``[N, F]`` and values ``[N]``.
            name: Of the problem.
            kinds: "regression", "binary" or "multiclass" per task; the values decide for the
                others.
            split: How the rows of every table are split; None means 60, 20 and 20 per cent,
                stratified.
            categorical: Columns of numbers that are codes of categories, in whichever tables have
                them.
            seed: Of the splits.

        Raises:
            ValueError: A table without features or with another number of rows than its target has
                values; a target that cannot be learned; a class that no training row has.
        """
        from polytask.problems.table_sources import tables_source

        source = tables_source(
            tables, name=name, kinds=kinds or {}, split=split, categorical=categorical
        )
        return source.problem(seed)

    @classmethod
    def join(cls, problems: Mapping[str, Problem], *, name: str = "separate") -> Problem:
        """One problem in the separate layout from problems of one task each."""
        splits: dict[str, dict[str, Split]] = {part: {} for part in SPLIT_NAMES}
        tables: dict[str, TableInfo] = {}
        for key, problem in problems.items():
            if problem.layout != "shared" or len(problem.tasks) != 1:
                raise ValueError(
                    f"Problem.join needs problems of one task with shared inputs; {key!r} has"
                    f" {len(problem.tasks)} task(s) in the {problem.layout} layout."
                )
            for part in SPLIT_NAMES:
                split = getattr(problem, part)
                task = split.tasks[0]
                renamed = replace(task, name=key)
                splits[part][key] = Split(split.inputs, {key: split.targets[task.name]}, [renamed])
            if problem.table is not None:
                tables[key] = problem.table
        notes = [f"{key}: {note}" for key, problem in problems.items() for note in problem.notes]
        parts = {part: SeparateSplit(found) for part, found in splits.items()}
        return cls(
            name=name,
            train=parts["train"],
            validation=parts["validation"],
            test=parts["test"],
            tables=tables,
            notes=notes,
        )

    def task(self, name: str) -> Task:
        """The task with this name."""
        for task in self.tasks:
            if task.name == name:
                return task
        raise ValueError(
            f"No task {name!r} in problem {self.name!r}; it has {[t.name for t in self.tasks]}."
        )

    def subset(self, names: Sequence[str]) -> Problem:
        """The problem restricted to some tasks; the layout stays."""
        for name in names:
            self.task(name)
        return Problem(
            name=self.name,
            train=self.train.select(names),
            validation=self.validation.select(names),
            test=self.test.select(names),
            table=self.table,
            tables={n: t for n, t in self.tables.items() if n in set(names)},
            notes=self.notes,
            check_classes=self.check_classes,
        )

    def table_shapes(self) -> dict[str, TableShape]:
        """Columns of every task's table: what an architecture over variables needs to know.

        Raises:
            ValueError: inputs that are no tables, such as images.
        """
        pieces = (
            {name: (part.inputs, self.tables.get(name)) for name, part in self.train.parts.items()}
            if isinstance(self.train, SeparateSplit)
            else {task.name: (self.train.inputs, self.table) for task in self.tasks}
        )
        shapes = {}
        for name, (inputs, table) in pieces.items():
            if inputs.dim() != 2:
                raise ValueError(
                    f"The inputs of task {name!r} are no table but {list(inputs.shape[1:])} numbers"
                    " per row."
                )
            shapes[name] = (
                TableShape(inputs.shape[1])
                if table is None
                else TableShape(table.num_numeric, table.cardinalities)
            )
        return shapes

    def map_tasks(self, function: Callable[[Task], Task]) -> Problem:
        """The same problem with tasks of the same names that have another loss, prediction, metric
        or class weight.

        Args:
            function: From each task to the one that takes its place.

        Raises:
            ValueError: a task comes back with another name or kind.
        """
        parts = {part: _with_tasks(getattr(self, part), function) for part in SPLIT_NAMES}
        return self._with_parts(parts)

    def to(self, device: torch.device | str) -> Problem:
        """The same problem with its rows on another device."""
        moved = {part: getattr(self, part).to(device) for part in SPLIT_NAMES}
        return self._with_parts(moved)

    def _with_parts(self, parts: Mapping[str, AnySplit]) -> Problem:
        return Problem(
            name=self.name,
            table=self.table,
            tables=self.tables,
            notes=self.notes,
            check_classes=self.check_classes,
            **parts,
        )

    def fingerprint(self) -> str:
        """A hash of the tasks and of every row, 16 hex digits."""
        digest = hashlib.sha256(
            json.dumps([t.describe() for t in self.tasks], default=str).encode()
        )
        for part in SPLIT_NAMES:
            split: AnySplit = getattr(self, part)
            pieces = split.parts.values() if isinstance(split, SeparateSplit) else [split]
            for piece in pieces:
                for tensor in (piece.inputs, *(t for _, t in piece.targets.blocks)):
                    digest.update(str(tuple(tensor.shape)).encode())
                    digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()[:16]

    def summary(self) -> dict[str, Any]:
        """Sizes, tasks and notes as a plain record."""
        return {
            "name": self.name,
            "layout": self.layout,
            "tasks": [
                {
                    **task.describe(),
                    "labels_per_split": {
                        p: getattr(self, p).num_labels(task.name) for p in SPLIT_NAMES
                    },
                    "positives": _positives(self.train, task),
                }
                for task in self.tasks
            ],
            "rows": {part: len(getattr(self, part)) for part in SPLIT_NAMES},
            "notes": list(self.notes),
        }

    def save(self, folder: Path | str) -> None:
        """Write the problem as safetensors and JSON; see ``polytask.problems.storage``."""
        from polytask.problems import storage

        storage.save_problem(self, Path(folder))

    @staticmethod
    def load(folder: Path | str) -> Problem:
        """Read what ``save`` wrote."""
        from polytask.problems import storage

        return storage.load_problem(Path(folder))

    def __repr__(self) -> str:
        return (
            f"Problem({self.name!r}, {len(self.tasks)} task(s), {self.layout} layout, "
            f"{len(self.train)} training rows)"
        )

    def _check(self) -> None:
        for part in SPLIT_NAMES:
            split: AnySplit = getattr(self, part)
            pieces = split.parts.items() if isinstance(split, SeparateSplit) else [("", split)]
            for name, piece in pieces:
                where = f"{part} rows" + (f" of task {name!r}" if name else "")
                if len(piece) == 0:
                    raise ValueError(
                        f"There are no {where}; give more data or other split fractions."
                    )
                _check_inputs(piece.inputs, where, allow_nan=bool(self.table or self.tables))
        for task in self.tasks:
            labels = {part: _labels(getattr(self, part), task) for part in SPLIT_NAMES}
            _check_labels(task, labels, check_classes=self.check_classes)


def _with_tasks(split: AnySplit, function: Callable[[Task], Task]) -> AnySplit:
    if isinstance(split, SeparateSplit):
        pieces = {name: _with_tasks(part, function) for name, part in split.parts.items()}
        return SeparateSplit({n: part for n, part in pieces.items() if isinstance(part, Split)})
    tasks = [function(task) for task in split.tasks]
    for old, new in zip(split.tasks, tasks, strict=True):
        if (old.name, old.kind) != (new.name, new.kind):
            raise ValueError(
                f"A task must keep its name and kind, found {new.name!r} ({new.kind!r}) for"
                f" {old.name!r} ({old.kind!r})."
            )
    return Split(split.inputs, {t.name: split.targets[t.name] for t in tasks}, tasks)


def encode_targets(
    targets: Mapping[str, np.ndarray | Tensor], kinds: Mapping[str, Kind], train_rows: Tensor
) -> tuple[list[Task], dict[str, Tensor]]:
    """Tasks with training statistics filled in, and their encoded targets.

    Raises:
        ValueError: A task without a kind; a regression target that is no number; an unknown label.
    """
    unknown = set(targets) ^ set(kinds)
    if unknown:
        raise ValueError(
            f"`targets` and `kinds` must name the same tasks, found only one of them for "
            f"{sorted(unknown)}."
        )
    tasks, encoded = [], {}
    for name, values in targets.items():
        kind = kinds[name]
        raw = np.asarray(values)
        if isinstance(kind, Regression):
            numbers = _as_numbers(name, raw)
            seen = numbers[train_rows.numpy()]
            if np.isnan(seen).all():
                raise ValueError(
                    f"Target {name!r} has no label in the training rows; drop it or give labels."
                )
            scale = float(np.nanstd(seen))
            if scale == 0:
                raise ValueError(
                    f"Target {name!r} has one value only ({np.nanmean(seen):g}) in the training "
                    "rows: nothing to learn, drop it."
                )
            kind = replace(kind, mean=float(np.nanmean(seen)), scale=scale)
            encoded[name] = torch.as_tensor(kind.encode(numbers))
        elif isinstance(kind, (Binary, Multiclass)):
            encoded[name] = torch.as_tensor(_encode_classes(name, kind, raw))
        else:
            dtype = torch.int64 if kind.is_categorical else torch.float32
            encoded[name] = torch.as_tensor(raw).to(dtype)
        tasks.append(Task(name, kind))
    return tasks, encoded


def _as_numbers(name: str, raw: np.ndarray) -> np.ndarray:
    try:
        numbers = raw.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"Regression target {name!r} must hold numbers: {error}.") from error
    if np.isinf(numbers).any():
        raise ValueError(
            f"Regression target {name!r} holds an infinite value in row "
            f"{int(np.isinf(numbers).argmax())}."
        )
    return numbers


def _encode_classes(name: str, kind: Binary | Multiclass, raw: np.ndarray) -> np.ndarray:
    labels = kind.labels or tuple(range(kind.output_size))
    codes = kind.encode(raw.tolist())
    for value, code in zip(raw.tolist(), codes.tolist(), strict=True):
        missing = (
            value is None
            or (isinstance(value, float) and math.isnan(value))
            or (value == IGNORE_INDEX and IGNORE_INDEX not in labels)
        )
        if code == IGNORE_INDEX and not missing:
            raise ValueError(
                f"Target {name!r} holds {value!r}, which is none of its labels {labels!r}."
            )
    return codes


def _split_rows(
    count: int,
    fractions: tuple[float, float, float],
    splits: Mapping[str, Sequence[int] | np.ndarray] | None,
    seed: int,
) -> dict[str, Tensor]:
    if splits is not None:
        if set(splits) != set(SPLIT_NAMES):
            raise ValueError(f"`splits` must have the parts {SPLIT_NAMES}, found {sorted(splits)}.")
        return {
            part: torch.as_tensor(np.asarray(splits[part], dtype=np.int64)) for part in SPLIT_NAMES
        }
    if min(fractions) <= 0 or abs(sum(fractions) - 1) > 1e-6:
        raise ValueError(
            f"`fractions` must be three positive shares that add up to 1, found {fractions}."
        )
    if count < 3:
        raise ValueError(f"At least 3 rows are needed (one per split), found {count}.")
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    num_validation = max(1, round(fractions[1] * count))
    num_test = max(1, round(fractions[2] * count))
    parts = order.split([count - num_validation - num_test, num_validation, num_test])
    return dict(zip(SPLIT_NAMES, (p.sort().values for p in parts), strict=True))


def _check_inputs(inputs: Tensor, where: str, *, allow_nan: bool) -> None:
    if not inputs.is_floating_point():
        return
    bad = torch.isinf(inputs) if allow_nan else ~torch.isfinite(inputs)
    if bool(bad.any()):
        place = [int(i) for i in bad.nonzero()[0]]
        value = inputs[tuple(place)].item()
        raise ValueError(
            f"Inputs must be finite, found {value} in the {where} at position {place}."
        )


def _labels(split: AnySplit, task: Task) -> Tensor:
    piece = split.parts[task.name] if isinstance(split, SeparateSplit) else split
    return piece.targets[task.name][piece.labelled(task.name)]


def _positives(split: AnySplit, task: Task) -> float | None:
    """Share of the second label among the labelled rows; None where a task has no such label."""
    if not isinstance(task.kind, Binary):
        return None
    return float(_labels(split, task).double().mean())


def _check_labels(task: Task, labels: Mapping[str, Tensor], *, check_classes: bool) -> None:
    train = labels["train"]
    if len(train) == 0:
        raise ValueError(
            f"Task {task.name!r} has no label in the training rows; drop it or give labels."
        )
    if isinstance(task.kind, (Binary, Multiclass)):
        seen = set(train.unique().tolist())
        names = task.kind.labels or tuple(range(task.kind.output_size))
        for part in ("validation", "test") if check_classes else ():
            for code in labels[part].unique().tolist():
                if code not in seen:
                    raise ValueError(
                        f"Class {names[code]!r} of task {task.name!r} occurs in the {part} rows "
                        "but in no training row;"
                        " split differently, merge the class with another, or drop those rows."
                    )
        if len(seen) < 2:
            raise ValueError(
                f"Task {task.name!r} has one class only ({names[next(iter(seen))]!r}) in the "
                "training rows:"
                " nothing to learn, drop it."
            )
    elif isinstance(task.kind, Regression) and len(train) > 1 and bool((train == train[0]).all()):
        raise ValueError(
            f"Task {task.name!r} has one value only in the training rows: nothing to learn, drop "
            "it."
        )


def _without_missing(kind: Kind, tensor: Tensor) -> Tensor:
    """Missing labels replaced by a valid value; dense and sequence kinds mask their own parts."""
    if kind.target_dims:
        return tensor
    return tensor.clamp_min(0) if kind.is_categorical else tensor.nan_to_num()
