"""Uncertainty weighting."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from polytask.balancers.base import HeadRule, LossBalancer
from polytask.tasks import Depth, Kind, Normals, Regression

__all__ = ["Likelihood", "UncertaintyWeighting"]

Likelihood = Literal["gaussian", "softmax", "laplace"]
#: Power of the scale that divides the loss, and the constant in front: the loss is multiplied by
#: ``c exp(-p s)``.
FACTORS: dict[str, tuple[float, float]] = {
    "gaussian": (0.5, 1.0),
    "softmax": (1.0, 1.0),
    "laplace": (1.0, 0.5),
}


class UncertaintyWeighting(LossBalancer):
    """Learns one noise level per task and divides the task's loss by it: noisier tasks count less.

    With ``s_t = log sigma_t^2`` the total is a sum over the tasks of::

        gaussian (squared error):   exp(-s) L / 2 + s / 2
        softmax  (cross-entropy):   exp(-s) L     + s / 2
        laplace  (absolute error):  exp(-s / 2) L + s / 2 + log 2

    where ``L`` is the task's mean loss ``[T]`` (the mean squared error itself, not its half). The
    ``s`` are parameters of the balancer, trained by the optimizer that trains the model;
    ``sigma_t = exp(s_t / 2)`` is the estimated noise.

    Args:
        likelihoods: One of "gaussian", "softmax", "laplace" per task; None takes them from the
            tasks' kinds (regression: gaussian, depth: laplace, classes and normals: softmax), or
            gaussian where kinds are unknown.
        initial: First value of every s; 0, sigma = 1, as in the paper's experiments.
        heads: Rule for task-specific parameters.

    Differences: as in the paper, eq. (7) and (10). Public implementations use the gaussian form for
        every task (LibMTL, TorchJD) or the softmax form for every task (SamsungLabs); a
        cross-entropy then counts half or a squared error double. For unit vectors 1 - cosine is
        half the squared distance, so normals take the softmax factor. The total may be negative.

    Cost: one backward pass. Needs: losses, kinds.

    Example:
        >>> balancer = UncertaintyWeighting(likelihoods=("gaussian", "softmax"))
        >>> balancer.setup(2)
        >>> balancer.weights(torch.tensor([0.5, 2.0]))
        tensor([0.5000, 1.0000])

    References:
        A. Kendall, Y. Gal, R. Cipolla, Multi-Task Learning Using Uncertainty to Weigh Losses, CVPR
        2018,
        https://arxiv.org/abs/1705.07115, eq. (7) and (10).
    """

    log_variances: nn.Parameter
    _table: Tensor

    affine: ClassVar[bool] = True

    def __init__(
        self,
        *,
        likelihoods: Sequence[Likelihood] | None = None,
        initial: float = 0.0,
        heads: HeadRule = "weighted",
    ) -> None:
        super().__init__(heads=heads)
        if likelihoods is not None and not set(likelihoods) <= set(FACTORS):
            raise ValueError(
                "`likelihoods` must be 'gaussian', 'softmax' or 'laplace' per task,"
                f" found {tuple(likelihoods)!r}."
            )
        if not math.isfinite(initial):
            raise ValueError(f"`initial` must be a finite number, found {initial}.")
        self.likelihoods = None if likelihoods is None else tuple(likelihoods)
        self.initial = initial

    def weights(self, losses: Tensor, tasks: Tensor | None = None) -> Tensor:
        """``c_t exp(-p_t s_t)``."""
        with torch.no_grad():
            return self._factors(losses, tasks)[0].expand(losses.shape)

    def objective(self, losses: Tensor, tasks: Tensor) -> tuple[Tensor, Tensor]:
        """The negative log-likelihood, up to constants of the gaussian and softmax forms."""
        factors, penalty = self._factors(losses, tasks)
        return (factors * losses + penalty).sum(), factors

    def _factors(self, losses: Tensor, tasks: Tensor | None) -> tuple[Tensor, Tensor]:
        variances = self.log_variances if tasks is None else self.log_variances[tasks]
        table = self._table if tasks is None else self._table[tasks]
        front, power, constant = table.to(variances.dtype).unbind(-1)
        factors = front * torch.exp(-power * variances)
        return factors.to(losses.dtype), (variances / 2 + constant).to(losses.dtype)

    def _create_state(self, num_tasks: int, kinds: Sequence[Kind] | None) -> None:
        unknown: Sequence[Likelihood] = ["gaussian"] * num_tasks
        names = self.likelihoods or unknown
        if self.likelihoods is None and kinds is not None:
            names = [_likelihood(kind) for kind in kinds]
        if len(names) != num_tasks:
            raise ValueError(
                f"`likelihoods` names {len(names)} tasks but the problem has {num_tasks}."
            )
        constants = {"gaussian": 0.0, "softmax": 0.0, "laplace": math.log(2)}
        rows = [(*FACTORS[name], constants[name]) for name in names]
        self.register_buffer("_table", torch.tensor(rows, dtype=torch.float64), persistent=False)
        self.log_variances = nn.Parameter(torch.full((num_tasks,), float(self.initial)))


def _likelihood(kind: Kind) -> Likelihood:
    if isinstance(kind, Regression):
        return "gaussian"
    if isinstance(kind, Depth):
        return "laplace"
    if isinstance(kind, Normals) or kind.is_categorical:
        return "softmax"
    return "gaussian"
