"""Networks as a method: identity, determinism, files."""

from __future__ import annotations

import functools

import pytest
import torch
from tests.evaluation.helpers import tiny_problem

from polytask import architectures, balancers
from polytask.architectures import HardSharing, default_architecture
from polytask.candidates.method import Budget, load_fitted
from polytask.candidates.network import NetworkMethod
from polytask.candidates.records import describe_callable, from_record, to_record
from polytask.encoders import MLP
from polytask.training import TrainingSettings

BUDGET = Budget(epochs=3, patience=2)


def small(problem, width=8):
    return HardSharing(encoder=MLP(input_size=4, widths=(width,)), tasks=problem.tasks)


class OwnNetwork(HardSharing):
    """An architecture that Polytask does not export."""


def test_a_single_task_is_the_same_run_whatever_the_balancer():
    one = NetworkMethod(balancer=balancers.PCGrad())
    other = NetworkMethod()
    assert one.config(1) == other.config(1)
    assert one.config(2) != other.config(2)


def test_settings_and_architecture_are_part_of_the_identity():
    base = NetworkMethod(architecture=small).config(2)
    assert NetworkMethod(architecture=functools.partial(small, width=9)).config(2) != base
    assert NetworkMethod(architecture=default_architecture).config(2) != base
    settings = TrainingSettings(weight_decay=0.5)
    assert NetworkMethod(architecture=small, settings=settings).config(2) != base


def test_functions_of_one_name_and_different_code_differ():
    first, second = (lambda p: small(p, 3)), (lambda p: small(p, 4))
    assert describe_callable(first) != describe_callable(second)
    assert describe_callable(_closing_over(5)) != describe_callable(_closing_over(6))
    assert describe_callable(_closing_over(5)) == describe_callable(_closing_over(5))


def _closing_over(width):
    return lambda problem: small(problem, width)


def test_the_seed_fixes_the_fit_and_the_users_random_state_is_left_alone():
    problem = tiny_problem()
    method = NetworkMethod(balancer=balancers.PCGrad(), architecture=small)
    before = torch.get_rng_state()
    first, second = (method.fit(problem, seed=3, budget=BUDGET) for _ in range(2))
    assert torch.equal(torch.get_rng_state(), before)
    other = method.fit(problem, seed=4, budget=BUDGET)
    name = "sum"
    same = [f.outputs(problem.test)[name] for f in (first, second, other)]
    assert torch.equal(same[0], same[1])
    assert not torch.equal(same[0], same[2])


def test_the_methods_own_balancer_stays_untouched():
    balancer = balancers.UncertaintyWeighting()
    NetworkMethod(balancer=balancer, architecture=small).fit(tiny_problem(), seed=0, budget=BUDGET)
    assert balancer.num_tasks is None


def test_the_record_holds_curves_weights_and_cosines():
    problem = tiny_problem()
    record = NetworkMethod(architecture=small).fit(problem, seed=0, budget=BUDGET).record
    assert record.epochs == 3
    assert record.curves["epoch"] == [1, 2, 3]
    assert set(record.curves["train_loss"]) == {"sum", "positive", "class"}
    assert len(record.curves["validation_loss"]["sum"]) == len(record.curves["validation_epoch"])
    assert record.curves["weight"]["sum"] == pytest.approx([1 / 3] * 3, rel=1e-3)
    diagonal = [record.cosines[i][i] for i in range(3)]
    assert diagonal == pytest.approx([1.0] * 3)
    alone = NetworkMethod(architecture=small).fit(
        problem.select_tasks(["sum"]), seed=0, budget=BUDGET
    )
    assert alone.record.cosines is None


def test_rate_and_budget_reach_the_trainer():
    settings = TrainingSettings(learning_rate=0.01, epochs=99)
    method = NetworkMethod(architecture=small, settings=settings)
    record = method.fit(tiny_problem(), seed=0, budget=BUDGET, rate=1 / 10).record
    assert record.learning_rate == pytest.approx(0.001)
    assert record.epochs <= 3


@pytest.mark.parametrize("factory", [small, default_architecture])
def test_saved_and_loaded_is_the_same(factory, tmp_path):
    problem = tiny_problem()
    fitted = NetworkMethod(architecture=factory).fit(problem, seed=0, budget=BUDGET)
    fitted.save(tmp_path)
    loaded = load_fitted(tmp_path)
    for name, output in fitted.outputs(problem.test).items():
        assert torch.equal(loaded.outputs(problem.test)[name], output)
    assert loaded.num_parameters == fitted.num_parameters
    assert loaded.record == fitted.record


def test_an_architecture_of_the_users_own_is_not_saved():
    model = OwnNetwork(encoder=MLP(input_size=4), tasks=tiny_problem().tasks)
    with pytest.raises(ValueError, match="OwnNetwork is no public class of Polytask"):
        to_record(model)


@pytest.mark.parametrize("name", ["HardSharing", "CrossDomain", "Independent"])
def test_architectures_come_back_from_their_records(name):
    model, _ = getattr(architectures, name).example(tiny_problem().tasks)
    again = from_record(to_record(model))
    assert {k: v.shape for k, v in again.state_dict().items()} == {
        k: v.shape for k, v in model.state_dict().items()
    }


def test_a_file_cannot_name_any_other_class():
    with pytest.raises(ValueError, match="'Popen', which this version of Polytask does not export"):
        from_record({"$type": "Popen", "arguments": {}})


def test_an_unknown_model_file_is_refused(tmp_path):
    with pytest.raises(ValueError, match="holds no saved model"):
        load_fitted(tmp_path)
    (tmp_path / "method.json").write_text('{"method": "magic"}', encoding="utf-8")
    with pytest.raises(ValueError, match="'magic', which this version does not know"):
        load_fitted(tmp_path)
