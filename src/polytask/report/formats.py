"""Numbers and names as a reader wants them: rounded, with units, short, in clean characters."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Iterable, Sequence

from polytask.report.data import Estimate

__all__ = [
    "clean",
    "count",
    "duration",
    "half_width",
    "interval",
    "lines",
    "listing",
    "number",
    "percent",
    "probability",
    "short_names",
    "shorten",
    "signed",
    "size",
]

MISSING = "–"
MINUS = "\N{MINUS SIGN}"
#: Categories of Unicode that draw nothing and may break XML or turn the direction of other text.
UNSEEN = {"Cc", "Cf", "Cs", "Co", "Cn"}
#: A joiner holds emoji and words of several scripts together; it is harmless.
JOINERS = {"\N{ZERO WIDTH JOINER}", "\N{ZERO WIDTH NON-JOINER}"}


def clean(text: object) -> str:
    """Text on one line without control characters, direction marks and lone surrogates."""
    words = " ".join(str(text).split())
    return "".join(
        c if c in JOINERS or unicodedata.category(c) not in UNSEEN else "\N{REPLACEMENT CHARACTER}"
        for c in words
    )


def lines(text: object, most: int = 4000) -> str:
    """Text of several lines, each clean; of a very long text the end, where errors say most."""
    whole = "\n".join(
        "".join(c if c == "\t" or unicodedata.category(c) not in UNSEEN else " " for c in line)
        for line in str(text).splitlines()
    )
    return whole if len(whole) <= most else f"…{whole[-most:]}"


def shorten(text: object, width: int = 48) -> str:
    """At most ``width`` characters; the middle is left out, because ends often tell names apart."""
    name = clean(text)
    if len(name) <= width:
        return name
    tail = (width - 1) // 3
    return f"{name[: width - 1 - tail]}…{name[len(name) - tail :]}"


def short_names(names: Iterable[str], width: int = 28) -> dict[str, str]:
    """A short name for each name; those that become equal are numbered."""
    taken: set[str] = set()
    labels = {}
    for name in names:
        label = shorten(name, width)
        turn = 2
        while label in taken:
            label = f"{shorten(name, width - 5)} ({turn})"
            turn += 1
        taken.add(label)
        labels[name] = label
    return labels


def number(value: float, digits: int = 4) -> str:
    """A number with so many significant digits, without an exponent where that stays short."""
    if not math.isfinite(value):
        return MISSING
    if value == 0:
        return "0"
    exponent = math.floor(math.log10(abs(value)))
    if -4 <= exponent < 9:
        text = f"{value:,.{max(0, digits - 1 - exponent)}f}"
    else:
        text = f"{value:.{digits - 1}e}"
    return text.replace("-", MINUS)


def signed(value: float, decimals: int = 2) -> str:
    """A number with its sign."""
    return f"{value:+,.{decimals}f}".replace("-", MINUS) if math.isfinite(value) else MISSING


def percent(value: float, decimals: int = 1) -> str:
    """A number that is a percentage already."""
    return f"{value:.{decimals}f}".replace("-", MINUS) if math.isfinite(value) else MISSING


def interval(estimate: Estimate) -> str:
    """``low to high``, or empty where there is no interval."""
    if not estimate.has_interval:
        return ""
    return f"{signed(estimate.low)} to {signed(estimate.high)}"


def half_width(estimate: Estimate, digits: int = 2) -> str:
    """``± half`` of a symmetric interval, or empty where there is none."""
    return (
        f"± {number((estimate.high - estimate.low) / 2, digits)}" if estimate.has_interval else ""
    )


def probability(value: float) -> str:
    """A p-value."""
    if not math.isfinite(value):
        return MISSING
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def count(value: float) -> str:
    """A whole number with commas."""
    return f"{round(value):,}" if math.isfinite(value) else MISSING


def duration(seconds: float) -> str:
    """A time in the unit that fits."""
    if not math.isfinite(seconds):
        return MISSING
    if seconds < 1:
        return f"{number(seconds * 1000, 3)} ms"
    if seconds < 100:
        return f"{number(seconds, 3)} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"


def size(num_bytes: float) -> str:
    """A number of bytes in MiB or GiB."""
    if not math.isfinite(num_bytes):
        return MISSING
    mebibytes = num_bytes / 2**20
    return (
        f"{number(mebibytes / 1024, 3)} GiB" if mebibytes >= 1024 else f"{number(mebibytes, 3)} MiB"
    )


def listing(items: Sequence[str], most: int = 5) -> str:
    """``a, b and c``; beyond ``most`` the rest is counted."""
    shown = [shorten(item) for item in items[:most]]
    if len(items) > most:
        return f"{', '.join(shown)} and {len(items) - most} more"
    return " and ".join([", ".join(shown[:-1]), shown[-1]]) if len(shown) > 1 else "".join(shown)
