"""Every task in every step."""

from __future__ import annotations

from polytask.problems.problem import Problem
from polytask.samplers.base import Sampler

__all__ = ["AllTasks"]


class AllTasks(Sampler):
    """Every task takes part in every step: the objective of the first lecture's eq. (2) as it
    stands.
    """

    def draw(self, problem: Problem) -> None:
        del problem
