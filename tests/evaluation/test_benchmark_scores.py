"""The five numbers of methods that are compared on many sets."""

from __future__ import annotations

import numpy as np
import pytest

from polytask.evaluation.benchmark_scores import score_benchmark


@pytest.fixture
def scores():
    """Three methods, four tasks: a clear order, a tie on top, a tie at the bottom, all equal."""
    accuracies = [
        [0.9, 0.8, 0.5, 0.7],
        [0.7, 0.8, 0.3, 0.7],
        [0.5, 0.4, 0.3, 0.7],
    ]
    return score_benchmark(accuracies, ["a", "b", "c"])


def test_a_win_is_strict_and_best_allows_ties(scores):
    assert [scores[m].win for m in "abc"] == [50.0, 0.0, 0.0]
    assert [scores[m].best for m in "abc"] == [100.0, 50.0, 25.0]


def test_mean_ranks_start_at_zero_and_share_ties(scores):
    # a: 0, 1/2, 0, 1; b: 1, 1/2, 3/2, 1; c: 2, 2, 3/2, 1.
    assert [scores[m].mean_rank for m in "abc"] == [1.5 / 4, 1.0, 6.5 / 4]


def test_normalized_accuracy_runs_from_the_worst_to_the_best_method(scores):
    found = [scores[m].normalized_accuracy for m in "abc"]
    assert found == pytest.approx([100.0, 100 * (0.5 + 1 + 0 + 1) / 4, 25.0])


def test_mean_accuracy_weighs_tasks_alike(scores):
    assert [scores[m].mean_accuracy for m in "abc"] == pytest.approx([72.5, 62.5, 47.5])


def test_ranks_of_a_task_add_up_whatever_the_ties():
    generator = np.random.default_rng(0)
    accuracies = generator.integers(0, 4, (6, 50)) / 4
    found = score_benchmark(accuracies, list("abcdef"))
    assert sum(score.mean_rank for score in found.values()) == pytest.approx(15.0)


def test_a_single_method_is_always_best():
    (score,) = score_benchmark([[0.25, 0.75]], ["only"]).values()
    assert (score.win, score.best, score.mean_rank) == (100.0, 100.0, 0.0)


@pytest.mark.parametrize(
    ("accuracies", "message"),
    [
        ([[0.5, 0.5]], r"must be \[2 methods, tasks\], found shape \[1, 2\]"),
        ([[], []], r"found shape \[2, 0\]"),
        ([0.5, 0.5], r"found shape \[2\]"),
        ([[0.5, 81.5], [0.5, 0.5]], "found 81.5 for method 'a' and task 1"),
        ([[0.5, 0.5], [float("nan"), 0.5]], "found nan for method 'b' and task 0"),
    ],
)
def test_what_is_no_table_of_accuracies_is_named(accuracies, message):
    with pytest.raises(ValueError, match=message):
        score_benchmark(accuracies, ["a", "b"])
