"""Methods whose weights come from two batches and whose update comes from a third.

Shape legend: T tasks.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from polytask import gradients as engine
from polytask.balancers.base import HeadRule, StepLosses
from polytask.balancers.gradient_families import GramBalancer
from polytask.balancers.gradient_options import GradientOptions
from polytask.balancers.rows import simplex_share, state_rows
from polytask.tasks import Kind

__all__ = ["DoubleSamplingBalancer"]


class DoubleSamplingBalancer(GramBalancer):
    """Keeps weights on the simplex and moves them with ``J_1 J_2^T``, which is unbiased because its
    two batches are independent; the update ``J_3^T w`` is that of a third batch.

    Args:
        gradients: As in ``GramBalancer``; scope "trunk" or "last".
        heads: Rule for task-specific parameters, "weighted" or "mean".
    """

    batches_per_step: ClassVar[int] = 3
    cost: ClassVar[str] = "2 T + 1"
    takes_tasks: ClassVar[bool] = True
    simplex_weights: Tensor

    def __init__(
        self, *, gradients: GradientOptions = GradientOptions(), heads: HeadRule = "weighted"
    ) -> None:
        super().__init__(gradients=gradients, heads=heads)
        if gradients.scope == "features":
            raise ValueError(
                "`scope` must be 'trunk' or 'last' for a method that multiplies gradients of"
                " different batches, whose features are different tensors; found 'features'."
            )

    @abstractmethod
    def moved(self, product: Tensor, start: Tensor) -> tuple[Tensor, Tensor]:
        """The simplex weights after this step, and the weights of the update, both ``[..., T]``.

        Args:
            product: ``J_1 J_2^T`` ``[..., T, T]``, which need not be symmetric.
            start: Simplex weights ``[T]`` before the step, in double precision.
        """

    def weights(
        self, gram: Tensor, losses: Tensor | None = None, *, tasks: Tensor | None = None
    ) -> Tensor:
        """Weights ``[..., T]`` from ``J_1 J_2^T`` ``[..., T, T]``, which need not be symmetric.

        ``tasks`` are the positions of the T tasks among all; None means all of them. A batch of
        products starts every problem from the present simplex weights and leaves them as they are.
        """
        del losses
        rows = state_rows(self, gram, tasks)
        start, share = simplex_share(self.simplex_weights[rows])
        simplex_weights, weights = self.moved(gram, start)
        if gram.dim() == 2:
            self.simplex_weights[rows] = simplex_weights * share
        return weights.to(gram.dtype)

    def fill_gradients(self, step: StepLosses) -> Tensor:
        """The product of two batches, weights, the weighted gradients of the last batch."""
        losses, variables, scale = step.losses, self._variables(step), step.scale
        weights = self._reused_weights(step.tasks)
        if weights is None:
            seeds = engine.batch_roots(self._looked_at(step)[0])
            # One workspace holds one batch's rows, and both are needed.
            first, second = (
                engine.jacobian_rows(engine.scaled(own, scale), variables, workspace=workspace)
                for own, workspace in zip(seeds[:2], (self._workspace, None), strict=True)
            )
            has_gradient = (first != 0).any(-1) & (second != 0).any(-1)
            product = first @ second.mT / float(scale) ** 2
            weights = self.solve(product, losses[-1].detach(), step.tasks, has_gradient)
            self._keep_for_reuse(weights, step.tasks)
        weights = weights.to(losses.dtype)
        engine.seeded_backward(
            engine.scaled(engine.batch_roots(losses)[-1], scale),
            weights,
            torch.full_like(weights, 1 / len(weights)),
            trunk=self._trunk(losses, variables, None),
        )
        return weights.detach()

    def _create_state(self, num_tasks: int, kinds: Sequence[Kind] | None) -> None:
        del kinds
        start = torch.full((num_tasks,), 1 / num_tasks, dtype=torch.float64)
        self.register_buffer("simplex_weights", start)
