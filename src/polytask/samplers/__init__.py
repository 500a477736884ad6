"""Which task next: one file per policy."""

from polytask.samplers.all_tasks import AllTasks
from polytask.samplers.annealed import AnnealedSampler
from polytask.samplers.base import Sampler
from polytask.samplers.proportional import ProportionalSampler

__all__ = ["AllTasks", "AnnealedSampler", "ProportionalSampler", "Sampler"]
