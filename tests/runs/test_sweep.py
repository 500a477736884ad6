"""The sweep, with work that has nothing to do with learning."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass

import pytest

from polytask.runs import InlineExecutor, LocalExecutor, RunStore, SweepObserver, sweep


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
