"""What every encoder offers: features of a stated width, and a `repr` that evaluates back."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Self

from torch import Tensor, nn

from polytask.config import arguments, rebuildable_repr

__all__ = ["Encoder", "check_fraction", "check_positive"]


class Encoder(nn.Module, ABC):
    """A trunk: inputs [B, ...] in, features [B, D] out ([M, B, D] where `num_members` M > 1).

    A subclass sets `output_size` (D) and keeps every constructor argument under its own name, so
    that `repr` evaluates back to an equal (freshly initialised) encoder. An architecture takes any
    `nn.Module` with `output_size`; deriving from this class is a convenience, not a duty.

    Shapes: B batch, D features, M ensemble members.
    """

    output_size: int
    num_members: int = 1

    @abstractmethod
    def forward(self, inputs: Tensor) -> Tensor:
        """Features of each row."""

    def fresh(self) -> Self:
        """A newly initialised encoder with the same arguments."""
        return type(self)(**arguments(self))

    def __repr__(self) -> str:
        return rebuildable_repr(self)


def check_positive(name: str, value: int) -> int:
    """`value` as it came, or the one sentence that says why it cannot be used."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"`{name}` must be a whole number, found {value!r}.")
    if value < 1:
        raise ValueError(f"`{name}` must be at least 1, found {value}.")
    return value


def check_fraction(name: str, value: float) -> float:
    """`value` in [0, 1), the range of a dropout probability."""
    if not 0.0 <= value < 1.0:
        raise ValueError(f"`{name}` must lie in [0, 1), found {value!r}.")
    return float(value)
