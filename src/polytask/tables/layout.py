"""Where the table begins in a text file: delimiter, lines above the header, rows of units below it.

A table that begins with its header in the first line is read as it is; everything else that is
found (comments, titles, units) is left out with a note.
"""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from polytask.tables.numbers import is_number
from polytask.tables.words import MISSING_WORDS, count_of

__all__ = ["SPACES", "Layout", "find_header", "find_layout"]

DELIMITERS = (",", ";", "\t", "|")
#: Columns that are aligned by spaces, as a regular expression.
SPACES = r"\s+"
SNIFFED_LINES = 50
#: Lines above the header in which it is looked for.
MOST_LINES_ABOVE = 40
#: Rows below the header that may tell units and types.
MOST_UNIT_ROWS = 3
#: Share of the lines that must have as many cells as most have.
AGREEING = 0.8
COMMENTS = ("#", "//")
SEPARATOR_LINE = re.compile(r'"?sep=(.|\\t)"?', re.IGNORECASE)
YEAR = re.compile(r"(?:1[89]|20)\d\d")
BRACKETED = re.compile(r"[\[(<{].*[\])>}]")
UNIT = re.compile(r"[^\d\s][^\s]{0,11}(?: [^\s]{1,5}){0,2}")


@dataclass(frozen=True)
class Layout:
    """How a text file is to be read.

    Args:
        delimiter: One character, or ``SPACES``.
        decimal: The decimal sign of plain numbers.
        header: Names of the columns as they are written.
        lines_before_data: Lines of the file above the first row of data.
        is_plain: Whether the first line that is not empty is the header and data follow.
        notes: What was left out.
    """

    delimiter: str
    decimal: str
    header: list[str]
    lines_before_data: int
    is_plain: bool
    notes: tuple[str, ...]


def find_layout(text: str, *, skip_rows: int | None = None) -> Layout:
    """The layout of a file from its first lines.

    Args:
        text: The first whole lines.
        skip_rows: Lines above the header; None means that they are found.

    Raises:
        ValueError: ``skip_rows`` leaves no line.
    """
    lines = list(io.StringIO(text, newline=None))
    start, delimiter = skip_rows or 0, ""
    comments: list[str] = []
    if skip_rows is None:
        start, delimiter, comments = _opening_lines(lines)
    body = lines[start:]
    if not "".join(body).strip():
        raise ValueError(f"no line is left below the {start} that are skipped")
    delimiter = delimiter or find_delimiter(body)
    rows = list(_rows(body, delimiter))
    cells = [row for row, _ in rows]
    if comments and (header := _header_in_comment(comments, delimiter, cells)) is not None:
        return Layout(
            delimiter=delimiter,
            decimal=_decimal(cells, delimiter),
            header=header,
            lines_before_data=start,
            is_plain=False,
            notes=(f"the comment line {comments[-1].strip()!r} is read as the column names",),
        )
    above, units, notes = find_header(cells, titles=skip_rows is None)
    if comments:
        what = count_of(len(comments), "comment line")
        notes.insert(0, f"{what} above the header left out ({_short(comments[0])})")
    end = rows[above + units][1]
    return Layout(
        delimiter=delimiter,
        decimal=_decimal(cells[above + 1 + units :], delimiter),
        header=cells[above],
        lines_before_data=start + end,
        is_plain=start == 0 and not above and not units and delimiter != SPACES,
        notes=tuple(notes),
    )


def find_header(
    cells: Sequence[Sequence[str]], *, titles: bool = True
) -> tuple[int, int, list[str]]:
    """Number of title rows above the header, of rows of units below it, and notes about both.

    Args:
        cells: The first rows of a file, empty lines left out.
        titles: Whether titles are looked for; otherwise the first row is the header.
    """
    width = _usual_width(cells)
    above, notes = 0, []
    if titles and width > 1 and not _is_header(cells[0], width):
        found = next(
            (i for i, row in enumerate(cells[:MOST_LINES_ABOVE]) if _is_header(row, width)), 0
        )
        if all(_is_title(row, width) for row in cells[:found]):
            above = found
    if above:
        title = next(cell for row in cells[:above] for cell in row if cell.strip())
        what = count_of(above, "title row")
        notes.append(f"{what} above the header left out ({_short(title)}); --skip-rows says more")
    below = cells[above + 1 :]
    units = _unit_rows(below, width)
    if units:
        named = [cell.strip() for cell in below[0] if cell.strip()]
        what = count_of(units, "row")
        shown = ", ".join(named[:4]) + (", ..." if len(named) > 4 else "")
        notes.append(f"{what} of units below the header left out ({shown})")
    return above, units, notes


def find_delimiter(lines: Sequence[str]) -> str:
    """The delimiter that cuts the first lines into equally many cells, and into most of them."""
    first = [line for line in lines[: SNIFFED_LINES + MOST_LINES_ABOVE] if line.strip()]
    best, best_cells = ",", 1
    for delimiter in DELIMITERS:
        widths = [len(row) for row, _ in _rows(first[:SNIFFED_LINES], delimiter)]
        # One line may be cut short by the end of what was read, or hold a delimiter inside odd
        # quotes.
        agreeing = sum(width == widths[0] for width in widths)
        if widths[0] > best_cells and agreeing >= AGREEING * len(widths):
            best, best_cells = delimiter, widths[0]
    if best_cells > 1:
        return best
    # Lines of a title above the header have no delimiter, or another number of them; the comma of
    # decimals cuts the rows of numbers, but not their header.
    most = 1
    for delimiter in (*DELIMITERS, SPACES):
        widths = [len(row) for row, _ in _rows(first, delimiter)]
        width = Counter(widths[-SNIFFED_LINES:]).most_common(1)[0][0]
        table = widths[widths.index(width) :]
        agreeing = table.count(width)
        fits = width > 1 and agreeing >= AGREEING * len(table)
        if fits and (agreeing, width) > (most, best_cells):
            best, best_cells, most = delimiter, width, agreeing
    return best


