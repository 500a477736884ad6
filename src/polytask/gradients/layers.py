"""Layer rules: the part of a task Gramian that a layer's weight contributes, without forming the
weight's gradients.

Shape legend: T tasks, N rows (examples, or examples times positions), I fan-in, O fan-out, V
vocabulary, U distinct codes.

The gradient of a linear layer's weight is ``D_t^T A`` with the layer's input ``A [N, I]`` and the
gradient ``D_t [N, O]`` that task t sends to its output. Only inner products are wanted,
``<D_s^T A, D_t^T A> = <D_s, (A A^T) D_t>``, so any ``F`` with ``F^T F = A A^T`` gives coordinates
``F D_t`` of the gradients with the same Gramian. A triangular ``F [N, N]`` costs ``N^2 O / 2``
multiplications per task instead of ``N I O`` and pays where there are fewer rows than inputs. The
gradient of an embedding has at most U rows that are not zero; they are its coordinates.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor
from torch.nn import functional

from polytask.gradients.graph import ACCUMULATE, Node, Uses, linear_input

__all__ = ["EmbeddingRule", "LayerRule", "ProductRule", "find_rule"]

#: The triangular product is cut into this many block rows.
TRIANGLE_BLOCKS = 4


class LayerRule(ABC):
    """Coordinates of a weight's task gradients, from the gradient that arrives at the layer's
    output.
    """

    #: The layer's node in the graph; its first output is the layer's output.
    node: Node
    #: Coordinates per task.
    size: int
    #: Multiplications saved per task against forming the weight's gradient.
    saving: float
    #: Multiplications spent once per step.
    overhead: float
    #: Multiplications that the layer adds to one ordinary backward pass.
    final_pass: float = 0.0

    @abstractmethod
    def prepare(self) -> None:
        """Compute what all tasks have in common."""

    @abstractmethod
    def write(self, delta: Tensor, out: Tensor) -> None:
        """Coordinates of one task into ``out [size]`` from the gradient at the layer's output."""

    def coordinates(self, deltas: Tensor) -> Tensor:
        """Coordinates ``[T, size]`` of all tasks from gradients ``[T, ...]`` at the output."""
        out = deltas.new_empty(len(deltas), self.size)
        for row, delta in zip(out, deltas, strict=True):
            self.write(delta, row)
        return out


