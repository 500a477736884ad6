"""Run folders that were written before the rooms of the package were moved still open."""

from __future__ import annotations

import json
import math
import sqlite3

import pytest

from polytask.cli.main import OK, run
from polytask.evaluation import Comparison
from polytask.evaluation.run_folder import RunFolder
from polytask.evaluation.verdict import Situation

#: As ``polytask compare`` wrote it, with fewer columns and circumstances.
PLAN = """{
 "format": 1,
 "name": "homes",
 "baseline": "single-task",
 "tasks": [
  {"name": "price", "kind": "regression", "size": 1, "mean": 300.85, "scale": 144.06,
   "metrics": ["rmse", "r2"], "class_weights": null,
   "labels_per_split": {"train": 180, "validation": 60, "test": 60}, "positives": null,
   "higher_is_better": false},
  {"name": "sold", "kind": "binary", "labels": ["no", "yes"], "metrics": ["auc"],
   "class_weights": null, "labels_per_split": {"train": 180, "validation": 60, "test": 60},
   "positives": 0.378, "higher_is_better": true}
 ],
 "layout": "shared",
 "rows": {"train": 180, "validation": 60, "test": 60},
 "notes": ["target price: taken for regression"],
 "seeds": [0, 1],
 "candidates": [
  {"name": "single-task", "groups": [["price"], ["sold"]],
   "runs": {"0": ["a0", "b0"], "1": ["a1", "b1"]},
   "method": {"method": "network", "balancer": {"type": "Equal", "heads": "weighted"},
    "architecture": null, "settings": null}},
  {"name": "shared: equal", "groups": [["price", "sold"]], "runs": {"0": ["c0"], "1": ["c1"]},
   "method": {"method": "network", "balancer": {"type": "Equal", "heads": "weighted"},
    "architecture": null, "settings": null}}
 ],
 "budget": {"epochs": 20, "patience": 4, "trials": 1, "time_limit": null},
 "resplits": true,
 "source": "7ff3e7e49a2a4325",
 "data": {"type": "TableSource", "name": "homes", "targets": [["price", null], ["sold", null]],
  "drop": [], "split": {"fractions": [0.6, 0.2, 0.2], "by": null, "column": null},
  "categorical": [], "rows": 300, "resplits": true, "columns": []},
 "schema": [
  {"column": "size", "role": "input", "type": "numeric", "missing": 0.0, "distinct": 300,
   "note": ""}
 ],
 "card": {"command": "polytask compare --data homes.csv", "seeds": [0, 1],
  "data_fingerprint": "7ff3e7e49a2a4325",
  "budget": {"epochs": 20, "patience": 4, "trials": 1, "time_limit": null},
  "versions": {"polytask": "0.1.0+0123456789ab", "python": "3.12.0", "torch": "2.8.0"},
  "machine": {"system": "Linux x86_64", "processor": "unknown", "cores": 2, "memory_gb": 7.8},
  "started": "2026-01-01 12:00:00 +0000"}
}"""
STORE = """
CREATE TABLE runs (
    key TEXT PRIMARY KEY, spec TEXT NOT NULL, status TEXT NOT NULL DEFAULT 'pending', owner TEXT,
    lease REAL, heartbeat REAL, attempts INTEGER NOT NULL DEFAULT 0, error TEXT, result TEXT,
    started REAL, finished REAL
);
PRAGMA user_version = 1;
"""
#: Per run its tasks' scores on validation and test; the last run has failed.
SCORES = {
    "a0": {"price": (20.0, 25.0)},
    "b0": {"sold": (0.90, 0.80)},
    "a1": {"price": (22.0, 26.0)},
    "b1": {"sold": (0.91, None)},
    "c0": {"price": (18.0, 20.0), "sold": (0.92, 0.88)},
}
#: The line of run a0 in the results file.
LINE = (
    '{"run": "a0", "candidates": ["single-task"], "task": "price", "seed": 0, "group": ["price"],'
    ' "scores": {"validation": {"rmse": 20.0, "r2": 0.5}, "test": {"rmse": 25.0, "r2": 0.5}},'
    ' "labels": {"train": 180, "validation": 60, "test": 60}, "parameters": 100,'
    ' "train_seconds": 2.0, "predict_seconds_per_1000": 0.1, "peak_memory_mb": 400.0,'
    ' "gpu_memory_mb": null, "steps": 108, "epochs": 9, "learning_rate": 0.004,'
    ' "stopped_by": "patience", "device": "cpu", "trials": [], "saved": true, "notes": [],'
    ' "wall_seconds": 3.0, "worker_host": "vm"}'
)


