"""Soft layer ordering on alphabets: what does each way of sharing the same layers gain?

    python -m experiments.universal.layer_ordering.run

Single-task learning, hard sharing, fixed permuted orders and soft orders, with the same layers, the
same linear encoders and decoders of each task's own, and the same training. Every run is appended
to a log as soon as it ends: the same command goes on where it stopped.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from experiments.common import DATA, Report, ResumableSettings, experiment
from experiments.showing import COLOURS, canvas, label, shown, table
from experiments.universal.layer_ordering.alphabets import PEOPLE, SIZE, alphabets
from matplotlib.figure import Figure

from polytask.architectures.variables.soft_layer_ordering import (
    SoftLayerOrdering,
    permuted_orders,
    same_orders,
)
from polytask.evaluation.scores import interval
from polytask.problems.problem import Problem
from polytask.problems.splits import SeparateSplit
from polytask.training import Observer, Trainer, TrainingSettings
from polytask.training.prediction import predict_outputs
from polytask.training.reports import EpochReport

METHODS = ("single-task", "hard sharing", "permuted", "soft")
#: Test rows per training row: every seed draws the split anew.
OVERLAP = PEOPLE["test"] / PEOPLE["train"]


@dataclass(frozen=True)
class Settings(ResumableSettings):
    """Of the experiment."""

    methods: tuple[str, ...] = METHODS
    seeds: tuple[int, ...] = (0, 1, 2)
    alphabets: int = 8
    hidden: int = 128
    depth: int = 3
    dropout: float = 0.2
    epochs: int = 30
    batch_size: int = 32
    learning_rate: float = 1e-3
    data: Path = DATA


@dataclass(frozen=True)
class Job:
    """One method and seed."""

    method: str
    seed: int
    alphabets: int
    hidden: int
    depth: int
    dropout: float
    epochs: int
    batch_size: int
    learning_rate: float


def jobs_of(settings: Settings) -> list[Job]:
    """Seed by seed, so that an interrupted experiment has whole seeds."""
    return [
        settings.job(Job, method=method, seed=seed)
        for seed in settings.seeds
        for method in settings.methods
    ]


def work(job: Job, *, folder: Path) -> dict[str, Any]:
    """Train one method on all alphabets."""
    torch.set_num_threads(1)
    problem = alphabets(folder, seed=job.seed, limit=job.alphabets)
    names = [task.name for task in problem.tasks]
    started = time.process_time()
    if job.method == "single-task":
        models = {name: train(job, problem.select_tasks([name])) for name in names}
        scores = {name: models[name][1][name] for name in names}
        parameters = sum(model[2] for model in models.values())
        shares: Any = None
    else:
        model, scores, parameters = train(job, problem)
        shares = model.layers.shares()
    return {
        "tasks": names,
        "classes": [task.kind.output_size for task in problem.tasks],
        "accuracy": [scores[name] for name in names],
        "parameters": parameters,
        "shares": shares.tolist() if job.method == "soft" else None,
        "processor_seconds": time.process_time() - started,
    }


def train(job: Job, problem: Problem) -> tuple[SoftLayerOrdering, dict[str, float], int]:
    """A model of all tasks of a problem, its test accuracies, the number of its parameters."""
    torch.manual_seed(job.seed)
    count = len(problem.tasks)
    orders = {
        "single-task": same_orders(count, job.depth),
        "hard sharing": same_orders(count, job.depth),
        "permuted": permuted_orders(count, job.depth, seed=job.seed),
        "soft": None,
    }[job.method]
    model = SoftLayerOrdering(
        tasks=problem.tasks,
        columns={task.name: SIZE * SIZE for task in problem.tasks},
        hidden=job.hidden,
        depth=job.depth,
        orders=orders,
        dropout=job.dropout,
    )
    settings = TrainingSettings(
        epochs=job.epochs,
        batch_size=job.batch_size,
        learning_rate=job.learning_rate,
        patience=None,
        seed=job.seed,
        device="cpu",
    )
    best = BestAccuracy(problem, model)
    Trainer(problem, model, settings=settings, observers=(best,)).fit()
    model.load_state_dict(best.state)
    scores = accuracies(model, problem.test)
    return model, scores, sum(parameter.numel() for parameter in model.parameters())


class BestAccuracy(Observer):
    """Keeps the parameters of the epoch with the best mean accuracy on the validation rows.

    The trainer's own choice looks at losses, which rise long before accuracies stop to.
    """

    def __init__(self, problem: Problem, model: SoftLayerOrdering) -> None:
        self.problem, self.model = problem, model
        self.best = -1.0
        self.state: dict[str, torch.Tensor] = {}

    def on_epoch(self, report: EpochReport) -> None:
        del report
        found = float(np.mean(list(accuracies(self.model, self.problem.validation).values())))
        if found > self.best:
            self.best = found
            self.state = {k: v.clone() for k, v in self.model.state_dict().items()}


def accuracies(model: SoftLayerOrdering, split: SeparateSplit) -> dict[str, float]:
    """Accuracy of every task on a split."""
    outputs, found = predict_outputs(model, split), {}
    for task in model.tasks:
        right = task.predict(outputs[task.name]) == split.parts[task.name].targets[task.name]
        found[task.name] = float(right.double().mean())
    return found


def summarise(runs: Sequence[dict[str, Any]], settings: Settings) -> dict[str, Any]:
    """Mean accuracy over alphabets per method, and its gain over hard sharing and single tasks."""
    found: dict[str, Any] = {}
    means = {
        method: {
            run["seed"]: 100 * float(np.mean(run["accuracy"]))
            for run in runs
            if run["method"] == method
        }
        for method in settings.methods
    }
    for method, accuracy in means.items():
        own = [run for run in runs if run["method"] == method]
        entry: dict[str, Any] = {"accuracy": spread(list(accuracy.values()))}
        for other in ("single-task", "hard sharing"):
            both = [s for s in accuracy if s in means.get(other, {})]
            if method != other and both:
                entry[f"above {other}"] = spread([accuracy[s] - means[other][s] for s in both])
        entry["parameters"] = own[0]["parameters"] if own else None
        entry["processor_seconds"] = float(np.median([r["processor_seconds"] for r in own]))
        per_task = np.array([run["accuracy"] for run in own])
        entry["per_alphabet"] = dict(
            zip(own[0]["tasks"], (100 * per_task.mean(0)).tolist(), strict=True)
        )
        found[method] = entry
    return found


def spread(values: list[float]) -> dict[str, Any]:
    """Mean and 95 % interval over seeds."""
    found = interval(values, overlap=OVERLAP)
    return {"mean": found.mean, "low": found.low, "high": found.high, "seeds": values}


def show(summary: dict[str, Any]) -> str:
    """Accuracies, gains and costs."""
    rows = []
    for method, entry in summary.items():
        gains = [
            shown(entry[key]["seeds"], overlap=OVERLAP) if key in entry else "-"
            for key in ("above single-task", "above hard sharing")
        ]
        size = f"{entry['parameters']:,}"
        time_of = f"{entry['processor_seconds']:.0f}"
        accuracy = shown(entry["accuracy"]["seeds"], overlap=OVERLAP)
        rows.append((method, accuracy, *gains, size, time_of))
    header = ("method", "accuracy %", "above single-task", "above hard sharing", "parameters", "s")
    return table(header, rows)


def draw(summary: dict[str, Any]) -> Figure:
    """Accuracy per alphabet, and on average with intervals."""
    names = list(next(iter(summary.values()))["per_alphabet"])
    figure, axes = canvas(width=9.0, height=3.6)
    ax = axes[0, 0]
    width = 0.8 / len(summary)
    for number, (method, entry) in enumerate(summary.items()):
        place = np.arange(len(names) + 1) + (number - (len(summary) - 1) / 2) * width
        mean = entry["accuracy"]
        heights = [*entry["per_alphabet"].values(), mean["mean"]]
        colour = COLOURS[number]
        ax.bar(place, heights, width * 0.92, color=colour, label=method)
        error = [[mean["mean"] - mean["low"]], [mean["high"] - mean["mean"]]]
        ax.errorbar(place[-1:], [mean["mean"]], yerr=error, color="black", lw=1)
    ax.set_xticks(range(len(names) + 1), [*names, "mean"], rotation=20, ha="right", fontsize=8)
    ax.legend(fontsize=7, ncols=len(summary), loc="lower left")
    label(ax, "test accuracy, 95 % intervals over seeds", "", "%")
    return figure


def layer_order_figure(tasks: Sequence[str], shares: np.ndarray) -> Figure:
    """Share of every layer (columns) at every depth (rows) of every task, darker is more.

    Args:
        tasks: Names.
        shares: ``[T, D, D]``, each row sums to 1.
    """
    depth = shares.shape[-1]
    columns = min(len(tasks), 4)
    figure, axes = canvas(-(-len(tasks) // columns), columns, width=2.1, height=2.0)
    for ax in axes.flat[len(tasks) :]:
        ax.set_axis_off()
    for ax, name, own in zip(axes.flat, tasks, shares, strict=False):
        ax.imshow(own, vmin=0, vmax=1, cmap="Blues")
        ax.set_xticks(range(depth), range(1, depth + 1))
        ax.set_yticks(range(depth), range(1, depth + 1))
        for row, column in np.ndindex(own.shape):
            value = own[row, column]
            dark = "white" if value > 0.6 else "black"
            ax.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize=7, color=dark)
        label(ax, name, "layer", "depth")
    return figure


def unevenness(shares: np.ndarray) -> dict[str, float]:
    """How far the shares ``[T, D, D]`` are from even ones, and the tasks' from each other."""
    largest = shares.max(-1).mean()
    entropy = -(shares * np.log(shares)).sum(-1).mean() / np.log(shares.shape[-1])
    return {
        "mean largest share": float(largest),
        "mean relative entropy": float(entropy),
        "deviation between tasks": float(shares.std(0).mean()),
    }


def report(runs: Sequence[dict[str, Any]], settings: Settings) -> Report:
    summary = summarise(runs, settings)
    text = show(summary)
    results: dict[str, Any] = {"runs": len(runs), "results": summary}
    files: dict[str, Any] = {"table.md": text, "figure.png": draw(summary)}
    soft = [run for run in runs if run["shares"] is not None]
    if soft:
        found = [unevenness(np.array(run["shares"])) for run in soft]
        results["shares"] = {key: spread([run[key] for run in found]) for key in found[0]}
        shares = np.array(soft[0]["shares"])
        files["orders.png"] = layer_order_figure(soft[0]["tasks"], shares)
    return Report(results, text, files)


SMOKE = {"seeds": (0,), "alphabets": 2, "hidden": 16, "depth": 2, "epochs": 2}

main = experiment(Settings, report, jobs=jobs_of, work=work, smoke=SMOKE)


if __name__ == "__main__":
    main()
