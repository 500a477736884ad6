"""The three families of task balancers, by what they are told.

Shape legend: T tasks in the step, P shared parameters, S batches of the step.

A balancer turns the losses ``[T]`` of one step into gradients: it fills ``.grad`` of everything
that the losses depend
on and returns the task weights it used. It knows nothing of models, data or trainers, so it works
in any loop::

    balancer = PCGrad()
    balancer.backward(losses, shared=model.shared_parameters())
    optimizer.step()

Three rules hold for all of them:

* Heads (parameters that only one task uses): with ``heads="weighted"`` (default) they receive ``w_t
  * grad L_t`` with the same weight as the trunk, so that one ordinary backward pass of ``sum w_t
    L_t`` trains everything;
  with
  ``heads="plain"`` they receive the gradient of the mean loss, ``grad L_t / T``, whatever the
  weights are. Methods that combine gradients without weights always train heads plainly.
* A task whose shared gradient is exactly zero (its head starts at zero, or it shares nothing)
  leaves before the method's
  problem is solved, and its head is trained with the mean of the other tasks' weights. Tasks
  without labels in a batch
  are not among the losses at all.
* With one task in the problem there is nothing to balance: its weight is 1, which is plain
  training.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from polytask import gradients
from polytask.config import rebuildable_repr
from polytask.gradients import HeadRule
from polytask.tasks import Kind

__all__ = [
    "Balancer",
    "GramBalancer",
    "HeadRule",
    "JacobianBalancer",
    "LossBalancer",
    "Scope",
    "Subset",
]

Scope = Literal["trunk", "last", "features"]
#: Given a fraction, the losses ``[T]`` of that part of the step's batch from a forward pass of its
#: own, alone or with the features that the heads start from (which saves time).
Subset = Callable[[float], Tensor | tuple[Tensor, Tensor]]


class Balancer(nn.Module, ABC):
    """Interface of all balancers; see the three families below.

    State that must survive a checkpoint is a buffer or a parameter, created by ``setup``.
    Parameters of a balancer
    (learned weights) are trained by the user's optimizer together with the model, so call ``setup``
    before making it.

    Args:
        heads: Rule for task-specific parameters, see the module's text.
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

    def __init__(self, *, heads: HeadRule = "weighted") -> None:
        super().__init__()
        if heads not in ("weighted", "plain"):
            raise ValueError(f"`heads` must be 'weighted' or 'plain', found {heads!r}.")
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

    @abstractmethod
    def backward(
        self,
        losses: Tensor,
        *,
        shared: Iterable[Tensor] | None = None,
        features: Tensor | None = None,
        tasks: Sequence[int] | None = None,
        scale: float | Tensor = 1.0,
        subset: Subset | None = None,
    ) -> Tensor:
        """Fill ``.grad`` of everything that the losses depend on; add to what is there, as autograd
        does.

        Args:
            losses: ``[T]`` losses of the tasks that have labels in this batch (``[S, T]`` if
                ``batches_per_step > 1``), not multiplied by any gradient scaler.
            shared: Parameters that several tasks use; needed by gradient methods with scope "trunk"
                or "last".
            features: The shared representation the heads start from; needed by scope "features",
                and with
                scope "trunk" a way to share the heads' part of the work.
            tasks: Positions of these T tasks among all tasks of the problem; None means all of them
                in order.
            scale: Factor on every gradient: ``GradScaler.get_scale()`` in mixed precision. Weights
                do not depend
                on it; step and update the scaler as usual.
            subset: Needed by ``samples < 1``: called with the fraction, returns the losses ``[T]``
                of that part of the batch, or the losses and their features.

        Returns:
            Weights ``[T]``, detached.
        """

    def after_step(self, losses: Tensor, *, tasks: Sequence[int] | None = None) -> None:
        """Told the losses ``[T]`` of the same batch after the update, if ``revisits_losses``."""

    def end_epoch(self, mean_losses: Tensor, scores: Tensor | None = None) -> None:
        """Told the mean training losses ``[T]`` of the epoch (and validation scores, if
        ``uses_scores``).
        """

    def _begin(self, losses: Tensor, tasks: Sequence[int] | None) -> Tensor:
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

    def backward(
        self,
        losses: Tensor,
        *,
        shared: Iterable[Tensor] | None = None,
        features: Tensor | None = None,
        tasks: Sequence[int] | None = None,
        scale: float | Tensor = 1.0,
        subset: Subset | None = None,
    ) -> Tensor:
        """One backward pass of the weighted losses; see ``Balancer.backward``."""
        del features, subset
        positions = self._begin(losses, tasks)
        if self.num_tasks == 1:
            total, weights = losses.sum(), torch.ones_like(losses)
        else:
            total, weights = self.objective(losses, positions)
        gradients.weighted_backward(total, losses, shared=shared, heads=self.heads, scale=scale)
        return weights.detach()


