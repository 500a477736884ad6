"""Problems: the tasks together with their training, validation and test rows, in one of two
layouts.

*Shared inputs*: one input and a column of targets per task; labels may be missing. *Separate
inputs*: every task has its own rows, input dimensions and size. Missing labels are masked and never
imputed: a batch says which tasks have labels in it, and a task without any takes part in nothing.

Shape legend: N rows, K tasks of one block.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from polytask.problems.checking import check_labels, check_rows
from polytask.problems.encoding import encode_targets
from polytask.problems.splits import SPLIT_NAMES, AnySplit, Layout, SeparateSplit, Split
from polytask.problems.storage import read_splits, task_record, write_splits
from polytask.problems.table_batch import TableShape
from polytask.problems.table_info import TableInfo, arrays_of_tables, tables_from_record
from polytask.tasks import Binary, Kind, Task, check_unique_names

__all__ = ["Problem"]


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
        self.layout: Layout = train.layout
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

    @property
    def splits(self) -> dict[str, AnySplit]:
        """The three parts by name."""
        return {"train": self.train, "validation": self.validation, "test": self.test}

    def table_of(self, name: str) -> TableInfo | None:
        """How the columns of a task's table became inputs; None where its inputs are no table."""
        return self.tables.get(name) if self.layout == "separate" else self.table

    def task(self, name: str) -> Task:
        """The task with this name."""
        for task in self.tasks:
            if task.name == name:
                return task
        raise ValueError(
            f"No task {name!r} in problem {self.name!r}; it has {[t.name for t in self.tasks]}."
        )

    def select_tasks(self, names: Sequence[str]) -> Problem:
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
        shapes = {}
        for task in self.tasks:
            name, table = task.name, self.table_of(task.name)
            inputs = self.train.piece(name).inputs
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
        return self._with_parts({n: split.with_tasks(function) for n, split in self.splits.items()})

    def to(self, device: torch.device | str) -> Problem:
        """The same problem with its rows on another device."""
        return self._with_parts({n: split.to(device) for n, split in self.splits.items()})

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
        digest = hashlib.sha256(json.dumps([t.config() for t in self.tasks], default=str).encode())
        for split in self.splits.values():
            for piece in split.pieces.values():
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
                    **task.config(),
                    "labels_per_split": {
                        part: split.num_labels(task.name) for part, split in self.splits.items()
                    },
                    "positives": self._positives(task),
                }
                for task in self.tasks
            ],
            "rows": {part: len(split) for part, split in self.splits.items()},
            "notes": list(self.notes),
        }

    def save(self, folder: Path | str) -> None:
        """Write the problem to a folder (made if needed) as safetensors and JSON."""
        record = {
            "name": self.name,
            "layout": self.layout,
            "tasks": [task_record(task) for task in self.tasks],
            "table": None if self.table is None else self.table.to_record(),
            "tables": {name: table.to_record() for name, table in self.tables.items()},
            "notes": list(self.notes),
            "check_classes": self.check_classes,
        }
        write_splits(Path(folder), self.splits, record, arrays_of_tables(self.table, self.tables))

    @classmethod
    def load(cls, folder: Path | str) -> Problem:
        """Read what ``save`` wrote."""
        record, splits, arrays = read_splits(Path(folder))
        table, tables = tables_from_record(record, arrays)
        return cls(
            name=record["name"],
            table=table,
            tables=tables,
            notes=record["notes"],
            check_classes=record.get("check_classes", True),
            **splits,
        )

    def __repr__(self) -> str:
        return (
            f"Problem({self.name!r}, {len(self.tasks)} task(s), {self.layout} layout, "
            f"{len(self.train)} training rows)"
        )

    def _positives(self, task: Task) -> float | None:
        """Share of the second label among the labelled rows; None where there is no such label."""
        if not isinstance(task.kind, Binary):
            return None
        return float(self.train.labels(task.name).double().mean())

    def _check(self) -> None:
        for part, split in self.splits.items():
            check_rows(part, split, allow_nan=bool(self.table or self.tables))
        for task in self.tasks:
            labels = {part: split.labels(task.name) for part, split in self.splits.items()}
            check_labels(task, labels, check_classes=self.check_classes)


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
