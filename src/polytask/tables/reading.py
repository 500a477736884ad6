"""Tables from files: CSV and other text, Parquet, spreadsheets; compressed or not."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import warnings
import zipfile
import zlib
from collections.abc import Callable, Collection
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from polytask.tables.encodings import UTF8, find_encoding, find_legacy
from polytask.tables.layout import Layout, find_layout
from polytask.tables.spreadsheets import SPREADSHEET_ENDINGS, read_spreadsheet

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["read_table"]

TEXT_ENDINGS = frozenset({".csv", ".tsv", ".tab", ".txt", ".data", ".dat"})
PARQUET_ENDINGS = frozenset({".parquet", ".pq"})
OPENERS: dict[str, Callable[..., Any]] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
ZIP = ".zip"
#: What reading a file that is damaged or cut short raises.
TORN = (OSError, EOFError, zlib.error, lzma.LZMAError, zipfile.BadZipFile)
#: Bytes that are looked at to find the encoding, and letters to find the layout.
SNIFFED_BYTES = 1_000_000
SNIFFED = 200_000
#: Names of encodings as people know them.
KNOWN_AS = {
    "cp1252": "Latin-1 (cp1252)",
    "latin-1": "Latin-1",
    "cp949": "cp949 (Korean)",
    "cp932": "cp932 (Japanese)",
    "gb18030": "gb18030 (Chinese)",
    "big5": "Big5 (Chinese)",
}


def read_table(
    path: Path | str, *, as_text: Collection[str] = (), skip_rows: int | None = None
) -> pd.DataFrame:
    """The table in a file.

    An empty cell, ``NA``, ``NaN``, ``null``, ``None`` and ``?`` are missing cells. Spaces after a
    delimiter are dropped. A comma is read as the decimal sign where the delimiter is another one
    and the numbers are written so. The encoding is found (UTF-8, UTF-16, else by the letters), and
    so are comments and titles above the header and rows of units below it.

    Args:
        path: ``.csv``, ``.tsv``, ``.tab``, ``.txt``, ``.data`` or ``.dat``, also with ``.gz``,
            ``.bz2``, ``.xz`` or ``.zip`` behind it; ``.parquet`` or ``.pq``; ``.xlsx`` or ``.xls``.
        as_text: Columns of a text file that stay as they are written (codes with leading zeros).
        skip_rows: Lines above the header; None means that they are found.

    Returns:
        The table; in its ``attrs`` the ``notes`` about what was found and left out, and the
        ``decimal`` sign, where they are not as usual.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is empty, is no table, or has a column name twice.
        ImportError: Parquet without pyarrow, a spreadsheet without its package.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {str(path)!r}; check the path.")
    if skip_rows is not None and skip_rows < 0:
        raise ValueError(f"`skip_rows` must be a number of lines >= 0, found {skip_rows}.")
    kind, open_bytes = _kind_and_bytes(path)
    notes: list[str] = []
    decimal = "."
    if kind in PARQUET_ENDINGS:
        frame = _read_parquet(path, open_bytes)
    elif kind in SPREADSHEET_ENDINGS:
        with open_bytes() as file:
            frame, notes = read_spreadsheet(
                file, path.name, kind, as_text=as_text, skip_rows=skip_rows
            )
        _check_header(path, list(frame.columns))
    elif kind in TEXT_ENDINGS:
        frame, notes, decimal = _read_text(path, open_bytes, as_text, skip_rows)
    else:
        raise ValueError(
            f"{path.name!r} is no kind of table that can be read; give a .csv, .tsv, .parquet or"
            " .xlsx file (a .csv may be compressed)."
        )
    if frame.empty:
        raise ValueError(f"The table {str(path)!r} is empty: it has no row of data.")
    if notes:
        frame.attrs["notes"] = notes
    if decimal != ".":
        frame.attrs["decimal"] = decimal
    return frame


def _kind_and_bytes(path: Path) -> tuple[str, Callable[[], IO[bytes]]]:
    """The ending that says what the file is, and how its bytes are opened."""
    endings = [ending.lower() for ending in path.suffixes]
    packed = endings[-1] if endings else ""
    if packed == ZIP:
        member, content = _unzipped(path)
        return Path(member).suffix.lower(), lambda: io.BytesIO(content)
    kind = next((e for e in reversed(endings) if e not in OPENERS), "")
    opener = OPENERS.get(packed, open)
    return kind, lambda: opener(path, "rb")


def _unzipped(path: Path) -> tuple[str, bytes]:
    """Name and bytes of the one table in a zip file."""
    readable = {*TEXT_ENDINGS, *PARQUET_ENDINGS, *SPREADSHEET_ENDINGS}
    try:
        with zipfile.ZipFile(path) as archive:
            members = [
                info
                for info in archive.infolist()
                if Path(info.filename).suffix.lower() in readable
                and not info.filename.startswith("__MACOSX")
                and not Path(info.filename).name.startswith(".")
            ]
            if len(members) != 1:
                named = ", ".join(info.filename for info in members[:5]) or "none"
                raise ValueError(
                    f"{path.name!r} must hold one table, found {named}; unpack it and give the"
                    " table."
                )
            if members[0].flag_bits & 1:
                raise ValueError(f"{path.name!r} has a password; unpack it and give the table.")
            return members[0].filename, archive.read(members[0])
    except TORN as error:
        raise _torn(path, error) from error


