"""Small problems, and a method that trains at once."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from polytask.candidates.method import METHOD_FILE, Budget, FitRecord
from polytask.files import write_atomically
from polytask.problems.problem import Problem
from polytask.tasks import Binary, Multiclass, Regression


def tiny_problem(rows: int = 90, seed: int = 0) -> Problem:
    """A number, a yes/no and one of three classes from four numbers."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows, 4)).astype(np.float32)
    targets = {
        "sum": x.sum(1) + 0.1 * rng.normal(size=rows),
        "positive": (x[:, 0] > 0).astype(int),
        "class": (x[:, 1] > 0).astype(int) + (x[:, 2] > 0),
    }
    kinds = {"sum": Regression(), "positive": Binary(), "class": Multiclass(3)}
    return Problem.from_arrays(x, targets, kinds, name="tiny")


class FakeFit:
    """Outputs drawn from the seed; nothing was learned."""

    def __init__(self, problem: Problem, seed: int, quality: float) -> None:
        self.problem, self.seed, self.quality = problem, seed, quality
        self.record = FitRecord(
            seconds=0.5,
            steps=3,
            epochs=1,
            learning_rate=0.1,
            stopped_by="epochs",
            device="cpu",
            notes=("made up",),
        )
        self.num_parameters = 7

    def outputs(self, split) -> Mapping[str, torch.Tensor]:
        generator = torch.Generator().manual_seed(self.seed)
        found = {}
        for task in self.problem.tasks:
            target = split.targets[task.name]
            size = task.kind.output_size
            noise = torch.randn(len(split), size, generator=generator)
            if isinstance(task.kind, Multiclass):
                truth = torch.nn.functional.one_hot(target, size).float()
            elif isinstance(task.kind, Binary):
                truth = 2.0 * target.float().unsqueeze(1) - 1
            else:
                truth = target.unsqueeze(1)
            found[task.name] = truth + noise / self.quality
        return found

    def save(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / METHOD_FILE, '{"method": "fake"}')


class FakeMethod:
    """A method whose scores grow with ``quality``; may fail, or write down every fit.

    Args:
        quality: How much of the truth is in the outputs.
        joint_bonus: Added to the quality where several tasks are learned together.
        fail_on: Seeds on which it raises.
        log: File that gets a line per fit.
        sleep: Seconds per fit.
    """

    def __init__(self, *, quality=1.0, joint_bonus=0.0, fail_on=(), log=None, sleep=0.0):
        self.quality, self.joint_bonus = quality, joint_bonus
        self.fail_on, self.log, self.sleep = tuple(fail_on), log, sleep

    def config(self, num_tasks: int) -> dict[str, Any]:
        bonus = self.joint_bonus if num_tasks > 1 else 0.0
        return {"method": "fake", "quality": self.quality, "bonus": bonus}

    def why_not(self, problem: Problem) -> str | None:
        return None

    def fit(self, problem: Problem, *, seed: int, budget: Budget, rate: float = 1.0) -> FakeFit:
        if self.log is not None:
            with Path(self.log).open("a", encoding="utf-8") as handle:
                handle.write(f"{','.join(t.name for t in problem.tasks)} {seed} {os.getpid()}\n")
        if self.sleep:
            time.sleep(self.sleep)
        if seed in self.fail_on:
            raise RuntimeError(f"seed {seed} cannot be learned")
        bonus = self.joint_bonus if len(problem.tasks) > 1 else 0.0
        return FakeFit(problem, seed, self.quality + bonus + (0.1 if rate == 1 / 3 else 0.0))
