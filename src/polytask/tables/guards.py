"""What in a table may make every score too good: notes before anything is trained.

An input that gives a target away, a target that is a sum of inputs, an identifier, rows in time
order with a random split. Few and sure: a clean table gets none.

Shape legend: N rows.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from polytask.problems.table_info import Column
from polytask.tables.preprocessing import readable_cells
from polytask.tables.targets import TargetColumn

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["guard_notes", "identifier_notes", "leak_notes", "time_notes", "twin_notes"]

#: Area under the ROC curve, or rank correlation, from which one input gives a target away.
ALL_BUT_CERTAIN = 0.9999
#: Unexplained share of a target's variance below which it is a sum of inputs.
UNEXPLAINED = 1e-8
#: A number with a smaller share in such a sum is no part of it.
LEAST_PART = 1e-6
FEWEST_LABELS = 30
MOST_ROWS = 20_000
MOST_COLUMNS = 200
#: Categories that tell a class say nothing if nearly every row has its own.
FEWEST_ROWS_PER_CATEGORY = 5
FEWEST_OF_A_CLASS = 5
FEWEST_TIMES = 10
ID_LIKE = re.compile(
    r"(?:.*[^a-z])?(?:id|ids|key|uuid|guid|index|idx|nr|no|number|num)", re.IGNORECASE
)
WORD_ENDS_IN_ID = re.compile(r".*[a-z](?:Id|ID|Nr|No|Key)")


def guard_notes(
    frame: pd.DataFrame,
    columns: Sequence[Column],
    targets: Sequence[TargetColumn],
    *,
    is_random: bool,
) -> tuple[str, ...]:
    """All notes of this file about a plain table.

    Args:
        frame: The whole table.
        columns: Its inputs.
        targets: Its targets.
        is_random: Whether rows are split at random, so that their order matters.
    """
    import pandas as pd

    notes = twin_notes(frame, [target.name for target in targets], columns)
    numbers, words, dates = {}, {}, {}
    for column in columns:
        cells = frame[column.name]
        if any(note.startswith(f"column {column.name} says") for note in notes):
            continue
        if column.type == "numeric":
            numbers[column.name] = readable_cells(column, cells).to_numpy(dtype=np.float64)
        elif column.type in ("categorical", "boolean"):
            words[column.name] = pd.factorize(cells)[0]
        elif column.type == "date":
            dates[column.name] = readable_cells(column, cells)
    notes += leak_notes(numbers, words, targets)
    notes += identifier_notes(frame, columns)
    return (*notes, *(time_notes(dates) if is_random else ()))


def leak_notes(
    numbers: Mapping[str, np.ndarray],
    words: Mapping[str, np.ndarray],
    targets: Sequence[TargetColumn],
) -> list[str]:
    """Inputs that alone give a target away, and targets that are sums of inputs.

    Args:
        numbers: ``[N]`` per numeric input, NaN where missing.
        words: ``[N]`` codes per categorical input, -1 where missing.
        targets: All targets.

    Cost: a sort per input and target, a least-squares fit per regression target, on at most
    ``MOST_ROWS`` rows.
    """
    notes = []
    for target in targets:
        rows = np.flatnonzero(target.codes >= 0)
        if len(rows) < FEWEST_LABELS:
            continue
        rows = rows[:: -(-len(rows) // MOST_ROWS)]
        for name, values in numbers.items():
            note = _gives_away(name, values[rows], target, rows)
            notes += [note] if note else []
        if target.labels:
            notes += [
                f"column {name} alone tells target {target.name} in every row: known only"
                " afterwards? drop it then"
                for name, codes in words.items()
                if _tells_class(codes[rows], target.codes[rows])
            ]
        else:
            notes += _sum_note(numbers, target, rows)
    return notes


def identifier_notes(frame: pd.DataFrame, columns: Sequence[Column]) -> list[str]:
    """Inputs of whole numbers, all different, that are named or dense like identifiers."""
    notes = []
    for column in columns:
        series = frame[column.name]
        if column.type != "numeric" or column.note or series.dtype.kind != "i":
            continue
        if column.distinct < len(series) or len(series) < FEWEST_LABELS:
            continue
        spread = int(series.max()) - int(series.min())
        named = ID_LIKE.fullmatch(column.name) or WORD_ENDS_IN_ID.fullmatch(column.name)
        if named or spread < 1.1 * len(series):
            notes.append(
                f"column {column.name} holds a different whole number in every row: drop it if it"
                " is an identifier"
            )
    return notes


def time_notes(dates: Mapping[str, pd.Series[Any]]) -> list[str]:
    """Columns of dates in whose order the rows stand.

    Args:
        dates: ``[N]`` per column of dates.
    """
    notes = []
    for name, series in dates.items():
        present = series.dropna().to_numpy(dtype="datetime64[us]")
        if len(present) < FEWEST_LABELS or len(np.unique(present)) < FEWEST_TIMES:
            continue
        steps = np.diff(present).astype(np.int64)
        if (steps >= 0).all() or (steps <= 0).all():
            notes.append(
                f"column {name}: the rows are in time order but are split at random, so neighbours"
                " in time are in training and test; give a --split-column with the newest rows as"
                " test to know how the model does on later ones"
            )
    return notes


def twin_notes(frame: pd.DataFrame, targets: Sequence[str], columns: Sequence[Column]) -> list[str]:
    """Targets that equal each other, or an input, in every row."""
    notes: list[str] = []
    first: dict[bytes, str] = {}
    for target in targets:
        key = _pattern(frame[target])
        if key in first:
            notes.append(f"targets {first[key]} and {target} are identical in every row")
        first.setdefault(key, target)
    for column in columns:
        twin = first.get(_pattern(frame[column.name])) if column.used else None
        if twin is not None:
            says = f"column {column.name} says the same as target {twin} in every row"
            notes += [f"{says}; drop it unless it is known beforehand"]
    return notes


def _gives_away(name: str, values: np.ndarray, target: TargetColumn, rows: np.ndarray) -> str:
    """A note if the order of one input is nearly that of a target; empty if it is not."""
    there = ~np.isnan(values)
    if there.sum() < max(FEWEST_LABELS, 0.5 * len(values)):
        return ""
    if not target.labels:
        order = _rank_correlation(values[there], target.values[rows][there])
        if abs(order) < ALL_BUT_CERTAIN:
            return ""
        return (
            f"column {name} is nearly a function of target {target.name} (rank correlation"
            f" {order:.4f}): known only afterwards? drop it then"
        )
    area = _area(values[there], target.codes[rows][there]) if len(target.labels) == 2 else 0.5
    if area < ALL_BUT_CERTAIN:
        return ""
    return (
        f"column {name} alone tells target {target.name} (AUC {area:.4f}): known only afterwards?"
        " drop it then"
    )


def _rank_correlation(values: np.ndarray, target: np.ndarray) -> float:
    """Spearman's; 0 where one of both does not vary."""
    from scipy.stats import rankdata

    ranks, own = rankdata(values), rankdata(target)
    if ranks.min() == ranks.max() or own.min() == own.max():
        return 0.0
    return float(np.corrcoef(ranks, own)[0, 1])


