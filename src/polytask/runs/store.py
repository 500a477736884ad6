"""The run store: one SQLite file that says which runs exist, who works on them, and how they ended.

A run's key is a hash of everything that fixes its result, so asking for a finished run again is a
look-up. Several drivers may share one store: a run belongs to the driver that claimed it for as
long as its lease is renewed. The lease of a dead process of this machine is free at once; that of a
process elsewhere when it runs out. A driver that was stopped for so long that another took its run
over can no longer write it: every claim has a number of its own. A start whose driver died, for
whatever reason, is not counted against the run.

Results carry a digest, so that a flipped bit is found and not believed. A store may come from
someone else: its schema and its journal are checked before anything of it is used (see
``polytask.runs.store_file``). The write-ahead log is not used, because it is unsafe on network file
systems.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import sqlite3
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from polytask.runs.owner import is_dead, process_name
from polytask.runs.store_file import (
    KNOWN_VERSIONS,
    SCHEMA_VERSION,
    check_schema,
    create,
    private_copy,
)

__all__ = ["MAX_ATTEMPTS", "Claim", "Lease", "RunStore", "StoredRun", "run_key"]

#: Starts of one run before it counts as failed.
MAX_ATTEMPTS = 3
Status = Literal["pending", "running", "done", "failed"]

_CLAIM = """
UPDATE runs SET status = 'running', owner = :owner, lease = :now + :lease, heartbeat = :now,
    started = :now, claims = claims + 1, attempts = attempts + (status = 'pending')
WHERE key = (
    SELECT runs.key FROM runs JOIN wanted ON wanted.key = runs.key
    WHERE (status = 'pending' AND attempts < :cap)
       OR (status = 'running' AND (lease < :now OR is_dead(owner)))
    ORDER BY wanted.position LIMIT 1
)
RETURNING key, attempts, claims
"""


@dataclass(frozen=True)
class Claim:
    """A run that is now ours.

    Args:
        key: Of the run.
        attempt: How often it has been started; starts whose driver died do not count.
        number: Of the claim; a later claim of the run makes this one void.
    """

    key: str
    attempt: int
    number: int = 0


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
        is_damaged: Whether it is done and its result is not what was written.
    """

    key: str
    spec: dict[str, Any]
    status: Status
    attempts: int
    error: str | None
    result: dict[str, Any] | None
    is_damaged: bool = False


def run_key(spec: Mapping[str, Any]) -> str:
    """Hash of a record, 24 hex digits; the order of its keys does not matter."""
    text = json.dumps(spec, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:24]


def digest_of(key: str, spec: str, result: str) -> str:
    """What a stored result is checked against when it is read, 32 hex digits."""
    return hashlib.sha256("\0".join((key, spec, result)).encode()).hexdigest()[:32]