class _GradientBalancer(Balancer):
    """What methods that look at task gradients have in common: where the gradients are taken, and
    how often.

    Args:
        scope: "trunk" (all shared parameters), "last" (the parameters given as ``shared`` are those
            of the last shared
            layer only) or "features" (gradients with respect to the shared representation, an upper
            bound as in
            MGDA-UB).
        every: Recompute the weights every so many steps and reuse them in between.
        samples: Fraction of the batch that the Gramian is estimated from, in (0, 1]; the update
            uses the whole batch.
            With scope "features" it is the first rows of the features; otherwise ``backward`` needs
            ``subset``.
        memory: Budget in bytes for task gradients; None as in ``gradients.TaskGradients``.
        heads: Rule for task-specific parameters.
    """

    last_weights: Tensor
    steps: Tensor

    def __init__(
        self,
        *,
        scope: Scope = "trunk",
        every: int = 1,
        samples: float = 1.0,
        memory: int | None = None,
        heads: HeadRule = "weighted",
    ) -> None:
        super().__init__(heads=heads)
        if scope not in ("trunk", "last", "features"):
            raise ValueError(f"`scope` must be 'trunk', 'last' or 'features', found {scope!r}.")
        if every < 1:
            raise ValueError(f"`every` must be >= 1, found {every}.")
        if not 0 < samples <= 1:
            raise ValueError(f"`samples` must be in (0, 1], found {samples}.")
        if memory is not None and memory < 1:
            raise ValueError(f"`memory` must be a positive number of bytes, found {memory}.")
        self.scope: Scope = scope
        self.every = every
        self.samples = samples
        self.memory = memory
        self._workspace = gradients.Workspace()

    def setup(
        self,
        num_tasks: int,
        *,
        kinds: Sequence[Kind] | None = None,
        device: torch.device | None = None,
    ) -> None:
        """Create the state; see ``Balancer.setup``."""
        if self.num_tasks is None and num_tasks >= 1:
            self.register_buffer("steps", torch.zeros((), dtype=torch.long))
            self.register_buffer(
                "last_weights", torch.full((num_tasks,), torch.nan, dtype=torch.float64)
            )
        super().setup(num_tasks, kinds=kinds, device=device)

    def _variables(self, shared: Iterable[Tensor] | None, features: Tensor | None) -> list[Tensor]:
        """What the task gradients are taken with respect to."""
        if self.scope == "features":
            if features is None:
                raise ValueError(
                    f"{type(self).__name__} with scope='features' needs `features`, the shared"
                    " representation that the heads start from, found None."
                )
            return [features]
        if shared is None:
            raise ValueError(
                f"{type(self).__name__} with scope={self.scope!r} needs `shared`, the parameters"
                " that several tasks use, found None."
            )
        return gradients.unique_variables(shared)

    def _reusable(self, positions: Tensor) -> Tensor | None:
        """Weights of an earlier step, if this is not a step that computes them."""
        due = int(self.steps) % self.every == 0
        self.steps += 1
        if due or self.every == 1:
            return None
        weights = self.last_weights[positions]
        return None if bool(weights.isnan().any()) else weights

    def _remember(self, weights: Tensor, positions: Tensor) -> None:
        if self.every > 1:
            self.last_weights[positions] = weights.to(self.last_weights.dtype)

    def _source(
        self, losses: Tensor, features: Tensor | None, subset: Subset | None
    ) -> tuple[Tensor, Tensor | None]:
        """Losses and features whose task gradients are looked at: the batch's own, or a part's."""
        if self.samples == 1 or self.scope == "features":
            return losses, features
        if subset is None:
            raise ValueError(
                f"{type(self).__name__} with samples={self.samples} needs `subset`, a function that"
                " returns the losses of that fraction of the batch, found None."
            )
        found = subset(self.samples)
        part, features = found if isinstance(found, tuple) else (found, None)
        if part.shape != losses.shape:
            raise ValueError(
                f"`subset` must return losses of shape {tuple(losses.shape)},"
                f" found {tuple(part.shape)}."
            )
        return part, features

    def _plain(self, losses: Tensor, scale: float | Tensor) -> Tensor:
        """Ordinary training of the only task."""
        torch.autograd.backward(losses.mean() * scale)
        return losses.new_ones(losses.shape[-1]).detach()

    def _apply_weights(
        self, losses: Tensor, weights: Tensor, trunk: Iterable[Tensor] | None, scale: float | Tensor
    ) -> None:
        """One ordinary backward pass of the weighted losses, heads by the rule."""
        total = (weights.to(losses.dtype) * losses).sum()
        rule = self.head_rule
        gradients.weighted_backward(total, losses, shared=trunk, heads=rule, scale=scale)

    @property
    def head_rule(self) -> HeadRule:
        """The rule that is in force."""
        return self.heads

    def _trunk(
        self, losses: Tensor, shared: Sequence[Tensor] | None, features: Tensor | None
    ) -> list[Tensor] | None:
        """All parameters that are not heads, as far as they are needed to tell heads apart."""
        if self.head_rule == "weighted":
            return None
        if self.scope == "trunk":
            return list(shared or ())
        return gradients.upstream_parameters(losses, shared or (), features)


