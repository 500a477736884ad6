"""Carrying out many runs of anything: a store, a sweep, and who does the work."""

from polytask.runs.executor import Executor, InlineExecutor, LocalExecutor
from polytask.runs.measure import PeakMemory
from polytask.runs.progress import SweepObserver, SweepProgress
from polytask.runs.store import RunStore
from polytask.runs.sweep import Spec, SweepOutcome, sweep

__all__ = [
    "Executor",
    "InlineExecutor",
    "LocalExecutor",
    "PeakMemory",
    "RunStore",
    "Spec",
    "SweepObserver",
    "SweepOutcome",
    "SweepProgress",
    "sweep",
]