class ProductRule(LayerRule):
    """A layer that multiplies rows ``[N, I]`` with a weight: linear, or a convolution over its
    unfolded patches.
    """

    def __init__(self, node: Node, *, rows: int, fan_in: int, fan_out: int) -> None:
        triangle = rows * rows * fan_out * (1 + 1 / TRIANGLE_BLOCKS) / 2
        self.node = node
        self.rows = rows
        self.fan_out = fan_out
        self.size = rows * fan_out
        self.saving = rows * fan_in * fan_out - triangle
        self.overhead = rows * rows * (2.0 * fan_in + 4.0 * rows)  # double precision counts twice
        self.final_pass = 2.0 * rows * fan_in * fan_out
        self._factor: Tensor | None = None

    def prepare(self) -> None:
        """Factor ``A A^T``.

        Cholesky in double precision is exact enough for single-precision gradients and ten times
        faster than QR; QR of ``A^T`` does not square the condition number and has no trouble with
        dependent rows.
        """
        inputs = (
            _patches(self.node)
            if self.node.name() == "ConvolutionBackward0"
            else linear_input(self.node)
        )
        assert inputs is not None
        wide = inputs.detach().double()
        if inputs.dtype != torch.float64:
            factor, info = torch.linalg.cholesky_ex(wide @ wide.mT, upper=True)
            if not bool(info):
                self._factor = factor.float()
                return
        factor = torch.linalg.qr(wide.mT, mode="r").R
        # With more rows than inputs R is a trapezoid; rows of zeros change no inner product.
        factor = functional.pad(factor, (0, 0, 0, self.rows - len(factor)))
        self._factor = factor.to(torch.promote_types(inputs.dtype, torch.float32))

    def write(self, delta: Tensor, out: Tensor) -> None:
        """Block rows of the triangular product, from the right place on."""
        assert self._factor is not None
        if delta.dim() == 4:
            delta = delta.movedim(1, -1)
        delta = delta.reshape(self.rows, self.fan_out).to(self._factor.dtype)
        target = out.view(self.rows, self.fan_out)
        step = -(-self.rows // TRIANGLE_BLOCKS)
        for start in range(0, self.rows, step):
            stop = min(start + step, self.rows)
            torch.mm(self._factor[start:stop, start:], delta[start:], out=target[start:stop])

    def coordinates(self, deltas: Tensor) -> Tensor:
        """One batched product; with few rows the triangle is not worth its pieces."""
        assert self._factor is not None
        if deltas.dim() == 5:
            return super().coordinates(deltas)
        rows = deltas.reshape(-1, self.rows, self.fan_out).to(self._factor.dtype)
        return (self._factor @ rows).flatten(1)


class EmbeddingRule(LayerRule):
    """A lookup table: the gradient's rows of the codes that occur."""

    def __init__(self, node: Node, *, rows: int, vocabulary: int, width: int) -> None:
        used = min(rows, vocabulary)
        self.node = node
        self.used = used
        self.width = width
        self.size = used * width
        # Its saving is memory traffic, not multiplications; count one per number that is not
        # written and read again.
        self.saving = 2.0 * (vocabulary - used) * width
        self.overhead = 8.0 * rows
        self._places: Tensor | None = None
        self._kept: Tensor | None = None

    def prepare(self) -> None:
        """Number the codes that occur, leaving the padding code out."""
        codes = self.node._saved_indices.flatten()
        # The padding code is stored as an unsigned number; -1 (none) never equals a code after the
        # conversion.
        self._kept = codes != _signed(self.node._saved_padding_idx)
        self._places = torch.unique(codes, return_inverse=True)[1]

    def write(self, delta: Tensor, out: Tensor) -> None:
        """Add up the gradient of each code."""
        assert self._places is not None
        assert self._kept is not None
        rows = delta.reshape(-1, self.width).to(out.dtype) * self._kept.unsqueeze(-1)
        out.view(self.used, self.width).zero_().index_add_(0, self._places, rows)


def find_rule(variable: Node, uses: Uses) -> LayerRule | None:
    """The layer rule of a weight that is used exactly once, in a layer that has a rule; else
    None.
    """
    users = uses.consumers.get(variable, [])
    if len(users) != 1:
        return None
    consumer = users[0]
    if consumer.name() == "TBackward0":
        layers = uses.consumers.get(consumer, [])
        inputs = linear_input(layers[0]) if len(layers) == 1 else None
        if inputs is None or layers[0].next_functions[-1][0] is not consumer:
            return None
        fan_out = variable.variable.shape[0]
        return ProductRule(layers[0], rows=inputs.shape[0], fan_in=inputs.shape[1], fan_out=fan_out)
    if consumer.name() == "ConvolutionBackward0":
        return _convolution_rule(variable, consumer)
    if consumer.name() == "EmbeddingBackward0" and not consumer._saved_scale_grad_by_freq:
        vocabulary, width = variable.variable.shape
        return EmbeddingRule(
            consumer, rows=consumer._saved_indices.numel(), vocabulary=vocabulary, width=width
        )
    return None


def _convolution_rule(variable: Node, node: Node) -> LayerRule | None:
    weight = variable.variable
    is_weight = node.next_functions[1][0] is variable and variable.name() == ACCUMULATE
    if not is_weight or node._saved_groups != 1 or node._saved_transposed or weight.dim() != 4:
        return None
    inputs = node._saved_input
    rows = inputs.shape[0]
    geometry = zip(
        inputs.shape[2:],
        weight.shape[2:],
        node._saved_stride,
        node._saved_padding,
        node._saved_dilation,
        strict=True,
    )
    for size, kernel, stride, padding, dilation in geometry:
        rows *= (size + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1
    return ProductRule(node, rows=rows, fan_in=weight[0].numel(), fan_out=weight.shape[0])


def _patches(node: Node) -> Tensor:
    kernel = tuple(node._saved_weight.shape[2:])
    columns = functional.unfold(
        node._saved_input,
        kernel,
        dilation=tuple(node._saved_dilation),
        padding=tuple(node._saved_padding),
        stride=tuple(node._saved_stride),
    )
    return columns.mT.reshape(-1, columns.shape[1])


def _signed(value: int) -> int:
    return value - 2**64 if value >= 2**63 else value
