"""GradVac: moves gradients towards the cosines that task pairs usually have."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from polytask.balancers.base import HeadRule
from polytask.balancers.draws import Draws
from polytask.balancers.gradient_families import GramBalancer
from polytask.balancers.gradient_options import GradientOptions
from polytask.balancers.rows import state_rows
from polytask.solvers import random_orders, vaccinate
from polytask.tasks import Kind

__all__ = ["GradVac"]


class GradVac(GramBalancer):
    """Turns gradients until their cosines reach the moving average of the pair, and sums up.

    For every task ``i``: ``p_i = g_i``; for the other tasks ``j`` in random order, with
    ``phi = cos(p_i, g_j)`` and the pair's average ``r_ij``: where ``phi < r_ij``, ``p_i`` grows by
    the multiple of ``g_j`` that makes the cosine ``r_ij``,
    ``||p_i|| (r_ij sqrt(1 - phi^2) - phi sqrt(1 - r_ij^2)) / (||g_j|| sqrt(1 - r_ij^2))``; then
    ``r_ij <- (1 - beta) r_ij + beta phi``. Update ``sum_i p_i``. With ``beta = 0`` all averages
    stay zero and it is PCGrad.

    Args:
        beta: Weight of the new cosine in the average, in [0, 1]; 0.01, section 4.2.
        seed: First state of the generator of the orders.
        gradients: Where, how often and from how much of the batch gradients are taken.
        heads: Rule for task-specific parameters, "weighted" or "mean".

    Raises:
        ValueError: If ``beta`` is outside [0, 1].

    Differences: granularity is the whole gradient (the paper also tries layers and groups of
    layers). The average is updated at every visit, as in algorithm 1; one public port updates it
    only for corrected pairs. A batch of Gramians starts every problem from the present averages and
    leaves these as they are.

    Cost: T + 1 backward passes of the trunk, O(P) memory; T - 1 rounds of O(T^2). Needs: Gramian.

    Example:
        >>> import torch
        >>> from polytask.balancers import GradVac
        >>> jacobian = torch.tensor([[1.0, 0.0], [-1.0, 1.0]])
        >>> GradVac().combine(jacobian)
        tensor([0.5000, 1.5000])

    References:
        Wang, Tsvetkov, Firat, Cao. Gradient vaccine: investigating and improving multi-task
        optimization in massively multilingual models. ICLR 2021, equations 2-3, algorithm 1.
        https://arxiv.org/abs/2010.05874
    """

    takes_tasks: ClassVar[bool] = True
    scale_invariant: ClassVar[bool] = True
    permutation_equivariant: ClassVar[bool] = False
    targets: Tensor

    def __init__(
        self,
        *,
        beta: float = 0.01,
        seed: int = 0,
        gradients: GradientOptions = GradientOptions(),
        heads: HeadRule = "weighted",
    ) -> None:
        super().__init__(gradients=gradients, heads=heads)
        if not 0 <= beta <= 1:
            raise ValueError(f"`beta` must be in [0, 1], found {beta}.")
        self.beta = beta
        self.seed = seed
        self.draws = Draws(seed=seed)

    def _create_state(self, num_tasks: int, kinds: Sequence[Kind] | None) -> None:
        del kinds
        self.register_buffer("targets", torch.zeros(num_tasks, num_tasks, dtype=torch.float64))

    def weights(
        self,
        gram: Tensor,
        losses: Tensor | None = None,
        *,
        tasks: Tensor | None = None,
        orders: Tensor | None = None,
    ) -> Tensor:
        """Weights ``[..., T]``; moves the averages of the tasks at positions ``tasks`` (or all).

        ``orders`` ``[..., T, T - 1]`` are drawn unless given.
        """
        del losses
        count, batch = gram.shape[-1], tuple(gram.shape[:-2])
        rows = state_rows(self, gram, tasks)
        if orders is None:
            orders = random_orders(count, generator=self.draws.generator, batch=batch)
        targets = self.targets[rows[:, None], rows].expand(gram.shape)
        coefficients, targets = vaccinate(gram, orders, targets, beta=self.beta)
        if not batch:
            self.targets[rows[:, None], rows] = targets
        return coefficients.sum(dim=-2)
