"""What would be learned from a table, without training anything."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from polytask.problems.splits import SPLIT_NAMES
from polytask.problems.table_info import Column
from polytask.tables.preprocessing import readable_cells
from polytask.tables.reading import read_table
from polytask.tables.sources import TableSource

if TYPE_CHECKING:
    import pandas as pd

    from polytask.problems.splitting import Rows, SplitPlan
    from polytask.tables.targets import TargetColumn

__all__ = ["Inspection", "inspect", "inspect_source"]

#: Types of columns in words that people use.
TYPES = {
    "numeric": "number",
    "boolean": "category",
    "categorical": "category",
    "date": "date",
    "text": "text",
}
LEFT_OUT, TARGET = "left out", "target"
MOST_CLASSES_SHOWN = 20


@dataclass(frozen=True)
class Inspection:
    """What a table is read as.

    Args:
        name: Of the table.
        rows: Number of rows.
        columns: Per column its ``type`` (number, date, category, text, left out, target), ``role``
            (input, target, dropped, groups, split, left out), ``missing`` cells, ``distinct``
            values, statistics (``min``, ``max`` and for numbers ``mean``), and ``note``.
        targets: Per target its ``kind``, number of ``labels`` and of labels per split, and per
            class the number of its rows.
        split: Rows per split.
        notes: What a reader should know before training.
    """

    name: str
    rows: int
    columns: dict[str, dict[str, Any]]
    targets: dict[str, dict[str, Any]]
    split: dict[str, int]
    notes: tuple[str, ...]

    def to_record(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "name": self.name,
            "rows": self.rows,
            "columns": self.columns,
            "targets": self.targets,
            "split": self.split,
            "notes": list(self.notes),
        }

    def __str__(self) -> str:
        inputs = sum(about["role"] == "input" for about in self.columns.values())
        kinds = ", ".join(f"{name} ({about['kind']})" for name, about in self.targets.items())
        notes = "".join(f"\nnote: {note}" for note in self.notes)
        return f"{self.name}: {self.rows} rows, {inputs} inputs; targets: {kinds}{notes}"


def inspect(
    data: pd.DataFrame | TableSource | Path | str,
    targets: Sequence[str] | Mapping[str, str | None] = (),
    *,
    drop: Collection[str] = (),
    split: SplitPlan | None = None,
    categorical: Collection[str] = (),
    missing: Sequence[str] | Mapping[str, Any] = (),
    fold_case: bool = False,
    skip_rows: int | None = None,
) -> Inspection:
    """What would be learned from a table: columns, targets, split and notes, without training.

    Args:
        data: A table, its file, or a source with all options inside.
        targets: As ``TableSource`` takes them.
        drop: Columns that are no inputs.
        split: How rows are split.
        categorical: Columns of numbers that are codes of categories.
        missing: Codes that mean a missing cell: ``["-999", "flag=-1"]`` or ``{"flag": -1}``.
        fold_case: Whether categories and classes that differ only in case or spaces are one.
        skip_rows: Lines of a file above the header; None means that they are found.

    Raises:
        ValueError: A table, column or target that cannot be used; the sentence names it.

    Example:
        >>> import pandas as pd
        >>> import polytask
        >>> table = pd.DataFrame({"size": range(40), "sold": ["yes", "no"] * 20})
        >>> found = polytask.inspect(table, ["sold"])
        >>> found.targets["sold"]["kind"], found.columns["size"]["max"]
        ('binary', 39)
    """
    if isinstance(data, TableSource):
        return inspect_source(data)
    name = "table"
    if isinstance(data, (str, Path)):
        name = Path(data).name.split(".")[0]
        data = read_table(data, as_text=categorical, skip_rows=skip_rows)
    source = TableSource(
        data,
        targets,
        name=name,
        drop=drop,
        split=split,
        categorical=categorical,
        missing=missing,
        fold_case=fold_case,
    )
    return inspect_source(source)


def inspect_source(source: TableSource, seed: int = 0) -> Inspection:
    """The same for a source, with the split of a seed."""
    problem = source.problem(seed)
    assert problem.table is not None
    read = {column.name: column for column in problem.table.columns}
    targets = {column.name: column for column in source.target_columns}
    rows = source.rows(seed)
    columns: dict[str, dict[str, Any]] = {}
    for row in source.schema():
        name, role = row["column"], row["role"]
        series = source.frame[name]
        if name in targets:
            columns[name] = {"type": TARGET, "role": role, **_statistics(_cells(targets[name]))}
        elif name in read:
            columns[name] = _input(read[name], role, series)
        else:
            columns[name] = {"type": LEFT_OUT, "role": role, **_statistics(series)}
    return Inspection(
        name=source.name,
        rows=len(source.frame),
        columns=columns,
        targets={
            task["name"]: {**_target(targets[task["name"]], rows), "metric": task["metrics"][0]}
            for task in problem.summary()["tasks"]
        },
        split={part: len(split) for part, split in problem.splits.items()},
        notes=tuple(source.all_notes(problem)),
    )


def _input(column: Column, role: str, series: pd.Series[Any]) -> dict[str, Any]:
    kind = TYPES.get(column.type, LEFT_OUT)
    cells = readable_cells(column, series) if kind in ("number", "date") else series
    return {
        "type": kind,
        "role": role if kind != LEFT_OUT else LEFT_OUT,
        **_statistics(cells),
        "note": column.note,
    }


def _cells(target: TargetColumn) -> pd.Series[Any]:
    import pandas as pd

    return pd.Series(target.values)


def _statistics(cells: pd.Series[Any]) -> dict[str, Any]:
    """Missing cells, different values, and what kind of cell allows: least, greatest, mean."""
    from pandas.api import types

    present = cells.dropna()
    found: dict[str, Any] = {
        "missing": int(cells.isna().sum()),
        "distinct": int(present.nunique()),
    }
    if not len(present):
        return found
    if types.is_datetime64_any_dtype(cells):
        return {**found, "min": present.min().isoformat(), "max": present.max().isoformat()}
    if types.is_numeric_dtype(cells):
        mean = float(np.mean(present.to_numpy(dtype=np.float64) / len(present)) * len(present))
        return {**found, "min": present.min().item(), "max": present.max().item(), "mean": mean}
    counts = present.astype(str).value_counts()
    return {**found, "most": str(counts.index[0]), "most_rows": int(counts.iloc[0])}


def _target(column: TargetColumn, rows: Rows) -> dict[str, Any]:
    about: dict[str, Any] = {
        "kind": type(column.kind).__name__.lower(),
        "labels": int((column.codes >= 0).sum()),
        "labels_per_split": {p: int((column.codes[rows[p]] >= 0).sum()) for p in SPLIT_NAMES},
    }
    if column.labels:
        counts = np.bincount(column.codes[column.codes >= 0], minlength=len(column.labels))
        pairs = list(zip(map(str, column.labels), counts.tolist(), strict=True))
        about["classes"] = dict(pairs[:MOST_CLASSES_SHOWN])
        about["num_classes"] = len(pairs)
    return about
