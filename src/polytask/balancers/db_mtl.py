"""DB-MTL: dual-balancing multi-task learning."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from polytask.balancers.gradient_families import JacobianBalancer
from polytask.balancers.gradient_options import GradientOptions
from polytask.balancers.rows import state_rows
from polytask.tasks import Kind

__all__ = ["DBMTL"]


class DBMTL(JacobianBalancer):
    """Balances loss scales by logarithms and gradient lengths by stretching all to the longest.

    With the gradients ``g_t`` of ``log(L_t + 1e-8)`` smoothed over the steps k,
    ``b_t <- g_t + (beta / k^sigma) (b_t - g_t)``, the update is
    ``sum_t (max_u |b_u| / (|b_t| + 1e-8)) b_t``. Heads are trained plainly.

    Args:
        beta: Weight of the past, in [0, 1]; 0.9, the released code.
        sigma: How fast it fades, >= 0; 0, the released code's default.
        gradients: Where, how often and from how much of the batch gradients are taken; the smoothed
            gradients are ``[T, P]``, scope "features" or "last" keeps them small.

    Differences: heads receive the gradient of the mean loss, in the released code that of the mean
        logarithm. Smoothing features (scope "features") is not in the paper.

    Cost: T backward passes, memory 2 T P. Needs: Jacobian, losses.

    Example:
        >>> balancer = DBMTL()
        >>> balancer.combine(torch.tensor([[1.0, 0.0], [0.0, 2.0]]), torch.tensor([1.0, 1.0]))
        tensor([0.2000, 0.2000])

    References:
        B. Lin et al., Dual-Balancing for Multi-Task Learning, 2023,
        https://arxiv.org/abs/2308.12029, Algorithm 1.
    """

    takes_tasks: ClassVar[bool] = True
    late_buffers: ClassVar[tuple[str, ...]] = ("smoothed",)

    smoothed: Tensor
    looks: Tensor

    def __init__(
        self,
        *,
        beta: float = 0.9,
        sigma: float = 0.0,
        gradients: GradientOptions = GradientOptions(),
    ) -> None:
        super().__init__(gradients=gradients)
        if not 0 <= beta <= 1:
            raise ValueError(f"`beta` must be in [0, 1], found {beta}.")
        if not sigma >= 0:
            raise ValueError(f"`sigma` must be >= 0, found {sigma}.")
        self.beta = beta
        self.sigma = sigma

    def combine(
        self, jacobian: Tensor, losses: Tensor | None = None, *, tasks: Tensor | None = None
    ) -> Tensor:
        """The balanced sum of the task gradients ``[T, P]`` of the losses ``[T]``; moves the
        average.

        ``tasks`` are the positions of the T tasks among all; None means all of them.
        """
        if losses is None:
            raise ValueError("DBMTL needs `losses`, whose logarithms it balances, found None.")
        rows = state_rows(self, jacobian, tasks)
        if not hasattr(self, "smoothed"):
            shape = (len(self.looks), jacobian.shape[-1])
            self.register_buffer("smoothed", jacobian.new_zeros(shape))
        fresh = jacobian / (losses.to(jacobian.dtype) + 1e-8).unsqueeze(-1)
        self.looks[rows] += 1
        past = (self.beta / self.looks[rows] ** self.sigma).to(jacobian.dtype).unsqueeze(-1)
        smoothed = self.smoothed[rows] = fresh + past * (self.smoothed[rows] - fresh)
        lengths = smoothed.norm(dim=-1)
        direction: Tensor = (lengths.max() / (lengths + 1e-8)) @ smoothed
        return direction

    def _create_state(self, num_tasks: int, kinds: Sequence[Kind] | None) -> None:
        del kinds
        self.register_buffer("looks", torch.zeros(num_tasks, dtype=torch.float64))
