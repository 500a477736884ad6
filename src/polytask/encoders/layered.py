"""Encoders that are a stack of attention layers: where their layers are, and what is padding.

Shape legend: B batch, L positions, D width.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from polytask.encoders.base import Encoder

__all__ = ["LayerSites", "LayeredEncoder", "attention_mask", "check_pooling", "pool"]

POOLINGS = ("first", "mean")


@dataclass(frozen=True, eq=False)
class LayerSites:
    """The places of one attention layer where something can be added or changed.

    Args:
        layer: The whole layer; its first argument is the hidden state ``[B, L, D]``, and so is what
            it returns.
        attention_output: The module whose output is what attention adds to the residual stream.
        feed_forward_output: The same of the feed-forward part.
    """

    layer: nn.Module
    attention_output: nn.Module
    feed_forward_output: nn.Module


class LayeredEncoder(Encoder):
    """A stack of attention layers of one width over positions, pooled to one vector per row.

    What ``TaskAdapted`` needs to know of an encoder. ``output_size`` is the width D of the layers.
    """

    @abstractmethod
    def layer_sites(self) -> Sequence[LayerSites]:
        """The layers, from the inputs on."""

    @abstractmethod
    def padding(self, inputs: Tensor) -> Tensor | None:
        """True where a position ``[B, L]`` holds nothing; None where all positions count."""


def attention_mask(padding: Tensor | None) -> Tensor | None:
    """True where attention may look, ``[B, 1, 1, L]``, from where there is padding, ``[B, L]``.

    A row of padding alone looks everywhere: a softmax over nothing is not a number.
    """
    if padding is None:
        return None
    return (~padding | padding.all(-1, keepdim=True))[:, None, None, :]


def pool(states: Tensor, padding: Tensor | None, pooling: str) -> Tensor:
    """One vector per row ``[B, D]`` from the states of its positions ``[B, L, D]``."""
    if pooling == "first":
        return states[:, 0]
    if padding is None:
        return states.mean(1)
    present = (~padding).unsqueeze(-1)
    total = torch.where(present, states, states.new_zeros(())).sum(1)
    return total / present.sum(1).clamp_min(1)


def check_pooling(value: Any) -> str:
    """`value` as it came, or the one sentence that says why it cannot be used."""
    if value not in POOLINGS:
        raise ValueError(f"`pooling` must be one of {POOLINGS}, found {value!r}.")
    return str(value)
