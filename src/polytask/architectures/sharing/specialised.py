"""Several models of the same tasks, each specialised by the weights of the tasks' losses.

Shape legend: T tasks, B batch, K tasks of one block, C output size, m models, M ensemble members of
all models.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from polytask.architectures.base import Architecture, Inputs, TaskIndex
from polytask.architectures.heads import average_members
from polytask.architectures.sharing.hard_sharing import HardSharing
from polytask.config import rebuildable_repr
from polytask.encoders import MLP
from polytask.tasks import Binary, Task, TaskTensors

__all__ = ["SpecialisedModels", "combine_outputs"]

#: Rows of ``serving`` sum to 1 within it.
TOLERANCE = 1e-6

Matrix = Sequence[Sequence[float]] | Tensor


class SpecialisedModels(Architecture):
    """m models of the same tasks: memberships weigh their losses, and combine their outputs.

    Training: WL_j = sum_t w_tj L_tj, w the memberships and L_tj the loss of task t in model j; all
    WL_j are minimised together, and as the models share nothing, each on its own. Prediction:
    output_t = sum_j s_tj O_tj, s the serving weights and O_tj the class probabilities (numbers for
    regression) of task t in model j; it comes as the logit or log-probability whose
    ``Task.probabilities`` are output_t.

    One pass over the batches trains all models: their outputs are ensemble members ``[M, B, K, C]``
    and the loss of a task is sum_j w_tj L_tj. Uniform memberships 1 / m are an ordinary ensemble;
    memberships 0 and 1 are groups of tasks. Every model has a head for every task (one of
    membership 0 stays untrained). Gradients are clipped per model (see ``parts``); early stopping
    looks at the combined prediction. A model that serves no task is left out of prediction.

    Args:
        models: m architectures of the same tasks in the same order, without common parameters; all
            with the same number of ensemble members of their own.
        memberships: w, ``[T, m]``, >= 0; every task and every model has one above 0.
        serving: s, ``[T, m]``, rows sum to 1, 0 wherever w is; None: w, each row divided by its
            sum, as in the paper, where rows sum to 1.

    Shapes: as the models'; in training a leading axis of M = m times their own members.

    Raises:
        ValueError: models of other tasks or with common parameters, matrices that do not fit.

    Differences: the paper trains the models one after the other; here early stopping is joint.

    Cost: a forward and backward pass per model; in evaluation one per model that serves a task.

    Example:
        >>> import torch
        >>> from polytask.encoders import MLP
        >>> from polytask.tasks import Binary, Task
        >>> tasks = (Task("cat", Binary()), Task("dog", Binary()), Task("car", Binary()))
        >>> models = [
        ...     HardSharing(encoder=MLP(input_size=4, widths=(8,)), tasks=tasks) for _ in range(2)
        ... ]
        >>> w = [[0.9, 0.1], [0.8, 0.2], [0.0, 1.0]]
        >>> specialised = SpecialisedModels(models=models, memberships=w)
        >>> specialised(torch.zeros(5, 4)), specialised.eval()(torch.zeros(5, 4))
        (TaskTensors(3 task(s) (2, 5, 3, 1)), TaskTensors(3 task(s) (5, 3, 1)))

    References:
        A. Sherif, A. Abid, M. Elattar, M. ElHelw, STG-MTL: Scalable Task Grouping for Multi-Task
        Learning Using Data Maps, 2023, https://arxiv.org/abs/2307.03374, equations 3 and 4.
    """

    def __init__(
        self,
        *,
        models: Sequence[Architecture],
        memberships: Matrix,
        serving: Matrix | None = None,
    ) -> None:
        models = tuple(models)
        _check_models(models)
        super().__init__(models[0].tasks)
        names = [task.name for task in self.tasks]
        weights = _matrix("memberships", memberships, names, len(models))
        totals = weights.sum(1, keepdim=True)
        for name, total in zip(names, totals[:, 0].tolist(), strict=True):
            if not total > 0:
                raise ValueError(f"Task {name!r} is in no model; every task needs a membership.")
        if not bool((weights.sum(0) > 0).all()):
            raise ValueError("`memberships` has a model without any task; leave that model out.")
        given = weights / totals if serving is None else serving
        shares = _matrix("serving", given, names, len(models))
        _check_serving(shares, weights, names)
        self.networks = nn.ModuleList(models)
        self.memberships = _nested(weights)
        self.serving = _nested(shares)
        self.positions = {name: position for position, name in enumerate(names)}
        self._weights, self._shares = weights, shares
        self._in_service = (shares > 0).any(0).nonzero().flatten().tolist()

    @classmethod
    def example(cls, tasks: Sequence[Task]) -> tuple[SpecialisedModels, Inputs]:
        models = [
            HardSharing(encoder=MLP(input_size=5, widths=(6,)), tasks=tasks) for _ in range(3)
        ]
        memberships = [[0.25, 0.75, 0.5] if t % 2 else [0.5, 0.125, 1.0] for t in range(len(tasks))]
        return cls(models=models, memberships=memberships), torch.randn(6, 5)

    @property
    def models(self) -> tuple[Architecture, ...]:
        """The models, in order."""
        return tuple(m for m in self.networks if isinstance(m, Architecture))

    def forward(self, inputs: Inputs) -> TaskTensors:
        """In training the outputs of every model, in evaluation the combined ones."""
        if self.training:
            return _side_by_side([model(inputs) for model in self.networks])
        outputs: list[TaskTensors] = [self.networks[j](inputs) for j in self._in_service]
        if len(outputs) == 1:
            return outputs[0]
        blocks = []
        for names, block in _side_by_side(outputs).blocks:
            places = [self.positions[name] for name in names]
            shares = self._shares[places][:, self._in_service]
            blocks.append((names, combine_outputs([self.tasks[t] for t in places], block, shares)))
        return TaskTensors(blocks)

    def member_weights(self) -> Tensor:
        """The memberships ``[T, m]``."""
        return self._weights

    def clip_groups(self) -> Iterator[tuple[nn.Module, float]]:
        """The models; the share of model j is (1/T) sum_t w_tj."""
        yield from zip(self.networks, self._weights.mean(0).tolist(), strict=True)

    def shared_parameters(self) -> Iterator[nn.Parameter]:
        """The shared parameters of every model."""
        for model in self.models:
            yield from model.shared_parameters()

    def task_parameters(self, name: str) -> Iterator[nn.Parameter]:
        """The task's parameters in every model."""
        for model in self.models:
            yield from model.task_parameters(name)

    def task_rows(self, name: str) -> Iterator[tuple[nn.Parameter, TaskIndex]]:
        for model in self.models:
            yield from model.task_rows(name)

    def last_shared_parameters(self) -> Iterator[nn.Parameter]:
        """Parameters of the last shared layer of every model."""
        for model in self.models:
            yield from model.last_shared_parameters()

    def auxiliary_losses(self, inputs: Inputs, outputs: TaskTensors) -> dict[str, Tensor]:
        """The models' own loss terms, each under the number of its model."""
        terms = {}
        inner = outputs.members // len(self.networks)
        for j, model in enumerate(self.models):
            own = outputs
            if inner and len(self.networks) > 1:
                members = slice(j * inner, (j + 1) * inner) if inner > 1 else j
                own = TaskTensors(((n, block[members]) for n, block in outputs.blocks), inner)
            for name, term in model.auxiliary_losses(inputs, own).items():
                terms[f"{name} (model {j})"] = term
        return terms

    def __repr__(self) -> str:
        return rebuildable_repr(self)


