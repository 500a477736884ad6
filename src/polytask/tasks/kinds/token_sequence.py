"""A token per position."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from polytask.tasks import metrics
from polytask.tasks.kinds.base import IGNORE_INDEX, Kind
from polytask.tasks.metrics import Metric

__all__ = ["TokenSequence"]


@dataclass(frozen=True)
class TokenSequence(Kind):
    """A token per position (outputs ``[..., L, V]``), with cross-entropy averaged over the
    positions; -1 marks padding.
    """

    name_in_files: ClassVar[str] = "sequence"
    target_dims: ClassVar[int] = 1
    output_dims: ClassVar[int] = 2
    is_categorical: ClassVar[bool] = True

    vocabulary: int

    def __post_init__(self) -> None:
        if self.vocabulary < 2:
            raise ValueError(
                f"TokenSequence needs a vocabulary of at least 2, found {self.vocabulary}."
            )

    @property
    def output_size(self) -> int:
        return self.vocabulary

    @property
    def default_metrics(self) -> tuple[Metric, ...]:
        return (metrics.ACCURACY,)

    def loss(self, output: Tensor, target: Tensor, class_weights: Tensor | None = None) -> Tensor:
        del class_weights
        index = target.expand(output.shape[:-1]).long()
        valid = index != IGNORE_INDEX
        chosen = output.gather(-1, index.clamp_min(0).unsqueeze(-1)).squeeze(-1)
        loss = (output.logsumexp(-1) - chosen) * valid
        return loss.sum(-1) / valid.sum(-1).clamp_min(1)

    def predict(self, output: Tensor) -> Tensor:
        return output.argmax(-1)

    def probabilities(self, output: Tensor) -> Tensor:
        return torch.softmax(output, dim=-1)
