"""The main job: train baselines and candidates under one budget, and say what helped."""

from __future__ import annotations

import dataclasses
import shutil
import tempfile
import warnings
import weakref
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from polytask.candidates.candidate import Candidate
from polytask.candidates.method import Budget
from polytask.candidates.network import ArchitectureFactory
from polytask.candidates.run import execute_run
from polytask.evaluation.comparison import Comparison
from polytask.evaluation.local_executor import local_executor
from polytask.evaluation.planning import (
    PlannedRun,
    as_source,
    choose_candidates,
    make_plan,
    plan_runs,
    seed_list,
)
from polytask.evaluation.run_folder import RunFolder
from polytask.files import write_atomically
from polytask.problems.problem import Problem
from polytask.problems.source import Source
from polytask.problems.splitting import SplitPlan
from polytask.runs.executor import Executor, InlineExecutor
from polytask.runs.progress import SweepObserver, SweepProgress
from polytask.runs.store import RunStore
from polytask.runs.sweep import sweep

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["compare"]


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
        command: The command line, for the record of provenance.

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
    source = as_source(data, targets, drop=drop, split=split, categorical=categorical)
    numbers = seed_list(seeds)
    budget = budget or Budget()
    problem = source.problem(numbers[0])
    chosen = choose_candidates(candidates, problem, architecture)
    folder = RunFolder(_folder(out))
    names = tuple(task.name for task in problem.tasks)
    runs = plan_runs(source, names, chosen, numbers, budget, folder)
    plan = make_plan(source, problem, chosen, numbers, budget, runs, command)
    folder.write_plan(plan)
    _carry_out(
        runs,
        source,
        folder,
        workers=workers,
        executor=executor,
        observer=observer,
        retry_failed=retry_failed,
    )
    comparison = Comparison(plan, folder.read_runs(plan), folder.path)
    if out is None:
        weakref.finalize(comparison, shutil.rmtree, folder.path, ignore_errors=True)
    folder.write_results(comparison.runs)
    if comparison.winner is not None:
        try:
            comparison.save_model(source=source)
        except ValueError as error:
            warnings.warn(f"The winner was not saved: {error}", stacklevel=2)
    return comparison


def _carry_out(
    runs: Sequence[PlannedRun],
    source: Source,
    folder: RunFolder,
    *,
    workers: int | None,
    executor: Executor | None,
    observer: SweepObserver | None,
    retry_failed: bool,
) -> None:
    """Do what is not finished; a run that candidates share is named after the first of them."""
    unique: dict[str, PlannedRun] = {}
    for run in runs:
        unique.setdefault(run.spec.key, run)
    specs = [run.spec for run in unique.values()]
    store = RunStore(folder.store)
    own = None
    try:
        stored = store.states(list(unique))
        if retry_failed:
            store.forget([key for key, status in stored.items() if status == "failed"])
        if executor is None:
            done = sum(status == "done" for status in stored.values())
            executor = own = local_executor(specs, len(specs) - done, workers, folder.logs)
        if isinstance(executor, InlineExecutor):
            # What this process has built it need not read back and build again.
            specs = [dataclasses.replace(spec, source=source) for spec in specs]
        sweep(
            specs,
            {key: run.record for key, run in unique.items()},
            work=execute_run,
            store=store,
            executor=executor,
            observer=observer if observer is not None else SweepProgress(),
            label=lambda spec: unique[spec.key].label,
        )
    finally:
        if own is not None:
            own.shutdown(kill=True)
        store.close()


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
