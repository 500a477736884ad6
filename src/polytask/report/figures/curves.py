"""Training and validation loss over the epochs."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from polytask.report import svg
from polytask.report.data import Curve, ReportData
from polytask.report.figures.panels import drawn, grid
from polytask.report.formats import clean, number, short_names, shorten
from polytask.report.lines import known, mean_line, thinned

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["curve_figures"]

PANELS = 3


@drawn
def curve_figures(data: ReportData) -> list[str]:
    """Training and validation loss over the epochs, a panel per candidate."""
    runs: dict[str, list[Curve]] = defaultdict(list)
    for curve in data.curves:
        if curve.epochs:
            runs[curve.candidate].append(curve)
    candidates = [row.name for row in data.candidates if runs[row.name]]
    if not candidates:
        return []
    curves = [curve for candidate in candidates for curve in runs[candidate]]
    values = [v for c in curves for v in (*c.train, *c.validation) if math.isfinite(v)]
    limits = _curve_limits(values)
    titles = short_names(candidates, 34)
    figure, panels = grid(len(candidates), PANELS, panel_height=190)
    words = []
    for index, (name, axes) in enumerate(zip(candidates, panels, strict=True)):
        end = _draw_curves(axes, runs[name], with_labels=index == 0)
        axes.set_title(titles[name], loc="left", fontweight="bold")
        axes.set_xlabel("epoch", color=svg.MUTED)
        axes.set_ylim(*limits)
        axes.grid(axis="y", alpha=0.6)
        words.append(f"{shorten(name)} ends at a validation loss of {number(end, 3)}")
    label = f"Training and validation loss over the epochs: {'; '.join(words)}."
    full = {label: clean(name) for name, label in titles.items()}
    return [svg.to_svg(figure, key="curves", label=label, full_names=full)]


def _curve_limits(values: Sequence[float]) -> tuple[float, float]:
    """The first epochs of a bad start may leave the axis, so that the rest can be read."""
    low, typical, high = np.quantile(values, [0.0, 0.5, 0.98]) if values else (0.0, 1.0, 1.0)
    high = min(high, max(4 * typical, 1e-12)) if typical > 0 else high
    pad = 0.06 * (high - low) or 1.0
    return float(low - pad), float(high + pad)


def _draw_curves(axes: Axes, runs: Sequence[Curve], *, with_labels: bool) -> float:
    """Thin lines for the seeds, thick ones for their mean; returns the last validation loss."""
    end = float("nan")
    training = [known(run.epochs, run.train) for run in runs]
    validation = [known(run.epochs, run.validation) for run in runs]
    for label, all_lines, colour, style in (
        ("training", training, svg.SERIES[1], (0, (4, 2))),
        ("validation", validation, svg.SERIES[0], "-"),
    ):
        lines = [line for line in all_lines if len(line[0])]
        if not lines:
            continue
        for line in lines if len(lines) > 1 else []:
            axes.plot(*thinned(line), color=colour, alpha=0.35, linewidth=0.8)
        mean = mean_line(lines)
        axes.plot(*thinned(mean), color=colour, linewidth=2, linestyle=style, label=label)
        end = float(mean[1][-1])
    if with_labels:
        axes.legend(frameon=False, labelcolor=svg.INK, fontsize=10, loc="upper right")
    return end
