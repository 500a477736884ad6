"""The main job: train baselines and candidates under one budget, and say what helped."""

from __future__ import annotations

import dataclasses
import json
import os
import pickle
import shutil
import tempfile
import warnings
import weakref
from collections.abc import Collection, Mapping, Sequence
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
from polytask.candidates.run import RunSpec, plain, spec_key, spec_record
from polytask.evaluation.comparison import (
    FORMAT,
    MODELS_FOLDER,
    PLAN_FILE,
    SEARCHES_FOLDER,
    SOURCES_FOLDER,
    STORE_FILE,
    Comparison,
)
from polytask.evaluation.provenance import make_provenance
from polytask.files import write_atomically
from polytask.problems.problem import Problem
from polytask.runs.executor import Executor, InlineExecutor, LocalExecutor, cpu_count
from polytask.runs.progress import SweepObserver, SweepProgress
from polytask.runs.store import RunStore
from polytask.runs.sweep import sweep

if TYPE_CHECKING:
    import pandas as pd

    from polytask.problems.source import Source
    from polytask.problems.splitting import SplitPlan

__all__ = ["compare"]

#: More workers than this need more memory than they are worth unless they are asked for.
MOST_WORKERS = 8


def compare(  # noqa: PLR0913 - the one call that a user makes; each argument is a question of its own
    data: Problem | Source | pd.DataFrame | Path | str,
    targets: Sequence[str] | Mapping[str, str | None] | None = None,
    *,
    candidates: Sequence[str | Candidate] | None = None,
    seeds: int | Sequence[int] = 5,
    out: Path | str | None = None,
    budget: Budget | None = None,
    architecture: ArchitectureFactory | None = None,
    drop: Collection[str] = (),
    split: SplitPlan | None = None,
    categorical: Collection[str] = (),
    workers: int | None = None,
    executor: Executor | None = None,
    observer: SweepObserver | None = None,
    retry_failed: bool = False,
    command: str | None = None,
) -> Comparison:
    """Find out by measurement whether to learn tasks together, how, and what it gains.

    Every candidate and seed is trained under one budget; choices are made on validation rows; the
    test rows are read once per run. Finished runs are kept in ``out`` and never trained twice, so
    the same call continues after a crash, and a call with more candidates or seeds trains only what
    is new. Ctrl-C ends early and returns what is finished.

    Args:
        data: A table (DataFrame, or path of a CSV or Parquet file), a ``Problem``, or a ``Source``.
        targets: Of a table: ``["price:regression", "sold:binary", "grade"]`` or ``{"price":
            "regression"}``.
        candidates: Names (see ``candidate_by_name``) or ``Candidate`` objects; None means the usual
            ones. The single-task networks are always among them.
        seeds: Number of seeds, or the seeds themselves. A table draws its split anew for every
            seed.
        out: Folder for runs, results, models and report; None uses a temporary one that lives as
            long as the result.
        budget: What every run may spend; the same for all candidates.
        architecture: From a problem to the model of the network candidates that are named; None
            means the default.
        drop: Columns of a table that are no inputs.
        split: How the rows of a table are split.
        categorical: Columns of numbers that are codes of categories.
        workers: Processes; None means one per core (at most 8), or one per GPU.
        executor: Who carries out runs instead of local processes.
        observer: Told about every run; by default progress is shown on standard error.
        retry_failed: Forget how often runs have failed and start them again.
        command: The command line, for the card.

    Returns:
        The comparison, also where runs failed or Ctrl-C ended it early (see ``is_complete`` and
        ``failures``).

    Raises:
        ValueError: Something is wrong with the data or the arguments; found before any training.
        OSError: ``out`` cannot be written.

    Example:
        >>> import numpy as np, pandas as pd
        >>> from polytask.candidates import Budget
        >>> from polytask.evaluation import compare
        >>> size = np.linspace(40, 200, 60)
        >>> houses = pd.DataFrame({"size": size, "price": 3 * size, "large": size > 120})
        >>> result = compare(
        ...     houses, ["price:regression", "large:binary"], candidates=["equal"],
        ...     seeds=1, budget=Budget(epochs=1), workers=0,
        ... )
        >>> result
        Comparison('table': 2 candidates, 2 tasks, 1 seeds, 3 of 3 runs done)
    """
    source = _as_source(data, targets, drop=drop, split=split, categorical=categorical)
    seed_list = _seed_list(seeds)
    budget = budget or Budget()
    problem = source.problem(seed_list[0])
    chosen = _candidates(candidates, problem, architecture)
    folder = _folder(out)
    plan, specs, records = _plan(source, problem, chosen, seed_list, budget, folder, command)
    write_atomically(folder / PLAN_FILE, json.dumps(plan, ensure_ascii=False, indent=1))
    store = RunStore(folder / STORE_FILE)
    try:
        if retry_failed:
            stored = store.runs(list(records))
            store.forget([run.key for run in stored if run.status == "failed"])
        _carry_out(
            specs,
            records,
            plan,
            store,
            workers=workers,
            executor=executor,
            observer=observer,
            folder=folder,
        )
        comparison = Comparison.from_store(plan, store, folder)
    finally:
        store.close()
    if out is None:
        weakref.finalize(comparison, shutil.rmtree, folder, ignore_errors=True)
    comparison.export_results()
    if comparison.winner is not None:
        _save_winner(comparison)
    return comparison


