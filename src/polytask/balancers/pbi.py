"""Penalty-based boundary intersection."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from polytask.balancers.base import HeadRule, LossBalancer
from polytask.tasks import Kind

__all__ = ["BoundaryIntersection"]


class BoundaryIntersection(LossBalancer):
    """Pulls the losses along a preferred ray, and towards it: trade-offs chosen by direction.

    ``d_1 + theta d_2`` with the distance along the ray ``d_1 = |(L - z) . u|`` and the distance
    from it ``d_2 = |L - z - d_1 u|``, where u is the preference at unit length and z the reference
    point. The weights are the derivatives; those of tasks that are ahead of the ray may be
    negative.

    Args:
        preference: The ray's direction, > 0 per task; None means all equal.
        theta: Penalty on the distance from the ray, >= 0; 5, section V of the paper.
        reference: z per task; None means 0.
        heads: Rule for task-specific parameters.

    Differences: none known.

    Cost: one backward pass. Needs: losses.

    Example:
        >>> balancer = BoundaryIntersection()
        >>> balancer.setup(2)
        >>> balancer.weights(torch.tensor([1.0, 1.0]))
        tensor([0.7071, 0.7071])

    References:
        Q. Zhang, H. Li, MOEA/D: A Multiobjective Evolutionary Algorithm Based on Decomposition,
        IEEE Transactions on Evolutionary Computation 11, 2007,
        https://doi.org/10.1109/TEVC.2007.892759, section III.C.
    """

    direction: Tensor
    origin: Tensor

    def __init__(
        self,
        *,
        preference: Sequence[float] | None = None,
        theta: float = 5.0,
        reference: Sequence[float] | None = None,
        heads: HeadRule = "weighted",
    ) -> None:
        super().__init__(heads=heads)
        if preference is not None and not all(math.isfinite(p) and p > 0 for p in preference):
            raise ValueError(f"`preference` must be > 0 per task, found {tuple(preference)!r}.")
        if not theta >= 0:
            raise ValueError(f"`theta` must be >= 0, found {theta}.")
        self.preference = None if preference is None else tuple(map(float, preference))
        self.theta = theta
        self.reference = None if reference is None else tuple(map(float, reference))

    def weights(self, losses: Tensor, tasks: Tensor | None = None) -> Tensor:
        """Derivatives of ``d_1 + theta d_2``; that of ``d_2`` is zero on the ray."""
        ray, along, rest = self._distances(losses, tasks)
        sign = along.sign()
        away = rest.norm(dim=-1, keepdim=True)
        unit = torch.where(away > 0, rest / away, 0.0)
        inner = unit - sign * (unit * ray).sum(-1, keepdim=True) * ray
        weights: Tensor = sign * ray + self.theta * inner
        return weights.to(losses.dtype)

    def total(self, losses: Tensor) -> Tensor:
        """The penalised distance ``[...]`` of losses ``[..., T]``."""
        _, along, rest = self._distances(losses, None)
        total: Tensor = along.abs().squeeze(-1) + self.theta * rest.norm(dim=-1)
        return total

    def _distances(self, losses: Tensor, tasks: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        rows = slice(None) if tasks is None else tasks
        ray = self.direction[rows] / self.direction[rows].norm()
        moved = losses.to(ray) - self.origin[rows]
        along = (moved * ray).sum(-1, keepdim=True)
        return ray, along, moved - along.abs() * ray

    def _create_state(self, num_tasks: int, kinds: Sequence[Kind] | None) -> None:
        del kinds
        direction = self.preference or (1.0,) * num_tasks
        origin = self.reference or (0.0,) * num_tasks
        for name, values in (("preference", direction), ("reference", origin)):
            if len(values) != num_tasks:
                raise ValueError(
                    f"`{name}` holds {len(values)} numbers but the problem has {num_tasks} tasks."
                )
        self.register_buffer("direction", torch.tensor(direction, dtype=torch.float64), False)
        self.register_buffer("origin", torch.tensor(origin, dtype=torch.float64), False)
