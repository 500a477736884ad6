"""Parameters of single tasks inside shared attention layers, all tasks as blocks.

Shape legend: T tasks, K tasks of a step, R rows of a step (K tasks after each other), n most rows
of a task, L positions, D width of the layers, S small width of a task's own layers.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from polytask.encoders.layered import LayerSites, attention_mask

__all__ = ["Adaptation", "AdaptedLayers", "TaskLinear", "TaskRows", "attached"]


class TaskRows:
    """Which rows of a step belong to which task: the rows of K tasks lie one after the other.

    A task's own parameters are applied to all of its rows, those of all tasks by one batched
    product. Where tasks have unequally many rows, they are padded for that product only.

    Args:
        tasks: Places ``[K]`` of the tasks in their parameters; None means all tasks, in order.
        counts: Rows of each task.
        device: Where the rows are.
        padding: True where a position holds nothing, ``[R, L]``.
    """

    def __init__(
        self,
        tasks: Tensor | None,
        counts: Sequence[int],
        *,
        device: torch.device,
        padding: Tensor | None = None,
    ) -> None:
        self.tasks = tasks
        self.counts = tuple(counts)
        self.most = max(self.counts)
        self.places: Tensor | None = None
        if min(self.counts) < self.most:
            self.places = self._padded_places().to(device)
        #: Where attention may look, ``[K n, 1, 1, L]``.
        self.mask = attention_mask(None if padding is None else self.group(padding).flatten(0, 1))

    def _padded_places(self) -> Tensor:
        counts = torch.tensor(self.counts)
        task = torch.arange(len(counts)).repeat_interleave(counts)
        start = counts.cumsum(0) - counts
        return torch.arange(len(task)) - start[task] + task * self.most

    def group(self, values: Tensor) -> Tensor:
        """``[R, ...]`` to ``[K, n, ...]``; places of no row hold zeros."""
        shape = (len(self.counts), self.most, *values.shape[1:])
        if self.places is None:
            return values.reshape(shape)
        padded = values.new_zeros(shape[0] * shape[1], *values.shape[1:])
        return padded.index_copy(0, self.places, values).reshape(shape)

    def ungroup(self, values: Tensor) -> Tensor:
        """``[K, n, ...]`` to ``[R, ...]``."""
        flat = values.flatten(0, 1)
        return flat if self.places is None else flat.index_select(0, self.places)

    def select(self, parameter: Tensor) -> Tensor:
        """The part ``[K, ...]`` of a parameter ``[T, ...]`` that is these tasks'."""
        return parameter if self.tasks is None else parameter.index_select(0, self.tasks)


class TaskLinear(nn.Module):
    """A linear layer per task, W_t h + b_t: weights ``[T, out, in]``, biases ``[T, out]``.

    Args:
        num_tasks: T.
        input_size: Values that come in.
        output_size: Values that go out.
        zero: Start with zeros, so that the layer says nothing at first.

    Shapes: ``[K, n, ..., in]`` of the tasks of ``rows`` to ``[K, n, ..., out]``.
    """

    def __init__(
        self, num_tasks: int, input_size: int, output_size: int, *, zero: bool = False
    ) -> None:
        super().__init__()
        bound = 0.0 if zero else 1 / math.sqrt(input_size)
        weight = torch.empty(num_tasks, output_size, input_size).uniform_(-bound, bound)
        bias = torch.empty(num_tasks, output_size).uniform_(-bound, bound)
        self.weight, self.bias = nn.Parameter(weight), nn.Parameter(bias)

    def forward(self, values: Tensor, rows: TaskRows) -> Tensor:
        """Every task's layer on that task's rows, in one batched product."""
        weight, bias = rows.select(self.weight), rows.select(self.bias)
        flat = values.reshape(len(values), -1, values.shape[-1])
        product = torch.baddbmm(bias.unsqueeze(1), flat, weight.mT)
        return product.reshape(*values.shape[:-1], weight.shape[1])


class AdaptedLayers(nn.Module):
    """Own parameters of T tasks at every layer of an encoder; each parameter is ``[T, ...]``.

    A subclass overrides what it changes of a layer; values are ``[R, L, D]`` and stay of that
    shape.
    """

    def after_attention(self, layer: int, values: Tensor, rows: TaskRows) -> Tensor:
        """What attention adds to the residual stream."""
        del layer, rows
        return values

    def after_feed_forward(
        self, layer: int, values: Tensor, layer_input: Tensor, rows: TaskRows
    ) -> Tensor:
        """What the feed-forward part adds to the residual stream."""
        del layer, layer_input, rows
        return values

    def after_layer(self, layer: int, values: Tensor, rows: TaskRows) -> Tensor:
        """What the layer returns."""
        del layer, rows
        return values


class Adaptation(ABC):
    """Which parameters of its own a task has inside a shared encoder."""

    @abstractmethod
    def build(self, *, num_tasks: int, width: int, depth: int) -> AdaptedLayers:
        """Fresh parameters of T tasks for an encoder of ``depth`` layers of ``width`` D."""


@contextmanager
def attached(layers: AdaptedLayers, sites: Sequence[LayerSites], rows: TaskRows) -> Iterator[None]:
    """While this is open, the encoder's layers work with the own parameters of the rows' tasks.

    Forward hooks do it, so that any encoder that names its ``LayerSites`` can be adapted without a
    change in its code, and nothing stays behind in it.
    """
    handles = []
    for number, site in enumerate(sites):
        hooks = _LayerHooks(layers, number, rows)
        handles += [
            site.layer.register_forward_pre_hook(hooks.remember_input, with_kwargs=True),
            site.attention_output.register_forward_hook(hooks.change_attention),
            site.feed_forward_output.register_forward_hook(hooks.change_feed_forward),
            site.layer.register_forward_hook(hooks.change_output),
        ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


class _LayerHooks:
    """The hooks of one layer for one pass."""

    def __init__(self, layers: AdaptedLayers, number: int, rows: TaskRows) -> None:
        self.layers = layers
        self.number = number
        self.rows = rows
        self.layer_input: Tensor | None = None

    def remember_input(
        self, module: nn.Module, arguments: tuple[Any, ...], named: dict[str, Any]
    ) -> None:
        del module
        self.layer_input = arguments[0] if arguments else next(iter(named.values()))

    def change_attention(self, module: nn.Module, arguments: Any, output: Tensor) -> Tensor:
        del module, arguments
        return self.layers.after_attention(self.number, output, self.rows)

    def change_feed_forward(self, module: nn.Module, arguments: Any, output: Tensor) -> Tensor:
        del module, arguments
        assert self.layer_input is not None
        return self.layers.after_feed_forward(self.number, output, self.layer_input, self.rows)

    def change_output(self, module: nn.Module, arguments: Any, output: Any) -> Any:
        del module, arguments
        if isinstance(output, tuple):
            return (self.layers.after_layer(self.number, output[0], self.rows), *output[1:])
        return self.layers.after_layer(self.number, output, self.rows)
