"""Zero-shot tasks: a cell of a two-attribute grid is left out and predicted from its descriptor.

    python -m experiments.universal.zero_shot.run

Every finished run is appended to a log: the same command goes on where it stopped.

Shape legend: T tasks, Z numbers of a descriptor, N rows, C output size.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from experiments.common import Report, ResumableSettings, experiment, rounded
from experiments.showing import COLOURS, canvas, label, shown, table
from matplotlib.figure import Figure
from torch import Tensor

from polytask.architectures.descriptors.conditioned import Conditioned
from polytask.architectures.descriptors.descriptor_model import DescriptorModel
from polytask.architectures.descriptors.gated import Gated
from polytask.architectures.descriptors.task_descriptors import TaskDescriptors
from polytask.architectures.descriptors.two_sided import TwoSided
from polytask.datasets.attribute_grid import AttributeGrid, bilinear_grid, digits_grid
from polytask.encoders import MLP
from polytask.evaluation.scores import interval
from polytask.evaluation.significance import paired_test
from polytask.problems.splits import SeparateSplit
from polytask.report.figures.descriptors import descriptor_figure
from polytask.tasks import Multiclass, Task

GRIDS: dict[str, Callable[..., AttributeGrid]] = {"bilinear": bilinear_grid, "digits": digits_grid}
NETS = ("linear", "network")
ORACLE, LEARNED, OURS = "oracle", "learned embeddings", "two-sided"
#: Size of the inner product, and of learned embeddings.
INNER, EMBEDDING = 32, 8
#: Initial deviation of embeddings that are compared after learning.
SMALL = 0.01
#: Steps without a better validation loss before training stops.
PATIENCE = 60


@dataclass(frozen=True)
class Settings(ResumableSettings):
    """Of the experiment.

    Args:
        rows: Rows of a task to learn from, a fifth of them to stop training by.
        width: Hidden units of the networks.
        steps: Most steps, each over all rows; the best on validation rows is kept.
        held_out: Cells that a seed leaves out in turn, other seeds others; 0 means all.
    """

    grids: tuple[str, ...] = tuple(GRIDS)
    nets: tuple[str, ...] = NETS
    rows: int = 50
    width: int = 64
    steps: int = 400
    held_out: int = 4
    learning_rate: float = 5e-3
    weight_decay: float = 1e-3
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)


@dataclass(frozen=True)
class Job:
    """One method on one grid, every cell left out in turn."""

    grid: str
    net: str
    method: str
    rows: int
    width: int
    steps: int
    held_out: int
    learning_rate: float
    weight_decay: float
    seed: int


# --- models --------------------------------------------------------------------------------------

Make = Callable[[Tensor, Sequence[Task], int, Job], DescriptorModel]


def _described(vectors: Tensor, tasks: Sequence[Task]) -> TaskDescriptors:
    return TaskDescriptors(names=[task.name for task in tasks], values=vectors)


def _encoder(size: int, job: Job) -> dict[str, Any]:
    """What reads the inputs: nothing, or one hidden layer."""
    if job.net == "linear":
        return {"input_size": size}
    return {"encoder": MLP(input_size=size, widths=(job.width,))}


def two_sided(vectors: Tensor, tasks: Sequence[Task], size: int, job: Job) -> TwoSided:
    """P(x) · Q(z), Q linear."""
    descriptors = _described(vectors, tasks)
    return TwoSided(
        descriptors=descriptors, tasks=tasks, inner_size=INNER, bias=True, **_encoder(size, job)
    )


def two_sided_deep(vectors: Tensor, tasks: Sequence[Task], size: int, job: Job) -> TwoSided:
    """P(x) · Q(z), Q with a hidden layer."""
    reader = MLP(input_size=vectors.shape[1], widths=(job.width,))
    return TwoSided(
        descriptors=_described(vectors, tasks), tasks=tasks, inner_size=INNER, bias=True,
        descriptor_encoder=reader, **_encoder(size, job),
    )  # fmt: skip


def concatenated(vectors: Tensor, tasks: Sequence[Task], size: int, job: Job) -> Conditioned:
    """Inputs and z side by side at the input layer."""
    widths = () if job.net == "linear" else (job.width,)
    descriptors = _described(vectors, tasks)
    return Conditioned(descriptors=descriptors, tasks=tasks, input_size=size, widths=widths)


def concatenated_deep(vectors: Tensor, tasks: Sequence[Task], size: int, job: Job) -> Conditioned:
    """A network of two hidden layers that reads z at every layer."""
    return Conditioned(
        descriptors=_described(vectors, tasks), tasks=tasks, input_size=size,
        widths=(job.width, job.width), at=None,
    )  # fmt: skip


def gated(vectors: Tensor, tasks: Sequence[Task], size: int, job: Job) -> Gated:
    """Hidden features times z."""
    encoder = MLP(input_size=size, widths=(job.width,))
    return Gated(descriptors=_described(vectors, tasks), tasks=tasks, encoder=encoder)


def pooling(vectors: Tensor, tasks: Sequence[Task], size: int, job: Job) -> TwoSided:
    """One model for the rows of all tasks: every descriptor is the same."""
    return two_sided(torch.ones(len(vectors), 1), tasks, size, job)


def own_heads(vectors: Tensor, tasks: Sequence[Task], size: int, job: Job) -> TwoSided:
    """One head per task, whose neighbours answer for a task that was left out."""
    del vectors
    return two_sided(torch.eye(len(tasks)), tasks, size, job)


METHODS: dict[str, Make] = {
    OURS: two_sided,
    "two-sided, deep Q": two_sided_deep,
    "gated": gated,
    "concatenated": concatenated,
    "concatenated at every layer": concatenated_deep,
    "nearest descriptor": own_heads,
    "pooling": pooling,
    ORACLE: two_sided,
}
#: What a linear model of the inputs can be.
LINEAR = (OURS, "two-sided, deep Q", "concatenated", "nearest descriptor", "pooling", ORACLE)


# --- training and scores -------------------------------------------------------------------------


def rows_of(split: SeparateSplit, names: Sequence[str]) -> tuple[dict[str, Tensor], Tensor]:
    """Inputs by task, and the targets of all rows in the same order."""
    parts = [(name, split.parts[name]) for name in names]
    targets = torch.cat([part.targets[name] for name, part in parts])
    return {name: part.inputs for name, part in parts}, targets


def train(model: DescriptorModel, grid: AttributeGrid, job: Job) -> None:
    """Adam on all rows at once; the parameters with the least validation loss are kept."""
    names = [task.name for task in model.tasks]
    kind = model.tasks[0].kind
    inputs, targets = rows_of(grid.problem.train, names)  # type: ignore[arg-type]
    unseen, truth = rows_of(grid.problem.validation, names)  # type: ignore[arg-type]
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=job.learning_rate, weight_decay=job.weight_decay
    )

    def loss_on(x: dict[str, Tensor], y: Tensor) -> Tensor:
        outputs = model(x)
        return kind.loss(torch.cat([outputs[name] for name in names]), y).mean()

    best, last, kept = math.inf, 0, {}
    for step in range(job.steps + 1):
        if step % 10 == 0:
            with torch.no_grad():
                found = float(loss_on(unseen, truth))
            if found < best:
                best, last = found, step
                kept = {k: v.clone() for k, v in model.state_dict().items()}
            elif step - last > PATIENCE:
                break
        optimizer.zero_grad()
        loss_on(inputs, targets).backward()
        optimizer.step()
    model.load_state_dict(kept)


def score(task: Task, outputs: Tensor, targets: Tensor) -> float:
    """RMSE, or accuracy in per cent; outputs ``[K, N, C]`` are averaged as predictions are."""
    if isinstance(task.kind, Multiclass):
        found = outputs.softmax(-1).mean(0).argmax(-1)
        return float(100 * (found == targets).double().mean())
    return float((outputs.mean(0).squeeze(-1) - targets).square().mean().sqrt())


@functools.lru_cache(maxsize=2)
def grid_of(name: str, seed: int, rows: int) -> AttributeGrid:
    """The grid that a job's cells are of."""
    return GRIDS[name](seed=seed, num_rows=rows)


