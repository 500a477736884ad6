"""Tables in spreadsheets: the first sheet that holds one."""

from __future__ import annotations

from collections.abc import Collection
from typing import IO, TYPE_CHECKING, Any

from polytask.tables.columns import as_text as texts_of
from polytask.tables.layout import find_header

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["SPREADSHEET_ENDINGS", "read_spreadsheet"]

#: The package that reads files of an ending.
SPREADSHEET_ENDINGS = {".xlsx": "openpyxl", ".xlsm": "openpyxl", ".xls": "xlrd"}
SNIFFED_ROWS = 60


def read_spreadsheet(
    file: IO[bytes],
    name: str,
    ending: str,
    *,
    as_text: Collection[str] = (),
    skip_rows: int | None = None,
) -> tuple[pd.DataFrame, list[str]]:
    """The table of a spreadsheet, and notes about what was left out.

    Args:
        file: Its bytes.
        name: Of the file, for errors.
        ending: ``.xlsx``, ``.xlsm`` or ``.xls``.
        as_text: Columns whose numbers are read as texts.
        skip_rows: Rows above the header; None means that they are found.

    Raises:
        ImportError: The package that reads such files is not installed.
        ValueError: The file is no spreadsheet, or has no table.
    """
    import importlib

    import pandas as pd

    engine = SPREADSHEET_ENDINGS[ending]
    try:
        importlib.import_module(engine)
    except ImportError as error:
        raise ImportError(
            f"Reading {name!r} needs {engine}, which is not installed: pip install"
            " 'polytask[excel]'."
        ) from error
    try:
        sheets = pd.read_excel(file, sheet_name=None, header=None, dtype=object, engine=engine)
    except Exception as error:  # each package has errors of its own, zip's and struct's among them
        reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
        raise ValueError(
            f"{name!r} is no whole spreadsheet ({reason}); open it and save it again, or as .csv."
        ) from error
    filled = {title: sheet for title, sheet in sheets.items() if sheet.notna().any(axis=None)}
    if not filled:
        raise ValueError(f"The table {name!r} is empty: no sheet has a cell.")
    title, sheet = next(iter(filled.items()))
    notes = []
    if len(filled) > 1:
        notes.append(f"the sheet {title!r} is read, the first of {len(filled)} that hold something")
    frame, found = _table(sheet, skip_rows)
    for column in frame.columns:
        if column in as_text:
            frame[column] = texts_of(frame[column]).to_numpy()
    return frame, notes + found


def _table(sheet: pd.DataFrame, skip_rows: int | None) -> tuple[pd.DataFrame, list[str]]:
    """The cells below the header, typed column by column."""
    sheet = sheet.iloc[skip_rows or 0 :]
    sheet = sheet[sheet.notna().any(axis=1)].loc[:, lambda s: s.notna().any(axis=0)]
    start = [["" if cell != cell else str(cell) for cell in row] for row in _cells(sheet)]
    above, units, notes = find_header(start, titles=skip_rows is None)
    header = [
        str(cell).strip() if cell == cell and str(cell).strip() else f"column {i + 1}"
        for i, cell in enumerate(sheet.iloc[above])
    ]
    data = sheet.iloc[above + 1 + units :].reset_index(drop=True)
    data.columns = header  # type: ignore[assignment]
    return data.infer_objects(), notes


def _cells(sheet: pd.DataFrame) -> list[list[Any]]:
    rows: list[list[Any]] = sheet.head(SNIFFED_ROWS).astype(object).to_numpy().tolist()
    return [[float("nan") if cell is None else cell for cell in row] for row in rows]
