"""Functions that worker processes import; nothing heavy, so that a worker starts at once."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path


def double(value: float) -> float:
    return 2 * value


def process_number(_: object) -> int:
    return os.getpid()


def environment(names: list[str]) -> list[str | None]:
    return [os.environ.get(name) for name in names]


def stop_myself(_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def sleep_for(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


def print_and_fail(text: str) -> None:
    print(text)
    raise ValueError(f"found {text!r}")


def is_alive(pid: int) -> bool:
    """Whether a process exists and is no zombie."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def touch_and_sleep(_: object) -> None:
    """Say that work has begun, and work for a minute."""
    Path(os.environ["POLYTASK_TEST_MARK"]).touch()
    time.sleep(60)
