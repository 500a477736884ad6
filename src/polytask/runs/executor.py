"""Where runs are carried out: ``submit(fn, argument) -> Future``, here or in worker processes.

Anything with ``submit``, ``slots`` and ``shutdown`` is an executor: an adapter to Ray or to a batch
system is a dozen lines, and the sweep above it does not change.
"""

from __future__ import annotations

import os
import pickle
import pickletools
import queue
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import IO, Any, Protocol, TypeVar

from polytask.runs.worker import THREADS, Failure, read_message, write_message

__all__ = [
    "Executor",
    "Failure",
    "InlineExecutor",
    "LocalExecutor",
    "RunTimeout",
    "WorkerDied",
    "cpu_count",
]

#: Environment variable with what the parent process can import from.
PATHS = "POLYTASK_WORKER_PATHS"
#: The first words of a worker: what the parent can import from comes after the standard library and
#: what is installed, so that a file beside a script can never take the place of a module of theirs.
START = f"""
import os, sys
sys.path += [p for p in os.environ["{PATHS}"].split(os.pathsep) if p and p not in sys.path]
from polytask.runs import worker
worker.main()
"""

A = TypeVar("A")
R = TypeVar("R")


class WorkerDied(RuntimeError):
    """The process that did the work ended without an answer (killed, out of memory)."""


class RunTimeout(RuntimeError):
    """The work took longer than its time limit; its process was ended."""


class Executor(Protocol):
    """What a sweep needs to have work done elsewhere."""

    @property
    def slots(self) -> int:
        """How many calls it works on at a time."""

    def submit(self, fn: Callable[[A], R], argument: A) -> Future[R]:
        """Start ``fn(argument)`` somewhere."""

    def shutdown(self, *, kill: bool = False) -> None:
        """End it; with ``kill`` without waiting for the work under way."""


class InlineExecutor:
    """Does the work in this process, at once: for debugging, and what cannot travel."""

    @property
    def slots(self) -> int:
        """One."""
        return 1

    def submit(self, fn: Callable[[A], R], argument: A) -> Future[R]:
        """Run now and return a future that is done."""
        future: Future[R] = Future()
        future.set_running_or_notify_cancel()
        try:
            future.set_result(fn(argument))
        except Exception as error:  # the future carries it to whoever asks for the result
            future.set_exception(error)
        return future

    def shutdown(self, *, kill: bool = False) -> None:
        """Nothing to end."""


