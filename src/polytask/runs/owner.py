"""Names of processes that tell whether a process still lives."""

from __future__ import annotations

import functools
import os
import socket
from pathlib import Path

__all__ = ["is_dead", "process_name"]


def process_name(pid: int | None = None) -> str:
    """``host:boot:namespace:pid:start``, unique even after the system has given the number to
    another process, and across machines and containers that share a name.
    """
    pid = os.getpid() if pid is None else pid
    return f"{socket.gethostname()}:{_boot()}:{_namespace()}:{pid}:{_start_time(pid) or 0}"


@functools.cache
def _boot() -> str:
    """What identifies this start of this machine; empty where the system does not say."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()[:8]
    except OSError:
        return ""


@functools.cache
def _namespace() -> str:
    """What numbers of processes mean here: containers of one machine count their own."""
    try:
        return str(os.stat("/proc/self/ns/pid").st_ino)
    except OSError:
        return ""


def _start_time(pid: int) -> int | None:
    """Clock ticks from boot to the start of a process; None where the system does not say."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    # The second field is the program's name in parentheses and may hold spaces.
    return int(text.rpartition(")")[2].split()[19])


def is_dead(owner: str | None) -> bool:
    """Whether an owner is a process of this machine that certainly no longer exists."""
    if owner is None:
        return True
    if owner.count(":") < 2:
        return False
    host, *place, pid, start = owner.rsplit(":", 4)
    # Of another machine (or another start of this one), or of another container, nothing can be
    # said; the names of an earlier version had no such parts.
    here = host == socket.gethostname() and place in ([], [_boot(), _namespace()])
    if not here or not pid.isdecimal() or not start.isdecimal():
        return False
    if int(start):
        return _start_time(int(pid)) != int(start)
    return not _exists(int(pid))


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
