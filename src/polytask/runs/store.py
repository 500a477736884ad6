"""The run store: one SQLite file that says which runs exist, who works on them, and how they ended.

A run's key is a hash of everything that fixes its result, so asking for a finished run again is a
look-up. Several drivers may share one store: a run belongs to the driver that claimed it for as
long as its lease is renewed. The lease of a dead process of this machine is free at once; that of a
process elsewhere when it runs out. The write-ahead log is not used, because it is unsafe on network
file systems.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import socket
import sqlite3
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

__all__ = ["MAX_ATTEMPTS", "Claim", "Lease", "RunStore", "StoredRun", "process_name", "run_key"]

#: Starts of one run before it counts as failed.
MAX_ATTEMPTS = 3
SCHEMA_VERSION = 1
Status = Literal["pending", "running", "done", "failed"]

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
    finished REAL
)
"""
_CLAIM = """
UPDATE runs SET status = 'running', owner = :owner, lease = :now + :lease, heartbeat = :now,
    started = :now, attempts = attempts + 1
WHERE key = (
    SELECT runs.key FROM runs JOIN wanted ON wanted.key = runs.key
    WHERE attempts < :cap
      AND (status = 'pending' OR (status = 'running' AND (lease < :now OR is_dead(owner))))
    ORDER BY wanted.position LIMIT 1
)
RETURNING key, attempts
"""
_GIVE_UP = """
UPDATE runs SET status = 'failed', finished = :now,
    error = COALESCE(error, 'the process that ran it died') || ' (' || attempts || ' attempts)'
WHERE status = 'running' AND attempts >= :cap AND (lease < :now OR is_dead(owner))
"""


@dataclass(frozen=True)
class Claim:
    """A run that is now ours, and how often it has been started."""

    key: str
    attempt: int


@dataclass(frozen=True)
class StoredRun:
    """One row of the store.

    Args:
        key: See ``run_key``.
        spec: What was to be run, as a record.
        status: "pending", "running", "done" or "failed".
        attempts: How often it was started.
        error: Text of the last error.
        result: What the run found, if it is done.
    """

    key: str
    spec: dict[str, Any]
    status: Status
    attempts: int
    error: str | None
    result: dict[str, Any] | None


def run_key(spec: Mapping[str, Any]) -> str:
    """Hash of a record, 24 hex digits; the order of its keys does not matter."""
    text = json.dumps(spec, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:24]


def process_name(pid: int | None = None) -> str:
    """``host:pid:start``, unique even after the system has given the number to another process."""
    pid = os.getpid() if pid is None else pid
    return f"{socket.gethostname()}:{pid}:{_start_time(pid) or 0}"


