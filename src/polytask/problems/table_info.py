"""How the columns of a table became inputs, as plain numbers: a record that any file can hold.

Shape legend: N rows, F numeric features, G categorical features, H hashed n-grams, K components.

A row of inputs is one float32 vector ``[F + G]``: first the numeric features, scaled, with NaN for
a missing cell; then the codes of the categories. Column j with c_j categories has the codes 0 ..
c_j - 1, and c_j for whatever is missing, unseen or too rare to learn from. Fitting such a record
and using it on a table is the work of ``polytask.tables``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

__all__ = [
    "CategoricalFeature",
    "Column",
    "NumericFeature",
    "TableInfo",
    "TextFeature",
    "arrays_of_tables",
    "tables_from_record",
]

#: What a column's record leaves out where it is as usual.
USUAL = {"number_format": "", "odd_cells": 0}


@dataclass(frozen=True, kw_only=True)
class Column:
    """What was found out about one column.

    Args:
        name: Of the column.
        type: ``numeric``, ``boolean``, ``categorical``, ``date``, ``text``; or ``identifier``,
            ``constant`` or ``unreadable``, which are left out.
        missing: Share of the cells that are missing.
        distinct: Number of different values that are not missing.
        note: Why it is left out, or how it is read; empty where nothing needs saying.
        date_format: How dates are written (``ISO8601`` or a format of ``strptime``, several joined
            by ``|``); empty for other types.
        number_format: Which decimal sign numbers that are written as texts have (``point`` or
            ``comma``); empty for plain numbers.
        odd_cells: Cells among the numbers or dates that are none and were taken as missing; where
            there were some, new tables may have some.
    """

    name: str
    type: str
    missing: float
    distinct: int
    note: str = ""
    date_format: str = ""
    number_format: str = ""
    odd_cells: int = 0

    @property
    def used(self) -> bool:
        """Whether the column can become an input."""
        return self.type not in ("identifier", "constant", "unreadable")

    def schema_row(self) -> dict[str, Any]:
        """The column as it is shown before training."""
        return {
            "column": self.name,
            "type": self.type,
            "missing": round(self.missing, 4),
            "distinct": self.distinct,
            "used": self.used,
            "note": self.note,
        }


@dataclass(frozen=True, kw_only=True)
class NumericFeature:
    """One numeric input: ``(value - centre) / scale``.

    Args:
        name: Of the feature: the column's, with the part behind it for dates.
        column: Where it comes from.
        part: Which number of a date it is (one of ``DATE_PARTS``), or ``text 0``, ``text 1`` ...:
            which component of a text; empty for numeric columns.
        centre: Median of the training rows (mean where the quartiles coincide).
        scale: Interquartile range / 1.349, the standard deviation of a Gaussian with those
            quartiles (the standard deviation itself where the quartiles coincide).
    """

    name: str
    column: str
    part: str = ""
    centre: float = 0.0
    scale: float = 1.0


@dataclass(frozen=True, kw_only=True)
class CategoricalFeature:
    """One categorical input: the cell's place in ``categories``, or their number if it has none."""

    name: str
    categories: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class TextFeature:
    """How the texts of a column become K numbers.

    Args:
        column: Where they come from.
        idf: ``[H]`` inverse document frequency of every hashed n-gram in the training rows.
        components: ``[K, H]`` leading right singular vectors of the weighed training rows.
    """

    column: str
    idf: np.ndarray
    components: np.ndarray

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, TextFeature)
            and self.column == other.column
            and np.array_equal(self.idf, other.idf)
            and np.array_equal(self.components, other.components)
        )

    def __hash__(self) -> int:
        return hash(self.column)


