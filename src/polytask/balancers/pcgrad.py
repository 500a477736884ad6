"""PCGrad: projects conflicting gradients on each other's normal planes."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from polytask.balancers.base import HeadRule
from polytask.balancers.draws import Draws
from polytask.balancers.gradient_families import GramBalancer
from polytask.balancers.gradient_options import GradientOptions
from polytask.solvers import project_conflicts, random_orders

__all__ = ["PCGrad"]


class PCGrad(GramBalancer):
    """Removes from every task's gradient what conflicts with the others, and sums up.

    For every task ``i``: ``p_i = g_i``; for the other tasks ``j`` in random order, where
    ``p_i . g_j < 0``: ``p_i <- p_i - (p_i . g_j / ||g_j||^2) g_j``, with the gradients ``g`` (rows
    of ``J [T, P]``) left unchanged. Update ``sum_i p_i``. For two tasks the update never opposes
    either; for more it may.

    Args:
        seed: First state of the generator of the orders.
        gradients: Where, how often and from how much of the batch gradients are taken.
        heads: Rule for task-specific parameters, "weighted" or "mean".

    Differences: the authors' TensorFlow code discards the result of the shuffle and also visits
    ``j = i``; we follow the paper's algorithm 1. The update is the sum, as in the paper, not the
    mean.

    Cost: T + 1 backward passes of the trunk, O(P) memory; T - 1 rounds of O(T^2) on coefficients,
    where projecting the gradients themselves takes O(T^2 P). Needs: Gramian.

    Example:
        >>> import torch
        >>> from polytask.balancers import PCGrad
        >>> jacobian = torch.tensor([[1.0, 0.0], [-1.0, 1.0]])
        >>> PCGrad().combine(jacobian)
        tensor([0.5000, 1.5000])

    References:
        Yu, Kumar, Gupta, Levine, Hausman, Finn. Gradient surgery for multi-task learning. NeurIPS
        2020, algorithm 1.
        https://arxiv.org/abs/2001.06782
    """

    scale_invariant: ClassVar[bool] = True
    permutation_equivariant: ClassVar[bool] = False

    def __init__(
        self,
        *,
        seed: int = 0,
        gradients: GradientOptions = GradientOptions(),
        heads: HeadRule = "weighted",
    ) -> None:
        super().__init__(gradients=gradients, heads=heads)
        self.seed = seed
        self.draws = Draws(seed=seed)

    def weights(
        self, gram: Tensor, losses: Tensor | None = None, *, orders: Tensor | None = None
    ) -> Tensor:
        """Weights ``[..., T]``; ``orders`` ``[..., T, T - 1]`` are drawn unless given."""
        del losses
        if orders is None:
            orders = random_orders(
                gram.shape[-1], generator=self.draws.generator, batch=tuple(gram.shape[:-2])
            )
        return project_conflicts(gram, orders).sum(dim=-2)
