"""Words that differ only in case or spaces: ``Yes``, ``yes`` and ``YES``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["fold", "folded", "spelling_notes"]


def fold(word: str) -> str:
    """The word in lower case with single spaces."""
    return " ".join(word.split()).casefold()


def folded(cells: pd.Series[Any], *, like_most: bool = False) -> pd.Series[Any]:
    """Texts of which those that differ only in case or spaces are equal; missing ones stay.

    Args:
        cells: Texts.
        like_most: Whether each is spelled as most of its kind are (for people); otherwise all are
            in lower case, which needs no other cell.
    """
    import pandas as pd

    counts = cells.value_counts()
    spelled: dict[str, str] = {}
    for word in sorted(counts.index, key=lambda w: (-counts[w], w)):
        spelled.setdefault(fold(word), word)
    words: Mapping[str, str] = {
        word: spelled[fold(word)] if like_most else fold(word) for word in counts.index
    }
    found = [words.get(word) if isinstance(word, str) else None for word in cells]
    return pd.Series(found, index=cells.index, dtype="object")


def spelling_notes(what: str, cells: pd.Series[Any]) -> list[str]:
    """A note if words of a column differ only in case or spaces.

    Args:
        what: Of the sentence: ``classes of target answer``.
        cells: Texts without missing ones.
    """
    groups: dict[str, list[str]] = {}
    for word in cells.unique():
        groups.setdefault(fold(str(word)), []).append(str(word))
    alike = sorted((sorted(words) for words in groups.values() if len(words) > 1), key=str)
    if not alike:
        return []
    shown = "; ".join(" = ".join(map(repr, words[:4])) for words in alike[:3])
    more = f" and {len(alike) - 3} more" if len(alike) > 3 else ""
    return [f"{what} differ only in case or spaces: {shown}{more}; --fold-case makes them one"]
