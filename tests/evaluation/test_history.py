"""Scores with a time axis: recorded after every moment, read back, and absent elsewhere."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from tests.evaluation.helpers import FakeFit, FakeMethod, tiny_problem

from polytask.candidates import Candidate, FittedOverTime
from polytask.candidates import run as run_module
from polytask.evaluation import Comparison, compare
from polytask.runs import InlineExecutor
from polytask.runs.progress import SweepObserver

TASKS = ("sum", "positive", "class")
METRICS = ("rmse", "auc", "accuracy")


class LearningFit(FakeFit):
    """Knows more of the truth after each of three moments."""

    moments = ("first", "second", "third")

    def at(self, moment):
        return FakeFit(self.problem, self.seed, self.quality * (moment + 1) / 3)


class LearningMethod(FakeMethod):
    def config(self, num_tasks):
        return {**super().config(num_tasks), "method": "learning"}

    def fit(self, problem, *, seed, budget, rate=1.0):
        fitted = super().fit(problem, seed=seed, budget=budget, rate=rate)
        return LearningFit(problem, seed, fitted.quality)


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    return compare(
        tiny_problem(),
        candidates=[
            Candidate("single-task", FakeMethod(), "single"),
            Candidate("one after the other", LearningMethod(joint_bonus=2.0)),
        ],
        seeds=2,
        out=tmp_path_factory.mktemp("history") / "out",
        executor=InlineExecutor(),
        observer=SweepObserver(),
    )


def test_only_a_fit_with_snapshots_has_moments():
    problem = tiny_problem()
    assert isinstance(LearningFit(problem, 0, 1.0), FittedOverTime)
    assert not isinstance(FakeFit(problem, 0, 1.0), FittedOverTime)


@pytest.mark.parametrize("split", ["validation", "test"])
def test_scores_of_every_task_after_every_moment(result, split):
    history = result.history(split)
    assert history.moments == ("first", "second", "third")
    assert history.values.shape == (2, 2, 3, 3)
    problem = tiny_problem()
    for seed in (0, 1):
        fitted = LearningFit(problem, seed, 3.0)
        for moment in range(3):
            part = getattr(problem, split)
            scores = run_module.score(fitted.at(moment), problem, part)
            expected = [scores[task][metric] for task, metric in zip(TASKS, METRICS, strict=True)]
            assert history.values[1, seed, moment].tolist() == pytest.approx(expected)
    # The error of the number falls with every moment.
    assert (np.diff(history.values[1, :, :, 0], axis=1) < 0).all()


def test_the_last_moment_is_what_everything_else_rests_on(result):
    table = result.analysis.table
    for split in ("validation", "test"):
        values = result.history(split).values
        assert np.array_equal(values[:, :, -1], getattr(table, split)[:2])
        assert np.isnan(values[0, :, :-1]).all()


def test_the_test_rows_are_scored_once_per_moment(monkeypatch):
    problem = tiny_problem()
    plain, read = run_module.score, []

    def counting(fitted, given, split):
        read.append("test" if split is given.test else "validation")
        return plain(fitted, given, split)

    monkeypatch.setattr(run_module, "score", counting)
    last = {task: {"validation": {}, "test": {}} for task in TASKS}
    run_module.score_moments(LearningFit(problem, 0, 1.0), problem, last)
    assert sorted(read) == ["test", "test", "validation", "validation"]


def test_lines_of_runs_without_moments_are_as_before(result):
    lines = (result.folder / "results.jsonl").read_text(encoding="utf-8").splitlines()
    records = [json.loads(line) for line in lines]
    assert ["moments" in record for record in records[:3]] == [False] * 3
    told = [record for record in records if "moments" in record]
    assert len(told) == 2 * 3
    for record in told:
        assert record["moments"]["names"] == ["first", "second", "third"]
        for split, metrics in record["scores"].items():
            for metric, value in metrics.items():
                assert record["moments"]["scores"][split][metric][-1] == value
                assert len(record["moments"]["scores"][split][metric]) == 3


def test_a_loaded_comparison_has_the_same_history(result):
    again = Comparison.load(result.folder).history()
    assert np.array_equal(again.values, result.history().values, equal_nan=True)


def changed(result, name):
    """The comparison with other moments in one run; None for a run without any."""
    key = result.runs_of("one after the other", 0)[0].key
    record = {k: v for k, v in result.runs[key].result.items() if k != "moments"}
    if name is not None:
        record["moments"] = {**result.runs[key].result["moments"], "names": [name] * 3}
    runs = {**result.runs, key: dataclasses.replace(result.runs[key], result=record)}
    return dataclasses.replace(result, runs=runs)


def test_runs_with_other_moments_are_refused(result):
    with pytest.raises(ValueError, match="must have the same moments, found"):
        changed(result, "other").history()


def test_no_moments_no_history(result):
    values = changed(result, None).history().values
    assert np.isnan(values[1, 0, :-1]).all()
    assert not np.isnan(values[1, 0, -1]).any()
    runs = {k: run for k, run in result.runs.items() if "single-task" in run.candidates}
    plan = dataclasses.replace(result.plan, candidates=result.plan.candidates[:1])
    assert dataclasses.replace(result, plan=plan, runs=runs).history() is None
