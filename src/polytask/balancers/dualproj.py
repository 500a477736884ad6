"""DualProj: projects the mean gradient on the cone of harmless directions."""

from __future__ import annotations

from torch import Tensor

from polytask.balancers.dual_cone import DualConeBalancer

__all__ = ["DualProj"]


class DualProj(DualConeBalancer):
    """Turns the mean gradient as little as needed to hurt no task.

    ``d = argmin_{y : J y >= 0} ||y - sum_t u_t g_t||`` with the gradients ``g_t`` (rows of
    ``J [T, P]``) and preferences ``u``. ``g_t . d >= 0`` for every task.

    Args:
        preference: ``u``, T numbers >= 0; None (default) is ``1 / T`` each.
        gradients: Where, how often and from how much of the batch gradients are taken.
        heads: Rule for task-specific parameters, "weighted" or "mean".

    Raises:
        ValueError: If ``preference`` has negative numbers or the wrong length.

    Differences: the paper projects the gradient of a new task so that old ones are not hurt; here
    the mean stands for the new task, as in the comparison of Quinton and Rey. Solved exactly, with
    rows of length one; no margin, no ridge.

    Cost: T + 1 backward passes of the trunk, O(P) memory; one active-set problem of T unknowns.
    Needs: Gramian.

    Example:
        >>> import torch
        >>> from polytask.balancers import DualProj
        >>> jacobian = torch.tensor([[1.0, 0.0], [-3.0, 1.0]])
        >>> DualProj().weights(jacobian @ jacobian.mT)
        tensor([1.5000, 0.5000])

    References:
        Lopez-Paz, Ranzato. Gradient episodic memory for continual learning. NeurIPS 2017, equation
        11.
        https://arxiv.org/abs/1706.08840
        Quinton, Rey. Jacobian descent for multi-objective optimization. 2024.
        https://arxiv.org/abs/2406.16232
    """

    def coefficients(self, preference: Tensor) -> Tensor:
        """One vector, the weighted sum of the gradients: ``[1, T]``."""
        return preference.unsqueeze(0)
