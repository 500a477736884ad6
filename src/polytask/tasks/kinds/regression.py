"""Numbers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from polytask.tasks import metrics
from polytask.tasks.kinds.base import Kind
from polytask.tasks.metrics import Metric

__all__ = ["Regression"]


@dataclass(frozen=True)
class Regression(Kind):
    """A number (``size = 1``) or a vector of numbers per example, with squared error.

    Args:
        size: Numbers per target.
        mean: Mean of the training targets, in the user's units; targets are stored as ``(y - mean)
            / scale``.
        scale: Standard deviation of the training targets, > 0.
    """

    per_task_fields: ClassVar[frozenset[str]] = frozenset({"mean", "scale"})

    size: int = 1
    mean: float = 0.0
    scale: float = 1.0

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ValueError(f"`size` of a Regression must be >= 1, found {self.size}.")
        if not (math.isfinite(self.scale) and self.scale > 0 and math.isfinite(self.mean)):
            raise ValueError(
                f"Regression needs a finite mean and scale > 0, found mean={self.mean}, "
                f"scale={self.scale}."
            )

    @property
    def output_size(self) -> int:
        return self.size

    @property
    def default_metrics(self) -> tuple[Metric, ...]:
        return (metrics.RMSE, metrics.R2, metrics.MAE)

    def loss(self, output: Tensor, target: Tensor, class_weights: Tensor | None = None) -> Tensor:
        del class_weights
        if self.size == 1:
            return (output.squeeze(-1) - target).square()
        return (output - target).square().mean(-1)

    def predict(self, output: Tensor) -> Tensor:
        return output.squeeze(-1) if self.size == 1 else output

    def missing(self, target: Tensor) -> Tensor:
        absent = torch.isnan(target)
        return absent if self.size == 1 else absent.any(-1)

    def encode(self, values: np.ndarray) -> np.ndarray:
        return ((np.asarray(values, dtype=np.float64) - self.mean) / self.scale).astype(np.float32)

    def decode(self, encoded: np.ndarray) -> np.ndarray:
        return np.asarray(encoded, dtype=np.float64) * self.scale + self.mean
