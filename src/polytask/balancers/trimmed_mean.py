"""Trimmed mean: averages what is left after the extremes of every coordinate."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from polytask.balancers.base import HeadRule
from polytask.balancers.gradient_families import JacobianBalancer
from polytask.balancers.gradient_options import GradientOptions

__all__ = ["TrimmedMean"]


class TrimmedMean(JacobianBalancer):
    """Averages, coordinate by coordinate, the gradients without the largest and the smallest.

    The ``b`` largest and ``b`` smallest of the T entries of a column of ``J [T, P]`` are dropped
    and the others averaged.

    Args:
        trim: ``b`` >= 0; 1. Zero is the mean.
        gradients: Where, how often and from how much of the batch gradients are taken.
        heads: Rule for task-specific parameters, "weighted" or "mean".

    Raises:
        ValueError: If ``trim`` is negative or leaves no task.

    Differences: the paper trims a share of the workers; we count tasks.

    Cost: T backward passes of the trunk, T x P memory; one sort. Needs: Jacobian.

    Example:
        >>> import torch
        >>> from polytask.balancers import TrimmedMean
        >>> jacobian = torch.tensor([[1.0, 9.0], [2.0, 1.0], [30.0, 2.0]])
        >>> TrimmedMean(trim=1).combine(jacobian)
        tensor([2., 2.])

    References:
        Yin, Chen, Ramchandran, Bartlett. Byzantine-robust distributed learning: towards optimal
        statistical rates. ICML 2018, definition 2. https://arxiv.org/abs/1803.01498
    """

    scale_invariant: ClassVar[bool] = True
    example_counts: ClassVar[tuple[int, ...]] = (9,)

    def __init__(
        self,
        *,
        trim: int = 1,
        gradients: GradientOptions = GradientOptions(),
        heads: HeadRule = "weighted",
    ) -> None:
        super().__init__(gradients=gradients, heads=heads)
        if trim < 0:
            raise ValueError(f"`trim` must be >= 0, found {trim}.")
        self.trim = trim

    def combine(self, jacobian: Tensor, losses: Tensor | None = None) -> Tensor:
        del losses
        count = jacobian.shape[-2]
        if count <= 2 * self.trim:
            raise ValueError(
                f"`trim={self.trim}` needs more than {2 * self.trim} tasks, found {count}."
            )
        ordered = jacobian.sort(dim=-2).values
        return ordered[..., self.trim : count - self.trim, :].mean(dim=-2)
