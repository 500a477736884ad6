"""Methods that project combinations of gradients on the cone of directions that hurt no task.

Shape legend: T tasks, M vectors to project.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor

from polytask.balancers.base import HeadRule
from polytask.balancers.gradient_families import GramBalancer
from polytask.balancers.gradient_options import GradientOptions
from polytask.balancers.rows import check_preference, preference_of
from polytask.solvers import project_dual_cone

__all__ = ["DualConeBalancer"]


class DualConeBalancer(GramBalancer):
    """Projects M vectors ``J^T u`` on the dual cone ``{y : J y >= 0}`` and follows their sum.

    Args:
        preference: T numbers >= 0; None (default) is ``1 / T`` each.
        gradients: Where, how often and from how much of the batch gradients are taken.
        heads: Rule for task-specific parameters, "weighted" or "mean".
    """

    takes_tasks: ClassVar[bool] = True
    non_conflicting: ClassVar[bool] = True
    scale_invariant: ClassVar[bool] = True
    stationary_fixed_point: ClassVar[bool] = True

    def __init__(
        self,
        *,
        preference: Sequence[float] | None = None,
        gradients: GradientOptions = GradientOptions(),
        heads: HeadRule = "weighted",
    ) -> None:
        super().__init__(gradients=gradients, heads=heads)
        self.preference = check_preference(preference)

    @abstractmethod
    def coefficients(self, preference: Tensor) -> Tensor:
        """Coefficients ``u [M, T]`` of the vectors to project, from the preferences ``[T]``."""

    def weights(
        self, gram: Tensor, losses: Tensor | None = None, *, tasks: Tensor | None = None
    ) -> Tensor:
        """Weights ``[..., T]``; ``tasks`` are the positions of the T tasks among all."""
        del losses
        wanted = self.coefficients(preference_of(self.preference, gram, tasks))
        weights, report = project_dual_cone(gram, wanted.expand(*gram.shape[:-2], *wanted.shape))
        self.notes = dict(vars(report))
        return weights.sum(dim=-2)
