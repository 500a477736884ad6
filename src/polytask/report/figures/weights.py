"""How a balancer shares the weight among the tasks, over the epochs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from polytask.report import svg
from polytask.report.data import ReportData, WeightHistory
from polytask.report.figures.panels import drawn, grid
from polytask.report.formats import clean, short_names, shorten
from polytask.report.lines import known, mean_line, thinned

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["moving_weights", "weight_figures"]

PANELS = 2
#: Tasks that are named; the other lines stay grey.
NAMED_LINES = 6
#: A task's share of the weight moves if it changes by more than this times its equal share.
LEAST_MOVE = 0.01
MOST_POINTS = 40


def moving_weights(data: ReportData) -> dict[str, tuple[np.ndarray, dict[str, np.ndarray]]]:
    """Per candidate whose weights move: epochs, and each task's share, mean over the seeds."""
    runs: dict[str, list[WeightHistory]] = defaultdict(list)
    for history in data.weights:
        if len(history.epochs) > 1 and len(history.weights) > 1:
            runs[history.candidate].append(history)
    found = {}
    for row in data.candidates:
        if not runs[row.name]:
            continue
        shares = [_shares(history) for history in runs[row.name]]
        tasks = list(runs[row.name][0].weights)
        lines = {
            task: mean_line([(x, values[task]) for x, values in shares if task in values])
            for task in tasks
        }
        moves = max(float(np.ptp(values)) for _, values in lines.values())
        if moves > LEAST_MOVE / len(tasks):
            epochs = lines[tasks[0]][0]
            found[row.name] = (epochs, {task: values for task, (_, values) in lines.items()})
    return found


def _shares(history: WeightHistory) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Weights divided by the sum of their sizes; epochs without a weight lie between the others."""
    x = np.asarray(history.epochs, dtype=float)
    filled = {}
    for task, values in history.weights.items():
        places, found = known(history.epochs, values)
        filled[task] = np.interp(x, places, found) if len(places) else np.zeros_like(x)
    total = np.sum([np.abs(values) for values in filled.values()], axis=0)
    return x, {task: values / np.where(total > 0, total, 1) for task, values in filled.items()}


@drawn
def weight_figures(data: ReportData) -> list[str]:
    """Share of every task over the epochs, a panel per candidate whose weights move."""
    moving = moving_weights(data)
    if not moving:
        return []
    names = short_names((task.name for task in data.tasks), 20)
    titles = short_names(moving, 40)
    figure, panels = grid(len(moving), PANELS, panel_height=230, right=130)
    words = []
    for (candidate, (epochs, shares)), axes in zip(moving.items(), panels, strict=True):
        _draw_weights(axes, epochs, shares, names)
        axes.set_title(titles[candidate], loc="left", fontweight="bold")
        axes.set_xlabel("epoch", color=svg.MUTED)
        top = max(shares, key=lambda task: float(shares[task][-1]))
        words.append(f"{shorten(candidate)} ends with most weight on {shorten(top)}")
    full = {label: clean(name) for name, label in [*names.items(), *titles.items()]}
    label = f"Share of each task in the weight over the epochs: {'; '.join(words)}."
    return [svg.to_svg(figure, key="weights", label=label, full_names=full)]


def _draw_weights(
    axes: Axes, epochs: np.ndarray, shares: Mapping[str, np.ndarray], names: Mapping[str, str]
) -> None:
    ranked = sorted(shares, key=lambda task: float(shares[task][-1]), reverse=True)
    named = ranked
    if len(ranked) > NAMED_LINES:
        named = ranked[: NAMED_LINES // 2] + ranked[-NAMED_LINES // 2 :]
    for task in ranked:
        if task not in named:
            line = thinned((epochs, shares[task]), MOST_POINTS)
            axes.plot(*line, color=svg.MUTED, alpha=0.35, linewidth=0.8)
    axes.axhline(1 / len(shares), color=svg.MUTED, linewidth=1, dashes=(2, 2))
    for task, colour in zip(named, svg.SERIES, strict=False):
        axes.plot(*thinned((epochs, shares[task])), color=colour, linewidth=1.8)
    axes.margins(x=0.01, y=0.08)
    axes.grid(axis="y", alpha=0.6)
    low, high = axes.get_ylim()
    ends = [float(shares[task][-1]) for task in named]
    places = _spread(ends, 0.075 * (high - low), low, high)
    for task, colour, y in zip(named, svg.SERIES, places, strict=False):
        axes.text(
            1.015, y, names[task], transform=axes.get_yaxis_transform(), color=colour, va="center",
            fontsize=10,
        )  # fmt: skip


def _spread(values: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Places for labels near falling values, at least a gap apart, inside the axis if they fit."""
    places: list[float] = []
    for value in values:
        places.append(min(value, places[-1] - gap) if places else min(value, high))
    below = low - places[-1] if places else 0.0
    if below > 0:
        places = [place + below for place in places]
        for index in range(len(places) - 2, -1, -1):
            places[index] = max(values[index], places[index + 1] + gap)
    return places
