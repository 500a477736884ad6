"""SDMGrad: stochastic minimum-norm weights, drawn towards the mean gradient."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from polytask.balancers.base import HeadRule
from polytask.balancers.double_sampling import DoubleSamplingBalancer
from polytask.balancers.gradient_options import GradientOptions
from polytask.solvers import descend_simplex

__all__ = ["SDMGrad"]

#: Of the descent on the weights, in the authors' code.
_MOMENTUM = 0.5


class SDMGrad(DoubleSamplingBalancer):
    """Descends to minimum-norm weights with independent batches, regularised to the mean.

    ``w`` (kept from step to step) makes some steps of projected gradient descent on the simplex for
    ``1/2 ||J^T w + lam g_0||^2``, whose gradient is ``C w + lam C 1/T`` with
    ``C = J_1 J_2^T [T, T]`` from two independent batches, so that it is unbiased. With a third
    batch's gradients ``J_3`` and their mean ``g_0`` the update is
    ``(J_3^T w + lam g_0) / (1 + lam)``. ``C`` is divided by the square of the tasks' mean gradient
    length.

    Args:
        lam: Pull to the mean, >= 0; 0.3, Cityscapes.
        iterations: Descent steps per update; 20, the authors' code.
        step_size: Of the descent; 10, the authors' code (for the normalised ``C``).
        gradients: Where, how often and from how much of the batch gradients are taken; scope
            "trunk" or "last".
        heads: Rule for task-specific parameters, "weighted" or "mean".

    Raises:
        ValueError: If an argument is out of range.

    Differences: the authors' code takes all three gradients from one batch and adds 1e-4 to the
    squared lengths, which breaks scale invariance; the algorithm of the paper has neither. Called
    with a Gramian of one batch, ``weights`` works as their code does. A batch of Gramians starts
    every problem from the present ``w`` and leaves it as it is.

    Cost: 2 T backward passes for the weights, one for the update, 2 T P memory. Needs: product of
    the gradients of two batches.

    Example:
        >>> import torch
        >>> from polytask.balancers import SDMGrad
        >>> jacobian = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
        >>> SDMGrad(lam=0.0, iterations=200, step_size=0.5).weights(jacobian @ jacobian.mT)
        tensor([0.8000, 0.2000])

    References:
        Xiao, Ban, Ji. Direction-oriented multi-objective learning: simple and provable stochastic
        algorithms. NeurIPS 2023, algorithm 1. https://arxiv.org/abs/2305.18409
    """

    scale_invariant: ClassVar[bool] = True

    def __init__(
        self,
        *,
        lam: float = 0.3,
        iterations: int = 20,
        step_size: float = 10.0,
        gradients: GradientOptions = GradientOptions(),
        heads: HeadRule = "weighted",
    ) -> None:
        super().__init__(gradients=gradients, heads=heads)
        if not lam >= 0:
            raise ValueError(f"`lam` must be >= 0, found {lam}.")
        if iterations < 1:
            raise ValueError(f"`iterations` must be >= 1, found {iterations}.")
        if not step_size > 0:
            raise ValueError(f"`step_size` must be > 0, found {step_size}.")
        self.lam = lam
        self.iterations = iterations
        self.step_size = step_size

    def moved(self, product: Tensor, start: Tensor) -> tuple[Tensor, Tensor]:
        """Some steps of descent; the update is drawn to the mean."""
        lengths = product.diagonal(dim1=-2, dim2=-1).clamp(min=0).sqrt().mean(dim=-1)
        scale = torch.where(lengths > 0, lengths, torch.ones_like(lengths))[..., None, None]
        normalised = product.double() / scale.double() ** 2
        inner = descend_simplex(
            normalised,
            start.expand(product.shape[:-1]),
            steps=self.iterations,
            step_size=self.step_size,
            momentum=_MOMENTUM,
            pull=self.lam * normalised.mean(dim=-1),
        )
        return inner, (inner + self.lam / product.shape[-1]) / (1 + self.lam)
