"""Smooth Tchebycheff scalarisation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

import torch
from torch import Tensor

from polytask.balancers.base import HeadRule, LossBalancer
from polytask.tasks import Kind

__all__ = ["SmoothTchebycheff"]

Space = Literal["log", "linear"]


class SmoothTchebycheff(LossBalancer):
    """Minimises a smooth maximum of the losses, which can reach every point of the Pareto front.

    Linear space, the paper's eq. (9): ``m log sum_t exp(p_t (L_t - z_t) / m)`` with smoothness m,
    preference p and ideal point z. Log space, for losses with different units:
    ``T m log sum_t exp(log(L_t / n_t) / m)`` with the nadir n, the mean losses of the last warm-up
    epoch; during the warm-up all weights are 1. As m goes to 0 only the worst task is trained.

    Args:
        smoothness: m > 0; 1, ours (the paper tunes it per data set).
        space: "log" (the authors' multi-task code) or "linear" (the paper).
        preference: p, >= 0 per task; None means 1. Linear space only.
        ideal: z per task; None means 0. Linear space only.
        warmup_epochs: Epochs before the nadir is taken; 4, the authors' code. Log space only.
        heads: Rule for task-specific parameters.

    Differences: in log space the authors' code subtracts the largest logarithm for the numerics and
        does not add it back, which shifts the value by T times it; ``total`` adds it, the weights
        are the same. The value is not used in training.

    Cost: one backward pass. Needs: losses, epoch means (log space).

    Example:
        >>> balancer = SmoothTchebycheff(space="linear")
        >>> balancer.setup(2)
        >>> balancer.weights(torch.tensor([1.0, 2.0]))
        tensor([0.2689, 0.7311])

    References:
        X. Lin et al., Smooth Tchebycheff Scalarization for Multi-Objective Optimization, ICML 2024,
        https://arxiv.org/abs/2402.19078, eq. (9).
    """

    uses_epoch_means: ClassVar[bool] = True

    nadir: Tensor
    front: Tensor
    reference: Tensor
    epochs: Tensor

    def __init__(
        self,
        *,
        smoothness: float = 1.0,
        space: Space = "log",
        preference: Sequence[float] | None = None,
        ideal: Sequence[float] | None = None,
        warmup_epochs: int = 4,
        heads: HeadRule = "weighted",
    ) -> None:
        super().__init__(heads=heads)
        if not smoothness > 0:
            raise ValueError(f"`smoothness` must be > 0, found {smoothness}.")
        if space not in ("log", "linear"):
            raise ValueError(f"`space` must be 'log' or 'linear', found {space!r}.")
        if space == "log" and (preference is not None or ideal is not None):
            raise ValueError(
                "`preference` and `ideal` belong to space='linear', found space='log'."
            )
        if warmup_epochs < 0:
            raise ValueError(f"`warmup_epochs` must be >= 0, found {warmup_epochs}.")
        self.smoothness = smoothness
        self.space: Space = space
        self.preference = None if preference is None else tuple(map(float, preference))
        self.ideal = None if ideal is None else tuple(map(float, ideal))
        self.warmup_epochs = warmup_epochs

    def weights(self, losses: Tensor, tasks: Tensor | None = None) -> Tensor:
        """Derivatives of the smooth maximum."""
        exponents, slopes = self._exponents(losses, tasks)
        if exponents is None:
            return torch.ones_like(losses)
        return (slopes * torch.softmax(exponents, dim=-1)).to(losses.dtype)

    def total(self, losses: Tensor) -> Tensor:
        """The smooth maximum ``[...]`` of losses ``[..., T]``; their sum during the warm-up."""
        exponents, _ = self._exponents(losses, None)
        if exponents is None:
            return losses.sum(-1)
        factor = self.smoothness * (losses.shape[-1] if self.space == "log" else 1)
        return factor * exponents.logsumexp(-1)

    def end_epoch(self, mean_losses: Tensor, scores: Tensor | None = None) -> None:
        """Remember the last warm-up epoch's losses."""
        del scores
        self.epochs += 1
        if int(self.epochs) <= self.warmup_epochs:
            means = mean_losses.to(self.nadir)
            self.nadir.copy_(torch.where(means > 0, means, self.nadir))

    def _exponents(self, losses: Tensor, tasks: Tensor | None) -> tuple[Tensor | None, Tensor]:
        """What the softmax is taken of, and the derivative of each exponent times m."""
        rows = slice(None) if tasks is None else tasks
        if self.space == "linear":
            preference, ideal = self.front[rows], self.reference[rows]
            return preference * (losses - ideal) / self.smoothness, preference
        if int(self.epochs) < self.warmup_epochs:
            return None, losses
        positive = losses.double().clamp_min(torch.finfo(losses.dtype).tiny)
        return (positive / self.nadir[rows]).log() / self.smoothness, losses.shape[-1] / positive

    def _create_state(self, num_tasks: int, kinds: Sequence[Kind] | None) -> None:
        del kinds
        for name, given, default in (
            ("preference", self.preference, 1.0),
            ("ideal", self.ideal, 0.0),
        ):
            if given is not None and len(given) != num_tasks:
                raise ValueError(
                    f"`{name}` holds {len(given)} numbers but the problem has {num_tasks} tasks."
                )
            values = torch.tensor(given or (default,) * num_tasks, dtype=torch.float64)
            stored = "front" if name == "preference" else "reference"
            self.register_buffer(stored, values, persistent=False)
        self.register_buffer("nadir", torch.ones(num_tasks, dtype=torch.float64))
        self.register_buffer("epochs", torch.zeros((), dtype=torch.long))
