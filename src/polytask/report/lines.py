"""Lines that several runs draw: gaps left out, averaged, and thinned to what an eye can see."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

__all__ = ["Line", "known", "mean_line", "thinned"]

#: Places ``[N]``, rising, and the values ``[N]`` there.
Line = tuple[np.ndarray, np.ndarray]


def known(places: Sequence[float] | np.ndarray, values: Sequence[float | None]) -> Line:
    """The places that have a finite value."""
    x, y = np.asarray(places, dtype=float), np.asarray(values, dtype=float)
    finite = np.isfinite(y)
    return x[finite], y[finite]


def mean_line(lines: Sequence[Line]) -> Line:
    """Mean of lines on the union of their places; a line that has ended keeps its last value."""
    places = np.unique(np.concatenate([x for x, _ in lines]))
    return places, np.mean([np.interp(places, x, y) for x, y in lines], axis=0)


def thinned(line: Line, most: int = 120) -> Line:
    """At most so many points, first and last included."""
    x, y = line
    if len(x) <= most:
        return line
    keep = np.unique(np.linspace(0, len(x) - 1, most).round().astype(int))
    return x[keep], y[keep]
