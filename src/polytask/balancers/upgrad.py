"""UPGrad: projects every gradient on the cone of harmless directions, then averages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from polytask.balancers.base import GramBalancer, HeadRule, Scope
from polytask.balancers.rows import check_preference, preference_of
from polytask.solvers import project_dual_cone

__all__ = ["UPGrad"]


class UPGrad(GramBalancer):
    """Averages the gradients after each was turned as little as needed to hurt no task.

    ``d = sum_t u_t pi(g_t)`` with ``pi(x) = argmin_{y : J y >= 0} ||y - x||``, the projection on
    the dual cone of the gradients (the rows of ``J [T, P]``), and preferences ``u``.
    ``g_t . d >= 0`` for every task.

    Args:
        preference: ``u``, T numbers >= 0; None (default) is ``1 / T`` each, the paper.
        scope: Where gradients are taken, "trunk", "last" or "features", as in `GramBalancer`.
        every: Steps between two computations of the weights.
        samples: Fraction of the batch that the Gramian is estimated from.
        memory: Budget in bytes for task gradients; None as in `GramBalancer`.
        heads: Rule for task-specific parameters, "weighted" or "plain".

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
        wanted = torch.diag_embed(preference_of(self.preference, gram, tasks))
        weights, report = project_dual_cone(gram, wanted.expand(gram.shape))
        self.notes = dict(vars(report))
        return weights.sum(dim=-2)

    def step_weights(self, gram: Tensor, losses: Tensor, tasks: Tensor) -> Tensor:
        """Weights of a training step in which ``tasks`` take part."""
        return self.weights(gram, losses, tasks=tasks)