class RunStore:
    """Runs in a SQLite file; safe to use from several threads and processes.

    Args:
        path: The file; created if it does not exist.
        owner: Name of this process.
        lease_seconds: How long a claim holds without a heartbeat.
        read_only: Leave the file and its folder as they are: a private copy is read, in which an
            interrupted write is played back.

    Raises:
        FileNotFoundError: A store that is only to be read does not exist.
        ValueError: The file is damaged, is no store, or was written by another version.
        OSError: The file cannot be written.
    """

    def __init__(
        self,
        path: Path | str,
        *,
        owner: str | None = None,
        lease_seconds: float = 60.0,
        read_only: bool = False,
    ) -> None:
        self.path = Path(path)
        self.owner = owner or process_name()
        self.lease_seconds = lease_seconds
        self._lock = threading.RLock()
        self._claims: dict[str, int] = {}
        self._copy: tempfile.TemporaryDirectory[str] | None = None
        place = self.path
        if read_only:
            self._copy, place = private_copy(self.path)
        try:
            create(place)
            self._connection = sqlite3.connect(
                place, timeout=60.0, isolation_level=None, check_same_thread=False
            )
        except sqlite3.OperationalError as error:
            raise OSError(f"Cannot open the run store {self.path}: {error}.") from error
        try:
            with self._guarded() as connection:
                self._prepare(connection)
        except BaseException:
            self.close()
            raise

    def _prepare(self, connection: sqlite3.Connection) -> None:
        connection.execute("PRAGMA trusted_schema = OFF")
        verdict = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
        if verdict != "ok":
            raise sqlite3.DatabaseError(verdict)
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if version not in KNOWN_VERSIONS:
            raise ValueError(
                f"The run store {self.path} has format {version}, this version reads"
                f" {SCHEMA_VERSION}; use another output folder."
            )
        check_schema(connection, version, self.path)
        connection.execute("PRAGMA synchronous = FULL")
        if version == 1:
            self._add_columns(connection)
        connection.execute("CREATE TEMP TABLE wanted (key TEXT PRIMARY KEY, position INTEGER)")
        connection.create_function("is_dead", 1, is_dead)

    def _add_columns(self, connection: sqlite3.Connection) -> None:
        """From the first format to the second; results of the first have no digest."""
        connection.execute("BEGIN IMMEDIATE")
        if connection.execute("PRAGMA user_version").fetchone()[0] == 1:
            connection.execute("ALTER TABLE runs ADD COLUMN claims INTEGER NOT NULL DEFAULT 0")
            connection.execute("ALTER TABLE runs ADD COLUMN digest TEXT")
            connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        connection.execute("COMMIT")

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
                damaged = [run.key for run in self._rows(specs) if run.is_damaged]
                connection.executemany(
                    "UPDATE runs SET status = 'pending', attempts = 0, result = NULL, digest = NULL"
                    " WHERE key = ?",
                    [(key,) for key in damaged],
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
            return None
        claim = Claim(*row)
        self._claims[claim.key] = claim.number
        return claim

    def renew(self) -> None:
        """Extend the leases of this owner."""
        now = time.time()
        with self._guarded() as connection:
            connection.execute(
                "UPDATE runs SET lease = ?, heartbeat = ? WHERE status = 'running' AND owner = ?",
                (now + self.lease_seconds, now, self.owner),
            )

    def finish(self, key: str, result: Mapping[str, Any]) -> bool:
        """Keep the result of a run that this owner has.

        Returns:
            False if another process has taken the run over since it was claimed: its result stays.
        """
        text = json.dumps(result, ensure_ascii=False)
        with self._guarded() as connection:
            spec = connection.execute("SELECT spec FROM runs WHERE key = ?", (key,)).fetchone()
            return self._end(
                "status = 'done', result = :result, digest = :digest, error = NULL",
                key,
                result=text,
                digest=digest_of(key, spec[0] if spec else "", text),
            )

    def fail(self, key: str, error: str, *, again: bool = False) -> bool:
        """Keep the error of a run; with ``again`` it may be started once more if attempts are left.

        Returns:
            Whether the run will be started again.
        """
        self._end(
            "error = :error,"
            " status = CASE WHEN :again AND attempts < :cap THEN 'pending' ELSE 'failed' END",
            key,
            error=error,
            again=again,
            cap=MAX_ATTEMPTS,
        )
        with self._guarded() as connection:
            row = connection.execute("SELECT status FROM runs WHERE key = ?", (key,)).fetchone()
        return row is not None and row[0] == "pending"

    def _end(self, assignments: str, key: str, **values: object) -> bool:
        """Write how a run of this owner ended; False if it is no longer this owner's."""
        with self._guarded() as connection:
            row = connection.execute(
                f"UPDATE runs SET finished = :now, owner = NULL, {assignments} WHERE key = :key"
                " AND status = 'running' AND owner = :owner AND claims = :claim RETURNING key",
                {
                    **values,
                    "now": time.time(),
                    "key": key,
                    "owner": self.owner,
                    "claim": self._claims.get(key, -1),
                },
            ).fetchone()
        return row is not None

    def release(self, keys: Sequence[str]) -> None:
        """Give claimed runs back as if they had not been started."""
        with self._guarded() as connection:
            connection.executemany(
                "UPDATE runs SET status = 'pending', owner = NULL, attempts = attempts - 1"
                " WHERE key = ? AND status = 'running' AND owner = ? AND claims = ?",
                [(key, self.owner, self._claims.get(key, -1)) for key in keys],
            )

    def forget(self, keys: Sequence[str]) -> None:
        """Make runs pending again with all their attempts left, whatever became of them."""
        with self._guarded() as connection:
            connection.executemany(
                "UPDATE runs SET status = 'pending', owner = NULL, attempts = 0, error = NULL,"
                " result = NULL, digest = NULL"
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

    def owners(self) -> list[str]:
        """Who else works on wanted runs, and until when at most: for a message to who waits."""
        with self._guarded() as connection:
            rows = connection.execute(
                "SELECT owner, MAX(lease) FROM runs JOIN wanted ON wanted.key = runs.key"
                " WHERE status = 'running' AND owner != ? GROUP BY owner",
                (self.owner,),
            ).fetchall()
        now = time.time()
        return [f"{owner} (for at most {max(lease - now, 0):.0f} s more)" for owner, lease in rows]

    def states(self, keys: Sequence[str]) -> dict[str, Status]:
        """How the runs that are known stand; a result that is damaged is still to be had."""
        with self._guarded():
            rows = self._rows(keys)
        return {run.key: "pending" if run.is_damaged else run.status for run in rows}

    def runs(self, keys: Sequence[str] | None = None) -> list[StoredRun]:
        """Rows of the store, in the order of ``keys`` (None: all, in order of insertion).

        Raises:
            ValueError: A result is not what was written; the run is named.
        """
        with self._guarded():
            rows = self._rows(keys)
        for run in rows:
            if run.is_damaged:
                raise ValueError(
                    f"The result of run {run.key} in {self.path} is damaged (its digest does not"
                    " match); the command that made it trains that run again."
                )
        return rows

    def _rows(self, keys: Iterable[str] | None) -> list[StoredRun]:
        rows = self._connection.execute(
            "SELECT key, spec, status, attempts, error, result, digest FROM runs ORDER BY rowid"
        ).fetchall()
        wanted = None if keys is None else set(keys)
        found = {row[0]: _stored_run(*row) for row in rows if wanted is None or row[0] in wanted}
        return list(found.values()) if keys is None else [found[k] for k in keys if k in found]

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._connection.close()
        if self._copy is not None:
            self._copy.cleanup()


def _stored_run(
    key: str,
    spec: str,
    status: Status,
    attempts: int,
    error: str | None,
    result: str | None,
    digest: str | None,
) -> StoredRun:
    damaged = (
        status == "done"
        and digest is not None
        and (result is None or digest_of(key, spec, result) != digest)
    )
    readable = result is not None and not damaged
    return StoredRun(
        key=key,
        spec={} if damaged else json.loads(spec),
        status=status,
        attempts=attempts,
        error=error,
        result=json.loads(result) if readable and result is not None else None,
        is_damaged=damaged,
    )


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
