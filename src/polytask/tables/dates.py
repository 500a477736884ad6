"""Dates as people write them: which forms a text column uses, and the dates in it.

A form is a format of ``strptime``; a column that mixes forms has several, joined by ``|``. A cell
is read by the first form that fits it.
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

__all__ = ["DateReading", "days_since_1970", "find_dates", "note_years", "parse_dates"]

ISO = "ISO8601"
ISO_DATE = re.compile(
    r"\d{4}-\d{2}-\d{2}([ T]\d{2}:\d{2}(:\d{2}([.,]\d{1,9})?)?( ?(Z|[+-]\d{2}:?\d{2}))?)?"
)
MONTHS = (
    "jan(uary)?|feb(ruary)?|mar(ch)?|apr(il)?|may|june?|july?|aug(ust)?|sept?(ember)?|oct(ober)?"
    "|nov(ember)?|dec(ember)?"
)
MONTH = rf"(?:{MONTHS})\.?"
DAYS = r"(?:(?:mon|tues?|wed(?:nes)?|thu(?:rs?)?|fri|sat(?:ur)?|sun)(?:day)?\.?,? +)?"
#: Forms of the day. Where day and month cannot be told apart, the first order that reads every
#: value is taken and named in a note.
D = r"(?:[12]\d|3[01]|0?[1-9])"  # a day, or a month
DAY_FORMS: tuple[tuple[str, tuple[str, ...]], ...] = (
    (rf"\d{{4}}-{D}-{D}", ("%Y-%m-%d",)),
    (rf"\d{{4}}/{D}/{D}", ("%Y/%m/%d",)),
    (rf"\d{{4}}\.{D}\.{D}", ("%Y.%m.%d",)),
    (rf"{D}\.{D}\.\d{{4}}", ("%d.%m.%Y", "%m.%d.%Y")),
    (rf"{D}/{D}/\d{{4}}", ("%m/%d/%Y", "%d/%m/%Y")),
    (rf"{D}-{D}-\d{{4}}", ("%d-%m-%Y", "%m-%d-%Y")),
    (rf"{D}\.{D}\.\d{{2}}", ("%d.%m.%y", "%m.%d.%y")),
    (rf"{D}/{D}/\d{{2}}", ("%m/%d/%y", "%d/%m/%y")),
    (rf"{D}-{D}-\d{{2}}", ("%d-%m-%y", "%m-%d-%y")),
    (rf"\d{{2}}-{D}-{D}", ("%y-%m-%d",)),
    (rf"\d{{2}}/{D}/{D}", ("%y/%m/%d",)),
    (rf"{D}-{MONTH}-\d{{4}}", ("%d-%b-%Y",)),
    (rf"{D}-{MONTH}-\d{{2}}", ("%d-%b-%y",)),
    (rf"{D}\.? {MONTH},? \d{{4}}", ("%d %b %Y",)),
    (rf"{D}\.? {MONTH},? \d{{2}}", ("%d %b %y",)),
    (rf"{D}/{MONTH}/\d{{4}}", ("%d/%b/%Y",)),
    (rf"{D}{MONTH}\d{{4}}", ("%d%b%Y",)),
    (rf"{MONTH} {D}(?:st|nd|rd|th)?,? \d{{4}}", ("%b %d %Y",)),
    (rf"{MONTH}-{D}-\d{{4}}", ("%b-%d-%Y",)),
    (rf"\d{{4}}-{MONTH}-{D}", ("%Y-%b-%d",)),
    (r"\d{4}-(?:0[1-9]|1[0-2])", ("%Y-%m",)),
    (r"\d{4}/(?:0[1-9]|1[0-2])", ("%Y/%m",)),
    (r"(?:0?[1-9]|1[0-2])/\d{4}", ("%m/%Y",)),
    (rf"{MONTH}[ -]\d{{4}}", ("%b %Y",)),
    (rf"{MONTH}[ -]\d{{2}}", ("%b %y",)),
)
TIME_FORMS = (
    (r"", ""),
    (r"\d{1,2}:\d{2}", "%H:%M"),
    (r"\d{1,2}:\d{2}:\d{2}", "%H:%M:%S"),
    (r"\d{1,2}:\d{2}:\d{2}[.,]\d{1,9}", "%H:%M:%S.%f"),
    (r"\d{1,2}:\d{2} ?[ap]\.?m\.?", "%I:%M %p"),
    (r"\d{1,2}:\d{2}:\d{2} ?[ap]\.?m\.?", "%I:%M:%S %p"),
    (r"\d{1,2}:\d{2}:\d{2} ?(?:z|utc|gmt|[+-]\d{2}:?\d{2})", "%H:%M:%S %z"),
    (r"\d{1,2}:\d{2} ?(?:z|utc|gmt|[+-]\d{2}:?\d{2})", "%H:%M %z"),
    (r"\d{1,2} ?[ap]\.?m\.?", "%I %p"),
    (r"\d{1,2}\.\d{2}\.\d{2}", "%H.%M.%S"),
)
#: A column is one of dates if at least this share of its cells reads as dates.
MOSTLY_DATES = 0.9
#: A column in which this share of the cells is written like dates is at least noted.
PARTLY_DATES = 0.5
#: Different texts that are looked at before the whole column is.
FIRST_LOOK = 50
#: The years that nanoseconds since 1970 can hold; dates outside them are noted.
USUAL_YEARS = (1678, 2261)
MICROSECONDS_PER_DAY = 86_400_000_000


@dataclass(frozen=True)
class DateReading:
    """How a text column writes dates.

    Args:
        form: For ``parse_dates``; empty where the texts cannot be read as dates.
        note: What a reader should know; empty where nothing needs saying.
        odd: Number of cells among the dates that are none.
    """

    form: str
    note: str = ""
    odd: int = 0


def find_dates(cells: pd.Series[Any]) -> DateReading | None:
    """How the texts of a column, none of them missing, write dates; None if they write none.

    Cost: one pass over the different texts per form in use.
    """
    import pandas as pd

    words = pd.Series(pd.unique(cells), dtype="object")
    look = [w for w in words.head(FIRST_LOOK) if w.lower() not in MISSING_WORDS]
    dated = sum(_families(word) is not None for word in look)
    if not look or dated < PARTLY_DATES * len(look):
        return None
    counts = cells.value_counts().reindex(words).to_numpy()
    families = [_families(word) for word in words]
    used = sorted({family for family in families if family is not None})
    taken, ambiguous = _orders(words, families, used)
    form = "|".join(dict.fromkeys(taken))
    unread = parse_dates(words, form).isna().to_numpy()
    said = np.array([word.lower() in MISSING_WORDS for word in words])
    if counts[unread & ~said].sum() > (1 - MOSTLY_DATES) * counts[~said].sum():
        example = words[int((unread & ~said).argmax())]
        return DateReading(
            "",
            f"looks like dates in part, but {example!r} and others do not read as {form};"
            " write all of them as 2023-03-14",
        )
    notes = []
    if ambiguous:
        notes.append(
            f"looks like dates, read as {ambiguous}; day and month could be the other way round"
        )
    if len({max(family[0], 0) for family in used}) > 1:
        notes.append(f"looks like dates of mixed forms, read as {form.replace('|', ' and ')}")
    odd = [(str(w), int(n)) for w, n in zip(words[unread], counts[unread], strict=True)]
    if odd:
        notes.append(f"cells among dates are taken as missing: {_listed(odd)}")
    return DateReading(form, "; ".join(notes), sum(n for _, n in odd))


def parse_dates(values: pd.Series[Any], form: str) -> pd.Series[Any]:
    """Dates without time zone (others are brought to UTC); NaT where a value does not fit.

    Args:
        values: Texts, or dates already.
        form: ``ISO8601`` or a format of ``strptime``; several are joined by ``|``.
    """
    import pandas as pd
    from pandas.api import types

    if types.is_datetime64_any_dtype(values):
        return values
    if form == ISO:
        parsed = pd.to_datetime(values, format=ISO, utc=True, errors="coerce")
        return parsed.dt.tz_localize(None).astype("datetime64[us]")
    codes, words = pd.factorize(values, use_na_sentinel=True)
    texts = pd.Series([str(word) for word in words], dtype="object")
    plain = texts.map(_plain)
    found = np.full(len(texts) + 1, "NaT", dtype="datetime64[us]")  # code -1: a missing cell
    for one in form.split("|"):
        left = np.isnat(found[:-1])
        if not left.any():
            break
        spelled = (texts if one == ISO else plain)[left]
        parsed = pd.to_datetime(spelled, format=one, utc=True, errors="coerce")
        found[:-1][left] = parsed.dt.tz_localize(None).to_numpy(dtype="datetime64[us]")
    return pd.Series(found[codes], index=values.index)


def days_since_1970(dates: pd.Series[Any]) -> np.ndarray:
    """Days ``[N]`` as floats, NaN for a missing date; any year."""
    import pandas as pd

    try:
        days = (dates - pd.Timestamp(0)) / pd.Timedelta(days=1)
    except pd.errors.OutOfBoundsDatetime:
        # Nanoseconds since 1970 end in the years 1677 and 2262.
        cells = dates.to_numpy(dtype="datetime64[us]")
        counted = cells.view("int64") / MICROSECONDS_PER_DAY
        return np.where(np.isnat(cells), np.nan, counted)
    return days.to_numpy(dtype=np.float64)


def note_years(dates: pd.Series[Any]) -> str:
    """A note about years that stand for "never" or are slips; empty where there are none."""
    years = dates.dt.year
    unusual = ((years < USUAL_YEARS[0]) | (years > USUAL_YEARS[1])).to_numpy()
    if not unusual.any():
        return ""
    row = int(unusual.argmax())
    date = str(dates.iloc[row])[:10]
    return (
        f"{count_of(int(unusual.sum()), 'date')} outside 1678 to 2261"
        f" ({date} in row {dates.index[row] + 1}): missing?"
    )


def _plain(text: str) -> str:
    """A date in the spelling that the formats know: ``3. Sept, 2021 6:05 p.m.`` as ``3 sep 2021
    6:05 pm``.
    """
    text = " ".join(str(text).split()).lower()
    if any(letter.isalpha() for letter in text):
        text = _WEEKDAY.sub("", text)
        text = _MONTH_NAME.sub(lambda m: m.group(0)[:3], text)
        text = re.sub(r"(\d)(st|nd|rd|th)\b", r"\1", text)
        text = re.sub(r"\b([ap])\.?m\b\.?", r"\1m", text)
        text = re.sub(r"(\d)([ap]m)\b", r"\1 \2", text)
        text = re.sub(r"^([a-z]{3})[ -](\d{2}|\d{4})$", r"\1 \2", text)
        text = re.sub(r"(\d)t(\d)", r"\1 \2", text)
        text = re.sub(r" ?(z|utc|gmt)$", " +0000", text)
    text = re.sub(r"(:\d{2}(?:[.]\d+)?)([+-]\d{2}:?\d{2})$", r"\1 \2", text)
    text = re.sub(r"(:\d{2}),(\d+)", r"\1.\2", text)
    return re.sub(r"(?<=[a-z\d])[.,](?= )", "", text)


_WEEKDAY = re.compile(rf"^{DAYS}", re.IGNORECASE)
_MONTH_NAME = re.compile(rf"(?<![a-z])({MONTHS})(?![a-z])", re.IGNORECASE)
_DAY_PATTERNS = tuple(re.compile(DAYS + form, re.IGNORECASE) for form, _ in DAY_FORMS)
_TIME_PATTERNS = tuple(
    re.compile(rf"(?:[ T]|, ){form}" if form else "", re.IGNORECASE) for form, _ in TIME_FORMS
)
ISO_FAMILY = (-1, 0)


@functools.lru_cache(maxsize=4096)
def _families(text: str) -> tuple[int, int] | None:
    """Which form of day and which form of time a text has; None if it is no date."""
    text = " ".join(text.split())
    if len(text) > 40 or not any(letter.isdigit() for letter in text):
        return None
    if ISO_DATE.fullmatch(text):
        return ISO_FAMILY
    for day, pattern in enumerate(_DAY_PATTERNS):
        begun = pattern.match(text)
        if begun is None:
            continue
        rest = text[begun.end() :]
        for time, form in enumerate(_TIME_PATTERNS):
            if form.fullmatch(rest):
                return day, time
    return None


def _orders(
    words: pd.Series[Any],
    families: list[tuple[int, int] | None],
    used: list[tuple[int, int]],
) -> tuple[list[str], str]:
    """A format for every family in use, and those whose order of day and month is a guess.

    Families share an order where they can: a column rarely writes days first with slashes and
    months first with dashes.
    """
    readable: dict[tuple[int, int], list[str]] = {}
    for family in used:
        if family == ISO_FAMILY:
            readable[family] = [ISO]
            continue
        own = words[[f == family for f in families]]
        time = TIME_FORMS[family[1]][1]
        forms = [f"{day} {time}".strip() for day in DAY_FORMS[family[0]][1]]
        shares = [float(parse_dates(own, form).notna().mean()) for form in forms]
        best = max(shares)
        readable[family] = [f for f, share in zip(forms, shares, strict=True) if share == best]
    settled = {_order(forms[0]) for forms in readable.values() if len(forms) == 1} - {""}
    taken, guessed = [], []
    for family in used:
        forms = readable[family]
        fitting = [f for f in forms if _order(f) in settled] if len(settled) == 1 else []
        taken.append((fitting or forms)[0])
        # With dots the day stands first wherever people write so.
        if len(forms) > 1 and not fitting and not forms[0].startswith("%d."):
            guessed.append(taken[-1])
    return taken, " and ".join(guessed)


def _order(form: str) -> str:
    """``dmy``, ``mdy`` or ``ymd``; empty where the form leaves no doubt by itself."""
    letters = re.findall(r"%([dmyY])", form)
    return "".join(letters).lower() if len(letters) == 3 and letters[0] != "Y" else ""


def _listed(odd: list[tuple[str, int]]) -> str:
    return ", ".join(f"{w!r} ({count_of(n, 'row')})" for w, n in odd[:4]) + (
        ", ..." if len(odd) > 4 else ""
    )
