"""What every balancer offers, and the family that looks at losses alone.

Shape legend: T tasks in the step, S batches of the step.

A balancer turns the losses ``[T]`` of one step into gradients: it fills ``.grad`` of everything
that the losses depend on and returns the task weights it used. It knows nothing of models, data or
trainers, so it works in any loop::

    balancer = PCGrad()
    balancer.backward(losses, shared=model.shared_parameters())
    optimizer.step()

There are three families, by what they are told: the losses (``LossBalancer``, here), the inner
products of the task gradients (``GramBalancer``) or these gradients themselves
(``JacobianBalancer``, both in ``gradient_families``). Three rules hold for all of them:

* Heads (parameters that only one task uses): with ``heads="weighted"`` (default) they receive
  ``w_t * grad L_t`` with the same weight as the trunk, so that one ordinary backward pass of
  ``sum w_t L_t`` trains everything; with ``heads="mean"`` they receive the gradient of the mean
  loss, ``grad L_t / T``, whatever the weights are. Methods that combine gradients without weights
  always train heads by the mean loss.
* A task whose shared gradient is exactly zero (its head starts at zero, or it shares nothing)
  leaves before the method's problem is solved, and its head is trained with the mean of the other
  tasks' weights. Tasks without labels in a batch are not among the losses at all.
* With one task in the problem there is nothing to balance: its weight is 1, which is plain
  training.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from polytask.balancers.gradient_options import Scope
from polytask.config import rebuildable_repr
from polytask.gradients import HeadRule, weighted_backward
from polytask.tasks import Kind

__all__ = ["Balancer", "HeadRule", "LossBalancer", "PartialLosses", "StepLosses"]

#: Given a fraction, the losses ``[T]`` of that part of the step's batch from a forward pass of its
#: own, alone or with the features that the heads start from (which saves time).
PartialLosses = Callable[[float], Tensor | tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class StepLosses:
    """One step as a family sees it: what ``Balancer.backward`` was given, checked.

    Args:
        losses: ``[T]``, or ``[S, T]`` if ``batches_per_step > 1``; T is at least 1.
        tasks: Positions ``[T]`` of these tasks among all, on the device of the losses.
        shared: See ``Balancer.backward``, as the others.
        features: The shared representation that the heads start from.
        scale: Factor on every gradient.
        partial_losses: Losses of a part of the batch.
    """

    losses: Tensor
    tasks: Tensor
    shared: Iterable[Tensor] | None
    features: Tensor | None
    scale: float | Tensor
    partial_losses: PartialLosses | None


class Balancer(nn.Module, ABC):
    """Interface of all balancers; a method derives from one of the three families.

    State that must survive a checkpoint is a buffer or a parameter, created by ``setup``.
    Parameters of a balancer (learned weights) are trained by the user's optimizer together with the
    model, so call ``setup`` before making it.

    Args:
        heads: Rule for task-specific parameters, "weighted" or "mean"; see the module's text.
    """

    #: ``after_step`` wants the losses of the same batch after the update (one more forward pass).
    revisits_losses: ClassVar[bool] = False
    #: ``end_epoch`` wants the mean training loss per task of the epoch.
    uses_epoch_means: ClassVar[bool] = False
    #: ``end_epoch`` wants the validation score in [0, 1] per task (higher is better) of the epoch.
    uses_scores: ClassVar[bool] = False
    #: Independent batches that one step needs; ``backward`` then takes losses ``[S, T]``.
    batches_per_step: ClassVar[int] = 1
    #: The objective is affine in the losses, with coefficients that do not depend on this step's
    #: losses: batches that accumulate can then be back-propagated one by one (otherwise their
    #: graphs are kept until the weights are known).
    affine: ClassVar[bool] = False
    #: Most backward passes through the trunk in one step with T tasks at scope "trunk": "1", "T",
    #: "T + 1" or (with two batches for the weights) "2 T + 1".
    cost: ClassVar[str] = "1"
    #: What the method promises, checked by ``polytask.checks``.
    non_conflicting: ClassVar[bool] = False
    scale_invariant: ClassVar[bool] = False
    stationary_fixed_point: ClassVar[bool] = False
    #: Whether permuting the tasks permutes the weights (False for methods with a random order).
    permutation_equivariant: ClassVar[bool] = True
    #: Property checks that the class is excused from: check name to reason.
    exceptions: ClassVar[dict[str, str]] = {}
    #: Numbers of tasks that ``example`` can be set up for, smallest first.
    example_counts: ClassVar[tuple[int, ...]] = (1, 2, 3, 9)
    #: Buffers whose shape is known only after the first step; a checkpoint may bring them earlier.
    late_buffers: ClassVar[tuple[str, ...]] = ()

    #: Where task gradients are taken; None for methods that do not look at gradients.
    scope: Scope | None = None

    def __init__(self, *, heads: HeadRule = "weighted") -> None:
        super().__init__()
        if heads not in ("weighted", "mean"):
            raise ValueError(f"`heads` must be 'weighted' or 'mean', found {heads!r}.")
        self.heads: HeadRule = heads
        self.num_tasks: int | None = None
        #: Facts about the last step that a report should show (for example a solver that did not
        #: converge).
        self.notes: dict[str, object] = {}

    @classmethod
    def example(cls) -> Balancer:
        """A small instance, for checks and documentation."""
        return cls()

    def setup(
        self,
        num_tasks: int,
        *,
        kinds: Sequence[Kind] | None = None,
        device: torch.device | None = None,
    ) -> None:
        """Create the state for ``num_tasks`` tasks; called once before training (or by the first
        ``backward``).

        Args:
            num_tasks: All tasks of the problem, T.
            kinds: Their kinds, for methods whose formula depends on the likelihood.
            device: Where the state lives.
        """
        if num_tasks < 1:
            raise ValueError(f"A balancer needs at least one task, found {num_tasks}.")
        if self.num_tasks is not None and self.num_tasks != num_tasks:
            raise ValueError(
                f"{type(self).__name__} was set up for {self.num_tasks} tasks, found {num_tasks};"
                " make a new one."
            )
        if self.num_tasks is None:
            self._create_state(num_tasks, kinds)
            self.num_tasks = num_tasks
            if device is not None:
                self.to(device)

    def _create_state(self, num_tasks: int, kinds: Sequence[Kind] | None) -> None:
        """Register the buffers and parameters that depend on the number of tasks."""

    def backward(
        self,
        losses: Tensor,
        *,
        shared: Iterable[Tensor] | None = None,
        features: Tensor | None = None,
        tasks: Sequence[int] | None = None,
        scale: float | Tensor = 1.0,
        partial_losses: PartialLosses | None = None,
    ) -> Tensor:
        """Fill ``.grad`` of everything that the losses depend on; add to what is there, as autograd
        does.

        Args:
            losses: ``[T]`` losses of the tasks that have labels in this batch (``[S, T]`` if
                ``batches_per_step > 1``), not multiplied by any gradient scaler.
            shared: Parameters that several tasks use; needed by gradient methods with scope "trunk"
                or "last".
            features: The shared representation the heads start from; needed by scope "features",
                and with scope "trunk" a way to share the heads' part of the work.
            tasks: Positions of these T tasks among all tasks of the problem; None means all of them
                in order.
            scale: Factor on every gradient: ``GradScaler.get_scale()`` in mixed precision. Weights
                do not depend on it; step and update the scaler as usual.
            partial_losses: Needed by ``samples < 1``: called with the fraction, returns the losses
                ``[T]`` of that part of the batch, or the losses and their features.

        Returns:
            Weights ``[T]``, detached.

        Raises:
            ValueError: If the losses do not fit the tasks, or an argument that the method needs is
                missing.
        """
        positions = self._positions(losses, tasks)
        if self.num_tasks == 1:
            if losses.requires_grad:
                torch.autograd.backward(losses.mean() * scale)
            return losses.new_ones(1)
        return self.fill_gradients(
            StepLosses(losses, positions, shared, features, scale, partial_losses)
        )

    @abstractmethod
    def fill_gradients(self, step: StepLosses) -> Tensor:
        """What ``backward`` does where there are tasks to balance; returns the weights ``[T]``,
        detached.
        """

    def after_step(self, losses: Tensor, *, tasks: Sequence[int] | None = None) -> None:
        """Told the losses ``[T]`` of the same batch after the update, if ``revisits_losses``."""

    def end_epoch(self, mean_losses: Tensor, scores: Tensor | None = None) -> None:
        """Told the mean training losses ``[T]`` of the epoch (and validation scores, if
        ``uses_scores``).
        """

    def _positions(self, losses: Tensor, tasks: Sequence[int] | None) -> Tensor:
        """Check the losses, set up on first use, and return the positions of the tasks as an index
        tensor.
        """
        dims = 1 if self.batches_per_step == 1 else 2
        batches = losses.shape[0] if losses.dim() == 2 else 1
        if losses.dim() != dims or losses.shape[-1] == 0 or batches != self.batches_per_step:
            shape = "[T]" if dims == 1 else f"[{self.batches_per_step}, T]"
            raise ValueError(
                f"{type(self).__name__} needs losses of shape {shape} with T >= 1,"
                f" found {tuple(losses.shape)}."
            )
        count = losses.shape[-1]
        positions = list(range(count)) if tasks is None else [int(task) for task in tasks]
        if len(set(positions)) != count or min(positions) < 0:
            raise ValueError(
                f"`tasks` must name {count} different tasks, one per loss, found {positions}."
            )
        if self.num_tasks is None:
            self.setup(max(positions) + 1, device=losses.device)
        assert self.num_tasks is not None
        if max(positions) >= self.num_tasks or (tasks is None and count != self.num_tasks):
            raise ValueError(
                f"{type(self).__name__} was set up for {self.num_tasks} tasks but got losses for"
                f" tasks {positions}; pass `tasks`, the positions of the tasks that have labels."
            )
        return torch.tensor(positions, device=losses.device)

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, *arguments: Any, **keywords: Any
    ) -> None:
        for name in self.late_buffers:
            if prefix + name in state_dict:
                self.register_buffer(name, torch.empty_like(state_dict[prefix + name]))
        super()._load_from_state_dict(state_dict, prefix, *arguments, **keywords)

    def __repr__(self) -> str:
        """An expression that makes an equal balancer."""
        return rebuildable_repr(self)


class LossBalancer(Balancer):
    """Weighs tasks from their losses alone: one ordinary backward pass."""

    @abstractmethod
    def weights(self, losses: Tensor, tasks: Tensor | None = None) -> Tensor:
        """Weights ``[..., T]`` from detached losses ``[..., T]``.

        Args:
            losses: ``[..., T]``.
            tasks: Positions ``[T]`` of these tasks among all; None means all of them in order.
        """

    def objective(self, losses: Tensor, tasks: Tensor) -> tuple[Tensor, Tensor]:
        """The scalar that is differentiated, and the weights ``[T]`` it implies.

        Methods whose weights have gradients of their own (uncertainty weighting) replace it.
        """
        weights = self.weights(losses.detach(), tasks).to(losses.dtype)
        return (weights * losses).sum(), weights

    def fill_gradients(self, step: StepLosses) -> Tensor:
        """One backward pass of the objective."""
        total, weights = self.objective(step.losses, step.tasks)
        weighted_backward(
            total, step.losses, shared=step.shared, heads=self.heads, scale=step.scale
        )
        return weights.detach()
