"""The two families of balancers that look at the gradients of the tasks.

Shape legend: T tasks in the step, P shared parameters.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from polytask import gradients as engine
from polytask.balancers.base import Balancer, HeadRule, StepLosses
from polytask.balancers.gradient_options import GradientOptions, Scope
from polytask.gradients import TaskGradients, Workspace
from polytask.tasks import Kind

__all__ = ["GramBalancer", "JacobianBalancer"]


class _GradientBalancer(Balancer):
    """What both families have in common: where the gradients are taken, and how often.

    Args:
        gradients: Where, how often and from how much of the batch gradients are taken.
        heads: Rule for task-specific parameters, "weighted" or "mean".
    """

    #: ``weights`` or ``combine`` takes ``tasks``, the positions ``[T]`` of the tasks among all,
    #: because the method has a number or a row per task (state, preferences).
    takes_tasks: ClassVar[bool] = False
    #: Whether the method has weights that heads can use.
    weighs_heads: ClassVar[bool] = True

    scope: Scope
    last_weights: Tensor
    steps: Tensor

    def __init__(
        self, *, gradients: GradientOptions = GradientOptions(), heads: HeadRule = "weighted"
    ) -> None:
        super().__init__(heads=heads)
        self.gradients = gradients
        self.scope = gradients.scope
        #: The rule that is in force.
        self.head_rule: HeadRule = heads if self.weighs_heads else "mean"
        self._workspace = Workspace()

    def setup(
        self,
        num_tasks: int,
        *,
        kinds: Sequence[Kind] | None = None,
        device: torch.device | None = None,
    ) -> None:
        if self.num_tasks is None and num_tasks >= 1:
            self.register_buffer("steps", torch.zeros((), dtype=torch.long))
            self.register_buffer(
                "last_weights", torch.full((num_tasks,), torch.nan, dtype=torch.float64)
            )
        super().setup(num_tasks, kinds=kinds, device=device)

    def _variables(self, step: StepLosses) -> list[Tensor]:
        """What the task gradients are taken with respect to."""
        if self.scope == "features":
            if step.features is None:
                raise ValueError(
                    f"{type(self).__name__} with scope='features' needs `features`, the shared"
                    " representation that the heads start from, found None."
                )
            return [step.features]
        if step.shared is None:
            raise ValueError(
                f"{type(self).__name__} with scope={self.scope!r} needs `shared`, the parameters"
                " that several tasks use, found None."
            )
        return engine.unique_variables(step.shared)

    def _reused_weights(self, tasks: Tensor) -> Tensor | None:
        """Weights of an earlier step, if this is not a step that computes them."""
        every = self.gradients.every
        due = every == 1 or int(self.steps) % every == 0
        self.steps += 1
        if due:
            return None
        weights = self.last_weights[tasks]
        return None if bool(weights.isnan().any()) else weights

    def _keep_for_reuse(self, weights: Tensor, tasks: Tensor) -> None:
        if self.gradients.every > 1:
            self.last_weights[tasks] = weights.to(self.last_weights.dtype)

    def _looked_at(self, step: StepLosses) -> tuple[Tensor, Tensor | None]:
        """Losses and features whose task gradients are looked at: the batch's own, or a part's."""
        samples = self.gradients.samples
        if samples == 1 or self.scope == "features":
            return step.losses, step.features
        if step.partial_losses is None:
            raise ValueError(
                f"{type(self).__name__} with samples={samples} needs `partial_losses`, a function"
                " that returns the losses of that fraction of the batch, found None."
            )
        answer = step.partial_losses(samples)
        part, features = answer if isinstance(answer, tuple) else (answer, None)
        if part.shape != step.losses.shape:
            raise ValueError(
                f"`partial_losses` must return losses of shape {tuple(step.losses.shape)},"
                f" found {tuple(part.shape)}."
            )
        return part, features

    def _head_weights(self, weights: Tensor) -> Tensor:
        """Weights ``[T]`` of the heads' losses by the rule."""
        if self.head_rule == "weighted":
            return weights
        return torch.full_like(weights, 1 / len(weights))

    def _trunk(
        self, losses: Tensor, variables: list[Tensor], features: Tensor | None
    ) -> list[Tensor] | None:
        """All parameters that are not heads, as far as they are needed to tell heads apart."""
        if self.head_rule == "weighted":
            return None
        if self.scope == "trunk":
            return variables
        return engine.upstream_parameters(losses, variables, features)

    def _train_with_weights(
        self, step: StepLosses, weights: Tensor, variables: list[Tensor]
    ) -> None:
        """One ordinary backward pass of the weighted losses, heads by the rule."""
        engine.weighted_backward(
            (weights * step.losses).sum(),
            step.losses,
            shared=self._trunk(step.losses, variables, step.features),
            heads=self.head_rule,
            scale=step.scale,
        )


