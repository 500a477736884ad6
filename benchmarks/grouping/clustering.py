"""Clustering very many tasks: memory, time and what is found; and how often the number of groups is
wrong.

"scale" writes float16 data maps with planted groups to a temporary folder (a process of its own),
then clusters them in a fresh process that sees only the file; its peak memory includes the pages
of the file that it has mapped. "count" chooses the number of groups of many small planted problems.

    python benchmarks/grouping/clustering.py                       # 1,000 tasks x 500,000 numbers
    python benchmarks/grouping/clustering.py --tasks 200 --examples 5000
    python benchmarks/grouping/clustering.py --part count --rounds 20 --out count.json
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import timing

FILE = "maps.npy"
#: Kinds of small problems: groups, and the variance between their centres per column, where every
#: task has noise of variance 1 of its own.
PLANTED = [(1, 0.0), (2, 0.1), (2, 0.5), (3, 0.1), (3, 0.5), (5, 0.1), (5, 0.5)]
COLUMNS = 1000


def write_maps(folder: Path, tasks: int, examples: int, epochs: int, groups: int) -> None:
    """Means and deviations ``[T, E N 2]``: a pattern per group, three times as much noise per
    task.
    """
    rng = np.random.default_rng(0)
    shape = (tasks, epochs * examples * 2)
    maps = np.lib.format.open_memmap(folder / FILE, mode="w+", dtype=np.float16, shape=shape)
    middle, scale = np.array([0.7, 0.2], np.float32), np.array([0.1, 0.05], np.float32)
    patterns = rng.standard_normal((groups, shape[1] // 2, 2), dtype=np.float32)
    for task in range(tasks):
        noise = rng.standard_normal(patterns[0].shape, dtype=np.float32)
        values = middle + scale * (0.3 * patterns[task % groups] + 0.9 * noise)
        maps[task] = values.clip(0, 1).ravel()
    maps.flush()


def measure(folder: Path, groups: int, threads: int) -> dict[str, Any]:
    """Cluster what the folder holds: the number of groups given, then chosen."""
    import torch
    from sklearn.metrics import adjusted_rand_score

    from polytask.grouping import cluster

    torch.set_num_threads(threads)
    maps = np.load(folder / FILE, mmap_mode="r")
    truth = np.arange(len(maps)) % groups
    # What importing scikit-learn and a first small problem need is not part of the work.
    cluster(np.asarray(maps[: 2 * groups, :100]), 2)
    found = {}
    for name, number in (("given", groups), ("chosen", None)):
        wall, processor = time.perf_counter(), time.process_time()
        clusters = cluster(maps, number)
        found[name] = {
            "wall_seconds": round(time.perf_counter() - wall, 1),
            "processor_seconds": round(time.process_time() - processor, 1),
            "groups": clusters.num_groups,
            "adjusted_rand_index": round(adjusted_rand_score(truth, clusters.labels), 4),
            "peak_gib_so_far": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2),
        }
    return found


def scale(options: argparse.Namespace) -> dict[str, Any]:
    """Both steps, each in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        arguments = [sys.executable, __file__, "--folder", folder, *_flags(options)]
        started = time.perf_counter()
        subprocess.run([*arguments, "--part", "write"], check=True)
        print(f"written in {time.perf_counter() - started:.0f} s", file=sys.stderr)
        done = subprocess.run(
            [*arguments, "--part", "measure"], check=True, stdout=subprocess.PIPE, text=True
        )
    sizes = {"tasks": options.tasks, "examples": options.examples, "epochs": options.epochs}
    return {**sizes, "planted_groups": options.groups, **json.loads(done.stdout)}


def _flags(options: argparse.Namespace) -> list[str]:
    names = ("tasks", "examples", "epochs", "groups", "threads")
    return [part for name in names for part in (f"--{name}", str(getattr(options, name)))]


def small_problem(kind: str, tasks: int, groups: int, size: float, seed: int) -> np.ndarray:
    """Points ``[T, 1000]`` with noise of variance 1 around what the kind says."""
    rng = np.random.default_rng(seed)
    noise = rng.normal(size=(tasks, COLUMNS))
    if kind == "groups":
        centres = np.sqrt(size) * rng.normal(size=(groups, COLUMNS))
        return centres[np.arange(tasks) % groups] + noise
    if kind == "continuum":
        places = rng.uniform(-1, 1, size=(tasks, 1)) * np.sqrt(3 * size)
        return places * rng.normal(size=(1, COLUMNS)) + noise
    return rng.uniform(0.3, 1.5, size=(tasks, 1)) * noise


def count(options: argparse.Namespace) -> dict[str, Any]:
    """How often each number of groups is chosen, by kind of problem and number of tasks."""
    import torch

    from polytask.grouping import choose_num_groups
    from polytask.grouping.clustering.distances import squared_distances

    torch.set_num_threads(options.threads)
    kinds = [("groups", groups, size) for groups, size in PLANTED]
    kinds += [("continuum", 1, 0.1), ("continuum", 1, 1.0), ("amounts of noise", 1, 0.0)]
    rows = []
    for tasks in (10, 15, 40):
        for kind, groups, size in kinds:
            chosen = Counter(
                choose_num_groups(
                    squared_distances(small_problem(kind, tasks, groups, size, seed)), seed=seed
                ).num_groups
                for seed in range(options.rounds)
            )
            right = chosen[groups] / options.rounds
            rows.append(
                {
                    "kind": kind,
                    "tasks": tasks,
                    "groups": groups,
                    "variance_between": size,
                    "right": round(right, 3),
                    "chosen": {str(number): chosen[number] for number in sorted(chosen)},
                }
            )
            print(rows[-1], flush=True)
    return {"rounds": options.rounds, "rows": rows}


def main() -> None:
    parser = timing.parser(__doc__.split("\n")[0], rounds=50)
    parser.add_argument("--part", choices=["scale", "count", "write", "measure"], default="scale")
    parser.add_argument("--tasks", type=int, default=1000)
    parser.add_argument("--examples", type=int, default=50_000)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--groups", type=int, default=20)
    parser.add_argument("--folder", type=Path)
    parser.set_defaults(threads=2)
    options = parser.parse_args()
    if options.part == "write":
        write_maps(options.folder, options.tasks, options.examples, options.epochs, options.groups)
        return
    if options.part == "measure":
        print(json.dumps(measure(options.folder, options.groups, options.threads)))
        return
    timing.prepare(options.threads)
    record = scale(options) if options.part == "scale" else count(options)
    record["load"] = [round(load, 1) for load in os.getloadavg()]
    print(json.dumps(record, indent=1))
    if options.out:
        timing.write(options.out, record)


if __name__ == "__main__":
    main()
