"""Filling ``.grad``: weighted backward passes under one rule for task-specific parameters.

Shape legend: T tasks.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge

from polytask.gradients.graph import edge_of, find_uses, leaves

__all__ = [
    "HeadRule",
    "accumulate",
    "backward_heads",
    "head_parameters",
    "upstream_parameters",
    "weighted_backward",
]

#: Whether task-specific parameters receive the weighted gradient or the gradient of the mean loss.
HeadRule = Literal["weighted", "plain"]


def weighted_backward(
    total: Tensor,
    losses: Tensor,
    *,
    shared: Iterable[Tensor] | None,
    heads: HeadRule,
    scale: float | Tensor = 1.0,
) -> None:
    """One ordinary backward pass of ``total``; with ``heads="plain"`` a second one of the mean loss
    for the heads.

    Adds to ``.grad`` as autograd does.

    Args:
        total: The weighted sum of the losses, and whatever else the balancer adds.
        losses: ``[T]``.
        shared: Shared parameters; needed to tell heads apart with ``heads="plain"``.
        heads: Rule for the parameters that only the losses (not the balancer) know and that are not
            shared.
        scale: Factor on every gradient (a gradient scaler's).
    """
    if heads == "weighted":
        if total.requires_grad:
            torch.autograd.backward(total * scale)
        return
    if shared is None:
        raise ValueError(
            "heads='plain' needs `shared`, the parameters that several tasks use, found None."
        )
    own = head_parameters(losses, shared)
    excluded = {id(parameter) for parameter in own}
    others = (
        [leaf for leaf in leaves([edge_of(total)]) if id(leaf) not in excluded]
        if total.requires_grad
        else []
    )
    if others:
        torch.autograd.backward(total * scale, inputs=others, retain_graph=True)
    if own:
        torch.autograd.backward(losses.mean() * scale, inputs=own)


def backward_heads(
    losses: Tensor,
    weights: Tensor,
    *,
    shared: Iterable[Tensor],
    scale: float | Tensor = 1.0,
    retain_graph: bool = False,
) -> None:
    """Backward pass of ``sum_t w_t L_t`` into the parameters that are not shared, leaving out the
    trunk's part.

    Args:
        losses: ``[T]``.
        weights: ``[T]``.
        shared: Shared parameters (or features); nothing below them is touched.
        scale: Factor on every gradient.
        retain_graph: Whether another backward pass follows.
    """
    own = head_parameters(losses, shared)
    if own:
        torch.autograd.backward(
            (weights.to(losses.dtype) * losses).sum() * scale, inputs=own, retain_graph=retain_graph
        )


def head_parameters(losses: Tensor, shared: Iterable[Tensor]) -> list[Tensor]:
    """The leaves of the losses' graph that are not shared (and not below shared features)."""
    if not losses.requires_grad:
        return []
    variables = [variable for variable in shared if variable.requires_grad]
    stop = {edge_of(variable).node for variable in variables if not variable.is_leaf}
    excluded = {id(variable) for variable in variables}
    return [leaf for leaf in leaves([edge_of(losses)], stop) if id(leaf) not in excluded]


def upstream_parameters(
    losses: Tensor, shared: Iterable[Tensor], features: Tensor | None
) -> list[Tensor]:
    """The parameters of the trunk, where ``shared`` is only its last layer or the features.

    Without features they are what feeds the nodes that use the last layer's parameters; a path
    around that layer (a skip
    connection) is then not seen.

    Args:
        losses: ``[T]``.
        shared: Parameters of the last shared layer, or the features themselves.
        features: The shared representation, or None where it is not known.
    """
    variables = list(shared)
    if features is not None:
        return [*variables, *leaves([edge_of(features)])]
    uses = find_uses([edge_of(losses)])
    users = [
        user for variable in variables for user in uses.consumers.get(edge_of(variable).node, ())
    ]
    return [*variables, *leaves([GradientEdge(user, 0) for user in users])]


def accumulate(variables: Sequence[Tensor], gradients: Sequence[Tensor]) -> None:
    """Add gradients to leaves' ``.grad`` (or send them through the graph below features) as a
    backward pass does.

    Autograd itself does it, so that its hooks run and the gradient takes the layout of its
    parameter.
    """
    torch.autograd.backward(list(variables), list(gradients))
