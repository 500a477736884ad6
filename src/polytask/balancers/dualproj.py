"""DualProj: projects the mean gradient on the cone of harmless directions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor

from polytask.balancers.base import GramBalancer, HeadRule, Scope
from polytask.balancers.rows import check_preference, preference_of
from polytask.solvers import project_dual_cone

__all__ = ["DualProj"]


class DualProj(GramBalancer):
    """Turns the mean gradient as little as needed to hurt no task.

    ``d = argmin_{y : J y >= 0} ||y - sum_t u_t g_t||`` with the gradients ``g_t`` (rows of
    ``J [T, P]``) and preferences ``u``. ``g_t . d >= 0`` for every task.

    Args:
        preference: ``u``, T numbers >= 0; None (default) is ``1 / T`` each.
        scope: Where gradients are taken, "trunk", "last" or "features", as in `GramBalancer`.
        every: Steps between two computations of the weights.
        samples: Fraction of the batch that the Gramian is estimated from.
        memory: Budget in bytes for task gradients; None as in `GramBalancer`.
        heads: Rule for task-specific parameters, "weighted" or "plain".

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

    non_conflicting: ClassVar[bool] = True
    scale_invariant: ClassVar[bool] = True
    stationary_fixed_point: ClassVar[bool] = True

    def __init__(
        self,
        *,
        preference: Sequence[float] | None = None,
        scope: Scope = "trunk",
        every: int = 1,
        samples: float = 1.0,
        memory: int | None = None,
        heads: HeadRule = "weighted",
    ) -> None:
        super().__init__(scope=scope, every=every, samples=samples, memory=memory, heads=heads)
        self.preference = check_preference(preference)

    def weights(
        self, gram: Tensor, losses: Tensor | None = None, *, tasks: Tensor | None = None
    ) -> Tensor:
        """Weights ``[..., T]``; ``tasks`` are the positions of the T tasks among all."""
        del losses
        wanted = preference_of(self.preference, gram, tasks).expand(gram.shape[:-1])
        weights, report = project_dual_cone(gram, wanted.unsqueeze(-2))
        self.notes = dict(vars(report))
        return weights.squeeze(-2)

    def step_weights(self, gram: Tensor, losses: Tensor, tasks: Tensor) -> Tensor:
        """Weights of a training step in which ``tasks`` take part."""
        return self.weights(gram, losses, tasks=tasks)
