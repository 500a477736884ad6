"""How a comparison says what it is doing: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from typing import IO, Any

__all__ = ["SweepObserver", "SweepProgress"]

#: The first runs also pay for starting the workers, so nothing is said about the rest before.
FEWEST_FINISHED = 3


class SweepObserver:
    """Moments of a sweep; every one does nothing unless an observer fills it."""

    def on_start(self, *, total: int, done: int) -> None:
        """Before the first run: all runs, and those that were finished before."""

    def on_run_start(self, label: str, *, attempt: int) -> None:
        """A run begins."""

    def on_run_end(self, label: str, *, seconds: float, error: str | None, final: bool) -> None:
        """A run has ended; with ``final=False`` it will be started again."""

    def on_wait(self, owners: list[str]) -> None:
        """Nothing is left to do here, and other processes work on the rest."""

    def on_end(self, *, interrupted: bool) -> None:
        """All runs have ended, or Ctrl-C was pressed."""


class SweepProgress(SweepObserver):
    """Shows how many runs are done, which one is running, and how long the rest will take.

    Args:
        stream: Where to write; standard error by default.
    """

    def __init__(self, *, stream: IO[str] | None = None) -> None:
        self._stream = stream
        self._total = self._done = self._done_before = 0
        self._started = 0.0
        self._running: list[str] = []
        self._bar: Any = None
        self._task: Any = None

    @property
    def stream(self) -> IO[str]:
        """Where lines go."""
        return self._stream or sys.stderr

    def on_start(self, *, total: int, done: int) -> None:
        self._total, self._done, self._done_before = total, done, done
        self._started = time.monotonic()
        if done:
            self._say(f"{done} of {total} runs are finished already and are not trained again")
        if done < total and self.stream.isatty():
            self._start_bar()

    def _start_bar(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

        self._bar = Progress(
            TextColumn("{task.completed:.0f}/{task.total:.0f} runs"),
            BarColumn(),
            TextColumn("{task.fields[left]}"),
            TimeElapsedColumn(),
            TextColumn("{task.description}", markup=False),
            console=Console(file=self.stream),
            transient=True,
        )
        self._bar.start()
        self._task = self._bar.add_task("", total=self._total, completed=self._done, left="")

    def on_wait(self, owners: list[str]) -> None:
        self._say(f"waiting for runs of {', '.join(owners)}")

    def on_run_start(self, label: str, *, attempt: int) -> None:
        self._running.append(label)
        if self._bar is not None:
            self._bar.update(self._task, description=", ".join(self._running))
        elif attempt > 1:
            self._say(f"{label}: attempt {attempt}")

    def on_run_end(self, label: str, *, seconds: float, error: str | None, final: bool) -> None:
        if label in self._running:
            self._running.remove(label)
        self._done += final
        left = self._left()
        if self._bar is not None:
            self._bar.update(
                self._task, completed=self._done, description=", ".join(self._running), left=left
            )
        if error is not None:
            self._say(f"{label}: FAILED after {seconds:.1f} s: {error}")
        elif self._bar is None:
            self._say(
                f"[{self._done}/{self._total}] {label}: {seconds:.1f}"
                f" s{', ' + left if left else ''}"
            )

    def on_end(self, *, interrupted: bool) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
        if interrupted:
            self._say(
                f"interrupted: {self._done} of {self._total} runs are finished and kept; the same"
                " command continues"
            )

    def _left(self) -> str:
        """The time that the other runs will take if they are like those so far."""
        finished = self._done - self._done_before
        rest = self._total - self._done
        if finished < FEWEST_FINISHED or not rest:
            return ""
        seconds = (time.monotonic() - self._started) / finished * rest
        return f"about {_duration(seconds)} left"

    def _say(self, text: str) -> None:
        if self._bar is not None:
            self._bar.console.print(text, markup=False, highlight=False)
        else:
            print(text, file=self.stream, flush=True)


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
