"""Windows of a series and problems of filling in: what is given, what is asked, and no leaks."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from polytask.datasets.forecast_windows import forecast_windows
from polytask.datasets.imputation import imputation
from polytask.tasks import Regression, Task

STEPS = np.arange(300.0)


def targets_of(split):
    return torch.stack([split.targets[task.name] for task in split.tasks], dim=1)


def test_windows_are_consecutive_and_no_value_is_in_two_parts():
    problem = forecast_windows(STEPS, length=4)
    kind = problem.tasks[0].kind
    found = {}
    for part in ("train", "validation", "test"):
        split = getattr(problem, part)
        both = torch.where(split.inputs.isnan(), targets_of(split), split.inputs)
        rows = kind.decode(both.numpy())
        np.testing.assert_allclose(np.diff(rows, axis=1), 1, atol=1e-3)
        found[part] = {round(value) for value in rows.flatten()}
    assert found["train"] == set(range(180))
    assert found["validation"] == set(range(180, 240))
    assert found["test"] == set(range(240, 300))


def test_values_are_scaled_by_the_training_steps_only():
    kind = forecast_windows(STEPS, length=4).tasks[3].kind
    assert kind.mean == pytest.approx(STEPS[:180].mean())
    assert kind.scale == pytest.approx(STEPS[:180].std())


def test_the_stride_leaves_windows_out():
    assert len(forecast_windows(STEPS, length=10, stride=10).train) == 18


def test_training_rows_are_whole_and_others_ask_for_what_is_not_given():
    problem = forecast_windows(STEPS, length=10)
    assert not problem.train.inputs.isnan().any()
    assert torch.equal(problem.train.inputs, targets_of(problem.train))
    for split in (problem.validation, problem.test):
        assert torch.equal(split.inputs.isnan(), ~targets_of(split).isnan())


def test_the_number_of_given_values_is_uniform_and_no_variable_preferred():
    problem = forecast_windows(np.sin(np.arange(60_000)), length=10, observe=(2, 5))
    given = ~problem.test.inputs.isnan()
    counts = torch.bincount(given.sum(1), minlength=11).double() / len(given)
    assert counts[[0, 1, 6, 7, 8, 9, 10]].sum() == 0
    # 12,000 rows: four standard deviations are 0.016 and 0.018.
    assert (counts[2:6] - 0.25).abs().max() < 0.016
    assert (given.double().mean(0) - 0.35).abs().max() < 0.018


def test_another_seed_gives_other_values_and_the_same_seed_the_same():
    one, same, other = (forecast_windows(STEPS, seed=seed) for seed in (0, 0, 1))
    assert one.fingerprint() == same.fingerprint() != other.fingerprint()
    assert torch.equal(one.train.inputs, other.train.inputs)


@pytest.mark.parametrize(
    ("series", "options", "message"),
    [
        (np.ones((5, 5)), {}, r"`series` must be a vector .* found shape \[5, 5\]"),
        (np.array([1.0, np.nan] * 50), {}, "50 number.s. that are not finite"),
        (np.ones(100), {}, "one value only .1."),
        (STEPS, {"length": 1}, "`length` must be >= 2"),
        (STEPS, {"stride": 0}, "`stride` >= 1, found 10 and 0"),
        (STEPS, {"length": 70}, "validation part has 60 steps, fewer than a window of 70"),
        (STEPS, {"fractions": (0.5, 0.5, 0.5)}, "three positive shares with sum 1"),
        (STEPS, {"observe": (0, 3)}, r"within 1 \.\. 9, found \(0, 3\)"),
        (STEPS, {"observe": (1, 10)}, r"within 1 \.\. 9, found \(1, 10\)"),
    ],
)
def test_bad_arguments_are_named(series, options, message):
    with pytest.raises(ValueError, match=message):
        forecast_windows(series, **options)


def test_completion_names_what_does_not_fit():
    tasks = [Task("a", Regression()), Task("b", Regression())]
    rows = torch.randn(8, 2)
    with pytest.raises(ValueError, match=r"needs the parts .* found \['train'\]"):
        imputation({"train": rows}, tasks)
    with pytest.raises(ValueError, match=r"test rows must be \[rows, 2\].* found shape \[8, 3\]"):
        imputation({"train": rows, "validation": rows, "test": torch.randn(8, 3)}, tasks)


def test_a_problem_of_filling_in_is_saved_and_read(tmp_path):
    problem = forecast_windows(STEPS, length=4)
    problem.save(tmp_path)
    assert type(problem).load(tmp_path).fingerprint() == problem.fingerprint()
