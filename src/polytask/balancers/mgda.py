"""MGDA: the shortest convex combination of the task gradients."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from torch import Tensor

from polytask.balancers.base import HeadRule
from polytask.balancers.gradient_families import GramBalancer
from polytask.balancers.gradient_options import GradientOptions
from polytask.solvers import min_norm, min_norm_frank_wolfe

__all__ = ["MGDA"]


class MGDA(GramBalancer):
    """Follows the shortest convex combination of the task gradients, which improves every task.

    ``w = argmin ||sum_t w_t g_t / n_t||^2`` over ``w >= 0, sum w = 1``, update ``sum_t w_t g_t``,
    for the gradients ``g_t`` (the rows of ``J [T, P]``) and normalisers ``n_t``: 1 ("none"),
    ``||g_t||`` ("l2"), the loss ``L_t`` ("loss") or ``L_t ||g_t||`` ("loss+"). Without
    normalisation ``g_t . d >= ||d||^2`` for every task, and ``d = 0`` exactly at Pareto-stationary
    points.

    With ``GradientOptions(scope="features")`` this is MGDA-UB: gradients with respect to the shared
    representation bound those of the trunk and cost one backward pass through the heads.

    A gradient of zero is itself the shortest combination: such a task takes all the weight.

    Args:
        normalisation: "none" (default, the paper's problem 3), "l2", "loss" or "loss+" (the
            authors' code; their default for CelebA).
        solver: "exact" (default) or "frank_wolfe", the paper's algorithm 2 with the 250 iterations
            of its code.
        gradients: Where, how often and from how much of the batch gradients are taken.
        heads: Rule for task-specific parameters, "weighted" or "mean".

    Raises:
        ValueError: If an argument is unknown, or a loss normaliser meets missing or negative
            losses.

    Differences: the authors' code clips the step of a pair to [0.001, 0.999] (we: [0, 1], as in
    algorithm 1), may loop for ever, and fails for one task or gradients longer than 1e4. With a
    normalisation it weighs the gradients themselves with ``w``, as we do; some ports combine the
    normalised gradients instead.

    Cost: T + 1 backward passes of the trunk, O(P) memory; the solver takes a few T x T systems.
    Needs: Gramian, and losses for "loss" and "loss+".

    Example:
        >>> import torch
        >>> from polytask.balancers import MGDA
        >>> jacobian = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
        >>> MGDA().weights(jacobian @ jacobian.mT)
        tensor([0.8000, 0.2000])

    References:
        Sener, Koltun. Multi-task learning as multi-objective optimization. NeurIPS 2018, problem 3
        and algorithms 1-2.
        https://arxiv.org/abs/1810.04650
        Desideri. Multiple-gradient descent algorithm (MGDA) for multiobjective optimization.
        Comptes Rendus Mathematique 350, 2012. https://doi.org/10.1016/j.crma.2012.03.014
    """

    non_conflicting: ClassVar[bool] = True
    scale_invariant: ClassVar[bool] = True
    stationary_fixed_point: ClassVar[bool] = True

    def __init__(
        self,
        *,
        normalisation: Literal["none", "l2", "loss", "loss+"] = "none",
        solver: Literal["exact", "frank_wolfe"] = "exact",
        gradients: GradientOptions = GradientOptions(),
        heads: HeadRule = "weighted",
    ) -> None:
        super().__init__(gradients=gradients, heads=heads)
        if normalisation not in ("none", "l2", "loss", "loss+"):
            raise ValueError(
                f"`normalisation` must be 'none', 'l2', 'loss' or 'loss+', found {normalisation!r}."
            )
        if solver not in ("exact", "frank_wolfe"):
            raise ValueError(f"`solver` must be 'exact' or 'frank_wolfe', found {solver!r}.")
        self.normalisation = normalisation
        self.solver = solver

    def weights(self, gram: Tensor, losses: Tensor | None = None) -> Tensor:
        """Weights ``[..., T]`` on the simplex."""
        if self.normalisation != "none":
            inverse = 1 / self._normalisers(gram, losses)
            gram = gram * inverse.unsqueeze(-1) * inverse.unsqueeze(-2)
        solve = min_norm if self.solver == "exact" else min_norm_frank_wolfe
        weights, report = solve(gram)
        self.notes = dict(vars(report))
        return weights

    def _normalisers(self, gram: Tensor, losses: Tensor | None) -> Tensor:
        """``n_t`` relative to the largest, kept away from zero."""
        squares = gram.diagonal(dim1=-2, dim2=-1).clamp(min=0)
        scale = torch.ones_like(squares)
        if self.normalisation in ("l2", "loss+"):
            scale = squares.sqrt()
        if self.normalisation in ("loss", "loss+"):
            if losses is None or (losses < 0).any():
                raise ValueError(
                    f"`normalisation={self.normalisation!r}` needs losses >= 0, found {losses};"
                    " use 'none' or 'l2'."
                )
            scale = scale * losses
        scale = scale / scale.amax(dim=-1, keepdim=True).clamp(min=torch.finfo(scale.dtype).tiny)
        # A normaliser of zero belongs to a gradient or a loss of zero.
        return torch.where(scale > 0, scale, torch.ones_like(scale))
