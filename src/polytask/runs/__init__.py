"""Carrying out many runs of anything: a store, a sweep, and who does the work."""

from polytask.runs.executor import Executor, InlineExecutor, LocalExecutor
from polytask.runs.measure import PeakMemory
from polytask.runs.progress import SweepObserver, SweepProgress
from polytask.runs.store import RunStore
from polytask.runs.sweep import SweepOutcome, sweep

__all__ = [
    "Executor",
    "InlineExecutor",
    "LocalExecutor",
    "PeakMemory",
    "RunStore",
    "SweepObserver",
    "SweepOutcome",
    "SweepProgress",
    "sweep",
]