class LocalExecutor:
    """Long-lived worker processes on this machine, each with its share of the cores.

    A worker that dies fails the call it worked on with ``WorkerDied`` and is replaced; a call that
    exceeds the time limit fails with ``RunTimeout`` and its worker is ended. When this process
    dies, in whatever way, the workers end too.

    Args:
        workers: Number of processes; started when there is work for them.
        time_limit: Seconds per call after which its process is ended; None for no limit.
        threads: Threads per worker; None divides the cores that this process may use.
        devices: Numbers of the GPUs that the workers share, one per worker in turn; none: all see
            all.
        log: Folder for what the workers print, or None for a temporary one.
    """

    def __init__(
        self,
        *,
        workers: int,
        time_limit: float | None = None,
        threads: int | None = None,
        devices: Sequence[str] = (),
        log: Path | None = None,
    ) -> None:
        if workers < 1:
            raise ValueError(f"`workers` must be >= 1, found {workers}.")
        if time_limit is not None and not time_limit > 0:
            raise ValueError(f"`time_limit` must be > 0 or None, found {time_limit}.")
        self.workers = workers
        self.time_limit = time_limit
        self.devices = tuple(devices)
        self.threads = threads or max(1, cpu_count() // workers)
        self._calls: queue.SimpleQueue[tuple[bytes, Future[Any]] | None] = queue.SimpleQueue()
        self._temporary = (
            None if log is not None else tempfile.TemporaryDirectory(prefix="polytask-workers-")
        )
        folder = log if log is not None else Path(self._temporary.name if self._temporary else ".")
        folder.mkdir(parents=True, exist_ok=True)
        self._workers = [
            _Worker(
                self._calls, self._environment(number), time_limit, folder / f"worker-{number}.log"
            )
            for number in range(workers)
        ]

    def _environment(self, number: int) -> dict[str, str]:
        environment = dict(os.environ)
        for name in (
            "OMP_NUM_THREADS",
            "MKL_NUM_THREADS",
            "OPENBLAS_NUM_THREADS",
            THREADS,
        ):
            environment[name] = str(self.threads)
        # Threads that spin while they wait take the core from the other workers.
        environment["OMP_WAIT_POLICY"] = "PASSIVE"
        if self.devices:
            environment["CUDA_VISIBLE_DEVICES"] = self.devices[number % len(self.devices)]
        environment[PATHS] = os.pathsep.join(path for path in sys.path if path)
        return environment

    @property
    def slots(self) -> int:
        """The number of workers."""
        return self.workers

    def submit(self, fn: Callable[[A], R], argument: A) -> Future[R]:
        """Have a worker compute ``fn(argument)``; both travel by pickle.

        Raises:
            TypeError: The function or its argument cannot be sent to another process.
        """
        try:
            call = pickle.dumps((fn, argument))
            call = pickle.dumps((_folders_of_own_modules(call), call))
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            raise TypeError(
                f"This cannot be sent to a worker process ({error}); define functions at the top"
                " of a module,"
                " or pass executor=InlineExecutor()."
            ) from error
        future: Future[R] = Future()
        self._calls.put((call, future))
        return future

    def shutdown(self, *, kill: bool = False) -> None:
        """End the workers, after the work under way unless ``kill``."""
        for _ in self._workers:
            self._calls.put(None)
        for worker in self._workers:
            if kill:
                worker.kill()
        for worker in self._workers:
            worker.join()
        if self._temporary is not None:
            self._temporary.cleanup()

    def pids(self) -> list[int]:
        """Numbers of the processes that live now."""
        return [pid for worker in self._workers if (pid := worker.pid) is not None]


class _Worker:
    """A thread that owns one worker process, feeds it calls and replaces it when it dies."""

    def __init__(
        self,
        calls: queue.SimpleQueue[tuple[bytes, Future[Any]] | None],
        environment: dict[str, str],
        time_limit: float | None,
        log: Path,
    ) -> None:
        self._calls = calls
        self._environment = environment
        self._time_limit = time_limit
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None
        self._stopping = False
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._serve, name="polytask-worker", daemon=True)
        self._thread.start()

    @property
    def pid(self) -> int | None:
        process = self._process
        return process.pid if process is not None and process.poll() is None else None

    def kill(self) -> None:
        with self._lock:
            self._stopping = True
            if self._process is not None:
                self._process.kill()

    def join(self) -> None:
        self._thread.join()

    def _serve(self) -> None:
        while (item := self._calls.get()) is not None:
            call, future = item
            if self._stopping or not future.set_running_or_notify_cancel():
                future.cancel()
                continue
            try:
                succeeded, value = pickle.loads(self._exchange(call))
            except Exception as error:  # the future carries it to whoever asks for the result
                future.set_exception(error)
                continue
            if succeeded:
                future.set_result(value)
            else:
                future.set_exception(value)
        self._end()

    def _exchange(self, call: bytes) -> bytes:
        process = self._start()
        stdin, stdout = _pipes(process)
        too_late = threading.Event()

        def end_it() -> None:
            too_late.set()
            process.kill()

        timer = threading.Timer(self._time_limit, end_it) if self._time_limit is not None else None
        if timer is not None:
            timer.daemon = True
            timer.start()
        try:
            write_message(stdin, call)
            return read_message(stdout)
        except (EOFError, BrokenPipeError) as error:
            code = process.wait()
            self._end()
            if too_late.is_set():
                raise RunTimeout(
                    f"took longer than its time limit of {self._time_limit:g} s"
                ) from error
            raise WorkerDied(
                f"its process ended with {_exit_text(code)}{self._last_words()}"
            ) from error
        finally:
            if timer is not None:
                timer.cancel()

    def _start(self) -> subprocess.Popen[bytes]:
        with self._lock:
            if self._process is None or self._process.poll() is not None:
                if self._stopping:
                    raise WorkerDied("the executor was shut down")
                with self._log.open("wb") as log:
                    # A group of its own: Ctrl-C is for this process, which then decides about its
                    # workers.
                    self._process = subprocess.Popen(
                        [sys.executable, "-P", "-c", START],
                        stdin=subprocess.PIPE,
                        stdout=subprocess.PIPE,
                        stderr=log,
                        env=self._environment,
                        process_group=0 if os.name == "posix" else None,
                    )
            return self._process

    def _end(self) -> None:
        with self._lock:
            process, self._process = self._process, None
        if process is not None:
            for pipe in _pipes(process):
                try:
                    pipe.close()
                except BrokenPipeError:
                    continue  # closing flushes; nobody reads any more, which is what we want
            process.wait()

    def _last_words(self) -> str:
        text = (
            self._log.read_text(encoding="utf-8", errors="replace").strip()
            if self._log.exists()
            else ""
        )
        return f"; its last words: {text.splitlines()[-1]}" if text else ""


def _folders_of_own_modules(call: bytes) -> list[str]:
    """The current directory, if a pickled call needs a module that was imported from there.

    Workers start in safe-path mode: what happens to lie in the current directory, beside a
    downloaded table for example, is not imported. A module of the user's is, by its explicit path.
    """
    here = Path.cwd()
    named = {value for _, value, _ in pickletools.genops(call) if isinstance(value, str)}
    for name in named & set(sys.modules):
        file = getattr(sys.modules[name], "__file__", None)
        if file is None:
            continue
        path = Path(file).absolute()
        # The file of `a.b` is a/b.py or a/b/__init__.py below the folder it was imported from.
        up = name.count(".") + (path.name == "__init__.py")
        if len(path.parents) > up and path.parents[up] == here:
            return [str(here)]
    return []


def _pipes(process: subprocess.Popen[bytes]) -> tuple[IO[bytes], IO[bytes]]:
    assert process.stdin is not None  # both were asked for when it was started
    assert process.stdout is not None
    return process.stdin, process.stdout


def _exit_text(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"exit code {code}"


def cpu_count() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
