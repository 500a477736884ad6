"""SDMGrad: stochastic minimum-norm weights, drawn towards the mean gradient."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from polytask.balancers.base import GramBalancer, HeadRule, Scope
from polytask.balancers.double_sampling import check_scope
from polytask.balancers.rows import simplex_share, state_rows
from polytask.solvers import descend_simplex
from polytask.tasks import Kind

__all__ = ["SDMGrad"]

#: Of the descent on the weights, in the authors' code.
_MOMENTUM = 0.5


class SDMGrad(GramBalancer):
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
        scope: Where gradients are taken, "trunk" or "last", as in `GramBalancer`.
        every: Steps between two computations of the weights.
        samples: Fraction of the batch that the Gramian is estimated from.
        heads: Rule for task-specific parameters, "weighted" or "plain".

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

    batches_per_step: ClassVar[int] = 3
    cost: ClassVar[str] = "2 T + 1"
    scale_invariant: ClassVar[bool] = True
    simplex_weights: Tensor

    def __init__(
        self,
        *,
        lam: float = 0.3,
        iterations: int = 20,
        step_size: float = 10.0,
        scope: Scope = "trunk",
        every: int = 1,
        samples: float = 1.0,
        heads: HeadRule = "weighted",
    ) -> None:
        super().__init__(scope=check_scope(scope), every=every, samples=samples, heads=heads)
        if not lam >= 0:
            raise ValueError(f"`lam` must be >= 0, found {lam}.")
        if iterations < 1:
            raise ValueError(f"`iterations` must be >= 1, found {iterations}.")
        if not step_size > 0:
            raise ValueError(f"`step_size` must be > 0, found {step_size}.")
        self.lam = lam
        self.iterations = iterations
        self.step_size = step_size

    def _create_state(self, num_tasks: int, kinds: Sequence[Kind] | None) -> None:
        del kinds
        start = torch.full((num_tasks,), 1 / num_tasks, dtype=torch.float64)
        self.register_buffer("simplex_weights", start)

    def weights(
        self, gram: Tensor, losses: Tensor | None = None, *, tasks: Tensor | None = None
    ) -> Tensor:
        """Weights ``[..., T]`` from ``J_1 J_2^T`` ``[..., T, T]``, which need not be symmetric.

        ``tasks`` are the positions of the T tasks among all; None means all of them.
        """
        del losses
        rows = state_rows(self, gram.shape[-1], tasks)
        lengths = gram.diagonal(dim1=-2, dim2=-1).clamp(min=0).sqrt().mean(dim=-1)
        scale = torch.where(lengths > 0, lengths, torch.ones_like(lengths))[..., None, None]
        normalised = gram.double() / scale.double() ** 2
        start, share = simplex_share(self.simplex_weights[rows])
        inner = descend_simplex(
            normalised,
            start.expand(gram.shape[:-1]),
            steps=self.iterations,
            step_size=self.step_size,
            momentum=_MOMENTUM,
            pull=self.lam * normalised.mean(dim=-1),
        )
        if gram.dim() == 2:
            self.simplex_weights[rows] = inner * share
        return ((inner + self.lam / gram.shape[-1]) / (1 + self.lam)).to(gram.dtype)

    def step_weights(self, gram: Tensor, losses: Tensor, tasks: Tensor) -> Tensor:
        """Weights of a training step in which ``tasks`` take part."""
        return self.weights(gram, losses, tasks=tasks)
