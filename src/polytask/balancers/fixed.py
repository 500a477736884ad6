"""Weights that the user (or a search) has chosen."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from polytask.balancers.base import HeadRule, LossBalancer
from polytask.tasks import Kind

__all__ = ["FixedWeights"]


class FixedWeights(LossBalancer):
    """The same weights in every step: the update follows ``sum_t w_t L_t``.

    Args:
        values: w, one number >= 0 per task of the problem, not all zero; used as they are, not
            normalised.
        heads: Rule for task-specific parameters.

    Differences: none known.

    Cost: one backward pass. Needs: losses.

    Example:
        >>> import torch
        >>> FixedWeights(values=(0.9, 0.1)).weights(torch.tensor([0.5, 2.0]))
        tensor([0.9000, 0.1000])

    References:
        A. Kendall, Y. Gal, R. Cipolla, Multi-Task Learning Using Uncertainty to Weigh Losses, CVPR
        2018,
        https://arxiv.org/abs/1705.07115, eq. (1) and Table 1 (weights by grid search).
    """

    affine: ClassVar[bool] = True
    scale_invariant: ClassVar[bool] = True
    example_counts: ClassVar[tuple[int, ...]] = (3,)

    def __init__(self, *, values: Sequence[float], heads: HeadRule = "weighted") -> None:
        super().__init__(heads=heads)
        numbers = tuple(float(value) for value in values)
        if (
            not numbers
            or not all(math.isfinite(v) and v >= 0 for v in numbers)
            or sum(numbers) == 0
        ):
            raise ValueError(
                "`values` must be finite weights >= 0, one per task and not all zero,"
                f" found {tuple(values)!r}."
            )
        self.values = numbers

    @classmethod
    def example(cls) -> FixedWeights:
        """A small instance, for checks and documentation."""
        return cls(values=(0.5, 1.0, 2.0))

    def weights(self, losses: Tensor, tasks: Tensor | None = None) -> Tensor:
        """The chosen weights."""
        chosen = torch.tensor(self.values, dtype=losses.dtype, device=losses.device)
        return (chosen if tasks is None else chosen[tasks]).expand(losses.shape)

    def _create_state(self, num_tasks: int, kinds: Sequence[Kind] | None) -> None:
        del kinds
        if num_tasks != len(self.values):
            raise ValueError(
                f"`values` holds {len(self.values)} weights but the problem has {num_tasks} tasks;"
                " give one each."
            )
