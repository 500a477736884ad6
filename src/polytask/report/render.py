"""Plain values to one HTML file: a Jinja template that escapes everything, and the figures."""

from __future__ import annotations

import base64
import hashlib
import math
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from polytask._version import __version__
from polytask.files import write_atomically
from polytask.report import captions, formats
from polytask.report.data import Estimate, ReportData, TaskRow

if TYPE_CHECKING:
    from jinja2 import Environment

__all__ = ["leaderboard_html", "report_html", "write_report"]

#: Rows of tables that could grow without end, such as the columns of a very wide table.
MOST_COLUMNS = 300
MOST_FAILURES = 50


@dataclass(frozen=True)
class _ScoreRow:
    task: TaskRow
    candidate: str
    mean: float
    per_seed: tuple[float, ...]


def write_report(data: ReportData, path: Path | str) -> Path:
    """Write the report as one HTML file that needs nothing else, and return its path.

    Args:
        data: What the report shows; ``polytask.evaluation.report_data`` makes it of a comparison.
        path: The file; its folder is created.

    Raises:
        OSError: The file cannot be written.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, report_html(data))
    return path


def report_html(data: ReportData) -> str:
    """The report as the text of an HTML page; the same data gives the same text."""
    from markupsafe import Markup

    script = _asset("sort.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    figures = _figures(data)
    gains = {(gain.candidate, gain.task): gain.estimate for gain in data.gains}
    return (
        _environment()
        .get_template("report.html.j2")
        .render(
            data=data,
            version=__version__,
            # The package's own files, not text from data.
            style=Markup(_asset("style.css")),
            script=Markup(script),
            script_hash=Markup(f"sha256-{digest}"),
            leaderboard=Markup(leaderboard_html(data)),
            facts=_facts(data),
            sections=_sections(data, figures),
            gains=gains,
            gain_candidates=[r.name for r in data.candidates if any(c == r.name for c, _ in gains)],
            gain_caption=captions.GAIN,
            curve_caption=captions.CURVE,
            weight_caption=captions.WEIGHT,
            seeds=_seeds(data),
            score_rows=_score_rows(data),
            has_positives=any(math.isfinite(task.positives) for task in data.tasks),
            label_splits=list(dict.fromkeys(split for task in data.tasks for split in task.labels)),
            shown_columns=data.columns[:MOST_COLUMNS],
            shown_failures=data.failures[:MOST_FAILURES],
            **figures,
        )
    )


def leaderboard_html(data: ReportData) -> str:
    """The leaderboard alone as an HTML table, for notebooks and for the report."""
    metrics = {task.metric: task for task in reversed(data.tasks)}
    return (
        _environment()
        .get_template("leaderboard.html.j2")
        .render(
            data=data,
            metrics=[
                {"name": name, "higher_is_better": task.higher_is_better}
                for name, task in sorted(metrics.items())
                if any(name in row.scores for row in data.candidates)
            ],
            nothing=Estimate(),
            leaderboard_caption=captions.LEADERBOARD,
            cost_caption=captions.COST,
            baseline_seconds=next(
                (
                    row.training_seconds
                    for row in data.candidates
                    if row.is_baseline and row.training_seconds > 0
                ),
                float("nan"),
            ),
        )
    )


@cache
def _environment() -> Environment:
    """Jinja with escaping everywhere, strict about names, and our filters."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("polytask.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        keep_trailing_newline=True,
    )
    filters: dict[str, Any] = {name: getattr(formats, name) for name in formats.__all__}
    environment.filters.update(filters)
    environment.filters["finite"] = math.isfinite
    return environment


@cache
def _asset(name: str) -> str:
    return resources.files("polytask.report").joinpath(name).read_text(encoding="utf-8")


def _figures(data: ReportData) -> dict[str, Any]:
    from markupsafe import Markup

    from polytask.report import figures

    moving = figures.moving_weights(data)
    weighed = dict.fromkeys(history.candidate for history in data.weights)
    shown = [c for c in data.cosines if len(c.tasks) > 1]
    return {
        "gain_figures": [Markup(picture) for picture in figures.gain_figures(data)],
        "curve_figures": [Markup(picture) for picture in figures.curve_figures(data)],
        "weight_figures": [Markup(picture) for picture in figures.weight_figures(data)],
        "fixed_weights": [name for name in weighed if name not in moving],
        "cosine_figures": [
            {"candidate": c.candidate, "picture": Markup(picture), "caption": captions.cosines(c)}
            for c, picture in zip(shown, figures.cosine_figures(data), strict=True)
        ],
        "group_figures": [
            {
                "candidate": found.candidate,
                "pictures": [
                    Markup(picture)
                    for picture in figures.membership_figures(
                        found.tasks, found.memberships, f"groups-{number}"
                    )
                ],
                "caption": captions.groups(found),
            }
            for number, found in enumerate(data.groups)
        ],
    }


def _sections(data: ReportData, figures: Mapping[str, Any]) -> list[dict[str, str]]:
    present = {
        "leaderboard": "Leaderboard",
        "gains": "Gain per task" if figures["gain_figures"] else "",
        "scores": "Scores" if data.scores else "",
        "curves": "Learning curves" if figures["curve_figures"] else "",
        "weights": "Task weights" if figures["weight_figures"] or figures["fixed_weights"] else "",
        "groups": "Groups of tasks" if figures["group_figures"] else "",
        "conflict": "Gradient conflict" if figures["cosine_figures"] else "",
        "data": "Data",
        "failures": "Failures" if data.failures else "",
        "repeat": "How to repeat this",
    }
    return [{"key": key, "title": title} for key, title in present.items() if title]


def _facts(data: ReportData) -> dict[str, str]:
    kinds: dict[str, int] = defaultdict(int)
    for task in data.tasks:
        kinds[task.kind] += 1
    counted = ", ".join(f"{number} {kind}" for kind, number in kinds.items())
    facts = {
        "tasks": f"{len(data.tasks)} ({counted})" if counted else str(len(data.tasks)),
        "candidates": str(sum(not row.is_composite for row in data.candidates)),
        "seeds": str(len(_seeds(data))),
    }
    if data.rows:
        facts["rows"] = formats.count(sum(data.rows.values()))
    return facts


def _seeds(data: ReportData) -> list[int]:
    return sorted({score.seed for score in data.scores})


def _score_rows(data: ReportData) -> list[_ScoreRow]:
    """One row per task and candidate, in the order of the tasks and of the leaderboard."""
    seeds = _seeds(data)
    values: dict[tuple[str, str], dict[int, float]] = defaultdict(dict)
    for score in data.scores:
        values[score.task, score.candidate][score.seed] = score.value
    rows = []
    for task in data.tasks:
        for candidate in data.candidates:
            known = values.get((task.name, candidate.name))
            if known is not None:
                finite = [value for value in known.values() if math.isfinite(value)]
                mean = sum(finite) / len(finite) if finite else float("nan")
                per_seed = tuple(known.get(seed, float("nan")) for seed in seeds)
                rows.append(_ScoreRow(task, candidate.name, mean, per_seed))
    return rows
