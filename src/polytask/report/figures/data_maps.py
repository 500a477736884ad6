"""A data map as a scatter plot, as figure 2 of STG-MTL and figure 1 of Dataset Cartography.

Shape legend: N examples.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from polytask.files import write_atomically
from polytask.report import svg
from polytask.report.formats import clean, count, short_names, shorten

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["data_map_figure", "save_data_map_figure"]

WIDTH, HEIGHT = 620, 420
LEFT, BOTTOM, RIGHT, TOP = 60, 50, 150, 38
#: Points that are drawn one by one; of more a random part is.
MOST_POINTS = 3000
#: Cells of the density in each direction, and steps of its opacity.
CELLS, LEVELS = 48, 8
#: Classes with a colour of their own; the others share the last one.
MARKS = ("o", "^", "s", "D", "v", "P")
#: Height in the map and name of its regions (Swayamdipta et al., section 3).
REGIONS = ((0.97, "easy to learn"), (0.5, "ambiguous"), (0.03, "hard to learn"))

Paint = Callable[[str], str]


def data_map_figure(
    points: np.ndarray,
    task: str,
    *,
    deviation: str = "population",
    classes: Sequence[object] | None = None,
    key: str = "datamap",
) -> str:
    """Mean confidence of every example over its deviation, as SVG for an HTML page.

    Args:
        points: Mean and deviation of every example's confidence ``[N, 2]``, NaN where there are
            none (``DataMap.points``).
        task: Its name.
        deviation: "population" or "sample"; that of a population has a bound, which is drawn.
        classes: The class of every example ``[N]``, for colours; None shows the density.
        key: Unique in the page.

    Raises:
        ValueError: Points of another shape, or classes of another length.
    """
    from matplotlib import rc_context

    with rc_context(svg.settings()):  # type: ignore[arg-type]
        figure = _figure(points, task, deviation, classes, lambda colour: colour)
        known = points[~np.isnan(points).any(1)]
        middle = known.mean(0) if len(known) else np.full(2, np.nan)
        label = (
            f"Data map of {shorten(task)}: {count(len(known))} examples, mean confidence "
            f"{middle[0]:.2f}, mean deviation {middle[1]:.2f}."
        )
        return svg.to_svg(figure, key=key, label=label, full_names={shorten(task): clean(task)})


def save_data_map_figure(
    points: np.ndarray,
    task: str,
    path: Path | str,
    *,
    deviation: str = "population",
    classes: Sequence[object] | None = None,
) -> None:
    """Write the same figure to a file of its own, in the colours of a light page.

    Args:
        points: Mean and deviation of every example's confidence ``[N, 2]``, NaN where there are
            none (``DataMap.points``).
        task: Its name.
        path: Ends in ".png" or ".svg".
        deviation: "population" or "sample"; that of a population has a bound, which is drawn.
        classes: The class of every example ``[N]``, for colours; None shows the density.

    Raises:
        ValueError: As ``data_map_figure``, or a file of another kind.
    """
    from matplotlib import rc_context

    place = Path(path)
    kind = place.suffix.lower().removeprefix(".")
    if kind not in ("png", "svg"):
        raise ValueError(f"`path` must end in .png or .svg, found {place.name!r}.")
    light = _light_colours()
    settings = {
        name: light.get(value, value) if isinstance(value, str) else value
        for name, value in svg.settings().items()
    }
    settings["figure.facecolor"] = light[svg.PAPER]
    with rc_context(settings):  # type: ignore[arg-type]
        figure = _figure(points, task, deviation, classes, light.__getitem__)
        about = {"Date": None} if kind == "svg" else {}
        write_atomically(
            place, lambda part: figure.savefig(part, format=kind, dpi=144, metadata=about)
        )


def _figure(
    points: np.ndarray,
    task: str,
    deviation: str,
    classes: Sequence[object] | None,
    paint: Paint,
) -> Figure:
    if points.ndim != 2 or points.shape[1] != 2:
        raise ValueError(f"`points` must be [examples, 2], found shape {list(points.shape)}.")
    if classes is not None and len(classes) != len(points):
        raise ValueError(f"`classes` has {len(classes)} entries for {len(points)} examples.")
    figure = svg.new_figure(WIDTH, HEIGHT)
    axes = figure.add_axes(
        (
            LEFT / WIDTH,
            BOTTOM / HEIGHT,
            (WIDTH - LEFT - RIGHT) / WIDTH,
            (HEIGHT - BOTTOM - TOP) / HEIGHT,
        )
    )
    widest = 0.5 if deviation == "population" else 0.75
    axes.set(xlim=(-0.01 * widest, 1.02 * widest), ylim=(-0.02, 1.02))
    axes.grid(axis="y", alpha=0.6)
    axes.set_axisbelow(True)
    axes.set_title(shorten(task), loc="left", fontweight="bold", pad=10)
    axes.set_xlabel("variability (deviation over the epochs)", color=paint(svg.MUTED))
    axes.set_ylabel("confidence (mean over the epochs)", color=paint(svg.MUTED))
    if deviation == "population":
        # No number in [0, 1] with mean m deviates by more than the root of m (1 - m).
        angle = np.linspace(0, np.pi, 61)
        edge = (np.sin(angle) / 2, (1 - np.cos(angle)) / 2)
        axes.plot(*edge, color=paint(svg.MUTED), linewidth=0.8, dashes=(3, 3))
    known = ~np.isnan(points).any(1)
    if classes is None:
        _density(axes, points[known], widest, paint)
    else:
        chosen = [name for name, here in zip(classes, known, strict=True) if here]
        _by_class(axes, points[known], chosen, paint)
    for height, name in REGIONS:
        axes.text(
            1.02, height, name, transform=axes.transAxes, color=paint(svg.MUTED), va="center",
            fontsize=10, fontstyle="italic",
        )  # fmt: skip
    return figure


def _density(axes: Axes, points: np.ndarray, widest: float, paint: Paint) -> None:
    """Cells that are the more opaque the more examples they hold, on a logarithmic scale."""
    counts, across, up = np.histogram2d(
        points[:, 1], points[:, 0], bins=CELLS, range=((0, widest), (0, 1))
    )
    most = max(counts.max(), 2.0)
    level = np.ceil(LEVELS * np.log1p(counts) / np.log1p(most)).astype(int)
    wide, high = across[1] - across[0], up[1] - up[0]
    for step in range(1, LEVELS + 1):
        # One mark per opacity keeps the drawing small, however many examples there are.
        bars = [(across[i], up[j]) for i, j in np.argwhere(level == step)]
        axes.bar(
            [x for x, _ in bars], high, width=wide, bottom=[y for _, y in bars], align="edge",
            color=paint(svg.SERIES[0]), alpha=0.12 + 0.83 * step / LEVELS, linewidth=0,
        )  # fmt: skip
    axes.text(
        1.02, 0.8, f"{count(len(points))} examples,\ndarkest cell {count(counts.max())}",
        transform=axes.transAxes, color=paint(svg.MUTED), va="center", fontsize=10,
    )  # fmt: skip


def _by_class(axes: Axes, points: np.ndarray, classes: Sequence[object], paint: Paint) -> None:
    """A mark per example; colour and shape say its class."""
    texts = [str(name) for name in classes]
    sizes = Counter(texts)
    named = sorted(name for name, _ in sizes.most_common(len(MARKS)))
    if len(sizes) > len(MARKS):
        named = sorted(name for name, _ in sizes.most_common(len(MARKS) - 1))
    places = {name: place for place, name in enumerate(named)}
    place = np.array([places.get(text, len(named)) for text in texts], dtype=int)
    labels = [*short_names(named, 14).values(), "other classes"]
    drawn = np.arange(len(points))
    if len(drawn) > MOST_POINTS:
        drawn = np.random.default_rng(0).choice(drawn, MOST_POINTS, replace=False)
    for index in np.unique(place):
        here = drawn[place[drawn] == index]
        colour = paint(svg.SERIES[index])
        axes.plot(
            points[here, 1], points[here, 0], MARKS[index], color=colour, markersize=3.2,
            markeredgewidth=0, alpha=0.5,
        )  # fmt: skip
        line = 0.86 - 0.055 * index
        total = count(int((place == index).sum()))
        axes.plot(
            [1.035], [line], MARKS[index], transform=axes.transAxes, clip_on=False, color=colour,
            markersize=6, markeredgewidth=0,
        )  # fmt: skip
        axes.text(
            1.06, line, f"{labels[index]}: {total}", transform=axes.transAxes, va="center",
            fontsize=10,
        )  # fmt: skip


def _light_colours() -> Mapping[str, str]:
    """The colours that stand for the page's variables, as its light style has them."""
    style = resources.files("polytask.report").joinpath("style.css").read_text(encoding="utf-8")
    light = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", style[: style.index("}")]))
    return {code: light[name] for code, name in svg.THEME.items()}
