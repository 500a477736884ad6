"""MoDo: minimum-norm weights by one unbiased step per update."""

from __future__ import annotations

from torch import Tensor

from polytask.balancers.base import HeadRule
from polytask.balancers.double_sampling import DoubleSamplingBalancer
from polytask.balancers.gradient_options import GradientOptions
from polytask.solvers import project_simplex

__all__ = ["MoDo"]


class MoDo(DoubleSamplingBalancer):
    """Makes one projected step of the weights per update, with gradients of two batches.

    ``w <- project(w - gamma (J_1 J_2^T w + rho w))`` on the simplex, then the update ``J_3^T w``
    with a third batch. The product of two batches makes the step unbiased, and small steps trade
    conflict avoidance for generalisation.

    Args:
        gamma: Step size of the weights, > 0; 0.1.
        rho: Regularisation to equal weights, >= 0; 0.1.
        gradients: Where, how often and from how much of the batch gradients are taken; scope
            "trunk" or "last".
        heads: Rule for task-specific parameters, "weighted" or "mean".

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

    def __init__(
        self,
        *,
        gamma: float = 0.1,
        rho: float = 0.1,
        gradients: GradientOptions = GradientOptions(),
        heads: HeadRule = "weighted",
    ) -> None:
        super().__init__(gradients=gradients, heads=heads)
        if not gamma > 0:
            raise ValueError(f"`gamma` must be > 0, found {gamma}.")
        if not rho >= 0:
            raise ValueError(f"`rho` must be >= 0, found {rho}.")
        self.gamma = gamma
        self.rho = rho

    def moved(self, product: Tensor, start: Tensor) -> tuple[Tensor, Tensor]:
        """One projected step; the update has the simplex weights themselves."""
        slope = (product.double() @ start.unsqueeze(-1)).squeeze(-1) + self.rho * start
        weights = project_simplex(start - self.gamma * slope)
        return weights, weights
