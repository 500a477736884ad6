"""How every benchmark here measures: contestants take turns in one process, and ratios are quoted,
not seconds.

Thread pools are told to sleep while they wait (``OMP_WAIT_POLICY=PASSIVE``, ``GOMP_SPINCOUNT=0``):
on a shared machine their busy waiting would be charged to whoever runs. The variables must be set
before the process starts, so ``prepare`` starts the script again with them.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

POLICY = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "0"}


def prepare(threads: int = 1) -> None:
    """Start this script again with the waiting policy and the number of threads in its
    environment.
    """
    wanted = {**POLICY, "OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
    if any(os.environ.get(name) != value for name, value in wanted.items()):
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], {**os.environ, **wanted})
    import torch

    torch.set_num_threads(threads)


def take_turns(
    contestants: Mapping[str, Callable[[], object]], *, rounds: int, warmup: int = 3, inner: int = 1
) -> dict[str, list[float]]:
    """CPU seconds per call of every contestant and round; in each round they run one after the
    other.

    Args:
        contestants: Name to a call of no arguments.
        rounds: Counted rounds.
        warmup: Rounds before the counted ones.
        inner: Calls per measurement.
    """
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for number in range(warmup + rounds):
        for name, call in contestants.items():
            started = time.process_time()
            for _ in range(inner):
                call()
            if number >= warmup:
                seconds[name].append((time.process_time() - started) / inner)
    return seconds


def ratios(seconds: Mapping[str, list[float]], base: str) -> dict[str, dict[str, float]]:
    """Median milliseconds per call, and the median over rounds of the ratio to ``base`` in the same
    round.
    """
    found = {}
    for name, values in seconds.items():
        pairs = sorted(value / other for value, other in zip(values, seconds[base], strict=True))
        found[name] = {
            "median_ms": 1e3 * statistics.median(values),
            "ratio": statistics.median(pairs),
            "ratio_low": pairs[len(pairs) // 10],
            "ratio_high": pairs[-1 - len(pairs) // 10],
        }
    return found


def machine() -> dict[str, Any]:
    """What a figure needs beside it to be understood."""
    import torch

    return {
        "date": datetime.date.today().isoformat(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "processor": platform.machine(),
        "cores": os.cpu_count(),
    }


def show(title: str, table: Mapping[str, Mapping[str, float]]) -> None:
    """Print one table of ratios."""
    print(f"\n{title}")
    for name, row in table.items():
        spread = f"({row['ratio_low']:.2f} .. {row['ratio_high']:.2f})"
        print(f"  {name:<42} {row['median_ms']:9.3f} ms   ratio {row['ratio']:.3f} {spread}")


def write(path: Path, record: dict[str, Any]) -> None:
    """Write a result with the command that made it."""
    command = " ".join(["python", *sys.orig_argv[1:]])
    path.write_text(json.dumps({"command": command, **machine(), **record}, indent=1) + "\n")
    print(f"\nwritten: {path.name}")


def parser(description: str, rounds: int) -> argparse.ArgumentParser:
    """The options that all benchmarks share."""
    made = argparse.ArgumentParser(description=description)
    made.add_argument("--rounds", type=int, default=rounds, help="counted rounds")
    made.add_argument("--threads", type=int, default=1, help="threads of the mathematics libraries")
    made.add_argument("--out", type=Path, default=None, help="write the result as JSON")
    return made
