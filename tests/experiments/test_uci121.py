"""The UCI-121 experiment runs, and chooses as it says."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from experiments.universal.uci121 import baselines, run, system

from polytask.datasets.uci121 import uci121

SETS = {"iris": (60, 4, 3), "lenses": (24, 4, 3), "monks-1": (40, 6, 2)}


@pytest.fixture
def folder(tmp_path):
    """Three small sets in the format of the collection."""
    generator = np.random.default_rng(0)
    for name, (rows, features, classes) in SETS.items():
        y = np.arange(rows) % classes
        x = generator.normal(size=(rows, features)) + y[:, None]
        part = generator.permutation(rows)
        test, val = (part % 4 == 0)[:, None], (part % 4 == 1)[:, None]
        place = tmp_path / "sets"
        place.mkdir(exist_ok=True)
        np.savez(place / f"{name}.npz", X=x, y=y.astype(np.uint8), test=test, val=val)
    return tmp_path / "sets"


def answers(unseen) -> system.Answers:
    """Kept answers ``[A, N, C]`` of all rows of a table."""
    return system.Answers(np.arange(unseen.shape[1]), unseen, {})


def test_folds_spread_every_class_evenly():
    classes = torch.tensor([0] * 23 + [1] * 7 + [2] * 40)[torch.randperm(70)]
    folds = system.stratified(classes, seed=0)
    for label in range(3):
        counts = folds[classes == label].bincount(minlength=system.FOLDS)
        assert int(counts.max() - counts.min()) <= 1
    assert not torch.equal(folds, system.stratified(classes, seed=1))


def test_the_mixture_goes_to_the_answer_that_is_right():
    classes = np.arange(200) % 2
    right = np.where(np.eye(2)[classes] == 1, 0.9, 0.1)
    wrong = 1 - right
    weights = system.mixture(np.stack([right, wrong]), classes, prior=2.0)
    # Dirichlet prior of one row each: the weight of an answer that is never right is near 1 / 202.
    assert weights[0] > 0.97
    np.testing.assert_allclose(weights.sum(), 1.0)


def test_the_mixture_of_equal_answers_or_of_few_rows_is_their_mean():
    classes = np.arange(10) % 2
    generator = np.random.default_rng(0)
    same = np.repeat(generator.dirichlet((1, 1), (1, 10)), 3, axis=0)
    np.testing.assert_allclose(system.mixture(same, classes, 10.0), 1 / 3)
    other = generator.dirichlet((1, 1), (2, 10))
    np.testing.assert_allclose(system.mixture(other, classes, 1e9), 0.5, atol=1e-6)


def test_rows_are_judged_with_weights_of_the_other_folds():
    """An answer that knows the labels of one fold only is not chosen by that fold."""
    folds = torch.arange(40) % 2
    classes = torch.arange(40) // 2 % 2
    truth = np.eye(2)[classes.numpy()]
    knows_0 = np.where((folds == 0).numpy()[:, None], truth, 1 - truth)
    knows_1 = 1 - knows_0
    rows = torch.zeros(40, 1)
    table = system.Table(rows, classes, folds, rows, classes, 2)
    found = system.mixed_unseen(table, answers(np.stack([knows_0, knows_1])), prior=0.1)
    assert system.accuracy(found, classes) == 0.0


def test_the_schedule_warms_up_and_ends_low():
    assert system.schedule(5, 100, 10) == pytest.approx(0.5, rel=0.02)
    assert system.schedule(100, 100, 10) == pytest.approx(0.05)


def test_large_tables_go_on():
    def table(rows):
        return system.Table(*(torch.zeros(rows),) * 5, num_classes=2)

    tables = {"small": table(20), "large": table(100)}
    plan = system.Plan(steps=10, later_steps=4, large=100, kept=(0.5, 1.0), later_kept=(1.0,))
    first, later = system.phases(tables, plan)
    assert (first.names, first.stops) == (("small", "large"), (5, 10))
    assert (later.names, later.stops) == (("large",), (4,))
    assert len(system.phases({"small": table(20)}, plan)) == 1


def test_squared_hinge_by_hand_ignores_padding():
    outputs = torch.tensor([[0.5, -2.0, -torch.inf]], requires_grad=True)
    loss = baselines.squared_hinge(outputs, torch.tensor([0]))
    assert loss.item() == pytest.approx(0.25)
    loss.sum().backward()
    assert outputs.grad.tolist() == [[-1.0, 0.0, 0.0]]
    other = baselines.squared_hinge(outputs.detach(), torch.tensor([1]))
    assert other.item() == pytest.approx(1.5**2 + 3.0**2)


def test_matched_test_rows_have_the_moments_of_the_rows_to_learn_from(folder):
    problem = uci121(folder, join_validation=True)
    found = run.matched(problem)
    assert set(found) == {"monks-1"}
    train = problem.train.parts["monks-1"].inputs
    torch.testing.assert_close(found["monks-1"].mean(0), train.mean(0), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found["monks-1"].std(0), train.std(0), atol=1e-5, rtol=1e-5)


def test_it_runs(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(run, "ANCHORS_FILE", tmp_path / "absent.csv")
    monkeypatch.setattr(baselines, "TREES", 10)
    out = tmp_path / "results.json"
    methods = [run.SYSTEM, run.ALONE, "TOM", "DR-STL", "SNN", "forest"]
    every = [*methods, run.SHIFTED_FOREST]
    places = ["--data", str(folder), "--out", str(out), "--log", str(tmp_path / "log.jsonl")]
    run.main(["--smoke", *places, "--methods", *every])
    content = json.loads(out.read_text(encoding="utf-8"))
    assert set(content["accuracy"]) == set(methods)
    assert all(set(own) == set(SETS) for own in content["accuracy"].values())
    assert set(content["matched"]["sets"]) == {"monks-1"}
    assert set(content["against"]) == set(methods) - {run.SYSTEM}
    shared = {name: content["runs"][name]["facts"]["shared_parameters"] for name in methods[:2]}
    assert shared[run.SYSTEM] > 0 and shared[run.ALONE] == 0
    assert (tmp_path / "accuracy.png").exists()
    lines = (tmp_path / "per_set.csv").read_text(encoding="utf-8").splitlines()
    assert len(lines) == 1 + len(SETS) and lines[0].endswith("SNN,forest")


def test_the_committed_page_shows_the_committed_results(root):
    place = root / "experiments" / "universal" / "uci121"
    page = (place / "README.md").read_text(encoding="utf-8")
    assert "python -m experiments.universal.uci121.run" in page
    content = json.loads((place / "results.json").read_text(encoding="utf-8"))
    assert run.show(content["user"]) in page
    assert run.show(content["paper"]) in page
