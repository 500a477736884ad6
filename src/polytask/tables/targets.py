"""The targets of a table: columns, kinds, whether they can be learned, uneven classes."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from polytask.problems.splits import SPLIT_NAMES
from polytask.problems.splitting import quantile_bins
from polytask.tables.columns import number_notes, shown
from polytask.tables.dates import find_dates
from polytask.tables.extremes import beyond_float32
from polytask.tables.folding import folded, spelling_notes
from polytask.tables.numbers import find_numbers, parse_numbers
from polytask.tasks import Binary, Kind, Multiclass, Regression, Task

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "Target",
    "TargetColumn",
    "check_column",
    "check_labels_in_parts",
    "parse_targets",
    "read_target",
    "weigh_classes",
]

KINDS = ("regression", "binary", "multiclass")
#: Whole numbers that count from 0 or 1 up to at most this many values are taken for classes.
MOST_COUNTED_CLASSES = 10
MOST_CLASSES = 200
#: Rows with a label that a target needs: one to train, one to validate, one to test.
FEWEST_LABELS = 3
#: A binary target is weighed if the rarer class has less than this share of the training labels ...
RARE_SHARE = 0.2
#: ... with at most this weight: larger ones make a handful of rows steer the whole network.
LARGEST_WEIGHT = 20.0


@dataclass(frozen=True)
class Target:
    """A column to predict.

    Args:
        column: Of the table; also the name of the task.
        kind: ``regression``, ``binary`` or ``multiclass``; None means that the values decide.
    """

    column: str
    kind: str | None = None

    def __post_init__(self) -> None:
        """Check the arguments."""
        if not self.column:
            raise ValueError("A target needs the name of a column, found an empty one.")
        if self.kind is not None and self.kind not in KINDS:
            raise ValueError(
                f"Target {self.column!r}: the kind must be regression, binary or multiclass,"
                f" found {self.kind!r}."
            )

    @classmethod
    def parse(cls, text: str) -> Target:
        """``price:regression`` or ``price``; a column name may hold colons itself."""
        column, colon, kind = text.rpartition(":")
        return (
            cls(column, kind.strip().lower())
            if colon and kind.strip().lower() in KINDS
            else cls(text)
        )


@dataclass(frozen=True)
class TargetColumn:
    """A target whose values were read.

    Args:
        name: Of the task.
        kind: What it is.
        values: ``[N]`` numbers (NaN: missing) or labels (None: missing).
        codes: ``[N]`` class or quantile bin, -1 where missing; splits are stratified by it.
        notes: What a reader should know (the kind was inferred).
    """

    name: str
    kind: Kind
    values: np.ndarray
    codes: np.ndarray
    notes: tuple[str, ...] = ()

    @property
    def labels(self) -> tuple[Any, ...]:
        """The classes; empty for regression."""
        if isinstance(self.kind, (Binary, Multiclass)):
            return self.kind.labels or tuple(range(self.kind.output_size))
        return ()

    def coverage_notes(self, rows: Mapping[str, np.ndarray]) -> list[str]:
        """Notes about missing labels and about classes too rare to be validated or tested."""
        notes = []
        used = np.concatenate(list(rows.values()))
        missing = int((self.codes[used] < 0).sum())
        if missing:
            notes.append(
                f"target {self.name}: {missing} of {len(used)} labels are missing and masked"
            )
        for code, label in enumerate(self.labels):
            absent = [
                part
                for part in ("validation", "test")
                if not (self.codes[rows[part]] == code).any()
            ]
            if absent:
                count = int((self.codes == code).sum())
                notes.append(
                    f"target {self.name}: class {label} has {count} row(s) and none in"
                    f" {' and '.join(absent)},"
                    " so how well it is learned is not measured there"
                )
        return notes


def parse_targets(
    targets: Sequence[str | Target] | Mapping[str, str | None],
    columns: Sequence[str],
    dropped: Collection[str] = (),
) -> tuple[Target, ...]:
    """Targets of a table, checked against its columns.

    Args:
        targets: ``["price:regression", "sold"]`` or ``{"price": "regression", "sold": None}``.
        columns: Of the table.
        dropped: Columns that may not be targets.

    Raises:
        ValueError: No target; a target that is no column, is named twice, or is dropped as well.
    """
    if isinstance(targets, (str, int, Target)):
        targets = [targets]
    if isinstance(targets, Mapping):
        parsed = [Target(str(column), kind) for column, kind in targets.items()]
    else:
        parsed = [t if isinstance(t, Target) else _parse(str(t), columns) for t in targets]
    if not parsed:
        raise ValueError("A table needs at least one target; name a column to predict.")
    seen: set[str] = set()
    for target in parsed:
        if target.column not in columns:
            raise ValueError(_unknown("Target", target.column, columns))
        if target.column in seen:
            raise ValueError(f"Target {target.column!r} is named twice; name every target once.")
        if target.column in dropped:
            raise ValueError(
                f"Column {target.column!r} is both a target and left out of the inputs by"
                " another option; choose one."
            )
        seen.add(target.column)
    return tuple(parsed)


def check_column(option: str, column: str, columns: Sequence[str]) -> None:
    """Raise ValueError if an option names a column that does not exist."""
    if column not in columns:
        raise ValueError(_unknown(option, column, columns))


def read_target(
    target: Target, series: pd.Series[Any], *, fold_case: bool = False, decimal: str = "."
) -> TargetColumn:
    """Values and kind of a target from its plain column.

    Args:
        target: Column and kind.
        series: The plain column.
        fold_case: Whether classes that differ only in case or spaces are one, spelled as most are.
        decimal: Decimal sign of the file, for numbers that are still texts.

    Raises:
        ValueError: The target cannot be learned as what it is said to be; the sentence says what to
            do.
    """
    from pandas.api import types

    name = target.column
    if fold_case and series.dtype == object:
        series = folded(series, like_most=True)
    series, about = _read_texts(target, series, decimal)
    present = series.dropna()
    _check_labels(name, series, present)
    kind = target.kind or _inferred_kind(present)
    notes = [] if target.kind else [f"target {name}: taken for {kind} ({_looks_like(present)})"]
    notes += about
    if types.is_numeric_dtype(series):
        numbers = series.to_numpy(dtype=np.float64)
        found = number_notes(name, numbers, is_target=True)
        notes += [f"target {name}: {note}" for note in found]
    if kind == "regression":
        values = _numbers(name, series)
        values = np.where(beyond_float32(values), np.nan, values)
        return TargetColumn(name, Regression(), values, quantile_bins(values), tuple(notes))
    if series.dtype == object:
        notes += spelling_notes(f"target {name}: classes", present)
    return _read_classes(name, kind, series, present, tuple(notes))


def _read_texts(
    target: Target, series: pd.Series[Any], decimal: str
) -> tuple[pd.Series[Any], list[str]]:
    """The column as numbers where its texts are numbers and no classes are asked for."""
    import pandas as pd

    words = series.dropna()
    if series.dtype != object or not len(words) or target.kind in ("binary", "multiclass"):
        return series, []
    reading = find_numbers(words, decimal=decimal)
    if reading is None:
        return series, []
    numbers = pd.Series(parse_numbers(series, reading.form), name=series.name)
    if target.kind is None and not reading.odd and _inferred_kind(numbers.dropna()) != "regression":
        return series, []  # a few numbers as texts are classes, spelled as they are
    return numbers, [f"target {target.column}: {note}" for note in reading.notes]


def _check_labels(name: str, series: pd.Series[Any], present: pd.Series[Any]) -> None:
    """Raise ValueError if the labels of a target cannot be learned, whatever its kind."""
    from pandas.api import types

    if not len(present):
        raise ValueError(
            f"Target {name!r} has no label: every cell is missing; choose another column."
        )
    if present.nunique() == 1:
        raise ValueError(
            f"Target {name!r} is {shown(present.iloc[0])} in every row that has a label: nothing to"
            " learn, choose another column."
        )
    if len(present) < FEWEST_LABELS:
        raise ValueError(
            f"Target {name!r} has {len(present)} labels; at least {FEWEST_LABELS} are needed"
            " (to train, validate and test)."
        )
    dates = find_dates(present) if series.dtype == object else None
    if types.is_datetime64_any_dtype(series) or (dates is not None and dates.form):
        raise ValueError(
            f"Target {name!r} holds dates, which cannot be predicted; give a number such as days."
        )
    if types.is_numeric_dtype(series) and np.isinf(present).any():
        row = int(np.isinf(series.to_numpy(dtype=np.float64)).argmax())
        raise ValueError(
            f"Target {name!r} must hold finite numbers, found {series.iloc[row]} in row {row + 1};"
            " correct the cell or leave it empty."
        )


def weigh_classes(task: Task, train_codes: np.ndarray) -> tuple[Task, str]:
    """The task with weights for uneven classes, and a note about it (empty where classes are even).

    A binary target whose rarer class has less than a fifth of the training labels gives that class
    the weight frequent / rare, at most ``LARGEST_WEIGHT``. Multiclass targets are only reported.

    Args:
        task: Binary or multiclass; others are returned as they are.
        train_codes: ``[N]`` class of every training row, -1 where the label is missing.
    """
    if not isinstance(task.kind, (Binary, Multiclass)):
        return task, ""
    counts = np.bincount(train_codes[train_codes >= 0], minlength=max(2, task.kind.output_size))
    shares = counts / counts.sum()
    labels = task.kind.labels or tuple(range(len(counts)))
    rare, common = int(shares.argmin()), int(shares.argmax())
    if isinstance(task.kind, Multiclass):
        if shares[rare] >= RARE_SHARE / len(counts):
            return task, ""
        return task, (
            f"target {task.name}: classes are uneven, from {labels[rare]}"
            f" ({_percent(shares[rare])}) to"
            f" {labels[common]} ({_percent(shares[common])}) of the training labels; the loss"
            " does not weigh them"
        )
    if shares[rare] >= RARE_SHARE or counts[rare] == 0:
        return task, ""
    weight = min(LARGEST_WEIGHT, float(counts[common] / counts[rare]))
    weights = (1.0, weight) if rare == 1 else (weight, 1.0)
    what = "positive" if rare == 1 else f"{labels[0]!r}"
    share = _percent(shares[rare])
    note = f"target {task.name}: {share} {what} in training, {what} weight {weight:.3g}"
    return replace(task, class_weights=weights), note


def check_labels_in_parts(target: TargetColumn, rows: Mapping[str, np.ndarray]) -> None:
    """Raise ValueError if training, validation or test rows hold no label of a target."""
    for part in SPLIT_NAMES:
        if not (target.codes[rows[part]] >= 0).any():
            raise ValueError(
                f"Target {target.name!r} has no label in the {part} rows; give more labels or"
                " split differently."
            )


def _parse(text: str, columns: Sequence[str]) -> Target:
    """A column of that very name wins over a column and a kind."""
    return Target(text) if text in columns else Target.parse(text)


def _unknown(option: str, column: str, columns: Sequence[str]) -> str:
    near = difflib.get_close_matches(column, columns, n=1)
    before, colon, after = column.rpartition(":")
    if near:
        hint = f"did you mean {near[0]!r}?"
    elif colon and before in columns:
        hint = f"{after!r} is no kind; the kinds are {', '.join(KINDS)}."
    else:
        shown = ", ".join(map(repr, columns[:8]))
        hint = (
            f"its columns are {shown}{f' and {len(columns) - 8} more' if len(columns) > 8 else ''}."
        )
    return f"{option} {column!r} is not a column of the table; {hint}"


def _inferred_kind(present: pd.Series[Any]) -> str:
    from pandas.api import types

    distinct = present.nunique()
    if distinct == 2:
        return "binary"
    if not types.is_numeric_dtype(present):
        return "multiclass"
    first, last = float(present.min()), float(present.max())
    counts = (
        first in (0.0, 1.0) and distinct <= MOST_COUNTED_CLASSES and last - first == distinct - 1
    )
    return "multiclass" if counts and bool((present % 1 == 0).all()) else "regression"


def _looks_like(present: pd.Series[Any]) -> str:
    from pandas.api import types

    what = "numbers" if types.is_numeric_dtype(present) else "texts"
    return f"{present.nunique()} different {what}; say {present.name}:KIND to choose"


def _numbers(name: str, series: pd.Series[Any]) -> np.ndarray:
    import pandas as pd

    numbers = pd.to_numeric(series, errors="coerce")
    text = (numbers.isna() & series.notna()).to_numpy()
    if text.any():
        row = int(text.argmax())
        raise ValueError(
            f"Regression target {name!r} must hold numbers, found {shown(series.iloc[row])} in row"
            f" {row + 1};"
            f" correct the cell, leave it empty, or say {name}:multiclass."
        )
    return numbers.to_numpy(dtype=np.float64)


def _read_classes(
    name: str, kind: str, series: pd.Series[Any], present: pd.Series[Any], notes: tuple[str, ...]
) -> TargetColumn:
    from pandas.api import types

    labels = tuple(_plain_label(value) for value in sorted(present.unique().tolist()))
    if kind == "binary" and len(labels) != 2:
        raise ValueError(
            f"Binary target {name!r} must have 2 different values, found {len(labels)}"
            f" ({_some(labels)});"
            f" say {name}:multiclass or {name}:regression."
        )
    if len(labels) > MOST_CLASSES or (
        len(labels) > MOST_COUNTED_CLASSES and len(labels) > len(present) / 2
    ):
        instead = (
            f"say {name}:regression"
            if types.is_numeric_dtype(series)
            else "merge classes or choose another column"
        )
        raise ValueError(
            f"Multiclass target {name!r} has {len(labels)} classes in {len(present)} labelled"
            f" rows, too many to learn; {instead}."
        )
    codes = np.full(len(series), -1, dtype=np.int64)
    index = {label: i for i, label in enumerate(labels)}
    there = series.notna().to_numpy()
    codes[there] = [index[_plain_label(value)] for value in present.tolist()]
    values = np.full(len(series), None, dtype=object)
    values[there] = [labels[code] for code in codes[there].tolist()]
    found: Kind = (
        Binary(labels) if len(labels) == 2 and kind == "binary" else Multiclass(len(labels), labels)
    )
    return TargetColumn(name, found, values, codes, notes)


def _plain_label(value: Any) -> Any:
    """Whole numbers as int: a label column with missing cells arrives as floats."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _some(labels: Sequence[Any]) -> str:
    return ", ".join(repr(label) for label in labels[:5]) + (", ..." if len(labels) > 5 else "")


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
