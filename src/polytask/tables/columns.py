"""What the columns of a table are: numbers, dates, categories, identifiers or constants.

Every column is first brought to one of four plain forms (whole numbers, floats, dates, text), so
that a table read from CSV, from Parquet or made in memory is treated alike; then its type is
inferred from the values.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Hashable
from typing import TYPE_CHECKING, Any

import numpy as np

from polytask.problems.table_info import Column

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "as_text",
    "check_finite",
    "infer_columns",
    "parse_dates",
    "plain_frame",
    "plain_series",
    "shown",
]

#: A text column is an identifier if at least this share of its values differs ...
IDENTIFIER_SHARE = 0.9
#: ... and if it has more different values than this: a small table may well have ten rows and ten
#: towns.
FEWEST_IDENTIFIERS = 20
#: A text column with this share of numbers is most likely a numeric column with a few stray words.
MOSTLY_NUMBERS = 0.9
BOOLEAN_WORDS = (
    {"true", "false"},
    {"yes", "no"},
    {"y", "n"},
    {"t", "f"},
    {"on", "off"},
)
PLAIN_TYPES = (np.dtype("int64"), np.dtype("float64"), np.dtype("datetime64[us]"))
ISO_DATE = re.compile(
    r"\d{4}-\d{2}-\d{2}([ T]\d{2}:\d{2}(:\d{2}([.,]\d{1,9})?)?( ?(Z|[+-]\d{2}:?\d{2}))?)?"
)
#: Where day and month cannot be told apart, the first form that reads every value is taken and
#: named in a note.
DATE_FORMATS = (
    (re.compile(r"\d{4}/\d{1,2}/\d{1,2}"), ("%Y/%m/%d",)),
    (re.compile(r"\d{1,2}\.\d{1,2}\.\d{4}"), ("%d.%m.%Y",)),
    (re.compile(r"\d{1,2}/\d{1,2}/\d{4}"), ("%m/%d/%Y", "%d/%m/%Y")),
    (re.compile(r"\d{1,2}-\d{1,2}-\d{4}"), ("%d-%m-%Y", "%m-%d-%Y")),
)


def plain_frame(frame: pd.DataFrame) -> pd.DataFrame:
    """The table with columns of int64, float64, datetime64 or text (object), named by text.

    Raises:
        ValueError: Two columns have one name; a column holds values of a kind that has no plain
            form.
    """
    import pandas as pd

    names = [str(name) for name in frame.columns]
    if len(set(names)) < len(names):
        repeated = next(name for i, name in enumerate(names) if name in names[:i])
        raise ValueError(
            f"The table has the column name {repeated!r} more than once; rename one of them."
        )
    columns = {name: plain_series(frame.iloc[:, i], name) for i, name in enumerate(names)}
    return pd.DataFrame(columns, index=range(len(frame)))


def plain_series(series: pd.Series[Any], name: str) -> pd.Series[Any]:
    """One column as int64, float64, datetime64 or text; True and False become text."""
    if series.dtype in PLAIN_TYPES:
        return series.reset_index(drop=True)
    return _made_plain(series.reset_index(drop=True), name)


def _made_plain(series: pd.Series[Any], name: str) -> pd.Series[Any]:
    import pandas as pd
    from pandas.api import types

    kind = types.infer_dtype(series, skipna=True)
    if series.isna().all():
        return pd.Series(np.full(len(series), np.nan), dtype="float64")
    if types.is_datetime64_any_dtype(series) or kind in ("datetime", "datetime64", "date"):
        return pd.to_datetime(series, utc=True).dt.tz_localize(None).astype("datetime64[us]")
    if types.is_timedelta64_dtype(series) or kind in ("timedelta", "timedelta64"):
        return pd.to_timedelta(series) / pd.Timedelta(days=1)
    if kind == "complex":
        raise ValueError(
            f"Column {name!r} holds complex numbers; give their real and imaginary parts instead."
        )
    if kind not in ("integer", "floating", "mixed-integer-float", "decimal"):
        return as_text(series)  # also True and False, and categories
    if types.is_integer_dtype(series) and not series.isna().any():
        return series.astype("int64")
    return pd.Series(series.to_numpy(dtype="float64", na_value=np.nan), dtype="float64")


def infer_columns(frame: pd.DataFrame, *, categorical: Collection[str] = ()) -> tuple[Column, ...]:
    """The type of every column of a plain table.

    Args:
        frame: From ``plain_frame``.
        categorical: Columns that are categories whatever they look like (numbers that are codes).

    Raises:
        ValueError: A column of numbers holds infinity.
    """
    return tuple(_infer(name, frame[name], name in categorical) for name in map(str, frame.columns))


def shown(value: object) -> str:
    """A cell as a reader of an error knows it: numpy's numbers without their type."""
    return repr(value.item() if isinstance(value, np.generic) else value)