def combine_outputs(tasks: Sequence[Task], outputs: Tensor, weights: Tensor) -> Tensor:
    """The outputs whose probabilities are the weighted mean of the models' probabilities (whose
    numbers are that of their numbers), as ``Task.probabilities`` gives them.

    Where the loss has class weights, a task's probabilities are those of its outputs corrected for
    the weights; so the outputs are corrected, averaged, and given the weights back.

    Args:
        tasks: The K tasks of a block.
        outputs: ``[m, B, K, ...]``.
        weights: ``[K, m]``, rows sum to 1.

    Returns:
        ``[B, K, ...]``.
    """
    if outputs.dtype in (torch.bfloat16, torch.float16):
        outputs = outputs.float()
    shares = weights.to(outputs.dtype).to(outputs.device).T
    shares = shares.reshape(len(outputs), 1, len(tasks), *[1] * (outputs.dim() - 3))
    if all(task.class_weights is None for task in tasks):
        return average_members(tasks[0], outputs, shares)
    shift = outputs.new_tensor([_class_shift(task) for task in tasks])
    return average_members(tasks[0], outputs - shift, shares) + shift


def _class_shift(task: Task) -> list[float]:
    """What class weights add to the outputs ``[C]``."""
    classes = 2 if isinstance(task.kind, Binary) else task.kind.output_size
    logs = torch.tensor(task.class_weights or [1.0] * classes, dtype=torch.float64).log()
    if isinstance(task.kind, Binary):
        logs = logs.diff()
    found: list[float] = logs.tolist()
    return found