def work(job: Job) -> dict[str, Any]:
    """Scores of the left-out cells, in the order of the tasks."""
    torch.set_num_threads(1)
    grid = grid_of(job.grid, job.seed, job.rows)
    tasks = grid.problem.tasks
    if job.method == LEARNED:
        return learned(job, grid)
    # Other seeds leave out other cells, so that few seeds see all of them.
    stride = math.ceil(len(tasks) / job.held_out) if job.held_out else 1
    cells = list(range(job.seed % stride, len(tasks), stride))
    scores = []
    model = None
    for cell in cells:
        if job.method != ORACLE or model is None:
            torch.manual_seed(job.seed)
            kept = [t for t in range(len(tasks)) if t != cell or job.method == ORACLE]
            seen = [tasks[t] for t in kept]
            size = grid.problem.test.parts[seen[0].name].inputs.shape[1]  # type: ignore[union-attr]
            model = METHODS[job.method](grid.multi_hot[kept], seen, size, job)
            train(model, grid, job)
        name = tasks[cell].name
        inputs, targets = rows_of(grid.problem.test, [name])  # type: ignore[arg-type]
        with torch.no_grad():
            outputs = model.predict_for(inputs[name], asked_for(grid, cell, kept, job.method))
        scores.append(score(tasks[cell], outputs.movedim(1, 0), targets))
    return {"scores": scores, "cells": cells}


