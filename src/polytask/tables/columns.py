"""What the columns of a table are: numbers, dates, categories, texts, identifiers or constants.

Every column is first brought to one of four plain forms (whole numbers, floats, dates, text), so
that a table read from CSV, from Parquet or made in memory is treated alike; then its type is
inferred from the values.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable
from typing import TYPE_CHECKING, Any

import numpy as np

from polytask.problems.table_info import Column
from polytask.tables.dates import find_dates, note_years, parse_dates
from polytask.tables.extremes import extreme_notes
from polytask.tables.folding import spelling_notes
from polytask.tables.missing import code_notes
from polytask.tables.numbers import NumberReading, find_numbers, parse_numbers
from polytask.tables.text import looks_like_text

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "as_text",
    "check_finite",
    "column_names",
    "infer_columns",
    "number_notes",
    "plain_frame",
    "plain_series",
    "read_numbers",
    "shown",
]

#: A text column is an identifier if at least this share of its values differs ...
IDENTIFIER_SHARE = 0.9
#: ... and if it has more different values than this: a small table may well have ten rows and ten
#: towns.
FEWEST_IDENTIFIERS = 20
#: A column of sentences is one of free text if at least this share of its values differs.
TEXT_SHARE = 0.5
BOOLEAN_WORDS = (
    {"true", "false"},
    {"yes", "no"},
    {"y", "n"},
    {"t", "f"},
    {"on", "off"},
)
PLAIN_TYPES = (np.dtype("int64"), np.dtype("float64"), np.dtype("datetime64[us]"))


def plain_frame(frame: pd.DataFrame) -> pd.DataFrame:
    """The table with columns of int64, float64, datetime64 or text (object), named by text.

    Raises:
        ValueError: Two columns have one name; a column holds values of a kind that has no plain
            form.
    """
    import pandas as pd

    names = column_names(frame)
    if len(set(names)) < len(names):
        repeated = next(name for i, name in enumerate(names) if name in names[:i])
        raise ValueError(
            f"The table has the column name {repeated!r} more than once; rename one of them."
        )
    columns = {name: plain_series(frame.iloc[:, i], name) for i, name in enumerate(names)}
    return pd.DataFrame(columns, index=range(len(frame)))


def column_names(frame: pd.DataFrame) -> list[str]:
    """The names of the columns as texts; levels of names are joined by a space."""
    names: list[Any] = list(frame.columns)
    return [
        " ".join(str(level) for level in name if str(level))
        if isinstance(name, tuple)
        else str(name)
        for name in names
    ]


def plain_series(series: pd.Series[Any], name: str) -> pd.Series[Any]:
    """One column as int64, float64, datetime64 or text; True and False become text."""
    if series.dtype in PLAIN_TYPES:
        return series.reset_index(drop=True)
    return _made_plain(series.reset_index(drop=True), name)


def _made_plain(series: pd.Series[Any], name: str) -> pd.Series[Any]:
    import pandas as pd
    from pandas.api import types

    kind = types.infer_dtype(series, skipna=True)
    if kind in ("mixed", "unknown-array"):
        _check_cells(series, name)
    if series.isna().all():
        return pd.Series(np.full(len(series), np.nan), dtype="float64")
    if types.is_datetime64_any_dtype(series) or kind in ("datetime", "datetime64", "date"):
        return _as_datetimes(series)
    if types.is_timedelta64_dtype(series) or kind in ("timedelta", "timedelta64"):
        return pd.to_timedelta(series) / pd.Timedelta(days=1)
    if kind == "complex":
        raise ValueError(
            f"Column {name!r} holds complex numbers; give their real and imaginary parts instead."
        )
    if kind not in ("integer", "floating", "mixed-integer-float", "decimal"):
        return as_text(series)  # also True and False, and categories
    fits = series.dtype != "uint64" or int(series.max()) <= np.iinfo("int64").max
    if types.is_integer_dtype(series) and not series.isna().any() and fits:
        return series.astype("int64")
    return pd.Series(series.to_numpy(dtype="float64", na_value=np.nan), dtype="float64")


def _check_cells(series: pd.Series[Any], name: str) -> None:
    """Raise ValueError if a column holds lists, arrays or mappings."""
    for row, value in enumerate(series):
        if isinstance(value, (list, tuple, set, dict, np.ndarray)):
            raise ValueError(
                f"Column {name!r} must hold one value per cell, found a"
                f" {type(value).__name__} in row {row + 1}; make a column of each of its values,"
                " or drop it."
            )


def _as_datetimes(series: pd.Series[Any]) -> pd.Series[Any]:
    """Dates of any year without time zone."""
    import pandas as pd

    try:
        dates = pd.to_datetime(series, utc=True)
    except pd.errors.OutOfBoundsDatetime:
        dates = pd.to_datetime(series.astype("str"), utc=True, format="ISO8601", errors="coerce")
    return dates.dt.tz_localize(None).astype("datetime64[us]")


def infer_columns(
    frame: pd.DataFrame, *, categorical: Collection[str] = (), decimal: str = "."
) -> tuple[Column, ...]:
    """The type of every column of a plain table.

    Args:
        frame: From ``plain_frame``.
        categorical: Columns that are categories whatever they look like (numbers that are codes).
        decimal: Decimal sign of the file, for numbers that pandas left as texts.

    Raises:
        ValueError: A column of numbers holds infinity.
    """
    return tuple(
        _infer(name, frame[name], name in categorical, decimal) for name in map(str, frame.columns)
    )


def shown(value: object) -> str:
    """A cell as a reader of an error knows it: numpy's numbers without their type."""
    return repr(value.item() if isinstance(value, np.generic) else value)


