"""Task parameters inside a shared transformer, against separate networks and a shared one.

    python -m experiments.universal.task_layers.run
    python -m experiments.universal.task_layers.run --scale full --workers 8 --minutes 600

Every run is appended to a log as soon as it ends: the same command goes on where it stopped.
"""

from __future__ import annotations

import functools
import math
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from experiments.common import DATA, Report, ResumableSettings, experiment, rounded
from experiments.showing import COLOURS, canvas, label, shown, table
from experiments.universal.task_layers.planted import planted_lookups, vocabulary_size
from matplotlib.figure import Figure

from polytask.architectures import Architecture, HardSharing
from polytask.architectures.adaptations.adapters import Adapters, Scaling
from polytask.architectures.adaptations.attention import LowRank, ProjectedAttention
from polytask.architectures.adaptations.layers import Adaptation
from polytask.architectures.adaptations.task_adapted import TaskAdapted
from polytask.datasets.fdu_mtl import fdu_mtl
from polytask.encoders.transformer import TokenInputs, Transformer
from polytask.evaluation.scores import interval
from polytask.problems import Problem
from polytask.samplers import AllTasks, Sampler
from polytask.samplers.annealed import AnnealedSampler
from polytask.tasks import Task
from polytask.training import Trainer, TrainingSettings, predict_outputs

#: Small sizes that give PALs, adapters and low-rank layers nearly equally many parameters in two
#: layers of 32 values.
ADAPTATIONS: dict[str, Adaptation] = {
    "PALs": ProjectedAttention(size=16, heads=4),
    "adapters": Adapters(size=10),
    "low-rank": LowRank(size=20),
    "scaling": Scaling(),
}
METHODS = ("separate", "shared", *ADAPTATIONS)
#: Several times the steps for a network that learns one task only.
LONGER = "separate, 4 times the steps"
KEYS, VALUES = 8, 8
SCALES = {
    "full": {
        "length": 256, "vocabulary": 20_000, "width": 128, "review_epochs": 6, "rate": 5e-4,
        "seeds": (0, 1, 2, 3, 4),
    },
}  # fmt: skip


@dataclass(frozen=True)
class Settings(ResumableSettings):
    """Of the experiment."""

    families: tuple[str, ...] = ("planted", "reviews")
    methods: tuple[str, ...] = METHODS
    seeds: tuple[int, ...] = (0, 1, 2)
    width: int = 32
    length: int = 48
    vocabulary: int = 8000
    review_epochs: int = 2
    review_validation: int = 200
    planted_tasks: int = 16
    smallest: int = 40
    largest: int = 1280
    planted_epochs: int = 30
    planted_held_out: int = 200
    planted_batch_size: int = 32
    review_batch_size: int = 16
    rate: float = 3e-3
    data: Path = DATA


@dataclass(frozen=True)
class Job:
    """One method on one family with one seed."""

    family: str
    method: str
    seed: int
    width: int
    length: int
    vocabulary: int
    epochs: int
    held_out: int
    sizes: tuple[int, ...]
    batch_size: int
    rate: float


def jobs_of(settings: Settings) -> list[Job]:
    """Seed by seed, so that an interrupted experiment has whole seeds; what takes longest last."""
    ratio = settings.largest / settings.smallest
    steps = max(settings.planted_tasks - 1, 1)
    sizes = tuple(
        round(settings.smallest * ratio ** (t / steps)) for t in range(settings.planted_tasks)
    )
    ordered = sorted(
        (method == LONGER, seed, settings.families.index(family), settings.methods.index(method))
        for family in settings.families
        for seed in settings.seeds
        for method in settings.methods
    )
    jobs = []
    for _, seed, family, method in ordered:
        name = settings.families[family]
        reviews = name == "reviews"
        jobs.append(
            settings.job(
                Job,
                family=name,
                method=settings.methods[method],
                seed=seed,
                length=settings.length if reviews else KEYS + 1,
                vocabulary=settings.vocabulary if reviews else vocabulary_size(KEYS, VALUES),
                epochs=settings.review_epochs if reviews else settings.planted_epochs,
                held_out=settings.review_validation if reviews else settings.planted_held_out,
                sizes=() if reviews else sizes,
                batch_size=(settings.review_batch_size if reviews else settings.planted_batch_size),
            )
        )
    return jobs


