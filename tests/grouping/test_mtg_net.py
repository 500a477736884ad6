from __future__ import annotations

import pytest
import torch
from tests.grouping.test_gain_models import additive, outside_nan, some_sets, within_task
from tests.training.problems_for_tests import mixed_problem, small_model

from polytask.grouping.learner import Learner
from polytask.grouping.mtg_net import MTGNet, MTGNetwork
from polytask.grouping.scores import all_sets
from polytask.training.settings import TrainingSettings

SMALL = MTGNetwork(hidden=8, epochs=10, ensemble=1)


def test_network_orders_the_sets_of_a_planted_table():
    torch.manual_seed(0)
    effects, offsets = torch.zeros(6, 6).double(), torch.randn(6).double()
    effects[:3, :3], effects[3:, 3:] = 1.0, 1.0
    masks, asked = some_sets(6, 25), all_sets(6)
    asked = asked[asked.sum(1) > 2]
    network = MTGNetwork(epochs=80, learning_rate=0.005)
    scores = network.fit(masks, additive(masks, effects, offsets))(asked)
    # The task mean, which ignores the partners, has no order within a task at all.
    assert within_task(scores, additive(asked, effects, offsets), asked) > 0.7


def test_predictions_do_not_depend_on_tasks_outside_the_set():
    """Attention sees members only: other embeddings change nothing."""
    masks = some_sets(5, 12)
    SMALL.fit(masks, outside_nan(masks, torch.randn(12, 5)))
    asked = torch.tensor([[True, True, True, False, False]])
    before = SMALL(asked)
    with torch.no_grad():
        for network in SMALL._networks:
            network.embeddings.weight[3:] += 100.0
    torch.testing.assert_close(SMALL(asked), before)


def test_network_is_deterministic_by_seed_and_leaves_the_random_state():
    masks = some_sets(5, 12)
    gains = outside_nan(masks, torch.randn(12, 5))
    state = torch.get_rng_state()
    first = SMALL.fit(masks, gains, seed=1)(masks)
    again = SMALL.fit(masks, gains, seed=1)(masks)
    other = SMALL.fit(masks, gains, seed=2)(masks)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_network_keeps_the_contract_of_gain_models():
    masks, asked = some_sets(5, 12), all_sets(5)
    scores = SMALL.fit(masks, outside_nan(masks, torch.randn(12, 5)))(asked)
    assert scores.dtype == torch.float64
    assert bool((scores[~asked] == -torch.inf).all())
    assert bool(scores[asked].isfinite().all())
    alone = asked.sum(1) == 1
    assert bool((scores[alone][asked[alone]] == 0).all())


def test_equal_gains_are_predicted_as_they_are():
    masks = some_sets(4, 6)
    gains = outside_nan(masks, torch.full((6, 4), 0.25))
    scores = MTGNetwork(hidden=16, epochs=100, learning_rate=0.005).fit(masks, gains)(masks)
    # Nothing varies, so the spread that predictions are scaled by is 1.
    assert float((scores[masks] - 0.25).abs().mean()) < 0.1


@pytest.mark.parametrize("name", ["hidden", "layers", "heads", "ensemble", "epochs"])
def test_bad_counts(name):
    with pytest.raises(ValueError, match=f"`{name}` must be >= 1, found 0"):
        MTGNetwork(**{name: 0})


def test_bad_rate():
    with pytest.raises(ValueError, match="`learning_rate` must be > 0"):
        MTGNetwork(learning_rate=0.0)


def test_grouper_finds_a_grouping_and_says_what_it_cost():
    problem = mixed_problem(rows=120)
    learner = Learner(
        architecture=small_model,
        settings=TrainingSettings(epochs=1, batch_size=32),
    )
    method = MTGNet(sets_per_task=1, rounds=2, network=SMALL)
    grouping = method.find(problem, learner=learner, num_groups=2)
    assert method.name == grouping.method == "mtg-net"
    assert grouping.tasks == tuple(task.name for task in problem.tasks)
    num_tasks = len(problem.tasks)
    assert grouping.cost.models == method.models_trained(num_tasks) == 2 * num_tasks
    assert 1 <= grouping.num_groups <= 2
    again = method.find(problem, learner=learner, num_groups=2)
    assert torch.equal(again.memberships, grouping.memberships)
