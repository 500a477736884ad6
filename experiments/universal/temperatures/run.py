"""Daily minimum temperatures: ten consecutive days are ten variables, any of them given.

    python -m experiments.universal.temperatures.run --minutes 60

A Traveling Observer reads 1 to 9 days of a window of ten and predicts all ten. Its embeddings of
the days are none (all zero), random and fixed (at two scales), learned, or given (a line); its FiLM
maps are bias-free, as the paper writes them, or affine, as its code has them. Scored are the days
that were not given. Every run is appended to a log as soon as it ends: the same command goes on
where it stopped.
"""

from __future__ import annotations

import csv
import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from experiments.common import DATA, Report, ResumableSettings, experiment
from experiments.showing import canvas, label, shown, table
from experiments.universal import embedding_kinds
from experiments.universal.embedding_kinds import KINDS
from matplotlib.figure import Figure
from scipy.stats import spearmanr

from polytask.datasets.forecast_windows import forecast_windows
from polytask.problems import Problem

#: RMSE of none, random, learned and oracle: the published table and the review draft's.
PUBLISHED = {"none": 4.29, "random": 4.27, "learned": 3.32, "oracle": 3.37}
DRAFT = {"none": 4.23, "random": 3.40, "learned": 3.28, "oracle": 3.31}


@dataclass(frozen=True)
class Settings(ResumableSettings):
    """Of the experiment.

    Args:
        layers: N of encoder, core and decoder; the FiLM layer counts.
        size: C, of the embeddings.
        long_steps: Of further runs of learned embeddings with affine maps.
    """

    kinds: tuple[str, ...] = KINDS
    maps: tuple[str, ...] = ("bias-free", "affine")
    seeds: tuple[int, ...] = (0, 1, 2)
    steps: int = 1000
    long_steps: int = 3000
    hidden: int = 64
    layers: int = 3
    size: int = 2
    length: int = 10
    batch_size: int = 64
    learning_rate: float = 3e-3
    data: Path = DATA


@dataclass(frozen=True)
class Job:
    """One kind of embeddings, trained once."""

    kind: str
    affine: bool
    seed: int
    steps: int
    hidden: int
    layers: int
    size: int
    length: int
    batch_size: int
    learning_rate: float


SCALES = {
    "full": {
        "steps": 20_000, "long_steps": 100_000, "hidden": 128, "learning_rate": 1e-3,
        "seeds": (0, 1, 2, 3, 4),
    }
}  # fmt: skip
SMOKE = {
    "kinds": ("none", "learned"), "seeds": (0,), "steps": 40, "long_steps": 80, "hidden": 8,
    "layers": 2,
}  # fmt: skip


def jobs_of(settings: Settings) -> list[Job]:
    """Seed by seed, so that an interrupted experiment has whole seeds."""

    def jobs(seed: int, kinds: Sequence[str], steps: int) -> list[Job]:
        every = product(settings.maps, kinds)
        return [
            settings.job(Job, kind=kind, affine=maps == "affine", seed=seed, steps=steps)
            for maps, kind in every
        ]

    short = [job for seed in settings.seeds for job in jobs(seed, settings.kinds, settings.steps)]
    long = [
        settings.job(Job, kind="learned", affine=True, seed=seed, steps=settings.long_steps)
        for seed in settings.seeds
    ]
    return short + long


def read(folder: Path) -> np.ndarray:
    """The temperatures in degrees ``[3650]``."""
    path = folder / "melbourne_min_temp" / "daily-min-temperatures.csv"
    with path.open(newline="", encoding="utf-8") as file:
        return np.array([float(row["Temp"]) for row in csv.DictReader(file)])


@functools.cache
def problem_of(folder: Path, length: int) -> Problem:
    """Windows of the series; what is given of test windows is the same for all runs."""
    return forecast_windows(read(folder), length=length, name="temperatures")


def line(length: int) -> torch.Tensor:
    """The oracle's embeddings ``[L, 1]``: the days on a line from -1 to 1."""
    return torch.linspace(-1, 1, length).unsqueeze(1)


def work(job: Job, *, folder: Path) -> dict[str, Any]:
    torch.set_num_threads(1)
    problem = problem_of(folder, job.length)
    trained = embedding_kinds.train(problem, job, oracle=line(job.length))
    degrees = problem.tasks[0].kind
    errors = {}
    for part in ("validation", "test"):
        said, true = embedding_kinds.unseen(trained.architecture, getattr(problem, part))
        apart = degrees.decode(said.numpy()) - degrees.decode(true.numpy())
        errors[part] = float(np.sqrt(np.mean(apart**2)))
    found = trained.architecture.table.weight.detach()
    days = torch.arange(job.length, dtype=torch.float64).unsqueeze(1)
    return {
        "rmse_test": errors["test"],
        "rmse_validation": errors["validation"],
        "order": embedding_kinds.order(found, days),
        "embeddings": {str(step): z.tolist() for step, z in trained.snapshots.items()},
        "best_step": trained.best_step,
        "seconds": trained.seconds,
    }


