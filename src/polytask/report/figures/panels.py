"""What the figures share: settings and a grid of panels."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Any

from polytask.report import svg

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["WIDTH", "drawn", "grid"]

WIDTH = 1100


def drawn(function: Callable[..., list[str]]) -> Callable[..., list[str]]:
    """Run a drawing function under our settings of matplotlib."""

    @wraps(function)
    def draw(*arguments: Any) -> list[str]:
        from matplotlib import rc_context

        with rc_context(svg.settings()):  # type: ignore[arg-type]
            return function(*arguments)

    return draw


def grid(
    count: int, columns: int, *, panel_height: int, right: int = 20
) -> tuple[Figure, list[Axes]]:
    """A figure with so many panels, ``columns`` in a row and room for labels at their right."""
    rows = math.ceil(count / columns)
    across = min(count, columns)
    width, height = WIDTH / columns, panel_height + 66
    figure = svg.new_figure(width * across, height * rows)
    panels = [
        figure.add_axes(
            (
                (index % columns * width + 52) / (width * across),
                ((rows - 1 - index // columns) * height + 40) / (height * rows),
                (width - 52 - right) / (width * across),
                panel_height / (height * rows),
            )
        )
        for index in range(count)
    ]
    return figure, panels
