"""Geometric mean of the losses."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from polytask.balancers.base import LossBalancer

__all__ = ["GeometricMean"]


class GeometricMean(LossBalancer):
    """Minimises the geometric mean of the losses, so that a loss counts by its relative change.

    ``L = (prod_t L_t)^(1/T)``, computed as ``exp(mean_t log L_t)``, which neither overflows nor
    underflows; the weights are its derivatives ``w_t = L / (T L_t)``.

    Args:
        heads: Rule for task-specific parameters.

    Differences: none known in the loss. LibMTL computes the product, which underflows, and
        reports ``L_t / (T prod L)`` as weights. Losses must be positive: a loss that is zero (or
        negative) counts as the smallest positive number of its precision.

    Cost: one backward pass. Needs: losses.

    Example:
        >>> GeometricMean().weights(torch.tensor([1.0, 4.0]))
        tensor([1.0000, 0.2500])

    References:
        S. Chennupati et al., MultiNet++: Multi-Stream Feature Aggregation and Geometric Loss
        Strategy for Multi-Task Learning, CVPR Workshops 2019, https://arxiv.org/abs/1904.08492,
        eq. (4).
    """

    scale_invariant: ClassVar[bool] = True

    def weights(self, losses: Tensor, tasks: Tensor | None = None) -> Tensor:
        """``L / (T L_t)``."""
        del tasks
        logs = losses.clamp_min(torch.finfo(losses.dtype).tiny).log()
        return torch.exp(logs.mean(-1, keepdim=True) - logs) / losses.shape[-1]

    def total(self, losses: Tensor) -> Tensor:
        """The geometric mean ``[...]`` of losses ``[..., T]``."""
        return losses.clamp_min(torch.finfo(losses.dtype).tiny).log().mean(-1).exp()
