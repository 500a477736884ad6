"""UPGrad: projects every gradient on the cone of harmless directions, then averages."""

from __future__ import annotations

from torch import Tensor

from polytask.balancers.dual_cone import DualConeBalancer

__all__ = ["UPGrad"]


class UPGrad(DualConeBalancer):
    """Averages the gradients after each was turned as little as needed to hurt no task.

    ``d = sum_t u_t pi(g_t)`` with ``pi(x) = argmin_{y : J y >= 0} ||y - x||``, the projection on
    the dual cone of the gradients (the rows of ``J [T, P]``), and preferences ``u``.
    ``g_t . d >= 0`` for every task.

    Args:
        preference: ``u``, T numbers >= 0; None (default) is ``1 / T`` each, the paper.
        gradients: Where, how often and from how much of the batch gradients are taken.
        heads: Rule for task-specific parameters, "weighted" or "mean".

    Raises:
        ValueError: If ``preference`` has negative numbers or the wrong length.

    Differences: the authors' code adds 1e-4 to the normalised Gramian, so that tasks with short
    gradients (below a tenth of the longest) may be hurt; we solve the projections exactly, with
    rows of length one.

    Cost: T + 1 backward passes of the trunk, O(P) memory; T active-set problems of T unknowns.
    Needs: Gramian.

    Example:
        >>> import torch
        >>> from polytask.balancers import UPGrad
        >>> jacobian = torch.tensor([[1.0, 0.0], [-1.0, 1.0]])
        >>> UPGrad().combine(jacobian)
        tensor([0.2500, 0.7500])

    References:
        Quinton, Rey. Jacobian descent for multi-objective optimization. 2024, equations 3-4.
        https://arxiv.org/abs/2406.16232
    """

    def coefficients(self, preference: Tensor) -> Tensor:
        """Every weighted gradient on its own: ``[T, T]``."""
        return preference.diag()
