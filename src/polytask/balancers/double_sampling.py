"""Methods whose weights come from two batches and whose update comes from a third."""

from __future__ import annotations

from polytask.balancers.base import Scope

__all__ = ["check_scope"]


def check_scope(scope: Scope) -> Scope:
    """Raise unless gradients of different batches can be multiplied at this scope."""
    if scope == "features":
        raise ValueError(
            "`scope` must be 'trunk' or 'last' for a method that multiplies gradients of different"
            " batches, whose features are different tensors; found 'features'."
        )
    return scope
