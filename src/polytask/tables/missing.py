"""Codes for missing: -999, -1, "unknown" where a table means that nothing is known.

What a user names is made blank in inputs and targets; what merely looks so is a note.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from polytask.tables.words import count_of

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["MissingCodes", "blank_codes", "blank_frame", "code_notes", "parse_codes"]

#: Column ("" for all of them) and the code as text.
MissingCodes = tuple[tuple[str, str], ...]

#: Numbers that data sets and instruments write where they know nothing.
KNOWN_CODE = re.compile(
    r"-?9{2,}(\.0|\.9+)?|-[1-9]|-(1|2|3|4|5|6|7|8)\1{1,5}|-[1-9]0{2,6}|-9[6-8]|-99[0-8]|9[78]|99[78]"
    r"|-32768|-2147483648|32767|65535|2147483647|-?1e\+?(20|30|36|37)|-?9\.9692\d*e\+36"
    r"|-?3\.40282\d*e\+38|-?1\.79769\d*e\+308"
)
#: A value is far from the rest if the gap is this many times the range of the rest (a known code
#: that repeats: once).
FAR = 3.0
#: Codes that are looked for together: -999 beside -998.
MOST_CODES = 4
#: A column of fewer different numbers has no range to be far from.
FEWEST_VALUES = 3


def parse_codes(codes: Iterable[str] | Mapping[str, Any], columns: Sequence[str]) -> MissingCodes:
    """``["-999", "flag=-1"]`` or ``{"": -999, "flag": [-1]}`` as column and code.

    Raises:
        ValueError: A code names a column that the table does not have, or is empty.
    """
    pairs: list[tuple[str, str]] = []
    if isinstance(codes, Mapping):
        for column, values in codes.items():
            listed = values if isinstance(values, (list, tuple, set)) else [values]
            pairs += [(str(column), str(value).strip()) for value in listed]
    else:
        for text in [codes] if isinstance(codes, (str, int, float)) else codes:
            column, equals, value = str(text).rpartition("=")
            pairs.append((column, value.strip()) if equals else ("", str(text).strip()))
    for column, value in pairs:
        if column and column not in columns:
            raise ValueError(
                f"`missing` names the column {column!r}, which the table does not have; give"
                " CODE or COLUMN=CODE."
            )
        if not value:
            raise ValueError(
                "`missing` needs a code such as -999 or flag=-1; empty cells are missing already."
            )
    return tuple(dict.fromkeys(pairs))


def blank_codes(series: pd.Series[Any], name: str, codes: MissingCodes) -> pd.Series[Any]:
    """A plain column in which the codes of its name, or of all columns, are missing cells."""
    import pandas as pd
    from pandas.api import types

    own = [value for column, value in codes if column in ("", name)]
    if not own:
        return series
    numbers = [float(value) for value in own if _is_plain_number(value)]
    if types.is_datetime64_any_dtype(series):
        dates = pd.to_datetime(pd.Series(own), errors="coerce", format="ISO8601").dropna()
        hit = series.isin(list(dates))
        return series.mask(hit) if hit.any() else series
    if types.is_numeric_dtype(series):
        hit = series.isin(numbers)
        return series.astype("float64").mask(hit) if hit.any() else series
    hit = series.isin(own)
    if numbers:
        hit |= pd.to_numeric(series, errors="coerce").isin(numbers)
    if not hit.any():
        return series
    blank = series.copy()
    blank[hit] = None
    return _plainest(blank)


def blank_frame(plain: pd.DataFrame, codes: MissingCodes) -> pd.DataFrame:
    """A plain table whose codes are missing cells."""
    import pandas as pd

    if not codes:
        return plain
    return pd.DataFrame(
        {str(name): blank_codes(plain[name], str(name), codes) for name in plain.columns},
        index=plain.index,
    )


def code_notes(name: str, numbers: np.ndarray) -> list[str]:
    """What among the numbers of a column looks like a code for missing.

    Args:
        name: Of the column.
        numbers: ``[N]``, NaN where missing.

    Cost: a sort of the numbers.
    """
    values, counts = np.unique(numbers[~np.isnan(numbers)], return_counts=True)
    if values.tolist() == [-1, 0, 1]:
        return [_note(name, -1.0, int(counts[0]), len(numbers), "beside 0 and 1")]
    notes = []
    for _ in range(MOST_CODES):
        if len(values) < FEWEST_VALUES:
            break
        found = _find_code(values, counts)
        if found is None:
            break
        index, why = found
        notes.append(_note(name, float(values[index]), int(counts[index]), len(numbers), why))
        values, counts = np.delete(values, index), np.delete(counts, index)
    return notes


def _find_code(values: np.ndarray, counts: np.ndarray) -> tuple[int, str] | None:
    """Where in the sorted different values a code stands, and what makes it look so."""
    for index in (0, -1):
        why = _outside(values, counts, index)
        if why:
            return index, why
    most = int(counts.argmax())
    known = _known(values[most])
    whole = bool((values % 1 == 0).all())
    often = counts[most] >= max(5, 0.01 * counts.sum())
    if known and often and (abs(values[most]) > 90 or not whole):
        others = np.delete(counts, most)
        if counts[most] >= 10 * others.max():
            return most, "far more often than any other number"
    return None


def _outside(values: np.ndarray, counts: np.ndarray, index: int) -> str:
    """Why the least (index 0) or greatest (-1) value looks like a code; empty: it does not."""
    value, rest, own = float(values[index]), np.delete(values, index), np.delete(counts, index)
    known = _known(value)
    # Codes come in groups: what stands beside a known one is no part of the rest.
    if known and _known(rest[index]) and len(rest) > FEWEST_VALUES:
        rest, own = np.delete(rest, index), np.delete(own, index)
    width = float(rest[-1] - rest[0])
    gap = float(rest[0] - value if index == 0 else value - rest[-1])
    count, total = int(counts[index]), int(counts.sum())
    repeats = count >= max(2, 0.002 * total)
    if known and gap > max(width, 2.0) and (repeats or gap > FAR * width):
        return "far from the rest"
    if repeats and count > 2 and value != 0 and gap > FAR * width > 0:
        return "far from the rest"
    if known and value < 0 <= rest[0] and repeats and len(rest) > 4:
        # Small whole numbers may well begin at -1, but then not most of them are -1.
        counted = value > -10 and bool((rest % 1 == 0).all())
        if not counted or (count >= 0.02 * total and count > own[0]):
            return "the only number below 0"
    return ""


def _known(value: float) -> bool:
    return KNOWN_CODE.fullmatch(f"{value:.12g}") is not None


def _note(name: str, value: float, count: int, total: int, why: str) -> str:
    share = f"{100 * count / total:.2g} %"
    return f"{value:.12g} in {share} of `{name}` ({count_of(count, 'row')}), {why}: missing?"


def _is_plain_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _plainest(series: pd.Series[Any]) -> pd.Series[Any]:
    """Numbers where a text column holds nothing else any more."""
    import pandas as pd

    if series.isna().all():
        return pd.Series(np.full(len(series), np.nan), index=series.index)
    words = series.dropna()
    if words.str.fullmatch(r"0\d+").any():
        return series
    numbers = pd.to_numeric(series, errors="coerce")
    return numbers.astype("float64") if numbers.notna().equals(series.notna()) else series
