"""The sweep, with work that has nothing to do with learning."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import time
from dataclasses import dataclass

import pytest

from polytask.runs import InlineExecutor, LocalExecutor, RunStore, SweepObserver, sweep
from polytask.runs.store import Lease


@dataclass(frozen=True)
class Division:
    """A number to divide 12 by."""

    key: str
    by: int
    hard_limit: float | None = None


def divide(spec: Division) -> dict[str, float]:
    return {"value": 12 / spec.by}


class Ends(SweepObserver):
    """Writes down how runs ended."""

    def __init__(self):
        self.errors = {}

    def on_run_end(self, label, *, seconds, error, final):
        self.errors[label] = error


@pytest.mark.parametrize("executor", [InlineExecutor, lambda: LocalExecutor(workers=2)])
def test_any_work_is_carried_out_and_an_error_is_the_result_of_its_run(tmp_path, executor):
    specs = [Division(str(by), by) for by in (3, 0, 4)]
    store, pool, ends = RunStore(tmp_path / "runs.sqlite"), executor(), Ends()
    try:
        outcome = sweep(
            specs,
            {spec.key: {"by": spec.by} for spec in specs},
            work=divide,
            store=store,
            executor=pool,
            observer=ends,
            label=lambda spec: f"by {spec.by}",
        )
        found = {run.key: run.result and run.result["value"] for run in store.runs()}
    finally:
        pool.shutdown(kill=True)
        store.close()
    assert found == {"3": 4.0, "0": None, "4": 3.0}
    assert (outcome.trained, outcome.failed, outcome.interrupted) == (2, ["0"], False)
    failed = "ZeroDivisionError: division by zero"
    assert ends.errors == {"by 3": None, "by 0": failed, "by 4": None}


def test_carrying_out_runs_loads_no_learning():
    program = "import polytask.runs, sys; assert not {'torch', 'numpy'} & set(sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


SLEEPER = """
import sys, time
from pathlib import Path
from tests.runs.test_sweep import Division, Ends
from polytask.runs import InlineExecutor, LocalExecutor, RunStore, sweep
from tests.runs import calls

def work(spec):
    Path(sys.argv[2]).touch()
    time.sleep(60)

executor = InlineExecutor() if sys.argv[3] == "inline" else LocalExecutor(workers=1)
outcome = sweep(
    [Division("a", 1)], {"a": {}}, work=calls.touch_and_sleep if sys.argv[3] != "inline" else work,
    store=RunStore(sys.argv[1]), executor=executor, observer=Ends(), label=str,
)
print("interrupted" if outcome.interrupted else "ended")
"""


@pytest.mark.parametrize("where", ["inline", "workers"])
def test_sigterm_gives_the_runs_back(tmp_path, root, monkeypatch, where):
    """Preemption: the next driver starts at once, and nothing is charged to the run."""
    path, mark = tmp_path / "runs.sqlite", tmp_path / "begun"
    monkeypatch.setenv("POLYTASK_TEST_MARK", str(mark))
    driver = subprocess.Popen(
        [sys.executable, "-c", SLEEPER, str(path), str(mark), where],
        cwd=root, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    deadline = time.monotonic() + 60
    while not mark.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    driver.send_signal(signal.SIGTERM)
    printed, _ = driver.communicate(timeout=60)
    assert printed == "interrupted\n"
    with contextlib.closing(RunStore(path)) as store:
        (run,) = store.runs()
        assert (run.status, run.attempts) == ("pending", 0)


def test_the_handler_of_sigterm_is_the_callers_again(tmp_path):
    before = signal.getsignal(signal.SIGTERM)
    with contextlib.closing(RunStore(tmp_path / "runs.sqlite")) as store:
        sweep(
            [Division("3", 3)], {"3": {}}, work=divide, store=store, executor=InlineExecutor(),
            observer=SweepObserver(), label=str,
        )  # fmt: skip
    assert signal.getsignal(signal.SIGTERM) is before


class TakesOver(SweepObserver):
    """While a run is under way, another process takes it over and ends it."""

    def __init__(self, path):
        self.path, self.ends, self.waits = path, [], []

    def on_run_end(self, label, *, seconds, error, final):
        self.ends.append((label, error, final))

    def on_wait(self, owners):
        self.waits.append(owners)


def test_a_result_that_comes_too_late_is_not_kept(tmp_path):
    path = tmp_path / "runs.sqlite"
    seen = TakesOver(path)

    def slow(spec):
        time.sleep(0.2)
        with contextlib.closing(RunStore(path, owner="elsewhere:1:0")) as other:
            other.want({"3": {}})
            assert other.claim() is not None
            other.finish("3", {"value": 99.0})
        return {"value": 4.0}

    store = RunStore(path, lease_seconds=0.1)
    monkey = Lease._beat
    Lease._beat = lambda self: None  # this driver is stopped: it does not renew its lease
    try:
        outcome = sweep(
            [Division("3", 3)], {"3": {}}, work=slow, store=store, executor=InlineExecutor(),
            observer=seen, label=lambda spec: spec.key,
        )  # fmt: skip
    finally:
        Lease._beat = monkey
    assert store.runs()[0].result == {"value": 99.0}
    assert outcome.trained == 0
    (end,) = seen.ends
    assert end[1] == "another process had taken it over meanwhile, whose result is kept"
    store.close()


def test_who_is_waited_for_is_told_once(tmp_path):
    path = tmp_path / "runs.sqlite"
    other = RunStore(path, owner="elsewhere:1:0", lease_seconds=1.2)
    other.want({"3": {}})
    other.claim()
    seen = TakesOver(path)
    with contextlib.closing(RunStore(path)) as store:
        sweep(
            [Division("3", 3)], {"3": {}}, work=divide, store=store, executor=InlineExecutor(),
            observer=seen, label=str,
        )  # fmt: skip
    other.close()
    ((owner,),) = seen.waits
    assert owner.startswith("elsewhere:1:0 (for at most")
