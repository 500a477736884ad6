"""IMTL-L, the loss half of impartial multi-task learning."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from polytask.balancers.base import HeadRule, LossBalancer
from polytask.tasks import Kind

__all__ = ["IMTLL"]


class IMTLL(LossBalancer):
    """Learns one scale per task that brings all weighted losses to the same value, 1.

    ``sum_t exp(s_t) L_t - s_t``: at the optimum ``exp(s_t) L_t = 1``. The ``s [T]`` are parameters
    of the balancer, trained by the optimizer that trains the model; ``w_t = exp(s_t)``.

    Args:
        initial: First value of every s; 0 as in the paper.
        heads: Rule for task-specific parameters.

    Differences: none known. LibMTL offers it only together with IMTL-G.

    Cost: one backward pass. Needs: losses.

    Example:
        >>> balancer = IMTLL()
        >>> balancer.setup(2)
        >>> balancer.weights(torch.tensor([0.5, 2.0]))
        tensor([1., 1.])

    References:
        L. Liu et al., Towards Impartial Multi-Task Learning, ICLR 2021,
        https://openreview.net/forum?id=IMPnRXEWpvr, eq. (9).
    """

    log_scales: nn.Parameter

    def __init__(self, *, initial: float = 0.0, heads: HeadRule = "weighted") -> None:
        super().__init__(heads=heads)
        if not math.isfinite(initial):
            raise ValueError(f"`initial` must be a finite number, found {initial}.")
        self.initial = initial

    def weights(self, losses: Tensor, tasks: Tensor | None = None) -> Tensor:
        """``exp(s_t)``."""
        scales = self.log_scales.detach()
        chosen = scales if tasks is None else scales[tasks]
        return chosen.exp().to(losses.dtype).expand(losses.shape)

    def objective(self, losses: Tensor, tasks: Tensor) -> tuple[Tensor, Tensor]:
        """The scaled losses and the term that keeps the scales from vanishing."""
        scales = self.log_scales[tasks].to(losses.dtype)
        weights = scales.exp()
        return (weights * losses - scales).sum(), weights

    def _create_state(self, num_tasks: int, kinds: Sequence[Kind] | None) -> None:
        del kinds
        self.log_scales = nn.Parameter(torch.full((num_tasks,), float(self.initial)))
