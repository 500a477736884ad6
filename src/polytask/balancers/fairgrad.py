"""FairGrad: alpha-fair shares of the improvement."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from polytask.balancers.base import HeadRule
from polytask.balancers.gradient_families import GramBalancer
from polytask.balancers.gradient_options import GradientOptions
from polytask.solvers import bargain

__all__ = ["FairGrad"]


class FairGrad(GramBalancer):
    """Shares the improvement between the tasks by alpha-fairness.

    ``d = argmax sum_t (g_t . d)^(1 - alpha) / (1 - alpha)`` in a ball; its weights solve
    ``(G w)_t = w_t^(-1 / alpha)``, ``w > 0``, with ``G = J J^T [T, T]``. ``alpha = 1`` is Nash-MTL,
    larger values help the worst-off task more (towards MGDA), smaller ones the sum.

    At Pareto-stationary points there is no solution; the fallback, reported in ``notes``, is the
    minimum-norm combination of the normalised gradients. Tasks whose gradient is zero get the mean
    weight of the others.

    The weights are not free of scale: losses times ``s`` give weights times
    ``s^(-2 alpha / (1 + alpha))``. The direction is.

    Args:
        alpha: Fairness, > 0; 2, the value of most of the paper's experiments.
        gradients: Where, how often and from how much of the batch gradients are taken.
        heads: Rule for task-specific parameters, "weighted" or "mean".

    Raises:
        ValueError: If ``alpha`` is not positive.

    Differences: the authors' code solves by least squares that stop early (errors up to 76 % on
    gradients of unequal length), multiplies the update by T and clips it to norm 1; we solve to
    rounding error and do neither.

    Cost: T + 1 backward passes of the trunk, O(P) memory; 5-40 T x T systems. Needs: Gramian.

    Example:
        >>> import torch
        >>> from polytask.balancers import FairGrad
        >>> jacobian = torch.tensor([[8.0, 0.0], [0.0, 1.0]])
        >>> FairGrad(alpha=2.0).weights(jacobian @ jacobian.mT)
        tensor([0.0625, 1.0000])

    References:
        Ban, Ji. Fair resource allocation in multi-task learning. ICML 2024, equation 5.
        https://arxiv.org/abs/2402.15638
    """

    non_conflicting: ClassVar[bool] = True
    scale_invariant: ClassVar[bool] = True
    stationary_fixed_point: ClassVar[bool] = True

    def __init__(
        self,
        *,
        alpha: float = 2.0,
        gradients: GradientOptions = GradientOptions(),
        heads: HeadRule = "weighted",
    ) -> None:
        super().__init__(gradients=gradients, heads=heads)
        if not 0 < alpha < float("inf"):
            raise ValueError(f"`alpha` must be positive and finite, found {alpha}.")
        self.alpha = alpha

    def weights(self, gram: Tensor, losses: Tensor | None = None) -> Tensor:
        del losses
        weights, report = bargain(gram, power=1 / self.alpha)
        self.notes = dict(vars(report))
        return weights
