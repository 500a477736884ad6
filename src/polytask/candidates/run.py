"""One run: a method, a group of tasks and a seed, from the data to a record of scores and costs."""

from __future__ import annotations

import dataclasses
import functools
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from polytask.candidates.method import RATE_GRID, Budget, Fitted, FittedOverTime, Method, Resumable
from polytask.code import code_version
from polytask.problems.problem import Problem
from polytask.problems.source import Source
from polytask.problems.splits import SPLIT_NAMES, AnySplit
from polytask.runs.measure import PeakMemory
from polytask.runs.store import run_key

__all__ = ["RunSpec", "execute_run", "score_moments", "spec_key", "spec_record"]

#: A prediction that takes less is timed again and the fastest kept.
SHORTEST_TIMING = 0.1

Scores = dict[str, dict[str, float]]


@dataclass(frozen=True)
class RunSpec:
    """Everything that a process needs to carry out a run.

    Args:
        key: Of the run in the store.
        method: How to learn.
        tasks: The group of tasks, in the problem's order.
        seed: Of the split (where it is redrawn) and of the training.
        budget: The same for all runs of a comparison.
        source: Folder of the saved data, or the source itself where it cannot be saved.
        models: Folder for the fitted models; None keeps none.
        scratch: Folder for what a run that is many trainings has finished; None keeps nothing.
    """

    key: str
    method: Method
    tasks: tuple[str, ...]
    seed: int
    budget: Budget
    source: str | Source
    models: str | None = None
    scratch: str | None = None

    @property
    def hard_limit(self) -> float | None:
        """Seconds after which the run is ended; None for no limit."""
        limit = self.budget.hard_limit
        if limit is None or not isinstance(self.method, Resumable):
            return limit
        return limit * self.method.trainings(len(self.tasks))


def spec_record(
    method: Method, tasks: tuple[str, ...], seed: int, budget: Budget, data: str
) -> dict[str, Any]:
    """What identifies a run, as plain values; its hash is the run's key.

    Args:
        method: How to learn.
        tasks: The group.
        seed: Of the run.
        budget: Of the comparison.
        data: Fingerprint of the source, which covers the split policy.
    """
    return {
        "method": method.config(len(tasks)),
        "tasks": list(tasks),
        "seed": seed,
        "budget": dataclasses.asdict(budget),
        "data": data,
        "code": code_version(),
        "torch": torch.__version__,
    }


def spec_key(record: Mapping[str, Any]) -> str:
    """The key of a run, from ``spec_record``."""
    return run_key(record)


@functools.lru_cache(maxsize=1)
def _load_problem(folder: str, seed: int) -> Problem:
    """The problem of a seed; a worker does the runs of a seed one after the other."""
    from polytask.datasets.source import load_source

    return load_source(Path(folder)).problem(seed)


def execute_run(spec: RunSpec) -> dict[str, Any]:
    """Fit, choose among the trials on validation, read the test rows once, and record everything.

    Returns:
        A record that JSON can hold; undefined numbers are None. A fit with moments has one entry
        more, ``moments``, from ``score_moments``.
    """
    problem = (
        _load_problem(spec.source, spec.seed)
        if isinstance(spec.source, str)
        else spec.source.problem(spec.seed)
    )
    problem = problem.select_tasks(spec.tasks)
    memory = PeakMemory()
    method = spec.method
    if spec.scratch is not None and isinstance(method, Resumable):
        method = method.resuming_in(Path(spec.scratch) / spec.key)
    fitted, validation, trials = tune(method, problem, seed=spec.seed, budget=spec.budget)
    prediction_seconds = _time_prediction(fitted, problem.validation)
    test = score(fitted, problem, problem.test)
    notes = list(fitted.record.notes)
    if not memory.is_exact:
        notes.append("peak memory is that of the whole process, not of this run alone")
    saved = False
    if spec.models is not None:
        try:
            fitted.save(Path(spec.models) / spec.key)
            saved = True
        except ValueError as error:
            notes.append(f"the model was not saved: {error}")
    record = fitted.record
    result: dict[str, Any] = plain(
        {
            "scores": {
                name: {"validation": validation[name], "test": test[name]} for name in spec.tasks
            },
            "labels": {
                name: {part: getattr(problem, part).num_labels(name) for part in SPLIT_NAMES}
                for name in spec.tasks
            },
            "parameters": fitted.num_parameters,
            "train_seconds": sum(trial["seconds"] for trial in trials),
            "predict_seconds_per_1000": prediction_seconds,
            "peak_memory_mb": memory.megabytes,
            "gpu_memory_mb": memory.gpu_megabytes,
            "steps": record.steps,
            "epochs": record.epochs,
            "learning_rate": record.learning_rate,
            "stopped_by": record.stopped_by,
            "device": record.device,
            "trials": trials,
            "curves": record.curves,
            "cosines": record.cosines,
            "saved": saved,
            "notes": notes,
        }
    )
    if isinstance(fitted, FittedOverTime):
        result["moments"] = score_moments(fitted, problem, result["scores"])
    return result


