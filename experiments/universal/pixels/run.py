"""Pixels as variables: a model that is not told where they are, and puts them into a grid.

    python -m experiments.universal.pixels.run --minutes 60

A Traveling Observer reads some pixels of an image and predicts the brightness of the others. Its
embeddings of the pixels are none (all zero), random and fixed, learned, or given (the grid).
``--images-from cifar`` (or ``--scale full``) takes 32 x 32 grey images with 1,024 variables instead
of 8 x 8 digits. Every run is appended to a log as soon as it ends: the same command goes on where
it stopped.
"""

from __future__ import annotations

import functools
import resource
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from experiments.common import DATA, Report, ResumableSettings, experiment
from experiments.showing import shown, table
from experiments.universal import embedding_kinds
from experiments.universal.pixels.images import brightness_loss, grid, pixels
from matplotlib.figure import Figure

from polytask.problems import Problem

#: BCE on grey CIFAR (E. Meyerson, R. Miikkulainen, 2021, table 1).
PUBLISHED = {"none": 0.662, "random": 0.660, "learned": 0.591, "oracle": 0.590}


@dataclass(frozen=True)
class Settings(ResumableSettings):
    """Of the experiment.

    Args:
        images_from: "digits" or "cifar".
        images: The first so many; 0 means all.
        affine_steps: Of a further run of the learned embeddings, with affine FiLM maps; 0 means
            none.
        layers: N of encoder, core and decoder; the FiLM layer counts.
        size: C, of the embeddings.
        chunk: Variables that are encoded or decoded at a time; 0 means all.
    """

    images_from: str = "digits"
    images: int = 0
    kinds: tuple[str, ...] = ("none", "random", "learned", "oracle")
    seeds: tuple[int, ...] = (0,)
    steps: int = 1000
    affine_steps: int = 1500
    hidden: int = 64
    layers: int = 3
    size: int = 2
    batch_size: int = 16
    learning_rate: float = 3e-3
    chunk: int = 0
    data: Path = DATA


@dataclass(frozen=True)
class Job:
    """One kind of embeddings, trained once."""

    images_from: str
    images: int
    kind: str
    affine: bool
    seed: int
    steps: int
    hidden: int
    layers: int
    size: int
    batch_size: int
    learning_rate: float
    chunk: int


SCALES = {
    "full": {
        "images_from": "cifar", "steps": 300_000, "affine_steps": 0, "hidden": 128,
        "batch_size": 32, "learning_rate": 1e-3, "chunk": 128,
    }
}  # fmt: skip
SMOKE = {
    "images": 60, "kinds": ("none", "learned"), "seeds": (0,), "steps": 6, "affine_steps": 8,
    "hidden": 8, "layers": 2,
}  # fmt: skip


def jobs_of(settings: Settings) -> list[Job]:
    """Seed by seed, so that an interrupted experiment has whole seeds, the affine run last."""
    every = product(settings.seeds, settings.kinds)
    wanted = [(seed, kind, False, settings.steps) for seed, kind in every]
    if settings.affine_steps:
        wanted.append((settings.seeds[0], "learned", True, settings.affine_steps))
    return [
        settings.job(Job, kind=kind, affine=affine, seed=seed, steps=steps)
        for seed, kind, affine, steps in wanted
    ]


@functools.cache
def problem_of(images_from: str, images: int, folder: Path) -> Problem:
    """The images as rows, their pixels as tasks."""
    return pixels(images_from, folder=folder, images=images)


def work(job: Job, *, folder: Path) -> dict[str, Any]:
    torch.set_num_threads(1)
    problem = problem_of(job.images_from, job.images, folder)
    places = grid(len(problem.tasks))
    trained = embedding_kinds.train(problem, job, oracle=places, chunk=job.chunk or None)
    errors = {}
    for part in ("validation", "test"):
        said, true = embedding_kinds.unseen(trained.architecture, getattr(problem, part))
        errors[part] = float(brightness_loss(said.unsqueeze(-1), true).double().mean())
    return {
        "bce_test": errors["test"],
        "bce_validation": errors["validation"],
        "order": embedding_kinds.order(trained.architecture.table.weight.detach(), places),
        "embeddings": {str(step): z.tolist() for step, z in trained.snapshots.items()}
        if job.kind == "learned"
        else None,
        "best_step": trained.best_step,
        "seconds": trained.seconds,
        "peak_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
    }


def anchors(problem: Problem) -> dict[str, float]:
    """BCE of two predictions: every pixel's training mean, and the truth itself."""
    names = [task.name for task in problem.tasks]
    true = torch.stack([problem.test.targets[name] for name in names], dim=1).double()
    asked = ~torch.isnan(true)
    means = problem.train.inputs.double().mean(0).expand_as(true)[asked]
    values = true[asked]

    def bce(said: torch.Tensor) -> float:
        odds = torch.logit(said, eps=1e-9).unsqueeze(-1)
        return float(brightness_loss(odds, values).mean())

    return {"mean of the pixel": bce(means), "truth": bce(values)}


def summarise(runs: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, list[float]]]:
    """Per kind the values of all seeds; the affine run is a kind of its own."""
    summary: dict[str, dict[str, list[float]]] = {}
    for run in runs:
        kind = f"{run['kind']}, affine, {run['steps']:,} steps" if run["affine"] else run["kind"]
        entry = summary.setdefault(kind, {})
        for key in ("bce_test", "order", "best_step", "seconds", "peak_gib"):
            entry.setdefault(key, []).append(run[key])
    return summary


def show(summary: Mapping[str, Mapping[str, list[float]]]) -> str:
    """Our errors, and the published ones on CIFAR."""
    rows = [
        (
            kind,
            shown(entry["bce_test"], 4),
            "-" if np.isnan(entry["order"]).any() else shown(entry["order"]),
            PUBLISHED.get(kind, ""),
        )
        for kind, entry in summary.items()
    ]
    return table(("embeddings", "BCE", "order of distances", "published, CIFAR"), rows)


def draw(run: Mapping[str, Any]) -> Figure:
    """The embeddings on the way; lines join neighbours in the grid."""
    count = len(run["embeddings"]["0"])
    side = round(count**0.5)
    edges = [(k, k + 1) for k in range(count) if k % side < side - 1]
    edges += [(k, k + side) for k in range(count - side)]
    row, column = np.divmod(np.arange(count), side)
    border = np.minimum.reduce([row, column, side - 1 - row, side - 1 - column])
    return embedding_kinds.draw(
        {int(step): z for step, z in run["embeddings"].items()},
        border,
        edges=edges if side <= 8 else (),
        colour_name="distance from the border, pixels",
    )


def report(runs: Sequence[dict[str, Any]], settings: Settings) -> Report:
    summary = summarise(runs)
    problem = problem_of(settings.images_from, settings.images, settings.data)
    content = {
        "command": "python -m experiments.universal.pixels.run",
        "published": PUBLISHED,
        "without_a_model": anchors(problem),
        "summary": summary,
    }
    files = {
        f"embeddings_{'affine' if run['affine'] else 'bias_free'}.png": draw(run)
        for run in runs
        if run["kind"] == "learned" and run["seed"] == settings.seeds[0]
    }
    return Report(content, show(summary), files)


main = experiment(Settings, report, jobs=jobs_of, work=work, smoke=SMOKE, scales=SCALES)


if __name__ == "__main__":
    main()
