"""What kinds with a target per pixel have in common."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["masked_pixel_mean"]


def masked_pixel_mean(values: Tensor, valid: Tensor) -> Tensor:
    """Mean ``[...]`` of values ``[..., H, W]`` over the valid pixels; 0 where there is none."""
    total = torch.where(valid, values, values.new_zeros(())).sum((-2, -1))
    return total / valid.sum((-2, -1)).clamp_min(1)
