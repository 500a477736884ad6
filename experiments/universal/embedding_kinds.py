"""Four kinds of variable embeddings in one model that fills in what it is not given.

What the experiments on temperatures and pixels share: training one kind, its error on what was not
given, and whether embeddings lie in the order of the places where their variables were measured.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from experiments.showing import canvas, label
from matplotlib.figure import Figure
from scipy.stats import spearmanr
from torch import Tensor

from polytask.architectures.variables.traveling_observer import TravelingObserver
from polytask.architectures.variables.variable_embeddings import VariableEmbeddings
from polytask.problems import Problem, Split
from polytask.training import Observer, Trainer, TrainingSettings, TrainingStart
from polytask.training.prediction import predict_outputs
from polytask.training.reports import StepReport

#: How the embeddings come about. "random" is as small as the start of "learned".
KINDS = ("none", "random", "random, unit scale", "learned", "oracle")
#: Where the panels of a figure of embeddings are taken, as shares of all steps.
PANELS = (0.0, 0.02, 0.05, 0.1, 0.25, 0.5, 0.75, 1.0)


class Job(Protocol):
    """What the jobs of both experiments have in common."""

    kind: str
    affine: bool
    seed: int
    steps: int
    hidden: int
    layers: int
    size: int
    batch_size: int
    learning_rate: float


@dataclass(frozen=True)
class Trained:
    """A trained model, its embeddings ``[V, C]`` on the way, and what it cost."""

    architecture: TravelingObserver
    snapshots: Mapping[int, Tensor]
    best_step: int
    seconds: float


class Snapshots(Observer):
    """Keeps the embeddings after some steps."""

    def __init__(self, table: VariableEmbeddings, steps: Sequence[int]) -> None:
        self.table, self.steps = table, set(steps)
        self.found: dict[int, Tensor] = {}

    def on_start(self, start: TrainingStart) -> None:
        del start
        self._keep(0)

    def on_step(self, report: StepReport) -> None:
        self._keep(report.step)

    def _keep(self, step: int) -> None:
        if step in self.steps:
            self.found[step] = self.table.weight.detach().cpu().clone()


def train(problem: Problem, job: Job, *, oracle: Tensor, chunk: int | None = None) -> Trained:
    """Train one kind of embeddings; the epoch with the best validation loss is kept."""
    count = len(problem.tasks)
    torch.manual_seed(job.seed)
    architecture = TravelingObserver(
        tasks=problem.tasks,
        columns=count,
        embeddings=embeddings(job.kind, count, job.size, oracle),
        hidden=job.hidden,
        encoder_layers=job.layers,
        core_layers=job.layers,
        decoder_layers=job.layers,
        affine=job.affine,
        same_variables=True,
        observe=(1, count - 1),
        encoder_chunk=chunk,
        decoder_chunk=chunk,
    )
    steps_per_epoch = math.ceil(len(problem.train) / job.batch_size)
    epochs = math.ceil(job.steps / steps_per_epoch)
    snapshots = Snapshots(architecture.table, panels(job.steps))
    trainer = Trainer(
        problem,
        architecture,
        settings=TrainingSettings(
            epochs=epochs,
            batch_size=job.batch_size,
            learning_rate=job.learning_rate,
            weight_decay=0.0,
            patience=None,
            clip_norm=None,
            seed=job.seed,
        ),
        observers=[snapshots],
    )
    started = time.process_time()
    result = trainer.fit()
    return Trained(
        architecture=architecture,
        snapshots=snapshots.found,
        best_step=result.best_epoch * trainer.steps_per_epoch,
        seconds=time.process_time() - started,
    )


def embeddings(kind: str, count: int, size: int, oracle: Tensor) -> VariableEmbeddings:
    """The embeddings of a kind."""
    if kind == "oracle":
        return VariableEmbeddings.oracle(oracle.tolist())
    if kind == "none":
        return VariableEmbeddings.none(count, size)
    if kind.startswith("random"):
        return VariableEmbeddings.random(count, size, std=1.0 if "unit" in kind else 1e-3)
    return VariableEmbeddings.learned(count, size)


def panels(steps: int) -> list[int]:
    """Steps after which the embeddings are drawn."""
    return sorted({round(share * steps) for share in PANELS})


def unseen(architecture: TravelingObserver, split: Split) -> tuple[Tensor, Tensor]:
    """Outputs and targets ``[cells]`` of all variables that were not given, as they are encoded."""
    outputs = predict_outputs(architecture, split, batch_size=256)
    names = [task.name for task in split.tasks]
    said = torch.stack([outputs[name].squeeze(-1) for name in names], dim=1)
    true = torch.stack([split.targets[name] for name in names], dim=1)
    asked = ~torch.isnan(true)
    return said[asked], true[asked]


def order(found: Tensor, places: Tensor) -> float:
    """Rank correlation of the distances between embeddings with those between places ``[V, D]``."""
    pairs = torch.triu_indices(len(places), len(places), 1)
    distances = [torch.cdist(x.double(), x.double())[pairs[0], pairs[1]] for x in (found, places)]
    if distances[0].std() == 0:
        return math.nan
    return float(spearmanr(distances[0].numpy(), distances[1].numpy()).statistic)


def principal(found: Tensor) -> np.ndarray:
    """Coordinates of the embeddings along their principal axes ``[V, C]``."""
    centred = found.double() - found.double().mean(0)
    axes = torch.linalg.svd(centred, full_matrices=False).Vh
    coordinates: np.ndarray = (centred @ axes.T).numpy()
    return coordinates


def draw(
    snapshots: Mapping[int, Any],
    colours: np.ndarray,
    *,
    edges: Sequence[tuple[int, int]],
    colour_name: str,
) -> Figure:
    """The embeddings after several steps, each panel at its own scale.

    Args:
        snapshots: Embeddings ``[V, 2]`` after each step.
        colours: A number per variable ``[V]``.
        edges: Pairs of variables that are neighbours; a line joins them.
        colour_name: What the colour means.
    """
    columns = min(4, len(snapshots))
    figure, axes = canvas(-(-len(snapshots) // columns), columns, width=2.7, height=2.6)
    for ax in axes.flat[len(snapshots) :]:
        ax.axis("off")
    for ax, (step, found) in zip(axes.flat, snapshots.items(), strict=False):
        points = np.asarray(found, dtype=float)
        for i, j in edges:
            ax.plot(*points[[i, j]].T, color="#bbbbbb", linewidth=0.6, zorder=1)
        dots = ax.scatter(*points.T, c=colours, cmap="viridis", s=14, zorder=2)
        ax.set_xticks([])
        ax.set_yticks([])
        label(ax, f"step {step:,}", "", "")
    figure.colorbar(dots, ax=axes, label=colour_name, shrink=0.7)
    return figure