def _start_time(pid: int) -> int | None:
    """Clock ticks from boot to the start of a process; None where the system does not say."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    # The second field is the program's name in parentheses and may hold spaces.
    return int(text.rpartition(")")[2].split()[19])


def _is_dead(owner: str | None) -> bool:
    """Whether an owner is a process of this machine that no longer exists."""
    if owner is None:
        return True
    host, pid_text, start_text = owner.rsplit(":", 2)
    if host != socket.gethostname():
        return False
    pid, start = int(pid_text), int(start_text)
    if start:
        return _start_time(pid) != start
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False


class RunStore:
    """Runs in a SQLite file; safe to use from several threads and processes.

    Args:
        path: The file; created if it does not exist.
        owner: Name of this process.
        lease_seconds: How long a claim holds without a heartbeat.

    Raises:
        ValueError: The file is damaged, or was written by another version of the store.
        OSError: The file cannot be written.
    """

    def __init__(
        self, path: Path | str, *, owner: str | None = None, lease_seconds: float = 60.0
    ) -> None:
        self.path = Path(path)
        self.owner = owner or process_name()
        self.lease_seconds = lease_seconds
        self._lock = threading.RLock()
        try:
            self._connection = sqlite3.connect(
                self.path, timeout=60.0, isolation_level=None, check_same_thread=False
            )
        except sqlite3.OperationalError as error:
            raise OSError(f"Cannot open the run store {self.path}: {error}.") from error
        with self._guarded() as connection:
            self._prepare(connection)

    def _prepare(self, connection: sqlite3.Connection) -> None:
        verdict = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
        if verdict != "ok":
            raise sqlite3.DatabaseError(verdict)
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if version not in (0, SCHEMA_VERSION):
            raise ValueError(
                f"The run store {self.path} has format {version}, this version reads"
                f" {SCHEMA_VERSION};"
                " use another output folder."
            )
        connection.execute("PRAGMA synchronous = FULL")
        if version == 0:  # a finished store is read from media that cannot be written, too
            connection.execute(_CREATE)
            connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        connection.execute("CREATE TEMP TABLE wanted (key TEXT PRIMARY KEY, position INTEGER)")
        connection.create_function("is_dead", 1, _is_dead)

    @contextlib.contextmanager
    def _guarded(self) -> Iterator[sqlite3.Connection]:
        """One thread at a time; what SQLite says becomes an error that says what to do."""
        with self._lock:
            try:
                yield self._connection
            except sqlite3.OperationalError as error:
                raise OSError(f"Cannot use the run store {self.path}: {error}.") from error
            except sqlite3.DatabaseError as error:
                raise ValueError(
                    f"The run store {self.path} is damaged ({error}); move it away and run the"
                    " command again."
                ) from error

    def want(self, specs: Mapping[str, Mapping[str, Any]], *, retry_failed: bool = True) -> None:
        """Say which runs this driver needs, in order; new ones are added, known ones are kept.

        Args:
            specs: Key to record.
            retry_failed: Give runs that failed below the attempt cap another chance.
        """
        rows = [(key, json.dumps(spec, ensure_ascii=False)) for key, spec in specs.items()]
        with self._guarded() as connection:
            connection.execute("BEGIN IMMEDIATE")
            try:
                connection.executemany("INSERT OR IGNORE INTO runs (key, spec) VALUES (?, ?)", rows)
                connection.execute("DELETE FROM wanted")
                connection.executemany(
                    "INSERT INTO wanted VALUES (?, ?)",
                    [(key, place) for place, key in enumerate(specs)],
                )
                if retry_failed:
                    connection.execute(
                        "UPDATE runs SET status = 'pending' WHERE status = 'failed' AND attempts"
                        " < ?"
                        " AND key IN (SELECT key FROM wanted)",
                        (MAX_ATTEMPTS,),
                    )
            except BaseException:
                connection.execute("ROLLBACK")
                raise
            connection.execute("COMMIT")

    def claim(self) -> Claim | None:
        """Take the first wanted run that nobody works on, or None."""
        now = time.time()
        values = {"owner": self.owner, "now": now, "lease": self.lease_seconds, "cap": MAX_ATTEMPTS}
        with self._guarded() as connection:
            row = connection.execute(_CLAIM, values).fetchone()
            if row is None:
                connection.execute(_GIVE_UP, values)
        return None if row is None else Claim(*row)

    def renew(self) -> None:
        """Extend the leases of this owner."""
        now = time.time()
        with self._guarded() as connection:
            connection.execute(
                "UPDATE runs SET lease = ?, heartbeat = ? WHERE status = 'running' AND owner = ?",
                (now + self.lease_seconds, now, self.owner),
            )

    def finish(self, key: str, result: Mapping[str, Any]) -> None:
        """Keep the result of a run."""
        text = json.dumps(result, ensure_ascii=False)
        with self._guarded() as connection:
            connection.execute(
                "UPDATE runs SET status = 'done', result = ?, error = NULL, finished = ?, owner"
                " = NULL WHERE key = ?",
                (text, time.time(), key),
            )

    def fail(self, key: str, error: str, *, again: bool = False) -> bool:
        """Keep the error of a run; with ``again`` it may be started once more if attempts are left.

        Returns:
            Whether the run will be started again.
        """
        with self._guarded() as connection:
            row = connection.execute(
                "UPDATE runs SET error = :error, finished = :now, owner = NULL,"
                " status = CASE WHEN :again AND attempts < :cap THEN 'pending' ELSE 'failed' END"
                " WHERE key = :key RETURNING status",
                {
                    "error": error,
                    "now": time.time(),
                    "again": again,
                    "cap": MAX_ATTEMPTS,
                    "key": key,
                },
            ).fetchone()
        return row is not None and row[0] == "pending"

    def release(self, keys: Sequence[str]) -> None:
        """Give claimed runs back as if they had not been started."""
        with self._guarded() as connection:
            connection.executemany(
                "UPDATE runs SET status = 'pending', owner = NULL, attempts = attempts - 1"
                " WHERE key = ? AND status = 'running' AND owner = ?",
                [(key, self.owner) for key in keys],
            )

    def forget(self, keys: Sequence[str]) -> None:
        """Make runs pending again with all their attempts left, whatever became of them."""
        with self._guarded() as connection:
            connection.executemany(
                "UPDATE runs SET status = 'pending', owner = NULL, attempts = 0, error = NULL,"
                " result = NULL"
                " WHERE key = ? AND status != 'running'",
                [(key,) for key in keys],
            )

    def counts(self) -> dict[str, int]:
        """Number of wanted runs per status."""
        with self._guarded() as connection:
            rows = connection.execute(
                "SELECT status, COUNT(*) FROM runs JOIN wanted ON wanted.key = runs.key GROUP BY"
                " status"
            ).fetchall()
        return dict(rows)

    def runs(self, keys: Sequence[str] | None = None) -> list[StoredRun]:
        """Rows of the store, in the order of ``keys`` (None: all, in order of insertion)."""
        columns = "key, spec, status, attempts, error, result"
        with self._guarded() as connection:
            rows = connection.execute(f"SELECT {columns} FROM runs ORDER BY rowid").fetchall()
        wanted = None if keys is None else set(keys)
        found = {
            row[0]: StoredRun(
                key=row[0],
                spec=json.loads(row[1]),
                status=row[2],
                attempts=row[3],
                error=row[4],
                result=None if row[5] is None else json.loads(row[5]),
            )
            for row in rows
            if wanted is None or row[0] in wanted
        }
        return list(found.values()) if keys is None else [found[k] for k in keys if k in found]

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._connection.close()


class Lease:
    """While it is entered, a thread renews the leases of a store's owner.

    Args:
        store: The store.
    """

    def __init__(self, store: RunStore) -> None:
        self.store = store
        self.error: Exception | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="polytask-heartbeat", daemon=True)

    def _beat(self) -> None:
        while not self._stop.wait(self.store.lease_seconds / 4):
            try:
                self.store.renew()
            except (OSError, ValueError) as error:
                # The driver's own next access raises; a missed beat alone only lets the lease run
                # out.
                self.error = error

    def __enter__(self) -> Lease:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
