"""Leaderboard statistics against numbers derived by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from polytask.evaluation.scores import (
    ScoreTable,
    best_per_task,
    delta_m,
    interval,
    mean_scores,
    relative_gains,
    standings,
)

NAN = math.nan


def table(test, validation=None, higher=None, metrics=None):
    test = np.asarray(test, dtype=float)
    count, seeds, tasks = test.shape
    return ScoreTable(
        candidates=tuple("abcdefgh"[:count]),
        seeds=tuple(range(seeds)),
        tasks=tuple(f"t{i}" for i in range(tasks)),
        metrics=tuple(metrics or ["accuracy"] * tasks),
        higher_is_better=np.array(higher or [True] * tasks),
        validation=np.asarray(test if validation is None else validation, dtype=float),
        test=test,
        complete=np.ones((count, seeds), dtype=bool),
    )


def all_complete(scores):
    return np.ones(scores.shape[:2], dtype=bool)


# --- gains ---------------------------------------------------------------------------------------


def test_gains_are_relative_and_positive_where_better():
    # Accuracy 0.8 -> 0.9 is +12.5 %, error 2 -> 3 is -50 %, R2 -0.5 -> 0.5 is +200 %.
    scores = np.array([[[0.8, 2.0, -0.5]], [[0.9, 3.0, 0.5]]])
    gains = relative_gains(scores, 0, np.array([True, False, True]))
    assert gains[1, 0].tolist() == pytest.approx([0.125, -0.5, 2.0])
    assert gains[0, 0].tolist() == [0.0, 0.0, 0.0]
    assert delta_m(gains, 0, all_complete(gains))[:, 0].tolist() == pytest.approx(
        [0.0, (0.125 - 0.5 + 2.0) / 3]
    )


def test_delta_m_leaves_out_undefined_tasks_and_incomplete_seeds():
    scores = np.array(
        [
            [[0.5, NAN, 0.0], [0.5, 0.5, 0.5], [0.5, NAN, NAN]],
            [[0.6, NAN, 0.1], [0.6, NAN, 0.5], [0.6, 0.6, 0.6]],
        ]
    )
    complete = np.array([[True, True, False], [True, False, True]])
    found = delta_m(relative_gains(scores, 0, np.array([True] * 3)), 0, complete)
    # Seed 0: task 1 is undefined, task 2 has a baseline of 0. Seed 1: the candidate lacks a run.
    # Seed 2: the baseline lacks runs, so that nothing can be compared with it.
    assert found[0].tolist()[:2] == [0.0, 0.0]
    assert found[1, 0] == pytest.approx(0.2)
    assert np.isnan([found[1, 1], found[1, 2], found[0, 2]]).all()


def test_delta_m_without_any_defined_task_is_undefined():
    assert np.isnan(delta_m(np.full((2, 1, 3), NAN), 0, np.ones((2, 1), dtype=bool))).all()


# --- standings -----------------------------------------------------------------------------------


def test_standings_by_hand():
    # Three candidates, four tasks, one seed. Task 0: a > b > c. Task 1: a = b > c. Task 2: all tie.
    # Task 3 (lower is better): c < b < a.
    scores = np.array([[[3.0, 2.0, 1.0, 9.0]], [[2.0, 2.0, 1.0, 5.0]], [[1.0, 0.0, 1.0, 1.0]]])
    found = standings(scores, np.array([True, True, True, False]), all_complete(scores))
    assert found.win[:, 0].tolist() == [25.0, 0.0, 25.0]
    assert found.best[:, 0].tolist() == [75.0, 50.0, 50.0]
    assert found.mean_rank[:, 0].tolist() == pytest.approx(
        [(0 + 0.5 + 1 + 2) / 4, (1 + 0.5 + 1 + 1) / 4, (2 + 2 + 1 + 0) / 4]
    )
    # Task 2 says nothing about worst and best; in task 0 b is half way, in task 3 too.
    assert found.normalised[:, 0].tolist() == pytest.approx(
        [(100 + 100 + 0) / 3, (50 + 100 + 50) / 3, (0 + 0 + 100) / 3]
    )


def test_ranks_start_at_zero_and_add_up_as_in_the_published_tables():
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(8, 1, 30))
    ranks = standings(scores, np.array([True] * 30), all_complete(scores)).mean_rank[:, 0]
    published = [3.89, 3.35, 4.20, 4.05, 3.61, 3.45, 2.78, 2.60]
    assert ranks.sum() == pytest.approx(28)
    assert sum(published) == pytest.approx(28, abs=0.08)


def test_incomplete_candidates_are_left_out_of_their_seed():
    scores = np.array(
        [[[1.0, 1.0], [1.0, 1.0]], [[2.0, NAN], [2.0, 2.0]], [[0.0, 0.0], [0.0, 0.0]]]
    )
    complete = ~np.isnan(scores).any(-1)
    found = standings(scores, np.array([True, True]), complete)
    assert found.win[:, 0].tolist()[0] == 100.0
    assert math.isnan(found.win[1, 0])
    assert found.win[:, 1].tolist() == [0.0, 100.0, 0.0]


def test_a_task_without_scores_is_left_out_for_all():
    scores = np.array([[[1.0, NAN]], [[2.0, NAN]]])
    found = standings(scores, np.array([True, True]), all_complete(scores))
    assert found.win[:, 0].tolist() == [0.0, 100.0]


def test_means_do_not_mix_metrics():
    scores = np.array([[[0.5, 3.0, 0.7]], [[0.6, NAN, NAN]]])
    found = mean_scores(scores, ["auc", "rmse", "auc"])
    assert found["auc"][0, 0] == pytest.approx(0.6)
    assert math.isnan(found["auc"][1, 0])
    assert found["rmse"][0, 0] == 3.0


# --- intervals -----------------------------------------------------------------------------------


def test_interval_is_the_t_interval_of_scipy():
    values = [0.1, 0.4, 0.2, 0.35]
    found = interval(values)
    low, high = stats.t.interval(0.95, 3, loc=np.mean(values), scale=stats.sem(values))
    assert (found.low, found.high) == pytest.approx((low, high))
    assert found.half_width == pytest.approx((high - low) / 2)


def test_interval_widens_by_the_overlap_of_the_splits():
    values = [0.1, 0.4, 0.2, 0.35]
    ratio = interval(values, overlap=1 / 3).half_width / interval(values).half_width
    assert ratio == pytest.approx(math.sqrt((1 / 4 + 1 / 3) / (1 / 4)))


def test_interval_of_one_value_and_of_none():
    one, none = interval([0.3, NAN]), interval([NAN])
    assert (one.mean, one.count) == (0.3, 1)
    assert math.isnan(one.low)
    assert none.count == 0
    assert math.isnan(none.mean)


# --- the best per task ---------------------------------------------------------------------------


def test_best_per_task_looks_at_validation_and_direction():
    validation = [[[0.5, 2.0]], [[0.9, 3.0]], [[0.7, 1.0]]]
    test = [[[0.9, 9.0]], [[0.1, 0.1]], [[0.2, 0.2]]]
    found = best_per_task(table(test, validation, higher=[True, False]), 0)
    assert found.tolist() == [1, 2]


def test_best_per_task_keeps_the_baseline_in_a_tie_and_passes_over_incomplete_candidates():
    validation = [[[0.5, 0.5], [0.5, 0.5]], [[0.5, 0.9], [0.5, NAN]]]
    assert best_per_task(table(validation), 0).tolist() == [0, 0]


def test_unknown_candidate_is_named():
    with pytest.raises(ValueError, match="No candidate 'z'"):
        table([[[1.0]]]).place("z")
