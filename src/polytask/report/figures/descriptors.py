"""Tasks compared by their descriptors: a map of them, and every distance between two.

Shape legend: T tasks, Z numbers of a descriptor.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from polytask.report import svg
from polytask.report.figures.data_maps import _light_colours
from polytask.report.formats import short_names

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from torch import Tensor

__all__ = ["descriptor_figure", "principal_components"]

WIDTH, HEIGHT = 980, 470
#: Most tasks whose names are written at their points, and beside the rows of distances.
MOST_NAMED_POINTS, MOST_NAMED_ROWS = 40, 60
#: Most tasks whose distances are written into the cells.
MOST_WRITTEN = 12
#: Points nearer than this share of the map's width have one label.
NEAR = 0.012


def descriptor_figure(descriptors: Tensor | np.ndarray, names: Sequence[str]) -> Figure:
    """The tasks at the first two principal components of their descriptors, and their distances.

    Args:
        descriptors: ``[T, Z]``, given ones or those that a model learned
            (``TaskDescriptors.vectors``).
        names: Of the tasks ``[T]``.

    Raises:
        ValueError: descriptors that are not a table of finite numbers, or another number of names.

    Example:
        >>> figure = descriptor_figure(np.eye(3), ["a", "b", "c"])
        >>> [axes.get_title(loc="left") for axes in figure.axes[:2]]
        ['Tasks by their descriptors', 'Distance between descriptors']
    """
    from matplotlib import rc_context
    from matplotlib.text import Text

    values = _checked(descriptors, names)
    light = _light_colours()
    settings = {
        name: light.get(value, value) if isinstance(value, str) else value
        for name, value in svg.settings().items()
    }
    settings["figure.facecolor"] = light[svg.PAPER]
    with rc_context(settings):  # type: ignore[arg-type]
        figure = svg.new_figure(WIDTH, HEIGHT)
        figure.set_layout_engine("constrained")
        left, right = figure.subplots(1, 2)
        labels = list(short_names(names, 22).values())
        _map(left, values, labels, light)
        _heat(right, values, labels, light)
        for text in figure.findobj(Text):
            # Names of tasks are text, whatever signs they hold; they are drawn after this returns.
            text.set_parse_math(False)
    return figure


def principal_components(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates ``[T, 2]`` on the first two principal components, and their shares of the
    variance ``[2]``; 0 where there is no such component. The largest coordinate is positive.
    """
    centred = values - values.mean(0)
    left, singular, _ = np.linalg.svd(centred, full_matrices=False)
    points, shares = np.zeros((len(values), 2)), np.zeros(2)
    kept = min(2, len(singular))
    points[:, :kept] = left[:, :kept] * singular[:kept]
    total = float((singular**2).sum())
    if total > 0:
        shares[:kept] = singular[:kept] ** 2 / total
    largest = np.abs(points).argmax(0)
    signs = np.where(points[largest, [0, 1]] < 0, -1.0, 1.0)
    return points * signs, shares


def _checked(descriptors: Tensor | np.ndarray, names: Sequence[str]) -> np.ndarray:
    array = descriptors if isinstance(descriptors, np.ndarray) else descriptors.detach().cpu()
    values = np.asarray(array, dtype=float)
    if values.ndim != 2 or values.size == 0 or not np.isfinite(values).all():
        raise ValueError(
            "`descriptors` must be a table [tasks, numbers] of finite numbers, found shape "
            f"{list(values.shape)} with {int((~np.isfinite(values)).sum())} that are not finite."
        )
    if len(names) != len(values):
        raise ValueError(f"`names` has {len(names)} entries for {len(values)} descriptors.")
    return values


def _map(axes: Axes, values: np.ndarray, labels: list[str], light: Mapping[str, str]) -> None:
    points, shares = principal_components(values)
    axes.scatter(points[:, 0], points[:, 1], s=26, color=light[svg.SERIES[0]], zorder=3)
    axes.set_title("Tasks by their descriptors", loc="left", fontweight="bold")
    for axis, number, share in zip((axes.xaxis, axes.yaxis), "12", shares, strict=True):
        axis.set_label_text(f"component {number} ({share:.0%} of the variance)")
    axes.grid(alpha=0.6)
    axes.set_axisbelow(True)
    axes.margins(0.16, 0.1)
    if len(labels) > MOST_NAMED_POINTS:
        return
    width = max(float(np.ptp(points, axis=0).max()), 1e-12)
    for (across, up), together in _near(points / width):
        rest = len(together) - 1
        text = labels[together[0]] + (f" and {rest} more" if rest else "")
        label = axes.annotate(
            text, (float(across * width), float(up * width)), xytext=(0, 5),
            textcoords="offset points", fontsize=8, ha="center",
        )  # fmt: skip
        label.set_in_layout(False)


def _near(points: np.ndarray) -> list[tuple[np.ndarray, list[int]]]:
    """Points that lie on each other, with one place for all of them."""
    found: list[tuple[np.ndarray, list[int]]] = []
    for i, point in enumerate(points):
        for place, together in found:
            if np.abs(place - point).max() < NEAR:
                together.append(i)
                break
        else:
            found.append((point, [i]))
    return found


def _heat(axes: Axes, values: np.ndarray, labels: list[str], light: Mapping[str, str]) -> None:
    distances = np.linalg.norm(values[:, None] - values[None], axis=-1)
    largest = float(distances.max()) or 1.0
    # The nearer, the bluer, at most 0.8 as in the other heat maps, so that numbers can be read.
    blue = np.broadcast_to(np.array([0.22, 0.52, 0.86]), (*distances.shape, 3))
    tint = np.concatenate([blue, 0.8 * (1 - distances / largest)[..., None]], axis=-1)
    axes.imshow(tint, interpolation="none")
    axes.set_title("Distance between descriptors", loc="left", fontweight="bold")
    axes.tick_params(length=0)
    count = len(labels)
    named = count <= MOST_NAMED_ROWS
    places = range(count) if named else range(0, count, max(1, count // 10))
    shown = labels if named else [str(i + 1) for i in places]
    size = 9 if count <= 25 else 6
    # The columns are the tasks of the rows, in the same order.
    axes.set_xticks([])
    axes.set_yticks(places, shown, fontsize=size)
    if count <= MOST_WRITTEN:
        for row, column in np.ndindex(count, count):
            text = f"{distances[row, column]:.2g}"
            axes.text(column, row, text, ha="center", va="center", fontsize=9)
    axes.set_xlabel(
        f"bluest: 0, white: {largest:.3g}" + ("" if named else "; tasks by their numbers"),
        color=light[svg.MUTED],
    )
