"""TAG: what one step on a task does to the losses of the others, recorded while all are trained
together.

Shape legend: T tasks, K tasks with labels in a batch, B batch, P shared parameters, I and O inputs
and outputs of the last shared layer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

from polytask import gradients
from polytask.architectures.base import Architecture
from polytask.gradients.engine import Seed
from polytask.grouping.affinity_grouper import AffinityGrouper
from polytask.grouping.base import Affinity
from polytask.grouping.grouping import GroupingCost
from polytask.grouping.learner import Learner
from polytask.grouping.pairs import pair_affinity, too_few_tasks
from polytask.problems.batch import Batch
from polytask.problems.problem import Problem
from polytask.training.losses import TaskLosses
from polytask.training.observers import GradientObserver, task_gramian
from polytask.training.reports import TrainingStart

__all__ = ["TAG", "TaskAffinity", "check_shares", "lookahead_affinity"]

AffinityMode = Literal["exact", "first-order"]
AffinityScope = Literal["trunk", "last"]
#: Losses ``[K]`` of a batch after a step along one task's gradient ``[P]``.
Lookahead = Callable[[Tensor], Tensor]

#: What may stand between the last shared layer and the representation for the short way.
ACTIVATIONS: tuple[Callable[[Tensor], Tensor], ...] = (
    lambda rows: rows,
    functional.relu,
    functional.gelu,
    functional.silu,
    torch.tanh,
    functional.selu,
)


def lookahead_affinity(before: Tensor, after: Tensor) -> Tensor:
    """Affinity of task i onto task j, ``Z_ij = (L_j - L_j|i) / |L_j|``.

    For a positive loss this is the paper's ``1 - L_j|i / L_j``; dividing by the size of the loss
    keeps "positive helps" true for losses that can be negative.

    Args:
        before: L ``[..., T]``.
        after: L_j|i ``[..., T, T]``, the losses (last dimension) after a step on task i.

    Returns:
        ``[..., T, T]`` in double precision; NaN where a loss is 0 or not finite, because then the
        ratio says nothing.

    Example:
        >>> before, after = torch.tensor([2.0, 4.0]), torch.tensor([[1.0, 5.0], [2.0, 3.0]])
        >>> lookahead_affinity(before, after).tolist()
        [[0.5, -0.25], [0.0, 0.25]]
    """
    base = before.double().unsqueeze(-2)
    ratio = (base - after.double()) / base.abs()
    return torch.where(ratio.isfinite(), ratio, torch.nan)


class TaskAffinity(GradientObserver):
    """Inter-task affinity, recorded while the tasks are trained together.

    Z_ij = 1 - L_j(X, θ - η ∇_θ L_i, θ_j) / L_j(X, θ, θ_j), with the shared parameters θ, the heads
    θ_j (which stay), the batch X and the learning rate η; the mean over every ``every``-th step.

    Mode "exact" steps and looks: K gradients and K forward passes, each of which gives the losses
    of all K tasks. Mode "first-order" needs no lookahead:

        Z_ij = η <∇L_i, ∇L_j> / L_j - R_ij / L_j,    R_ij = η^2 / 2 ∇L_i^T H_j ∇L_i + O(η^3),

    so all pairs come from one Gramian of the task gradients, and what is left out is the remainder
    R of second order in η, with the Hessian H_j of task j. Measured (``benchmarks/grouping``): at
    the rate 0.001 the two modes order the pairs alike (Spearman 0.999), at 0.01 still nearly (0.957
    or better); at 0.1 they do so for a perceptron, and no longer for a network with batch norm.

    With scope "last" only the last shared layer moves. If that layer is linear, ``y = A W^T + b``
    with an activation or nothing between y and the heads, a step on task i moves y by
    ``-η (A A^T + 1 1^T) D_i`` with ``D_i = ∇_y L_i [B, O]``: exact, without a pass through the
    trunk for any task. Otherwise the forward passes of mode "exact" are made.

    Every lookahead starts from the same buffers and draws the same random numbers (dropout) as the
    pass it is compared with, and works on copies: parameters are never written to. Looks are in
    full precision. A pair is not counted in a look where the loss it acts on is 0 or something is
    not finite (``undefined`` counts these), nor where one of its tasks has no labels.

    Args:
        every: Steps between two looks; 10 as the authors use.
        mode: "exact" or "first-order".
        scope: "trunk" (all shared parameters) or "last" (those of the last shared layer: another
            quantity, which agrees with the first in a small perceptron, little in a small CNN).
        learning_rate: η; None takes the optimiser's current one.

    Differences: the lookahead is a plain gradient step with rate η, as in the paper's equation,
        whatever the optimiser; no momentum, clipping, or balancer's weights.

    Cost per look: mode "exact" 1 + K forward and K backward passes, "first-order" 1 and K; scope
        "last" one forward pass if the short way applies. Memory: P whatever T in mode "exact",
        ``gradients.TaskGradients`` in mode "first-order"; T^2 for the sums.

    Raises:
        ValueError: A mode, scope or rate that does not exist, or an architecture whose tasks share
            no parameters.

    References:
        C. Fifty, E. Amid, Z. Zhao, T. Yu, R. Anil, C. Finn, Efficiently Identifying Task Groupings
        for Multi-Task Learning, NeurIPS 2021, https://arxiv.org/abs/2109.04617, equation 1.
    """

    def __init__(
        self,
        *,
        every: int = 10,
        mode: AffinityMode = "exact",
        scope: AffinityScope = "trunk",
        learning_rate: float | None = None,
    ) -> None:
        super().__init__(every=every)
        if mode not in ("exact", "first-order"):
            raise ValueError(f"`mode` must be 'exact' or 'first-order', found {mode!r}.")
        if scope not in ("trunk", "last"):
            raise ValueError(f"`scope` must be 'trunk' or 'last', found {scope!r}.")
        if learning_rate is not None and not learning_rate > 0:
            raise ValueError(f"`learning_rate` must be > 0 or None, found {learning_rate}.")
        self.mode: AffinityMode = mode
        self.scope: AffinityScope = scope
        self.learning_rate = learning_rate
        self.tasks: tuple[str, ...] = ()
        self.looks = 0
        self.passes = 0
        self.undefined = 0
        self._sum = self._count = torch.zeros(0, 0, dtype=torch.float64)

    def on_start(self, start: TrainingStart) -> None:
        """Make room for every pair."""
        check_shares(start.architecture, type(self).__name__)
        self.tasks = tuple(task.name for task in start.problem.tasks)
        if self._sum.numel() == 0:
            shape = (len(self.tasks), len(self.tasks))
            self._sum, self._count = torch.zeros(2, *shape, dtype=torch.float64).unbind()

    def observe(self, model: Architecture, losses: TaskLosses, batch: Batch, rate: float) -> None:
        rate = self.learning_rate or rate
        if self.mode == "first-order":
            values, gram = task_gramian(model, losses, batch, self.scope)
            ratio = rate * gram.cpu().double() / values.detach().cpu().double().abs()
            values = torch.where(ratio.isfinite(), ratio, torch.nan)
            self.passes += 1 + (len(batch.tasks) if self.scope == "trunk" else 0)
        else:
            before, after, passes = _look_ahead(model, losses, batch, self.scope, rate)
            values = lookahead_affinity(before.cpu(), after.cpu())
            self.passes += passes
        index = torch.tensor([self.tasks.index(name) for name in batch.tasks])
        pairs = torch.meshgrid(index, index, indexing="ij")
        self._sum[pairs] += values.nan_to_num(nan=0.0)
        self._count[pairs] += (~values.isnan()).double()
        self.undefined += int(values.isnan().sum())
        self.looks += 1

    @property
    def mean(self) -> Tensor:
        """Mean affinity ``[T, T]`` of task i (row) onto task j over all looks; NaN for pairs that
        were never seen together.
        """
        return self._sum / self._count

    def state_dict(self) -> dict[str, Any]:
        counts = {"looks": self.looks, "passes": self.passes, "undefined": self.undefined}
        return {"sum": self._sum, "count": self._count, **counts}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._sum, self._count = state["sum"], state["count"]
        self.looks, self.passes = state["looks"], state["passes"]
        self.undefined = state["undefined"]


class TAG(AffinityGrouper):
    """Groups tasks whose steps help each other: trains one joint network, records the affinity of
    every pair, and searches for the groups with the largest mean affinity.

    The score of a task in a group is the mean affinity of its partners onto it (``PairScores``);
    the search maximises the mean over tasks of the best score among their groups.

    Args:
        every: Steps between two looks, see ``TaskAffinity``.
        mode: "exact", or "first-order" for the Gramian's approximation.
        scope: "trunk" or "last".
        learning_rate: Of the lookahead; None takes the optimiser's.
        alone: Score of a task without partners. 0, no effect, leaves a task alone that partners
            would harm on average. None is the authors' -1e6: a task is alone only where no other
            choice covers all tasks.

    Differences: those of ``TaskAffinity``, and that a task alone scores 0, so that "do not group"
        can be the answer.

    Cost: one network, and per look the passes of ``TaskAffinity``.

    Raises:
        ValueError: As ``TaskAffinity``.

    References:
        C. Fifty, E. Amid, Z. Zhao, T. Yu, R. Anil, C. Finn, Efficiently Identifying Task Groupings
        for Multi-Task Learning, NeurIPS 2021, https://arxiv.org/abs/2109.04617, section 3.
    """

    def __init__(
        self,
        *,
        every: int = 10,
        mode: AffinityMode = "exact",
        scope: AffinityScope = "trunk",
        learning_rate: float | None = None,
        alone: float | None = 0.0,
    ) -> None:
        self.every = every
        self.mode: AffinityMode = mode
        self.scope: AffinityScope = scope
        self.learning_rate = learning_rate
        self.alone = alone
        self._observer()  # checks the settings that both have

    def why_not(self, problem: Problem) -> str | None:
        return too_few_tasks(problem)

    def models_trained(self, num_tasks: int) -> int:
        del num_tasks
        return 1

    def affinity(
        self, problem: Problem, *, learner: Learner | None = None, seed: int = 0
    ) -> Affinity:
        observer = self._observer()
        trained = (learner or Learner()).train(problem, seed=seed, observers=[observer])
        cost = trained.cost + GroupingCost(passes=observer.passes)
        notes = []
        if observer.undefined:
            notes.append(
                f"{observer.undefined} affinities of single steps are not in the means, because the"
                " loss they act on was 0 or the loss after the step not finite."
            )
        return pair_affinity(
            observer.tasks, observer.mean, cost=cost, alone=self.alone, notes=notes
        )

    def _observer(self) -> TaskAffinity:
        return TaskAffinity(
            every=self.every, mode=self.mode, scope=self.scope, learning_rate=self.learning_rate
        )


def check_shares(architecture: Architecture, who: str) -> None:
    """Raise ValueError if there are no parameters that tasks share."""
    if not any(parameter.requires_grad for parameter in architecture.shared_parameters()):
        raise ValueError(
            f"{who} looks at parameters that the tasks share, and {type(architecture).__name__} has"
            " none that are trained; use an architecture with a shared trunk."
        )


def _look_ahead(
    model: Architecture, losses_of: TaskLosses, batch: Batch, scope: AffinityScope, rate: float
) -> tuple[Tensor, Tensor, int]:
    """Losses ``[K]`` now and ``[K, K]`` after a step on each task, and the passes it took."""
    short = _last_layer_step(model, losses_of, batch, rate) if scope == "last" else None
    if short is None:
        losses, seeds, variables, lookahead = _parameter_step(model, losses_of, batch, scope, rate)
        passes = 1 + len(losses) * (2 if scope == "trunk" else 1)
    else:
        losses, seeds, variables, lookahead = short
        passes = 1
    after = []
    for seed in seeds:  # one gradient at a time: the memory is that of one task, whatever T
        row = gradients.jacobian_rows([seed], variables)[0]
        with torch.no_grad():
            after.append(lookahead(row))
    return losses.detach(), torch.stack(after), passes


#: Losses ``[K]``, where each task's backward pass starts, what the gradients are of, and the losses
#: after a step along one of them.
_Looking = tuple[Tensor, Sequence[Seed], list[Tensor], Lookahead]


def _parameter_step(
    model: Architecture, losses_of: TaskLosses, batch: Batch, scope: AffinityScope, rate: float
) -> _Looking:
    """The general way: a forward pass with other values of the parameters."""
    chosen = model.shared_parameters() if scope == "trunk" else model.last_shared_parameters()
    variables = gradients.unique_variables(chosen)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    with _same_draws(model):
        features = model.features(batch.inputs)
        outputs = model(batch.inputs) if features is None else model.heads(features)
    losses = losses_of(outputs, batch)

    def lookahead(gradient: Tensor) -> Tensor:
        pieces = gradients.split_like(gradient, variables)
        values = {
            names[id(variable)]: variable - rate * piece
            for variable, piece in zip(variables, pieces, strict=True)
        }
        # Batch norm writes to its buffers; copies keep one lookahead from changing the next.
        values.update((name, buffer.clone()) for name, buffer in buffers.items())
        with _same_draws(model):
            found: Mapping[str, Tensor] = functional_call(model, values, (batch.inputs,))
        return losses_of(found, batch)

    return losses, gradients.trunk_seeds(losses, features, variables), variables, lookahead


def _last_layer_step(
    model: Architecture, losses_of: TaskLosses, batch: Batch, rate: float
) -> _Looking | None:
    """The short way: how the last shared layer's output moves is known without a forward pass.

    None where the last shared layer is not linear, or something other than an activation stands
    between it and the representation.
    """
    layer = _last_linear(model)
    if layer is None:
        return None
    with _calls_of(layer) as calls, _same_draws(model):
        features = model.features(batch.inputs)
    if features is None or len(calls) != 1:
        return None
    inputs, output, version = calls[0]
    activation = _activation_between(output, features)
    if activation is None or output._version != version or inputs.dim() != 2:
        return None
    with _same_draws(model):
        losses = losses_of(model.heads(features), batch)
    # Two inputs' outputs move together by their inner product, and by 1 through the bias.
    kernel = inputs @ inputs.mT + len(dict(layer.named_parameters()).keys() & {"bias"})

    def lookahead(gradient: Tensor) -> Tensor:
        moved = output - rate * (kernel @ gradient.view_as(output))
        with _same_draws(model):
            return losses_of(model.heads(activation(moved)), batch)

    seeds = gradients.trunk_seeds(losses, features, list(layer.parameters()))
    return losses, seeds, [output], lookahead


def _last_linear(model: Architecture) -> nn.Linear | None:
    """The module whose parameters the last shared ones are, if it is a linear layer that is trained
    as a whole.
    """
    last = {id(parameter) for parameter in model.last_shared_parameters()}
    for module in model.modules():
        own = dict(module.named_parameters(recurse=False))
        if {id(parameter) for parameter in own.values()} != last:
            continue
        # Not a subclass: it may compute something else from the same parameters.
        plain = type(module) is nn.Linear and own.keys() <= {"weight", "bias"}
        if plain and all(parameter.requires_grad for parameter in own.values()):
            assert isinstance(module, nn.Linear)
            return module
    return None


@contextmanager
def _calls_of(layer: nn.Linear) -> Iterator[list[tuple[Tensor, Tensor, int]]]:
    """Input, output, and the output's version (which tells whether it was written over) of every
    call of a layer.
    """
    calls: list[tuple[Tensor, Tensor, int]] = []

    def note(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        calls.append((inputs[0].detach(), output, output._version))

    handle = layer.register_forward_hook(note)
    try:
        yield calls
    finally:
        handle.remove()


def _activation_between(output: Tensor, features: Tensor) -> Callable[[Tensor], Tensor] | None:
    """The activation that makes the features from the layer's output, or None."""
    if output.shape == features.shape:
        for activation in ACTIVATIONS:
            if torch.equal(activation(output.detach()), features.detach()):
                return activation
    return None


@contextmanager
def _same_draws(model: nn.Module) -> Iterator[None]:
    """Whatever is drawn inside is drawn again by the next such block: dropout drops the same."""
    devices = {p.device.index or 0 for p in model.parameters() if p.device.type == "cuda"}
    with torch.random.fork_rng(devices=sorted(devices)):
        yield
