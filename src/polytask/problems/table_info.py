"""How the columns of a table became inputs, as plain numbers: a record that any file can hold.

Shape legend: N rows, F numeric features, G categorical features.

A row of inputs is one float32 vector ``[F + G]``: first the numeric features, scaled, with NaN for
a missing cell; then the codes of the categories. Column j with c_j categories has the codes 0 ..
c_j - 1, and c_j for whatever is missing, unseen or too rare to learn from. Fitting such a record
and using it on a table is the work of ``polytask.tables``.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

__all__ = ["CategoricalFeature", "Column", "NumericFeature", "TableInfo"]


@dataclass(frozen=True, kw_only=True)
class Column:
    """What was found out about one column.

    Args:
        name: Of the column.
        type: ``numeric``, ``boolean``, ``categorical``, ``date``, ``identifier`` or ``constant``.
        missing: Share of the cells that are missing.
        distinct: Number of different values that are not missing.
        note: Why it is left out, or how it is read; empty where nothing needs saying.
        date_format: How dates are written (``ISO8601`` or a format of ``strptime``); empty for
            other types.
    """

    name: str
    type: str
    missing: float
    distinct: int
    note: str = ""
    date_format: str = ""

    @property
    def used(self) -> bool:
        """Whether the column can become an input."""
        return self.type not in ("identifier", "constant")

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
        part: Which number of a date it is (one of ``DATE_PARTS``); empty for numeric columns.
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


@dataclass(frozen=True, kw_only=True)
class TableInfo:
    """Columns, features and fitted numbers of a table; all of it fits into JSON.

    Args:
        columns: What is known about every column that was considered, used or not.
        numeric: The first F inputs.
        categorical: The last G inputs.
    """

    columns: tuple[Column, ...]
    numeric: tuple[NumericFeature, ...]
    categorical: tuple[CategoricalFeature, ...]

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
        """Columns of categories: a file is to be read with these as they are written."""
        return tuple(feature.name for feature in self.categorical)

    def schema(self) -> list[dict[str, Any]]:
        """One record per column: name, type, missing share, number of different values, note."""
        return [column.schema_row() for column in self.columns]

    def to_record(self) -> dict[str, Any]:
        """Everything as plain values for a JSON file."""
        return {
            "columns": [asdict(column) for column in self.columns],
            "numeric": [asdict(feature) for feature in self.numeric],
            "categorical": [
                {"name": f.name, "categories": list(f.categories)} for f in self.categorical
            ],
        }

    @classmethod
    def from_record(cls, record: dict[str, Any]) -> TableInfo:
        """The inverse of ``to_record``."""
        return cls(
            columns=tuple(Column(**item) for item in record["columns"]),
            numeric=tuple(NumericFeature(**item) for item in record["numeric"]),
            categorical=tuple(
                CategoricalFeature(name=item["name"], categories=tuple(item["categories"]))
                for item in record["categorical"]
            ),
        )
