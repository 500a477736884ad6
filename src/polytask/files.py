"""Files that are either whole or absent, in folders that may be someone else's.

A folder that came from elsewhere can hold anything under any name: a symbolic link where a file is
to be written would send the write to where it points, and a pipe where one is to be read would wait
for ever. Nothing here writes through a link at the end of a path or reads what is no plain file.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

__all__ = ["open_to_append", "read_plain_file", "write_atomically"]

#: Both are 0 on systems that have no such flag.
NO_LINK = getattr(os, "O_NOFOLLOW", 0)
NO_WAIT = getattr(os, "O_NONBLOCK", 0)


def write_atomically(path: Path, content: str | bytes | Callable[[Path], object]) -> None:
    """Write a file so that a crash or a full disk leaves the old one (or none), never a torn one.

    The content goes to a new neighbour with a random name, to disk, and then takes the file's place
    (also that of a symbolic link, which is replaced and not followed).

    Args:
        path: The file.
        content: Text, bytes, or a function that writes to the path it is given.

    Raises:
        OSError: The folder cannot be written or the disk is full; the neighbour is removed.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.partial")
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | NO_LINK, 0o666)
    try:
        if callable(content):
            os.close(handle)
            content(temporary)
            handle = os.open(temporary, os.O_RDWR | NO_LINK)
        else:
            data = content.encode("utf-8") if isinstance(content, str) else content
            with os.fdopen(os.dup(handle), "wb") as stream:
                stream.write(data)
        os.fsync(handle)
        temporary.replace(path)
        _sync_folder(path.parent)
    finally:
        with contextlib.suppress(OSError):  # closed already where `content` failed
            os.close(handle)
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def open_to_append(path: Path) -> Iterator[IO[str]]:
    """A text file to add lines to; made if needed.

    Raises:
        OSError: The path is a symbolic link or no plain file, or the folder cannot be written.
    """
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | NO_LINK | NO_WAIT
    with os.fdopen(_open(path, flags), "a", encoding="utf-8") as handle:
        yield handle


def read_plain_file(path: Path, *, most: int | None = None) -> bytes:
    """The content of a file that may be someone else's.

    Args:
        path: The file; a link to a plain file is followed.
        most: Bytes it may have; None for no limit.

    Raises:
        FileNotFoundError: There is none.
        ValueError: It is no plain file, or larger than ``most``.
    """
    with os.fdopen(_open(path, os.O_RDONLY | NO_WAIT), "rb") as handle:
        size = os.fstat(handle.fileno()).st_size
        if most is not None and size > most:
            raise ValueError(f"{path} has {size} bytes, which is more than the {most} allowed.")
        return handle.read()


def _open(path: Path, flags: int) -> int:
    try:
        handle = os.open(path, flags, 0o666)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO):
            raise OSError(f"{path} is a link or a pipe, expected a plain file.") from error
        raise
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise ValueError(f"{path} is no plain file.")
    return handle


def _sync_folder(folder: Path) -> None:
    """A rename is on disk only when its folder is; some systems cannot open folders."""
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