def asked_for(grid: AttributeGrid, cell: int, kept: Sequence[int], method: str) -> Tensor:
    """Descriptors whose predictions are averaged for a cell: its own, or those of its nearest."""
    if method == "pooling":
        return torch.ones(1, 1)
    if method != "nearest descriptor":
        return grid.multi_hot[[cell]]
    places = grid.coordinates
    distances = (places[kept] - places[cell]).norm(dim=1)
    near = torch.nonzero(distances <= distances.min() + 1e-6).flatten()
    return torch.eye(len(kept))[near]


def learned(job: Job, grid: AttributeGrid) -> dict[str, Any]:
    """Embeddings of all tasks, learned without a word about the attributes."""
    from scipy.stats import spearmanr

    torch.manual_seed(job.seed)
    tasks = grid.problem.tasks
    size = grid.problem.test.parts[tasks[0].name].inputs.shape[1]  # type: ignore[union-attr]
    names = [task.name for task in tasks]
    model = TwoSided(
        descriptors=TaskDescriptors(names=names, size=EMBEDDING, deviation=SMALL),
        tasks=tasks, inner_size=INNER, bias=True, **_encoder(size, job),
    )  # fmt: skip
    train(model, grid, job)
    pairs = torch.triu_indices(len(tasks), len(tasks), 1)
    found = model.descriptors.distances()[*pairs].numpy()
    given = torch.cdist(grid.multi_hot, grid.multi_hot)[*pairs].numpy()
    by_axis = {}
    for attribute, column in zip(grid.attributes, grid.coordinates.T, strict=True):
        apart = (column[:, None] - column[None]).abs()[*pairs]
        # Levels of the bilinear grid have no order: they are the same or not.
        known = apart.sign() if job.grid == "bilinear" else apart
        by_axis[attribute] = float(spearmanr(found, known.numpy()).statistic)
    return {
        "vectors": model.descriptors.vectors.detach().tolist(),
        "rank_correlation": float(spearmanr(found, given).statistic),
        "by_attribute": by_axis,
    }


# --- results -------------------------------------------------------------------------------------


def jobs_of(settings: Settings) -> list[Job]:
    """Every run, seed by seed."""
    return [
        settings.job(Job, grid=grid, net=net, method=method, seed=seed)
        for seed in settings.seeds
        for grid in settings.grids
        for net in settings.nets
        for method in (*(LINEAR if net == "linear" else METHODS), LEARNED)
    ]


def overlap_of(grid: str, settings: Settings) -> float:
    """Share of test to training rows where seeds draw both from the same images."""
    return 0.0 if grid == "bilinear" else 300 / (0.8 * settings.rows * 19)