def around(found: np.ndarray) -> float:
    """How well embeddings ``[L, 2]`` lie on an open ring in the order of the days.

    The size of the rank correlation of the day with the angle around the mean, counted from the
    widest gap; NaN if all are the same.
    """
    centred = found - found.mean(0)
    if not np.ptp(found) or found.shape[1] != 2:
        return float("nan")
    angles = np.arctan2(centred[:, 1], centred[:, 0])
    order = np.argsort(angles)
    gaps = np.diff(np.append(angles[order], angles[order[0]] + 2 * np.pi))
    ranks = np.empty(len(found))
    ranks[np.roll(order, -(int(gaps.argmax()) + 1))] = np.arange(len(found))
    return abs(float(spearmanr(ranks, np.arange(len(found))).statistic))


def summarise(
    runs: Sequence[Mapping[str, Any]], steps: int
) -> dict[str, dict[str, dict[str, list[float]]]]:
    """Per maps and kind the values of all seeds; runs of other than these steps are kinds of their
    own.
    """
    summary: dict[str, dict[str, dict[str, list[float]]]] = {}
    for run in runs:
        maps = "affine" if run["affine"] else "bias-free"
        kind = run["kind"] if run["steps"] == steps else f"{run['kind']}, {run['steps']:,} steps"
        entry = summary.setdefault(maps, {}).setdefault(kind, {})
        for key in ("rmse_test", "order", "best_step", "seconds"):
            entry.setdefault(key, []).append(run[key])
        last = np.array(list(run["embeddings"].values())[-1])
        entry.setdefault("around", []).append(around(last))
    return summary


def anchors(problem: Problem) -> dict[str, float]:
    """RMSE of two predictions without a model: the training mean, and the mean of what is given."""
    kind, inputs = problem.tasks[0].kind, problem.test.inputs
    true = torch.stack([problem.test.targets[task.name] for task in problem.tasks], dim=1)
    asked = ~torch.isnan(true)
    nearby = inputs.nanmean(dim=1, keepdim=True).expand_as(true)
    return {
        "training mean": kind.scale * float(true[asked].square().mean().sqrt()),
        "mean of the given days": kind.scale * float((nearby - true)[asked].square().mean().sqrt()),
    }


def show(summary: Mapping[str, Mapping[str, Mapping[str, list[float]]]]) -> str:
    """Our errors beside the published ones."""
    rows = []
    for maps, kinds in summary.items():
        for kind, entry in kinds.items():
            ordered = entry["order"]
            rows.append(
                (
                    maps,
                    kind,
                    shown(entry["rmse_test"]),
                    "-" if np.isnan(ordered).any() else shown(ordered),
                    "-" if np.isnan(entry["around"]).any() else shown(entry["around"]),
                    PUBLISHED.get(kind, ""),
                    DRAFT.get(kind, ""),
                )
            )
    header = (
        "FiLM maps", "embeddings", "RMSE", "order of distances", "order around the ring",
        "published", "review draft",
    )  # fmt: skip
    return table(header, rows)


def figures(runs: Sequence[Mapping[str, Any]], summary: Mapping[str, Any]) -> dict[str, Figure]:
    """Embeddings on the way, and the errors."""
    drawn = {}
    for run in runs:
        longest = max(r["steps"] for r in runs if r["affine"] == run["affine"])
        first = run["seed"] == runs[0]["seed"]
        if run["kind"] == "learned" and run["steps"] == longest and first:
            days = np.arange(run["length"])
            maps = "affine" if run["affine"] else "bias_free"
            drawn[f"embeddings_{maps}.png"] = embedding_kinds.draw(
                {int(step): z for step, z in run["embeddings"].items()},
                days,
                edges=[(i, i + 1) for i in days[:-1]],
                colour_name="day",
            )
    drawn["errors.png"], axes = canvas(1, 1, width=6.5, height=3.6)
    ax = axes[0, 0]
    for offset, (maps, kinds) in enumerate(summary.items()):
        for k, (kind, entry) in enumerate(kinds.items()):
            x = np.full(len(entry["rmse_test"]), k + 0.16 * (offset - 0.5))
            colour = ("#4c72b0", "#dd8452")[offset]
            name = maps if not k else None
            ax.scatter(x, entry["rmse_test"], color=colour, s=18, label=name)
            if kind in PUBLISHED and not offset:
                ax.plot([k - 0.3, k + 0.3], [PUBLISHED[kind]] * 2, color="#444444", linewidth=1)
                ax.plot([k - 0.3, k + 0.3], [DRAFT[kind]] * 2, color="#444444", linestyle=":")
    ax.set_xticks(range(len(kinds)), [kind.replace(", ", ",\n") for kind in kinds])
    label(ax, "days that were not given (lines: published, dotted: review draft)", "", "RMSE")
    ax.legend(frameon=False)
    return drawn


def report(runs: Sequence[dict[str, Any]], settings: Settings) -> Report:
    summary = summarise(runs, settings.steps)
    problem = problem_of(settings.data, settings.length)
    content = {
        "command": "python -m experiments.universal.temperatures.run",
        "published": PUBLISHED,
        "review_draft": DRAFT,
        "without_a_model": anchors(problem),
        "split": problem.notes[0],
        "summary": summary,
    }
    return Report(content, show(summary), figures(runs, summary))


main = experiment(Settings, report, jobs=jobs_of, work=work, smoke=SMOKE, scales=SCALES)


if __name__ == "__main__":
    main()
