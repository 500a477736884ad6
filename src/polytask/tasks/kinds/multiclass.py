"""One of several classes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from polytask.tasks import metrics
from polytask.tasks.kinds.base import Kind, decode_labels, encode_labels
from polytask.tasks.metrics import Metric

__all__ = ["Multiclass"]


@dataclass(frozen=True)
class Multiclass(Kind):
    """One of several classes, with cross-entropy (a padded class, of output -inf, has no part in
    it).

    Args:
        num_classes: Number of classes, >= 2.
        labels: The user's names of the classes; None means 0 .. num_classes - 1.
    """

    per_task_fields: ClassVar[frozenset[str]] = frozenset({"labels"})
    padded_fields: ClassVar[frozenset[str]] = frozenset({"num_classes"})
    is_categorical: ClassVar[bool] = True

    num_classes: int
    labels: tuple[Any, ...] | None = None

    def __post_init__(self) -> None:
        if self.num_classes < 2:
            raise ValueError(f"Multiclass needs at least 2 classes, found {self.num_classes}.")
        if self.labels is not None and len(set(self.labels)) != self.num_classes:
            raise ValueError(
                f"Multiclass needs {self.num_classes} different labels, found {self.labels!r}."
            )

    @property
    def output_size(self) -> int:
        return self.num_classes

    @property
    def default_metrics(self) -> tuple[Metric, ...]:
        return (metrics.ACCURACY, metrics.BALANCED_ACCURACY, metrics.MACRO_F1, metrics.LOG_LOSS)

    def loss(self, output: Tensor, target: Tensor, class_weights: Tensor | None = None) -> Tensor:
        """Cross-entropy; ``class_weights`` is ``[..., num_classes]``, broadcast over the leading
        dimensions.
        """
        index = target.expand(output.shape[:-1]).long().unsqueeze(-1)
        chosen = output.gather(-1, index).squeeze(-1)
        loss = output.logsumexp(-1) - chosen
        if class_weights is None:
            return loss
        return loss * class_weights.expand_as(output).gather(-1, index).squeeze(-1)

    def predict(self, output: Tensor) -> Tensor:
        return output.argmax(-1)

    def probabilities(self, output: Tensor) -> Tensor:
        return torch.softmax(output, dim=-1)

    def encode(self, values: np.ndarray) -> np.ndarray:
        return encode_labels(values, self.labels or tuple(range(self.num_classes)))

    def decode(self, encoded: np.ndarray) -> np.ndarray:
        return decode_labels(encoded, self.labels or tuple(range(self.num_classes)))
