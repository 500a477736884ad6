"""One model for eight tasks of four modalities: together, each alone, and with blocks left out.

    python -m experiments.universal.multimodel.run --minutes 60

Models take the same number of steps with the same number of rows of each of their tasks, so a task
alone sees exactly as much of its own data as it does in company. One model for all takes twice as
many, which is about the time of the eight models alone. "parse" has little data.
Every run is appended to a log as soon as it ends: the same command goes on where it stopped.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from experiments.common import Report, ResumableSettings, experiment
from experiments.showing import COLOURS, canvas, label, shown, table
from matplotlib.figure import Figure

from polytask.architectures.multimodel import (
    AudioModality,
    CategoricalModality,
    ImageModality,
    Modality,
    MultiModel,
    MultiModelBody,
    TextModality,
)
from polytask.datasets.eight_tasks import (
    COLUMN_LEVELS,
    EIGHT_LENGTHS,
    SAMPLES,
    VOCABULARY,
    EightSizes,
    eight_tasks,
)
from polytask.evaluation.scores import interval
from polytask.problems import Problem
from polytask.training import Trainer, TrainingSettings
from polytask.training.prediction import predict_outputs

READS = {
    "digit": "image",
    "caption": "image",
    "reverse": "text",
    "sort": "text",
    "translate": "text",
    "parse": "text",
    "tone": "audio",
    "table": "table",
}
ALONE, TOGETHER, LONGER = "alone", "together", "together, twice the steps"
#: Changes of the body: none, or a block that is left out.
WAYS: dict[str, dict[str, int]] = {
    ALONE: {},
    TOGETHER: {},
    "without experts": {"num_experts": 0},
    "without attention": {"num_heads": 0},
    LONGER: {},
}


@dataclass(frozen=True)
class Settings(ResumableSettings):
    """Of the experiment.

    Args:
        steps: Of every model but one, to the nearest whole epoch.
        batch_size: Rows of each task in a step.
        size: Features of the representation.
        parse_rows: Training sentences of "parse".
        text_rows: Training rows of the other text tasks.
    """

    tasks: tuple[str, ...] = tuple(READS)
    ways: tuple[str, ...] = tuple(WAYS)
    seeds: tuple[int, ...] = (0, 1, 2)
    steps: int = 470
    batch_size: int = 16
    learning_rate: float = 3e-3
    size: int = 32
    depth: int = 1
    num_experts: int = 4
    parse_rows: int = 12
    text_rows: int = 1500
    other_rows: int = 600


@dataclass(frozen=True)
class Job:
    """One model."""

    way: str
    tasks: tuple[str, ...]
    seed: int
    steps: int
    batch_size: int
    learning_rate: float
    size: int
    depth: int
    num_experts: int
    parse_rows: int
    text_rows: int
    other_rows: int


def jobs_of(settings: Settings) -> list[Job]:
    """Seed by seed, so that an interrupted experiment has whole seeds."""
    jobs = []
    for seed in settings.seeds:
        for way in sorted(settings.ways, key=[TOGETHER, *WAYS].index):
            parts = [(t,) for t in settings.tasks] if way == ALONE else [settings.tasks]
            steps = settings.steps * (2 if way == LONGER else 1)
            jobs += [
                settings.job(Job, way=way, tasks=tasks, seed=seed, steps=steps) for tasks in parts
            ]
    return jobs


def build(problem: Problem, body: MultiModelBody) -> MultiModel:
    """A MultiModel with the modality nets that these tasks need."""
    names = [task.name for task in problem.tasks]
    reads = {name: READS[name] for name in names}
    lengths = {name: EIGHT_LENGTHS[name] for name in names if name in EIGHT_LENGTHS}
    writes = dict.fromkeys(lengths, "text")
    used = dict.fromkeys((*reads.values(), *writes.values()))
    return MultiModel(
        tasks=problem.tasks,
        modalities={name: _modality(name, body.size) for name in used},
        reads=reads,
        writes=writes,
        lengths=lengths,
        body=body,
    )


def _modality(name: str, size: int) -> Modality:
    if name == "image":
        return ImageModality(channels=1, height=8, width=8, size=size)
    if name == "audio":
        return AudioModality(samples=SAMPLES, size=size)
    if name == "table":
        return CategoricalModality(cardinalities=COLUMN_LEVELS, size=size)
    return TextModality(vocabulary=len(VOCABULARY), size=size)


def work(job: Job) -> dict[str, Any]:
    """Train one model, and decode the test rows of its tasks."""
    torch.set_num_threads(1)
    torch.manual_seed(job.seed)
    sizes = EightSizes(text=job.text_rows, parse=job.parse_rows, other=job.other_rows)
    problem = eight_tasks(seed=job.seed, sizes=sizes).select_tasks(job.tasks)
    options = {"size": job.size, "depth": job.depth, "num_experts": job.num_experts}
    # The paper's filters are longer than most of these sequences.
    body = MultiModelBody(**{**options, **WAYS[job.way]}, kernels=(3, 3, 5, 5), dilation=2)
    model = build(problem, body)
    rows = max(problem.train.num_labels(name) for name in job.tasks)
    epochs = max(1, round(job.steps / math.ceil(rows / job.batch_size)))
    training = TrainingSettings(
        epochs=epochs,
        batch_size=job.batch_size,
        learning_rate=job.learning_rate,
        schedule="cosine",
        warmup_steps=50,
        patience=None,
        seed=job.seed,
    )
    started = time.process_time()
    result = Trainer(problem, model, settings=training).fit()
    return {
        "scores": scores_of(model, problem),
        "steps": result.steps,
        "best_epoch": result.best_epoch / epochs,
        "parameters": sum(p.numel() for p in model.parameters()),
        "processor_seconds": time.process_time() - started,
    }


def scores_of(model: MultiModel, problem: Problem) -> dict[str, dict[str, float]]:
    """Per cent of test answers that are right from beginning to end, and of single tokens."""
    outputs = predict_outputs(model, problem.test)
    scores = {}
    for task in problem.tasks:
        target = problem.test.parts[task.name].targets[task.name]
        wrong = (task.predict(outputs[task.name]) != target) & (target >= 0)
        rows = wrong.reshape(len(wrong), -1)
        known = (target >= 0).reshape(len(wrong), -1)
        scores[task.name] = {
            "answers": 100 * float((~rows.any(1)).double().mean()),
            "tokens": 100 * float(1 - rows.sum() / known.sum()),
        }
    return scores


def collect(runs: Sequence[dict[str, Any]], settings: Settings, score: str) -> dict[str, Any]:
    """Per way and task a value per seed; NaN where a run is missing."""
    found = {
        way: {task: [math.nan] * len(settings.seeds) for task in settings.tasks}
        for way in settings.ways
    }
    for run in runs:
        for task, scores in run["scores"].items():
            found[run["way"]][task][settings.seeds.index(run["seed"])] = scores[score]
    return found


def differences(answers: dict[str, Any], settings: Settings) -> dict[str, Any]:
    """Points that each task gains in company, and company with all blocks over company without
    one, paired by seed.
    """
    found = {}
    for way in settings.ways:
        if way != TOGETHER and TOGETHER in answers:
            pairs = {
                task: np.subtract(answers[TOGETHER][task], answers[way][task])
                for task in settings.tasks
            }
            found[way] = {
                **{task: _summary(values) for task, values in pairs.items()},
                "mean": _summary(np.mean(list(pairs.values()), axis=0)),
            }
    return found


def _summary(values: np.ndarray) -> list[float]:
    known = values[~np.isnan(values)]
    if not len(known):
        return [math.nan] * 3
    found = interval(known.tolist())
    return [found.mean, found.low, found.high]


def show(answers: dict[str, Any], changes: dict[str, Any], settings: Settings) -> str:
    """Right answers per way and task, and what company is worth."""
    rows = []
    for task in (*settings.tasks, "mean"):
        values = [
            np.mean(list(answers[way].values()), axis=0) if task == "mean" else answers[way][task]
            for way in settings.ways
        ]
        cells = [_cell(np.asarray(v)) for v in values]
        gain = changes.get(ALONE, {}).get(task)
        rows.append((task, *cells, "" if gain is None else _points(gain)))
    return table(("task", *settings.ways, f"{TOGETHER} - {ALONE}, points"), rows)


def _cell(values: np.ndarray) -> str:
    known = values[~np.isnan(values)]
    return shown(known.tolist(), 1) if len(known) else ""


def _points(change: Sequence[float]) -> str:
    mean, low, high = change
    return f"{mean:+.1f}" if math.isnan(low) else f"{mean:+.1f} ({low:+.1f} to {high:+.1f})"


def draw(answers: dict[str, Any], settings: Settings) -> Figure:
    """A group of bars per task, a bar per way, a dot per seed."""
    figure, axes = canvas(width=10, height=3.6)
    ax = axes[0, 0]
    width = 0.8 / len(settings.ways)
    for w, way in enumerate(settings.ways):
        places = np.arange(len(settings.tasks)) + (w - (len(settings.ways) - 1) / 2) * width
        values = np.array([answers[way][task] for task in settings.tasks])
        known = np.where(np.isnan(values).all(1, keepdims=True), 0, values)
        ax.bar(places, np.nanmean(known, axis=1), 0.9 * width, color=COLOURS[w], label=way)
        for place, seeds in zip(places, values, strict=True):
            ax.plot([place] * len(seeds), seeds, "k.", ms=3)
    ax.set_xticks(range(len(settings.tasks)), settings.tasks)
    ax.set_ylim(0, 118)
    ax.legend(fontsize=8, ncol=len(settings.ways), loc="upper center")
    label(ax, "one model for eight tasks", "", "test answers right, %")
    return figure


def report(runs: Sequence[dict[str, Any]], settings: Settings) -> Report:
    answers = collect(runs, settings, "answers")
    changes = differences(answers, settings)
    results = {
        "runs": len(runs),
        "answers": answers,
        "tokens": collect(runs, settings, "tokens"),
        f"{TOGETHER} minus": changes,
        "parameters": {run["way"]: run["parameters"] for run in runs if len(run["tasks"]) > 1},
        "processor_seconds": sum(run["processor_seconds"] for run in runs),
    }
    text = show(answers, changes, settings)
    return Report(results, text, {"figure.png": draw(answers, settings)})


SMOKE = {
    "tasks": ("reverse", "parse", "tone"), "ways": (ALONE, TOGETHER), "seeds": (0,),
    "steps": 2, "text_rows": 32, "parse_rows": 16, "other_rows": 64, "size": 8,
}  # fmt: skip
SCALES = {
    "full": {
        "seeds": (0, 1, 2, 3, 4), "steps": 9400, "batch_size": 32, "size": 64, "depth": 2,
    }
}  # fmt: skip

main = experiment(Settings, report, jobs=jobs_of, work=work, smoke=SMOKE, scales=SCALES)


if __name__ == "__main__":
    main()
