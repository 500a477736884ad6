"""From the arguments of ``compare`` to a plan and its runs; everything is checked here."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from polytask.candidates.candidate import (
    BASELINE,
    Candidate,
    candidate_by_name,
    default_candidates,
)
from polytask.candidates.method import Budget
from polytask.candidates.network import ArchitectureFactory
from polytask.candidates.run import RunSpec, spec_key, spec_record
from polytask.evaluation.plan import Plan, PlannedCandidate
from polytask.evaluation.provenance import make_provenance
from polytask.evaluation.run_folder import RunFolder
from polytask.problems.problem import Problem
from polytask.problems.source import FixedSource, Source
from polytask.problems.splitting import SplitPlan
from polytask.tables import TableSource, read_table

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["PlannedRun", "as_source", "choose_candidates", "make_plan", "plan_runs", "seed_list"]


def as_source(
    data: Problem | Source | pd.DataFrame | Path | str,
    targets: Sequence[str] | Mapping[str, str | None] | None,
    *,
    drop: Collection[str],
    split: SplitPlan | None,
    categorical: Collection[str],
) -> Source:
    """The source of what ``compare`` was given.

    Raises:
        ValueError: Options of tables for something that is none, or a table without targets.
        TypeError: The data are nothing that can be compared on.
    """
    if isinstance(data, (Problem, Source)):
        options = {"targets": targets, "drop": drop, "split": split, "categorical": categorical}
        for name, value in options.items():
            if value:
                raise ValueError(f"`{name}` is for tables; a {type(data).__name__} has it inside.")
        return FixedSource(data) if isinstance(data, Problem) else data
    if not targets:
        raise ValueError(
            "A table needs `targets`, for example targets=['price:regression', 'sold:binary']."
        )
    name = "table"
    if isinstance(data, (str, Path)):
        name = Path(data).stem
        data = read_table(Path(data), as_text=categorical)
    if not hasattr(data, "columns"):
        raise TypeError(
            f"`data` must be a table, a path, a Problem or a Source, found {type(data).__name__}."
        )
    return TableSource(data, targets, name=name, drop=drop, split=split, categorical=categorical)


def seed_list(seeds: int | Sequence[int]) -> tuple[int, ...]:
    """The seeds of a number of them, or those given.

    Raises:
        ValueError: None, one twice, or one below 0.
    """
    found = tuple(range(seeds)) if isinstance(seeds, int) else tuple(int(seed) for seed in seeds)
    if not found or len(set(found)) != len(found) or min(found) < 0:
        raise ValueError(
            f"`seeds` must be a positive number or different seeds >= 0, found {seeds!r}."
        )
    return found


def choose_candidates(
    wanted: Sequence[str | Candidate] | None,
    problem: Problem,
    architecture: ArchitectureFactory | None,
) -> tuple[Candidate, ...]:
    """The candidates, the single-task networks first, each checked against the problem.

    Raises:
        ValueError: A name is unknown or used twice, or a candidate cannot learn the problem.
    """
    if wanted is None:
        chosen = list(default_candidates(problem, architecture=architecture))
    else:
        chosen = [
            c if isinstance(c, Candidate) else candidate_by_name(c, architecture=architecture)
            for c in wanted
        ]
    if all(candidate.name != BASELINE for candidate in chosen):
        chosen.insert(0, candidate_by_name(BASELINE, architecture=architecture))
    chosen.sort(key=lambda candidate: candidate.name != BASELINE)
    names = [candidate.name for candidate in chosen]
    for candidate in chosen:
        if names.count(candidate.name) > 1:
            raise ValueError(f"Candidate names must be unique, found {candidate.name!r} twice.")
        reason = candidate.method.why_not(problem)
        if reason is not None:
            raise ValueError(f"Candidate {candidate.name!r} cannot learn this problem: {reason}.")
    return tuple(chosen)


@dataclass(frozen=True)
class PlannedRun:
    """One run that a candidate needs; candidates may need the same one.

    Args:
        candidate: Name of the candidate.
        spec: What a process needs to carry it out.
        record: What identifies it, for the store.
        label: Its name in messages.
    """

    candidate: str
    spec: RunSpec
    record: Mapping[str, Any]
    label: str


def plan_runs(
    source: Source,
    names: tuple[str, ...],
    candidates: Sequence[Candidate],
    seeds: Sequence[int],
    budget: Budget,
    folder: RunFolder,
) -> list[PlannedRun]:
    """The runs of every candidate, seed by seed, so that a process has one problem at a time.

    Args:
        source: The data; they are saved in the folder if that can be.
        names: Of the tasks.
        candidates: In the order of the plan.
        seeds: Of the plan.
        budget: Of every run.
        folder: Where data, models and what searches have finished go.
    """
    fingerprint = source.fingerprint()
    saved = _save_source(source, folder.source(fingerprint))
    models = str(folder.models) if isinstance(saved, str) else None

    def runs_of(candidate: Candidate, seed: int) -> Iterator[PlannedRun]:
        for group in candidate.groups_of(names):
            record = spec_record(candidate.method, group, seed, budget, fingerprint)
            spec = RunSpec(
                spec_key(record),
                candidate.method,
                group,
                seed,
                budget,
                source=saved,
                models=models,
                scratch=str(folder.searches),
            )
            yield PlannedRun(candidate.name, spec, record, _label(candidate, group, names, seed))

    return [run for seed in seeds for candidate in candidates for run in runs_of(candidate, seed)]


def _label(candidate: Candidate, group: tuple[str, ...], names: tuple[str, ...], seed: int) -> str:
    tasks = f" {', '.join(group) if len(group) < 4 else f'{len(group)} tasks'}"
    return f"{candidate.name}{'' if len(group) == len(names) else tasks}, seed {seed}"


def make_plan(
    source: Source,
    problem: Problem,
    candidates: Sequence[Candidate],
    seeds: tuple[int, ...],
    budget: Budget,
    runs: Sequence[PlannedRun],
    command: str | None,
) -> Plan:
    """The record of a comparison that starts now.

    Args:
        source: The data.
        problem: Of the first seed.
        candidates: In the order of the user.
        seeds: Of splits and training.
        budget: Of every run.
        runs: From ``plan_runs``.
        command: The command line; None where a Python program asked for the comparison.
    """
    fingerprint = source.fingerprint()
    summary = problem.summary()
    names = tuple(task.name for task in problem.tasks)
    direction = {task.name: task.metric.higher_is_better for task in problem.tasks}
    keys: dict[str, dict[int, tuple[str, ...]]] = {c.name: {} for c in candidates}
    for run in runs:
        of_seed = keys[run.candidate]
        of_seed[run.spec.seed] = (*of_seed.get(run.spec.seed, ()), run.spec.key)
    plan = Plan(
        name=problem.name,
        baseline=BASELINE,
        tasks=tuple({**t, "higher_is_better": direction[t["name"]]} for t in summary["tasks"]),
        layout=summary["layout"],
        rows=summary["rows"],
        notes=summary["notes"],
        seeds=seeds,
        candidates=tuple(
            PlannedCandidate(c.name, c.groups_of(names), keys[c.name], c.method.config(len(names)))
            for c in candidates
        ),
        budget=dataclasses.asdict(budget),
        resplits=source.resplits,
        source=fingerprint,
        data=source.config(),
        schema=tuple(source.schema()),
        provenance=make_provenance(
            seeds=seeds, fingerprint=fingerprint, budget=dataclasses.asdict(budget), command=command
        ),
    )
    # What follows is made from what is stored, now as after loading.
    return Plan.from_json(plan.to_json())


def _save_source(source: Source, folder: Path) -> str | Source:
    """Folder of the saved data; the source itself if it holds something that no file can hold."""
    if not (folder / "source.json").is_file():
        try:
            source.save(folder)
        except ValueError as error:
            warnings.warn(
                f"The data cannot be saved, so no model to serve will be written: {error}",
                stacklevel=4,
            )
            return source
    return str(folder)
