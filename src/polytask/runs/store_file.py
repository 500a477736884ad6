"""The file of a run store: made whole, checked before anything of it is used, copied to be read."""

from __future__ import annotations

import contextlib
import os
import secrets
import sqlite3
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

from polytask.files import read_plain_file

__all__ = [
    "KNOWN_VERSIONS",
    "SCHEMA_VERSION",
    "check_file",
    "check_schema",
    "create",
    "private_copy",
]

SCHEMA_VERSION = 2
#: Formats that are read; the first is brought to the second where it may be written.
KNOWN_VERSIONS = (1, 2)
HEADER_BYTES = 100
#: In the header: reads and writes need no file but the journal.
NO_WRITE_AHEAD_LOG = b"\x01\x01"
#: Ends a rollback journal that names another file, which SQLite would delete. A store never has
#: one: it is a transaction over several files.
JOURNAL_MAGIC = bytes.fromhex("d9d505f920a163d7")
#: Copies of a store that is being written, before the last one is taken as it is.
COPY_ATTEMPTS = 20

_CREATE = """
CREATE TABLE IF NOT EXISTS runs (
    key TEXT PRIMARY KEY,
    spec TEXT NOT NULL,
    status TEXT NOT NULL DEFAULT 'pending',
    owner TEXT,
    lease REAL,
    heartbeat REAL,
    attempts INTEGER NOT NULL DEFAULT 0,
    error TEXT,
    result TEXT,
    started REAL,
    finished REAL,
    claims INTEGER NOT NULL DEFAULT 0,
    digest TEXT
)
"""
#: By format: the columns that the table must have, and no others.
_FIRST = "key spec status owner lease heartbeat attempts error result started finished"
_COLUMNS = {1: _FIRST.split(), 2: f"{_FIRST} claims digest".split()}


def check_file(path: Path) -> None:
    """Refuse a store that another program made, before SQLite does what it says.

    SQLite finishes what an interrupted program left: it plays a journal beside the file back, which
    is how a store survives a kill. A journal that was made by hand can name a file to delete.

    Raises:
        ValueError: The file is empty, no database or one that needs other files; its journal names
            another file.
    """
    if path.stat().st_size == 0:
        raise ValueError(f"The run store {path} is empty, so its runs are lost; move it away.")
    with path.open("rb") as file:
        header = file.read(HEADER_BYTES)
    if not header.startswith(b"SQLite format 3\0"):
        raise ValueError(f"The run store {path} is damaged (it is no database); move it away.")
    if header[18:20] != NO_WRITE_AHEAD_LOG:
        raise ValueError(f"{path} is no run store of Polytask: it wants a write-ahead log.")
    journal = path.with_name(path.name + "-journal")
    if journal.is_symlink() or (
        journal.exists() and read_plain_file(journal).endswith(JOURNAL_MAGIC)
    ):
        raise ValueError(
            f"The journal {journal} names another file, which no journal of a run store does; it"
            " was not used. Delete it if you trust the rest of the folder."
        )


def check_schema(connection: sqlite3.Connection, version: int, path: Path) -> None:
    """Raise ValueError unless the file holds the table of runs and nothing else.

    A view or a trigger would run what it was told to when the table is read or written.
    """
    found = connection.execute("SELECT type, name FROM sqlite_master").fetchall()
    names = [row[1] for row in connection.execute("SELECT * FROM pragma_table_xinfo('runs')")]
    if sorted(found) != [("index", "sqlite_autoindex_runs_1"), ("table", "runs")] or (
        names != _COLUMNS[version]
    ):
        raise ValueError(
            f"{path} is no run store of Polytask: it holds more or less than the table of runs."
        )


def create(path: Path) -> None:
    """Make an empty store, whole or not at all; one that is there is checked."""
    if path.exists():
        check_file(path)
        return
    new = path.with_name(f".{path.name}.{secrets.token_hex(8)}.partial")
    try:
        with contextlib.closing(sqlite3.connect(new, isolation_level=None)) as connection:
            connection.execute(_CREATE)
            connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        with contextlib.suppress(FileExistsError):  # another process was faster
            os.link(new, path)
    finally:
        new.unlink(missing_ok=True)


def private_copy(path: Path) -> tuple[tempfile.TemporaryDirectory[str], Path]:
    """The store and what an interrupted write left, in a folder of our own.

    A store that is being written is copied again until nothing changed meanwhile.
    """
    folder = tempfile.TemporaryDirectory(prefix="polytask-store-")
    files = (path, path.with_name(path.name + "-journal"))
    try:
        if not path.is_file():
            raise FileNotFoundError(f"There is no run store {path}.")
        check_file(path)
        for _ in range(COPY_ATTEMPTS):
            before = _states(files)
            for file in files:
                copy = Path(folder.name) / file.name
                copy.unlink(missing_ok=True)
                if file.is_file():
                    copy.write_bytes(read_plain_file(file))
            if _states(files) == before:
                break
            time.sleep(0.05)
        copied = Path(folder.name) / path.name
        check_file(copied)
    except BaseException:
        folder.cleanup()
        raise
    return folder, copied


def _states(files: Iterable[Path]) -> list[tuple[int, int] | None]:
    return [
        (file.stat().st_mtime_ns, file.stat().st_size) if file.is_file() else None for file in files
    ]
