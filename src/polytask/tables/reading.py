"""Tables from files: CSV (delimiter found by itself, compressed or not) and Parquet."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import lzma
import warnings
import zlib
from collections.abc import Callable, Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["read_table"]

TEXT_ENDINGS = frozenset({".csv", ".tsv", ".tab", ".txt", ".data"})
PARQUET_ENDINGS = frozenset({".parquet", ".pq"})
OPENERS: dict[str, Callable[..., TextIO]] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
#: What reading a file that is damaged or cut short raises.
TORN = (OSError, EOFError, zlib.error, lzma.LZMAError)
DELIMITERS = (",", ";", "\t", "|")
#: Characters that are looked at to find the delimiter and the decimal sign.
SNIFFED = 200_000
SNIFFED_LINES = 50


def read_table(path: Path | str, *, as_text: Collection[str] = ()) -> pd.DataFrame:
    """The table in a CSV or Parquet file.

    An empty cell, ``NA``, ``NaN``, ``null``, ``None`` and ``?`` are missing cells. Spaces after a
    delimiter are dropped. A comma is read as the decimal sign where the delimiter is another one
    and the numbers are written so.

    Args:
        path: ``.csv``, ``.tsv``, ``.tab``, ``.txt`` or ``.data``, also with ``.gz``, ``.bz2``,
            ``.xz`` or ``.zip`` behind it; ``.parquet`` or ``.pq``.
        as_text: Columns of a CSV file that stay as they are written (codes with leading zeros).

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is empty, is no table, is not UTF-8, or has a column name twice.
        ImportError: Parquet without pyarrow.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {str(path)!r}; check the path.")
    endings = [ending.lower() for ending in path.suffixes]
    kind = next((e for e in reversed(endings) if e not in OPENERS), "")
    if kind in PARQUET_ENDINGS:
        frame = _read_parquet(path)
    elif kind in TEXT_ENDINGS:
        frame = _read_csv(path, as_text)
    else:
        raise ValueError(
            f"{path.name!r} is no kind of table that can be read; give a .csv, .tsv or .parquet"
            " file"
            " (a .csv may be compressed)."
        )
    if frame.empty:
        raise ValueError(f"The table {str(path)!r} is empty: it has no row of data.")
    return frame


def _read_parquet(path: Path) -> pd.DataFrame:
    import pandas as pd

    try:
        import pyarrow as pa
    except ImportError as error:
        raise ImportError(
            f"Reading {path.name!r} needs pyarrow, which is not installed: pip install"
            " 'polytask[data]'."
        ) from error
    try:
        frame: pd.DataFrame = pd.read_parquet(path, engine="pyarrow")
    except pa.ArrowException as error:
        raise ValueError(
            f"{str(path)!r} is no whole Parquet file: {_first_line(error)}."
        ) from error
    return frame


def _read_csv(path: Path, as_text: Collection[str]) -> pd.DataFrame:
    import pandas as pd

    start = _opening(path)
    if not start.strip():
        raise ValueError(
            f"The table {str(path)!r} is empty; it needs a line of column names and rows below it."
        )
    delimiter = _delimiter(start)
    cells = next(csv.reader(io.StringIO(start), delimiter=delimiter))
    header = [cell.strip() or f"column {i + 1}" for i, cell in enumerate(cells)]
    _check_header(path, header)
    options: dict[str, Any] = {"sep": delimiter, "decimal": _decimal(start, delimiter)}
    try:
        with warnings.catch_warnings():
            # pandas cuts a row that is longer than the header and merely warns.
            warnings.simplefilter("error", pd.errors.ParserWarning)
            frame: pd.DataFrame = pd.read_csv(
                path,
                encoding="utf-8-sig",
                skipinitialspace=True,
                na_values=["?"],
                dtype={name: "str" for name in as_text if name in header},
                low_memory=False,
                header=0,
                names=header,
                index_col=False,
                **options,
            )
    except UnicodeDecodeError as error:
        raise _not_text(path, error) from error
    except TORN as error:
        raise _torn(path, error) from error
    except pd.errors.ParserWarning as error:
        raise ValueError(
            f"{str(path)!r} has rows with more cells than its first line has column names; correct"
            " the rows or the names."
        ) from error
    except pd.errors.ParserError as error:
        raise ValueError(f"{str(path)!r} is no whole table: {_first_line(error)}.") from error
    return frame


def _opening(path: Path) -> str:
    """The first whole lines of a text file, decompressed."""
    opener = OPENERS.get(path.suffix.lower(), open)
    try:
        with opener(path, "rt", encoding="utf-8-sig", newline="") as file:
            return str(file.read(SNIFFED) + file.readline())
    except UnicodeDecodeError as error:
        raise _not_text(path, error) from error
    except TORN as error:
        raise _torn(path, error) from error


def _delimiter(text: str) -> str:
    """The delimiter that cuts the first lines into equally many cells, and into most of them."""
    lines = text.splitlines()[:SNIFFED_LINES]
    best, best_cells = ",", 1
    for delimiter in DELIMITERS:
        widths = [len(row) for row in csv.reader(lines, delimiter=delimiter) if row]
        # One line may be cut short by the end of what was read, or hold a delimiter inside odd
        # quotes.
        agreeing = sum(width == widths[0] for width in widths)
        if widths[0] > best_cells and agreeing >= 0.8 * len(widths):
            best, best_cells = delimiter, widths[0]
    return best


def _decimal(text: str, delimiter: str) -> str:
    if delimiter == ",":
        return "."
    rows = list(csv.reader(text.splitlines()[1:SNIFFED_LINES], delimiter=delimiter))
    cells = [cell.strip() for row in rows for cell in row]
    with_comma = sum(_is_number(cell.replace(",", ".", 1)) for cell in cells if "," in cell)
    with_point = sum(_is_number(cell) for cell in cells if "." in cell)
    return "," if with_comma > with_point else "."


def _check_header(path: Path, header: list[str]) -> None:
    repeated = (
        sorted({name for name in header if header.count(name) > 1})
        if len(set(header)) < len(header)
        else []
    )
    numbers = all(_is_number(name) for name in header)
    if numbers and (repeated or not all(name.lstrip("-").isdigit() for name in header)):
        raise ValueError(
            f"The first line of {str(path)!r} holds numbers ({header[0]}, ...) where column"
            " names are expected;"
            " add a line of column names above it."
        )
    if repeated:
        raise ValueError(
            f"{str(path)!r} has the column name {repeated[0]!r} more than once; rename one of them."
        )


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _not_text(path: Path, error: UnicodeDecodeError) -> ValueError:
    return ValueError(
        f"{str(path)!r} is not UTF-8 text ({error.reason} at byte {error.start}); save it as UTF-8."
    )


def _torn(path: Path, error: BaseException) -> ValueError:
    return ValueError(f"{str(path)!r} cannot be read: {_first_line(error)}.")


def _first_line(error: BaseException) -> str:
    return (
        str(error).strip().splitlines()[0].rstrip(".")
        if str(error).strip()
        else type(error).__name__
    )
