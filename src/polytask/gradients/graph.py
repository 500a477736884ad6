"""Reading the autograd graph: where each task's loss starts, and how each parameter is used.

Shape legend: T tasks, N rows (examples, or examples times positions), I fan-in, O fan-out.

The engine needs no hooks and no module: what a layer rule needs (the layer's input, and a place to
catch the gradient that arrives at its output) is in the graph that the forward pass has left
behind.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge, get_gradient_edge

__all__ = ["Uses", "batch_roots", "find_uses", "leaves", "linear_input", "task_roots"]

#: A node of the autograd graph. ``torch.autograd.graph.Node`` declares no ``_saved_*`` attributes,
#: which the layer rules read.
Node: TypeAlias = Any

ACCUMULATE = "torch::autograd::AccumulateGrad"


def task_roots(losses: Tensor) -> list[tuple[GradientEdge, Tensor] | None]:
    """Where each task's backward pass starts, with the gradient it starts from; None for a constant
    loss.

    Losses that were stacked from scalars are taken apart again: a backward pass from one element of
    the stack would send zeros through the heads of all other tasks, T passes T heads each.

    Args:
        losses: ``[T]``.
    """
    if not losses.requires_grad:
        return [None] * len(losses)
    edge = get_gradient_edge(losses)
    return _vector_roots(edge.node, edge.output_nr, losses)


def _vector_roots(
    node: Node, number: int, losses: Tensor
) -> list[tuple[GradientEdge, Tensor] | None]:
    """Roots of a vector of losses that is output ``number`` of a node."""
    if node.name() == "StackBackward0" and len(node.next_functions) == len(losses):
        one = torch.ones((), dtype=losses.dtype, device=losses.device)
        return [
            None if parent is None else (GradientEdge(parent, position), one)
            for parent, position in node.next_functions
        ]
    edge = GradientEdge(node, number)
    return [(edge, row) for row in torch.eye(len(losses), dtype=losses.dtype, device=losses.device)]


def batch_roots(losses: Tensor) -> list[list[tuple[GradientEdge, Tensor] | None]]:
    """``task_roots`` of several batches; a stack of batches is taken apart again.

    Args:
        losses: ``[S, T]``.
    """
    node: Node = losses.grad_fn
    stacked = node is not None and node.name() == "StackBackward0" and node._saved_dim == 0
    if stacked and all(parent is not None for parent, _ in node.next_functions):
        return [_vector_roots(parent, number, losses[0]) for parent, number in node.next_functions]
    if not losses.requires_grad:
        return [[None] * losses.shape[1] for _ in losses]
    edge = get_gradient_edge(losses)
    starts = torch.eye(losses.numel(), dtype=losses.dtype, device=losses.device)
    seeds = [(edge, start.view_as(losses)) for start in starts]
    count = losses.shape[1]
    return [list(seeds[start : start + count]) for start in range(0, len(seeds), count)]


def leaves(roots: Iterable[GradientEdge], stop: Collection[Node] = ()) -> list[Tensor]:
    """The tensors whose ``.grad`` a backward pass from the roots would fill, without passing the
    nodes in ``stop``.
    """
    found: list[Tensor] = []
    seen: set[Node] = set(stop)
    pending: list[Node] = [root.node for root in roots]
    while pending:
        node = pending.pop()
        if node in seen:
            continue
        seen.add(node)
        if node.name() == ACCUMULATE:
            found.append(node.variable)
        else:
            pending.extend(parent for parent, _ in node.next_functions if parent is not None)
    return found


@dataclass(frozen=True)
class Uses:
    """How a set of variables is used.

    Args:
        consumers: Node to the nodes that use its value, once per use.
        order: Node to its position in a topological order from the losses down.
    """

    consumers: dict[Node, list[Node]]
    order: dict[Node, int]


def find_uses(roots: Iterable[GradientEdge], stop: Collection[Node] = ()) -> Uses:
    """Walk the graph from the losses down and note who consumes whom."""
    consumers: dict[Node, list[Node]] = {}
    finished: list[Node] = []
    state: dict[Node, bool] = dict.fromkeys(stop, True)
    pending: list[Node] = [root.node for root in roots]
    while pending:
        node = pending[-1]
        if node in state:
            pending.pop()
            if not state[node]:
                state[node] = True
                finished.append(node)
            continue
        state[node] = False
        for parent, _ in node.next_functions:
            if parent is not None:
                consumers.setdefault(parent, []).append(node)
                if parent not in state:
                    pending.append(parent)
    order = {node: position for position, node in enumerate(reversed(finished))}
    return Uses(consumers, order)


def linear_input(node: Node) -> Tensor | None:
    """The input ``[N, I]`` of a node that computes ``x W^T (+ b)``, or None for any other node."""
    found: Tensor | None = None
    if node.name() == "AddmmBackward0" and node._saved_alpha == 1 and node._saved_beta == 1:
        found = node._saved_mat1
    elif node.name() == "MmBackward0":
        found = node._saved_self
    return found
