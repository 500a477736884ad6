"""CAGrad: the best direction for the worst-off task near the mean gradient."""

from __future__ import annotations

from typing import ClassVar, Literal

from torch import Tensor

from polytask.balancers.base import HeadRule
from polytask.balancers.gradient_families import GramBalancer
from polytask.balancers.gradient_options import GradientOptions
from polytask.solvers import conflict_averse

__all__ = ["CAGrad"]


class CAGrad(GramBalancer):
    """Serves the task that gains least, within a ball around the mean gradient.

    ``d = argmax_d min_t g_t . d`` subject to ``||d - g_0|| <= c ||g_0||``, with the gradients
    ``g_t`` (rows of ``J [T, P]``) and their mean ``g_0``. Equivalently
    ``d = g_0 + (c ||g_0|| / ||g_w||) g_w`` with ``g_w = sum_t w_t g_t`` and
    ``w = argmin_{simplex} g_w . g_0 + c ||g_0|| ||g_w||``.

    At Pareto-stationary points within the ball many ``d`` are optimal; we take the one nearest to
    ``g_0``.

    Args:
        c: Radius of the ball relative to the mean gradient, >= 0; below 1 descent converges to a
            minimum of the mean loss, 0 is the mean gradient. 0.4, the paper's choice for NYU-v2.
        rescale: What ``d`` is divided by: 1 ("none", default, the paper's equation 4), ``1 + c^2``
            ("square", the default of the authors' code) or ``1 + c`` ("linear").
        gradients: Where, how often and from how much of the batch gradients are taken.
        heads: Rule for task-specific parameters, "weighted" or "mean".

    Raises:
        ValueError: If ``c`` is negative or ``rescale`` unknown.

    Differences: solved to the accuracy of float64 at any scale; the authors' code adds 1e-8 to
    squared norms and stops early, which goes wrong for very small or large gradients.

    Cost: T + 1 backward passes of the trunk, O(P) memory; about five minimum-norm points. Needs:
    Gramian.

    Example:
        >>> import torch
        >>> from polytask.balancers import CAGrad
        >>> jacobian = torch.tensor([[4.0, 0.0], [0.0, 2.0]])
        >>> CAGrad(c=0.5).combine(jacobian)
        tensor([2.0000, 2.1180])

    References:
        Liu, Liu, Jin, Stone, Liu. Conflict-averse gradient descent for multi-task learning. NeurIPS
        2021, equations 3-4, algorithm 1. https://arxiv.org/abs/2110.14048
    """

    scale_invariant: ClassVar[bool] = True

    def __init__(
        self,
        *,
        c: float = 0.4,
        rescale: Literal["none", "square", "linear"] = "none",
        gradients: GradientOptions = GradientOptions(),
        heads: HeadRule = "weighted",
    ) -> None:
        super().__init__(gradients=gradients, heads=heads)
        if not c >= 0:
            raise ValueError(f"`c` must be >= 0, found {c}.")
        if rescale not in ("none", "square", "linear"):
            raise ValueError(f"`rescale` must be 'none', 'square' or 'linear', found {rescale!r}.")
        self.c = c
        self.rescale = rescale

    def weights(self, gram: Tensor, losses: Tensor | None = None) -> Tensor:
        """Weights ``[..., T]`` of the direction ``d``."""
        del losses
        weights, report = conflict_averse(gram, c=self.c)
        self.notes = dict(vars(report))
        divisor = {"none": 1.0, "square": 1 + self.c**2, "linear": 1 + self.c}[self.rescale]
        return weights / divisor
