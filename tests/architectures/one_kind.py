"""Helpers for the tests of architectures whose tasks all have one kind."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch

from polytask import architectures
from polytask.architectures.descriptors.task_descriptors import TaskDescriptors
from polytask.checks import architectures as checks
from polytask.tasks import Kind, Regression, Task

#: The names of ``polytask.checks.architectures``, here with tasks of one kind.
NAMES = ("a", "price.net", "größe", "forward", "e")


def same_tasks(count: int = 3, kind: Kind | None = None) -> tuple[Task, ...]:
    """Tasks t0, t1, ... of one kind, regression by default."""
    return tuple(Task(f"t{i}", kind or Regression()) for i in range(count))


def check_tasks_of(kind: Kind, monkeypatch) -> None:
    """Let the checks use five tasks of one kind, under the same awkward names."""
    tasks = tuple(Task(name, kind) for name in NAMES)
    monkeypatch.setattr(checks, "example_tasks", lambda: tasks)
    # What a repr of these models names; part of the exports.
    monkeypatch.setattr(architectures, "TaskDescriptors", TaskDescriptors, raising=False)
    monkeypatch.setattr(
        architectures, "__all__", sorted({*architectures.__all__, "TaskDescriptors"})
    )


def fixture_cases(shared: Path, method: str) -> list[tuple[dict, dict, dict]]:
    """Settings, inputs and (value, rtol, atol) of every canonical output of a reference method."""
    index = json.loads((shared / "fixtures" / "index.json").read_text(encoding="utf-8"))
    found = []
    for case in index["cases"]:
        if case["method"] != method:
            continue
        with np.load(shared / "fixtures" / case["file"], allow_pickle=False) as arrays:
            inputs = {n: torch.from_numpy(arrays[e["key"]]) for n, e in case["inputs"].items()}
            outputs = {
                name: (torch.from_numpy(arrays[entry["key"]]), entry["rtol"], entry["atol"])
                for name, entry in case["outputs"].items()
            }
        found.append((case["params"], inputs, outputs))
    assert found
    return found