def result_of(scores):
    def named(task, value):
        return {"rmse": value, "r2": 0.5} if task == "price" else {"auc": value}

    tail = json.loads(LINE)
    for name in ("run", "candidates", "task", "seed", "group", "scores", "labels"):
        del tail[name]
    curves = {"epoch": [1, 2], "train_loss": {t: [0.5, 0.4] for t in scores}, "best_epoch": 2}
    return {
        "scores": {
            task: {"validation": named(task, validation), "test": named(task, test)}
            for task, (validation, test) in scores.items()
        },
        "labels": {task: {"train": 180, "validation": 60, "test": 60} for task in scores},
        **tail,
        "curves": curves,
        "cosines": [[1.0, 0.25], [0.25, 1.0]] if len(scores) > 1 else None,
    }


@pytest.fixture
def stored(tmp_path):
    """The folder, without its results file."""
    (tmp_path / "comparison.json").write_text(PLAN, encoding="utf-8")
    connection = sqlite3.connect(tmp_path / "runs.sqlite")
    connection.executescript(STORE)
    rows = [(key, "done", None, json.dumps(result_of(found))) for key, found in SCORES.items()]
    rows.append(("c1", "failed", "RuntimeError: no memory", None))
    connection.executemany(
        "INSERT INTO runs (key, spec, status, attempts, error, result)"
        " VALUES (?, '{}', ?, 1, ?, ?)",
        rows,
    )
    connection.commit()
    connection.close()
    return tmp_path


def test_plan_runs_and_scores_are_read(stored):
    found = Comparison.load(stored)
    assert (found.name, found.baseline) == ("homes", "single-task")
    assert (found.tasks, found.seeds) == (("price", "sold"), (0, 1))
    assert found.candidates == ("single-task", "shared: equal")
    assert found.groups("shared: equal") == (("price", "sold"),)
    assert found.provenance()["versions"]["polytask"] == "0.1.0+0123456789ab"
    assert found.overlap == pytest.approx(1 / 3)
    assert found.is_complete
    (failure,) = found.failures
    assert (failure.key, failure.seed, failure.error) == ("c1", 1, "RuntimeError: no memory")
    assert [run.key for run in found.runs_of("single-task", 1)] == ["a1", "b1"]
    scores = found.scores().set_index(["run", "task", "split", "metric"])["value"]
    assert scores["c0", "price", "test", "rmse"] == 20.0
    assert math.isnan(scores["b1", "sold", "test", "auc"])


def test_the_answer_is_the_same(stored):
    found = Comparison.load(stored)
    row = found.leaderboard().set_index("candidate").loc["shared: equal"]
    # Seed 0: price from 25 to 20, sold from 0.8 to 0.88.
    assert row["delta_m"] == pytest.approx(100 * (0.2 + 0.1) / 2)
    assert (row["seeds"], row["failed"]) == (1, 1)
    assert found.winner == "single-task"
    assert found.verdict.situation is Situation.BASELINE_LEADS
    assert "1 run failed" in str(found.verdict)


def test_the_results_file_is_written_as_before(stored):
    RunFolder(stored).write_results(Comparison.load(stored).runs)
    lines = (stored / "results.jsonl").read_text(encoding="utf-8").splitlines()
    assert lines[0] == LINE
    assert len(lines) == 6
    assert "curves" not in json.loads(lines[-1])


def test_the_report_is_written_again(stored):
    assert run(["report", str(stored)]) == OK
    text = (stored / "report.html").read_text(encoding="utf-8")
    for shown in ("RuntimeError: no memory", "polytask compare --data homes.csv", "2.8.0"):
        assert shown in text


def test_a_plan_is_stored_under_its_old_names(stored):
    plan = Comparison.load(stored).plan
    assert json.loads(plan.to_json()) == json.loads(PLAN)
    assert list(json.loads(plan.to_json())) == list(json.loads(PLAN))