def summarise(runs: Sequence[dict[str, Any]], settings: Settings) -> dict[str, Any]:
    """Per grid and sort of network: mean score of each method and its difference from ours."""
    found: dict[str, Any] = {}
    for grid in settings.grids:
        overlap = overlap_of(grid, settings)
        for net in settings.nets:
            chosen = [r for r in runs if r["grid"] == grid and r["net"] == net]
            means = {
                method: [float(np.mean(r["scores"])) for r in chosen if r["method"] == method]
                for method in METHODS
            }
            entries = {}
            for method, values in means.items():
                if not values:
                    continue
                summary = interval(values, overlap=overlap)
                difference = np.array(values) - np.array(means[OURS][: len(values)])
                test = paired_test(difference, overlap=overlap)
                entries[method] = {
                    "mean": summary.mean,
                    "half_width": summary.half_width,
                    "difference": [test.interval.mean, test.interval.low, test.interval.high],
                    "p": test.p,
                    "seeds": values,
                }
            embeddings = [r for r in chosen if r["method"] == LEARNED]
            found[f"{grid}, {net}"] = {
                "methods": entries,
                "rank_correlation": [r["rank_correlation"] for r in embeddings],
                "by_attribute": {
                    name: [r["by_attribute"][name] for r in embeddings]
                    for name in (embeddings[0]["by_attribute"] if embeddings else ())
                },
            }
    return found


def written(title: str, method: str, entry: dict[str, Any]) -> tuple[str, str]:
    """A method's score and its difference from ours, as tables have them."""
    digits = 3 if title.startswith("bilinear") else 1
    score = f"{entry['mean']:.{digits}f} ± {entry['half_width']:.{digits}f}"
    form = "{:+.Nf} ({:+.Nf} to {:+.Nf})".replace("N", str(digits))
    return score, "" if method == OURS else form.format(*entry["difference"])


def show(summary: dict[str, Any]) -> str:
    """One table per grid and sort of network."""
    parts = []
    for name, entry in summary.items():
        metric = "RMSE" if name.startswith("bilinear") else "accuracy, %"
        rows = [(method, *written(name, method, e)) for method, e in entry["methods"].items()]
        header = ("method", f"{metric} of cells never seen", "difference from two-sided")
        parts.append(f"{name}:\n\n{table(header, rows)}")
        correlation = shown(entry["rank_correlation"])
        axes = ", ".join(f"{k} {shown(v)}" for k, v in entry["by_attribute"].items())
        parts.append(
            f"Learned embeddings ({EMBEDDING} numbers): rank correlation of their distances with "
            f"the number of attributes that differ {correlation}; with each attribute: {axes}."
        )
    return "\n\n".join(parts)


def draw(summary: dict[str, Any], settings: Settings) -> Figure:
    """A dot and interval per method."""
    figure, axes = canvas(len(settings.grids), len(settings.nets), width=6.2, height=2.9)
    names = list(METHODS)
    for ax, (title, entry) in zip(axes.flat, summary.items(), strict=True):
        for i, (method, e) in enumerate(entry["methods"].items()):
            half = 0 if math.isnan(e["half_width"]) else e["half_width"]
            ax.errorbar(
                e["mean"], i, xerr=half, fmt="o", capsize=3, color=COLOURS[names.index(method)]
            )
        ax.set_yticks(range(len(entry["methods"])), list(entry["methods"]))
        ax.invert_yaxis()
        ax.grid(axis="x", alpha=0.3)
        low = "RMSE (lower is better)" if title.startswith("bilinear") else "accuracy, %"
        label(ax, title, low, "")
    return figure


def report(runs: Sequence[dict[str, Any]], settings: Settings) -> Report:
    summary = rounded(summarise(runs, settings))
    text = show(summary)
    last = [r for r in runs if r["method"] == LEARNED and r["grid"] == settings.grids[-1]]
    grid = grid_of(settings.grids[-1], settings.seeds[0], settings.rows)
    names = [task.name for task in grid.problem.tasks]
    content = {"command": "python -m experiments.universal.zero_shot.run", "summary": summary}
    files = {
        "figure.png": draw(summary, settings),
        "learned.png": descriptor_figure(np.array(last[0]["vectors"]), names),
        "table.md": text,
    }
    return Report(content, text, files)


SMOKE = {"rows": 20, "steps": 20, "held_out": 1, "seeds": (0, 1), "width": 8}
SCALES = {"full": {"held_out": 0, "seeds": tuple(range(20))}}

main = experiment(Settings, report, jobs=jobs_of, work=work, smoke=SMOKE, scales=SCALES)


if __name__ == "__main__":
    main()