class GramBalancer(_GradientBalancer):
    """Weighs tasks from the Gramian ``G = J J^T`` of their shared gradients: weights ``w``, update
    ``J^T w``.

    If the rows of J fit the memory budget they are kept and summed; otherwise the weights drive one
    ordinary backward pass, and memory is O(P) beyond autograd's own.

    Args:
        gradients: Where, how often and from how much of the batch gradients are taken.
        heads: Rule for task-specific parameters, "weighted" or "mean".
    """

    cost: ClassVar[str] = "T + 1"

    @abstractmethod
    def weights(self, gram: Tensor, losses: Tensor | None = None) -> Tensor:
        """Weights ``[..., T]`` from Gramians ``[..., T, T]`` (and, where the method needs them,
        losses ``[..., T]``).

        Methods that declare ``takes_tasks`` have the further argument ``tasks``, positions ``[T]``
        of these tasks among all; None means all of them in order.
        """

    def combine(self, jacobian: Tensor, losses: Tensor | None = None) -> Tensor:
        """The update direction ``[P]`` from task gradients ``[T, P]``; leading dimensions
        allowed.
        """
        weights = self.weights(jacobian @ jacobian.mT, losses)
        return (weights.to(jacobian.dtype).unsqueeze(-2) @ jacobian).squeeze(-2)

    def fill_gradients(self, step: StepLosses) -> Tensor:
        """Gramian, weights, weighted gradients."""
        losses, variables = step.losses, self._variables(step)
        options = self.gradients
        rows: TaskGradients | None = None
        weights = self._reused_weights(step.tasks)
        if weights is None:
            source, features = self._looked_at(step)
            if self.scope == "features":
                gram = engine.feature_gramian(
                    source, variables[0], memory=options.memory, fraction=options.samples
                )
            else:
                seeds = engine.trunk_seeds(source, features, variables, step.scale)
                rows = TaskGradients(
                    seeds, variables, memory=options.memory, workspace=self._workspace
                )
                gram = rows.gram / float(step.scale) ** 2
            weights = self.solve(gram, losses.detach(), step.tasks)
            self._keep_for_reuse(weights, step.tasks)
        weights = weights.to(losses.dtype)
        # The rows are those of the update if they belong to all shared parameters and all samples.
        if rows is not None and rows.has_rows and self.scope == "trunk" and options.samples == 1:
            engine.accumulate(variables, rows.weighted_sum(weights))
            engine.backward_heads(
                losses, self._head_weights(weights), shared=variables, scale=step.scale
            )
        else:
            self._train_with_weights(step, weights, variables)
        return weights.detach()

    def solve(
        self, gram: Tensor, losses: Tensor, tasks: Tensor, has_gradient: Tensor | None = None
    ) -> Tensor:
        """Weights ``[T]`` with the tasks whose gradient is exactly zero left out of the problem.

        Args:
            gram: ``[T, T]``.
            losses: ``[T]``, detached.
            tasks: Positions ``[T]`` of these tasks among all, for methods with state per task.
            has_gradient: Which tasks have a gradient ``[T]``; None means those whose diagonal
                element is positive.
        """
        present = (gram.diagonal() > 0) if has_gradient is None else has_gradient
        kept, count = present.nonzero().squeeze(-1), len(losses)
        if len(kept) == 0:
            return losses.new_full((count,), 1 / count)
        if len(kept) < count:
            gram, losses, tasks = gram[kept][:, kept], losses[kept], tasks[kept]
        positions: dict[str, Any] = {"tasks": tasks} if self.takes_tasks else {}
        weights = self.weights(gram, losses, **positions)
        if len(kept) == count:
            return weights
        return weights.mean().expand(count).index_copy(0, kept, weights)


