"""Sources that are tables: one table with several targets, or a table of its own for every task."""

from __future__ import annotations

import functools
import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from polytask.problems.encoding import encode_targets
from polytask.problems.problem import Problem
from polytask.problems.source import Source, read_record, short_hash, write_record
from polytask.problems.splits import SPLIT_NAMES, Split
from polytask.problems.splitting import (
    Rows,
    SplitPlan,
    grouped_split,
    missing_from_training,
    named_parts,
    named_split,
    stratified_split,
)
from polytask.problems.table_info import Column
from polytask.tables.columns import column_names, infer_columns, plain_frame
from polytask.tables.frames import frame_digest, load_frame, save_frame
from polytask.tables.guards import guard_notes
from polytask.tables.missing import blank_frame, parse_codes
from polytask.tables.preprocessing import fit_table, transform_table
from polytask.tables.targets import (
    Target,
    check_column,
    check_labels_in_parts,
    parse_targets,
    read_target,
    weigh_classes,
)

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["TableSource", "TablesSource"]

FEWEST_ROWS = 10
TABLE = "table.npz"
#: Columns whose notes are listed one by one.
MOST_COLUMN_NOTES = 10
MORE_NOTES = " more columns have notes; the schema shows them"


class TableSource(Source):
    """A table with several targets, in the shared layout.

    Everything that can be wrong with the table is found here, before any training. Rows without any
    label are left out; labels that are missing in other rows are masked.

    Args:
        frame: The table.
        targets: ``["price:regression", "sold:binary", "grade"]`` or ``{"price": "regression",
            "grade": None}``; a kind that is not said is inferred, and a note says so.
        name: Of the problem.
        drop: Columns that are no inputs.
        split: How rows are split; stratified by all targets unless it names a column.
        categorical: Columns of numbers that are codes of categories.
        missing: Codes that mean a missing cell: ``["-999", "flag=-1"]`` or ``{"flag": -1}``.
        fold_case: Whether categories and classes that differ only in case or spaces are one.

    Notes and the decimal sign that ``read_table`` found are taken from the table's ``attrs``.

    Raises:
        TypeError: The table is no DataFrame.
        ValueError: A table, column or target that cannot be used; the sentence names it and says
            what to do.
    """

    def __init__(
        self,
        frame: pd.DataFrame,
        targets: Sequence[str | Target] | Mapping[str, str | None],
        *,
        name: str = "table",
        drop: Collection[str] = (),
        split: SplitPlan | None = None,
        categorical: Collection[str] = (),
        missing: Sequence[str] | Mapping[str, Any] = (),
        fold_case: bool = False,
    ) -> None:
        self.name = name
        self.drop = tuple(map(str, drop))
        self.split = split or SplitPlan()
        self.categorical = tuple(map(str, categorical))
        self.fold_case = fold_case
        if not hasattr(frame, "columns"):
            raise TypeError(
                f"A table must be a pandas DataFrame, found {type(frame).__name__}; convert it, or"
                " read a file with read_table."
            )
        if len(frame) < FEWEST_ROWS:
            raise ValueError(
                f"The table {name!r} has {len(frame)} rows; at least {FEWEST_ROWS} are needed."
            )
        self.reading_notes = tuple(frame.attrs.get("notes", ()))
        self.decimal = str(frame.attrs.get("decimal", "."))
        plain = plain_frame(frame)
        names = list(plain.columns)
        self.missing = parse_codes(missing, names)
        plain = blank_frame(plain, self.missing)
        for option, columns in (
            ("Dropped column", self.drop),
            ("Categorical column", self.categorical),
        ):
            for column in columns:
                check_column(option, column, names)
        aside = [column for column in (self.split.by, self.split.column) if column is not None]
        for column in aside:
            check_column("Split column", column, names)
        self.targets = parse_targets(targets, names, {*self.drop, *aside})
        self.target_columns = tuple(
            read_target(target, plain[target.column], fold_case=fold_case, decimal=self.decimal)
            for target in self.targets
        )
        self.frame = plain
        # Row numbers stay those of the table, so that errors name the rows that the user sees.
        self._labelled = np.flatnonzero(np.any([c.codes >= 0 for c in self.target_columns], axis=0))
        no_inputs = {*self.drop, *aside, *(target.column for target in self.targets)}
        self.inputs = [column for column in names if column not in no_inputs]
        if not self.inputs:
            raise ValueError(
                f"The table {name!r} has no column left as an input; keep at least one column"
                " that is no target."
            )
        self.columns: tuple[Column, ...] = infer_columns(
            self.frame[self.inputs], categorical=self.categorical, decimal=self.decimal
        )
        self._groups = self._cells(self.split.by)
        words = self._cells(self.split.column)
        self._parts = None if words is None else named_parts(words.tolist())
        self.resplits = self._parts is None or "validation" not in self._parts

    def __repr__(self) -> str:
        targets = [target.column for target in self.targets]
        return f"TableSource({self.name!r}, {len(self.frame)} rows, targets {targets})"

    def build(self, seed: int) -> Problem:
        """Split, fit the preprocessing on the training rows, and encode."""
        rows = self.rows(seed)
        inputs = self.frame[self.inputs]
        table = fit_table(
            inputs,
            rows=rows["train"],
            columns=self.columns,
            missing=self.missing,
            fold_case=self.fold_case,
        )
        features = transform_table(table, inputs)
        values = {column.name: column.values for column in self.target_columns}
        kinds = {column.name: column.kind for column in self.target_columns}
        tasks, encoded = encode_targets(values, kinds, torch.from_numpy(rows["train"]))
        weighed = [
            weigh_classes(t, c.codes[rows["train"]])
            for t, c in zip(tasks, self.target_columns, strict=True)
        ]
        tasks = [task for task, _ in weighed]
        parts = {
            part: Split(features[index], {n: t[index] for n, t in encoded.items()}, tasks)
            for part, index in ((part, torch.from_numpy(rows[part])) for part in SPLIT_NAMES)
        }
        notes = [*self._notes(rows), *(note for _, note in weighed if note)]
        about = self._column_notes(table.columns)
        notes += about[:MOST_COLUMN_NOTES]
        if len(about) > MOST_COLUMN_NOTES:
            notes.append(f"{len(about) - MOST_COLUMN_NOTES}{MORE_NOTES}")
        return Problem(
            name=self.name,
            train=parts["train"],
            validation=parts["validation"],
            test=parts["test"],
            table=table,
            notes=notes,
        )

    def rows(self, seed: int) -> Rows:
        """Row numbers of each part; rows without any label are in none.

        Raises:
            ValueError: A class is in validation or test rows only; a part has no label of a target.
        """
        kept, fractions = self._labelled, self.split.fractions
        strata = np.stack([column.codes for column in self.target_columns], axis=1)[kept]
        if self._parts is not None:
            found = named_split(self._parts[kept], strata, fractions, seed)
        elif self._groups is not None:
            found = grouped_split(self._groups[kept], strata, fractions, seed)
        else:
            found = stratified_split(strata, fractions, seed)
        rows = {part: kept[index] for part, index in found.items()}
        for column in self.target_columns:
            if column.labels and (lacking := missing_from_training(column.codes, rows)):
                code, part = next(iter(lacking.items()))
                raise ValueError(
                    f"Class {column.labels[code]!r} of target {column.name!r} occurs in the"
                    f" {part} rows but in no training"
                    " row; move a row of it to training, merge the class with another, or drop"
                    " those rows."
                )
            check_labels_in_parts(column, rows)
        return rows

    def schema(self) -> list[dict[str, Any]]:
        """One record per column of the table: role, type, missing share, distinct values, note."""
        known = {column.name: column.schema_row() for column in self.columns}
        kinds = {c.name: type(c.kind).__name__.lower() for c in self.target_columns}
        roles = dict.fromkeys(self.drop, "dropped")
        if self.split.by is not None:
            roles[self.split.by] = "groups"
        if self.split.column is not None:
            roles[self.split.column] = "split"
        records = []
        for name in map(str, self.frame.columns):
            row = known.get(name)
            if row is None:
                series = self.frame[name]
                row = {
                    "column": name,
                    "type": kinds.get(name, ""),
                    "missing": round(float(series.isna().mean()), 4),
                    "distinct": int(series.nunique()),
                    "used": False,
                    "note": "",
                }
            role = (
                "target"
                if name in kinds
                else roles.get(name, "input" if row["used"] else "left out")
            )
            records.append(
                {
                    "column": name,
                    "role": role,
                    **{k: row[k] for k in ("type", "missing", "distinct", "note")},
                }
            )
        return records

    def config(self) -> dict[str, Any]:
        return {
            **self._settings(),
            "rows": len(self.frame),
            "resplits": self.resplits,
            "columns": self.schema(),
        }

    def fingerprint(self) -> str:
        return short_hash(json.dumps(self._settings(), sort_keys=True), frame_digest(self.frame))

    def save(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        save_frame(self.frame, folder / TABLE)
        record = self._settings()
        if self.reading_notes:
            record["notes"] = list(self.reading_notes)
        write_record(folder, record)

    @classmethod
    def load(cls, folder: Path, record: Mapping[str, Any]) -> TableSource:
        split = record["split"]
        frame = load_frame(folder / TABLE)
        frame.attrs = {"notes": record.get("notes", []), "decimal": record.get("decimal", ".")}
        return cls(
            frame,
            [Target(column, kind) for column, kind in record["targets"]],
            name=record["name"],
            drop=record["drop"],
            split=SplitPlan(
                fractions=tuple(split["fractions"]), by=split["by"], column=split["column"]
            ),
            categorical=record["categorical"],
            missing=[f"{column}={code}" for column, code in record.get("missing", ())],
            fold_case=record.get("fold_case", False),
        )

    def _settings(self) -> dict[str, Any]:
        # What is as usual is left out: a fingerprint stays what it was before there was a choice.
        chosen: dict[str, Any] = {}
        if self.missing:
            chosen["missing"] = [list(pair) for pair in self.missing]
        if self.fold_case:
            chosen["fold_case"] = True
        if self.decimal != ".":
            chosen["decimal"] = self.decimal
        return {
            **chosen,
            "type": type(self).__name__,
            "name": self.name,
            "targets": [[target.column, target.kind] for target in self.targets],
            "drop": list(self.drop),
            "split": {
                "fractions": list(self.split.fractions),
                "by": self.split.by,
                "column": self.split.column,
            },
            "categorical": list(self.categorical),
        }

    def _cells(self, column: str | None) -> np.ndarray | None:
        """The cells of a column that decides about the split; none may be missing."""
        if column is None:
            return None
        series = self.frame[column]
        absent = series.isna().to_numpy()
        if absent.any():
            raise ValueError(
                f"Split column {column!r} has a missing cell in row {int(absent.argmax()) + 1};"
                " fill it or drop the row."
            )
        cells: np.ndarray = series.to_numpy()
        return cells.astype("str") if cells.dtype == object else cells

    def _notes(self, rows: Rows) -> list[str]:
        notes = [*self.reading_notes]
        notes += [note for column in self.target_columns for note in column.notes]
        unlabelled = len(self.frame) - len(self._labelled)
        if unlabelled:
            notes.append(
                f"{unlabelled} of {len(self.frame)} rows have no label at all and are left out"
            )
        for column in self.target_columns:
            notes += column.coverage_notes(rows)
        return [*notes, *self._guards]

    def _column_notes(self, columns: Sequence[Column]) -> list[str]:
        return [f"column {c.name}: {note}" for c in columns if (note := self._note_of(c))]

    def _note_of(self, column: Column) -> str:
        """What is noted about a column; spellings are settled where they are folded."""
        is_words = column.type in ("categorical", "boolean")
        return "" if self.fold_case and is_words and column.used else column.note

    def all_notes(self, problem: Problem) -> list[str]:
        """The notes of one of its problems, with those of all columns."""
        table = problem.table
        about = self._column_notes(table.columns if table is not None else self.columns)
        others = [n for n in problem.notes if n not in about and not n.endswith(MORE_NOTES)]
        return [*others, *about]

    @functools.cached_property
    def _guards(self) -> tuple[str, ...]:
        """Notes about inputs that may give a target away, and about rows in time order."""
        is_random = self.split.by is None and self.split.column is None
        return guard_notes(self.frame, self.columns, self.target_columns, is_random=is_random)


class TablesSource(Source):
    """A table of its own for every task, in the separate layout.

    Args:
        tables: Task name to its table and its target (``"quality:regression"``).
        name: Of the problem.
        drop: Columns that are no inputs, in whichever tables have them.
        split: How the rows of every table are split.
        categorical: Columns of numbers that are codes of categories, in whichever tables have them.
        missing: Codes that mean a missing cell; those of a column in whichever tables have it.
        fold_case: Whether categories and classes that differ only in case or spaces are one.
    """

    def __init__(
        self,
        tables: Mapping[str, tuple[pd.DataFrame, str | Target]],
        *,
        name: str = "tables",
        drop: Collection[str] = (),
        split: SplitPlan | None = None,
        categorical: Collection[str] = (),
        missing: Sequence[str] | Mapping[str, Any] = (),
        fold_case: bool = False,
    ) -> None:
        if not tables:
            raise ValueError("At least one table is needed; give a table and a target per task.")
        for option, columns in (("Dropped column", drop), ("Categorical column", categorical)):
            for column in columns:
                if not any(column in column_names(frame) for frame, _ in tables.values()):
                    raise ValueError(
                        f"{option} {column!r} is in none of the tables; check its name."
                    )
        every = sorted({c for frame, _ in tables.values() for c in column_names(frame)})
        codes = parse_codes(missing, every)
        self._join(
            name,
            {
                task: TableSource(
                    frame,
                    [target],
                    name=task,
                    drop=[c for c in drop if c in set(column_names(frame))],
                    split=split,
                    categorical=[c for c in categorical if c in set(column_names(frame))],
                    missing=[
                        f"{column}={code}"
                        for column, code in codes
                        if column in {"", *column_names(frame)}
                    ],
                    fold_case=fold_case,
                )
                for task, (frame, target) in tables.items()
            },
        )

    @classmethod
    def from_sources(
        cls, sources: Mapping[str, TableSource], *, name: str = "tables"
    ) -> TablesSource:
        """Tasks whose tables have options of their own; every source has one target."""
        for task, source in sources.items():
            if len(source.targets) != 1:
                raise ValueError(
                    f"The table of task {task!r} must have one target, found {len(source.targets)}."
                )
        joined = cls.__new__(cls)
        joined._join(name, dict(sources))
        return joined

    def _join(self, name: str, sources: dict[str, TableSource]) -> None:
        self.name = name
        self.sources = sources
        self.resplits = any(source.resplits for source in sources.values())

    def __repr__(self) -> str:
        return f"TablesSource({self.name!r}, tasks {list(self.sources)})"

    def build(self, seed: int) -> Problem:
        """Every table as a problem of one task, joined."""
        problems = {}
        for task, source in self.sources.items():
            try:
                problems[task] = source.build(seed)
            except ValueError as error:
                raise ValueError(f"Table {task!r}: {error}") from error
        return Problem.join(problems, name=self.name)

    def schema(self) -> list[dict[str, Any]]:
        """The columns of all tables, with the task in front."""
        return [
            {"task": task, **row}
            for task, source in self.sources.items()
            for row in source.schema()
        ]

    def config(self) -> dict[str, Any]:
        tables = {task: source.config() for task, source in self.sources.items()}
        return {
            "type": "TablesSource",
            "name": self.name,
            "resplits": self.resplits,
            "tables": tables,
        }

    def fingerprint(self) -> str:
        return short_hash(
            self.name, *(f"{task} {source.fingerprint()}" for task, source in self.sources.items())
        )

    def save(self, folder: Path) -> None:
        for i, source in enumerate(self.sources.values()):
            source.save(folder / f"table-{i}")
        write_record(
            folder, {"type": "TablesSource", "name": self.name, "tasks": list(self.sources)}
        )

    @classmethod
    def load(cls, folder: Path, record: Mapping[str, Any]) -> TablesSource:
        folders = {task: folder / f"table-{i}" for i, task in enumerate(record["tasks"])}
        sources = {task: TableSource.load(f, read_record(f)) for task, f in folders.items()}
        return cls.from_sources(sources, name=record["name"])
