"""Equal weights."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from polytask.balancers.base import LossBalancer

__all__ = ["Equal"]


class Equal(LossBalancer):
    """Every task counts the same: the update follows the mean of the task losses.

    ``L = (1/T) sum_t L_t`` over the T tasks that have labels in the batch, so a task's weight does
    not depend on its number of samples.

    Args:
        heads: Rule for task-specific parameters; "weighted" and "mean" are the same here.

    Differences: none known; libraries that sum instead of averaging have T times our step.

    Cost: one backward pass. Needs: losses.

    Example:
        >>> import torch
        >>> Equal().weights(torch.tensor([0.5, 2.0]))
        tensor([0.5000, 0.5000])

    References:
        R. Caruana, Multitask Learning, Machine Learning 28, 1997,
        https://doi.org/10.1023/A:1007379606734.
    """

    affine: ClassVar[bool] = True
    scale_invariant: ClassVar[bool] = True

    def weights(self, losses: Tensor, tasks: Tensor | None = None) -> Tensor:
        """``1 / T`` for every task."""
        del tasks
        return losses.new_full(losses.shape, 1 / losses.shape[-1])
