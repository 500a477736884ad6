"""A class per pixel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from polytask.tasks import metrics
from polytask.tasks.kinds.base import IGNORE_INDEX, Kind
from polytask.tasks.kinds.pixels import masked_pixel_mean
from polytask.tasks.metrics import Metric

__all__ = ["Segmentation"]


@dataclass(frozen=True)
class Segmentation(Kind):
    """A class per pixel, with cross-entropy averaged over the labelled pixels of an example; -1
    marks unlabelled pixels.
    """

    target_dims: ClassVar[int] = 2
    output_dims: ClassVar[int] = 3
    is_categorical: ClassVar[bool] = True

    num_classes: int

    def __post_init__(self) -> None:
        if self.num_classes < 2:
            raise ValueError(f"Segmentation needs at least 2 classes, found {self.num_classes}.")

    @property
    def output_size(self) -> int:
        return self.num_classes

    @property
    def default_metrics(self) -> tuple[Metric, ...]:
        return (metrics.MEAN_IOU, metrics.ACCURACY)

    def loss(self, output: Tensor, target: Tensor, class_weights: Tensor | None = None) -> Tensor:
        del class_weights
        index = target.expand(*output.shape[:-3], *output.shape[-2:]).long()
        valid = index != IGNORE_INDEX
        chosen = output.gather(-3, index.clamp_min(0).unsqueeze(-3)).squeeze(-3)
        return masked_pixel_mean(output.logsumexp(-3) - chosen, valid)

    def predict(self, output: Tensor) -> Tensor:
        return output.argmax(-3)

    def probabilities(self, output: Tensor) -> Tensor:
        return torch.softmax(output, dim=-3).movedim(-3, -1)
