"""IMTL-G: a direction with equal projections on all task gradients."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from polytask.balancers.gradient_families import GramBalancer
from polytask.solvers import equal_projections

__all__ = ["IMTLG"]


class IMTLG(GramBalancer):
    """Combines the gradients so that all tasks make the same progress along their own direction.

    ``d = sum_t w_t g_t`` with ``sum_t w_t = 1`` and ``d . g_t / ||g_t||`` equal for all tasks.
    Solved as ``R v = mu 1``, ``w_t = v_t / ||g_t||`` with the cosines ``R [T, T]`` of the
    gradients. Weights may be negative; if the cosines are singular we take the shortest ``v``.

    Tasks whose gradient is zero get the weight ``1 / T`` and take no part.

    Args:
        gradients: Where, how often and from how much of the batch gradients are taken.
        heads: Rule for task-specific parameters, "weighted" or "mean".

    Differences: the paper's closed form inverts a (T-1) x (T-1) matrix that is singular for
    dependent or zero gradients; the form above agrees with it elsewhere and keeps gradients of very
    different lengths exact.

    Cost: T + 1 backward passes of the trunk, O(P) memory; one T x T eigendecomposition. Needs:
    Gramian.

    Example:
        >>> import torch
        >>> from polytask.balancers import IMTLG
        >>> jacobian = torch.tensor([[1.0, 0.0], [0.0, 3.0]])
        >>> IMTLG().weights(jacobian @ jacobian.mT)
        tensor([0.7500, 0.2500])

    References:
        Liu, Li, Kuang, Xue, Chen, Yang, Liao, Zhang. Towards impartial multi-task learning. ICLR
        2021, equation 6.
        https://openreview.net/forum?id=IMPnRXEWpvr
    """

    scale_invariant: ClassVar[bool] = True

    def weights(self, gram: Tensor, losses: Tensor | None = None) -> Tensor:
        """Weights ``[..., T]``, summing to one."""
        del losses
        return equal_projections(gram)
