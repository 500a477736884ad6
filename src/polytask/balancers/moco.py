"""MoCo: minimum-norm weights from tracked gradients."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from polytask.balancers.base import HeadRule
from polytask.balancers.gradient_families import JacobianBalancer
from polytask.balancers.gradient_options import GradientOptions
from polytask.balancers.rows import simplex_share, state_rows
from polytask.solvers import project_simplex
from polytask.tasks import Kind

__all__ = ["MoCo"]


class MoCo(JacobianBalancer):
    """Corrects the noise of task gradients by tracking them, and the weights by small steps.

    At step ``k = 0, 1, ...``: ``Y <- Y - beta_k (Y - J)``,
    ``w <- project(w - gamma_k (Y Y^T + rho I) w)`` on the simplex, update ``Y^T w``, with the
    gradients ``J [T, P]``, ``beta_k = beta / (1 + k)^beta_decay`` and
    ``gamma_k = gamma / (1 + k)^gamma_decay``. It starts from ``Y = 0`` and equal weights.

    Args:
        beta: First tracking rate, in (0, 1]; 0.99, the authors' code.
        gamma: First step size of the weights, > 0; 0.1, the authors' code.
        decay: Exponent of both rates, >= 0; 0.5, the authors' code.
        rho: Regularisation of the weights, >= 0; 0, the authors' code (the paper's analysis needs
            it positive).
        gradients: Where, how often and from how much of the batch gradients are taken; scope
            "trunk" or "last".
        heads: Rule for task-specific parameters, "weighted" or "mean".

    Raises:
        ValueError: If an argument is out of range.

    Differences: one public port replaces the projection by a softmax and every gradient by its
    direction times its loss; we follow the paper, as the authors' code does. Not free of scale:
    ``gamma`` has the unit of an inverse squared gradient.

    Cost: T backward passes of the trunk; keeps T x P numbers from step to step. Needs: Jacobian.

    Example:
        >>> import torch
        >>> from polytask.balancers import MoCo
        >>> balancer = MoCo(beta=1.0, gamma=0.1)
        >>> balancer.combine(torch.tensor([[1.0, 0.0], [0.0, 2.0]]))
        tensor([0.5750, 0.8500])

    References:
        Fernando, Shen, Liu, Chaudhury, Murugesan, Chen. Mitigating gradient bias in multi-objective
        learning: a provably convergent approach. ICLR 2023, equations 8-10.
        https://openreview.net/forum?id=dLAYGdKTi2
    """

    takes_tasks: ClassVar[bool] = True
    late_buffers: ClassVar[tuple[str, ...]] = ("tracked",)
    simplex_weights: Tensor
    count: Tensor
    tracked: Tensor | None

    def __init__(
        self,
        *,
        beta: float = 0.99,
        gamma: float = 0.1,
        decay: float = 0.5,
        rho: float = 0.0,
        gradients: GradientOptions = GradientOptions(),
        heads: HeadRule = "weighted",
    ) -> None:
        super().__init__(gradients=gradients, heads=heads)
        if not 0 < beta <= 1:
            raise ValueError(f"`beta` must be in (0, 1], found {beta}.")
        if not gamma > 0:
            raise ValueError(f"`gamma` must be > 0, found {gamma}.")
        if not decay >= 0:
            raise ValueError(f"`decay` must be >= 0, found {decay}.")
        if not rho >= 0:
            raise ValueError(f"`rho` must be >= 0, found {rho}.")
        self.beta = beta
        self.gamma = gamma
        self.decay = decay
        self.rho = rho
        self.register_buffer("tracked", None)

    def _create_state(self, num_tasks: int, kinds: Sequence[Kind] | None) -> None:
        del kinds
        start = torch.full((num_tasks,), 1 / num_tasks, dtype=torch.float64)
        self.register_buffer("simplex_weights", start)
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))

    def combine(
        self, jacobian: Tensor, losses: Tensor | None = None, *, tasks: Tensor | None = None
    ) -> Tensor:
        """The update ``[P]`` from ``[T, P]``; moves the tracked gradients and the weights.

        ``tasks`` are the positions of the T tasks among all; None means all of them.
        """
        del losses
        if jacobian.dim() != 2:
            raise ValueError(
                "MoCo tracks one sequence of Jacobians; `jacobian` must have shape [T, P],"
                f" found {tuple(jacobian.shape)}."
            )
        rows = state_rows(self, jacobian, tasks)
        if self.tracked is None:
            self.tracked = jacobian.new_zeros(int(self.num_tasks or 0), jacobian.shape[1])
        rate = (1 + self.count.to(torch.float64)) ** -self.decay
        own = self.tracked[rows]
        own = own + (self.beta * rate).to(own.dtype) * (jacobian - own)
        self.tracked[rows] = own
        weights, share = simplex_share(self.simplex_weights[rows])
        slope = (own @ own.mT).double() @ weights + self.rho * weights
        weights = project_simplex(weights - self.gamma * rate * slope)
        self.simplex_weights[rows] = weights * share
        self.count += 1
        return weights.to(own.dtype) @ own
