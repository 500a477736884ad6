"""FAMO: fast adaptive multi-task optimisation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from polytask.balancers.adam import TaskAdam
from polytask.balancers.base import HeadRule, LossBalancer
from polytask.tasks import Kind

__all__ = ["FAMO"]


class FAMO(LossBalancer):
    """Makes all losses fall at the same relative rate, watching only how the losses move.

    With ``z = softmax(x)`` and the excess losses ``D_t = L_t - m_t`` the model descends
    ``sum_t z_t log(D_t) / c``, ``c = sum_t z_t / D_t`` held constant, that is with weights
    ``w_t = z_t / (D_t c)``. After the step the logits x ``[T]`` follow the gradient
    ``J^T (log D_before - log D_after)``, J the Jacobian of the softmax, so that tasks that fell
    least gain weight.

    Args:
        learning_rate: Of the logits' Adam; 0.025, section 5 of the paper.
        decay: Weight decay of the logits, gamma in the paper; 0.001 as for its image data sets
            (the released class defaults to 0.01).
        min_losses: m, a lower bound per task; None means 0.
        look_ahead: Whether "after" is the same batch again (one more forward pass, as in the
            paper) or, without that pass, the next step's batch.
        heads: Rule for task-specific parameters.

    Differences: none known with ``look_ahead=True``.

    Cost: one backward pass and, with ``look_ahead``, a forward pass. Needs: losses, again after the
        step.

    Example:
        >>> balancer = FAMO()
        >>> balancer.setup(2)
        >>> balancer.weights(torch.tensor([1.0, 3.0]))
        tensor([0.7500, 0.2500])

    References:
        B. Liu, Y. Feng, P. Stone, Q. Liu, FAMO: Fast Adaptive Multitask Optimization, NeurIPS 2023,
        https://arxiv.org/abs/2306.03792, eq. (6)-(8) and Algorithm 1.
    """

    revisits_losses: ClassVar[bool] = True

    logits: Tensor
    lower: Tensor
    logs_before: Tensor

    def __init__(
        self,
        *,
        learning_rate: float = 0.025,
        decay: float = 0.001,
        min_losses: Sequence[float] | None = None,
        look_ahead: bool = True,
        heads: HeadRule = "weighted",
    ) -> None:
        super().__init__(heads=heads)
        if not learning_rate > 0:
            raise ValueError(f"`learning_rate` must be > 0, found {learning_rate}.")
        if not decay >= 0:
            raise ValueError(f"`decay` must be >= 0, found {decay}.")
        self.learning_rate = learning_rate
        self.decay = decay
        self.min_losses = None if min_losses is None else tuple(map(float, min_losses))
        self.look_ahead = look_ahead
        if not look_ahead:
            self.revisits_losses = False  # type: ignore[misc]

    def weights(self, losses: Tensor, tasks: Tensor | None = None) -> Tensor:
        """``z_t / (D_t c)``, which sum to 1."""
        logits = self.logits if tasks is None else self.logits[tasks]
        rates = torch.softmax(logits, dim=-1) / self._excess(losses, tasks)
        return (rates / rates.sum(-1, keepdim=True)).to(losses.dtype)

    def objective(self, losses: Tensor, tasks: Tensor) -> tuple[Tensor, Tensor]:
        """The weighted losses; what the losses were is kept for the logits."""
        if not self.look_ahead:
            self.after_step(losses.detach(), tasks=tasks.tolist())
        self.logs_before.fill_(torch.nan)
        self.logs_before[tasks] = self._excess(losses.detach(), tasks).log()
        return super().objective(losses, tasks)

    def after_step(self, losses: Tensor, *, tasks: Sequence[int] | None = None) -> None:
        """Move the logits by how much each loss has fallen."""
        count = self.logits.shape[0]
        chosen = torch.arange(count) if tasks is None else torch.tensor(tasks)
        chosen = chosen.to(self.logits.device)
        fallen = self.logs_before[chosen] - self._excess(losses.detach(), chosen).log()
        known = ~fallen.isnan()
        chosen, fallen = chosen[known], fallen[known]
        if len(chosen) == 0:
            return
        probabilities = torch.softmax(self.logits[chosen], dim=0)
        gradient = probabilities * (fallen - (probabilities * fallen).sum())
        self.logits[chosen] = self.optimizer.moved(self.logits[chosen], gradient, chosen)

    def _excess(self, losses: Tensor, tasks: Tensor | None) -> Tensor:
        lower = self.lower if tasks is None else self.lower[tasks]
        # 1e-8 is the released code's; relative to the bound it only matters for a loss at it.
        return (losses.to(lower) - lower + 1e-8).clamp_min(torch.finfo(torch.float64).tiny)

    def _create_state(self, num_tasks: int, kinds: Sequence[Kind] | None) -> None:
        del kinds
        lower = torch.zeros(num_tasks, dtype=torch.float64)
        if self.min_losses is not None:
            lower = torch.tensor(self.min_losses, dtype=torch.float64)
        if len(lower) != num_tasks:
            raise ValueError(
                f"`min_losses` holds {len(lower)} bounds but the problem has {num_tasks} tasks."
            )
        self.optimizer = TaskAdam(
            num_tasks=num_tasks, learning_rate=self.learning_rate, weight_decay=self.decay
        )
        self.register_buffer("lower", lower, persistent=False)
        self.register_buffer("logits", torch.zeros(num_tasks, dtype=torch.float64))
        empty = torch.full((num_tasks,), torch.nan, dtype=torch.float64)
        self.register_buffer("logs_before", empty)
