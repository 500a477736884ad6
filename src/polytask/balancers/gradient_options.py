"""Where, how often and from how much of the batch a method looks at the task gradients."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from polytask.config import rebuildable_repr

__all__ = ["GradientOptions", "Scope"]

Scope = Literal["trunk", "last", "features"]


@dataclass(frozen=True, kw_only=True, repr=False)
class GradientOptions:
    """How a method looks at the gradients of the tasks: the argument ``gradients`` of the methods.

    The defaults are exact; the others trade exactness for time.

    Args:
        scope: "trunk" (all shared parameters), "last" (the parameters given as ``shared`` are those
            of the last shared layer only) or "features" (gradients with respect to the shared
            representation, an upper bound as in MGDA-UB).
        every: Recompute the weights every so many steps and reuse them in between, >= 1.
        samples: Fraction of the batch that the gradients are looked at, in (0, 1]; the update uses
            the whole batch. With scope "features" it is the first rows of the features; otherwise
            ``backward`` needs ``partial_losses``.
        memory: Budget in bytes for the rows that a Gramian is made from, see
            ``gradients.TaskGradients``; None lets it grow with P, not with T P. Methods that need
            the Jacobian itself hold all T rows whatever it says.

    Raises:
        ValueError: If an option is out of range.

    Example:
        >>> from polytask.balancers import MGDA, GradientOptions
        >>> MGDA(gradients=GradientOptions(scope="features", every=4))
        MGDA(gradients=GradientOptions(scope='features', every=4))
    """

    scope: Scope = "trunk"
    every: int = 1
    samples: float = 1.0
    memory: int | None = None

    def __post_init__(self) -> None:
        if self.scope not in get_args(Scope):
            raise ValueError(
                f"`scope` must be 'trunk', 'last' or 'features', found {self.scope!r}."
            )
        if self.every < 1:
            raise ValueError(f"`every` must be >= 1, found {self.every}.")
        if not 0 < self.samples <= 1:
            raise ValueError(f"`samples` must be in (0, 1], found {self.samples}.")
        if self.memory is not None and self.memory < 1:
            raise ValueError(f"`memory` must be a positive number of bytes, found {self.memory}.")

    def __repr__(self) -> str:
        return rebuildable_repr(self)