def _read_parquet(path: Path, open_bytes: Callable[[], IO[bytes]]) -> pd.DataFrame:
    import pandas as pd

    try:
        import pyarrow as pa
    except ImportError as error:
        raise ImportError(
            f"Reading {path.name!r} needs pyarrow, which is not installed: pip install"
            " 'polytask[data]'."
        ) from error
    try:
        is_packed = path.suffix.lower() not in PARQUET_ENDINGS
        frame: pd.DataFrame = pd.read_parquet(open_bytes() if is_packed else path, engine="pyarrow")
    except pa.ArrowException as error:
        raise ValueError(
            f"{str(path)!r} is no whole Parquet file: {_first_line(error)}."
        ) from error
    return frame


def _read_text(
    path: Path,
    open_bytes: Callable[[], IO[bytes]],
    as_text: Collection[str],
    skip_rows: int | None,
) -> tuple[pd.DataFrame, list[str], str]:
    """Table, notes and decimal sign of a text file."""
    try:
        with open_bytes() as file:
            encoding = _encoding(path, file.read(SNIFFED_BYTES), find_encoding)
        try:
            return _read_encoded(path, open_bytes, as_text, skip_rows, encoding)
        except UnicodeDecodeError:
            # The first bytes were fine: letters of another encoding come later in the file.
            with open_bytes() as file:
                encoding = _encoding(path, file.read(), find_legacy)
            return _read_encoded(path, open_bytes, as_text, skip_rows, encoding)
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{str(path)!r} is no text in {error.encoding} ({error.reason}); save it as UTF-8."
        ) from error
    except TORN as error:
        raise _torn(path, error) from error


def _encoding(path: Path, data: bytes, find: Callable[[bytes], str]) -> str:
    try:
        return find(data)
    except ValueError as error:
        raise ValueError(
            f"{str(path)!r} cannot be read: {error}; save the table as .csv in UTF-8."
        ) from error


def _read_encoded(
    path: Path,
    open_bytes: Callable[[], IO[bytes]],
    as_text: Collection[str],
    skip_rows: int | None,
    encoding: str,
) -> tuple[pd.DataFrame, list[str], str]:
    """The table in a file of known encoding."""
    import pandas as pd

    with io.TextIOWrapper(open_bytes(), encoding=encoding, newline=None) as file:
        start = file.read(SNIFFED) + file.readline()
    if not start.strip("\ufeff \r\n\t"):
        raise ValueError(
            f"The table {str(path)!r} is empty; it needs a line of column names and rows below it."
        )
    try:
        layout = find_layout(start, skip_rows=skip_rows)
    except ValueError as error:
        raise ValueError(f"The table {str(path)!r} is empty: {error}.") from error
    header = [cell.strip() or f"column {i + 1}" for i, cell in enumerate(layout.header)]
    _check_header(path, header)
    try:
        with warnings.catch_warnings():
            # pandas cuts a row that is longer than the header and merely warns.
            warnings.simplefilter("error", pd.errors.ParserWarning)
            frame = _parse(open_bytes, layout, header, encoding, as_text)
    except pd.errors.EmptyDataError:
        frame = pd.DataFrame(columns=header)
    except pd.errors.ParserWarning as error:
        raise ValueError(
            f"{str(path)!r} has rows with more cells than its first line has column names; correct"
            " the rows or the names."
        ) from error
    except pd.errors.ParserError as error:
        raise ValueError(f"{str(path)!r} is no whole table: {_first_line(error)}.") from error
    notes = list(layout.notes)
    if encoding != UTF8:
        known = KNOWN_AS.get(encoding, encoding.upper())
        notes.insert(0, f"the file is no UTF-8 and is read as {known}")
    return frame, notes, layout.decimal


def _parse(
    open_bytes: Callable[[], IO[bytes]],
    layout: Layout,
    header: list[str],
    encoding: str,
    as_text: Collection[str],
) -> pd.DataFrame:
    import pandas as pd

    # Lines are cut off here, not by pandas: a lone quote in a comment would swallow the lines
    # after it. Line ends stay as they are inside of cells, unless lines have to be counted.
    with io.TextIOWrapper(
        open_bytes(), encoding=encoding, newline="" if layout.is_plain else None
    ) as file:
        for _ in range(0 if layout.is_plain else layout.lines_before_data):
            file.readline()
        frame: pd.DataFrame = pd.read_csv(
            file,
            sep=layout.delimiter,
            decimal=layout.decimal,
            skipinitialspace=True,
            na_values=["?"],
            dtype={name: "str" for name in as_text if name in header},
            low_memory=False,
            header=0 if layout.is_plain else None,
            names=header,
            index_col=False,
        )
    return frame


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


def _torn(path: Path, error: BaseException) -> ValueError:
    return ValueError(f"{str(path)!r} cannot be read: {_first_line(error)}.")


def _first_line(error: BaseException) -> str:
    return (
        str(error).strip().splitlines()[0].rstrip(".")
        if str(error).strip()
        else type(error).__name__
    )
