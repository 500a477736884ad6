"""A source of random numbers that is saved and restored with the balancer that owns it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["Draws"]


class Draws(nn.Module):
    """A seeded generator on the CPU whose state travels in ``state_dict``.

    Args:
        seed: First state of the generator.
    """

    def __init__(self, *, seed: int) -> None:
        super().__init__()
        self.seed = seed
        self.generator = torch.Generator().manual_seed(seed)

    def get_extra_state(self) -> Tensor:
        """The generator's state, a byte tensor."""
        return self.generator.get_state()

    def set_extra_state(self, state: Tensor) -> None:
        """Continue from a state that ``get_extra_state`` gave."""
        self.generator.set_state(state.cpu())
