"""Projected attention layers and low-rank layers: a small path of each task beside a shared layer.

Shape legend: T tasks, K tasks of a step, n most rows of a task, L positions, D width of the layers,
S small width.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional

from polytask.architectures.adaptations.layers import (
    Adaptation,
    AdaptedLayers,
    TaskLinear,
    TaskRows,
)
from polytask.encoders.base import check_positive
from polytask.encoders.transformer import attend, check_heads

__all__ = ["LowRank", "ProjectedAttention"]


@dataclass(frozen=True, kw_only=True)
class ProjectedAttention(Adaptation):
    """Projected attention layers (PALs): a small attention of each task beside every shared layer.

    TS_t(h) = V_D g(V_E h) is added to what the feed-forward part adds, so that a layer in BERT's
    form is h_out = LN(h' + FFN(h') + TS_t(h)), h the input of the layer. V_E maps D values to S,
    V_D back; g is self-attention of S values without an output layer, of every layer's own.

    V_D starts with zeros: the first outputs are those of the shared network.

    Args:
        size: S; 204 for BERT-base in the paper.
        heads: Heads of g (6 in the released code), a divisor of S.
        shared: One pair V_E, V_D per task for all layers, as in the paper and the released code;
            False makes a pair per layer.
        activation_after: GELU(V_D g(V_E h)), as the released code has it.

    Raises:
        ValueError: an argument out of its range.

    Differences: the start at zero (the paper draws V_D at random); biases everywhere, as in the
        released code.

    Cost: T (2 D S + 3 depth S^2) parameters without biases; L (2 D S + 3 S^2 + 2 L S)
        multiplications per row and layer.

    Example:
        >>> ProjectedAttention(size=12, heads=3).build(num_tasks=2, width=32, depth=4).__class__
        <class 'polytask.architectures.adaptations.attention.SmallPaths'>

    References:
        A. C. Stickland, I. Murray, BERT and PALs: Projected Attention Layers for Efficient
        Adaptation in Multi-Task Learning, ICML 2019, https://arxiv.org/abs/1902.02671, section 3.
    """

    size: int
    heads: int = 6
    shared: bool = True
    activation_after: bool = False

    def __post_init__(self) -> None:
        check_positive("size", self.size)
        check_heads(self.heads, self.size, "size")

    def build(self, *, num_tasks: int, width: int, depth: int) -> AdaptedLayers:
        """Fresh parameters of T tasks for an encoder of ``depth`` layers of ``width`` D."""
        middle = nn.ModuleList(
            TaskAttention(num_tasks, self.size, self.heads) for _ in range(depth)
        )
        return SmallPaths(
            num_tasks,
            width,
            self.size,
            middle,
            pairs=1 if self.shared else depth,
            activation_after=self.activation_after,
        )


@dataclass(frozen=True, kw_only=True)
class LowRank(Adaptation):
    """A low-rank layer of each task beside every shared layer: TS_t(h) = V_D GELU(V_E h).

    As ``ProjectedAttention`` with the GELU as g: a position sees itself only. V_D starts with
    zeros.

    Args:
        size: S.
        shared: One pair V_E, V_D per task for all layers; False makes a pair per layer, as the
            released code does.

    Raises:
        ValueError: ``size`` is below 1.

    Differences: the start at zero.

    Cost: 2 T D S parameters without biases, ``depth`` times as many if not ``shared``.

    References:
        A. C. Stickland, I. Murray, BERT and PALs, ICML 2019, https://arxiv.org/abs/1902.02671,
        section 3 ("low-rank layers").
    """

    size: int
    shared: bool = False

    def __post_init__(self) -> None:
        check_positive("size", self.size)

    def build(self, *, num_tasks: int, width: int, depth: int) -> AdaptedLayers:
        """Fresh parameters of T tasks for an encoder of ``depth`` layers of ``width`` D."""
        middle = nn.ModuleList(PlainActivation() for _ in range(depth))
        return SmallPaths(num_tasks, width, self.size, middle, pairs=1 if self.shared else depth)


class SmallPaths(AdaptedLayers):
    """V_D g_l(V_E h) beside each layer l, of every task.

    Args:
        num_tasks: T.
        width: D.
        size: S.
        middle: g_l per layer, modules of ``[K, n, L, S]`` and the rows.
        pairs: Pairs V_E, V_D: one for all layers or one per layer.
        activation_after: Put a GELU after V_D.
    """

    def __init__(
        self,
        num_tasks: int,
        width: int,
        size: int,
        middle: nn.ModuleList,
        *,
        pairs: int,
        activation_after: bool = False,
    ) -> None:
        super().__init__()
        self.activation_after = activation_after
        self.encode = nn.ModuleList(TaskLinear(num_tasks, width, size) for _ in range(pairs))
        self.middle = middle
        self.decode = nn.ModuleList(
            TaskLinear(num_tasks, size, width, zero=True) for _ in range(pairs)
        )

    def after_feed_forward(
        self, layer: int, values: Tensor, layer_input: Tensor, rows: TaskRows
    ) -> Tensor:
        """What the feed-forward part adds to the residual stream, and TS_t of the layer's input."""
        return values + rows.ungroup(self.path(layer, rows.group(layer_input), rows))

    def path(self, layer: int, states: Tensor, rows: TaskRows) -> Tensor:
        """TS_t of states ``[K, n, L, D]``."""
        pair = layer % len(self.encode)
        small = self.encode[pair](states, rows)
        added: Tensor = self.decode[pair](self.middle[layer](small, rows), rows)
        return functional.gelu(added) if self.activation_after else added


class TaskAttention(nn.Module):
    """Self-attention of each task's own, without an output layer."""

    def __init__(self, num_tasks: int, size: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query_key_value = TaskLinear(num_tasks, size, 3 * size)

    def forward(self, states: Tensor, rows: TaskRows) -> Tensor:
        """``[K, n, L, S]`` to the same shape."""
        both = self.query_key_value(states, rows).flatten(0, 1)
        read = attend(both, self.heads, rows.mask)
        return read.reshape(states.shape)


class PlainActivation(nn.Module):
    """GELU, in the place of attention."""

    def forward(self, states: Tensor, rows: TaskRows) -> Tensor:
        """``[K, n, L, S]`` to the same shape."""
        del rows
        return functional.gelu(states)
