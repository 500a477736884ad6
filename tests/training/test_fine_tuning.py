"""Fine-tuning task by task: nothing becomes worse, nothing of the joint model moves."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tests.training.problems_for_tests import mixed_problem, small_model

from polytask.architectures import HardSharing, Independent
from polytask.architectures.variables.deep_residual import DeepResidual
from polytask.encoders import MLP, TabularEncoder
from polytask.problems import Problem
from polytask.tasks import Binary, Multiclass, Regression
from polytask.training import TrainingSettings, predict_outputs, validation_losses
from polytask.training.fine_tuning import fine_tune

QUICK = TrainingSettings(epochs=4, learning_rate=3e-3, device="cpu")


def state(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def tables(rows: int = 200) -> Problem:
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(rows, 3)), rng.normal(size=(rows, 5))
    data = {"line": (x, x[:, 0] - x[:, 1]), "side": (y, (y[:, 2] > 0).astype(int))}
    return Problem.from_separate(data, {"line": Regression(), "side": Multiclass(2)})


def test_every_task_is_at_least_as_good_on_validation():
    problem = mixed_problem(missing=0.3)
    model = small_model(problem)
    tuned = fine_tune(model, problem, settings=QUICK)
    assert tuned.improved
    joint = validation_losses(model, problem.validation)
    for name, own in tuned.models.items():
        found = validation_losses(own, problem.validation)[name]
        assert found <= joint[name]
        if name in tuned.improved:
            assert found == pytest.approx(tuned.after[name], rel=1e-5)
            assert own is not model


def test_the_joint_model_is_not_changed():
    problem = mixed_problem()
    model = small_model(problem)
    before = state(model)
    fine_tune(model, problem, settings=QUICK)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert model.training


def test_a_task_that_cannot_become_better_keeps_the_joint_model():
    # Steps that ruin the model at once: no epoch is better than its start.
    problem = mixed_problem()
    model = small_model(problem)
    ruinous = TrainingSettings(epochs=2, learning_rate=1e4, device="cpu", clip_norm=None)
    tuned = fine_tune(model, problem, settings=ruinous)
    assert tuned.improved == ()
    assert all(own is model for own in tuned.models.values())
    assert all(tuned.after[name] >= tuned.before[name] for name in tuned.after)
    for name, output in tuned.predict_outputs(problem.test).items():
        torch.testing.assert_close(output, predict_outputs(model, problem.test)[name])


def test_only_the_named_tasks_with_enough_rows_are_tried():
    problem = mixed_problem(missing=0.3)
    counts = {task.name: problem.train.num_labels(task.name) for task in problem.tasks}
    fewest, most = min(counts.values()), max(counts.values())
    tuned = fine_tune(small_model(problem), problem, min_rows=fewest + 1, settings=QUICK)
    assert set(tuned.after) == {name for name, count in counts.items() if count > fewest}
    tuned = fine_tune(small_model(problem), problem, min_rows=most + 1, settings=QUICK)
    assert not tuned.after
    tuned = fine_tune(small_model(problem), problem, tasks=["bent"], settings=QUICK)
    assert list(tuned.after) == ["bent"]
    assert list(tuned.models) == [task.name for task in problem.tasks]


def test_tuning_the_separate_models_of_tasks_is_training_them_longer():
    # What the tasks do not share cannot be disturbed: the copy for one task changes only its part.
    problem = mixed_problem()
    model = Independent(encoder=MLP(input_size=5, widths=(8,)), tasks=problem.tasks)
    tuned = fine_tune(model, problem, tasks=["linear"], settings=QUICK).models["linear"]
    own = {id(p) for p in tuned.task_parameters("linear")}
    other = dict(model.named_parameters())
    moved = {n for n, p in tuned.named_parameters() if not torch.equal(p, other[n])}
    assert moved == {n for n, p in tuned.named_parameters() if id(p) in own}


def test_tables_of_different_widths():
    problem = tables()
    model = DeepResidual(tasks=problem.tasks, columns={"line": 3, "side": 5}, hidden=16)
    tuned = fine_tune(model, problem, settings=QUICK)
    assert set(tuned.improved) == {"line", "side"}
    outputs = tuned.predict_outputs(problem.test)
    assert {name: tuple(o.shape) for name, o in outputs.items()} == {
        "line": (40, 1),
        "side": (40, 2),
    }
    for name in outputs:
        alone = predict_outputs(tuned.models[name], problem.test)[name]
        torch.testing.assert_close(outputs[name], alone)


def test_bad_arguments_are_named():
    problem = mixed_problem()
    with pytest.raises(ValueError, match="No task 'x' in problem"):
        fine_tune(small_model(problem), problem, tasks=["x"], settings=QUICK)
    other = HardSharing(encoder=MLP(input_size=5), tasks=problem.tasks[:2])
    with pytest.raises(ValueError, match=r"The architecture has tasks \['linear', 'bent'\] but"):
        fine_tune(other, problem, settings=QUICK)


def test_the_same_seed_gives_the_same_models():
    problem = mixed_problem()
    model = small_model(problem)
    first, second = (fine_tune(model, problem, settings=QUICK) for _ in range(2))
    assert dict(first.after) == dict(second.after)


def test_a_binary_task_of_an_ensemble():
    problem = Problem.from_arrays(
        np.random.default_rng(0).normal(size=(80, 3)),
        {"a": np.arange(80) % 2, "b": np.arange(80) // 40},
        {"a": Binary(), "b": Binary()},
    )
    encoder = TabularEncoder(num_numeric=3, cardinalities=(), members=2, width=8, depth=1)
    model = HardSharing(encoder=encoder, tasks=problem.tasks)
    assert set(fine_tune(model, problem, settings=QUICK).after) == {"a", "b"}
