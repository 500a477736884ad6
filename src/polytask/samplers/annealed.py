"""One task per step, first by its number of labels, later nearly uniformly."""

from __future__ import annotations

from typing import Any

import torch

from polytask.problems.problem import Problem
from polytask.samplers.base import Sampler
from polytask.samplers.proportional import draw_by_size

__all__ = ["AnnealedSampler"]


class AnnealedSampler(Sampler):
    """Draws one task per step with probability ``p_t ~ N_t ** a``, a falling over the epochs.

    N_t is the task's number of training labels, and in epoch e of E

        a = first - (first - last) (e - 1) / (E - 1),

    with the paper's a = 1 - 0.8 (e - 1) / (E - 1) by default: large tasks are seen in proportion to
    their labels at first; at the end nearly all tasks are seen equally often, so that none is
    forgotten and small ones have not been trained too long.

    Args:
        epochs: E; epochs beyond it keep the last exponent. With E = 1 the exponent is ``first``.
        draws_per_epoch: Draws that make an epoch: a trainer asks once per batch, so
            ``trainer.loader.steps_per_epoch`` is one of its epochs. The sampler counts its draws
            and is told nothing else.
        first: Exponent of the first epoch.
        last: Exponent of epoch E.
        seed: Of the draws.

    Raises:
        ValueError: a count below 1, a negative exponent.

    References:
        A. C. Stickland and I. Murray, "BERT and PALs", ICML 2019, arXiv 1902.02671, section 4.
    """

    def __init__(
        self,
        *,
        epochs: int,
        draws_per_epoch: int,
        first: float = 1.0,
        last: float = 0.2,
        seed: int = 0,
    ) -> None:
        for name, count in (("epochs", epochs), ("draws_per_epoch", draws_per_epoch)):
            if count < 1:
                raise ValueError(f"`{name}` must be at least 1, found {count}.")
        for name, value in (("first", first), ("last", last)):
            if not value >= 0:
                raise ValueError(f"`{name}` must be >= 0, found {value}.")
        self.epochs = epochs
        self.draws_per_epoch = draws_per_epoch
        self.first = first
        self.last = last
        self.seed = seed
        self._generator = torch.Generator().manual_seed(seed)
        self._draws = 0

    @property
    def exponent(self) -> float:
        """The exponent a of the next draw."""
        done = min(self._draws // self.draws_per_epoch, self.epochs - 1)
        return self.first - (self.first - self.last) * done / max(self.epochs - 1, 1)

    def draw(self, problem: Problem) -> tuple[str, ...]:
        exponent = self.exponent
        self._draws += 1
        return draw_by_size(problem, exponent, self._generator)

    def state_dict(self) -> dict[str, Any]:
        return {"generator": self._generator.get_state(), "draws": self._draws}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._generator.set_state(state["generator"].cpu())
        self._draws = int(state["draws"])
