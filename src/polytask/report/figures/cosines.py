"""Cosines between the tasks' gradients: heat maps."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from polytask.report import svg
from polytask.report.data import CosineMatrix, ReportData
from polytask.report.figures.panels import drawn
from polytask.report.formats import MINUS, clean, number, short_names, shorten

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["conflicts", "cosine_figures"]

#: Most tasks whose cosines are written into the cells.
MOST_WRITTEN = 15


@drawn
def cosine_figures(data: ReportData) -> list[str]:
    """Heat maps of the cosines between the tasks' gradients, with numbers for up to 15 tasks."""
    return [
        _cosines(cosines, key=f"cosines{index}")
        for index, cosines in enumerate(data.cosines)
        if len(cosines.tasks) > 1
    ]


def _cosines(cosines: CosineMatrix, *, key: str) -> str:
    count = len(cosines.tasks)
    matrix = np.array(cosines.matrix, dtype=float)
    cell = 46 if count <= 10 else 36 if count <= MOST_WRITTEN else max(9, 540 / count)
    font = 11 if cell > 12 else 8
    names = short_names(cosines.tasks, 26)
    margin = 20 + 6.3 * font / 11 * max(len(name) for name in names.values())
    side = cell * count
    figure = svg.new_figure(margin + side + 110, 14 + side + margin)
    width, height = (float(v) * svg.UNITS_PER_INCH for v in figure.get_size_inches())
    axes = figure.add_axes((margin / width, margin / height, side / width, side / height))
    axes.imshow(_tint(matrix), interpolation="none", aspect="auto")
    axes.set(xticks=[], yticks=[])
    for index, name in enumerate(names.values()):
        place = (index + 0.5) * cell
        figure.text(
            (margin + place) / width, (margin - 6) / height, name, rotation=90, ha="center",
            va="top", fontsize=font,
        )  # fmt: skip
        figure.text(
            (margin - 6) / width, (margin + side - place) / height, name, ha="right", va="center",
            fontsize=font,
        )  # fmt: skip
    if count <= MOST_WRITTEN:
        for row, column in np.ndindex(count, count):
            if math.isfinite(matrix[row, column]):
                text = f"{matrix[row, column]:.2f}".replace("-", MINUS)
                axes.text(column, row, text, ha="center", va="center", fontsize=10)
    _legend(figure, left=margin + side + 24, bottom=height - 164)
    pairs = conflicts(cosines)
    worst = "; ".join(f"{shorten(a)} and {shorten(b)} {number(c, 2)}" for a, b, c in pairs)
    label = (
        f"Cosines between the gradients of {count} tasks in {shorten(cosines.candidate)}."
        f" Lowest: {worst or 'none'}."
    )
    full = {label: clean(name) for name, label in names.items()}
    return svg.to_svg(figure, key=key, label=label, full_names=full)


def conflicts(cosines: CosineMatrix, most: int = 3) -> list[tuple[str, str, float]]:
    """The pairs of tasks with the lowest cosines."""
    return sorted(_pairs(cosines), key=lambda pair: pair[2])[:most]


def _pairs(cosines: CosineMatrix) -> Iterator[tuple[str, str, float]]:
    for i, first in enumerate(cosines.tasks):
        for j in range(i):
            if math.isfinite(cosines.matrix[i][j]):
                yield cosines.tasks[j], first, cosines.matrix[i][j]


def _tint(matrix: np.ndarray) -> np.ndarray:
    """Colours ``[..., 4]``: agreement blue, conflict orange, the nearer to 0 the more transparent.

    Transparency makes one picture serve a light and a dark page; 0.8 at most keeps the numbers on
    it legible.
    """
    blue, orange = np.array([0.22, 0.52, 0.86]), np.array([0.90, 0.47, 0.13])
    known = np.nan_to_num(np.clip(matrix, -1, 1))
    colour = np.where((known > 0)[..., None], blue, orange)
    return np.concatenate([colour, 0.8 * np.abs(known)[..., None]], axis=-1)


def _legend(figure: Figure, *, left: float, bottom: float) -> None:
    """The scale of the colours; the place is in CSS pixels."""
    width, height = (float(v) * svg.UNITS_PER_INCH for v in figure.get_size_inches())
    axes = figure.add_axes((left / width, bottom / height, 14 / width, 150 / height))
    scale = _tint(np.linspace(1, -1, 33)[:, None])
    axes.imshow(scale, interpolation="none", aspect="auto", extent=(0, 1, -1, 1))
    axes.set_xticks([])
    axes.yaxis.tick_right()
    axes.set_yticks([-1, 0, 1], [f"{MINUS}1", "0", "+1"])
    axes.tick_params(length=0)
