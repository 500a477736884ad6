"""The figures of a report: matplotlib without its global state, in the page's own colours.

Every function takes a ``ReportData`` and gives finished SVG; no SVG where nothing is to be drawn.
"""

from __future__ import annotations

from polytask.report.figures.cosines import conflicts, cosine_figures
from polytask.report.figures.curves import curve_figures
from polytask.report.figures.gains import gain_figures
from polytask.report.figures.weights import moving_weights, weight_figures

__all__ = [
    "conflicts",
    "cosine_figures",
    "curve_figures",
    "gain_figures",
    "moving_weights",
    "weight_figures",
]