def _area(values: np.ndarray, codes: np.ndarray) -> float:
    """Area under the ROC curve in the better direction; 1/2 where a class has few rows."""
    from scipy.stats import rankdata

    positive = int((codes == 1).sum())
    negative = len(codes) - positive
    if min(positive, negative) < FEWEST_OF_A_CLASS:
        return 0.5
    won = rankdata(values)[codes == 1].sum() - positive * (positive + 1) / 2
    area = float(won / (positive * negative))
    return max(area, 1 - area)


def _tells_class(codes: np.ndarray, classes: np.ndarray) -> bool:
    """Whether every category has one class only, with enough rows each to mean something."""
    there = codes >= 0
    codes, classes = codes[there], classes[there]
    if len(codes) < FEWEST_LABELS or len(np.unique(classes)) < 2:
        return False
    distinct = len(np.unique(codes))
    pairs = len(np.unique(np.stack([codes, classes]), axis=1).T)
    return pairs == distinct and distinct * FEWEST_ROWS_PER_CATEGORY <= len(codes)


def _sum_note(
    numbers: Mapping[str, np.ndarray], target: TargetColumn, rows: np.ndarray
) -> list[str]:
    """A note if a target is a sum of (multiples of) some inputs."""
    names = [name for name, values in numbers.items() if not np.isnan(values[rows]).any()]
    names = names[:MOST_COLUMNS]
    if len(names) < 2 or len(rows) < 3 * len(names) + FEWEST_LABELS:
        return []
    columns = np.stack([numbers[name][rows] for name in names], axis=1)
    centred = columns - columns.mean(axis=0)
    scale = centred.std(axis=0)
    values = target.values[rows].astype(np.float64)
    spread = values.std()
    fine = (scale > 0) & np.isfinite(scale)
    if not (spread > 0 and np.isfinite(spread)) or fine.sum() < 2:
        return []
    aim = (values - values.mean()) / spread
    inputs = centred[:, fine] / scale[fine]
    weights, *_ = np.linalg.lstsq(inputs, aim, rcond=1e-10)
    left = float(np.mean((aim - inputs @ weights) ** 2))
    used = [name for name, fits in zip(names, fine, strict=True) if fits]
    parts = [n for n, w in zip(used, weights, strict=True) if abs(w) > LEAST_PART]
    if left > UNEXPLAINED or len(parts) < 2:
        return []
    shown = ", ".join(parts[:6]) + (", ..." if len(parts) > 6 else "")
    return [
        f"target {target.name} is a sum of multiples of the columns {shown}: known only afterwards?"
        " drop them then"
    ]


def _pattern(series: pd.Series[Any]) -> bytes:
    """Equal for columns that say the same, be it in other words (yes and no for 1 and 0).

    Where most values occur once, which cells are equal says nothing, and the values themselves are
    compared.
    """
    import pandas as pd

    codes, values = pd.factorize(series)
    if len(values) <= len(codes) / 2:
        record = codes.astype(np.int64).tobytes()
    elif series.dtype == object:
        record = json.dumps([codes.tolist(), list(values)]).encode()
    else:
        record = series.to_numpy(dtype=np.float64).tobytes()
    return hashlib.sha256(record).digest()
