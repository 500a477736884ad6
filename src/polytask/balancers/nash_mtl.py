"""Nash-MTL: the tasks bargain over the direction of the update."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from polytask.balancers.base import HeadRule
from polytask.balancers.gradient_families import GramBalancer
from polytask.balancers.gradient_options import GradientOptions
from polytask.solvers import bargain

__all__ = ["NashMTL"]


class NashMTL(GramBalancer):
    """Takes the direction at which the product of all tasks' gains is largest.

    ``d = argmax sum_t log(g_t . d)`` in a ball; its weights solve ``(G w)_t = 1 / w_t``, ``w > 0``,
    with ``G = J J^T [T, T]``, and ``||J^T w||^2 = T`` whatever the scale of the losses.

    At Pareto-stationary points (opposite gradients, for example) there is no agreement; the
    fallback, reported in ``notes``, is the minimum-norm combination of the normalised gradients.
    Tasks whose gradient is zero take no part and get the mean weight of the others.

    Args:
        max_norm: Longest update of the shared parameters; weights are shrunk to it. None (default)
            leaves the paper's length ``sqrt(T)``; the authors' code clips at 1.
        gradients: Where, how often and from how much of the batch gradients are taken.
        heads: Rule for task-specific parameters, "weighted" or "mean".

    Raises:
        ValueError: If ``max_norm`` is not positive.

    Differences: the authors' code approximates the solution by 20 convex programs and keeps the
    previous weights when its solver fails; we solve the equations by Newton's method on their
    strictly convex potential, to rounding error.
    It recomputes weights every so many steps: that is ``every``.

    Cost: T + 1 backward passes of the trunk, O(P) memory; 5-40 T x T systems. Needs: Gramian.

    Example:
        >>> import torch
        >>> from polytask.balancers import NashMTL
        >>> jacobian = torch.tensor([[2.0, 0.0], [0.0, 0.5]])
        >>> NashMTL().weights(jacobian @ jacobian.mT)
        tensor([0.5000, 2.0000])

    References:
        Navon, Shamsian, Achituve, Maron, Kawaguchi, Chechik, Fetaya. Multi-task learning as a
        bargaining game. ICML 2022, claim 3.1, algorithm 1. https://arxiv.org/abs/2202.01017
    """

    non_conflicting: ClassVar[bool] = True
    scale_invariant: ClassVar[bool] = True
    stationary_fixed_point: ClassVar[bool] = True

    def __init__(
        self,
        *,
        max_norm: float | None = None,
        gradients: GradientOptions = GradientOptions(),
        heads: HeadRule = "weighted",
    ) -> None:
        super().__init__(gradients=gradients, heads=heads)
        if max_norm is not None and not max_norm > 0:
            raise ValueError(f"`max_norm` must be > 0 or None, found {max_norm}.")
        self.max_norm = max_norm

    def weights(self, gram: Tensor, losses: Tensor | None = None) -> Tensor:
        del losses
        weights, report = bargain(gram)
        self.notes = dict(vars(report))
        if self.max_norm is None:
            return weights
        square = torch.einsum("...i,...ij,...j->...", weights, gram, weights)
        length = square.clamp(min=torch.finfo(square.dtype).tiny).sqrt()
        return weights * (self.max_norm / length).clamp(max=1).unsqueeze(-1)
