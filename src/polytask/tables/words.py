"""Small words of tables: what people write where nothing is known, and counts in sentences."""

from __future__ import annotations

__all__ = ["MISSING_WORDS", "count_of"]

#: In lower case. Among numbers or dates these are no values.
MISSING_WORDS = frozenset(
    {
        "unknown",
        "unkn",
        "unk",
        "missing",
        "none",
        "null",
        "nil",
        "nan",
        "na",
        "n/a",
        "n.a.",
        "n.a",
        "#n/a",
        "#na",
        "#value!",
        "#div/0!",
        "#ref!",
        "#name?",
        "#num!",
        "not available",
        "not applicable",
        "not known",
        "not reported",
        "not recorded",
        "not specified",
        "no data",
        "nodata",
        "undefined",
        "unspecified",
        "tbd",
        "tba",
        "?",
        "??",
        "-",
        "--",
        "---",
        "–",
        "—",
        ".",
        "..",
        "...",
        "…",
        "*",
        "k.a.",
        "s.d.",
        "nd",
        "n.d.",
        "0000-00-00",
        "0000-00-00 00:00:00",
        "00/00/0000",
    }
)


def count_of(count: int, thing: str) -> str:
    """``1 row``, ``2 rows``."""
    return f"{count:,} {thing}{'' if count == 1 else 's'}"
