"""Planted groups: what the generator says about optimum, groups and interference is true."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from polytask.architectures import HardSharing
from polytask.datasets import planted_assignment, planted_groups, related_regression
from polytask.encoders import MLP
from polytask.grouping.learner import Learner
from polytask.tasks import Binary, Regression
from polytask.training import TrainingSettings
from polytask.training.prediction import predict_outputs

PARTS = ("train", "validation", "test")


def whole(problem):
    """Inputs ``[N, D]`` and decoded targets ``[N, T]`` of all rows."""
    parts = [getattr(problem, part) for part in PARTS]
    inputs = torch.cat([part.inputs for part in parts]).numpy().astype(np.float64)
    columns = [
        task.kind.decode(torch.cat([part.targets[task.name] for part in parts]).numpy())
        for task in problem.tasks
    ]
    return inputs, np.stack(columns, axis=1).astype(np.float64)


def pairs_within(problem):
    """Masks ``[T, T]`` of pairs of different tasks of one group, and of different groups."""
    groups = np.array(planted_assignment(problem))
    same = groups[:, None] == groups[None, :]
    return same & ~np.eye(len(groups), dtype=bool), ~same


def percentage(problem):
    """The share that the note gives."""
    return float(re.search(r"at most ([\d.]+) %", problem.notes[1])[1])


def test_names_give_the_groups_and_groups_are_balanced():
    problem = planted_groups(num_tasks=11, num_groups=4)
    first = [task.name for task in problem.tasks[:5]]
    assert first == [
        "g0 t0",
        "g1 t1",
        "g2 t2",
        "g3 t3",
        "g0 t4",
    ]
    groups = planted_assignment(problem)
    assert groups == (0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2)
    assert planted_assignment(problem.select_tasks(["g2 t10", "g0 t4"])) == (0, 2)
    with pytest.raises(ValueError, match=r"look like 'g0 t3', found 'task 0'"):
        planted_assignment(related_regression())


def test_the_seed_splits_and_the_data_seed_draws():
    def rows(**seeds):
        inputs, targets = whole(planted_groups(num_rows=60, **seeds))
        return sorted(map(bytes, np.concatenate([inputs, targets], axis=1)))

    first = planted_groups(seed=3)
    assert first.fingerprint() == planted_groups(seed=3).fingerprint()
    assert first.fingerprint() != planted_groups(seed=4).fingerprint()
    assert rows(seed=0) == rows(seed=1)
    assert rows(data_seed=0) != rows(data_seed=1)


def same_up_to_sign(**options):
    """Targets ``[N, T]`` of tasks that are one function, with signs aligned to the first task."""
    problem = planted_groups(num_groups=1, spread=0.0, **options)
    _, targets = whole(problem)
    if options.get("kind") != "regression":
        targets = 2.0 * targets - 1
    return problem, targets * np.sign(targets.T @ targets[:, 0])


def test_the_best_rmse_is_the_noise():
    problem, targets = same_up_to_sign(num_tasks=200, kind="regression", noise=0.5)
    assert all(isinstance(task.kind, Regression) for task in problem.tasks)
    assert "RMSE of the best possible model is 0.5 " in problem.notes[0]
    # The mean of the other tasks is the function with a 199th of the noise's variance.
    others = (targets.sum(1, keepdims=True) - targets) / 199
    error = np.sqrt(((targets - others) ** 2).mean())
    assert error == pytest.approx(0.5 * math.sqrt(1 + 1 / 199), rel=0.005)
    assert np.var(targets) == pytest.approx(1 + 0.5**2, rel=0.1)


def test_the_best_accuracy_and_area_are_those_of_an_oracle():
    problem, targets = same_up_to_sign(num_tasks=600, noise=0.4)
    assert all(isinstance(task.kind, Binary) for task in problem.tasks)
    accuracy, area = map(float, re.findall(r"0\.\d{4}", problem.notes[0]))
    # The votes of the other tasks rank the examples as the probability of their class does.
    judged = range(0, 600, 20)
    votes = [targets.sum(1) - targets[:, t] for t in judged]
    right = [np.mean(np.sign(v) == targets[:, t]) for t, v in zip(judged, votes, strict=True)]
    areas = [roc_auc_score(targets[:, t] > 0, v) for t, v in zip(judged, votes, strict=True)]
    assert np.mean(right) == pytest.approx(accuracy, abs=0.005)
    assert np.mean(areas) == pytest.approx(area, abs=0.003)
    assert 0.45 < (targets > 0).mean() < 0.55


@pytest.mark.parametrize("spread", [0.3, 1.0])
def test_interference_is_what_the_groups_features_do_not_share(spread):
    options = {"kind": "regression", "num_rows": 20_000, "noise": 1e-3, "num_tasks": 9}

    def correlations(interference):
        problem = planted_groups(interference=interference, spread=spread, **options)
        return problem, np.corrcoef(whole(problem)[1].T)

    problem, alike = correlations(0.0)  # the products of the tasks' coefficients
    same, other = pairs_within(problem)
    assert np.linalg.svd(alike, compute_uv=False)[2] < 0.05
    for interference in (0.4, 1.0):
        _, found = correlations(interference)
        assert found[same] == pytest.approx(alike[same], abs=0.04)
        assert found[other] == pytest.approx((1 - interference) * alike[other], abs=0.04)


def test_labels_of_a_group_are_correlated_and_of_two_groups_are_not():
    # Signs of two Gaussians would correlate by 2 / pi arcsin of their correlation.
    problem = planted_groups(num_rows=6000, num_tasks=12, noise=0.1)
    found = np.abs(np.corrcoef(whole(problem)[1].T))
    same, other = pairs_within(problem)
    assert found[same].mean() > 0.5
    assert found[other].max() < 0.06


@pytest.mark.parametrize("interference", [0.0, 0.5, 1.0])
def test_one_representation_holds_the_share_that_is_stated(interference):
    problem = planted_groups(
        kind="regression",
        num_tasks=8,
        num_groups=4,
        num_rows=20_000,
        noise=1e-3,
        interference=interference,
    )
    # The best two functions of the inputs are the first two left singular vectors.
    squares = np.linalg.svd(whole(problem)[1], compute_uv=False) ** 2
    assert percentage(problem) == pytest.approx(100 * squares[:2].sum() / squares.sum(), abs=1.5)


def test_the_share_falls_from_all_to_that_of_a_group_or_two():
    def share(**options):
        return percentage(planted_groups(num_tasks=200, num_groups=4, num_rows=50, **options))

    assert share(interference=0.0) == 100
    assert share(interference=1.0, spread=0.0) == 50
    assert share(interference=1.0, spread=1.0) == pytest.approx(25, abs=6)
    shares = [share(interference=rho) for rho in (0.0, 0.25, 0.5, 0.75, 1.0)]
    assert shares == sorted(shares, reverse=True)


def areas(problem, groups):
    """ROC AUC on the test rows per task, with a small network for every group."""

    def network(part):
        return HardSharing(encoder=MLP(input_size=20, widths=(8,)), tasks=part.tasks)

    settings = TrainingSettings(epochs=20, batch_size=32, learning_rate=1e-2, patience=None)
    found = {}
    for group in groups:
        part = problem.select_tasks(group)
        model = Learner(architecture=network, settings=settings).train(part).architecture
        outputs = predict_outputs(model, part.test)
        for task in part.tasks:
            found[task.name] = task.score(outputs[task.name], part.test.targets[task.name])["auc"]
    return found


@pytest.mark.slow
def test_small_networks_gain_without_interference_and_lose_with_it():
    options = {"num_tasks": 24, "num_groups": 6, "num_rows": 600}
    problem = planted_groups(interference=0.0, **options)
    names = [task.name for task in problem.tasks]
    few = names[:4]
    alone, joint = areas(problem, [[name] for name in few]), areas(problem, [names])
    assert np.mean([joint[name] - alone[name] for name in few]) > 0.01

    problem = planted_groups(interference=1.0, **options)
    groups = [[name for name in names if name.startswith(f"g{g} ")] for g in range(6)]
    joint, apart = areas(problem, [names]), areas(problem, groups)
    assert np.mean([apart[name] - joint[name] for name in names]) > 0.005
    alone = areas(problem, [[name] for name in few])
    assert np.mean([alone[name] - joint[name] for name in few]) > 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_groups": 11}, r"`num_groups` must be at most `num_tasks` \(10\), found 11"),
        ({"num_groups": 0}, "`num_groups` must be > 0, found 0"),
        ({"num_tasks": 0}, "`num_tasks` must be > 0, found 0"),
        ({"interference": 1.01}, r"`interference` must be in \[0, 1\], found 1.01"),
        ({"interference": -0.1}, r"`interference` must be in \[0, 1\], found -0.1"),
        ({"interference": math.nan}, r"`interference` must be in \[0, 1\], found nan"),
        ({"spread": 2}, r"`spread` must be in \[0, 1\], found 2"),
        ({"num_rows": 0}, "`num_rows` must be > 0, found 0"),
        ({"num_features": 7}, "`num_features` must be at least 8 for 3 groups"),
        ({"kind": "multiclass"}, "`kind` must be 'binary' or 'regression', found 'multiclass'"),
        ({"noise": 0}, "`noise` must be > 0, found 0"),
    ],
)
def test_bad_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        planted_groups(**options)