def _side_by_side(outputs: Sequence[TaskTensors]) -> TaskTensors:
    """Outputs of several models as ensemble members, block by block as the first model has them."""
    if len(outputs) == 1:
        return outputs[0]
    if len({part.members for part in outputs}) > 1:
        raise ValueError(
            "The models of SpecialisedModels must have the same number of ensemble members, found"
            f" {[part.members for part in outputs]}."
        )
    blocks = [
        (names, torch.cat([_members_first(part, names) for part in outputs]))
        for names, _ in outputs[0].blocks
    ]
    return TaskTensors(blocks, sum(part.members for part in outputs))


def _members_first(outputs: TaskTensors, names: tuple[str, ...]) -> Tensor:
    """Outputs of some tasks ``[M, B, K, ...]``, also where M is 1."""
    block = outputs.stacked(names)
    return block if outputs.members > 1 else block.unsqueeze(0)


def _check_models(models: Sequence[Architecture]) -> None:
    if not models:
        raise ValueError("SpecialisedModels needs at least one model, found none.")
    for j, model in enumerate(models):
        if not isinstance(model, Architecture):
            raise TypeError(
                f"`models` must be architectures of Polytask, found {type(model).__name__} as model"
                f" {j}; wrap a module of your own with CustomArchitecture."
            )
        if model.tasks != models[0].tasks:
            raise ValueError(
                "The models of SpecialisedModels must have the same tasks in the same order, found"
                f" {[t.name for t in models[0].tasks]} and {[t.name for t in model.tasks]}"
                f" (model {j})."
            )
    parameters = [id(p) for model in models for p in model.parameters()]
    if len(set(parameters)) < len(parameters):
        raise ValueError(
            "The models of SpecialisedModels must not share parameters; build each one anew."
        )


def _matrix(name: str, values: Matrix, tasks: Sequence[str], models: int) -> Tensor:
    matrix = torch.as_tensor(values, dtype=torch.float64).detach().cpu().clone()
    if matrix.shape != (len(tasks), models):
        raise ValueError(
            f"`{name}` must be [{len(tasks)} tasks, {models} models], found shape"
            f" {list(matrix.shape)}."
        )
    if not bool((torch.isfinite(matrix) & (matrix >= 0)).all()):
        raise ValueError(f"`{name}` must be finite and >= 0, found {matrix.tolist()}.")
    return matrix


def _check_serving(shares: Tensor, weights: Tensor, tasks: Sequence[str]) -> None:
    for name, total in zip(tasks, shares.sum(1).tolist(), strict=True):
        if abs(total - 1) > TOLERANCE:
            raise ValueError(f"Row {name!r} of `serving` must sum to 1, found {total}.")
    for t, j in ((shares > 0) & (weights == 0)).nonzero().tolist():
        raise ValueError(f"Task {tasks[t]!r} is served by model {j}, which does not train it.")


def _nested(matrix: Tensor) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(row) for row in matrix.tolist())
