"""The methods that the system is compared with: networks of the paper's tables, and trees.

Networks learn from the training rows; per set the accuracy on the test rows counts that belongs to
the best accuracy on the validation rows, as in the paper. Trees learn from training and validation
rows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from polytask.architectures import Architecture, HardSharing
from polytask.architectures.variables.deep_residual import DeepResidual
from polytask.architectures.variables.soft_layer_ordering import SoftLayerOrdering
from polytask.architectures.variables.traveling_observer import TravelingObserver
from polytask.encoders.snn import SNN
from polytask.problems import Problem
from polytask.problems.table_stream import TableBatchSplit, TableBatchStream
from polytask.tasks import TaskTensors
from polytask.training import predict_outputs

#: An untrained network for a problem's tasks.
Build = Callable[[Problem], Architecture]


@dataclass(frozen=True)
class Plan:
    """How networks are trained."""

    steps: int
    rows: int = 32
    looks: int = 4
    hidden: int = 64
    learning_rate: float = 3e-3
    weight_decay: float = 1e-4
    seed: int = 0


@dataclass
class Kept:
    """Per set the test accuracy at the best validation accuracy so far."""

    problem: Problem
    best: dict[str, float] = field(default_factory=dict)
    test: dict[str, float] = field(default_factory=dict)

    def look(self, model: Architecture) -> None:
        """Judge all sets; of equal validation accuracies the later counts."""
        found = accuracies(model, self.problem.validation)
        better = [name for name, value in found.items() if value >= self.best.get(name, -1.0)]
        if better:
            self.best |= {name: found[name] for name in better}
            self.test |= accuracies(model, self.problem.test.select(better))


def builds(hidden: int) -> dict[str, Build]:
    """The networks of tables 2 and 3."""

    def columns(problem: Problem) -> dict[str, Any]:
        return dict(problem.table_shapes())

    def observer(problem: Problem) -> Architecture:
        return TravelingObserver(
            tasks=problem.tasks,
            columns=columns(problem),
            embeddings=hidden,
            hidden=hidden,
            affine=True,
        )

    def residual(problem: Problem) -> Architecture:
        return DeepResidual(tasks=problem.tasks, columns=columns(problem), hidden=hidden)

    def ordering(problem: Problem) -> Architecture:
        return SoftLayerOrdering(tasks=problem.tasks, columns=columns(problem), hidden=hidden)

    def snn(problem: Problem) -> Architecture:
        (task,) = problem.tasks
        width = problem.train.parts[task.name].inputs.shape[1]
        encoder = SNN(input_size=width, widths=(2 * hidden,) * 4, dropout=0.05)
        return HardSharing(encoder=encoder, tasks=problem.tasks)

    return {
        "TOM": observer,
        "SLO": ordering,
        "DR-MTL": residual,
        "DR-STL": residual,
        "TOM-STL": observer,
        "SNN": snn,
    }


#: Trees of the forest, as in the reference.
TREES = 500
#: Methods that train one network per set.
SINGLE = ("DR-STL", "TOM-STL", "SNN")


def run_network(problem: Problem, method: str, plan: Plan) -> dict[str, float]:
    """Test accuracy per set of one of the networks."""
    build = builds(plan.hidden)[method]
    loss = cross_entropy if method == "SNN" else squared_hinge
    if method not in SINGLE:
        return fit(problem, build, plan, loss).test
    found: dict[str, float] = {}
    for task in problem.tasks:
        found |= fit(problem.select_tasks([task.name]), build, plan, loss).test
    return found


def fit(
    problem: Problem, build: Build, plan: Plan, loss: Callable[[Tensor, Tensor], Tensor]
) -> Kept:
    """Train one network on all tasks of a problem, as many rows of each in every step."""
    torch.manual_seed(plan.seed)
    model = build(problem).train()
    optimizer = torch.optim.Adam(
        model.parameters(), lr=plan.learning_rate, weight_decay=plan.weight_decay, fused=True
    )
    data = TableBatchSplit(problem.train)
    stream = TableBatchStream(data.counts, plan.rows, plan.seed)
    every = torch.arange(len(data.names))
    kept = Kept(problem)
    stops = {max(1, round(plan.steps * (look + 1) / plan.looks)) for look in range(plan.looks)}
    for step in range(1, plan.steps + 1):
        batch = data.batch(data.names, stream.draw(every))
        optimizer.zero_grad(set_to_none=True)
        mean_loss(model(batch.inputs), batch.targets, loss).backward()
        optimizer.step()
        if step in stops:
            kept.look(model)
            model.train()
    return kept


def mean_loss(
    outputs: TaskTensors, targets: TaskTensors, loss: Callable[[Tensor, Tensor], Tensor]
) -> Tensor:
    """Mean over rows and tasks of the loss."""
    total = torch.zeros(())
    for names, block in outputs.blocks:
        found = targets.block(names)
        classes = found if found is not None else torch.stack([targets[n] for n in names], dim=1)
        total = total + loss(block, classes.long()).mean(0).sum()
    return total / len(outputs)


def squared_hinge(outputs: Tensor, classes: Tensor) -> Tensor:
    """Sum over classes of max(0, 1 - t p)^2 with t = 1 for the row's class and -1 for others; as in
    the paper. Outputs of -inf (padding) add nothing.
    """
    signs = 2 * functional.one_hot(classes, outputs.shape[-1]).to(outputs.dtype) - 1
    return (1 - signs * outputs).clamp_min(0).square().sum(-1)


def cross_entropy(outputs: Tensor, classes: Tensor) -> Tensor:
    """Minus the logarithm of the probability of the row's class."""
    chosen = outputs.gather(-1, classes.unsqueeze(-1)).squeeze(-1)
    return outputs.logsumexp(-1) - chosen


def accuracies(model: Architecture, split: Any) -> dict[str, float]:
    """Of every task of a split."""
    outputs = predict_outputs(model, split)
    return {
        task.name: float(
            (outputs[task.name].argmax(-1) == split.parts[task.name].targets[task.name])
            .double()
            .mean()
        )
        for task in split.tasks
    }


def run_trees(
    problem: Problem, method: str, seed: int, other_tests: Mapping[str, Tensor]
) -> tuple[dict[str, float], dict[str, float]]:
    """Accuracies of scikit-learn's forest (500 trees) or gradient boosting, per set: on the test
    rows as they are, and on other versions of the test rows of some sets.
    """
    from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier

    found: dict[str, float] = {}
    other: dict[str, float] = {}
    for task in problem.tasks:
        train, test = (s.parts[task.name] for s in (problem.train, problem.test))
        x, y = train.inputs.numpy(), train.targets[task.name].numpy()
        expected = test.targets[task.name].numpy()
        if method == "forest":
            model: Any = RandomForestClassifier(n_estimators=TREES, random_state=seed)
        else:
            model = HistGradientBoostingClassifier(random_state=seed, early_stopping=False)
        model.fit(x, y)
        found[task.name] = float(np.mean(model.predict(test.inputs.numpy()) == expected))
        if task.name in other_tests:
            rows = other_tests[task.name].numpy()
            other[task.name] = float(np.mean(model.predict(rows) == expected))
    return found, other
