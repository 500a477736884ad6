"""The run store: claims, leases, attempts, damage."""

from __future__ import annotations

import contextlib
import re
import sqlite3
import struct
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from polytask.runs.owner import is_dead, process_name
from polytask.runs.store import MAX_ATTEMPTS, Lease, RunStore, run_key


def specs(*names):
    return {name: {"what": name} for name in names}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "runs.sqlite"


@pytest.fixture
def store(path):
    with_file = RunStore(path)
    yield with_file
    with_file.close()


def dead_owner():
    """The name of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    name = process_name(process.pid)
    process.communicate(b"\n")
    return name


def test_key_depends_on_content_and_not_on_order():
    assert run_key({"a": 1, "b": [1, 2]}) == run_key({"b": [1, 2], "a": 1})
    assert run_key({"a": 1}) != run_key({"a": 2})
    assert run_key({"a": 1}) != run_key({"a": 1.5})


def test_claims_come_in_the_order_wanted_and_only_once(store):
    store.want(specs("b", "a"))
    assert [store.claim().key, store.claim().key] == ["b", "a"]
    assert store.claim() is None


def test_runs_that_are_not_wanted_are_left_alone(store):
    store.want(specs("a"))
    store.want(specs("b"))
    assert store.claim().key == "b"
    assert store.claim() is None
    assert store.counts() == {"running": 1}


def test_a_finished_run_keeps_its_result_and_is_not_claimed_again(store, path):
    store.want(specs("a"))
    store.claim()
    store.finish("a", {"score": 0.5, "name": "größe"})
    store.close()
    again = RunStore(path)
    again.want(specs("a"))
    assert again.claim() is None
    (run,) = again.runs(["a"])
    assert (run.status, run.result) == ("done", {"score": 0.5, "name": "größe"})
    again.close()


def test_two_stores_never_claim_the_same_run(path):
    stores = [RunStore(path, owner=f"elsewhere:{n}:0") for n in range(4)]
    names = [f"run-{n}" for n in range(40)]
    claimed = [[] for _ in stores]
    for one in stores:
        one.want(specs(*names))

    def take(number):
        while (claim := stores[number].claim()) is not None:
            claimed[number].append(claim.key)

    threads = [threading.Thread(target=take, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for one in stores:
        one.close()
    assert sorted(key for keys in claimed for key in keys) == sorted(names)


def test_a_live_owner_elsewhere_keeps_its_run_until_the_lease_runs_out(path):
    other = RunStore(path, owner="elsewhere:1:0", lease_seconds=0.3)
    other.want(specs("a"))
    other.claim()
    mine = RunStore(path)
    mine.want(specs("a"))
    assert mine.claim() is None
    time.sleep(0.35)
    claim = mine.claim()
    assert (claim.key, claim.attempt, claim.number) == ("a", 1, 2)
    other.close()
    mine.close()


def test_heartbeats_keep_a_lease(path):
    other = RunStore(path, owner="elsewhere:1:0", lease_seconds=0.4)
    other.want(specs("a"))
    other.claim()
    mine = RunStore(path)
    mine.want(specs("a"))
    with Lease(other):
        time.sleep(0.9)
        assert mine.claim() is None
    other.close()
    mine.close()


def test_the_run_of_a_dead_process_of_this_machine_is_free_at_once(path):
    other = RunStore(path, owner=dead_owner(), lease_seconds=3600)
    other.want(specs("a"))
    other.claim()
    other.close()
    mine = RunStore(path)
    mine.want(specs("a"))
    assert mine.claim().attempt == 1
    mine.close()


def test_deaths_of_drivers_are_not_charged_to_the_run(path):
    """Preemption, a reboot, too little memory: the third time it is not the run's fault either."""
    for _ in range(MAX_ATTEMPTS + 2):
        other = RunStore(path, owner=dead_owner())
        other.want(specs("a"))
        assert other.claim().attempt == 1
        other.close()
    mine = RunStore(path)
    mine.want(specs("a"))
    assert mine.claim().attempt == 1
    assert mine.finish("a", {"score": 1.0})
    mine.close()


def test_deaths_of_workers_that_a_live_driver_saw_are_counted(store):
    store.want(specs("a"))
    for attempt in range(1, MAX_ATTEMPTS + 1):
        assert store.claim().attempt == attempt
        assert store.fail("a", "its process died", again=True) is (attempt < MAX_ATTEMPTS)
    assert store.claim() is None


def test_a_driver_that_was_stopped_cannot_overwrite_who_took_over(path):
    """It slept for longer than its lease, in the same or another container."""
    slow = RunStore(path, owner="elsewhere:1:0", lease_seconds=0.05)
    slow.want(specs("a"))
    slow.claim()
    time.sleep(0.1)
    fast = RunStore(path)
    fast.want(specs("a"))
    fast.claim()
    assert fast.finish("a", {"score": 1.0})
    assert not slow.finish("a", {"score": 2.0})
    assert not slow.fail("a", "too late")
    slow.release(["a"])
    (run,) = fast.runs()
    assert (run.status, run.result) == ("done", {"score": 1.0})
    slow.close()
    fast.close()


