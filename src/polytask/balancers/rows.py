"""What methods with a number or a row of state per task have in common."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from polytask.balancers.base import Balancer

__all__ = ["check_preference", "preference_of", "simplex_share", "state_rows"]


def state_rows(balancer: Balancer, gradients: Tensor, tasks: Tensor | None) -> Tensor:
    """Positions ``[T]`` of the tasks in the balancer's state, which is made on first use.

    Args:
        balancer: Whose state.
        gradients: What it was told, a Gramian ``[..., T, T]`` or a Jacobian ``[..., T, P]``.
        tasks: The positions, if they are known; None means all tasks in order.
    """
    count = gradients.shape[-2]
    if balancer.num_tasks is None:
        balancer.setup(count, device=gradients.device)
    if tasks is not None:
        return tasks
    if balancer.num_tasks != count:
        raise ValueError(
            f"{type(balancer).__name__} was set up for {balancer.num_tasks} tasks but got {count};"
            " pass `tasks`, their positions."
        )
    return torch.arange(count, device=gradients.device)


def simplex_share(weights: Tensor) -> tuple[Tensor, Tensor]:
    """The present tasks' weights on a simplex of their own, and their share of the whole one.

    Absent tasks keep their weights, so the share is what the present ones may divide; if it is
    nothing, they start from equal weights.
    """
    share = weights.sum()
    equal = torch.full_like(weights, 1 / len(weights))
    return torch.where(share > 0, weights / torch.where(share > 0, share, 1), equal), share


def check_preference(preference: Sequence[float] | None) -> tuple[float, ...] | None:
    """The preferences as a tuple, checked for sign."""
    if preference is None:
        return None
    values = tuple(float(value) for value in preference)
    if not values or not all(value >= 0 for value in values) or not sum(values) > 0:
        raise ValueError(
            f"`preference` must hold numbers >= 0 that are not all zero, found {values}."
        )
    return values


def preference_of(
    preference: tuple[float, ...] | None, gram: Tensor, tasks: Tensor | None
) -> Tensor:
    """Preferences ``[T]`` of the tasks of a Gramian: those given, or ``1 / T`` each."""
    count = gram.shape[-1]
    if preference is None:
        return torch.full((count,), 1 / count, dtype=gram.dtype, device=gram.device)
    values = torch.tensor(preference, dtype=gram.dtype, device=gram.device)
    if tasks is not None:
        values = values[tasks]
    if len(values) != count:
        raise ValueError(
            f"`preference` must hold one number per task, {count}, found {len(values)}."
        )
    return values
