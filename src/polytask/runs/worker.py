"""The process that works for ``LocalExecutor``: reads calls from a pipe, writes results.

Started as a program of its own and not by forking: a clean process cannot inherit locks, threads or
a GPU context, and unlike ``multiprocessing`` it does not run the user's script a second time. It
starts in safe-path mode: a file in the current directory, or beside a script, can never take the
place of a module that Polytask needs. What travels through the two pipes comes from the parent
process alone.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import queue
import struct
import sys
import threading
import traceback
from collections.abc import Callable, Iterable
from typing import IO, Any

__all__ = ["THREADS", "Failure", "main", "read_message", "write_message"]

#: Environment variable with the number of threads that a worker may use.
THREADS = "POLYTASK_WORKER_THREADS"
_LENGTH = struct.Struct("!Q")


class Failure(Exception):
    """An exception of another process, with its trace as text.

    Args:
        kind: Name of the exception's class.
        message: Its text.
        trace: Its trace.
    """

    def __init__(self, kind: str, message: str, trace: str) -> None:
        super().__init__(kind, message, trace)
        self.kind = kind
        self.message = message
        self.trace = trace

    def __str__(self) -> str:
        return f"{self.kind}: {self.message}" if self.message else self.kind


def write_message(stream: IO[bytes], payload: bytes) -> None:
    """Write one length-prefixed message."""
    stream.write(_LENGTH.pack(len(payload)) + payload)
    stream.flush()


def read_message(stream: IO[bytes]) -> bytes:
    """Read one message; EOFError if the other side is gone."""
    header = _read_exactly(stream, _LENGTH.size)
    return _read_exactly(stream, _LENGTH.unpack(header)[0])


def _read_exactly(stream: IO[bytes], count: int) -> bytes:
    pieces = bytearray()
    while len(pieces) < count:
        piece = stream.read(count - len(pieces))
        if not piece:
            raise EOFError("the other side of the pipe is gone")
        pieces += piece
    return bytes(pieces)


def _receive(source: IO[bytes], calls: queue.Queue[bytes]) -> None:
    """Hand calls on; when the parent is gone, end the process in the middle of its work."""
    while True:
        try:
            calls.put(read_message(source))
        except EOFError:
            os._exit(0)


def _answer(call: bytes) -> bytes:
    function: Callable[[Any], Any]
    try:
        folders, own_call = pickle.loads(call)
        _import_from(folders)
        function, argument = pickle.loads(own_call)
        _limit_threads()
        reply: tuple[bool, Any] = (True, function(argument))
        return pickle.dumps(reply)
    except (
        Exception
    ) as error:  # whatever a run raises is its result; the parent decides what to do with it
        failure = Failure(type(error).__name__, str(error), traceback.format_exc())
        return pickle.dumps((False, failure))


def _import_from(folders: Iterable[str]) -> None:
    """Folders to import from after all others, so that nothing in them hides what is installed."""
    sys.path.extend(folder for folder in folders if folder not in sys.path)


def _limit_threads() -> None:
    """The share of the cores that this worker has, if the call has loaded torch."""
    torch = sys.modules.get("torch")
    threads = os.environ.get(THREADS)
    if torch is not None and threads:
        torch.set_num_threads(int(threads))


def main() -> None:
    """Serve calls until the parent closes the pipe."""
    # What a library prints must not get between the messages.
    sink = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    source = os.fdopen(os.dup(sys.stdin.fileno()), "rb", buffering=0)
    calls: queue.Queue[bytes] = queue.Queue()
    threading.Thread(target=_receive, args=(source, calls), daemon=True).start()
    with contextlib.suppress(BrokenPipeError):
        while True:
            write_message(sink, _answer(calls.get()))
