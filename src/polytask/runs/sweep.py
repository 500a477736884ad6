"""The sweep: brings every wanted run to an end, whatever happens to single ones."""

from __future__ import annotations

import contextlib
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, field
from types import FrameType
from typing import Any, Protocol, TypeVar

from polytask.runs.executor import Executor, WorkerDied
from polytask.runs.progress import SweepObserver
from polytask.runs.store import Lease, RunStore
from polytask.runs.worker import Failure

__all__ = ["Spec", "SweepOutcome", "sweep"]

#: Seconds between two looks at runs that another process works on.
POLL_SECONDS = 0.5


class Spec(Protocol):
    """One run, as far as a sweep knows it; what it holds besides is for the work alone."""

    @property
    def key(self) -> str:
        """Of the run in the store; equal keys are one run."""

    @property
    def hard_limit(self) -> float | None:
        """Seconds after which the run is ended; None for no limit."""


S = TypeVar("S", bound=Spec)
#: Carries out one run and returns a record that JSON can hold; must be picklable where the executor
#: has processes of its own.
Work = Callable[[S], dict[str, Any]]


@dataclass
class SweepOutcome:
    """How a sweep ended.

    Args:
        interrupted: Whether Ctrl-C or SIGTERM ended it before all runs had ended.
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
    key: str
    name: str
    started: float


def sweep(
    specs: Sequence[S],
    records: Mapping[str, Mapping[str, Any]],
    *,
    work: Work[S],
    store: RunStore,
    executor: Executor,
    observer: SweepObserver,
    label: Callable[[S], str],
    retry_failed: bool = True,
) -> SweepOutcome:
    """Carry out all runs that are not finished yet; a failing one does not end the sweep.

    Args:
        specs: The runs, in the order in which they should be done.
        records: Key of each run to its record for the store.
        work: Carries out a run; its result is kept with the run.
        store: Where results go as soon as a run has ended.
        executor: Who does the work; it is left running.
        observer: Told about every run.
        label: From a run to its name in progress messages.
        retry_failed: Whether runs that failed in an earlier sweep get another chance (up to the cap
            on attempts).

    Returns:
        What became of the runs. Ctrl-C and SIGTERM give back the runs under way and set
        ``interrupted``.
    """
    by_key = {spec.key: spec for spec in specs}
    store.want({key: records[key] for key in by_key}, retry_failed=retry_failed)
    outcome = SweepOutcome(reused=store.counts().get("done", 0))
    observer.on_start(total=len(by_key), done=outcome.reused)
    underway: dict[Future[dict[str, Any]], _Underway] = {}
    waited_for: list[str] = []
    try:
        with _sigterm_as_interrupt(), Lease(store):
            while True:
                while len(underway) < executor.slots and (claim := store.claim()) is not None:
                    spec = by_key[claim.key]
                    item = _Underway(claim.key, label(spec), time.monotonic())
                    observer.on_run_start(item.name, attempt=claim.attempt)
                    underway[_submit(spec, work, store, executor)] = item
                if underway:
                    finished, _ = wait(underway, timeout=POLL_SECONDS, return_when=FIRST_COMPLETED)
                    for future in finished:
                        _settle(future, underway.pop(future), store, observer, outcome)
                elif _others_at_work(store):
                    if (owners := store.owners()) and not waited_for:
                        observer.on_wait(owners)
                    waited_for = owners
                    time.sleep(POLL_SECONDS)
                else:
                    break
    except KeyboardInterrupt:
        outcome.interrupted = True
        executor.shutdown(kill=True)
        store.release([item.key for item in underway.values()])
    outcome.failed = [run.key for run in store.runs(list(by_key)) if run.status == "failed"]
    observer.on_end(interrupted=outcome.interrupted)
    return outcome


def _submit(spec: S, work: Work[S], store: RunStore, executor: Executor) -> Future[dict[str, Any]]:
    """Have a claimed run carried out; it is given back if that cannot be."""
    try:
        return executor.submit(work, spec)
    except BaseException:
        store.release([spec.key])
        raise


def _settle(
    future: Future[dict[str, Any]],
    item: _Underway,
    store: RunStore,
    observer: SweepObserver,
    outcome: SweepOutcome,
) -> None:
    """Write down how a run ended."""
    name, seconds = item.name, time.monotonic() - item.started
    try:
        result = future.result()
    except WorkerDied as error:
        again = store.fail(item.key, str(error), again=True)
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
        store.fail(item.key, text)
        observer.on_run_end(name, seconds=seconds, error=text, final=True)
        return
    facts = {"wall_seconds": seconds, "worker_host": socket.gethostname()}
    if store.finish(item.key, {**result, **facts}):
        outcome.trained += 1
        observer.on_run_end(name, seconds=seconds, error=None, final=True)
        return
    text = "another process had taken it over meanwhile, whose result is kept"
    observer.on_run_end(name, seconds=seconds, error=text, final=False)


@contextlib.contextmanager
def _sigterm_as_interrupt() -> Iterator[None]:
    """What a scheduler sends before it kills ends a sweep as Ctrl-C does: runs are given back."""
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may say what a signal does
        return

    def interrupt(number: int, frame: FrameType | None) -> None:
        del number, frame
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _others_at_work(store: RunStore) -> bool:
    """Whether a wanted run has not ended: another process has it, or its lease runs."""
    counts = store.counts()
    return bool(counts.get("running", 0) or counts.get("pending", 0))
