"""The controls: what is drawn, and that nothing else decides it."""

from __future__ import annotations

import pytest
import torch
from tests.training.problems_for_tests import mixed_problem

from polytask.grouping.random_groups import RandomGroups
from polytask.problems import Problem


@pytest.fixture(scope="module")
def problem() -> Problem:
    return mixed_problem(rows=120)


def test_hard_groups_are_balanced_and_random(problem):
    method = RandomGroups()
    drawn = [method.find(problem, num_groups=3, seed=seed) for seed in range(20)]
    for found in drawn:
        assert found.is_hard
        assert sorted(len(group) for group in found.groups) == [1, 1, 2]
        assert found.cost.models == method.models_trained(4) == 0
        assert found.method == "random"
    assert len({found.assignment for found in drawn}) > 5
    again = method.find(problem, num_groups=3, seed=7)
    assert torch.equal(again.memberships, drawn[7].memberships)


def test_soft_memberships_are_uniform_on_the_simplex(problem):
    method = RandomGroups(kind="soft")
    drawn = torch.cat(
        [method.find(problem, num_groups=3, seed=seed).memberships for seed in range(500)]
    )
    torch.testing.assert_close(drawn.sum(1), torch.ones(2000, dtype=torch.float64))
    # Dirichlet(1, 1, 1): mean 1/3, variance 1/18.
    assert drawn.mean(0).tolist() == pytest.approx([1 / 3] * 3, abs=0.02)
    assert drawn.var(0).tolist() == pytest.approx([1 / 18] * 3, rel=0.1)


def test_an_ensemble_treats_all_tasks_alike(problem):
    found = RandomGroups(kind="ensemble").find(problem, num_groups=5)
    assert torch.equal(found.memberships, torch.full((4, 5), 0.2, dtype=torch.float64))
    assert found.serving is not None
    torch.testing.assert_close(found.serving, found.memberships)
    assert found.method == "ensemble"


def test_two_groups_where_nobody_says_how_many(problem):
    assert RandomGroups().find(problem).num_groups == 2
    assert RandomGroups().find(problem.select_tasks(["sign"])).num_groups == 1


def test_bad_arguments_are_refused(problem):
    with pytest.raises(ValueError, match="`kind` must be"):
        RandomGroups(kind="sharp")
    with pytest.raises(ValueError, match=r"`num_groups` must be 1 .. 4"):
        RandomGroups().find(problem, num_groups=5)
    with pytest.raises(ValueError, match="`num_groups` must be"):
        RandomGroups(kind="soft").find(problem, num_groups=0)
    assert repr(RandomGroups(kind="soft")) == "RandomGroups(kind='soft')"