def problem_of(job: Job, data: Path) -> Problem:
    """The tasks; a seed has its own planted rules, or its own validation reviews."""
    if job.family == "reviews":
        return reviews_of(job.length, job.vocabulary, job.held_out, job.seed, data)
    return planted_lookups(
        keys=KEYS, values=VALUES, sizes=job.sizes, held_out=job.held_out, seed=job.seed
    )


@functools.lru_cache(maxsize=1)
def reviews_of(length: int, vocabulary: int, held_out: int, seed: int, data: Path) -> Problem:
    """Read once for all methods of a seed."""
    return fdu_mtl(
        data / "fdu_mtl_reviews",
        length=length,
        vocabulary=vocabulary,
        validation=held_out,
        seed=seed,
    )


def work(job: Job, *, folder: Path) -> dict[str, Any]:
    """Test accuracies per task, parameters, steps and processor time."""
    problem = problem_of(job, folder)
    torch.manual_seed(job.seed)
    started = time.process_time()
    if job.method.startswith("separate"):
        accuracies, parameters, steps = train_separately(job, problem)
    else:
        model = model_of(job, problem.tasks)
        trainer = Trainer(
            problem, model, sampler=sampler_of(job, problem), settings=training(job, job.epochs)
        )
        steps = trainer.fit().steps
        accuracies = accuracies_of(model, problem)
        parameters = sum(p.numel() for p in model.parameters())
    return {
        "scores": [accuracies[task.name] for task in problem.tasks],
        "tasks": [task.name for task in problem.tasks],
        "parameters": parameters,
        "encoder": sum(p.numel() for p in encoder_of(job).parameters()),
        "steps": steps,
        "processor_seconds": time.process_time() - started,
    }


def encoder_of(job: Job) -> Transformer:
    """The same for every method."""
    reviews = job.family == "reviews"
    return Transformer(
        inputs=TokenInputs(vocabulary=job.vocabulary, length=job.length),
        width=job.width,
        depth=2,
        heads=4,
        expansion=2,
        pooling="mean" if reviews else "first",
        dropout=0.3 if reviews else 0.0,
    )


def model_of(job: Job, tasks: Sequence[Task]) -> Architecture:
    """Of one of the joint methods."""
    if job.method == "shared":
        return HardSharing(encoder=encoder_of(job), tasks=tasks)
    return TaskAdapted(encoder=encoder_of(job), tasks=tasks, adaptation=ADAPTATIONS[job.method])


def sampler_of(job: Job, problem: Problem) -> Sampler:
    """Planted tasks of unequal sizes are drawn one at a time, annealed; reviews step together."""
    if job.family == "reviews":
        return AllTasks()
    return AnnealedSampler(
        epochs=job.epochs, draws_per_epoch=steps_per_epoch(job, problem), seed=job.seed
    )


def train_separately(job: Job, problem: Problem) -> tuple[dict[str, float], int, int]:
    """A network per task, each for the steps that the task has in the joint runs.

    Every network keeps its own best epoch on validation, which joint training cannot.
    """
    accuracies: dict[str, float] = {}
    parameters = steps = 0
    planned = steps_per_task(job, problem)
    for task in problem.tasks:
        alone = problem.select_tasks([task.name])
        model = HardSharing(encoder=encoder_of(job), tasks=alone.tasks)
        trainer = Trainer(alone, model, settings=training(job, 1))
        epochs = max(1, round(planned[task.name] / trainer.steps_per_epoch))
        trainer = Trainer(alone, model, settings=training(job, epochs))
        steps += trainer.fit().steps
        accuracies |= accuracies_of(model, alone)
        parameters += sum(p.numel() for p in model.parameters())
    return accuracies, parameters, steps


def steps_per_task(job: Job, problem: Problem) -> Mapping[str, int]:
    """Steps that have rows of each task in a joint run, and more where the method says so."""
    more = 4 if job.method == LONGER else 1
    names = [task.name for task in problem.tasks]
    total = job.epochs * steps_per_epoch(job, problem)
    if job.family == "reviews":
        return dict.fromkeys(names, more * total)
    sampler = sampler_of(job, problem)
    drawn = Counter(name for _ in range(total) for name in sampler.draw(problem) or ())
    return {name: more * drawn[name] for name in names}


def steps_per_epoch(job: Job, problem: Problem) -> int:
    """Of a joint run: a pass over the largest task."""
    rows = max(problem.train.num_labels(task.name) for task in problem.tasks)
    return math.ceil(rows / job.batch_size)


