"""Numbers as people write them: ``"1,234.50"``, ``"$5"``, ``17.3%``, ``(4.95)``, ``"0,75"``.

Shape legend: N cells, U different texts.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from polytask.tables.words import MISSING_WORDS, count_of

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["COMMA", "POINT", "NumberReading", "find_numbers", "is_number", "parse_numbers"]

#: Forms of numbers: which sign stands before the decimals.
POINT, COMMA = "point", "comma"
#: A few words among numbers are missing cells, a column with more of them is one of categories.
FEW_ODD = 0.01
#: The same where the numbers are many different ones.
MOST_ODD = 0.1
MANY_NUMBERS = 10
#: Different texts that are looked at before the whole column is.
FIRST_LOOK = 100
SPACES = (
    "\u00a0\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u202f\u205f\u3000"
)
#: Signs that mean the same: minus signs and spaces of typesetters, apostrophes of spreadsheets.
SAME_SIGNS = str.maketrans(
    {**dict.fromkeys("−–‒﹣－", "-"), **dict.fromkeys(SPACES, " "), **dict.fromkeys("’´`", "'")}
)
CURRENCY = (
    r"(?:US\$|A\$|C\$|R\$|S/\.?|HK\$|NT\$|NZ\$|[$€£¥₹₩₽₺₪฿₫₴₦₱¢]|Rs\.?|kr\.?|zł|Kč|Ft|lei|USD|EUR|GBP"
    r"|CHF|JPY|CNY|RMB|INR|KRW|CAD|AUD|NZD|SEK|NOK|DKK|PLN|CZK|HUF|BRL|MXN|ZAR|TRY|RUB|SGD|HKD)"
)
_AROUND = re.compile(
    rf"(?P<open>\()?\s*(?P<sign>[-+])?\s*(?:{CURRENCY})?\s*(?P<inner>[-+(])?\s*"
    rf"(?P<core>\d[\d., ']*(?:[eE][-+]?\d+)?|[.,]\d+(?:[eE][-+]?\d+)?)"
    rf"\s*(?P<percent>[%‰])?\s*(?:{CURRENCY})?\s*(?P<trailing>-)?\s*(?P<percent2>[%‰])?\s*"
    rf"(?P<close>\){{1,2}})?\s*(?P<percent3>%)?",
    re.IGNORECASE,
)
EXPONENT = r"(?:[eE][-+]?\d+)?"
#: Thousands in groups of three (of two, as in India); a number does not begin with a group of 0.
_POINT = re.compile(
    rf"(?:\d+|[1-9]\d{{0,2}}(?:,\d{{3}})+|[1-9]\d?(?:,\d{{2}})*,\d{{3}}"
    rf"|[1-9]\d{{0,2}}(?: \d{{3}})+|[1-9]\d{{0,2}}(?:'\d{{3}})+)?(?:\.\d*)?{EXPONENT}"
)
_COMMA = re.compile(
    rf"(?:\d+|[1-9]\d{{0,2}}(?:\.\d{{3}})+"
    rf"|[1-9]\d{{0,2}}(?: \d{{3}})+|[1-9]\d{{0,2}}(?:'\d{{3}})+)?(?:,\d*)?{EXPONENT}"
)


@dataclass(frozen=True)
class NumberReading:
    """How a text column writes numbers.

    Args:
        form: ``point`` or ``comma``, for ``parse_numbers``; empty for plain numbers.
        notes: What a reader should know.
        odd: Number of cells among the numbers that are none.
    """

    form: str
    notes: tuple[str, ...] = ()
    odd: int = 0


def find_numbers(cells: pd.Series[Any], *, decimal: str = ".") -> NumberReading | None:
    """How the texts of a column, none of them missing, write numbers; None if it is no such column.

    Args:
        cells: With the row numbers of the table (from 0) as index.
        decimal: Decimal sign of the file, where it is known; decides where the column does not.
    """
    import pandas as pd

    counts = cells.value_counts(sort=False)
    words = pd.Series(counts.index.to_numpy(), dtype="object")
    look = [word for word in words.head(FIRST_LOOK) if not _says_missing(word)]
    fitting = sum(is_number(word) for word in look)
    # A few odd cells may well come first in a long column.
    share = 1 - MOST_ODD if len(look) < FIRST_LOOK else 0.5
    if fitting < share * len(look):
        return None
    if words.str.fullmatch(r"0\d+").any():
        return None  # codes: a number does not begin with a zero
    form = _form(list(words), decimal)
    numbers = parse_numbers(words, form)
    read, said = ~np.isnan(numbers), np.array([_says_missing(word) for word in words], dtype=bool)
    rows = counts.to_numpy()
    odd = int(rows[~read & ~said].sum())
    distinct = len(np.unique(numbers[read]))
    allowed = MOST_ODD if distinct > MANY_NUMBERS else FEW_ODD
    if distinct < 2 or odd > max(allowed * rows[read].sum(), odd == 1):
        return None
    unread = int(rows[~read].sum())
    notes = _odd_notes(cells, words[~read], counts, len(cells))
    plain = pd.to_numeric(words[read], errors="coerce")
    if form == POINT and plain.notna().all():
        return NumberReading("", tuple(notes), unread)
    example = words[read][plain.isna() if form == POINT else words[read].str.contains("[.,]")]
    if len(example):
        first = int(example.index[0])
        notes.insert(0, f"numbers are read like {words[first]!r} = {numbers[first]:.12g}")
    return NumberReading(form, tuple(notes), unread)


def parse_numbers(cells: pd.Series[Any], form: str) -> np.ndarray:
    """Numbers ``[N]`` from texts; NaN where a cell is none.

    Args:
        cells: Texts; missing ones stay missing.
        form: ``point``, ``comma``, or empty for plain numbers.
    """
    import pandas as pd

    if not form:
        return pd.to_numeric(cells, errors="coerce").to_numpy(dtype=np.float64)
    codes, words = pd.factorize(cells, use_na_sentinel=True)
    numbers = np.full(len(words) + 1, np.nan)  # code -1: a missing cell
    numbers[:-1] = [_number(str(word), form) for word in words]
    return numbers[codes]


def is_number(text: str) -> bool:
    """Whether a text is a number in some way of writing."""
    return _number(text, POINT) == _number(text, POINT) or _number(text, COMMA) == _number(
        text, COMMA
    )


@functools.lru_cache(maxsize=8192)
def _number(text: str, form: str) -> float:
    """NaN where the text is no number."""
    found = _AROUND.fullmatch(text.strip().translate(SAME_SIGNS))
    if found is None:
        return float("nan")
    core = found["core"].strip()
    pattern, thousands, decimal = (_POINT, ", '", ".") if form == POINT else (_COMMA, ". '", ",")
    if pattern.fullmatch(core) is None:
        return float("nan")
    digits = core.translate({ord(sign): None for sign in thousands}).replace(decimal, ".")
    opened = bool(found["open"]) + (found["inner"] == "(")
    if opened != len(found["close"] or ""):
        return float("nan")
    percent = found["percent"] or found["percent2"] or found["percent3"]
    if percent and "e" not in digits.lower():
        # 17.3e-2 is the float that 0.173 is, 17.3 / 100 need not be.
        digits += "e-2" if percent == "%" else "e-3"
    number = float(digits)
    signs = [found["sign"] == "-", found["inner"] == "-", bool(found["trailing"]), bool(opened)]
    return -number if sum(signs) == 1 else number


def _form(words: list[str], decimal: str) -> str:
    """The decimal sign with which more of the texts are numbers."""
    signed = [word for word in words if "," in word or "." in word or " " in word or "'" in word]
    reads = {
        form: sum(_number(word, form) == _number(word, form) for word in signed)
        for form in (POINT, COMMA)
    }
    if reads[POINT] != reads[COMMA]:
        return max(reads, key=lambda form: reads[form])
    return COMMA if decimal == "," else POINT


def _says_missing(word: str) -> bool:
    return word.strip().lower() in MISSING_WORDS


def _odd_notes(
    cells: pd.Series[Any], odd: pd.Series[Any], counts: pd.Series[Any], total: int
) -> list[str]:
    """The cells that are no numbers: the often ones with their count, the others with their row."""
    if not len(odd):
        return []
    often = [str(word) for word in odd if counts[word] > 1]
    once = set(odd) - set(often)
    notes = []
    for word in sorted(often, key=lambda w: -counts[w])[:3]:
        share = 100 * counts[word] / total
        notes.append(
            f"{word!r} in {count_of(int(counts[word]), 'row')} ({share:.2g} %) among numbers is"
            " taken as missing"
        )
    if once:
        rows = cells[cells.isin(once)]
        named = ", ".join(
            f"{word!r} in row {row + 1}" for row, word in zip(rows.index[:5], rows[:5], strict=True)
        )
        more = f" and {len(rows) - 5} more" if len(rows) > 5 else ""
        notes.append(f"{named}{more} among numbers taken as missing")
    return notes
