"""Fine-tuning: a model that was trained on all tasks becomes, task by task, a model of one."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from polytask.architectures.base import Architecture, Inputs, TaskIndex
from polytask.problems.problem import Problem
from polytask.problems.splits import AnySplit
from polytask.tasks import Task, TaskTensors
from polytask.training.prediction import predict_outputs, validation_losses
from polytask.training.settings import TrainingSettings
from polytask.training.trainer import OptimizerFactory, Trainer

__all__ = ["FineTuned", "fine_tune"]


@dataclass(frozen=True)
class FineTuned:
    """The model of every task after fine-tuning.

    Args:
        models: Task name to a model whose outputs for that task count: a copy of the joint model,
            or the joint model itself where fine-tuning did not make the task better (or was not
            tried).
        before: Validation loss of every task in the joint model.
        after: Validation loss of every task in its copy, for the tasks that were tried.
    """

    models: Mapping[str, Architecture]
    before: Mapping[str, float]
    after: Mapping[str, float]

    @property
    def improved(self) -> tuple[str, ...]:
        """Tasks that have a model of their own now."""
        return tuple(name for name, loss in self.after.items() if loss < self.before[name])

    def predict_outputs(self, split: AnySplit) -> dict[str, Tensor]:
        """Outputs ``[N, C]`` of every task by its model, on the CPU."""
        found: dict[str, Tensor] = {}
        joint = [name for name in self.models if name not in self.improved]
        if joint:
            outputs = predict_outputs(self.models[joint[0]], split)
            found.update({name: outputs[name] for name in joint})
        for name in self.improved:
            part = split.select([name]) if split.layout == "separate" else split
            found[name] = predict_outputs(_OneOf(self.models[name], name), part)[name]
        return {name: found[name] for name in self.models}


def fine_tune(
    architecture: Architecture,
    problem: Problem,
    *,
    tasks: Sequence[str] | None = None,
    min_rows: int = 1,
    settings: TrainingSettings | None = None,
    optimizer: OptimizerFactory | None = None,
) -> FineTuned:
    """Train a copy of a joint model on the rows of one task alone, for task after task.

    What is learned from all tasks is the start, and each task then has all parameters to itself.
    Per task the epoch of the lowest validation loss counts, and where none is lower than that of
    the joint model, the task keeps the joint model: on the validation rows no task becomes worse.

    Args:
        architecture: The joint model, trained; it is not changed.
        problem: The problem it was trained on.
        tasks: Names of the tasks to try; None means all.
        min_rows: Labelled training rows that a task needs to be tried (5,000 in the paper of the
            Traveling Observer Model).
        settings: Of the training of each copy; None means at most 20 epochs at a learning rate of
            3e-4, and 5 without a better one.
        optimizer: As for ``Trainer``.

    Raises:
        ValueError: an unknown task, or a problem with other tasks than the model.

    Cost: one short training run per task, and memory for one copy of the model per task that
        improved.

    Example:
        >>> import torch
        >>> from polytask import HardSharing, MLP, Problem, Regression, TrainingSettings
        >>> x = torch.randn(200, 4, generator=torch.Generator().manual_seed(0))
        >>> targets = {"sum": x.sum(1), "first": x[:, 0]}
        >>> problem = Problem.from_arrays(x, targets, {name: Regression() for name in targets})
        >>> model = HardSharing(encoder=MLP(input_size=4, widths=(32,)), tasks=problem.tasks)
        >>> tuned = fine_tune(model, problem, settings=TrainingSettings(epochs=3))
        >>> tuned.improved
        ('sum', 'first')
    """
    names = [task.name for task in architecture.tasks]
    if names != [task.name for task in problem.tasks]:
        raise ValueError(
            f"The architecture has tasks {names} but the problem has "
            f"{[task.name for task in problem.tasks]}."
        )
    for name in tasks or ():
        problem.task(name)
    settings = settings or TrainingSettings(epochs=20, learning_rate=3e-4, patience=5)
    device = settings.resolved_device()
    architecture.to(device)
    before = validation_losses(architecture, problem.validation.to(device))
    models: dict[str, Architecture] = dict.fromkeys(names, architecture)
    after: dict[str, float] = {}
    for name in names if tasks is None else tasks:
        if name not in before or problem.train.num_labels(name) < min_rows:
            continue
        own = _rows_of(problem, name)
        model = _OneOf(copy.deepcopy(architecture), name)
        Trainer(own, model, settings=settings, optimizer=optimizer).fit()
        after[name] = validation_losses(model, own.validation.to(device))[name]
        if after[name] < before[name]:
            models[name] = model.model
    return FineTuned(models, before, after)


def _rows_of(problem: Problem, name: str) -> Problem:
    """The problem of one task, in its layout, with its labelled rows only."""
    own = problem.select_tasks([name])
    if own.layout == "separate":
        return own
    return Problem(
        name=own.name,
        train=own.train.parts[name],
        validation=own.validation.parts[name],
        test=own.test,
        table=own.table,
        check_classes=own.check_classes,
    )


class _OneOf(Architecture):
    """A model of several tasks, seen as a model of one of them."""

    def __init__(self, model: Architecture, name: str) -> None:
        task: Task = next(task for task in model.tasks if task.name == name)
        super().__init__((task,))
        self.model = model
        self.takes_table_batches = model.takes_table_batches  # type: ignore[misc] # of this model, not of the class
        self._place = model.tasks.index(task)

    def forward(self, inputs: Inputs) -> TaskTensors:
        """The outputs of the task."""
        return TaskTensors.from_mapping(self.model(inputs)).select([self.tasks[0].name])

    def shared_parameters(self) -> Iterator[nn.Parameter]:
        """All parameters: they are trained as a whole."""
        return self.model.parameters()

    def task_parameters(self, name: str) -> Iterator[nn.Parameter]:
        """None."""
        del name
        return iter(())

    def task_rows(self, name: str) -> Iterator[tuple[nn.Parameter, TaskIndex]]:
        """None."""
        del name
        return iter(())

    def member_weights(self) -> Tensor | None:
        """Those of the task."""
        weights = self.model.member_weights()
        return None if weights is None else weights[self._place : self._place + 1]