class GramBalancer(_GradientBalancer):
    """Weighs tasks from the Gramian ``G = J J^T`` of their shared gradients: weights ``w``, update
    ``J^T w``.

    If the rows of J fit the memory budget they are kept and summed; otherwise the weights drive one
    ordinary backward
    pass, and memory is O(P) beyond autograd's own.
    """

    cost: ClassVar[str] = "T + 1"

    @abstractmethod
    def weights(self, gram: Tensor, losses: Tensor | None = None) -> Tensor:
        """Weights ``[..., T]`` from Gramians ``[..., T, T]`` (and, where the method needs them,
        losses ``[..., T]``).
        """

    def combine(self, jacobian: Tensor, losses: Tensor | None = None) -> Tensor:
        """The update direction ``[P]`` from task gradients ``[T, P]``; leading dimensions
        allowed.
        """
        weights = self.weights(jacobian @ jacobian.mT, losses)
        return (weights.to(jacobian.dtype).unsqueeze(-2) @ jacobian).squeeze(-2)

    def backward(
        self,
        losses: Tensor,
        *,
        shared: Iterable[Tensor] | None = None,
        features: Tensor | None = None,
        tasks: Sequence[int] | None = None,
        scale: float | Tensor = 1.0,
        subset: Subset | None = None,
    ) -> Tensor:
        """Gramian, weights, weighted gradients; see ``Balancer.backward``."""
        positions = self._begin(losses, tasks)
        variables = self._variables(shared, features)
        if self.num_tasks == 1:
            return self._plain(losses, scale)
        if self.batches_per_step > 1:
            return self._backward_batches(losses, variables, positions, scale, subset)
        rows: gradients.TaskGradients | None = None
        weights = self._reusable(positions)
        if weights is None:
            source, known = self._source(losses, features, subset)
            gram, rows = self._gramian(source, variables, known, scale)
            weights = self.solve(gram, losses.detach(), positions)
            self._remember(weights, positions)
        weights = weights.to(losses.dtype)
        if rows is not None and rows.has_rows:
            plain = torch.full_like(weights, 1 / len(weights))
            head_weights = weights if self.head_rule == "weighted" else plain
            gradients.accumulate(variables, rows.weighted_sum(weights))
            gradients.backward_heads(losses, head_weights, shared=variables, scale=scale)
        else:
            self._apply_weights(losses, weights, self._trunk(losses, variables, features), scale)
        return weights.detach()

    def solve(self, gram: Tensor, losses: Tensor, tasks: Tensor) -> Tensor:
        """Weights ``[T]`` with the tasks whose gradient is exactly zero left out of the problem.

        Args:
            gram: ``[T, T]``.
            losses: ``[T]``, detached.
            tasks: Positions ``[T]`` of these tasks among all, for methods with state per task.
        """
        return self._solve_kept(gram, losses, tasks, gram.diagonal() > 0)

    def _solve_kept(self, gram: Tensor, losses: Tensor, tasks: Tensor, is_kept: Tensor) -> Tensor:
        kept = is_kept.nonzero().squeeze(-1)
        count = len(losses)
        if len(kept) == 0:
            return losses.new_full((count,), 1 / count)
        if len(kept) == count:
            return self.step_weights(gram, losses, tasks)
        inner = self.step_weights(gram[kept][:, kept], losses[kept], tasks[kept])
        return inner.mean().expand(count).index_copy(0, kept, inner)

    def _backward_batches(
        self,
        losses: Tensor,
        variables: list[Tensor],
        positions: Tensor,
        scale: float | Tensor,
        subset: Subset | None,
    ) -> Tensor:
        """Several batches: ``J_1 J_2^T`` for the weights, the last one for the update."""
        weights = self._reusable(positions)
        if weights is None:
            source = gradients.batch_roots(self._source(losses, None, subset)[0])
            first, second = (
                gradients.jacobian_rows(gradients.scaled(seeds, scale), variables, workspace=space)
                for seeds, space in zip(source[:2], (self._workspace, None), strict=True)
            )
            is_kept = (first != 0).any(-1) & (second != 0).any(-1)
            gram = first @ second.mT / float(scale) ** 2
            weights = self._solve_kept(gram, losses[-1].detach(), positions, is_kept)
            self._remember(weights, positions)
        weights = weights.to(losses.dtype)
        plain = torch.full_like(weights, 1 / len(weights))
        trunk = self._trunk(losses, variables, None)
        last = gradients.scaled(gradients.batch_roots(losses)[-1], scale)
        gradients.seeded_backward(last, weights, plain, trunk=trunk)
        return weights.detach()

    def step_weights(self, gram: Tensor, losses: Tensor, tasks: Tensor) -> Tensor:
        """Weights of a training step; methods with state per task replace it and pick their rows by
        ``tasks``.
        """
        del tasks
        return self.weights(gram, losses)

    def _gramian(
        self,
        source: Tensor,
        variables: list[Tensor],
        features: Tensor | None,
        scale: float | Tensor,
    ) -> tuple[Tensor, gradients.TaskGradients | None]:
        """The Gramian of the step and, at scope "trunk", the rows that the update can be summed
        from.
        """
        if self.scope == "features":
            return gradients.feature_gramian(
                source, variables[0], memory=self.memory, fraction=self.samples
            ), None
        seeds = gradients.trunk_seeds(source, features, variables, scale)
        rows = gradients.TaskGradients(
            seeds, variables, memory=self.memory, workspace=self._workspace
        )
        usable = self.scope == "trunk" and self.samples == 1
        return rows.gram / (float(scale) ** 2), rows if usable else None


