"""Fixed weights found by search: many trainings, the best on validation is kept.

Shape legend: N rows, C output size, T tasks.
"""

from __future__ import annotations

import copy
import dataclasses
import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

from torch import Tensor

from polytask.balancers import Balancer, FixedWeights
from polytask.candidates.method import ArchitectureFactory, Budget, FitRecord, Fitted, Method
from polytask.candidates.naming import SHARED, Named, NamedMethod, plain_name
from polytask.candidates.network import NetworkMethod
from polytask.candidates.run import Scores, mean_gain, plain, score
from polytask.candidates.weight_proposals import (
    Search,
    Weights,
    load_optuna,
    search_grid,
    search_optuna,
)
from polytask.config import rebuildable_repr
from polytask.problems.problem import Problem
from polytask.problems.splits import AnySplit
from polytask.runs.store import run_key

__all__ = ["BalancedMethod", "WeightSearch"]

SEARCH = "weight-search"
SEARCHED = "searched weights"
#: Tasks whose chosen weights stand in a note; all are in the record's curves.
MOST_NAMED = 6


@runtime_checkable
class BalancedMethod(Method, Protocol):
    """A method whose task weights come from its attribute ``balancer``."""

    balancer: Balancer | None


class WeightSearch(NamedMethod):
    """Searches fixed task weights on the simplex; every evaluation is a whole training.

    ``w* = argmax_w (1/T) sum_t s_t (M_t(w) - M_t(1/T)) / |M_t(1/T)|``, where ``M_t`` is task t's
    primary score on the validation rows and ``s_t`` is 1 if higher is better, else -1. Equal
    weights are always evaluated, first. The search never sees the test rows.

    With ``strategy="grid"`` half of the evaluations are spread over the simplex: as a grid if one
    with steps of half an equal weight is affordable (20 evaluations: up to three tasks), as
    quasi-random points otherwise. The other half refines the best so far with halving steps.

    A single task has nothing to weigh: there the method is the one it searches for.

    Args:
        evaluations: Trainings per fit, each with the epochs, patience and time of the run's
            budget; a grid search ends earlier once its steps are below 1/500 of an equal weight.
        strategy: "grid", or "optuna", which needs the extra ``polytask[tune]``.
        method: What is trained, without a balancer; None means ``NetworkMethod()``.
        folder: Where finished evaluations are written down, so that the same search after a crash
            trains only the rest (and the best of the finished ones once more, for its model); None
            keeps them in memory. ``compare`` gives every run a folder.

    Cost: ``evaluations`` trainings. The record's seconds are those of all of them; its steps and
        epochs are those of the chosen training. ``curves["search"]`` has every evaluation.

    References:
        A. Kendall, Y. Gal, R. Cipolla, Multi-Task Learning Using Uncertainty to Weigh Losses, CVPR
        2018, https://arxiv.org/abs/1705.07115, Table 1 (weights by grid search).
    """

    def __init__(
        self,
        *,
        evaluations: int = 20,
        strategy: Literal["grid", "optuna"] = "grid",
        method: BalancedMethod | None = None,
        folder: Path | str | None = None,
    ) -> None:
        if evaluations < 2:
            raise ValueError(
                "`evaluations` must be >= 2 (equal weights and something to compare them with),"
                f" found {evaluations}."
            )
        if strategy not in ("grid", "optuna"):
            raise ValueError(f"`strategy` must be 'grid' or 'optuna', found {strategy!r}.")
        if method is not None and not isinstance(method, BalancedMethod):
            raise TypeError(
                "`method` must be a method with a balancer, such as NetworkMethod(), found"
                f" {method!r}."
            )
        if method is not None and method.balancer is not None:
            raise ValueError(
                "`method` must have no balancer, because the search sets it; found"
                f" {method.balancer!r}."
            )
        if strategy == "optuna":
            load_optuna()
        self.evaluations = evaluations
        self.strategy = strategy
        self.method = method
        self.folder = folder

    def __repr__(self) -> str:
        return rebuildable_repr(self)

    @classmethod
    def named(cls, name: str, architecture: ArchitectureFactory | None) -> Named | None:
        """The usual search, "weight-search" or as tables show it."""
        if plain_name(name.removeprefix(SHARED)) not in map(plain_name, (SEARCH, SEARCHED)):
            return None
        method = cls(method=NetworkMethod(architecture=architecture))
        return f"{SHARED} {SEARCHED}", method, None

    @classmethod
    def names(cls) -> Sequence[str]:
        return (SEARCH,)

    def trainings(self, num_tasks: int) -> int:
        """Trainings that a fit may take; see ``Resumable``."""
        return 1 if num_tasks == 1 else self.evaluations

    def resuming_in(self, folder: Path) -> WeightSearch:
        """The same search with its journal in a folder; see ``Resumable``."""
        found = copy.copy(self)
        found.folder = folder
        return found

    def config(self, num_tasks: int) -> dict[str, Any]:
        inner = self._method().config(num_tasks)
        if num_tasks == 1:
            return inner
        record = {
            "method": "weight search",
            "strategy": self.strategy,
            "evaluations": self.evaluations,
            "of": inner,
        }
        if self.strategy == "optuna":
            record["optuna"] = load_optuna().__version__
        return record

    def why_not(self, problem: Problem) -> str | None:
        """Why the method that is searched for cannot learn this problem, or None if it can."""
        return self._method().why_not(problem)

    def fit(self, problem: Problem, *, seed: int, budget: Budget, rate: float = 1.0) -> Fitted:
        """Train with one vector of weights after the other; see ``Method.fit``."""
        if len(problem.tasks) == 1:
            return self._method().fit(problem, seed=seed, budget=budget, rate=rate)
        trials = _Trials(self._method(), problem, seed=seed, budget=budget, rate=rate)
        if self.folder is not None:
            identity = {
                "method": self.config(len(problem.tasks)),
                "problem": problem.fingerprint(),
                "seed": seed,
                "budget": dataclasses.asdict(budget),
                "rate": rate,
            }
            trials.journal = _Journal(Path(self.folder) / f"search-{run_key(identity)[:12]}.jsonl")
        search: Search = search_optuna if self.strategy == "optuna" else search_grid
        chosen = search(
            trials.gain_of,
            num_tasks=len(problem.tasks),
            evaluations=self.evaluations,
            seed=seed,
        )
        return trials.result(chosen)

    def _method(self) -> BalancedMethod:
        return self.method if self.method is not None else NetworkMethod()


