"""Filling ``.grad``: weighted backward passes under one rule for task-specific parameters.

Shape legend: T tasks.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge, get_gradient_edge

from polytask.gradients.engine import Seed
from polytask.gradients.graph import find_uses, leaves

__all__ = [
    "HeadRule",
    "accumulate",
    "backward_heads",
    "head_parameters",
    "seeded_backward",
    "upstream_parameters",
    "used_variables",
    "weighted_backward",
]

#: Whether task-specific parameters receive the weighted gradient or the gradient of the mean loss.
HeadRule = Literal["weighted", "mean"]


def weighted_backward(
    total: Tensor,
    losses: Tensor,
    *,
    shared: Iterable[Tensor] | None,
    heads: HeadRule,
    scale: float | Tensor = 1.0,
) -> None:
    """One ordinary backward pass of ``total``; with ``heads="mean"`` a second one of the mean loss
    for the heads.

    Adds to ``.grad`` as autograd does.

    Args:
        total: The weighted sum of the losses, and whatever else the balancer adds.
        losses: ``[T]``.
        shared: Shared parameters; needed to tell heads apart with ``heads="mean"``.
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
            "heads='mean' needs `shared`, the parameters that several tasks use, found None."
        )
    own = head_parameters(losses, shared)
    excluded = {id(parameter) for parameter in own}
    others = (
        [leaf for leaf in leaves([get_gradient_edge(total)]) if id(leaf) not in excluded]
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


def seeded_backward(
    seeds: Sequence[Seed], weights: Tensor, outside: Tensor, *, trunk: Iterable[Tensor] | None
) -> None:
    """Weighted backward pass from where the tasks start, when their losses are part of a larger
    stack.

    Args:
        seeds: T starts, see ``task_roots``.
        weights: ``[T]``, for the trunk.
        outside: ``[T]``, for the parameters outside the trunk.
        trunk: Parameters of the trunk; None means all parameters.
    """
    present = [
        (seed, weight, other)
        for seed, weight, other in zip(seeds, weights, outside, strict=True)
        if seed is not None
    ]
    edges = [seed[0] for seed, _, _ in present]
    everything = leaves(edges)
    inside = {id(leaf) for leaf in (everything if trunk is None else trunk)}
    for chosen, factors in (
        ([leaf for leaf in everything if id(leaf) in inside], [w for _, w, _ in present]),
        ([leaf for leaf in everything if id(leaf) not in inside], [w for _, _, w in present]),
    ):
        if chosen and edges:
            starts = [
                seed[1] * factor for (seed, _, _), factor in zip(present, factors, strict=True)
            ]
            accumulate(chosen, torch.autograd.grad(edges, chosen, starts, retain_graph=True))


def head_parameters(losses: Tensor, shared: Iterable[Tensor]) -> list[Tensor]:
    """The leaves of the losses' graph that are not shared (and not below shared features)."""
    if not losses.requires_grad:
        return []
    variables = [variable for variable in shared if variable.requires_grad]
    stop = {get_gradient_edge(variable).node for variable in variables if not variable.is_leaf}
    excluded = {id(variable) for variable in variables}
    return [leaf for leaf in leaves([get_gradient_edge(losses)], stop) if id(leaf) not in excluded]


def upstream_parameters(
    losses: Tensor, shared: Iterable[Tensor], features: Tensor | None
) -> list[Tensor]:
    """The parameters of the trunk, where ``shared`` is only its last layer or the features.

    Without features they are what feeds the nodes that use the last layer's parameters; a path
    around that layer (a skip connection) is then not seen.

    Args:
        losses: ``[T]``.
        shared: Parameters of the last shared layer, or the features themselves.
        features: The shared representation, or None where it is not known.
    """
    variables = list(shared)
    if features is not None:
        return [*variables, *leaves([get_gradient_edge(features)])]
    uses = find_uses([get_gradient_edge(losses)])
    nodes = [get_gradient_edge(variable).node for variable in variables]
    users = [user for node in nodes for user in uses.consumers.get(node, ())]
    return [*variables, *leaves([GradientEdge(user, 0) for user in users])]


def used_variables(losses: Tensor, variables: Sequence[Tensor]) -> list[bool]:
    """Which variables the losses depend on; the others keep ``.grad = None``, as in autograd."""
    if not losses.requires_grad:
        return [False] * len(variables)
    nodes = find_uses([get_gradient_edge(losses)]).order
    return [get_gradient_edge(variable).node in nodes for variable in variables]


def accumulate(variables: Sequence[Tensor], gradients: Sequence[Tensor | None]) -> None:
    """Add gradients to leaves' ``.grad`` (or send them through the graph below features) as a
    backward pass does.

    Autograd itself does it, so that its hooks run and the gradient takes the layout of its
    parameter.
    """
    pairs = [pair for pair in zip(variables, gradients, strict=True) if pair[1] is not None]
    if pairs:
        torch.autograd.backward([v for v, _ in pairs], [gradient for _, gradient in pairs])
