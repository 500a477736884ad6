"""Dynamic weight average."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from polytask.balancers.base import HeadRule, LossBalancer
from polytask.tasks import Kind

__all__ = ["DynamicWeightAverage"]


class DynamicWeightAverage(LossBalancer):
    """Gives more weight to tasks whose loss has fallen less over the last two epochs.

    ``r_t = L_t(e - 1) / L_t(e - 2)`` and ``w_t = T exp(r_t / c) / sum_u exp(r_u / c)``, where
    ``L_t(e)`` is the mean training loss of epoch e and c the temperature; the weights sum to T and
    are 1 in the first two epochs.

    Args:
        temperature: c > 0; 2 as in section 4.2 of the paper. Large values give equal weights.
        heads: Rule for task-specific parameters.

    Differences: none known. The variant of the nash-mtl repository (windows of 25 steps, mean
        instead of sum) is another algorithm.

    Cost: one backward pass. Needs: losses, epoch means.

    Example:
        >>> balancer = DynamicWeightAverage()
        >>> balancer.setup(2)
        >>> balancer.end_epoch(torch.tensor([1.0, 1.0]))
        >>> balancer.end_epoch(torch.tensor([0.5, 1.0]))
        >>> balancer.weights(torch.tensor([0.5, 1.0]))
        tensor([0.8756, 1.1244])

    References:
        S. Liu, E. Johns, A. Davison, End-to-End Multi-Task Learning with Attention, CVPR 2019,
        https://arxiv.org/abs/1803.10704, eq. (7).
    """

    affine: ClassVar[bool] = True
    scale_invariant: ClassVar[bool] = True
    uses_epoch_means: ClassVar[bool] = True

    history: Tensor

    def __init__(self, *, temperature: float = 2.0, heads: HeadRule = "weighted") -> None:
        super().__init__(heads=heads)
        if not temperature > 0:
            raise ValueError(f"`temperature` must be > 0, found {temperature}.")
        self.temperature = temperature

    def weights(self, losses: Tensor, tasks: Tensor | None = None) -> Tensor:
        """The weights of this epoch."""
        before, last = self.history
        ratio = torch.where(before > 0, last / before, 1.0).nan_to_num(nan=1.0)
        weights = torch.softmax(ratio / self.temperature, dim=0) * len(ratio)
        chosen = weights if tasks is None else weights[tasks]
        return chosen.to(losses.dtype).expand(losses.shape)

    def end_epoch(self, mean_losses: Tensor, scores: Tensor | None = None) -> None:
        """Shift the history; a task without labels in the epoch (NaN) keeps its last value."""
        del scores
        means = mean_losses.to(self.history)
        last = self.history[1]
        self.history.copy_(torch.stack([last, torch.where(means.isnan(), last, means)]))

    def _create_state(self, num_tasks: int, kinds: Sequence[Kind] | None) -> None:
        del kinds
        empty = torch.full((2, num_tasks), torch.nan, dtype=torch.float64)
        self.register_buffer("history", empty)