def _infer(name: str, series: pd.Series[Any], is_categorical: bool, decimal: str) -> Column:
    from pandas.api import types

    values = series.dropna()
    missing = 1 - len(values) / len(series)
    distinct = int(values.nunique())

    def column(kind: str, note: str = "", **more: Any) -> Column:
        return Column(name=name, type=kind, missing=missing, distinct=distinct, note=note, **more)

    if types.is_float_dtype(series):
        check_finite(name, series.to_numpy())
    if not len(values):
        found = column("constant", "left out: every cell is missing")
    elif distinct == 1 and missing == 0:
        found = column("constant", f"left out: every cell is {shown(values.iloc[0])}")
    elif is_categorical:
        found = column("categorical")
    elif types.is_numeric_dtype(series):
        found = column("numeric", "; ".join(number_notes(name, series.to_numpy())))
    elif types.is_datetime64_any_dtype(series):
        found = column("date", note_years(values), date_format="ISO8601")
    else:
        found = _infer_text(column, name, values, decimal)
    return found


def number_notes(name: str, numbers: np.ndarray, *, is_target: bool = False) -> list[str]:
    """What should be known about the numbers ``[N]`` of a column before they are learned from."""
    floats = numbers.astype(np.float64)
    notes = [] if is_target else [note for note in [_counter_note(numbers)] if note]
    notes += code_notes(name, floats)
    return notes + extreme_notes(name, floats, is_target=is_target)


def _infer_text(
    column: Callable[..., Column], name: str, values: pd.Series[Any], decimal: str
) -> Column:
    distinct = int(values.nunique())
    spelling = "; ".join(spelling_notes("categories", values))
    words = {word.lower() for word in values.unique()}
    if any(words <= pair for pair in BOOLEAN_WORDS):
        return column("boolean", spelling)
    dates = find_dates(values)
    if dates is not None and dates.form:
        years = note_years(parse_dates(values, dates.form).dropna())
        note = "; ".join(filter(None, (dates.note, years)))
        return column("date", note, date_format=dates.form, odd_cells=dates.odd)
    numbers = read_numbers(values, decimal)
    if numbers is not None:
        return _numeric_text(column, name, values, numbers)
    if dates is not None and distinct > FEWEST_IDENTIFIERS:
        return column("unreadable", f"left out: {dates.note}")
    note = spelling if dates is None else f"read as categories: {dates.note}"
    return _infer_words(column, values, distinct, note)


def _infer_words(
    column: Callable[..., Column], values: pd.Series[Any], distinct: int, note: str
) -> Column:
    """Free text, identifiers or categories, by how many texts differ and how long they are."""
    if distinct > FEWEST_IDENTIFIERS:
        share = distinct / len(values)
        if share >= TEXT_SHARE and looks_like_text(values):
            return column("text")
        if share >= IDENTIFIER_SHARE:
            return column(
                "identifier",
                f"left out: {distinct} different texts in {len(values)} rows look like an"
                " identifier",
            )
    return column("categorical", note)


def read_numbers(values: pd.Series[Any], decimal: str = ".") -> NumberReading | None:
    """How a text column without missing cells writes numbers; None if it holds something else.

    Texts that are nothing but a few different plain numbers are categories: somebody made them
    texts.
    """
    reading = find_numbers(values, decimal=decimal)
    if reading is None:
        return None
    plain = not reading.form and not reading.odd
    return None if plain and values.nunique() <= FEWEST_IDENTIFIERS else reading


def _numeric_text(
    column: Callable[..., Column], name: str, values: pd.Series[Any], reading: NumberReading
) -> Column:
    numbers = parse_numbers(values, reading.form)
    check_finite(name, numbers)
    notes = [*reading.notes, *number_notes(name, numbers)]
    return column("numeric", "; ".join(notes), number_format=reading.form, odd_cells=reading.odd)


def check_finite(name: str, numbers: np.ndarray) -> None:
    """Raise ValueError if a column holds infinity, naming the row (the first row of data is 1)."""
    infinite = np.isinf(numbers)
    if infinite.any():
        row = int(infinite.argmax())
        raise ValueError(
            f"Column {name!r} must hold finite numbers, found {numbers[row]} in row {row + 1};"
            " correct the cell or leave it empty."
        )


def _counter_note(values: np.ndarray) -> str:
    if (
        len(values) > FEWEST_IDENTIFIERS
        and values.dtype.kind == "i"
        and (np.diff(values) == 1).all()
    ):
        return "counts the rows; leave it out if it is a mere identifier"
    return ""


def as_text(series: pd.Series[Any]) -> pd.Series[Any]:
    """Text without outer spaces; whole numbers without a decimal point, whatever their type."""
    import pandas as pd

    codes, values = pd.factorize(series.astype("object"), use_na_sentinel=True)
    words = np.empty(len(values) + 1, dtype=object)
    words[:-1] = [_word(value) for value in values]
    words[-1] = None  # code -1: a missing cell
    return pd.Series(words[codes], dtype="object")


def _word(value: Hashable) -> str | None:
    if isinstance(value, (float, np.floating)) and float(value).is_integer():
        return str(int(value))
    word = value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
    return word.strip() or None
