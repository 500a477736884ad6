"""Dynamic task prioritisation, and the example-level focal loss that goes with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from polytask.balancers.base import HeadRule, LossBalancer
from polytask.tasks import Kind

__all__ = ["DynamicTaskPrioritization", "FocalLoss", "focal"]


class DynamicTaskPrioritization(LossBalancer):
    """Gives more weight to tasks that are still hard, by a key performance indicator per task.

    The indicator k in (0, 1] (the validation score) is smoothed, ``K <- a k + (1 - a) K``, and
    enters a focal loss: ``w_t = -(1 - K_t)^g_t log K_t``. Weights are 1 before the first
    epoch's end. The paper's loss also weighs examples: give classification tasks a ``FocalLoss``.

    Args:
        smoothing: a in (0, 1]; 0.9, ours (the paper gives no value).
        gamma: g, one number for all tasks or one per task, >= 0; 1, ours.
        heads: Rule for task-specific parameters.

    Differences: the paper does not say how K starts (here with the first indicator) and has no
        official code. K is kept in [1e-6, 1]; a perfect task has weight 0.

    Cost: one backward pass. Needs: losses, validation scores.

    Example:
        >>> balancer = DynamicTaskPrioritization()
        >>> balancer.setup(2)
        >>> balancer.end_epoch(torch.tensor([0.1, 0.9]), torch.tensor([0.9, 0.5]))
        >>> balancer.weights(torch.tensor([0.1, 0.9]))
        tensor([0.0105, 0.3466])

    References:
        M. Guo, A. Haque, D.-A. Huang, S. Yeung, L. Fei-Fei, Dynamic Task Prioritization for
        Multitask Learning, ECCV 2018,
        https://doi.org/10.1007/978-3-030-01270-0_17, eq. (1)-(5).
    """

    affine: ClassVar[bool] = True
    scale_invariant: ClassVar[bool] = True
    uses_scores: ClassVar[bool] = True

    indicators: Tensor
    powers: Tensor

    def __init__(
        self,
        *,
        smoothing: float = 0.9,
        gamma: float | Sequence[float] = 1.0,
        heads: HeadRule = "weighted",
    ) -> None:
        super().__init__(heads=heads)
        if not 0 < smoothing <= 1:
            raise ValueError(f"`smoothing` must be in (0, 1], found {smoothing}.")
        powers = (float(gamma),) if isinstance(gamma, int | float) else tuple(map(float, gamma))
        if not powers or not all(power >= 0 for power in powers):
            raise ValueError(f"`gamma` must be >= 0, found {gamma!r}.")
        self.smoothing = smoothing
        self.gamma = powers[0] if isinstance(gamma, int | float) else powers

    def weights(self, losses: Tensor, tasks: Tensor | None = None) -> Tensor:
        """The focal loss of the indicators."""
        weights = focal(self.indicators.clamp(1e-6, 1), self.powers)
        weights = torch.where(self.indicators.isnan(), 1.0, weights)
        chosen = weights if tasks is None else weights[tasks]
        return chosen.to(losses.dtype).expand(losses.shape)

    def end_epoch(self, mean_losses: Tensor, scores: Tensor | None = None) -> None:
        """Smooth the indicators; a task without a score (NaN) keeps its last one."""
        del mean_losses
        if scores is None:
            raise ValueError(
                "DynamicTaskPrioritization needs `scores`, a validation score in [0, 1] per task."
            )
        fresh = scores.to(self.indicators)
        outside = (fresh < 0) | (fresh > 1)
        if bool(outside.any()):
            raise ValueError(
                "`scores` must be in [0, 1] (higher is better), found"
                f" {fresh[outside].tolist()} for tasks {outside.nonzero().flatten().tolist()}."
            )
        mixed = self.smoothing * fresh + (1 - self.smoothing) * self.indicators
        mixed = torch.where(self.indicators.isnan(), fresh, mixed)
        self.indicators.copy_(torch.where(fresh.isnan(), self.indicators, mixed))

    def _create_state(self, num_tasks: int, kinds: Sequence[Kind] | None) -> None:
        del kinds
        powers = self.gamma if isinstance(self.gamma, tuple) else (self.gamma,) * num_tasks
        if len(powers) != num_tasks:
            raise ValueError(
                f"`gamma` holds {len(powers)} numbers but the problem has {num_tasks} tasks."
            )
        self.register_buffer("powers", torch.tensor(powers, dtype=torch.float64), False)
        empty = torch.full((num_tasks,), torch.nan, dtype=torch.float64)
        self.register_buffer("indicators", empty)


@dataclass(frozen=True)
class FocalLoss:
    """Cross-entropy that discounts easy examples, ``-(1 - p)^g log p`` with p of the true class.

    Give it to a task: ``Task("rare", Binary(), loss=FocalLoss(gamma=2))``. Outputs ``[..., 1]`` are
    the log-odds of class 1, outputs ``[..., C]`` the logits of C classes.

    Args:
        gamma: g >= 0; 2, section 4.1 of Lin et al. (0 is the cross-entropy).

    Example:
        >>> FocalLoss(gamma=0.0)(torch.zeros(1, 1), torch.ones(1))
        tensor([0.6931])

    References:
        T.-Y. Lin et al., Focal Loss for Dense Object Detection, ICCV 2017,
        https://arxiv.org/abs/1708.02002, eq. (4).
    """

    gamma: float = 2.0

    def __post_init__(self) -> None:
        if not self.gamma >= 0:
            raise ValueError(f"`gamma` must be >= 0, found {self.gamma}.")

    def __call__(self, output: Tensor, target: Tensor) -> Tensor:
        """Loss per example ``[...]``."""
        if output.shape[-1] == 1:
            logits = output.squeeze(-1)
            log_p = functional.logsigmoid(torch.where(target == 1, logits, -logits))
        else:
            index = target.expand(output.shape[:-1]).long().unsqueeze(-1)
            log_p = torch.log_softmax(output, dim=-1).gather(-1, index).squeeze(-1)
        # 1 - p from log p, which stays exact for p near 1.
        return -((-torch.expm1(log_p)) ** self.gamma) * log_p


def focal(probability: Tensor, gamma: Tensor | float) -> Tensor:
    """``-(1 - p)^g log p`` of probabilities p in (0, 1]."""
    return -((1 - probability) ** gamma) * probability.log()
