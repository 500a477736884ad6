"""A distance per pixel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from polytask.tasks import metrics
from polytask.tasks.kinds.base import Kind
from polytask.tasks.kinds.pixels import masked_pixel_mean
from polytask.tasks.metrics import Metric

__all__ = ["Depth"]


@dataclass(frozen=True)
class Depth(Kind):
    """A positive distance per pixel, with absolute error averaged over the labelled pixels; NaN
    marks unlabelled pixels.
    """

    target_dims: ClassVar[int] = 2
    output_dims: ClassVar[int] = 3

    @property
    def output_size(self) -> int:
        return 1

    @property
    def default_metrics(self) -> tuple[Metric, ...]:
        return (metrics.MAE, metrics.RELATIVE_ERROR, metrics.RMSE)

    def loss(self, output: Tensor, target: Tensor, class_weights: Tensor | None = None) -> Tensor:
        del class_weights
        valid = ~torch.isnan(target)
        error = (output.squeeze(-3) - target.nan_to_num()).abs()
        return masked_pixel_mean(error, valid.expand_as(error))

    def predict(self, output: Tensor) -> Tensor:
        return output.squeeze(-3)
