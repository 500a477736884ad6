"""HOA and ESA: what they train, what they make of it, and what they refuse."""

from __future__ import annotations

import pytest
import torch
from tests.training.problems_for_tests import mixed_problem, small_model

from polytask.grouping.exhaustive import Exhaustive
from polytask.grouping.hoa import ESA, HOA
from polytask.grouping.learner import Learner
from polytask.grouping.scores import PairScores, all_sets
from polytask.grouping.trained_gains import measure_losses, relative_gains
from polytask.problems import Problem, Split
from polytask.training import TrainingSettings

LEARNER = Learner(
    architecture=small_model,
    settings=TrainingSettings(epochs=5, batch_size=64, learning_rate=0.01, device="cpu"),
)


@pytest.fixture(scope="module")
def problem() -> Problem:
    return mixed_problem(rows=120).select_tasks(["linear", "bent", "sign"])


def without_test_rows(problem: Problem) -> Problem:
    """The same problem, its test rows replaced by others."""
    test = problem.test
    wrong = Split(
        torch.zeros_like(test.inputs),
        {t.name: test.targets[t.name].flip(0) for t in test.tasks},
        test.tasks,
    )
    return Problem(
        name=problem.name, train=problem.train, validation=problem.validation, test=wrong
    )


def test_gains_are_shares_of_the_single_task_loss():
    single = torch.tensor([2.0, 4.0])
    losses = torch.tensor([[1.0, 5.0], [2.0, torch.nan]])
    found = relative_gains(losses, single)
    assert found[0].tolist() == [0.5, -0.25]
    assert found[1, 0] == 0.0
    assert found[1, 1].isnan()


def test_gains_of_a_task_that_is_solved_stay_finite():
    found = relative_gains(torch.tensor([[0.0, 0.002, 1e-5]]), torch.tensor([0.0, 0.0, 2e-5]))
    torch.testing.assert_close(found, torch.tensor([[0.0, -2.0, 0.01]]))


def test_measured_losses_are_those_of_separate_trainings(problem):
    masks = torch.tensor([[True, False, True], [False, True, False]])
    losses, cost = measure_losses(problem, LEARNER, masks, seed=3)
    alone = LEARNER.train(problem.select_tasks(["bent"]), seed=3)
    pair = LEARNER.train(problem.select_tasks(["linear", "sign"]), seed=3)
    assert losses[0, 0] == pair.losses["linear"]
    assert losses[0, 2] == pair.losses["sign"]
    assert losses[1, 1] == alone.losses["bent"]
    assert losses.isnan().tolist() == (~masks).tolist()
    assert (cost.models, cost.steps) == (2, alone.result.steps + pair.result.steps)


def test_hoa_measures_pairs_and_chooses_by_them(problem):
    method = HOA()
    found = method.affinity(problem, learner=LEARNER, seed=1)
    single = LEARNER.train(problem.select_tasks(["sign"]), seed=1).losses["sign"]
    beside = LEARNER.train(problem.select_tasks(["linear", "sign"]), seed=1).losses["sign"]
    assert found.matrix is not None
    assert float(found.matrix[0, 2]) == pytest.approx((single - beside) / single, rel=1e-12)
    assert found.matrix.diagonal().tolist() == [0.0] * 3
    assert isinstance(found.scores, PairScores)
    assert found.scores.alone.tolist() == [0.0] * 3
    assert found.cost.models == method.models_trained(3) == 6
    assert [method.models_trained(n) for n in (2, 9, 100)] == [3, 45, 5050]

    grouping = method.find(problem, learner=LEARNER, num_groups=2, seed=1)
    masks = all_sets(3)
    values = found.scores(masks)
    best = max(float(torch.maximum(a, b).mean()) for a in values for b in values)
    assert grouping.score == pytest.approx(best, rel=1e-12)
    assert grouping.method == method.name == "hoa"
    assert grouping.cost.models == 6


def test_hoa_does_not_look_at_test_rows(problem):
    one = HOA().affinity(problem, learner=LEARNER)
    other = HOA().affinity(without_test_rows(problem), learner=LEARNER)
    assert one.matrix is not None
    assert other.matrix is not None
    assert torch.equal(one.matrix, other.matrix)


def test_esa_is_exhaustive_with_fewer_epochs(problem):
    short = Learner(
        architecture=small_model,
        settings=TrainingSettings(epochs=2, batch_size=64, learning_rate=0.01, device="cpu"),
    )
    method = ESA(fraction=0.4)
    found = method.affinity(problem, learner=LEARNER)
    wanted = Exhaustive().affinity(problem, learner=short)
    masks = all_sets(3)
    assert torch.equal(found.scores(masks), wanted.scores(masks))
    assert found.cost.steps == wanted.cost.steps
    assert found.cost.models == method.models_trained(3) == 7
    assert method.name == "esa"


def test_esa_of_pairs_is_hoa_with_fewer_epochs(problem):
    method = ESA(fraction=1.0, pairs_only=True)
    found = method.find(problem, learner=LEARNER, num_groups=2)
    wanted = HOA().find(problem, learner=LEARNER, num_groups=2)
    assert torch.equal(found.memberships, wanted.memberships)
    assert found.cost.models == method.models_trained(3) == 6
    assert repr(method) == "ESA(fraction=1.0, pairs_only=True)"


@pytest.mark.parametrize("fraction", [0.0, -0.1, 1.5, float("nan")])
def test_esa_refuses_impossible_fractions(fraction):
    with pytest.raises(ValueError, match="`fraction` must be in"):
        ESA(fraction=fraction)


def test_reasons_not_to_group(problem):
    one = problem.select_tasks(["sign"])
    for method in (HOA(), ESA()):
        assert "nothing to group" in (method.why_not(one) or "")
        with pytest.raises(ValueError, match="nothing to group"):
            method.find(one, learner=LEARNER)
        assert method.why_not(problem) is None
    targets = {
        "linear": problem.validation.targets["linear"],
        "bent": torch.full_like(problem.validation.targets["bent"], torch.nan),
        "sign": problem.validation.targets["sign"],
    }
    unlabelled = Problem(
        name="gap",
        train=problem.train,
        validation=Split(problem.validation.inputs, targets, problem.tasks),
        test=problem.test,
    )
    assert HOA().why_not(unlabelled) == "Task 'bent' has no labels in the validation rows."


@pytest.mark.parametrize("number", [0, 4])
def test_impossible_numbers_of_groups_are_refused_before_training(problem, number):
    for method in (HOA(), ESA(), Exhaustive()):
        with pytest.raises(ValueError, match=r"`num_groups` must be 1 .. 3"):
            method.find(problem, num_groups=number)
