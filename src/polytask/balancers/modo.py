"""MoDo: minimum-norm weights by one unbiased step per update."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from polytask.balancers.base import GramBalancer, HeadRule, Scope
from polytask.balancers.double_sampling import check_scope
from polytask.balancers.rows import simplex_share, state_rows
from polytask.solvers import project_simplex
from polytask.tasks import Kind

__all__ = ["MoDo"]


class MoDo(GramBalancer):
    """Makes one projected step of the weights per update, with gradients of two batches.

    ``w <- project(w - gamma (J_1 J_2^T w + rho w))`` on the simplex, then the update ``J_3^T w``
    with a third batch. The product of two batches makes the step unbiased, and small steps trade
    conflict avoidance for generalisation.

    Args:
        gamma: Step size of the weights, > 0; 0.1.
        rho: Regularisation to equal weights, >= 0; 0.1.
        scope: Where gradients are taken, "trunk" or "last", as in `GramBalancer`.
        every: Steps between two computations of the weights.
        samples: Fraction of the batch that the Gramian is estimated from.
        memory: Budget in bytes for task gradients; None as in `GramBalancer`.
        heads: Rule for task-specific parameters, "weighted" or "plain".

    Raises:
        ValueError: If an argument is out of range.

    Differences: none known. Not free of scale: ``gamma`` has the unit of an inverse squared
    gradient. A batch of Gramians starts every problem from the present ``w`` and leaves it as it
    is.

    Cost: 2 T backward passes for the weights, one for the update, 2 T P memory. Needs: product of
    the gradients of two batches.

    Example:
        >>> import torch
        >>> from polytask.balancers import MoDo
        >>> jacobian = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
        >>> MoDo(gamma=0.1, rho=0.0).weights(jacobian @ jacobian.mT)
        tensor([0.5750, 0.4250])

    References:
        Chen, Fernando, Ying, Chen. Three-way trade-off in multi-objective learning: optimization,
        generalization and conflict-avoidance. NeurIPS 2023, algorithm 1.
        https://arxiv.org/abs/2305.20057
    """

    batches_per_step: ClassVar[int] = 3
    cost: ClassVar[str] = "2 T + 1"
    simplex_weights: Tensor

    def __init__(
        self,
        *,
        gamma: float = 0.1,
        rho: float = 0.1,
        scope: Scope = "trunk",
        every: int = 1,
        samples: float = 1.0,
        memory: int | None = None,
        heads: HeadRule = "weighted",
    ) -> None:
        super().__init__(
            scope=check_scope(scope), every=every, samples=samples, memory=memory, heads=heads
        )
        if not gamma > 0:
            raise ValueError(f"`gamma` must be > 0, found {gamma}.")
        if not rho >= 0:
            raise ValueError(f"`rho` must be >= 0, found {rho}.")
        self.gamma = gamma
        self.rho = rho

    def _create_state(self, num_tasks: int, kinds: Sequence[Kind] | None) -> None:
        del kinds
        start = torch.full((num_tasks,), 1 / num_tasks, dtype=torch.float64)
        self.register_buffer("simplex_weights", start)

    def weights(
        self, gram: Tensor, losses: Tensor | None = None, *, tasks: Tensor | None = None
    ) -> Tensor:
        """Weights ``[..., T]`` from ``J_1 J_2^T`` ``[..., T, T]``, which need not be symmetric.

        ``tasks`` are the positions of the T tasks among all; None means all of them.
        """
        del losses
        rows = state_rows(self, gram.shape[-1], tasks)
        inner, share = simplex_share(self.simplex_weights[rows])
        slope = (gram.double() @ inner.unsqueeze(-1)).squeeze(-1) + self.rho * inner
        weights = project_simplex(inner - self.gamma * slope)
        if gram.dim() == 2:
            self.simplex_weights[rows] = weights * share
        return weights.to(gram.dtype)

    def step_weights(self, gram: Tensor, losses: Tensor, tasks: Tensor) -> Tensor:
        """Weights of a training step in which ``tasks`` take part."""
        return self.weights(gram, losses, tasks=tasks)
