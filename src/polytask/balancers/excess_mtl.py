"""ExcessMTL."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from polytask.balancers.base import HeadRule
from polytask.balancers.gradient_families import JacobianBalancer
from polytask.balancers.gradient_options import GradientOptions
from polytask.tasks import Kind

__all__ = ["ExcessMTL"]


class ExcessMTL(JacobianBalancer):
    """Weighs tasks by how far each is from its own optimum, which label noise does not fool.

    The excess risk of task t is estimated by ``E_t = sum_p g_tp^2 / sqrt(h_tp + 1e-7)`` with the
    accumulated squares ``h_t <- h_t + g_t^2``. In the first step weights are 1; later
    ``w_t <- w_t exp(s E_t / E_t(0))``, scaled to sum to T. The update is ``J^T w``.

    Args:
        step_size: s > 0; 0.01, the released code.
        gradients: Where, how often and from how much of the batch gradients are taken; the
            accumulated squares are ``[T, P]``, scope "features" or "last" keeps them small.
        heads: Rule for task-specific parameters, "weighted" or "mean".

    Differences: none known.

    Cost: T backward passes, memory 2 T P. Needs: Jacobian.

    Example:
        >>> balancer = ExcessMTL()
        >>> balancer.combine(torch.tensor([[1.0, 0.0], [0.0, 2.0]]))
        tensor([1., 2.])

    References:
        Y. He et al., Robust Multi-Task Learning with Excess Risks, ICML 2024,
        https://arxiv.org/abs/2402.02009, Algorithm 1 and eq. (5)-(7).
    """

    late_buffers: ClassVar[tuple[str, ...]] = ("squares",)
    weighs_heads: ClassVar[bool] = True

    task_weights: Tensor
    first_excess: Tensor
    squares: Tensor

    def __init__(
        self,
        *,
        step_size: float = 0.01,
        gradients: GradientOptions = GradientOptions(),
        heads: HeadRule = "weighted",
    ) -> None:
        super().__init__(gradients=gradients, heads=heads)
        if not step_size > 0:
            raise ValueError(f"`step_size` must be > 0, found {step_size}.")
        self.step_size = step_size

    def combine(self, jacobian: Tensor, losses: Tensor | None = None) -> Tensor:
        """The weighted sum of the task gradients ``[T, P]``; moves the weights."""
        del losses
        if self.num_tasks is None:
            self.setup(jacobian.shape[-2], device=jacobian.device)
        tasks = torch.arange(jacobian.shape[-2], device=jacobian.device)
        return self.direction(jacobian, jacobian.new_zeros(len(tasks)), tasks)[0]

    def direction(self, jacobian: Tensor, losses: Tensor, tasks: Tensor) -> tuple[Tensor, Tensor]:
        """The weighted sum and the weights."""
        del losses
        weights = self._learn(jacobian, tasks)
        return weights @ jacobian, weights

    def _learn(self, jacobian: Tensor, tasks: Tensor) -> Tensor:
        if not hasattr(self, "squares"):
            shape = (len(self.task_weights), jacobian.shape[-1])
            self.register_buffer("squares", jacobian.new_zeros(shape))
        power = jacobian.detach() ** 2
        self.squares[tasks] += power
        excess = (power / (self.squares[tasks] + 1e-7).sqrt()).sum(-1).double()
        first = self.first_excess[tasks]
        is_first = first.isnan()
        self.first_excess[tasks] = torch.where(is_first, excess, first)
        growth = torch.where(is_first, 0.0, self.step_size * excess / first)
        logs = self.task_weights[tasks].log() + growth
        if not bool(is_first.all()):
            # Tasks without labels keep their weights, so the others keep their sum.
            share = self.task_weights[tasks].sum()
            self.task_weights[tasks] = torch.softmax(logs, dim=0) * share
        return self.task_weights[tasks].to(jacobian.dtype)

    def _create_state(self, num_tasks: int, kinds: Sequence[Kind] | None) -> None:
        del kinds
        self.register_buffer("task_weights", torch.ones(num_tasks, dtype=torch.float64))
        empty = torch.full((num_tasks,), torch.nan, dtype=torch.float64)
        self.register_buffer("first_excess", empty)