@dataclass(frozen=True)
class _Evaluation:
    """One training of a search.

    Args:
        weights: It was trained with.
        scores: On validation.
        seconds: It took.
        notes: Of its record.
    """

    weights: Weights
    scores: Scores
    seconds: float
    notes: tuple[str, ...]


class _Journal:
    """Finished evaluations, one JSON line each, on the disk before the next training begins.

    Args:
        path: Of the file; read if it exists. A last line that a crash has torn is cut off.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.found: dict[Weights, _Evaluation] = {}
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = path.read_bytes().splitlines(keepends=True) if path.is_file() else []
        whole = 0
        for number, line in enumerate(lines, start=1):
            try:
                evaluation = _parse(line)
            except (ValueError, KeyError, TypeError) as error:
                if number == len(lines):
                    os.truncate(path, whole)
                    break
                raise ValueError(
                    f"Line {number} of {path} is damaged; delete the file to search anew."
                ) from error
            self.found[evaluation.weights] = evaluation
            whole += len(line)

    def add(self, evaluation: _Evaluation) -> None:
        """Write an evaluation down."""
        self.found[evaluation.weights] = evaluation
        line = json.dumps(plain(dataclasses.asdict(evaluation)), ensure_ascii=False)
        with self.path.open("a", encoding="utf-8") as handle:
            handle.write(line + "\n")
            handle.flush()
            os.fsync(handle.fileno())


def _parse(line: bytes) -> _Evaluation:
    if not line.endswith(b"\n"):
        raise ValueError("the line has no end")
    record = json.loads(line)
    scores = {
        task: {name: math.nan if value is None else value for name, value in metrics.items()}
        for task, metrics in record["scores"].items()
    }
    return _Evaluation(tuple(record["weights"]), scores, record["seconds"], tuple(record["notes"]))


class _Trials:
    """The trainings of one search; keeps the best model so far.

    Args:
        method: What is trained.
        problem: Its tasks.
        seed: The same for every training, so that only the weights differ.
        budget: Of every training.
        rate: Factor on the learning rate.
    """

    def __init__(
        self, method: BalancedMethod, problem: Problem, *, seed: int, budget: Budget, rate: float
    ) -> None:
        self.method = method
        self.problem = problem
        self.arguments: dict[str, Any] = {"seed": seed, "budget": budget, "rate": rate}
        self.journal: _Journal | None = None
        self.evaluations: list[_Evaluation] = []
        self.gains: list[float] = []
        self._best: tuple[Weights, Fitted] | None = None

    def gain_of(self, weights: Weights) -> float:
        """Mean relative gain over the first weights, from the journal or by training."""
        known = self.journal.found.get(weights) if self.journal is not None else None
        fitted: Fitted | None = None
        if known is None:
            fitted = self._train(weights)
            known = _Evaluation(
                weights,
                score(fitted, self.problem, self.problem.validation),
                fitted.record.seconds,
                fitted.record.notes,
            )
            if self.journal is not None:
                self.journal.add(known)
        self.evaluations.append(known)
        gain = mean_gain(self.problem, known.scores, self.evaluations[0].scores)
        if fitted is not None and gain > max(self.gains, default=-math.inf):
            self._best = (weights, fitted)
        self.gains.append(gain)
        return gain

    def _train(self, weights: Weights) -> Fitted:
        method = copy.copy(self.method)
        method.balancer = FixedWeights(values=weights)
        return method.fit(self.problem, **self.arguments)

    def result(self, chosen: Weights) -> Fitted:
        """The model of the chosen weights, with the record of the whole search.

        An evaluation that was read from the journal has left no model, so it is trained again: the
        same seed gives the same model.
        """
        if self._best is None or self._best[0] != chosen:
            self._best = (chosen, self._train(chosen))
        return _Searched(self._best[1], self._record(self._best[1].record, chosen))

    def _record(self, own: FitRecord, chosen: Weights) -> FitRecord:
        place = next(i for i, e in enumerate(self.evaluations) if e.weights == chosen)
        seconds = sum(e.seconds for e in self.evaluations)
        names = [task.name for task in self.problem.tasks]
        search = {
            "weights": {
                name: [e.weights[t] for e in self.evaluations] for t, name in enumerate(names)
            },
            "gain": list(self.gains),
            "seconds": [e.seconds for e in self.evaluations],
            "chosen": place,
        }
        shown = ""
        if len(names) <= MOST_NAMED:
            pairs = zip(names, chosen, strict=True)
            shown = f" ({', '.join(f'{name} {weight:.3g}' for name, weight in pairs)})"
        note = (
            f"weights searched on validation: {len(self.evaluations)} trainings took {seconds:.1f}"
            f" s, the chosen one{shown} {self.evaluations[place].seconds:.1f} s of them"
        )
        # A search is as repeatable as the least repeatable of its trainings.
        notes = dict.fromkeys(note for e in self.evaluations for note in e.notes)
        return dataclasses.replace(
            own, seconds=seconds, curves={**own.curves, "search": search}, notes=(*notes, note)
        )


@dataclass(frozen=True)
class _Searched:
    """A model that a search has chosen; its file is that of the method that was searched for.

    Args:
        fitted: The model.
        record: Of the whole search.
    """

    fitted: Fitted
    record: FitRecord

    @property
    def num_parameters(self) -> int:
        return self.fitted.num_parameters

    def outputs(self, split: AnySplit) -> Mapping[str, Tensor]:
        return self.fitted.outputs(split)

    def save(self, folder: Path) -> None:
        """Write the chosen model; ``load_fitted`` gives it with the record of its own training."""
        self.fitted.save(folder)
