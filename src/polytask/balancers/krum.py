"""Multi-Krum: averages the gradients that lie closest together."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from polytask.balancers.base import HeadRule
from polytask.balancers.gradient_families import GramBalancer
from polytask.balancers.gradient_options import GradientOptions

__all__ = ["Krum"]


class Krum(GramBalancer):
    """Averages the few gradients whose neighbours are nearest, and ignores outliers.

    The score of task ``i`` is the sum of ``||g_i - g_j||^2`` over its ``T - f - 2`` nearest other
    tasks; the update is the mean of the ``m`` gradients (rows of ``J [T, P]``) with the lowest
    scores. Distances come from the Gramian, ``G_ii - 2 G_ij + G_jj``. With equal scores the tasks
    that come first are taken.

    Args:
        num_outliers: ``f``, tasks that may be arbitrarily wrong, >= 0; 1.
        num_selected: ``m``, gradients that are averaged, >= 1; 1 is Krum.
        gradients: Where, how often and from how much of the batch gradients are taken.
        heads: Rule for task-specific parameters, "weighted" or "mean".

    Raises:
        ValueError: If an argument is out of range, or there are fewer than ``f + 3`` or ``m``
            tasks.

    Differences: none known; some ports sum distances where the paper sums their squares.

    Cost: T + 1 backward passes of the trunk, O(P) memory; O(T^2 log T). Needs: Gramian.

    Example:
        >>> import torch
        >>> from polytask.balancers import Krum
        >>> jacobian = torch.tensor([[1.0], [1.1], [1.3], [9.0]])
        >>> Krum(num_selected=2).combine(jacobian)
        tensor([1.0500])

    References:
        Blanchard, El Mhamdi, Guerraoui, Stainer. Machine learning with adversaries: Byzantine
        tolerant gradient descent. NeurIPS 2017, section 4. https://arxiv.org/abs/1703.02757
    """

    scale_invariant: ClassVar[bool] = True
    example_counts: ClassVar[tuple[int, ...]] = (9,)

    def __init__(
        self,
        *,
        num_outliers: int = 1,
        num_selected: int = 1,
        gradients: GradientOptions = GradientOptions(),
        heads: HeadRule = "weighted",
    ) -> None:
        super().__init__(gradients=gradients, heads=heads)
        if num_outliers < 0:
            raise ValueError(f"`num_outliers` must be >= 0, found {num_outliers}.")
        if num_selected < 1:
            raise ValueError(f"`num_selected` must be >= 1, found {num_selected}.")
        self.num_outliers = num_outliers
        self.num_selected = num_selected

    def weights(self, gram: Tensor, losses: Tensor | None = None) -> Tensor:
        """Weights ``[..., T]``: ``1 / m`` for the selected tasks, else zero."""
        del losses
        scores = self.scores(gram)
        chosen = scores.argsort(dim=-1, stable=True)[..., : self.num_selected]
        return torch.zeros_like(scores).scatter(-1, chosen, 1 / self.num_selected)

    def scores(self, gram: Tensor) -> Tensor:
        """Sums of squared distances to the nearest other tasks, ``[..., T]``."""
        count = gram.shape[-1]
        needed = max(self.num_outliers + 3, self.num_selected)
        if count < needed:
            raise ValueError(
                f"Krum with {self.num_outliers} outliers and {self.num_selected} selected gradients"
                f" needs at least {needed} tasks, found {count}."
            )
        exact = gram.double()
        squares = exact.diagonal(dim1=-2, dim2=-1)
        distances = squares.unsqueeze(-1) - 2 * exact + squares.unsqueeze(-2)
        # A task is its own nearest neighbour: the first of the sorted distances is left out.
        distances = distances.clamp(min=0)
        distances.diagonal(dim1=-2, dim2=-1).fill_(-1)
        nearest = distances.sort(dim=-1).values[..., 1 : count - self.num_outliers - 1]
        return nearest.sum(dim=-1).to(gram.dtype)
