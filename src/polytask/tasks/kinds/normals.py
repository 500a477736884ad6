"""A direction per pixel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from polytask.tasks import metrics
from polytask.tasks.kinds.base import Kind
from polytask.tasks.kinds.pixels import masked_pixel_mean
from polytask.tasks.metrics import Metric

__all__ = ["Normals"]


@dataclass(frozen=True)
class Normals(Kind):
    """A unit vector per pixel (targets ``[..., 3, H, W]``), with loss 1 - cosine; NaN marks
    unlabelled pixels.
    """

    target_dims: ClassVar[int] = 3
    output_dims: ClassVar[int] = 3

    @property
    def output_size(self) -> int:
        return 3

    @property
    def default_metrics(self) -> tuple[Metric, ...]:
        return (metrics.MEAN_ANGLE,)

    def loss(self, output: Tensor, target: Tensor, class_weights: Tensor | None = None) -> Tensor:
        del class_weights
        valid = ~torch.isnan(target).any(-3)
        cosine = functional.cosine_similarity(output, target.nan_to_num(), dim=-3)
        return masked_pixel_mean(1 - cosine, valid.expand_as(cosine))

    def predict(self, output: Tensor) -> Tensor:
        return functional.normalize(output, dim=-3)
