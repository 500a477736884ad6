from __future__ import annotations

import math

import pytest
import torch
from tests.training.problems_for_tests import mixed_problem, small_model

from polytask.grouping import sampled_groups
from polytask.grouping.gain_models import MembershipRidge, TaskMean
from polytask.grouping.grouping import GroupingCost
from polytask.grouping.learner import Learner
from polytask.grouping.sampled_groups import (
    MeasuredFirst,
    SampledGroups,
    next_sets,
    random_sets,
)
from polytask.grouping.scores import TableScores
from polytask.training.settings import TrainingSettings

QUICK = Learner(architecture=small_model, settings=TrainingSettings(epochs=1, batch_size=32))


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def planted(monkeypatch):
    """Losses as if tasks 0, 1 and tasks 2, 3 help each other, and the others hurt."""
    asked = []

    def losses_of(problem, learner, masks, *, seed):
        asked.append(masks)
        effects = torch.tensor([[0.0, 1, -1, -1], [1, 0, -1, -1], [-1, -1, 0, 1], [-1, -1, 1, 0]])
        losses = 10 - masks.double() @ effects.double()
        return losses.masked_fill(~masks, torch.nan), GroupingCost(models=len(masks))

    monkeypatch.setattr(sampled_groups, "measure_losses", losses_of)
    return asked


# --- sets to train -------------------------------------------------------------------------------


@pytest.mark.parametrize("num_tasks", [5, 20])
def test_random_sets_are_different_and_new(num_tasks):
    first = random_sets(num_tasks, 10, generator=generator())
    second = random_sets(num_tasks, 10, generator=generator(), exclude=first)
    both = torch.cat([first, second])
    assert len(torch.unique(both, dim=0)) == 20
    assert int(both.sum(1).min()) >= 2
    assert torch.equal(first, random_sets(num_tasks, 10, generator=generator()))


@pytest.mark.parametrize("num_tasks", [6, 20])
def test_sizes_of_random_sets_are_uniform(num_tasks):
    draws = [random_sets(num_tasks, 1, generator=generator(seed)) for seed in range(600)]
    sizes = torch.cat(draws).sum(1).double()
    # The standard error of the mean of 600 draws of a uniform law on 2 .. T.
    error = math.sqrt(((num_tasks - 1) ** 2 - 1) / 12 / 600)
    assert abs(float(sizes.mean()) - (num_tasks + 2) / 2) < 4 * error


def test_all_sets_can_be_asked_for_but_no_more():
    assert len(random_sets(4, 11, generator=generator())) == 11
    with pytest.raises(ValueError, match="only 11 sets"):
        random_sets(4, 12, generator=generator())
    assert random_sets(4, 0, generator=generator()).shape == (0, 4)
    assert random_sets(20, 0, generator=generator()).shape == (0, 20)


def test_next_sets_are_those_expected_to_differ_most():
    masks = torch.tensor([[True, True, False], [True, False, True], [False, True, True]])
    scores = TableScores(masks, torch.tensor([[1.0, 1.0, 0], [-5.0, 0, -5.0], [0, 3.0, 1.0]]))
    # Differences from the best: -1 + 0, -7 - 6, 2 + 0.
    assert next_sets(scores, masks, torch.tensor([2.0, 1.0, 1.0]), 2).tolist() == [1, 2]
    with pytest.raises(ValueError, match="3 candidate sets"):
        next_sets(scores, masks, torch.zeros(3), 4)


def test_what_was_measured_comes_before_predictions():
    masks = torch.tensor([[True, True, False], [True, False, True]])
    gains = torch.tensor([[1.0, 3.0, math.nan], [2.0, math.nan, 7.0]]).double()
    scores = MeasuredFirst(masks, gains, TaskMean().fit(masks, gains))
    asked = torch.cat([masks[:1], torch.tensor([[True, True, True], [False, False, True]])])
    inf = math.inf
    assert scores(asked).tolist() == [[1.0, 3.0, -inf], [1.5, 3.0, 7.0], [-inf, -inf, 0.0]]


# --- the grouper ---------------------------------------------------------------------------------


@pytest.mark.parametrize("rounds", [1, 3])
def test_planted_groups_are_found(planted, rounds):
    method = SampledGroups(sets_per_task=2, rounds=rounds)
    grouping = method.find(mixed_problem(rows=60), num_groups=2)
    names = grouping.tasks
    assert set(map(frozenset, grouping.groups)) == {frozenset(names[:2]), frozenset(names[2:])}
    alone, trained = planted[0], torch.cat(planted[1:])
    assert torch.equal(alone, torch.eye(4, dtype=torch.bool))
    assert bool(trained[0].all())
    assert len(torch.unique(trained, dim=0)) == len(trained) == 8
    assert len(planted) == 1 + rounds
    assert grouping.cost.models == method.models_trained(4) == 12


def test_few_tasks_have_no_more_sets_than_there_are():
    assert SampledGroups(sets_per_task=4).models_trained(2) == 2 + 1
    assert SampledGroups(sets_per_task=4).models_trained(3) == 3 + 4
    assert SampledGroups(sets_per_task=4).models_trained(27) == 27 + 108


def test_model_that_is_given_is_not_fitted_itself(planted):
    model = TaskMean()
    SampledGroups(model=model).find(mixed_problem(rows=60), num_groups=2)
    with pytest.raises(ValueError, match="must be fitted"):
        model(torch.ones(1, 4, dtype=torch.bool))


def test_networks_are_trained_and_counted():
    problem = mixed_problem(rows=120)
    method = SampledGroups(model=MembershipRidge(), sets_per_task=1)
    grouping = method.find(problem, learner=QUICK, seed=1)
    assert grouping.method == method.name == "sampled"
    assert grouping.cost.models == method.models_trained(4) == 8
    assert grouping.cost.steps > 0
    assert "predicted from 4" in grouping.notes[0]
    again = method.find(problem, learner=QUICK, seed=1)
    assert torch.equal(again.memberships, grouping.memberships)


def test_reasons_and_bad_settings():
    problem = mixed_problem(rows=60)
    one = problem.select_tasks([problem.tasks[0].name])
    with pytest.raises(ValueError, match="nothing to group"):
        SampledGroups().find(one)
    for name in ("sets_per_task", "rounds"):
        with pytest.raises(ValueError, match=f"`{name}` must be >= 1, found 0"):
            SampledGroups(**{name: 0})
    assert repr(SampledGroups(model=TaskMean())) == "SampledGroups(model=TaskMean())"
