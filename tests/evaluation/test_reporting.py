"""From a comparison to what its report shows: nothing lost, nothing invented."""

from __future__ import annotations

import dataclasses
import math

import pytest

from polytask.cli.main import OK, run
from polytask.evaluation import Comparison
from polytask.evaluation.reporting import report_data
from polytask.report import report_html, write_report

TASKS = ("price & co", "<script>alert(1)</script>")


@pytest.fixture(scope="module")
def data(trained):
    return report_data(trained)


def changed(comparison: Comparison, **values: object) -> Comparison:
    """The comparison with its first run changed."""
    key = next(iter(comparison.runs))
    runs = {**comparison.runs, key: dataclasses.replace(comparison.runs[key], **values)}
    return Comparison(comparison.plan, runs, comparison.folder)


def test_scores_are_those_of_the_runs(trained, data):
    raw = trained.scores()
    raw = raw[(raw["split"] == "test") & raw["primary"]]
    expected = {(r.candidate, r.task, r.seed): r.value for r in raw.itertuples()}
    assert {(s.candidate, s.task, s.seed): s.value for s in data.scores} == expected
    assert len(expected) == 2 * 2 * 2


def test_gains_follow_from_the_scores(trained, data):
    scores = {(s.candidate, s.task, s.seed): s.value for s in data.scores}
    (joint,) = set(trained.candidates) - {"single-task"}
    found = {(g.candidate, g.task): g.estimate for g in data.gains}
    for task, sign in zip(TASKS, (-1, 1), strict=True):
        base = [scores["single-task", task, seed] for seed in (0, 1)]
        own = [scores[joint, task, seed] for seed in (0, 1)]
        gains = [100 * sign * (o - b) / abs(b) for o, b in zip(own, base, strict=True)]
        estimate = found[joint, task]
        assert estimate.mean == pytest.approx(sum(gains) / 2)
        # Student's t with one degree of freedom; two values' standard error is half their gap.
        assert estimate.high - estimate.mean == pytest.approx(
            12.7062047 * abs(gains[0] - gains[1]) / 2, rel=1e-6
        )
    assert "single-task" not in {g.candidate for g in data.gains}


def test_leaderboard_is_the_comparisons_own(trained, data):
    frame = trained.leaderboard()
    assert [row.name for row in data.candidates] == frame["candidate"].tolist()
    for row, (_, record) in zip(data.candidates, frame.iterrows(), strict=True):
        for name, column in (("parameters", "parameters"), ("training_seconds", "train_seconds")):
            assert getattr(row, name) == pytest.approx(record[column], nan_ok=True)
        assert set(row.scores) == {"rmse", "auc"}
    assert sum(row.is_baseline for row in data.candidates) == 1
    assert [row.name for row in data.candidates if row.is_winner] == [trained.winner]
    (composite,) = [row for row in data.candidates if row.is_composite]
    assert math.isnan(composite.parameters)


def test_training_is_told(trained, data):
    assert {(c.candidate, c.seed) for c in data.curves} == {
        (name, seed) for name in trained.candidates for seed in (0, 1)
    }
    for curve in data.curves:
        assert len(curve.epochs) == len(curve.train) == len(curve.validation) == 3
        assert all(map(math.isfinite, curve.train + curve.validation))
    assert {w.candidate for w in data.weights} == {"shared: uncertainty"}
    assert set(data.weights[0].weights) == set(TASKS)


def test_curves_are_means_over_the_tasks(trained, data):
    (joint,) = trained.runs_of("shared: uncertainty", 0)
    losses = joint.result["curves"]["validation_loss"]
    (curve,) = [c for c in data.curves if (c.candidate, c.seed) == ("shared: uncertainty", 0)]
    looked_at = joint.result["curves"]["validation_epoch"]
    for place, epoch in enumerate(looked_at):
        mean = sum(losses[task][place] for task in TASKS) / 2
        assert curve.validation[curve.epochs.index(epoch)] == pytest.approx(mean)
    assert looked_at[-1] == 3


def test_cosines_are_means_over_the_seeds(trained, data):
    (found,) = data.cosines
    seeds = [trained.runs_of("shared: uncertainty", s)[0].result["cosines"] for s in (0, 1)]
    assert found.tasks == TASKS
    assert found.matrix[0][0] == pytest.approx(1, abs=1e-4)
    assert found.matrix[0][1] == pytest.approx((seeds[0][0][1] + seeds[1][0][1]) / 2)


def test_data_and_circumstances(data):
    price, sold = data.tasks
    assert (price.metric, price.higher_is_better, sold.metric) == ("rmse", False, "auc")
    assert price.labels == {"train": 48, "validation": 16, "test": 16}
    assert "learned as (y − " in price.note
    assert math.isnan(price.positives)
    assert 0 < sold.positives < 1
    assert data.rows == {"train": 48, "validation": 16, "test": 16}
    assert data.budget["epochs"] == "at most 3"
    assert data.repeat["seeds"] == "0, 1"
    assert data.repeat["splits"] == "the same for every seed"
    assert len(data.repeat["data fingerprint"]) == 16
    assert "torch version" in data.repeat
    assert data.command == "polytask compare --data 'a b.csv'"
    assert "these test rows only" in data.interval_note


def test_a_finished_comparison_has_no_status(data):
    assert data.status == ""
    assert data.failures == ()
    assert data.headline


def test_an_interrupted_comparison_is_reported(trained):
    data = report_data(changed(trained, status="pending", result=None))
    assert data.status.startswith("5 of 6 runs are finished")
    assert len(data.scores) == 7
    assert "Not complete." in report_html(data)


def test_a_failed_run_is_reported(trained, tmp_path):
    broken = changed(
        trained, status="failed", result=None, attempts=2, error="Loss 'price & co' is not finite."
    )
    (failure,) = report_data(broken).failures
    assert (failure.attempts, failure.seed, failure.candidate) == (2, 0, "single-task")
    text = write_report(report_data(broken), tmp_path / "r.html").read_text(encoding="utf-8")
    assert "Loss &#39;price &amp; co&#39; is not finite." in text


def test_the_command_writes_the_same_report_again(trained, tmp_path):
    first = trained.report(tmp_path / "first.html")
    assert run(["report", str(trained.folder), "--out", str(tmp_path / "second.html")]) == OK
    assert (tmp_path / "second.html").read_bytes() == first.read_bytes()


def test_a_comparison_without_any_run_is_reported(trained):
    runs = {
        key: dataclasses.replace(run, status="pending", result=None)
        for key, run in trained.runs.items()
    }
    empty = Comparison(trained.plan, runs, trained.folder)
    data = report_data(empty)
    assert data.headline == "No verdict yet"
    assert "0 of 6 runs are finished" in report_html(data)
