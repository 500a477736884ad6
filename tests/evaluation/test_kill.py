"""kill -9 of a worker and of the whole command: nothing is lost, and the same command continues."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter

import pytest
from tests.evaluation.helpers import FakeMethod, tiny_problem
from tests.runs.calls import is_alive

from polytask.candidates import Candidate
from polytask.evaluation import compare
from polytask.runs import LocalExecutor, RunStore
from polytask.runs.progress import SweepObserver

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="looks at /proc"),
]

PROGRAM = """
import signal
# A shell starts its background jobs with Ctrl-C ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)
import sys
from polytask.candidates import Candidate
from polytask.evaluation import compare
from tests.evaluation.helpers import FakeMethod, tiny_problem
out, log, sleep = sys.argv[1:4]
result = compare(
    tiny_problem(),
    candidates=[
        Candidate("single-task", FakeMethod(log=log, sleep=float(sleep)), "single"),
        Candidate("shared: fake", FakeMethod(log=log, joint_bonus=2.0, sleep=float(sleep))),
    ],
    seeds=2,
    out=out,
    workers=2,
)
print(result.is_complete, len(result.failures))
"""


def start(tmp_path, sleep):
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(tmp_path / "out"), str(tmp_path / "log"), str(sleep)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
    )


def fits(tmp_path):
    log = tmp_path / "log"
    return [line.split() for line in log.read_text().splitlines()] if log.exists() else []


def wait_for(condition, seconds=60.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


def test_the_command_continues_after_kill_9(tmp_path):
    driver = start(tmp_path, 0.7)
    wait_for(lambda: len(fits(tmp_path)) >= 4)
    driver.send_signal(signal.SIGKILL)
    driver.communicate()
    wait_for(lambda: not any(is_alive(int(pid)) for _, _, pid in fits(tmp_path)), 20)
    store = RunStore(tmp_path / "out" / "runs.sqlite")
    done = {(*tuple(run.spec["tasks"]), run.spec["seed"]) for run in store.runs() if run.result}
    store.close()
    assert 1 <= len(done) < 8
    before = len(fits(tmp_path))
    again = start(tmp_path, 0.7)
    out, err = again.communicate(timeout=90)
    assert out == "True 0\n", err
    assert f"{len(done)} of 8 runs are finished already" in err
    repeated = [(*names.split(","), int(seed)) for names, seed, _ in fits(tmp_path)[before:]]
    assert len(repeated) == 8 - len(done)
    assert done.isdisjoint(repeated)


class KillFirstWorker(SweepObserver):
    """Kills the first worker that writes that it has begun."""

    def __init__(self, log):
        self.log, self.killed, self.messages = log, None, []

    def on_run_end(self, label, *, seconds, error, final):
        if error is not None:
            self.messages.append((error, final))


def test_a_killed_worker_loses_nothing(tmp_path):
    log = tmp_path / "log"
    observer = KillFirstWorker(log)
    executor = LocalExecutor(workers=2)
    submit = executor.submit
    calls = []

    def submit_and_kill(function, argument):
        future = submit(function, argument)
        calls.append(argument.key)
        if len(calls) == 3:
            wait_for(lambda: len(fits(tmp_path)) >= 3)
            os.kill(int(fits(tmp_path)[2][2]), signal.SIGKILL)
        return future

    executor.submit = submit_and_kill
    try:
        result = compare(
            tiny_problem(),
            candidates=[Candidate("single-task", FakeMethod(log=log, sleep=0.6), "single")],
            seeds=2,
            out=tmp_path / "out",
            executor=executor,
            observer=observer,
        )
    finally:
        executor.shutdown(kill=True)
    assert result.is_complete
    assert result.failures == []
    ((message, final),) = observer.messages
    assert "signal 9" in message
    assert message.endswith("started again")
    assert not final
    assert sorted(Counter(run.attempts for run in result.runs.values()).items()) == [(1, 5), (2, 1)]
    assert len(calls) == 7


def test_ctrl_c_on_the_command_ends_its_workers(tmp_path):
    driver = start(tmp_path, 1.5)
    wait_for(lambda: len(fits(tmp_path)) >= 3)
    driver.send_signal(signal.SIGINT)
    out, err = driver.communicate(timeout=60)
    assert out == "False 0\n", err
    assert "are finished and kept; the same command continues" in err
    assert not any(is_alive(int(pid)) for _, _, pid in fits(tmp_path))
