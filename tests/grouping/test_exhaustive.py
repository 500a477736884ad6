"""Exhaustive search: all sets, measured."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tests.grouping.test_hoa import LEARNER
from tests.training.problems_for_tests import mixed_problem

from polytask.grouping.exhaustive import Exhaustive
from polytask.grouping.scores import TableScores, all_sets
from polytask.problems import Problem
from polytask.tasks import Regression


def test_it_trains_every_set_and_takes_the_best():
    problem = mixed_problem(rows=120).select_tasks(["linear", "bent", "sign"])
    method = Exhaustive()
    affinity = method.affinity(problem, learner=LEARNER, seed=2)
    assert isinstance(affinity.scores, TableScores)
    assert affinity.cost.models == method.models_trained(3) == 7
    assert method.models_trained(10) == 1023

    losses = LEARNER.train(problem, seed=2).losses
    single = LEARNER.train(problem.select_tasks(["bent"]), seed=2).losses["bent"]
    values = affinity.scores(all_sets(3))
    assert float(values[-1, 1]) == pytest.approx((single - losses["bent"]) / single, rel=1e-12)
    assert affinity.scores(torch.eye(3, dtype=torch.bool)).diagonal().tolist() == [0.0] * 3
    assert affinity.matrix is not None
    pair = affinity.scores(torch.tensor([[True, False, True]]))
    assert affinity.matrix[0, 2] == pair[0, 2]
    assert affinity.matrix[2, 0] == pair[0, 0]

    found = method.find(problem, learner=LEARNER, num_groups=2, seed=2)
    best = max(float(torch.maximum(a, b).mean()) for a in values for b in values)
    assert found.score == pytest.approx(best, rel=1e-12)
    assert found.method == "exhaustive"


def test_too_many_tasks_are_refused():
    rng = np.random.default_rng(0)
    targets = {f"t{i}": rng.normal(size=60) for i in range(11)}
    kinds = {name: Regression() for name in targets}
    problem = Problem.from_arrays(rng.normal(size=(60, 2)), targets, kinds)
    reason = "All sets of 11 tasks are 2047 networks; Exhaustive takes up to 10 tasks."
    assert Exhaustive().why_not(problem) == reason
    with pytest.raises(ValueError, match="2047 networks"):
        Exhaustive().find(problem)
    assert Exhaustive().why_not(problem.select_tasks(list(targets)[:10])) is None
