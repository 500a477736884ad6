"""How much each task belongs to each group: a heat map with the numbers in it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from polytask.report import svg
from polytask.report.figures.panels import drawn
from polytask.report.formats import clean, short_names

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["membership_figures"]

#: Most groups whose memberships are written into the cells; beyond them cells are too narrow.
MOST_WRITTEN = 24
#: Most tasks in one figure; more go to further ones.
MOST_TASKS = 60


@drawn
def membership_figures(
    tasks: Sequence[str], memberships: Sequence[Sequence[float]], key: str = "memberships"
) -> list[str]:
    """Heat maps of memberships, tasks as rows and groups as columns, as the paper's figures 4 and
    5; 60 tasks in each.

    Args:
        tasks: Names.
        memberships: ``[T][m]`` in [0, 1].
        key: Unique in the page.
    """
    values = np.array(memberships, dtype=float)
    return [
        _figure(tasks[start : start + MOST_TASKS], values[start : start + MOST_TASKS], key, start)
        for start in range(0, len(tasks), MOST_TASKS)
    ]


def _figure(tasks: Sequence[str], values: np.ndarray, key: str, start: int) -> str:
    count, groups = values.shape
    written = groups <= MOST_WRITTEN
    across = 46 if groups <= 12 else 36 if written else max(9, 860 / groups)
    down = 26 if count <= 40 else 18
    names = short_names(tasks, 34)
    left = 20 + 6.3 * max(len(name) for name in names.values())
    figure = svg.new_figure(left + across * groups + 90, 54 + down * max(count, 6))
    width, height = (float(v) * svg.UNITS_PER_INCH for v in figure.get_size_inches())
    tall = down * count / height
    axes = figure.add_axes((left / width, 1 - 44 / height - tall, across * groups / width, tall))
    axes.imshow(_tint(values), interpolation="none", aspect="auto")
    step = 1 if written else 5
    axes.set_xticks(range(0, groups, step), [str(j + 1) for j in range(0, groups, step)])
    axes.set_yticks(range(count), list(names.values()))
    axes.tick_params(length=0, labelcolor=svg.INK)
    axes.xaxis.tick_top()
    axes.set_xlabel("group")
    axes.xaxis.set_label_position("top")
    if written:
        font = 10 if across > 40 and down > 20 else 9
        for row, column in np.ndindex(count, groups):
            text = f"{values[row, column]:.2f}"
            axes.text(column, row, text, ha="center", va="center", fontsize=font)
    _legend(figure, left=left + across * groups + 20, top=44, tall=min(150, down * max(count, 4)))
    label = (
        f"Memberships of {count} tasks in {groups} groups, each row sums to 1. Largest: "
        + "; ".join(
            f"{name} {value:.2f} in group {group + 1}"
            for name, value, group in zip(
                names.values(), values.max(1), values.argmax(1), strict=True
            )
        )
        + "."
    )
    full = {label: clean(name) for name, label in names.items()}
    return svg.to_svg(figure, key=f"{key}{start}", label=label, full_names=full)


def _tint(values: np.ndarray) -> np.ndarray:
    """Colours ``[..., 4]``: the more, the bluer; at most 0.8, as in the heat maps of cosines."""
    blue = np.broadcast_to(np.array([0.22, 0.52, 0.86]), (*values.shape, 3))
    return np.concatenate([blue, 0.8 * np.clip(values, 0, 1)[..., None]], axis=-1)


def _legend(figure: Figure, *, left: float, top: float, tall: float) -> None:
    """The scale of the colours; the place is in CSS pixels."""
    width, height = (float(v) * svg.UNITS_PER_INCH for v in figure.get_size_inches())
    axes = figure.add_axes((left / width, 1 - (top + tall) / height, 14 / width, tall / height))
    scale = _tint(np.linspace(1, 0, 33)[:, None])
    axes.imshow(scale, interpolation="none", aspect="auto", extent=(0, 1, 0, 1))
    axes.set_xticks([])
    axes.yaxis.tick_right()
    axes.set_yticks([0, 0.5, 1], ["0", "0.5", "1"])
    axes.tick_params(length=0)
