"""Train only the task with the highest loss."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from polytask.balancers.base import LossBalancer

__all__ = ["HighestLoss"]


class HighestLoss(LossBalancer):
    """Each step trains only the task whose loss is highest: ``min max_t L_t``.

    ``w_t = 1`` for the task with the highest loss, 0 for the others; tasks that tie share the
    weight. It is the corner case of ``AgnosticMinimax`` with an infinite step size. Losses must be
    comparable, for otherwise the task with the largest unit is the only one ever trained.

    Args:
        heads: Rule for task-specific parameters; "mean" trains the other heads as well.

    Differences: none known.

    Cost: one backward pass. Needs: losses.

    Example:
        >>> import torch
        >>> HighestLoss().weights(torch.tensor([0.5, 2.0, 1.0]))
        tensor([0., 1., 0.])

    References:
        C. Cortes, M. Mohri, J. Gonzalvo, D. Storcheus, Agnostic Learning with Multiple
        Objectives, NeurIPS 2020,
        https://proceedings.neurips.cc/paper/2020/hash/ebea2325dc670423afe9a1f4d9d1aef5-Abstract.html
        (the maximum over the whole simplex).
    """

    scale_invariant: ClassVar[bool] = True

    def weights(self, losses: Tensor, tasks: Tensor | None = None) -> Tensor:
        """One for the highest loss."""
        del tasks
        highest = (losses == losses.amax(-1, keepdim=True)).to(losses.dtype)
        return highest / highest.sum(-1, keepdim=True)