def _opening_lines(lines: Sequence[str]) -> tuple[int, str, list[str]]:
    """Lines before the table's own, the delimiter that one of them names, and the comments."""
    start, delimiter = 0, ""
    named = SEPARATOR_LINE.fullmatch(lines[0].strip("\ufeff\r\n "))
    if named is not None:
        start, delimiter = 1, named[1].replace("\\t", "\t")
    comments = []
    place = start
    while place < min(len(lines), 500):
        line = lines[place].strip()
        if line and not _is_comment(line):
            break
        if line:
            comments.append(lines[place])
        place += 1
    return (place if comments else start), delimiter, comments


def _is_comment(line: str) -> bool:
    """A name of a column may be ``#`` itself."""
    return line.startswith(COMMENTS) and not re.match(r"#\s*[,;\t|]", line)


def _header_in_comment(
    comments: Sequence[str], delimiter: str, cells: Sequence[Sequence[str]]
) -> list[str] | None:
    """The names of columns in the last comment; None if the row below it holds them."""
    line = comments[-1].strip().removeprefix("//").lstrip("#").strip()
    names = next(iter(_rows([line], delimiter)), ([""], 0))[0]
    if delimiter == SPACES and len(names) != len(cells[0]):
        names = next(iter(_rows([line], find_delimiter([line]))), ([""], 0))[0]
    width = _usual_width(cells)
    if not _is_header(names, width) or width < 2:
        return None
    numbers_below = any(_is_value(cell) for row in cells[1:6] for cell in row)
    if _is_header(cells[0], width) and numbers_below:
        return None
    return [name.strip() for name in names]


def _usual_width(cells: Sequence[Sequence[str]]) -> int:
    return Counter(len(row) for row in cells[-SNIFFED_LINES:]).most_common(1)[0][0]


def _is_header(row: Sequence[str], width: int) -> bool:
    """Whether a row of full width holds different names and no number (a year may be a name)."""
    names = [cell.strip() for cell in row]
    return (
        len(names) == width
        and all(names)
        and len(set(names)) == len(names)
        and not any(_is_value(name) for name in names)
        and not YEAR.fullmatch(names[0])
    )


def _is_title(row: Sequence[str], width: int) -> bool:
    """Whether a row has fewer cells than the table, all of them at its beginning."""
    filled = [bool(cell.strip()) for cell in row]
    count = sum(filled)
    at_the_beginning = all(filled[:count])
    return at_the_beginning and count < width and (len(row) < width or count <= max(1, width // 2))


def _unit_rows(below: Sequence[Sequence[str]], width: int) -> int:
    """How many rows below the header tell units or types of the columns."""
    data = [row for row in below[1:] if len(row) == width]
    numeric = []
    for column in range(width):
        values = [row[column] for row in data if row[column].strip()]
        numbers = sum(_is_value(value) for value in values)
        if len(values) >= 3 and numbers >= 0.8 * len(values):
            numeric.append(column)
    count = 0
    for row in below[:MOST_UNIT_ROWS]:
        if len(row) != width or not _tells_units([row[column].strip() for column in numeric]):
            break
        count += 1
    return count


def _tells_units(cells: Sequence[str]) -> bool:
    """Whether the cells of all numeric columns are units: no number, and not merely unknown."""
    told = [cell for cell in cells if cell]
    if not told or any(_is_value(cell) for cell in told):
        return False
    if all(BRACKETED.fullmatch(cell) for cell in told):
        return True
    if all(cell.lower() in MISSING_WORDS for cell in told):
        return False
    short = all(UNIT.fullmatch(cell) or cell in ("-", "1") for cell in told)
    return short and (len(told) >= 2 or len(told[0]) <= 6)


def _is_value(cell: str) -> bool:
    text = cell.strip()
    return is_number(text) and not YEAR.fullmatch(text)


def _rows(lines: Sequence[str], delimiter: str) -> Iterator[tuple[list[str], int]]:
    """Cells of every line that is not empty, with the number of lines up to its end."""
    if delimiter == SPACES:
        for number, line in enumerate(lines, start=1):
            if line.strip():
                yield [cell.strip('"') for cell in re.findall(r'"[^"]*"|\S+', line)], number
        return
    # The reader's limit (131,072 letters per cell) is one for the whole process.
    before = csv.field_size_limit(max(csv.field_size_limit(), sum(map(len, lines)) + 1))
    try:
        reader = csv.reader(lines, delimiter=delimiter, skipinitialspace=True)
        rows = [(row, reader.line_num) for row in reader if row]
    finally:
        csv.field_size_limit(before)
    yield from rows


def _decimal(cells: Sequence[Sequence[str]], delimiter: str) -> str:
    """The decimal sign of plain numbers; a comma only where it is not the delimiter."""
    if delimiter == ",":
        return "."
    words = [cell.strip() for row in cells[:SNIFFED_LINES] for cell in row]
    with_comma = sum(_is_plain(word.replace(",", ".", 1)) for word in words if "," in word)
    with_point = sum(_is_plain(word) for word in words if "." in word)
    return "," if with_comma > with_point else "."


def _is_plain(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _short(text: str) -> str:
    text = " ".join(text.split())
    return repr(text if len(text) <= 40 else f"{text[:37]}...")
