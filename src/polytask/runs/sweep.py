"""The sweep: brings every wanted run to an end, whatever happens to single ones."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, field
from typing import Any

from polytask.candidates.run import RunSpec, execute_run
from polytask.runs.executor import Executor, WorkerDied
from polytask.runs.progress import SweepObserver
from polytask.runs.store import Lease, RunStore
from polytask.runs.worker import Failure

__all__ = ["SweepOutcome", "sweep"]

#: Seconds between two looks at runs that another process works on.
POLL_SECONDS = 0.5


@dataclass
class SweepOutcome:
    """How a sweep ended.

    Args:
        interrupted: Whether Ctrl-C ended it before all runs had ended.
        reused: Runs that were finished before it began.
        trained: Runs that it finished.
        failed: Runs that ended with an error.
    """

    interrupted: bool = False
    reused: int = 0
    trained: int = 0
    failed: list[str] = field(default_factory=list)


@dataclass
class _Underway:
    spec: RunSpec
    started: float


def sweep(
    specs: Sequence[RunSpec],
    records: Mapping[str, Mapping[str, Any]],
    *,
    store: RunStore,
    executor: Executor,
    observer: SweepObserver,
    label: Callable[[RunSpec], str],
    retry_failed: bool = True,
) -> SweepOutcome:
    """Carry out all runs that are not finished yet; a failing one does not end the sweep.

    Args:
        specs: The runs, in the order in which they should be done.
        records: Key of each run to its record for the store.
        store: Where results go as soon as a run has ended.
        executor: Who does the work; it is left running.
        observer: Told about every run.
        label: From a run to its name in progress messages.
        retry_failed: Whether runs that failed in an earlier sweep get another chance (up to the cap
            on attempts).

    Returns:
        What became of the runs. Ctrl-C gives back the runs under way and sets ``interrupted``.
    """
    by_key = {spec.key: spec for spec in specs}
    store.want({key: records[key] for key in by_key}, retry_failed=retry_failed)
    outcome = SweepOutcome(reused=store.counts().get("done", 0))
    observer.on_start(total=len(by_key), done=outcome.reused)
    underway: dict[Future[dict[str, Any]], _Underway] = {}
    try:
        with Lease(store):
            while True:
                _fill(
                    underway, by_key, store=store, executor=executor, observer=observer, label=label
                )
                if underway:
                    finished, _ = wait(underway, timeout=POLL_SECONDS, return_when=FIRST_COMPLETED)
                    for future in finished:
                        _settle(future, underway.pop(future), store, observer, label, outcome)
                elif _others_at_work(store):
                    time.sleep(POLL_SECONDS)
                else:
                    break
    except KeyboardInterrupt:
        outcome.interrupted = True
        executor.shutdown(kill=True)
        store.release([item.spec.key for item in underway.values()])
    outcome.failed = [run.key for run in store.runs(list(by_key)) if run.status == "failed"]
    observer.on_end(interrupted=outcome.interrupted)
    return outcome


def _fill(
    underway: dict[Future[dict[str, Any]], _Underway],
    by_key: Mapping[str, RunSpec],
    *,
    store: RunStore,
    executor: Executor,
    observer: SweepObserver,
    label: Callable[[RunSpec], str],
) -> None:
    """Claim runs until every slot of the executor is busy."""
    while len(underway) < executor.slots:
        claim = store.claim()
        if claim is None:
            return
        spec = by_key[claim.key]
        observer.on_run_start(label(spec), attempt=claim.attempt)
        started = time.monotonic()
        try:
            future = executor.submit(execute_run, spec)
        except BaseException:
            store.release([claim.key])
            raise
        underway[future] = _Underway(spec, started)


def _settle(
    future: Future[dict[str, Any]],
    item: _Underway,
    store: RunStore,
    observer: SweepObserver,
    label: Callable[[RunSpec], str],
    outcome: SweepOutcome,
) -> None:
    """Write down how a run ended."""
    name, seconds = label(item.spec), time.monotonic() - item.started
    try:
        result = future.result()
    except WorkerDied as error:
        again = store.fail(item.spec.key, str(error), again=True)
        observer.on_run_end(
            name,
            seconds=seconds,
            error=f"{error}{'; started again' if again else ''}",
            final=not again,
        )
        return
    except (
        Exception
    ) as error:  # any error of a run is its result: it is kept with the run and shown
        text = str(error) if isinstance(error, Failure) else f"{type(error).__name__}: {error}"
        store.fail(item.spec.key, text)
        observer.on_run_end(name, seconds=seconds, error=text, final=True)
        return
    store.finish(
        item.spec.key, {**result, "wall_seconds": seconds, "worker_host": socket.gethostname()}
    )
    outcome.trained += 1
    observer.on_run_end(name, seconds=seconds, error=None, final=True)


def _others_at_work(store: RunStore) -> bool:
    """Whether a wanted run has not ended: another process has it, or its lease runs."""
    counts = store.counts()
    return bool(counts.get("running", 0) or counts.get("pending", 0))
