"""One task per step, drawn by a power of its number of labels."""

from __future__ import annotations

from typing import Any

import torch

from polytask.problems.problem import Problem
from polytask.samplers.base import Sampler

__all__ = ["ProportionalSampler", "draw_by_size"]


class ProportionalSampler(Sampler):
    """Draws one task per step with probability ``p_t ~ N_t ** exponent``, N_t its number of
    training labels.

    Args:
        exponent: 0 draws uniformly (every task weighs the same, as in eq. 2 of the first lecture),
            1 proportionally to the number of labels; square-root sampling is 0.5.
        seed: Of the draws.

    Raises:
        ValueError: ``exponent`` is negative.

    References:
        A. C. Stickland and I. Murray, "BERT and PALs", ICML 2019, arXiv 1902.02671, section 4
        (there the exponent is annealed: ``AnnealedSampler``).
    """

    def __init__(self, *, exponent: float = 0.0, seed: int = 0) -> None:
        if not exponent >= 0:
            raise ValueError(f"`exponent` must be >= 0, found {exponent}.")
        self.exponent = exponent
        self.seed = seed
        self._generator = torch.Generator().manual_seed(seed)

    def draw(self, problem: Problem) -> tuple[str, ...]:
        return draw_by_size(problem, self.exponent, self._generator)

    def state_dict(self) -> dict[str, Any]:
        return {"generator": self._generator.get_state()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._generator.set_state(state["generator"].cpu())


def draw_by_size(problem: Problem, exponent: float, generator: torch.Generator) -> tuple[str, ...]:
    """The name of one task, drawn with probability ``p_t ~ N_t ** exponent``."""
    names = [task.name for task in problem.tasks]
    sizes = torch.tensor([problem.train.num_labels(name) for name in names], dtype=torch.float64)
    chosen = torch.multinomial(sizes**exponent, 1, generator=generator)
    return (names[int(chosen)],)
