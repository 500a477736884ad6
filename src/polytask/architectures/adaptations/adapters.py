"""Adapters and learned scaling: each task changes what the shared layers say.

Shape legend: T tasks, D width of the layers, S small width.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from polytask.architectures.adaptations.layers import (
    Adaptation,
    AdaptedLayers,
    TaskLinear,
    TaskRows,
)
from polytask.encoders.base import check_positive

__all__ = ["Adapters", "Scaling"]


@dataclass(frozen=True, kw_only=True)
class Adapters(Adaptation):
    """Bottleneck adapters: a small residual network of each task after both parts of each layer.

    a_t(u) = u + V_D GELU(V_E u) takes the place of what attention, and what the feed-forward part,
    adds to the residual stream (after its dropout). V_D starts with zeros, so that a_t is the
    identity at first.

    Args:
        size: S.

    Raises:
        ValueError: ``size`` is below 1.

    Differences: from the paper, exact zeros instead of near-zero initial values; layer norms stay
        shared, as in the multi-task experiments of Stickland and Murray.

    Cost: 4 T D S parameters per layer without biases.

    References:
        N. Houlsby et al., Parameter-Efficient Transfer Learning for NLP, ICML 2019,
        https://arxiv.org/abs/1902.00751, section 2.1.
    """

    size: int

    def __post_init__(self) -> None:
        check_positive("size", self.size)

    def build(self, *, num_tasks: int, width: int, depth: int) -> AdaptedLayers:
        """Fresh parameters of T tasks for an encoder of ``depth`` layers of ``width`` D."""
        return Bottlenecks(num_tasks, width, depth, self.size)


@dataclass(frozen=True, kw_only=True)
class Scaling(Adaptation):
    """Learned scaling (LHUC): each task rescales the states that a layer returns.

    h -> h * 2 sigmoid(r_t), by element, with r_t of every layer's own, 0 at first: the identity.

    Cost: T D parameters per layer.

    References:
        P. Swietojanski, S. Renals, Learning Hidden Unit Contributions for Unsupervised Speaker
        Adaptation, IEEE SLT 2014, https://doi.org/10.1109/SLT.2014.7078569; on transformers in the
        released code of A. C. Stickland, I. Murray, https://arxiv.org/abs/1902.02671.
    """

    def build(self, *, num_tasks: int, width: int, depth: int) -> AdaptedLayers:
        """Fresh parameters of T tasks for an encoder of ``depth`` layers of ``width`` D."""
        return Scales(num_tasks, width, depth)


class Bottlenecks(AdaptedLayers):
    """Two adapters per layer of every task."""

    def __init__(self, num_tasks: int, width: int, depth: int, size: int) -> None:
        super().__init__()
        self.attention = nn.ModuleList(Bottleneck(num_tasks, width, size) for _ in range(depth))
        self.feed_forward = nn.ModuleList(Bottleneck(num_tasks, width, size) for _ in range(depth))

    def after_attention(self, layer: int, values: Tensor, rows: TaskRows) -> Tensor:
        """What attention adds to the residual stream."""
        adapted: Tensor = self.attention[layer](values, rows)
        return adapted

    def after_feed_forward(
        self, layer: int, values: Tensor, layer_input: Tensor, rows: TaskRows
    ) -> Tensor:
        """What the feed-forward part adds to the residual stream."""
        del layer_input
        adapted: Tensor = self.feed_forward[layer](values, rows)
        return adapted


class Bottleneck(nn.Module):
    """u + V_D GELU(V_E u), of every task."""

    def __init__(self, num_tasks: int, width: int, size: int) -> None:
        super().__init__()
        self.encode = TaskLinear(num_tasks, width, size)
        self.decode = TaskLinear(num_tasks, size, width, zero=True)

    def forward(self, values: Tensor, rows: TaskRows) -> Tensor:
        """``[R, L, D]`` to the same shape."""
        small = functional.gelu(self.encode(rows.group(values), rows))
        return values + rows.ungroup(self.decode(small, rows))


class Scales(AdaptedLayers):
    """r_t of every layer, ``[T, D]``."""

    def __init__(self, num_tasks: int, width: int, depth: int) -> None:
        super().__init__()
        self.scales = nn.ParameterList(
            nn.Parameter(torch.zeros(num_tasks, width)) for _ in range(depth)
        )

    def after_layer(self, layer: int, values: Tensor, rows: TaskRows) -> Tensor:
        """What the layer returns."""
        factor = 2 * torch.sigmoid(rows.select(self.scales[layer]))
        return rows.ungroup(rows.group(values) * factor[:, None, None, :])