@dataclass(frozen=True, kw_only=True)
class TableInfo:
    """Columns, features and fitted numbers of a table: a record for JSON, and arrays beside it.

    Args:
        columns: What is known about every column that was considered, used or not.
        numeric: The first F inputs.
        categorical: The last G inputs.
        text: The columns of free text among them, whose components are numeric inputs.
        missing: Codes that mean a missing cell, as column (empty: all) and code.
        fold_case: Whether categories that differ only in case or spaces are one.
    """

    columns: tuple[Column, ...]
    numeric: tuple[NumericFeature, ...]
    categorical: tuple[CategoricalFeature, ...]
    text: tuple[TextFeature, ...] = ()
    missing: tuple[tuple[str, str], ...] = ()
    fold_case: bool = False

    @property
    def num_numeric(self) -> int:
        """Number of numeric features F."""
        return len(self.numeric)

    @property
    def cardinalities(self) -> tuple[int, ...]:
        """Categories of every categorical feature, without the code for unseen and missing ones."""
        return tuple(len(feature.categories) for feature in self.categorical)

    @property
    def feature_names(self) -> tuple[str, ...]:
        """Names of the F + G inputs."""
        return tuple(f.name for f in self.numeric) + tuple(f.name for f in self.categorical)

    @property
    def input_columns(self) -> tuple[str, ...]:
        """The columns that a table needs to become inputs."""
        used = [f.column for f in self.numeric] + [f.name for f in self.categorical]
        return tuple(dict.fromkeys(used))

    @property
    def text_columns(self) -> tuple[str, ...]:
        """Columns of categories and texts: a file is to be read with these as they are written."""
        return (*(f.name for f in self.categorical), *(f.column for f in self.text))

    def schema(self) -> list[dict[str, Any]]:
        """One record per column: name, type, missing share, number of different values, note."""
        return [column.schema_row() for column in self.columns]

    def to_record(self) -> dict[str, Any]:
        """Plain values for a JSON file; what is as usual is left out, ``arrays`` has the rest."""
        record: dict[str, Any] = {
            "columns": [
                {k: v for k, v in asdict(column).items() if k not in USUAL or v != USUAL[k]}
                for column in self.columns
            ],
            "numeric": [asdict(feature) for feature in self.numeric],
            "categorical": [
                {"name": f.name, "categories": list(f.categories)} for f in self.categorical
            ],
        }
        if self.text:
            record["text"] = [feature.column for feature in self.text]
        if self.missing:
            record["missing"] = [list(pair) for pair in self.missing]
        if self.fold_case:
            record["fold_case"] = True
        return record

    def arrays(self) -> dict[str, Tensor]:
        """The arrays of the texts, for a safetensors file; empty where no column is text."""
        named: dict[str, Tensor] = {}
        for number, feature in enumerate(self.text):
            named[f"text.{number}.idf"] = torch.from_numpy(feature.idf)
            named[f"text.{number}.components"] = torch.from_numpy(feature.components)
        return named

    @classmethod
    def from_record(
        cls, record: Mapping[str, Any], arrays: Mapping[str, Tensor] | None = None
    ) -> TableInfo:
        """The inverse of ``to_record`` and ``arrays``."""
        named = {name: tensor.numpy() for name, tensor in (arrays or {}).items()}
        return cls(
            columns=tuple(Column(**item) for item in record["columns"]),
            numeric=tuple(NumericFeature(**item) for item in record["numeric"]),
            categorical=tuple(
                CategoricalFeature(name=item["name"], categories=tuple(item["categories"]))
                for item in record["categorical"]
            ),
            text=tuple(
                TextFeature(
                    column=column,
                    idf=named[f"text.{number}.idf"],
                    components=named[f"text.{number}.components"],
                )
                for number, column in enumerate(record.get("text", ()))
            ),
            missing=tuple((column, code) for column, code in record.get("missing", ())),
            fold_case=record.get("fold_case", False),
        )


def arrays_of_tables(table: TableInfo | None, tables: Mapping[str, TableInfo]) -> dict[str, Tensor]:
    """The arrays of one table, or of several by their number, for one safetensors file."""
    infos = [table] if table is not None else list(tables.values())
    return {
        f"table.{number}.{name}": array
        for number, info in enumerate(infos)
        for name, array in info.arrays().items()
    }


def tables_from_record(
    record: Mapping[str, Any], arrays: Mapping[str, Tensor]
) -> tuple[TableInfo | None, dict[str, TableInfo]]:
    """The inverse of a record with ``table`` and ``tables``, and of ``arrays_of_tables``."""

    def read(item: Mapping[str, Any], number: int) -> TableInfo:
        start = f"table.{number}."
        own = {n.removeprefix(start): a for n, a in arrays.items() if n.startswith(start)}
        return TableInfo.from_record(item, own)

    table = record["table"]
    return (
        None if table is None else read(table, 0),
        {name: read(item, n) for n, (name, item) in enumerate(record["tables"].items())},
    )
