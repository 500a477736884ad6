"""Tables in spreadsheets: the first sheet that holds one."""

from __future__ import annotations

import io
import warnings
from collections.abc import Collection
from typing import IO, TYPE_CHECKING, Literal

from polytask.tables.columns import as_text as texts_of
from polytask.tables.layout import find_header

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["SPREADSHEET_ENDINGS", "read_spreadsheet"]

#: The package that reads files of an ending.
SPREADSHEET_ENDINGS: dict[str, Literal["openpyxl", "xlrd"]] = {
    ".xlsx": "openpyxl",
    ".xlsm": "openpyxl",
    ".xls": "xlrd",
}
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
        with warnings.catch_warnings():
            # About styles that are not read, and about engines of later versions of pandas.
            warnings.simplefilter("ignore")
            sheets = pd.read_excel(
                io.BytesIO(file.read()), sheet_name=None, header=None, dtype=object, engine=engine
            )
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
    import pandas as pd

    sheet = sheet.iloc[skip_rows or 0 :]
    sheet = sheet[sheet.notna().any(axis=1)].loc[:, lambda s: s.notna().any(axis=0)]
    start = _words(sheet.head(SNIFFED_ROWS))
    above, units, notes = find_header(start, titles=skip_rows is None)
    header = [name.strip() or f"column {i + 1}" for i, name in enumerate(start[above])]
    data = sheet.iloc[above + 1 + units :].reset_index(drop=True)
    data.columns = pd.Index(header)
    return data.infer_objects(), notes


def _words(sheet: pd.DataFrame) -> list[list[str]]:
    cells = zip(
        sheet.to_numpy(dtype=object).tolist(), sheet.isna().to_numpy().tolist(), strict=True
    )
    return [
        ["" if is_empty else str(cell) for cell, is_empty in zip(row, empty, strict=True)]
        for row, empty in cells
    ]
