"""Gain per task and candidate: forest plots."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from polytask.report import svg
from polytask.report.data import Estimate, ReportData
from polytask.report.figures.panels import WIDTH, drawn
from polytask.report.formats import clean, short_names, shorten, signed

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["gain_figures"]

PANELS = 6


@drawn
def gain_figures(data: ReportData) -> list[str]:
    """Forest plots: a panel per candidate, a row per task, a last row for all tasks."""
    gains: dict[str, dict[str, Estimate]] = defaultdict(dict)
    for gain in data.gains:
        if gain.estimate.known:
            gains[gain.candidate][gain.task] = gain.estimate
    totals = {row.name: row.gain for row in data.candidates}
    candidates = [row.name for row in data.candidates if gains.get(row.name)]
    if not candidates:
        return []
    order = _by_mean_gain(data, gains)
    limits = _gain_limits([e for rows in gains.values() for e in rows.values()])
    drawn = []
    for start in range(0, len(candidates), PANELS):
        panels = {
            name: (gains[name], totals.get(name, Estimate()))
            for name in candidates[start : start + PANELS]
        }
        drawn.append(_forest(panels, order, limits, key=f"gains{start}"))
    return drawn


def _by_mean_gain(data: ReportData, gains: Mapping[str, Mapping[str, Estimate]]) -> list[str]:
    """Tasks from the most gained to the most lost, on the mean over the candidates."""

    def mean(task: str) -> float:
        known = [rows[task].mean for rows in gains.values() if task in rows]
        return sum(known) / len(known) if known else -math.inf

    return sorted((task.name for task in data.tasks), key=mean, reverse=True)


def _gain_limits(estimates: Sequence[Estimate]) -> tuple[float, float]:
    """Axis limits that one very long interval or very large gain cannot spoil for the others."""
    means = np.array([e.mean for e in estimates])
    ends = np.array([x for e in estimates if e.has_interval for x in (e.low, e.high)])
    typical = float(np.quantile(np.abs(means), 0.9)) or float(np.abs(means).max()) or 1.0
    most = min(float(np.abs(means).max()), 4 * typical)
    if len(ends):
        most = max(most, min(float(np.quantile(np.abs(ends), 0.9)), 3 * max(most, typical)))
    low = min(float(means.min()), float(ends.min()) if len(ends) else 0.0, 0.0)
    high = max(float(means.max()), float(ends.max()) if len(ends) else 0.0, 0.0)
    pad = 0.08 * (min(high, most) - max(low, -most)) or 1.0
    return max(low, -most) - pad, min(high, most) + pad


def _forest(
    panels: Mapping[str, tuple[Mapping[str, Estimate], Estimate]],
    order: Sequence[str],
    limits: tuple[float, float],
    *,
    key: str,
) -> str:
    row = 24 if len(order) <= 15 else 19 if len(order) <= 40 else 15
    font = 11 if row > 15 else 10
    names = short_names(order)
    titles = short_names(panels, 22 if len(panels) > 3 else 40)
    left = 20 + 6.3 * max(len(label) for label in [*names.values(), "all tasks"]) * font / 11
    height = 34 + row * (len(order) + 1) + 44
    figure = svg.new_figure(WIDTH, height)
    width = min((WIDTH - left) / len(panels), 420)
    for index, (name, (rows, total)) in enumerate(panels.items()):
        axes = figure.add_axes(
            (
                (left + index * width) / WIDTH,
                44 / height,
                (width - 22) / WIDTH,
                (height - 78) / height,
            )
        )
        _forest_rows(axes, [*(rows.get(task, Estimate()) for task in order), total], limits, row)
        axes.set_title(titles[name], loc="left", fontweight="bold", pad=8)
        axes.set_xlabel("gain, %", color=svg.MUTED)
        axes.locator_params(axis="x", nbins=5)
    for y, label in enumerate([*names.values(), "all tasks"]):
        place = 1 - (34 + row * (y + 0.5)) / height
        figure.text((left - 8) / WIDTH, place, label, ha="right", va="center", fontsize=font)
    described = "; ".join(_gain_words(name, rows, total) for name, (rows, total) in panels.items())
    full = {label: clean(name) for name, label in [*names.items(), *titles.items()]}
    label = f"Gain per task over single-task learning: {described}."
    return svg.to_svg(figure, key=key, label=label, full_names=full)


def _forest_rows(
    axes: Axes, rows: Sequence[Estimate], limits: tuple[float, float], row: int
) -> None:
    """Intervals and means from top to bottom; the last row is the mean over all tasks."""
    low, high = limits
    last = len(rows) - 1
    axes.set(xlim=limits, ylim=(last + 0.5, -0.5), yticks=[])
    axes.spines["left"].set_visible(False)
    # A unit of the figure is a point, so that a line as wide as a row is high is a band.
    axes.hlines(range(0, last, 2), low, high, color=svg.BAND, linewidth=row, zorder=0)
    axes.axvline(0, color=svg.MUTED, linewidth=1, zorder=1)
    axes.axhline(last - 0.5, color=svg.LINE, linewidth=0.8, zorder=1)
    for mark, colour, face in MARKS:
        found = [(y, e) for y, e in enumerate(rows) if e.known and _mark(e) == mark]
        spans = [(y, e) for y, e in found if e.has_interval]
        if spans:
            ends = np.clip([(e.low, e.high) for _, e in spans], low, high)
            widths = [2.4 if y == last else 1.4 for y, _ in spans]
            axes.hlines([y for y, _ in spans], *ends.T, color=colour, linewidth=widths, zorder=2)
        arrows = {"<": [(low, y) for y, e in found if _ends(e)[0] < low]}
        arrows[">"] = [(high, y) for y, e in found if _ends(e)[1] > high]
        inside = [(e.mean, y) for y, e in found if low <= e.mean <= high]
        arrows[mark] = [point for point in inside if point[1] < last]
        arrows["D"] = [point for point in inside if point[1] == last]
        for shape, points in arrows.items():
            axes.plot(
                [x for x, _ in points], [y for _, y in points], shape, clip_on=False, zorder=3,
                markersize=5 if shape in "<>" else 6, markeredgewidth=1.4,
                markerfacecolor=colour if shape in "<>" else face, markeredgecolor=colour,
            )  # fmt: skip


#: Shape, colour and filling, so that colour is not needed to tell the three cases apart.
MARKS = (
    ("s", svg.WORSE, svg.WORSE),
    ("o", svg.BETTER, svg.BETTER),
    ("h", svg.MUTED, svg.PAPER),
)


def _mark(estimate: Estimate) -> str:
    """The shape that says whether 0 is outside the interval."""
    if estimate.has_interval and estimate.low > 0:
        return "o"
    return "s" if estimate.has_interval and estimate.high < 0 else "h"


def _ends(estimate: Estimate) -> tuple[float, float]:
    """The interval, or the mean twice."""
    has_interval = estimate.has_interval
    return (estimate.low, estimate.high) if has_interval else (estimate.mean, estimate.mean)


def _gain_words(name: str, rows: Mapping[str, Estimate], total: Estimate) -> str:
    better = sum(e.has_interval and e.low > 0 for e in rows.values())
    worse = sum(e.has_interval and e.high < 0 for e in rows.values())
    mean = f"{signed(total.mean)} % over all tasks, " if total.known else ""
    return f"{shorten(name)}: {mean}{better} of {len(rows)} tasks better, {worse} worse"