def test_a_second_claim_of_the_same_owner_makes_the_first_void(path):
    one, two = (RunStore(path, owner="elsewhere:1:0", lease_seconds=0.05) for _ in range(2))
    one.want(specs("a"))
    two.want(specs("a"))
    one.claim()
    time.sleep(0.1)
    two.claim()
    assert not one.finish("a", {"score": 2.0})
    assert two.finish("a", {"score": 1.0})
    one.close()
    two.close()


@pytest.mark.parametrize(
    ("change", "dead"),
    [({}, True), ({"boot": "0"}, False), ({"namespace": "1"}, False), ({"host": "h"}, False)],
)
def test_only_processes_of_this_machine_and_container_are_known_to_be_dead(change, dead):
    host, boot, namespace, pid, start = dead_owner().rsplit(":", 4)
    parts = {"host": host, "boot": boot, "namespace": namespace, "pid": pid, "start": start}
    assert is_dead(":".join({**parts, **change}.values())) is dead
    assert not is_dead(process_name())
    assert is_dead(None)


def test_names_of_the_first_format_are_understood():
    host, _, _, pid, start = dead_owner().rsplit(":", 4)
    assert is_dead(f"{host}:{pid}:{start}")
    host, _, _, pid, start = process_name().rsplit(":", 4)
    assert not is_dead(f"{host}:{pid}:{start}")
    assert not is_dead("not a name")


def test_who_is_waited_for_is_said(path):
    other = RunStore(path, owner="elsewhere:1:0", lease_seconds=500)
    other.want(specs("a"))
    other.claim()
    mine = RunStore(path)
    mine.want(specs("a"))
    (who,) = mine.owners()
    assert re.fullmatch(r"elsewhere:1:0 \(for at most (499|500) s more\)", who)
    other.close()
    mine.close()


def test_failures_keep_their_text_and_are_tried_again_up_to_the_cap(store):
    store.want(specs("a"))
    for attempt in range(1, MAX_ATTEMPTS + 1):
        assert store.claim().attempt == attempt
        again = store.fail("a", f"error {attempt}", again=True)
        assert again is (attempt < MAX_ATTEMPTS)
    assert store.claim() is None
    store.want(specs("a"))
    assert store.claim() is None
    assert store.runs()[0].error == "error 3"


def test_an_error_ends_a_run_until_the_next_sweep(store):
    store.want(specs("a"))
    store.claim()
    assert store.fail("a", "no") is False
    assert store.claim() is None
    store.want(specs("a"), retry_failed=False)
    assert store.claim() is None
    store.want(specs("a"))
    assert store.claim().attempt == 2


def test_released_runs_have_not_been_started(store):
    store.want(specs("a"))
    store.claim()
    store.release(["a"])
    assert store.claim().attempt == 1


def test_forgotten_runs_start_afresh(store):
    store.want(specs("a"))
    for _ in range(MAX_ATTEMPTS):
        store.claim()
        store.fail("a", "no", again=True)
    store.forget(["a"])
    claim = store.claim()
    assert claim.attempt == 1
    assert store.runs()[0].error is None


def test_a_damaged_file_says_so(path):
    path.write_bytes(b"this is no database" * 100)
    with pytest.raises(ValueError, match=r"run store .*runs\.sqlite is damaged .*move it away"):
        RunStore(path)


def test_a_truncated_file_says_so(store, path):
    store.want(specs(*(f"run-{n}" for n in range(500))))
    store.close()
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match="is damaged"):
        RunStore(path)


def test_a_store_of_another_format_is_refused(path):
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(ValueError, match="format 99"):
        RunStore(path)


def finished(path):
    with contextlib.closing(RunStore(path)) as store:
        store.want(specs("a", "b"))
        for key in ("a", "b"):
            store.claim()
            store.finish(key, {"score": 0.75})


def sql(path, *statements):
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for statement in statements:
            connection.execute(statement)


@pytest.mark.parametrize("read_only", [False, True])
@pytest.mark.parametrize(
    "damage",
    ["result = replace(result, '0.75', '0.95')", "spec = '{}'", "result = NULL", "digest = 'x'"],
)
def test_a_changed_result_is_found_and_trained_again(path, damage, read_only):
    finished(path)
    sql(path, f"UPDATE runs SET {damage} WHERE key = 'a'")
    with contextlib.closing(RunStore(path, read_only=read_only)) as store:
        with pytest.raises(ValueError, match=r"result of run a in .* is damaged"):
            store.runs()
        assert store.runs(["b"])[0].result == {"score": 0.75}
        store.want(specs("a", "b"))
        assert store.claim().key == "a"
        assert store.claim() is None


def test_reading_changes_nothing_in_the_folder(path):
    finished(path)
    before = {file.name: file.read_bytes() for file in path.parent.iterdir()}
    with contextlib.closing(RunStore(path, read_only=True)) as store:
        assert len(store.runs()) == 2
    assert {file.name: file.read_bytes() for file in path.parent.iterdir()} == before
    with pytest.raises(FileNotFoundError):
        RunStore(path.with_name("none"), read_only=True)
    assert not path.with_name("none").exists()


