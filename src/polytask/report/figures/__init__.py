"""The figures of a report: matplotlib without its global state, in the page's own colours.

Every function takes a ``ReportData`` and gives finished SVG; no SVG where nothing is to be drawn.
"""

from __future__ import annotations

from polytask.report.figures.cosines import conflicts, cosine_figures
from polytask.report.figures.curves import curve_figures
from polytask.report.figures.data_maps import data_map_figure, save_data_map_figure
from polytask.report.figures.descriptors import descriptor_figure
from polytask.report.figures.gains import gain_figures
from polytask.report.figures.memberships import membership_figures
from polytask.report.figures.weights import moving_weights, weight_figures

__all__ = [
    "conflicts",
    "cosine_figures",
    "curve_figures",
    "data_map_figure",
    "descriptor_figure",
    "gain_figures",
    "membership_figures",
    "moving_weights",
    "save_data_map_figure",
    "weight_figures",
]
