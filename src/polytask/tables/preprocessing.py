"""How the columns of a table become inputs: fitted on training rows, kept as plain numbers.

Shape legend: N rows, F numeric features, G categorical features.

A row of inputs is one float32 vector ``[F + G]``: first the numeric features, scaled, with NaN for
a missing cell; then the codes of the categories. Column j with c_j categories has the codes 0 ..
c_j - 1, and c_j for whatever is missing, unseen or too rare to learn from: rare categories of the
training rows share that code, so that it has been trained before an unseen category needs it.
Float32 holds every whole number up to 2^24, far more than ``MAX_CATEGORIES``.

What was fitted is written as JSON and plain arrays: a pickled transformer would run code when an
untrusted model is loaded.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from polytask.problems.table_info import (
    CategoricalFeature,
    Column,
    NumericFeature,
    TableInfo,
    TextFeature,
)
from polytask.tables.columns import (
    as_text,
    check_finite,
    column_names,
    infer_columns,
    plain_frame,
    plain_series,
    shown,
)
from polytask.tables.dates import days_since_1970, parse_dates
from polytask.tables.extremes import beyond_float32
from polytask.tables.folding import folded
from polytask.tables.missing import MissingCodes, blank_codes, blank_frame
from polytask.tables.numbers import parse_numbers
from polytask.tables.text import fit_text, text_components

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["feature_table", "fit_table", "readable_cells", "transform_table"]

#: A column with more categories is hardly one any more; the rarer ones are folded into the code for
#: unseen ones.
MAX_CATEGORIES = 4096
#: Categories with fewer training rows are folded into the code for unseen ones.
FEWEST_ROWS = 3
#: A scaled cell is cut here, so that its square still fits into float32.
LARGEST_SCALED = 1e6
#: Interquartile range of a Gaussian with standard deviation 1.
QUARTILES_OF_A_GAUSSIAN = 1.3489795003921634
EPSILON = float(np.finfo(np.float64).eps)
DATE_PARTS = ("days", "season sine", "season cosine", "weekday", "hour")


def fit_table(
    frame: pd.DataFrame,
    *,
    rows: np.ndarray | None = None,
    columns: Sequence[Column] | None = None,
    categorical: Collection[str] = (),
    missing: MissingCodes = (),
    fold_case: bool = False,
) -> TableInfo:
    """Fit the features of a table.

    Args:
        frame: The columns that may become inputs (no targets).
        rows: Row numbers of the training split; None means all rows.
        columns: What ``infer_columns`` found, if it is known already.
        categorical: Columns that are categories whatever they look like.
        missing: Codes that mean a missing cell, as column (empty: all) and code.
        fold_case: Whether categories that differ only in case or spaces are one.

    Raises:
        ValueError: A numeric column holds infinity; no column can become an input.
    """
    plain = blank_frame(plain_frame(frame), missing)
    known = infer_columns(plain, categorical=categorical) if columns is None else columns
    index = np.arange(len(plain)) if rows is None else np.asarray(rows)
    numeric: list[NumericFeature] = []
    categories: list[CategoricalFeature] = []
    texts: list[TextFeature] = []
    kept: list[Column] = []
    for column in known:
        series = plain[column.name]
        if column.used:
            features = _features(column, series, index, fold_case)
            column = column if features else _left_out(column)
            numeric += [f for f in features if isinstance(f, NumericFeature)]
            categories += [f for f in features if isinstance(f, CategoricalFeature)]
            texts += [f for f in features if isinstance(f, TextFeature)]
        kept.append(column)
    if not numeric and not categories:
        reasons = (
            "; ".join(f"{c.name!r} is {c.note}" for c in kept[:5])
            or "every column is a target or dropped"
        )
        raise ValueError(
            f"No column of the table can become an input ({reasons}); add columns that vary."
        )
    raw = TableInfo(
        columns=tuple(kept),
        numeric=tuple(numeric),
        categorical=tuple(categories),
        text=tuple(texts),
        missing=tuple(missing),
        fold_case=fold_case,
    )
    return _with_scales(raw, plain, index)


def transform_table(info: TableInfo, frame: pd.DataFrame) -> Tensor:
    """Inputs ``[N, F + G]`` of a table with the same columns; other columns are ignored.

    Raises:
        ValueError: Columns are missing, hold text where numbers or dates are expected, or hold
            infinity.
    """
    import pandas as pd

    names = column_names(frame)
    absent = [name for name in info.input_columns if name not in names]
    if absent:
        raise ValueError(
            f"The table lacks the column(s) {_listing(absent)}, which the model needs; add them."
        )
    plain = {
        name: blank_codes(plain_series(frame.iloc[:, names.index(name)], name), name, info.missing)
        for name in info.input_columns
    }
    cells = _readable(info, plain)
    texts = _texts(info, cells)
    inputs = np.empty((len(frame), len(info.feature_names)), dtype=np.float32)
    for i, feature in enumerate(info.numeric):
        numbers = _numbers(cells[feature.column], feature.part, texts.get(feature.column))
        scaled = (numbers - feature.centre) / feature.scale
        inputs[:, i] = np.clip(scaled, -LARGEST_SCALED, LARGEST_SCALED)
    for j, category in enumerate(info.categorical):
        codes = pd.Index(category.categories, dtype="object").get_indexer(
            pd.Index(cells[category.name], dtype="object")
        )
        inputs[:, info.num_numeric + j] = np.where(codes < 0, len(category.categories), codes)
    return torch.from_numpy(inputs)


def feature_table(info: TableInfo, frame: pd.DataFrame) -> pd.DataFrame:
    """The features before scaling and coding, one column per feature, numbered from 0."""
    import pandas as pd

    plain = {
        name: blank_codes(plain_series(frame[name], name), name, info.missing)
        for name in info.input_columns
    }
    cells = _readable(info, plain)
    texts = _texts(info, cells)
    columns: list[Any] = [
        _numbers(cells[f.column], f.part, texts.get(f.column)) for f in info.numeric
    ]
    columns += [cells[f.name] for f in info.categorical]
    return pd.DataFrame(dict(enumerate(columns)))


def readable_cells(column: Column, series: pd.Series[Any]) -> pd.Series[Any]:
    """The cells of a column of numbers as numbers, of dates as dates; missing where unreadable."""
    if column.type == "date":
        return _as_dates(series, column.date_format)
    if series.dtype.kind in "if":
        return series
    return _as_numbers(series, column.number_format)


def _with_scales(info: TableInfo, plain: pd.DataFrame, rows: np.ndarray) -> TableInfo:
    """The centres and scales of the training rows.

    Numbers are scaled by median and quartiles, which a few wild cells cannot move; where the
    quartiles coincide (most cells are equal), by mean and standard deviation.
    """
    table = feature_table(info, plain)
    fitted = []
    for position, feature in enumerate(info.numeric):
        cells = table[position].to_numpy()[rows]
        centre, scale = _centre_and_scale(cells[~np.isnan(cells)])
        fitted.append(replace(feature, centre=centre, scale=scale))
    return replace(info, numeric=tuple(fitted))


def _centre_and_scale(cells: np.ndarray) -> tuple[float, float]:
    """As scikit-learn's RobustScaler (unit variance) and StandardScaler; a scale that is nothing
    but rounding is 1.
    """
    if not len(cells):
        return 0.0, 1.0
    cells = cells[~beyond_float32(cells)]
    low, high = np.percentile(cells, [25, 75])
    if high > low:
        spread = high - low if high - low >= 10 * EPSILON else 1.0
        return float(np.median(cells)), float(spread / QUARTILES_OF_A_GAUSSIAN)
    mean, variance = cells.mean(), cells.var()
    rounding = len(cells) * EPSILON * variance + (len(cells) * mean * EPSILON) ** 2
    return float(mean), float(np.sqrt(variance)) if variance > rounding else 1.0


def _readable(info: TableInfo, plain: dict[str, pd.Series[Any]]) -> dict[str, pd.Series[Any]]:
    """Numbers as floats, dates as dates, categories as text; all wrong columns in one error."""
    columns = {column.name: column for column in info.columns}
    dates = {feature.column for feature in info.numeric if feature.part in DATE_PARTS}
    texts = {feature.column for feature in info.text}
    categories = set(info.text_columns)
    cells, wrong = {}, []
    for name, series in plain.items():
        if name in categories:
            words = as_text(series)
            cells[name] = folded(words) if info.fold_case and name not in texts else words
            continue
        if series.dtype.kind in "if" and name not in dates:
            cells[name] = series
            check_finite(name, series.to_numpy())
            continue
        column = columns[name]
        cells[name] = (
            _as_dates(series, column.date_format)
            if name in dates
            else _as_numbers(series, column.number_format)
        )
        unread = (cells[name].isna() & series.notna()).to_numpy()
        # Where training took odd cells as missing, a new table may have some as well.
        if unread.any() and not (column.odd_cells and cells[name].notna().any()):
            row = int(unread.argmax())
            expected = "dates" if name in dates else "numbers"
            found = f"{shown(series.iloc[row])} in row {row + 1}"
            wrong.append(f"{name!r} must hold {expected}, found {found}")
        elif name not in dates:
            check_finite(name, cells[name].to_numpy())
    if wrong:
        raise ValueError(f"The table has the wrong type in column(s): {'; '.join(wrong)}.")
    return cells


def _texts(info: TableInfo, cells: Mapping[str, pd.Series[Any]]) -> dict[str, np.ndarray]:
    """Components ``[N, K]`` of every column of free text."""
    return {f.column: text_components(f, cells[f.column]) for f in info.text}


def _features(
    column: Column, series: pd.Series[Any], rows: np.ndarray, fold_case: bool
) -> list[NumericFeature | CategoricalFeature | TextFeature]:
    """The inputs that a column offers; none if its training rows could teach nothing."""
    if column.type == "text":
        text = fit_text(column.name, as_text(series), rows)
        if text is None:
            return []
        parts = range(len(text.components))
        named = [(f"{column.name}: text {k}", f"text {k}") for k in parts]
        return [text, *(NumericFeature(name=n, column=column.name, part=p) for n, p in named)]
    train = series.iloc[rows]
    if column.type in ("categorical", "boolean"):
        words = as_text(train)
        counts = (folded(words) if fold_case else words).value_counts()
        frequent = counts[counts >= FEWEST_ROWS].index[:MAX_CATEGORIES]
        always_the_same = len(counts) == 1 and not train.isna().any()
        if not len(frequent) or always_the_same:
            return []
        return [CategoricalFeature(name=column.name, categories=tuple(sorted(frequent)))]
    if column.type == "numeric":
        numbers = readable_cells(column, train)
        varies = numbers.nunique() > 1 or (numbers.nunique() == 1 and bool(numbers.isna().any()))
        return [NumericFeature(name=column.name, column=column.name)] if varies else []
    dates = _as_dates(train, column.date_format)
    return [
        NumericFeature(name=f"{column.name}: {part}", column=column.name, part=part)
        for part in DATE_PARTS
        if len(set(_numbers(dates.dropna(), part).tolist())) > 1
    ]


def _left_out(column: Column) -> Column:
    reason = "no category has enough training rows, or all are equal"
    note = (
        reason
        if column.type in ("categorical", "boolean")
        else "the training rows hold one value only"
    )
    return replace(column, type="constant", note=f"left out: {note}")


def _numbers(cells: pd.Series[Any], part: str, text: np.ndarray | None = None) -> np.ndarray:
    """Floats ``[N]`` of a numeric column, or of one part of a date or text column."""
    if not part:
        return cells.to_numpy(dtype=np.float64)
    if text is not None:
        return text[:, int(part.removeprefix("text "))]
    days = days_since_1970(cells)
    if part == "days":
        return days
    if part == "hour":
        return np.asarray((days % 1) * 24)
    if part == "weekday":
        return np.asarray(cells.dt.day_of_week.to_numpy(dtype=np.float64, na_value=np.nan))
    angle = 2 * np.pi * cells.dt.day_of_year.to_numpy(dtype=np.float64, na_value=np.nan) / 365.25
    return np.asarray(np.sin(angle) if part == "season sine" else np.cos(angle))


def _as_numbers(series: pd.Series[Any], form: str) -> pd.Series[Any]:
    """Numbers; what cannot be read as one is missing."""
    import pandas as pd
    from pandas.api import types

    if types.is_datetime64_any_dtype(series):
        return pd.Series(np.full(len(series), np.nan), index=series.index)
    return pd.Series(parse_numbers(series, form), index=series.index)


def _as_dates(series: pd.Series[Any], date_format: str) -> pd.Series[Any]:
    """Dates; what is none is missing (also numbers: their unit would be a guess)."""
    import pandas as pd
    from pandas.api import types

    if types.is_numeric_dtype(series):
        return pd.Series(np.full(len(series), "NaT", dtype="datetime64[us]"), index=series.index)
    return parse_dates(series, date_format)


def _listing(names: Sequence[str]) -> str:
    shown = ", ".join(repr(name) for name in names[:8])
    return shown if len(names) <= 8 else f"{shown} and {len(names) - 8} more"