def test_a_store_of_the_first_format_is_read_and_continued(path):
    sql(
        path,
        "CREATE TABLE runs (key TEXT PRIMARY KEY, spec TEXT NOT NULL,"
        " status TEXT NOT NULL DEFAULT 'pending', owner TEXT, lease REAL, heartbeat REAL,"
        " attempts INTEGER NOT NULL DEFAULT 0, error TEXT, result TEXT, started REAL,"
        " finished REAL)",
        "INSERT INTO runs (key, spec, status, attempts, result)"
        """ VALUES ('a', '{"what": "a"}', 'done', 1, '{"score": 0.5}')""",
        "PRAGMA user_version = 1",
    )
    content = path.read_bytes()
    with contextlib.closing(RunStore(path, read_only=True)) as store:
        assert store.runs()[0].result == {"score": 0.5}
    assert path.read_bytes() == content
    with contextlib.closing(RunStore(path)) as store:
        store.want(specs("a", "b"))
        assert store.claim().key == "b"
        assert store.finish("b", {"score": 0.75})
        assert [run.result for run in store.runs()] == [{"score": 0.5}, {"score": 0.75}]


#: A journal that SQLite plays back: pages before the change, here none at all.
JOURNAL_HEADER = bytes.fromhex("d9d505f920a163d7") + struct.pack(">IIIII", 0, 7, 1, 512, 4096)


@pytest.mark.parametrize("read_only", [False, True])
def test_a_journal_that_names_a_file_deletes_nothing(path, tmp_path, read_only):
    """SQLite deletes the super-journal that a hot journal names."""
    finished(path)
    precious = tmp_path / "precious"
    precious.write_text("mine", encoding="utf-8")
    name = str(precious).encode()
    trailer = struct.pack(">I", 4096 * 16) + name + struct.pack(">I", len(name))
    trailer += struct.pack(">I", sum(name)) + bytes.fromhex("d9d505f920a163d7")
    journal = path.with_name("runs.sqlite-journal")
    journal.write_bytes(JOURNAL_HEADER.ljust(512, b"\0") + trailer)
    with pytest.raises(ValueError, match=r"journal .* names another file"):
        RunStore(path, read_only=read_only)
    assert precious.read_text(encoding="utf-8") == "mine"
    journal.unlink()
    journal.symlink_to(precious)
    with pytest.raises(ValueError, match=r"journal .* names another file"):
        RunStore(path, read_only=read_only)
    assert precious.read_text(encoding="utf-8") == "mine"


@pytest.mark.parametrize("read_only", [False, True])
def test_an_interrupted_write_of_the_stores_own_is_played_back(path, read_only):
    finished(path)
    program = f"""
import os, sqlite3
connection = sqlite3.connect({str(path)!r}, isolation_level=None)
connection.execute("PRAGMA cache_size = 1")
connection.execute("PRAGMA cache_spill = 1")
connection.execute("BEGIN IMMEDIATE")
connection.execute("UPDATE runs SET result = 'torn', error = hex(zeroblob(200000))")
connection.execute("UPDATE runs SET error = hex(zeroblob(300000))")
os._exit(9)
"""
    subprocess.run([sys.executable, "-c", program], check=False)
    assert path.with_name("runs.sqlite-journal").stat().st_size > 0
    with contextlib.closing(RunStore(path, read_only=read_only)) as store:
        assert [run.result for run in store.runs()] == [{"score": 0.75}] * 2


@pytest.mark.parametrize("read_only", [False, True])
@pytest.mark.parametrize(
    "statements",
    [
        ["ALTER TABLE runs RENAME TO other", "CREATE VIEW runs AS SELECT * FROM other"],
        ["CREATE TRIGGER more AFTER UPDATE ON runs BEGIN DELETE FROM runs; END"],
        ["CREATE TABLE other (a)"],
        ["ALTER TABLE runs ADD COLUMN more TEXT"],
        ["PRAGMA journal_mode = WAL"],
    ],
)
def test_a_store_that_holds_more_than_runs_is_refused(path, statements, read_only):
    finished(path)
    sql(path, *statements)
    with pytest.raises(ValueError, match="is no run store of Polytask"):
        RunStore(path, read_only=read_only)


@pytest.mark.parametrize("read_only", [False, True])
def test_an_empty_file_is_not_taken_for_a_new_store(path, read_only):
    path.touch()
    with pytest.raises(ValueError, match="is empty, so its runs are lost"):
        RunStore(path, read_only=read_only)


def test_many_processes_can_make_a_store_at_once(path):
    with ThreadPoolExecutor(8) as pool:
        stores = list(pool.map(lambda _: RunStore(path), range(8)))
    for one in stores:
        one.want(specs("a"))
        one.close()
    assert sorted(file.name for file in path.parent.iterdir()) == ["runs.sqlite"]


def test_a_folder_that_does_not_exist_is_an_os_error(tmp_path):
    with pytest.raises(OSError, match="Cannot open the run store"):
        RunStore(tmp_path / "none" / "runs.sqlite")