class JacobianBalancer(_GradientBalancer):
    """Combines the task gradients ``J [T, P]`` in a way that no weights can express.

    The weights that ``backward`` returns (and that steps between recomputations, scope "last" and
    ``samples < 1`` use)
    are those whose combination ``J^T w`` is closest to the direction. Heads are trained plainly.
    """

    cost: ClassVar[str] = "T"
    #: Whether the method has weights after all (``direction`` returns them), which heads can use.
    weighs_heads: ClassVar[bool] = False

    @abstractmethod
    def combine(self, jacobian: Tensor, losses: Tensor | None = None) -> Tensor:
        """The update direction ``[P]`` from task gradients ``[T, P]``; leading dimensions
        allowed.
        """

    def backward(
        self,
        losses: Tensor,
        *,
        shared: Iterable[Tensor] | None = None,
        features: Tensor | None = None,
        tasks: Sequence[int] | None = None,
        scale: float | Tensor = 1.0,
        subset: Subset | None = None,
    ) -> Tensor:
        """Jacobian, direction, gradients; see ``Balancer.backward``."""
        positions = self._begin(losses, tasks)
        variables = self._variables(shared, features)
        if self.num_tasks == 1:
            return self._plain(losses, scale)
        direction: Tensor | None = None
        weights = self._reusable(positions)
        if weights is None:
            source, _ = self._source(losses, features, subset)
            jacobian = gradients.jacobian(source, variables, workspace=self._workspace, scale=scale)
            if isinstance(scale, Tensor) or scale != 1:
                jacobian = jacobian / scale
            direction, weights = self.solve(jacobian, losses.detach(), positions)
            self._remember(weights, positions)
        weights = weights.to(losses.dtype)
        plain = torch.full_like(weights, 1 / len(weights))
        head_weights = weights if self.head_rule == "weighted" else plain
        if direction is None or self.scope == "last" or self.samples < 1:
            trunk = self._trunk(losses, variables, features)
            self._apply_weights(losses, weights, trunk, scale)
            return weights.detach()
        used = gradients.used_variables(losses, variables)
        pieces = gradients.split_like(direction * scale, variables)
        gradients.backward_heads(
            losses, head_weights, shared=variables, scale=scale, retain_graph=True
        )
        kept = [piece if is_used else None for piece, is_used in zip(pieces, used, strict=True)]
        gradients.accumulate(variables, kept)
        return weights.detach()

    @property
    def head_rule(self) -> HeadRule:
        """The rule that is in force: plain, unless the method has weights."""
        return self.heads if self.weighs_heads else "plain"

    def solve(self, jacobian: Tensor, losses: Tensor, tasks: Tensor) -> tuple[Tensor, Tensor]:
        """Direction ``[P]`` and weights ``[T]``, with rows that are exactly zero left out."""
        kept = (jacobian != 0).any(-1).nonzero().squeeze(-1)
        count = len(losses)
        if len(kept) == 0:
            return jacobian.new_zeros(jacobian.shape[-1]), losses.new_full((count,), 1 / count)
        if len(kept) == count:
            return self.direction(jacobian, losses, tasks)
        direction, inner = self.direction(jacobian[kept], losses[kept], tasks[kept])
        return direction, inner.mean().expand(count).index_copy(0, kept, inner)

    def direction(self, jacobian: Tensor, losses: Tensor, tasks: Tensor) -> tuple[Tensor, Tensor]:
        """Direction ``[P]`` and weights ``[T]`` of a training step.

        The weights are the closest ones, unless a method that has weights replaces this.
        """
        found = self.step_direction(jacobian, losses, tasks)
        return found, _closest_weights(jacobian, found)

    def step_direction(self, jacobian: Tensor, losses: Tensor, tasks: Tensor) -> Tensor:
        """Direction of a training step; methods with state per task pick their rows by
        ``tasks``.
        """
        del tasks
        return self.combine(jacobian, losses)


def _closest_weights(jacobian: Tensor, direction: Tensor) -> Tensor:
    """The weights ``w`` of least norm that minimise ``|J^T w - d|``, on rows of unit length for the
    numerics.
    """
    gram = (jacobian @ jacobian.mT).double()
    scales = gram.diagonal().sqrt()
    cosines = gram / (scales.unsqueeze(-1) * scales)
    target = (jacobian @ direction).double() / scales
    weights: Tensor = torch.linalg.pinv(cosines, hermitian=True, rtol=1e-6) @ target / scales
    return weights.to(direction.dtype)
