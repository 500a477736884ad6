"""Multi-MNIST: two digits in one image, two tasks, every balancer against single-task learning.

    python -m experiments.balancers.multi_mnist.run --scale small
    python -m experiments.balancers.multi_mnist.run --scale full --device cuda --workers 12

Every run is appended to a log as soon as it ends: the same command goes on where it stopped.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from experiments.balancers.networks import BALANCERS, Job, train
from experiments.common import DATA, Report, ResumableSettings, experiment
from experiments.showing import COLOURS, canvas, delta_m, label, shown, table
from matplotlib.figure import Figure

from polytask.evaluation.scores import interval

#: Accuracy in per cent, (left, right) of Sener & Koltun's table: from memory, unverified.
PUBLISHED = {
    "single": (97.23, 95.90),
    "equal": (96.46, 94.99),
    "uncertainty": (96.47, 95.29),
    "gradnorm": (96.27, 94.84),
    "mgda": (97.26, 95.90),
    "pcgrad": (96.58, 95.50),
}
SCALES = {
    "small": {"rows": 10_000, "epochs": 5, "learning_rate": 2e-3, "workers": 0},
    "full": {"rows": 60_000, "epochs": 30, "learning_rate": 1e-3, "workers": 12},
}


@dataclass(frozen=True)
class Settings(ResumableSettings):
    """Of the experiment."""

    methods: tuple[str, ...] = ("single", *BALANCERS)
    rows: int = 10_000
    epochs: int = 5
    batch_size: int = 256
    learning_rate: float = 2e-3
    seeds: tuple[int, ...] = (0, 1, 2)
    device: str = "cpu"
    data: Path = DATA


def jobs_of(settings: Settings) -> list[Job]:
    """Seed by seed, so that an interrupted experiment has whole seeds."""
    jobs = []
    for seed in settings.seeds:
        for method in settings.methods:
            single = method == "single"
            balancer = "equal" if single else method
            groups = ((0,), (1,)) if single else ((0, 1),)
            jobs += [
                settings.job(
                    Job,
                    data="multi_mnist",
                    method=method,
                    balancer=balancer,
                    tasks=tasks,
                    seed=seed,
                )
                for tasks in groups
            ]
    return jobs


def errors_of(
    runs: Sequence[dict[str, Any]], methods: Sequence[str], seeds: Sequence[int], count: int
) -> np.ndarray:
    """Errors ``[methods, seeds, tasks]``; NaN where a run is missing."""
    errors = np.full((len(methods), len(seeds), count), np.nan)
    for run in runs:
        if run["method"] in methods:
            place = methods.index(run["method"]), seeds.index(run["seed"])
            errors[place][list(run["tasks"])] = run["scores"]
    return errors


def summarise(runs: Sequence[dict[str, Any]], settings: Settings) -> dict[str, Any]:
    """Accuracies and Delta_m per method, means over seeds with 95 % intervals."""
    methods, seeds = list(settings.methods), list(settings.seeds)
    accuracy = 1 - errors_of(runs, methods, seeds, 2)
    found: dict[str, Any] = {}
    single = methods.index("single")
    gains = delta_m(accuracy, single, higher_is_better=True)
    for m, method in enumerate(methods):
        times = [run["wall_ms_per_step"] for run in runs if run["method"] == method]
        entry: dict[str, Any] = {"wall_ms_per_step": float(np.median(times)) if times else None}
        values = {
            "left": 100 * accuracy[m, :, 0],
            "right": 100 * accuracy[m, :, 1],
            "delta_m": gains[m],
        }
        for name, numbers in values.items():
            summary = interval(numbers)
            entry[name] = {"mean": summary.mean, "low": summary.low, "high": summary.high}
            entry[name]["seeds"] = numbers.tolist()
        found[method] = entry
    return found


def show(summary: dict[str, Any]) -> str:
    """Our numbers beside the published ones."""
    rows = []
    for method, entry in summary.items():
        published = PUBLISHED.get(method)
        cells = [shown(entry[key]["seeds"]) for key in ("left", "right", "delta_m")]
        rows.append((method, *cells, "{:.2f} / {:.2f}".format(*published) if published else "-"))
    return table(("method", "left %", "right %", "Delta_m %", "published left / right"), rows)


def draw(summary: dict[str, Any]) -> Figure:
    """Accuracy of one task against the other, with intervals."""
    figure, axes = canvas(width=5.5, height=4.5)
    ax = axes[0, 0]
    for number, (method, entry) in enumerate(summary.items()):
        left, right = entry["left"], entry["right"]
        ax.errorbar(
            left["mean"],
            right["mean"],
            xerr=[[left["mean"] - left["low"]], [left["high"] - left["mean"]]],
            yerr=[[right["mean"] - right["low"]], [right["high"] - right["mean"]]],
            fmt="s" if method == "single" else "o",
            color=COLOURS[number % len(COLOURS)],
            lw=0.8,
            label=method,
        )
    ax.legend(fontsize=7)
    label(ax, "test accuracy, 95 % intervals over seeds", "left digit, %", "right digit, %")
    return figure


def report(runs: Sequence[dict[str, Any]], settings: Settings) -> Report:
    summary = summarise(runs, settings)
    text = show(summary)
    files = {"table.md": text, "figure.png": draw(summary)}
    return Report({"runs": len(runs), "results": summary}, text, files)


SMOKE = {
    "rows": 128, "epochs": 1, "batch_size": 64, "seeds": (0,), "methods": ("single", "mgda"),
}  # fmt: skip

main = experiment(Settings, report, jobs=jobs_of, work=train, smoke=SMOKE, scales=SCALES)


if __name__ == "__main__":
    main()
