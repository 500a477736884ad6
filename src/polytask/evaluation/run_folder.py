"""The folder of a comparison: where plan, data, runs, results, models and report lie."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from polytask.evaluation.plan import Plan
from polytask.evaluation.results import Run
from polytask.files import write_atomically
from polytask.runs.store import RunStore

__all__ = ["RunFolder"]

#: Of a run's result, what the lines of the results file leave out: it is per task, or long.
NOT_IN_LINES = ("scores", "labels", "curves", "cosines", "moments")
HOW_IT_ENDED = ("status", "attempts", "error", "result")


@dataclass(frozen=True)
class RunFolder:
    """Where the files of a comparison are, and how they are read and written.

    Args:
        path: The folder.
    """

    path: Path

    @property
    def plan(self) -> Path:
        """What was asked for."""
        return self.path / "comparison.json"

    @property
    def store(self) -> Path:
        """The runs, finished or not."""
        return self.path / "runs.sqlite"

    @property
    def results(self) -> Path:
        """A line per finished run and task."""
        return self.path / "results.jsonl"

    @property
    def models(self) -> Path:
        """A folder per finished run, named by its key."""
        return self.path / "models"

    @property
    def model(self) -> Path:
        """The winner's model."""
        return self.path / "model"

    @property
    def searches(self) -> Path:
        """What runs that are many trainings have finished."""
        return self.path / "searches"

    @property
    def logs(self) -> Path:
        """What worker processes print."""
        return self.path / "logs"

    @property
    def report(self) -> Path:
        """The HTML report."""
        return self.path / "report.html"

    def source(self, fingerprint: str) -> Path:
        """The data of a fingerprint."""
        return self.path / "sources" / fingerprint

    def read_plan(self) -> Plan:
        """Read the plan.

        Raises:
            ValueError: There is none, it is damaged, or of another format.
        """
        if not self.plan.is_file():
            raise ValueError(
                f"{self.path} holds no comparison ({self.plan.name} is missing); give the --out"
                " folder of `polytask compare`."
            )
        try:
            return Plan.from_json(self.plan.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(f"{self.plan} {error}") from error

    def write_plan(self, plan: Plan) -> None:
        """Write the plan, atomically."""
        write_atomically(self.plan, plan.to_json())

    def read_runs(self, plan: Plan) -> dict[str, Run]:
        """The runs of a plan, by key; those that the store does not know are pending.

        The folder may be someone else's, or one that must not change: nothing is written to it.

        Raises:
            ValueError: There is no store, it is damaged, or it is none of Polytask's.
        """
        if not self.store.is_file():
            raise ValueError(
                f"{self.path} holds a plan but no runs ({self.store.name} is missing); the command"
                " that made it trains them again."
            )
        store = RunStore(self.store, read_only=True)
        try:
            return _runs(plan, store)
        finally:
            store.close()

    def write_results(self, runs: Mapping[str, Run]) -> Path:
        """Write the results file, atomically."""
        write_atomically(self.results, _text(runs))
        return self.results


def _runs(plan: Plan, store: RunStore) -> dict[str, Run]:
    users: dict[str, list[str]] = {}
    facts: dict[str, tuple[tuple[str, ...], int]] = {}
    for candidate in plan.candidates:
        for seed, keys in candidate.runs.items():
            for group, key in zip(candidate.groups, keys, strict=True):
                users.setdefault(key, []).append(candidate.name)
                facts[key] = (group, seed)
    stored = {run.key: run for run in store.runs(list(users))}
    runs = {}
    for key, names in users.items():
        kept = stored.get(key)
        ended = {} if kept is None else {name: getattr(kept, name) for name in HOW_IT_ENDED}
        runs[key] = Run(key, tuple(names), *facts[key], **ended)
    return runs


def _text(runs: Mapping[str, Run]) -> str:
    lines = (json.dumps(record, ensure_ascii=False) for record in _records(runs))
    return "".join(line + "\n" for line in lines)


def _records(runs: Mapping[str, Run]) -> Iterator[dict[str, Any]]:
    """One object per finished run and task."""
    for run in runs.values():
        if run.result is None:
            continue
        facts = {name: value for name, value in run.result.items() if name not in NOT_IN_LINES}
        moments = run.result.get("moments")
        for task in run.tasks:
            over_time = (
                {}
                if moments is None
                else {"moments": {**moments, "scores": moments["scores"][task]}}
            )
            yield {
                "run": run.key,
                "candidates": list(run.candidates),
                "task": task,
                "seed": run.seed,
                "group": list(run.tasks),
                "scores": run.result["scores"][task],
                "labels": run.result["labels"][task],
                **facts,
                **over_time,
            }
