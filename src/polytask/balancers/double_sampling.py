"""The step of methods whose weights come from two batches and whose update comes from a third.

Shape legend: T tasks.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from torch import Tensor

from polytask import gradients
from polytask.balancers.base import GramBalancer, Scope, Subset

__all__ = ["backward_three", "check_scope"]


def check_scope(scope: Scope) -> Scope:
    """Raise unless gradients of different batches can be multiplied at this scope."""
    if scope == "features":
        raise ValueError(
            "`scope` must be 'trunk' or 'last' for a method that multiplies gradients of different"
            " batches, whose features are different tensors; found 'features'."
        )
    return scope


def backward_three(
    balancer: GramBalancer,
    losses: Tensor,
    *,
    shared: Iterable[Tensor] | None,
    tasks: Sequence[int] | None,
    scale: float | Tensor,
    subset: Subset | None,
) -> Tensor:
    """Weights from ``J_1 J_2^T`` of the first two batches, weighted gradients of the third.

    Args:
        balancer: The method; its ``step_weights`` are called with the product ``[T, T]``.
        losses: ``[3, T]``, one row per batch.
        shared: Parameters that several tasks use.
        tasks: Positions of the T tasks among all.
        scale: What the losses are multiplied by before the backward pass.
        subset: Losses ``[3, T]`` of a fraction of the batches, for ``samples < 1``.

    Returns:
        Weights ``[T]``, detached.
    """
    positions = balancer._begin(losses, tasks)
    variables = balancer._variables(shared, None)
    if balancer.num_tasks == 1:
        return balancer._plain(losses, scale)
    last = losses[-1]
    weights = balancer._reusable(positions)
    if weights is None:
        source = balancer._source(losses, subset)
        first, second = (
            gradients.jacobian(source[batch], variables, scale=scale) for batch in (0, 1)
        )
        product = first @ second.mT / float(scale) ** 2
        weights = balancer.step_weights(product, last.detach(), positions)
        balancer._remember(weights, positions)
    trunk = balancer._trunk(last, variables, None)
    balancer._apply_weights(last, weights.to(last.dtype), trunk, scale)
    return weights.detach()
