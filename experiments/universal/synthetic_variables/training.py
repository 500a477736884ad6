"""The six methods of the paper on tables that share no variables, all trained by the same code."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from polytask.architectures.base import Architecture
from polytask.architectures.variables.deep_residual import DeepResidual
from polytask.architectures.variables.soft_layer_ordering import SoftLayerOrdering
from polytask.architectures.variables.traveling_observer import TravelingObserver
from polytask.architectures.variables.variable_embeddings import VariableEmbeddings
from polytask.problems import Problem, SeparateSplit
from polytask.samplers import Sampler
from polytask.tasks import Multiclass, Regression, Task
from polytask.training import Trainer, TrainingSettings
from polytask.training.prediction import predict_outputs

METHODS = ("DR-STL", "TOM-STL", "DR-MTL", "SLO", "TOM", "TOM oracle")


@dataclass(frozen=True)
class Job:
    """One method on one of the problems, trained once; of single-task networks, one per task."""

    problem: str
    method: str
    seed: int
    steps: int
    every: int
    tasks_per_step: int
    single: int
    largest: int
    test_rows: int
    hidden: int
    layers: int
    size: int
    affine: bool
    embedding_rate: float
    batch_size: int
    learning_rate: float
    schedule: str
    weight_decay: float


@dataclass
class Kept:
    """Per task the test score at the best validation score; the mean validation score on the
    way.
    """

    problem: Problem
    best: dict[str, float] = field(default_factory=dict)
    test: dict[str, float] = field(default_factory=dict)
    curve: dict[int, float] = field(default_factory=dict)

    def look(self, architecture: Architecture, step: int) -> None:
        """Score all tasks; of equal validation scores the later counts."""
        found = scores(architecture, self.problem.validation)
        self.curve[step] = sum(found.values()) / len(found)
        better = [name for name, score in found.items() if score >= self.best.get(name, -math.inf)]
        if better:
            self.best |= {name: found[name] for name in better}
            self.test |= scores(architecture, self.problem.test.select(better))


class SomeTasks(Sampler):
    """So many tasks per step, drawn uniformly and without repetition; 0 means all of them."""

    def __init__(self, *, count: int, seed: int) -> None:
        self.count, self.seed = count, seed
        self._generator = torch.Generator().manual_seed(seed)

    def draw(self, problem: Problem) -> tuple[str, ...] | None:
        total = len(problem.tasks)
        if not 0 < self.count < total:
            return None
        chosen = torch.randperm(total, generator=self._generator)[: self.count]
        return tuple(problem.tasks[t].name for t in chosen.sort().values.tolist())


@dataclass(frozen=True)
class Outcome:
    """Test scores per task, mean validation scores by step, embeddings and processor seconds."""

    test: Mapping[str, float]
    curve: Mapping[int, float]
    embeddings: Tensor | None
    seconds: float


def train(problem: Problem, job: Job, *, oracle: Tensor) -> Outcome:
    """Train a method: one network for all tasks, or one per task."""
    started = time.process_time()
    kept, embeddings = Kept(problem), None
    if job.method.endswith("STL"):
        for task in problem.tasks:
            own, _ = _fit(problem.select_tasks([task.name]), job, oracle)
            kept.test |= own.test
            for step, value in own.curve.items():
                kept.curve[step] = kept.curve.get(step, 0) + value / len(problem.tasks)
    else:
        kept, architecture = _fit(problem, job, oracle)
        if isinstance(architecture, TravelingObserver):
            embeddings = architecture.table.weight.detach()
    return Outcome(kept.test, kept.curve, embeddings, time.process_time() - started)


def _fit(problem: Problem, job: Job, oracle: Tensor) -> tuple[Kept, Architecture]:
    torch.manual_seed(job.seed)
    model = architecture(problem, job, oracle)
    steps_per_epoch = math.ceil(len(problem.train) / job.batch_size)
    trainer = Trainer(
        problem,
        model,
        sampler=SomeTasks(count=job.tasks_per_step, seed=job.seed),
        settings=TrainingSettings(
            epochs=math.ceil(job.steps / steps_per_epoch),  # the length of the schedule
            schedule="cosine" if job.schedule == "cosine" else "constant",
            batch_size=job.batch_size,
            learning_rate=job.learning_rate,
            clip_norm=None,
            seed=job.seed,
        ),
        optimizer=lambda groups: adam(model, groups, job),
    )
    kept = Kept(problem)
    model.train()
    for step in range(1, job.steps + 1):
        trainer.train_step()
        if step % job.every == 0 or step == job.steps:
            kept.look(model, step)
    return kept, model


def adam(model: Architecture, groups: list[dict[str, Any]], job: Job) -> torch.optim.Optimizer:
    """The paper's optimiser; TOM's embeddings may have a rate of their own."""
    table = model.table.weight if isinstance(model, TravelingObserver) else None
    every = [parameter for group in groups for parameter in group["params"]]
    chosen = [{"params": [parameter for parameter in every if parameter is not table]}]
    if isinstance(table, torch.nn.Parameter):
        chosen.append({"params": [table], "lr": job.embedding_rate})
    rates = {"lr": job.learning_rate, "weight_decay": job.weight_decay}
    return torch.optim.Adam(chosen, **rates, fused=True)


def architecture(problem: Problem, job: Job, oracle: Tensor) -> Architecture:
    """The untrained network of a method for some tasks."""
    columns = {name: shape.num_numeric for name, shape in problem.table_shapes().items()}
    if job.method.startswith("DR"):
        return DeepResidual(
            tasks=problem.tasks, columns=columns, hidden=job.hidden, layers=job.layers
        )
    if job.method == "SLO":
        return SoftLayerOrdering(
            tasks=problem.tasks, columns=columns, hidden=job.hidden, depth=job.layers
        )
    known = job.method == "TOM oracle"
    return TravelingObserver(
        tasks=problem.tasks,
        columns=columns,
        embeddings=VariableEmbeddings.oracle(oracle.tolist()) if known else job.size,
        hidden=job.hidden,
        encoder_layers=job.layers,
        core_layers=job.layers,
        decoder_layers=job.layers,
        affine=job.affine,
    )


def scores(model: Architecture, split: SeparateSplit) -> dict[str, float]:
    """Accuracy, or the negative squared error, of every task: higher is better."""
    outputs = predict_outputs(model, split)
    return {
        task.name: score(task, outputs[task.name], split.parts[task.name].targets[task.name])
        for task in split.tasks
    }


def score(task: Task, output: Tensor, target: Tensor) -> float:
    """Of one task."""
    if isinstance(task.kind, Multiclass):
        return float((output.argmax(-1) == target).double().mean())
    assert isinstance(task.kind, Regression)
    return -float((task.kind.predict(output) - target).square().double().mean())
