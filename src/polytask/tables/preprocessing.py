"""How the columns of a table become inputs: fitted on training rows, kept as plain numbers.

Shape legend: N rows, F numeric features, G categorical features.

A row of inputs is one float32 vector ``[F + G]``: first the numeric features, scaled, with NaN for
a missing cell; then the codes of the categories. Column j with c_j categories has the codes 0 ..
c_j - 1, and c_j for whatever is missing, unseen or too rare to learn from: rare categories of the
training rows share that code, so that it has been trained before an unseen category needs it.
Float32 holds every whole number up to 2^24, far more than ``MAX_CATEGORIES``.

What was fitted is written as JSON: a pickled transformer would run code when an untrusted model is
loaded.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from polytask.problems.table_info import CategoricalFeature, Column, NumericFeature, TableInfo
from polytask.tables.columns import (
    as_text,
    check_finite,
    infer_columns,
    parse_dates,
    plain_frame,
    plain_series,
    shown,
)

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["feature_table", "fit_table", "transform_table"]

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
) -> TableInfo:
    """Fit the features of a table.

    Args:
        frame: The columns that may become inputs (no targets).
        rows: Row numbers of the training split; None means all rows.
        columns: What ``infer_columns`` found, if it is known already.
        categorical: Columns that are categories whatever they look like.

    Raises:
        ValueError: A numeric column holds infinity; no column can become an input.
    """
    plain = plain_frame(frame)
    known = infer_columns(plain, categorical=categorical) if columns is None else columns
    train = plain if rows is None else plain.iloc[np.asarray(rows)].reset_index(drop=True)
    numeric: list[NumericFeature] = []
    categories: list[CategoricalFeature] = []
    kept: list[Column] = []
    for column in known:
        features = _features(column, train[column.name]) if column.used else []
        if column.used and not features:
            column = _left_out(column)
        kept.append(column)
        numeric += [f for f in features if isinstance(f, NumericFeature)]
        categories += [f for f in features if isinstance(f, CategoricalFeature)]
    if not numeric and not categories:
        reasons = (
            "; ".join(f"{c.name!r} is {c.note}" for c in kept[:5])
            or "every column is a target or dropped"
        )
        raise ValueError(
            f"No column of the table can become an input ({reasons}); add columns that vary."
        )
    raw = TableInfo(columns=tuple(kept), numeric=tuple(numeric), categorical=tuple(categories))
    return _with_scales(raw, train)


def transform_table(info: TableInfo, frame: pd.DataFrame) -> Tensor:
    """Inputs ``[N, F + G]`` of a table with the same columns; other columns are ignored.

    Raises:
        ValueError: Columns are missing, hold text where numbers or dates are expected, or hold
            infinity.
    """
    import pandas as pd

    names = [str(name) for name in frame.columns]
    absent = [name for name in info.input_columns if name not in names]
    if absent:
        raise ValueError(
            f"The table lacks the column(s) {_listing(absent)}, which the model needs; add them."
        )
    plain = {
        name: plain_series(frame.iloc[:, names.index(name)], name) for name in info.input_columns
    }
    cells = _readable(info, plain)
    inputs = np.empty((len(frame), len(info.feature_names)), dtype=np.float32)
    for i, feature in enumerate(info.numeric):
        scaled = (_numbers(cells[feature.column], feature.part) - feature.centre) / feature.scale
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

    plain = {name: plain_series(frame[name], name) for name in info.input_columns}
    cells = _readable(info, plain)
    columns: list[Any] = [_numbers(cells[f.column], f.part) for f in info.numeric]
    columns += [cells[f.name] for f in info.categorical]
    return pd.DataFrame(dict(enumerate(columns)))


def _with_scales(info: TableInfo, train: pd.DataFrame) -> TableInfo:
    """The centres and scales of the training rows.

    Numbers are scaled by median and quartiles, which a few wild cells cannot move; where the
    quartiles coincide (most cells are equal), by mean and standard deviation.
    """
    table = feature_table(info, train)
    fitted = []
    for position, feature in enumerate(info.numeric):
        cells = table[position].to_numpy()
        centre, scale = _centre_and_scale(cells[~np.isnan(cells)])
        fitted.append(replace(feature, centre=centre, scale=scale))
    return replace(info, numeric=tuple(fitted))


def _centre_and_scale(cells: np.ndarray) -> tuple[float, float]:
    """As scikit-learn's RobustScaler (unit variance) and StandardScaler; a scale that is nothing
    but rounding is 1.
    """
    if not len(cells):
        return 0.0, 1.0
    low, high = np.percentile(cells, [25, 75])
    if high > low:
        spread = high - low if high - low >= 10 * EPSILON else 1.0
        return float(np.median(cells)), float(spread / QUARTILES_OF_A_GAUSSIAN)
    mean, variance = cells.mean(), cells.var()
    rounding = len(cells) * EPSILON * variance + (len(cells) * mean * EPSILON) ** 2
    return float(mean), float(np.sqrt(variance)) if variance > rounding else 1.0


def _readable(info: TableInfo, plain: dict[str, pd.Series[Any]]) -> dict[str, pd.Series[Any]]:
    """Numbers as floats, dates as dates, categories as text; all wrong columns in one error."""
    formats = {column.name: column.date_format for column in info.columns}
    dates = {feature.column for feature in info.numeric if feature.part}
    categories = set(info.text_columns)
    cells, wrong = {}, []
    for name, series in plain.items():
        if name in categories:
            cells[name] = as_text(series)
            continue
        if series.dtype.kind in "if" and name not in dates:
            cells[name] = series
            check_finite(name, series.to_numpy())
            continue
        cells[name] = _as_dates(series, formats[name]) if name in dates else _as_numbers(series)
        unread = (cells[name].isna() & series.notna()).to_numpy()
        if unread.any():
            row = int(unread.argmax())
            expected = "dates" if name in dates else "numbers"
            found = f"{shown(series.iloc[row])} in row {row + 1}"
            wrong.append(f"{name!r} must hold {expected}, found {found}")
        elif name not in dates:
            check_finite(name, cells[name].to_numpy())
    if wrong:
        raise ValueError(f"The table has the wrong type in column(s): {'; '.join(wrong)}.")
    return cells


def _features(column: Column, train: pd.Series[Any]) -> list[NumericFeature | CategoricalFeature]:
    """The inputs that a column offers; none if its training rows could teach nothing."""
    if column.type in ("categorical", "boolean"):
        counts = as_text(train).value_counts()
        frequent = counts[counts >= FEWEST_ROWS].index[:MAX_CATEGORIES]
        always_the_same = len(counts) == 1 and not train.isna().any()
        if not len(frequent) or always_the_same:
            return []
        return [CategoricalFeature(name=column.name, categories=tuple(sorted(frequent)))]
    if column.type == "numeric":
        varies = train.nunique() > 1 or (train.nunique() == 1 and bool(train.isna().any()))
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


def _numbers(cells: pd.Series[Any], part: str) -> np.ndarray:
    """Floats ``[N]`` of a numeric column, or of one part of a date column."""
    if not part:
        return cells.to_numpy(dtype=np.float64)
    import pandas as pd

    days = ((cells - pd.Timestamp(0)) / pd.Timedelta(days=1)).to_numpy(dtype=np.float64)
    if part == "days":
        return days
    if part == "hour":
        return np.asarray((days % 1) * 24)
    if part == "weekday":
        return np.asarray(cells.dt.day_of_week.to_numpy(dtype=np.float64, na_value=np.nan))
    angle = 2 * np.pi * cells.dt.day_of_year.to_numpy(dtype=np.float64, na_value=np.nan) / 365.25
    return np.asarray(np.sin(angle) if part == "season sine" else np.cos(angle))


def _as_numbers(series: pd.Series[Any]) -> pd.Series[Any]:
    """Numbers; what cannot be read as one is missing."""
    import pandas as pd
    from pandas.api import types

    if types.is_datetime64_any_dtype(series):
        return pd.Series(np.full(len(series), np.nan))
    return pd.to_numeric(series, errors="coerce").astype("float64")


def _as_dates(series: pd.Series[Any], date_format: str) -> pd.Series[Any]:
    """Dates; what is none is missing (also numbers: their unit would be a guess)."""
    import pandas as pd
    from pandas.api import types

    if types.is_numeric_dtype(series):
        return pd.Series(np.full(len(series), "NaT", dtype="datetime64[us]"))
    return parse_dates(series, date_format)


def _listing(names: Sequence[str]) -> str:
    shown = ", ".join(repr(name) for name in names[:8])
    return shown if len(names) <= 8 else f"{shown} and {len(names) - 8} more"
