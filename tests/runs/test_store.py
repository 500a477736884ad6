"""The run store: claims, leases, attempts, damage."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
import time

import pytest

from polytask.runs.store import MAX_ATTEMPTS, Lease, RunStore, process_name, run_key


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
    assert (claim.key, claim.attempt) == ("a", 2)
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
    assert mine.claim().attempt == 2
    mine.close()


def test_a_run_whose_workers_keep_dying_is_given_up(path):
    for attempt in range(1, MAX_ATTEMPTS + 1):
        other = RunStore(path, owner=dead_owner())
        other.want(specs("a"))
        assert other.claim().attempt == attempt
        other.close()
    mine = RunStore(path)
    mine.want(specs("a"))
    assert mine.claim() is None
    (run,) = mine.runs()
    assert run.status == "failed"
    assert "died (3 attempts)" in run.error
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


def test_a_folder_that_does_not_exist_is_an_os_error(tmp_path):
    with pytest.raises(OSError, match="Cannot open the run store"):
        RunStore(tmp_path / "none" / "runs.sqlite")