def _carry_out(
    specs: list[RunSpec],
    records: Mapping[str, Mapping[str, Any]],
    plan: Mapping[str, Any],
    store: RunStore,
    *,
    workers: int | None,
    executor: Executor | None,
    observer: SweepObserver | None,
    folder: Path,
) -> None:
    """Run what is not finished."""
    done = {run.key for run in store.runs(list(records)) if run.status == "done"}
    todo = len(records) - len(done)
    labels = _labels(plan)
    own = executor is None
    if executor is None:
        executor = _local(specs, todo, workers, folder)
    try:
        sweep(
            specs,
            records,
            store=store,
            executor=executor,
            observer=observer if observer is not None else SweepProgress(),
            label=lambda spec: labels[spec.key],
        )
    finally:
        if own:
            executor.shutdown(kill=True)


def _local(specs: Sequence[RunSpec], todo: int, workers: int | None, folder: Path) -> Executor:
    """Local processes, or this process where the work cannot travel to another one."""
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
    count = min(workers or len(devices) or min(cpu_count(), MOST_WORKERS), todo)
    limits = [limit for spec in specs if (limit := spec.hard_limit) is not None]
    return LocalExecutor(
        workers=count,
        time_limit=max(limits) if limits else None,
        devices=devices,
        log=folder / "logs",
    )


def _devices() -> list[str]:
    """Numbers of the GPUs that this process may use."""
    import torch

    if not torch.cuda.is_available():
        return []
    named = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    return named or [str(number) for number in range(torch.cuda.device_count())]


def _cannot_travel(specs: Sequence[RunSpec]) -> str:
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


def _as_source(
    data: Problem | Source | pd.DataFrame | Path | str,
    targets: Sequence[str] | Mapping[str, str | None] | None,
    *,
    drop: Collection[str],
    split: SplitPlan | None,
    categorical: Collection[str],
) -> Source:
    from polytask.problems import FixedSource, Source
    from polytask.tables import TableSource

    if isinstance(data, (Problem, Source)):
        for name, value in (
            ("targets", targets),
            ("drop", drop),
            ("split", split),
            ("categorical", categorical),
        ):
            if value:
                raise ValueError(f"`{name}` is for tables; a {type(data).__name__} has it inside.")
        return FixedSource(data) if isinstance(data, Problem) else data
    if targets is None or not targets:
        raise ValueError(
            "A table needs `targets`, for example targets=['price:regression', 'sold:binary']."
        )
    name = "table"
    if isinstance(data, (str, Path)):
        from polytask.tables import read_table

        name = Path(data).stem
        data = read_table(Path(data), as_text=categorical)
    if not hasattr(data, "columns"):
        raise TypeError(
            f"`data` must be a table, a path, a Problem or a Source, found {type(data).__name__}."
        )
    return TableSource(data, targets, name=name, drop=drop, split=split, categorical=categorical)


def _seed_list(seeds: int | Sequence[int]) -> tuple[int, ...]:
    found = tuple(range(seeds)) if isinstance(seeds, int) else tuple(int(seed) for seed in seeds)
    if not found or len(set(found)) != len(found) or min(found) < 0:
        raise ValueError(
            f"`seeds` must be a positive number or different seeds >= 0, found {seeds!r}."
        )
    return found