def training(job: Job, epochs: int) -> TrainingSettings:
    """The same for every method."""
    return TrainingSettings(
        epochs=epochs,
        batch_size=job.batch_size,
        learning_rate=job.rate,
        schedule="cosine",
        warmup_steps=20,
        patience=None,
        device="cpu",
        seed=job.seed,
    )


def accuracies_of(model: Architecture, problem: Problem) -> dict[str, float]:
    """Test accuracy per task."""
    outputs = predict_outputs(model, problem.test)
    found = {}
    for name, output in outputs.items():
        part = problem.test.parts[name]
        found[name] = problem.task(name).score(output, part.targets[name])["accuracy"]
    return found


def summarise(runs: Sequence[dict[str, Any]], settings: Settings) -> dict[str, Any]:
    """Per family and method: mean accuracy over the tasks in per cent, its difference to "shared"
    seed by seed, parameters and cost.
    """
    found: dict[str, Any] = {}
    for family in settings.families:
        by_place = {(r["method"], r["seed"]): r for r in runs if r["family"] == family}
        found[family] = {}
        for method in settings.methods:
            own = [by_place[method, s] for s in settings.seeds if (method, s) in by_place]
            if not own:
                continue
            means = {run["seed"]: 100 * float(np.mean(run["scores"])) for run in own}
            gains = [
                mean - 100 * float(np.mean(by_place["shared", seed]["scores"]))
                for seed, mean in means.items()
                if ("shared", seed) in by_place
            ]
            found[family][method] = {
                "accuracy": list(means.values()),
                "gain_over_shared": gains,
                "by_task": np.mean([run["scores"] for run in own], axis=0).tolist(),
                "tasks": own[0]["tasks"],
                "parameters": own[0]["parameters"],
                "relative_parameters": own[0]["parameters"] / own[0]["encoder"],
                "steps": own[0]["steps"],
                "processor_seconds": float(np.median([r["processor_seconds"] for r in own])),
            }
    return found


def show(summary: dict[str, Any]) -> str:
    """A row per method."""
    header = (
        "method", "accuracy %", "gain over shared", "parameters", "times the encoder",
        "steps", "processor s",
    )  # fmt: skip
    rows = [
        (
            method,
            shown(entry["accuracy"]),
            "" if method == "shared" else shown(entry["gain_over_shared"]),
            f"{entry['parameters']:,}",
            f"{entry['relative_parameters']:.2f}",
            f"{entry['steps']:,}",
            f"{entry['processor_seconds']:.0f}",
        )
        for method, entry in summary.items()
    ]
    return table(header, rows)


def draw(summary: dict[str, Any]) -> Figure:
    """Accuracy against parameters, a panel per family."""
    figure, axes = canvas(1, len(summary), width=5.0, height=4.0)
    for ax, (family, entries) in zip(axes.flat, summary.items(), strict=True):
        for colour, (method, entry) in zip(COLOURS, entries.items(), strict=False):
            found = interval(entry["accuracy"])
            spread = np.array([[found.mean - found.low], [found.high - found.mean]])
            ax.errorbar(
                entry["relative_parameters"],
                found.mean,
                yerr=None if np.isnan(found.low) else spread,
                fmt="s" if method == LONGER else "o",
                capsize=3,
                color=colour,
                label=method,
            )
        ax.set_xscale("log")
        label(ax, family, "parameters / those of one encoder", "mean test accuracy, %")
    axes.flat[0].legend(fontsize=7, frameon=False)
    return figure


def report(runs: Sequence[dict[str, Any]], settings: Settings) -> Report:
    summary = rounded(summarise(runs, settings))
    text = "\n\n".join(f"{family}:\n\n{show(entries)}" for family, entries in summary.items())
    files = {"figure.png": draw(summary), "table.md": text}
    return Report({"runs": len(runs), "summary": summary}, text, files)


SMOKE = {
    "methods": ("separate", "shared", "PALs"), "seeds": (0,), "families": ("planted",),
    "planted_tasks": 3, "smallest": 20, "largest": 40, "planted_epochs": 2, "width": 8,
}  # fmt: skip

main = experiment(Settings, report, jobs=jobs_of, work=work, smoke=SMOKE, scales=SCALES)


if __name__ == "__main__":
    main()
