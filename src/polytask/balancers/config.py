"""ConFIG: the direction with equal cosines to all task gradients."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from polytask.balancers.gradient_families import GramBalancer
from polytask.solvers import conflict_free

__all__ = ["ConFIG"]


class ConFIG(GramBalancer):
    """Follows the direction of equal angles with all gradients, as far as they reach along it.

    ``d = pinv(U) 1`` with the normalised gradients ``U [T, P]``, ``u = d / ||d||``, update
    ``(sum_t g_t . u) u``. For linearly independent gradients all cosines are equal and positive, so
    that no task is hurt; for dependent ones ``d`` is the least-squares solution. Zero gradients
    stay zero in ``U``.

    Where gradients oppose each other exactly there is no such direction and the update is zero.

    Args:
        gradients: Where, how often and from how much of the batch gradients are taken.
        heads: Rule for task-specific parameters, "weighted" or "mean".

    Differences: the authors compute the pseudo-inverse of ``U`` itself; since
    ``pinv(U) = U^T pinv(U U^T)`` the cosines suffice, and the cost does not grow with P. Their
    shortcut for two gradients is wrong for parallel ones.

    Cost: T + 1 backward passes of the trunk, O(P) memory; one T x T eigendecomposition. Needs:
    Gramian.

    Example:
        >>> import torch
        >>> from polytask.balancers import ConFIG
        >>> jacobian = torch.tensor([[3.0, 0.0], [0.0, 1.0]])
        >>> ConFIG().combine(jacobian)
        tensor([2., 2.])

    References:
        Liu, Chu, Thuerey. ConFIG: towards conflict-free training of physics informed neural
        networks. ICLR 2025, equations 2-3. https://arxiv.org/abs/2408.11104
    """

    scale_invariant: ClassVar[bool] = True

    def weights(self, gram: Tensor, losses: Tensor | None = None) -> Tensor:
        """Weights ``[..., T]``; may be negative."""
        del losses
        return conflict_free(gram)