class JacobianBalancer(_GradientBalancer):
    """Combines the task gradients ``J [T, P]`` in a way that no weights can express.

    The weights that ``backward`` returns (and that steps between recomputations, scope "last" and
    ``samples < 1`` use) are those whose combination ``J^T w`` is closest to the direction. Heads
    are trained by the mean loss.

    Args:
        gradients: Where, how often and from how much of the batch gradients are taken.
        heads: Rule for task-specific parameters, of methods that have weights after all.
    """

    cost: ClassVar[str] = "T"
    #: Whether the method has weights after all (``direction`` returns them), which heads can use.
    weighs_heads: ClassVar[bool] = False

    @abstractmethod
    def combine(self, jacobian: Tensor, losses: Tensor | None = None) -> Tensor:
        """The update direction ``[P]`` from task gradients ``[T, P]``; leading dimensions
        allowed.

        Methods that declare ``takes_tasks`` have the further argument ``tasks``, positions ``[T]``
        of these tasks among all; None means all of them in order.
        """

    def fill_gradients(self, step: StepLosses) -> Tensor:
        """Jacobian, direction, gradients."""
        losses, variables, scale = step.losses, self._variables(step), step.scale
        direction: Tensor | None = None
        weights = self._reused_weights(step.tasks)
        if weights is None:
            source, _ = self._looked_at(step)
            jacobian = engine.jacobian(source, variables, workspace=self._workspace, scale=scale)
            if isinstance(scale, Tensor) or scale != 1:
                jacobian = jacobian / scale
            direction, weights = self.solve(jacobian, losses.detach(), step.tasks)
            self._keep_for_reuse(weights, step.tasks)
        weights = weights.to(losses.dtype)
        if direction is None or self.scope == "last" or self.gradients.samples < 1:
            self._train_with_weights(step, weights, variables)
            return weights.detach()
        used = engine.used_variables(losses, variables)
        pieces = engine.split_like(direction * scale, variables)
        engine.backward_heads(
            losses, self._head_weights(weights), shared=variables, scale=scale, retain_graph=True
        )
        kept = [piece if is_used else None for piece, is_used in zip(pieces, used, strict=True)]
        engine.accumulate(variables, kept)
        return weights.detach()

    def solve(self, jacobian: Tensor, losses: Tensor, tasks: Tensor) -> tuple[Tensor, Tensor]:
        """Direction ``[P]`` and weights ``[T]``, with rows that are exactly zero left out."""
        kept, count = (jacobian != 0).any(-1).nonzero().squeeze(-1), len(losses)
        if len(kept) == 0:
            return jacobian.new_zeros(jacobian.shape[-1]), losses.new_full((count,), 1 / count)
        if len(kept) == count:
            return self.direction(jacobian, losses, tasks)
        direction, weights = self.direction(jacobian[kept], losses[kept], tasks[kept])
        return direction, weights.mean().expand(count).index_copy(0, kept, weights)

    def direction(self, jacobian: Tensor, losses: Tensor, tasks: Tensor) -> tuple[Tensor, Tensor]:
        """Direction ``[P]`` and weights ``[T]`` of a training step.

        The weights are the closest ones, unless a method that has weights replaces this.
        """
        positions: dict[str, Any] = {"tasks": tasks} if self.takes_tasks else {}
        direction = self.combine(jacobian, losses, **positions)
        return direction, _closest_weights(jacobian, direction)


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