def score_moments(
    fitted: FittedOverTime, problem: Problem, last: Mapping[str, Any]
) -> dict[str, Any]:
    """Scores of every task after every moment, as plain values.

    Args:
        fitted: With its snapshots.
        problem: The tasks.
        last: Per task, split and metric the score after the last moment, which is not computed
            again.

    Returns:
        ``names`` of the moments ``[M]``, and ``scores``: per task, split and metric a list ``[M]``.

    Cost:
        A prediction of the validation and of the test rows per moment but the last.
    """
    earlier = [fitted.at(moment) for moment in range(len(fitted.moments) - 1)]
    found = {
        part: [plain(score(one, problem, getattr(problem, part))) for one in earlier]
        for part in ("validation", "test")
    }
    return {
        "names": list(fitted.moments),
        "scores": {
            task: {
                part: {
                    metric: [*(scores[task][metric] for scores in found[part]), value]
                    for metric, value in metrics.items()
                }
                for part, metrics in parts.items()
            }
            for task, parts in last.items()
        },
    }


def tune(
    method: Method, problem: Problem, *, seed: int, budget: Budget
) -> tuple[Fitted, Scores, list[dict[str, Any]]]:
    """The one tuning policy: ``budget.trials`` learning rates, the best on validation.

    Trials are compared by their mean relative gain in the tasks' primary validation scores over the
    first trial.

    Returns:
        The chosen fit, its validation scores, and one record per trial.
    """
    best: tuple[Fitted, Scores] | None = None
    first: Scores = {}
    best_gain = -math.inf
    trials = []
    for rate in RATE_GRID[: budget.trials]:
        fitted = method.fit(problem, seed=seed, budget=budget, rate=rate)
        scores = score(fitted, problem, problem.validation)
        first = first or scores
        gain = mean_gain(problem, scores, first)
        trials.append(
            {
                "rate": rate,
                "learning_rate": fitted.record.learning_rate,
                "seconds": fitted.record.seconds,
                "gain": gain,
                "validation": {
                    task.name: scores[task.name][task.metric.name] for task in problem.tasks
                },
            }
        )
        if best is None or gain > best_gain:
            best, best_gain = (fitted, scores), gain
    assert best is not None  # a budget has at least one trial
    return (*best, trials)


def mean_gain(problem: Problem, scores: Scores, reference: Scores) -> float:
    """Mean relative gain in the primary score, over the tasks that have one."""
    gains = []
    for task in problem.tasks:
        found, base = scores[task.name][task.metric.name], reference[task.name][task.metric.name]
        if math.isfinite(found) and math.isfinite(base) and base != 0:
            gains.append((found - base) / abs(base) * (1 if task.metric.higher_is_better else -1))
    return sum(gains) / len(gains) if gains else 0.0


def score(fitted: Fitted, problem: Problem, split: AnySplit) -> Scores:
    """Every metric of every task, in the user's units, over the labelled rows of a split."""
    outputs = fitted.outputs(split)
    found = {}
    for task in problem.tasks:
        target = split.piece(task.name).targets[task.name]
        found[task.name] = task.score(outputs[task.name], target)
    return found


def _time_prediction(fitted: Fitted, split: AnySplit) -> float:
    """Seconds per thousand rows, on the validation rows: the test rows are for the scores alone."""
    rows = split.num_rows
    fastest = math.inf
    spent = 0.0
    while spent < SHORTEST_TIMING:
        started = time.perf_counter()
        fitted.outputs(split)
        seconds = time.perf_counter() - started
        fastest, spent = min(fastest, seconds), spent + seconds
    return 1000 * fastest / rows


def plain(value: Any) -> Any:
    """Numbers, text, lists and dicts; NaN and infinity, which JSON lacks, become None."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, (np.floating, np.integer)):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
