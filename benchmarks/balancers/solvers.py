"""CPU time of the solvers alone: Gramian (or Jacobian) in, weights (or direction) out.

Run it as::

    python benchmarks/balancers/solvers.py --output benchmarks/balancers/results_solvers.json

Two sorts of gradients: "spread" (independent Gaussian rows with lengths from 1 to 10) and
"conflict" (the same with 99 % of their mean taken away, close to a Pareto-stationary point, which
is what late training looks like).
"""

from __future__ import annotations

import os

# Before the numerical libraries are loaded: one thread, and no busy waiting for others.
os.environ.update(
    OMP_NUM_THREADS="1",
    OPENBLAS_NUM_THREADS="1",
    MKL_NUM_THREADS="1",
    GOMP_SPINCOUNT="0",
    OMP_WAIT_POLICY="PASSIVE",
)

import argparse
import datetime
import json
import platform
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import scipy
import torch
from torch import Tensor

from polytask.balancers import (
    IMTLG,
    MGDA,
    AlignedMTL,
    CAGrad,
    ConFIG,
    DualProj,
    FairGrad,
    GradVac,
    GramBalancer,
    MoDo,
    NashMTL,
    PCGrad,
    SDMGrad,
    UPGrad,
)

#: Goals in milliseconds by number of tasks.
GOALS = {10: 1.0, 100: 20.0}
UPGRAD_GOALS = {10: 1.0, 100: 50.0}

METHODS: dict[str, Callable[[], GramBalancer]] = {
    "AlignedMTL": AlignedMTL,
    "CAGrad": CAGrad,
    "ConFIG": ConFIG,
    "DualProj": DualProj,
    "FairGrad": FairGrad,
    "GradVac": GradVac,
    "IMTLG": IMTLG,
    "MGDA": MGDA,
    "MGDA, Frank-Wolfe": lambda: MGDA(solver="frank_wolfe"),
    "MoDo": MoDo,
    "NashMTL": NashMTL,
    "PCGrad": PCGrad,
    "SDMGrad": SDMGrad,
    "UPGrad": UPGrad,
}


def gradients(num_tasks: int, kind: str) -> Tensor:
    generator = torch.Generator().manual_seed(num_tasks)
    rows = torch.randn(num_tasks, max(2 * num_tasks, 20), dtype=torch.float64, generator=generator)
    rows *= torch.logspace(0, 1, num_tasks, dtype=torch.float64)[:, None]
    return rows - 0.99 * rows.mean(dim=0) if kind == "conflict" else rows


def time_ms(call: Callable[[], object], seconds: float) -> list[float]:
    call()
    times: list[float] = []
    stop = time.perf_counter() + seconds
    while len(times) < 5 or (time.perf_counter() < stop and len(times) < 1000):
        start = time.process_time_ns()
        call()
        times.append((time.process_time_ns() - start) / 1e6)
    return times


def measure(name: str, num_tasks: int, kind: str, seconds: float) -> dict[str, object]:
    jacobian = gradients(num_tasks, kind)
    gram = jacobian @ jacobian.mT
    balancer = METHODS[name]()
    times = time_ms(lambda: balancer.weights(gram), seconds)
    milliseconds = statistics.median(times)
    goals = UPGRAD_GOALS if name == "UPGrad" else GOALS
    goal = goals.get(num_tasks)
    return {
        "method": name,
        "tasks": num_tasks,
        "gradients": kind,
        "median_ms": round(milliseconds, 4),
        "fastest_ms": round(min(times), 4),
        "repeats": len(times),
        "goal_ms": goal,
        "meets_goal": None if goal is None else milliseconds <= goal,
        "converged": balancer.notes.get("converged"),
        "residual": balancer.notes.get("residual"),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--tasks", type=int, nargs="+", default=[2, 10, 40, 100])
    parser.add_argument("--seconds", type=float, default=0.5, help="per method and size")
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows = [
        measure(name, num_tasks, kind, arguments.seconds)
        for kind in ("spread", "conflict")
        for num_tasks in arguments.tasks
        for name in METHODS
    ]
    for row in rows:
        missed = "" if row["meets_goal"] in (True, None) else f"  goal {row['goal_ms']} ms missed"
        print(
            f"{row['gradients']:9}{row['tasks']:4} {row['method']:18}{row['median_ms']:10.3f} ms"
            f"{row['fastest_ms']:10.3f} ms"
            f"{missed}"
        )
    if arguments.output is not None:
        record = {
            "command": " ".join(["python", "benchmarks/balancers/solvers.py", *sys.argv[1:]]),
            "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
            "clock": "time.process_time_ns, one thread, median and fastest of the repeats",
            "load_average": os.getloadavg()[0],
            "versions": {
                "python": platform.python_version(),
                "torch": torch.__version__,
                "numpy": np.__version__,
                "scipy": scipy.__version__,
            },
            "machine": {"processor": platform.machine(), "cores": os.cpu_count()},
            "results": rows,
        }
        arguments.output.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