def _candidates(
    wanted: Sequence[str | Candidate] | None,
    problem: Problem,
    architecture: ArchitectureFactory | None,
) -> tuple[Candidate, ...]:
    """The candidates, the single-task networks first, each checked against the problem."""
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


def _folder(out: Path | str | None) -> Path:
    """The output folder, known to be writable before anything is trained."""
    if out is None:
        return Path(tempfile.mkdtemp(prefix="polytask-"))
    folder = Path(out)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / ".writable", "")
        (folder / ".writable").unlink()
    except OSError as error:
        reason = error.strerror or error
        raise OSError(
            f"Cannot write to the output folder {folder} ({reason}); choose another `out`."
        ) from error
    return folder


def _plan(
    source: Source,
    problem: Problem,
    candidates: Sequence[Candidate],
    seeds: tuple[int, ...],
    budget: Budget,
    folder: Path,
    command: str | None,
) -> tuple[dict[str, Any], list[RunSpec], dict[str, dict[str, Any]]]:
    """What is to be done: the record of the comparison, and its runs (each once, seed by seed)."""
    fingerprint = source.fingerprint()
    place = _save_source(source, folder / SOURCES_FOLDER / fingerprint)
    names = tuple(task.name for task in problem.tasks)
    specs: dict[str, RunSpec] = {}
    records: dict[str, dict[str, Any]] = {}
    listed: list[dict[str, Any]] = [
        {
            "name": c.name,
            "groups": [list(g) for g in c.groups_of(names)],
            "runs": {},
            "method": c.method.config(len(names)),
        }
        for c in candidates
    ]
    for seed in seeds:
        for candidate, entry in zip(candidates, listed, strict=True):
            keys = []
            for group in candidate.groups_of(names):
                record = spec_record(candidate.method, group, seed, budget, fingerprint)
                key = spec_key(record)
                keys.append(key)
                models = None if not isinstance(place, str) else str(folder / MODELS_FOLDER)
                scratch = str(folder / SEARCHES_FOLDER)
                specs.setdefault(
                    key, RunSpec(key, candidate.method, group, seed, budget, place, models, scratch)
                )
                records.setdefault(key, record)
            entry["runs"][str(seed)] = keys
    summary = problem.summary()
    metrics = {task.name: task.metric for task in problem.tasks}
    plan = {
        "format": FORMAT,
        "name": problem.name,
        "baseline": BASELINE,
        "tasks": [
            {**t, "higher_is_better": metrics[t["name"]].higher_is_better} for t in summary["tasks"]
        ],
        "layout": summary["layout"],
        "rows": summary["rows"],
        "notes": summary["notes"],
        "seeds": list(seeds),
        "candidates": listed,
        "budget": dataclasses.asdict(budget),
        "resplits": source.resplits,
        "source": fingerprint,
        "data": source.config(),
        "schema": source.schema(),
        "card": make_provenance(
            seeds=seeds, fingerprint=fingerprint, budget=dataclasses.asdict(budget), command=command
        ),
    }
    return json.loads(json.dumps(plain(plan), default=str)), list(specs.values()), records


def _save_source(source: Source, folder: Path) -> str | Source:
    """Folder of the saved data; the source itself if it holds something that no file can hold."""
    if not (folder / "source.json").is_file():
        try:
            source.save(folder)
        except ValueError as error:
            warnings.warn(
                f"The data cannot be saved, so no model to serve will be written: {error}",
                stacklevel=5,
            )
            return source
    return str(folder)


def _labels(plan: Mapping[str, Any]) -> dict[str, str]:
    """Name of each run for messages; a run that candidates share has the first one's."""
    labels: dict[str, str] = {}
    for candidate in plan["candidates"]:
        for seed, keys in candidate["runs"].items():
            for group, key in zip(candidate["groups"], keys, strict=True):
                whole = len(group) == len(plan["tasks"])
                tasks = (
                    ""
                    if whole
                    else f" {', '.join(group) if len(group) < 4 else f'{len(group)} tasks'}"
                )
                labels.setdefault(key, f"{candidate['name']}{tasks}, seed {seed}")
    return labels


def _save_winner(comparison: Comparison) -> None:
    try:
        comparison.save_model()
    except ValueError as error:
        warnings.warn(f"The winner was not saved: {error}", stacklevel=3)
