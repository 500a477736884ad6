"""Random loss weighting."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from polytask.balancers.base import HeadRule, LossBalancer
from polytask.balancers.draws import Draws

__all__ = ["RandomLossWeighting"]


class RandomLossWeighting(LossBalancer):
    """Draws fresh random weights in every step; a baseline that any weighting method should beat.

    ``w = softmax(z)`` with ``z ~ N(0, I)`` in ``R^T``; the weights sum to 1 and are equal on
    average.

    Args:
        seed: Of the method's own random numbers.
        heads: Rule for task-specific parameters.

    Differences: the paper's other distributions (uniform, Dirichlet, Bernoulli) are not offered.

    Cost: one backward pass. Needs: losses.

    Example:
        >>> balancer = RandomLossWeighting()
        >>> balancer.weights(torch.tensor([0.5, 2.0]), noise=torch.zeros(2))
        tensor([0.5000, 0.5000])

    References:
        B. Lin, F. Ye, Y. Zhang, I. Tsang, Reasonable Effectiveness of Random Weighting, TMLR 2022,
        https://arxiv.org/abs/2111.10603, section 3.
    """

    scale_invariant: ClassVar[bool] = True
    permutation_equivariant: ClassVar[bool] = False

    def __init__(self, *, seed: int = 0, heads: HeadRule = "weighted") -> None:
        super().__init__(heads=heads)
        self.seed = seed
        self.draws = Draws(seed=seed)

    def weights(
        self, losses: Tensor, tasks: Tensor | None = None, *, noise: Tensor | None = None
    ) -> Tensor:
        """Softmax of normal noise.

        Args:
            losses: ``[..., T]``.
            tasks: Not used; tasks without labels draw no weight.
            noise: z ``[..., T]``; None draws it.
        """
        del tasks
        if noise is None:
            noise = torch.randn(losses.shape, generator=self.draws.generator).to(losses)
        return torch.softmax(noise, dim=-1)
