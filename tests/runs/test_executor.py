"""Executors: work elsewhere, death of a worker, time limits, thread counts."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest
from tests.runs import calls

from polytask.runs.executor import (
    Failure,
    InlineExecutor,
    LocalExecutor,
    RunTimeout,
    WorkerDied,
    cpu_count,
)


@pytest.fixture
def executor():
    local = LocalExecutor(workers=1)
    yield local
    local.shutdown(kill=True)


def test_inline_runs_at_once_and_carries_errors():
    inline = InlineExecutor()
    assert inline.submit(calls.double, 2.0).result() == 4.0
    with pytest.raises(ValueError, match="found 'x'"):
        inline.submit(calls.print_and_fail, "x").result()


def test_work_is_done_in_other_long_lived_processes():
    local = LocalExecutor(workers=2)
    try:
        futures = [local.submit(calls.process_number, None) for _ in range(8)]
        pids = {future.result() for future in futures}
        assert os.getpid() not in pids
        assert 1 <= len(pids) <= 2
        assert local.slots == 2
    finally:
        local.shutdown()
    assert not any(calls.is_alive(pid) for pid in pids)


def test_an_error_comes_back_with_its_trace_and_prints_do_not_disturb(executor):
    with pytest.raises(Failure, match="ValueError: found 'noise'") as caught:
        executor.submit(calls.print_and_fail, "noise").result()
    assert "print_and_fail" in caught.value.trace
    assert executor.submit(calls.double, 4.0).result() == 8.0


def test_a_killed_worker_fails_its_call_and_is_replaced(executor):
    first = executor.submit(calls.process_number, None).result()
    with pytest.raises(WorkerDied, match="signal 9"):
        executor.submit(calls.stop_myself, None).result()
    second = executor.submit(calls.process_number, None).result()
    assert first != second


def test_a_call_beyond_its_time_limit_is_ended():
    local = LocalExecutor(workers=1, time_limit=5.0)
    try:
        pid = local.submit(calls.process_number, None).result()
        started = time.monotonic()
        with pytest.raises(RunTimeout, match="time limit of 5 s"):
            local.submit(calls.sleep_for, 60.0).result()
        assert time.monotonic() - started < 30
        assert not calls.is_alive(pid)
        assert local.submit(calls.double, 1.0).result() == 2.0
    finally:
        local.shutdown(kill=True)


def test_workers_share_the_gpus():
    local = LocalExecutor(workers=1, devices=["3", "5"])
    try:
        found = local.submit(calls.environment, ["CUDA_VISIBLE_DEVICES"]).result()
    finally:
        local.shutdown()
    assert found == ["3"]


def test_workers_share_the_cores():
    local = LocalExecutor(workers=2)
    names = ["OMP_NUM_THREADS", "OMP_WAIT_POLICY"]
    try:
        found = local.submit(calls.environment, names).result()
    finally:
        local.shutdown()
    assert found == [str(max(1, cpu_count() // 2)), "PASSIVE"]


def test_what_cannot_travel_is_refused(executor):
    with pytest.raises(TypeError, match="cannot be sent to a worker"):
        executor.submit(lambda value: value, 1)


def test_shutdown_with_kill_does_not_wait(executor):
    future = executor.submit(calls.sleep_for, 60.0)
    time.sleep(0.2)
    started = time.monotonic()
    executor.shutdown(kill=True)
    assert time.monotonic() - started < 20
    assert isinstance(future.exception(), WorkerDied)


@pytest.mark.skipif(sys.platform != "linux", reason="looks at /proc")
def test_workers_end_when_the_driver_is_killed():
    program = """
import sys, time
from polytask.runs.executor import LocalExecutor
from tests.runs import calls
local = LocalExecutor(workers=1)
print(local.submit(calls.process_number, None).result(), flush=True)
local.submit(calls.sleep_for, 600.0)
time.sleep(600)
"""
    driver = subprocess.Popen(
        [sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
    )
    worker = int(driver.stdout.readline())
    assert calls.is_alive(worker)
    driver.send_signal(signal.SIGKILL)
    driver.communicate()
    deadline = time.monotonic() + 20
    while calls.is_alive(worker) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not calls.is_alive(worker)


@pytest.mark.parametrize(("name", "value"), [("workers", 0), ("time_limit", -1.0)])
def test_bad_arguments_are_named(name, value):
    with pytest.raises(ValueError, match=f"`{name}`"):
        LocalExecutor(**{"workers": 1, name: value})


HOSTILE = "import pathlib; pathlib.Path('executed').touch(); raise SystemExit(3)"


@pytest.mark.parametrize("name", ["queue", "random", "pickle", "torch", "polytask", "numpy"])
def test_files_of_the_current_directory_are_not_executed(tmp_path, monkeypatch, name):
    """A table was downloaded, and a file of this name with it."""
    (tmp_path / f"{name}.py").write_text(HOSTILE, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    local = LocalExecutor(workers=1)
    try:
        assert local.submit(calls.double, 2.0).result() == 4.0
    finally:
        local.shutdown()
    assert not (tmp_path / "executed").exists()


def test_files_beside_a_script_do_not_hide_modules_and_its_own_travel(tmp_path):
    """As a user's own ``random.py`` does, which broke every run."""
    (tmp_path / "random.py").write_text("raise SystemExit('mine')", encoding="utf-8")
    (tmp_path / "my_methods.py").write_text("def half(x):\n    return x / 2\n", encoding="utf-8")
    script = """
import sys
sys.path.append(sys.path.pop(0))  # this process itself wants the standard library's `random`
from polytask.runs.executor import LocalExecutor
import my_methods
local = LocalExecutor(workers=1)
print(local.submit(my_methods.half, 4.0).result())
local.shutdown()
"""
    (tmp_path / "script.py").write_text(script, encoding="utf-8")
    for command in (["script.py"], ["-c", script]):
        done = subprocess.run(
            [sys.executable, *command], cwd=tmp_path, capture_output=True, text=True, timeout=120
        )
        assert done.stdout == "2.0\n", done.stderr
