"""Who carries out runs where the user names nobody: processes of this machine, or this process."""

from __future__ import annotations

import os
import pickle
import warnings
from collections.abc import Sequence
from pathlib import Path

from polytask.candidates.run import RunSpec
from polytask.runs.executor import Executor, InlineExecutor, LocalExecutor, cpu_count

__all__ = ["local_executor"]

#: More workers than this need more memory than they are worth unless they are asked for.
MOST_WORKERS = 8


def local_executor(
    specs: Sequence[RunSpec], todo: int, workers: int | None, logs: Path
) -> Executor:
    """Local processes, or this process where the work cannot travel to another one.

    Args:
        specs: The runs.
        todo: How many of them are not finished.
        workers: Number of processes; 0 means this process, None one per core or GPU.
        logs: Folder for what the processes print.

    Raises:
        ValueError: A negative number of workers.
    """
    if workers is not None and workers < 0:
        raise ValueError(f"`workers` must be >= 0 (0: in this process), found {workers}.")
    if todo == 0 or workers == 0:
        return InlineExecutor()
    reason = _cannot_travel(specs)
    if reason:
        warnings.warn(
            f"Runs are carried out in this process, one after the other: {reason}.", stacklevel=4
        )
        return InlineExecutor()
    devices = _devices()
    limits = [limit for spec in specs if (limit := spec.hard_limit) is not None]
    return LocalExecutor(
        workers=min(workers or len(devices) or min(cpu_count(), MOST_WORKERS), todo),
        time_limit=max(limits) if limits else None,
        devices=devices,
        log=logs,
    )


def _devices() -> list[str]:
    """Numbers of the GPUs that this process may use."""
    import torch

    if not torch.cuda.is_available():
        return []
    named = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    return named or [str(number) for number in range(torch.cuda.device_count())]


def _cannot_travel(specs: Sequence[RunSpec]) -> str:
    """Why runs cannot be sent to another process; empty if they can."""
    for method in {id(spec.method): spec.method for spec in specs}.values():
        try:
            content = pickle.dumps(method)
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            return f"a candidate's method cannot be sent to a worker process ({error})"
        if b"__main__" in content:
            return (
                "a candidate's method uses a function of the main script;"
                " put it into a module to run in parallel"
            )
    if not isinstance(specs[0].source, str):
        return "the data cannot be written to a file"
    return ""
