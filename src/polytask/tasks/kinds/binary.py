"""Yes or no."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from polytask.tasks import metrics
from polytask.tasks.kinds.base import Kind, decode_labels, encode_labels
from polytask.tasks.metrics import Metric

__all__ = ["Binary"]


@dataclass(frozen=True)
class Binary(Kind):
    """A yes/no target with logistic loss; the output is the log-odds of the second label.

    Args:
        labels: The user's names of class 0 and class 1.
    """

    per_task_fields: ClassVar[frozenset[str]] = frozenset({"labels"})
    is_categorical: ClassVar[bool] = True

    labels: tuple[Any, Any] = (0, 1)

    def __post_init__(self) -> None:
        if self.labels[0] == self.labels[1]:
            raise ValueError(f"Binary needs two different labels, found {self.labels!r}.")

    @property
    def output_size(self) -> int:
        return 1

    @property
    def default_metrics(self) -> tuple[Metric, ...]:
        return (
            metrics.AUC,
            metrics.AVERAGE_PRECISION,
            metrics.F1,
            metrics.BALANCED_ACCURACY,
            metrics.ACCURACY,
            metrics.LOG_LOSS,
        )

    def loss(self, output: Tensor, target: Tensor, class_weights: Tensor | None = None) -> Tensor:
        """Weighted logistic loss; ``class_weights`` is ``[..., 2]``, weights of class 0 and class
        1.
        """
        logit = output.squeeze(-1)
        label = target.to(output.dtype).expand_as(logit)
        if class_weights is None:
            return functional.binary_cross_entropy_with_logits(logit, label, reduction="none")
        weight = torch.lerp(class_weights[..., 0], class_weights[..., 1], label)
        return functional.binary_cross_entropy_with_logits(logit, label, weight, reduction="none")

    def predict(self, output: Tensor) -> Tensor:
        return (output.squeeze(-1) > 0).long()

    def probabilities(self, output: Tensor) -> Tensor:
        positive = torch.sigmoid(output)
        return torch.cat([1 - positive, positive], dim=-1)

    def encode(self, values: np.ndarray) -> np.ndarray:
        return encode_labels(values, self.labels)

    def decode(self, encoded: np.ndarray) -> np.ndarray:
        return decode_labels(encoded, self.labels)
