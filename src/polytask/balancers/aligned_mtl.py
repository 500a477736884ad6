"""Aligned-MTL: makes the principal components of the gradients equally long."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from polytask.balancers.base import HeadRule
from polytask.balancers.gradient_families import GramBalancer
from polytask.balancers.gradient_options import GradientOptions
from polytask.balancers.rows import check_preference, preference_of
from polytask.solvers import align_components
from polytask.solvers.spectral import AlignedScale

__all__ = ["AlignedMTL"]


class AlignedMTL(GramBalancer):
    """Gives all principal components of the gradients one length: no conflict, no dominance.

    ``G = J J^T = V diag(lambda) V^T`` over its rank, ``B = sqrt(s) V diag(lambda^-1/2) V^T``,
    weights ``B u``, update ``J^T B u``: the matrix ``B J`` has condition number one. ``s`` is the
    smallest eigenvalue of the rank ("min"), so that no component grows, the lower median ("median")
    or the mean ("rmse").

    Args:
        scale: "min" (default, the paper), "median" or "rmse" (the authors' code).
        preference: Task weights ``u``, T numbers >= 0; None (default) is one for every task, as in
            the authors' code.
        gradients: Where, how often and from how much of the batch gradients are taken.
        heads: Rule for task-specific parameters, "weighted" or "mean".

    Raises:
        ValueError: If ``scale`` is unknown or ``preference`` has negative numbers or the wrong
            length.

    Differences: none known; the authors' code calls a function that PyTorch has removed. Some ports
    use ``u = 1/T``.

    Cost: T + 1 backward passes of the trunk, O(P) memory; one T x T eigendecomposition. Needs:
    Gramian.

    Example:
        >>> import torch
        >>> from polytask.balancers import AlignedMTL
        >>> jacobian = torch.tensor([[1.0, 0.0], [0.0, 4.0]])
        >>> AlignedMTL().combine(jacobian)
        tensor([1., 1.])

    References:
        Senushkin, Patakin, Kuznetsov, Konushin. Independent component alignment for multi-task
        learning. CVPR 2023, algorithm 1, equations 9-12. https://arxiv.org/abs/2305.19000
    """

    takes_tasks: ClassVar[bool] = True
    scale_invariant: ClassVar[bool] = True

    def __init__(
        self,
        *,
        scale: AlignedScale = "min",
        preference: Sequence[float] | None = None,
        gradients: GradientOptions = GradientOptions(),
        heads: HeadRule = "weighted",
    ) -> None:
        super().__init__(gradients=gradients, heads=heads)
        if scale not in ("min", "median", "rmse"):
            raise ValueError(f"`scale` must be 'min', 'median' or 'rmse', found {scale!r}.")
        self.scale = scale
        self.preference = check_preference(preference)

    def weights(
        self, gram: Tensor, losses: Tensor | None = None, *, tasks: Tensor | None = None
    ) -> Tensor:
        """Weights ``[..., T]``; ``tasks`` are the positions of the T tasks among all."""
        del losses
        wanted = preference_of(self.preference, gram, tasks)
        if self.preference is None:
            wanted = torch.ones_like(wanted)
        return align_components(gram, wanted, scale=self.scale)
