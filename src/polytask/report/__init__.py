"""The report: one self-contained HTML file that says whether learning the tasks together helped.

``ReportData`` holds all that it shows as plain values; ``write_report`` writes them.
"""

from __future__ import annotations

from polytask.report.data import (
    CandidateRow,
    ColumnRow,
    CosineMatrix,
    Curve,
    Estimate,
    Failure,
    Gain,
    ReportData,
    SeedScore,
    TaskRow,
    WeightHistory,
)
from polytask.report.render import leaderboard_html, report_html, write_report

__all__ = [
    "CandidateRow",
    "ColumnRow",
    "CosineMatrix",
    "Curve",
    "Estimate",
    "Failure",
    "Gain",
    "ReportData",
    "SeedScore",
    "TaskRow",
    "WeightHistory",
    "leaderboard_html",
    "report_html",
    "write_report",
]
