"""Boosting: trees leave scikit-learn unchanged, and columns arrive as what they are."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from tests.evaluation.helpers import tiny_problem

from polytask.candidates.boosting import BoostingMethod, _verify
from polytask.candidates.method import Budget, load_fitted
from polytask.candidates.trees import TreeEnsemble
from polytask.problems import Problem
from polytask.tables import TableSource
from polytask.tasks import Binary, Multiclass, Regression

BUDGET = Budget()


def mixed_features(rng, rows=400):
    """A categorical column of 12 codes, then three numbers; missing cells everywhere."""
    codes = rng.integers(0, 12, size=rows).astype(float)
    numbers = rng.normal(size=(rows, 3))
    features = np.column_stack([codes, numbers])
    features[rng.random(features.shape) < 0.1] = np.nan
    target = np.nan_to_num(numbers[:, 0]) + np.isin(codes, (1, 5, 7)) * 2.0
    return features, target + 0.1 * rng.normal(size=rows)


# --- the trees -----------------------------------------------------------------------------------


@pytest.mark.parametrize("classes", [0, 2, 4])
def test_exported_trees_equal_scikit_learn_exactly(classes):
    rng = np.random.default_rng(0)
    features, target = mixed_features(rng)
    options = {"max_iter": 25, "categorical_features": [0], "min_samples_leaf": 5}
    if classes:
        labels = np.digitize(target, np.quantile(target, np.linspace(0, 1, classes + 1)[1:-1]))
        model = HistGradientBoostingClassifier(**options).fit(features, labels)
    else:
        model = HistGradientBoostingRegressor(**options).fit(features, target)
    ensemble = TreeEnsemble.from_sklearn(model, 25)
    new, _ = mixed_features(np.random.default_rng(1))
    new[0, 0] = np.nan
    expected = model.decision_function(new) if classes else model.predict(new)
    assert np.array_equal(ensemble.raw(new), expected.reshape(len(new), -1))
    assert ensemble.raw(new).shape[1] == (classes if classes > 2 else 1)


def test_fewer_iterations_are_those_of_the_staged_predictions():
    rng = np.random.default_rng(0)
    features, target = mixed_features(rng)
    model = HistGradientBoostingRegressor(max_iter=12).fit(features, target)
    staged = list(model.staged_predict(features))
    for count in (1, 7):
        found = TreeEnsemble.from_sklearn(model, count).raw(features)[:, 0]
        assert np.array_equal(found, staged[count - 1])


def test_long_predictions_are_done_in_pieces(monkeypatch):
    rng = np.random.default_rng(0)
    features, target = mixed_features(rng)
    ensemble = TreeEnsemble.from_sklearn(
        HistGradientBoostingRegressor(max_iter=5).fit(features, target), 5
    )
    whole = ensemble.raw(features)
    monkeypatch.setattr("polytask.candidates.trees.CHUNK", 35)
    assert np.array_equal(ensemble.raw(features), whole)
    assert ensemble.raw(features[:0]).shape == (0, 1)


def test_trees_that_differ_are_an_error():
    rng = np.random.default_rng(0)
    features, target = mixed_features(rng)
    model = HistGradientBoostingRegressor(max_iter=5).fit(features, target)
    ensemble = TreeEnsemble.from_sklearn(model, 5)
    wrong = dataclasses.replace(ensemble, value=ensemble.value + 1e-9)
    _verify(model, ensemble, 5, features)
    with pytest.raises(RuntimeError, match="do not reproduce"):
        _verify(model, wrong, 5, features)


def test_another_scikit_learn_is_an_error():
    with pytest.raises(RuntimeError, match="cannot be read"):
        TreeEnsemble.from_sklearn(object(), 5)


# --- the method ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def fitted():
    return BoostingMethod(max_iter=30).fit(tiny_problem(300), seed=0, budget=BUDGET)


def test_outputs_score_well_on_every_kind(fitted):
    problem = tiny_problem(300)
    outputs = fitted.outputs(problem.test)
    scores = {
        task.name: task.score(outputs[task.name], problem.test.targets[task.name])
        for task in problem.tasks
    }
    assert scores["sum"]["r2"] > 0.5
    assert scores["positive"]["auc"] > 0.95
    assert scores["class"]["accuracy"] > 0.7


def test_saved_and_loaded_is_the_same(fitted, tmp_path):
    fitted.save(tmp_path / "model")
    loaded = load_fitted(tmp_path / "model")
    problem = tiny_problem(300)
    for name, output in fitted.outputs(problem.test).items():
        assert torch.equal(loaded.outputs(problem.test)[name], output)
    assert loaded.num_parameters == fitted.num_parameters
    assert loaded.record == fitted.record
    names = {path.name for path in (tmp_path / "model").iterdir()}
    assert names == {"method.json", "trees.safetensors"}


def test_the_best_iteration_on_validation_is_kept():
    problem = tiny_problem(300)
    small = BoostingMethod(max_iter=200, patience=5, learning_rate=0.5)
    fitted = small.fit(problem.select_tasks(["sum"]), seed=0, budget=BUDGET)
    losses = fitted.record.curves["validation_loss"]["sum"]
    trees = len(fitted.models["sum"].members[0].ensemble.roots)
    assert trees == int(np.argmin(losses)) + 1
    assert trees < len(losses)


def test_missing_labels_are_left_out():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 3))
    y = x[:, 0].copy()
    y[::2] = np.nan
    problem = Problem.from_arrays(x, {"y": y}, {"y": Regression()})
    fitted = BoostingMethod(max_iter=5).fit(problem, seed=0, budget=BUDGET)
    assert torch.isfinite(fitted.outputs(problem.test)["y"]).all()


def test_a_vector_target_has_a_model_per_number():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 3))
    problem = Problem.from_arrays(x, {"y": x[:, :2]}, {"y": Regression(size=2)})
    fitted = BoostingMethod(max_iter=40).fit(problem, seed=0, budget=BUDGET)
    score = problem.tasks[0].score(fitted.outputs(problem.test)["y"], problem.test.targets["y"])
    assert score["r2"] > 0.8


def test_a_class_without_training_rows_is_never_predicted():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 2))
    y = (x[:, 0] > 0).astype(int) * 2  # classes 0 and 2 of 0, 1, 2
    problem = Problem.from_arrays(x, {"y": y}, {"y": Multiclass(3)})
    outputs = BoostingMethod(max_iter=5).fit(problem, seed=0, budget=BUDGET).outputs(problem.test)
    assert outputs["y"].shape == (40, 3)
    assert not (outputs["y"].argmax(1) == 1).any()


def test_categories_unseen_missing_and_more_than_trees_can_hold(tmp_path):
    import pandas as pd

    rng = np.random.default_rng(0)
    rows = 6000
    town = rng.integers(0, 300, size=rows)
    frame = pd.DataFrame({"town": [f"town {t}" for t in town], "size": rng.normal(size=rows)})
    frame["price"] = (town % 7) + frame["size"]
    problem = TableSource(frame, ["price:regression"]).problem(0)
    fitted = BoostingMethod(max_iter=60, min_samples_leaf=5).fit(problem, seed=0, budget=BUDGET)
    score = problem.tasks[0].score(
        fitted.outputs(problem.test)["price"], problem.test.targets["price"]
    )
    assert score["r2"] > 0.5
    fitted.save(tmp_path)
    strange = problem.test.inputs.clone()
    strange[:, -1] = 5000.0
    strange[:, 0] = float("nan")
    split = type(problem.test)(strange, problem.test.targets, problem.tasks)
    assert torch.equal(
        load_fitted(tmp_path).outputs(split)["price"], fitted.outputs(split)["price"]
    )


def test_class_weights_move_the_decision():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(600, 2))
    y = (x[:, 0] + rng.normal(size=600) > 1.8).astype(int)
    problem = Problem.from_arrays(x, {"rare": y}, {"rare": Binary()})
    plain = BoostingMethod(max_iter=20).fit(problem, seed=0, budget=BUDGET)
    task = dataclasses.replace(problem.tasks[0], class_weights=(1.0, 8.0))
    parts = {
        part: type(problem.train)(
            getattr(problem, part).inputs, getattr(problem, part).targets, [task]
        )
        for part in ("train", "validation", "test")
    }
    weighed = BoostingMethod(max_iter=20).fit(
        Problem(name="weighed", **parts), seed=0, budget=BUDGET
    )
    found = [f.outputs(problem.test)["rare"].mean().item() for f in (plain, weighed)]
    assert found[1] > found[0] + 0.5


def test_images_that_are_too_large_are_refused():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(30, 3, 64, 64))
    problem = Problem.from_arrays(x, {"y": x[:, 0, 0, 0]}, {"y": Regression()})
    assert "12288 values per row" in BoostingMethod().why_not(problem)
    with pytest.raises(ValueError, match="Boosting cannot learn this problem"):
        BoostingMethod().fit(problem, seed=0, budget=BUDGET)


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match="`max_iter` must be >= 1, found 0"):
        BoostingMethod(max_iter=0)
    assert repr(BoostingMethod(max_iter=7)) == "BoostingMethod(max_iter=7)"
