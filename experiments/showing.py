"""How all experiments show what they found: intervals, tables, figures."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from polytask.evaluation.scores import Interval, interval, relative_gains

COLOURS = (
    "#4c72b0", "#dd8452", "#55a868", "#c44e52", "#8172b3", "#937860",
    "#da8bc3", "#8c8c8c", "#ccb974", "#64b5cd", "#1b6e3c", "#7a1f5c",
)  # fmt: skip


def delta_m(scores: np.ndarray, baseline: int, *, higher_is_better: bool) -> np.ndarray:
    """Delta_m in per cent ``[C, S]``: mean over tasks of the gain relative to the baseline's score.

    Args:
        scores: ``[C, S, T]``, of candidates, seeds and tasks; NaN where a run is missing, which
            makes Delta_m of that candidate and seed NaN.
        baseline: Index of the candidate that gains are relative to.
        higher_is_better: Of all tasks.
    """
    better = np.full(scores.shape[-1], higher_is_better)
    gains: np.ndarray = 100 * relative_gains(scores, baseline, better).mean(-1)
    return gains


def shown(values: Iterable[float] | Interval, digits: int = 2, *, overlap: float = 0.0) -> str:
    """``mean ± half width of the 95 % interval`` over seeds."""
    found = values if isinstance(values, Interval) else interval(list(values), overlap=overlap)
    if np.isnan(found.low):
        return f"{found.mean:.{digits}f}"
    return f"{found.mean:.{digits}f} ± {found.half_width:.{digits}f}"


def table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A Markdown table."""
    lines = ["| " + " | ".join(map(str, row)) + " |" for row in (header, *rows)]
    lines.insert(1, "|" + " --- |" * len(header))
    return "\n".join(lines)


def canvas(
    rows: int = 1, columns: int = 1, *, width: float = 5.0, height: float = 4.0
) -> tuple[Figure, np.ndarray]:
    """A figure and its axes ``[rows, columns]``."""
    figure = Figure(figsize=(width * columns, height * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    for ax in axes.flat:
        ax.spines[["top", "right"]].set_visible(False)
    return figure, axes


def label(ax: Axes, title: str, x: str, y: str) -> None:
    """Title and axis labels."""
    ax.set_title(title, fontsize=10)
    ax.set_xlabel(x)
    ax.set_ylabel(y)