def _infer(name: str, series: pd.Series[Any], is_categorical: bool) -> Column:
    from pandas.api import types

    values = series.dropna()
    missing = 1 - len(values) / len(series)
    distinct = int(values.nunique())

    def column(kind: str, note: str = "", date_format: str = "") -> Column:
        return Column(
            name=name,
            type=kind,
            missing=missing,
            distinct=distinct,
            note=note,
            date_format=date_format,
        )

    if types.is_float_dtype(series):
        check_finite(name, series.to_numpy())
    if not len(values):
        found = column("constant", "left out: every cell is missing")
    elif distinct == 1 and missing == 0:
        found = column("constant", f"left out: every cell is {shown(values.iloc[0])}")
    elif is_categorical:
        found = column("categorical")
    elif types.is_numeric_dtype(series):
        found = column("numeric", _counter_note(series))
    elif types.is_datetime64_any_dtype(series):
        found = column("date", date_format="ISO8601")
    else:
        found = _infer_text(column, values, distinct)
    return found


def _infer_text(column: Callable[..., Column], values: pd.Series[Any], distinct: int) -> Column:
    import pandas as pd

    words = {word.lower() for word in values.unique()}
    if any(words <= pair for pair in BOOLEAN_WORDS):
        return column("boolean")
    date_format, note = _date_format(values)
    if date_format:
        return column("date", note, date_format)
    numbers = pd.to_numeric(values, errors="coerce")
    note = ""
    if 1 > float(numbers.notna().mean()) >= MOSTLY_NUMBERS:
        stray = int(numbers.isna().to_numpy().argmax())
        note = (
            "read as text: nearly all cells are numbers,"
            f" but row {values.index[stray] + 1} holds {shown(values.iloc[stray])}"
        )
    if distinct > FEWEST_IDENTIFIERS and distinct >= IDENTIFIER_SHARE * len(values):
        reason = (
            f"left out: {distinct} different texts in {len(values)} rows look like an identifier"
        )
        return column("identifier", f"{note}; {reason}" if note else reason)
    return column("categorical", note)


def check_finite(name: str, numbers: np.ndarray) -> None:
    """Raise ValueError if a column holds infinity, naming the row (the first row of data is 1)."""
    infinite = np.isinf(numbers)
    if infinite.any():
        row = int(infinite.argmax())
        raise ValueError(
            f"Column {name!r} must hold finite numbers, found {numbers[row]} in row {row + 1};"
            " correct the cell or leave it empty."
        )


def _counter_note(series: pd.Series[Any]) -> str:
    values = series.to_numpy()
    if (
        len(values) > FEWEST_IDENTIFIERS
        and values.dtype.kind == "i"
        and (np.diff(values) == 1).all()
    ):
        return "counts the rows; leave it out if it is a mere identifier"
    return ""


def _date_format(values: pd.Series[Any]) -> tuple[str, str]:
    """How a text column writes dates (empty: not at all), and a note where that is a guess."""
    first = str(values.iloc[0]).strip()
    if ISO_DATE.fullmatch(first):
        return ("ISO8601", "") if parse_dates(values, "ISO8601").notna().all() else ("", "")
    for pattern, formats in DATE_FORMATS:
        if pattern.fullmatch(first):
            fitting = [f for f in formats if parse_dates(values, f).notna().all()]
            note = f"dates are read as {fitting[0]}" if len(fitting) > 1 else ""
            return (fitting[0], note) if fitting else ("", "")
    return "", ""


def parse_dates(values: pd.Series[Any], date_format: str) -> pd.Series[Any]:
    """Dates without time zone (others are brought to UTC); NaT where a value does not fit."""
    import pandas as pd
    from pandas.api import types

    if types.is_datetime64_any_dtype(values):
        return values
    parsed = pd.to_datetime(values, format=date_format, utc=True, errors="coerce")
    return parsed.dt.tz_localize(None).astype("datetime64[us]")


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
