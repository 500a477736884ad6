"""Data sets and generators: what they promise about tasks, rows and their best possible score."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from polytask.datasets import (
    conflicting,
    diabetes,
    digits,
    digits13,
    linnerud,
    related_regression,
    separate_shapes,
)
from polytask.datasets.catalogue import all_datasets, describe_dataset, find_dataset
from polytask.tasks import Binary

PARTS = ("train", "validation", "test")


def whole(problem, name=None):
    """Inputs and targets of all rows in the users' units, parts one after the other."""
    parts = [getattr(problem, part) for part in PARTS]
    if name is not None:
        parts = [part.parts[name] for part in parts]
    inputs = torch.cat([part.inputs for part in parts]).numpy().astype(np.float64)
    targets = {
        task.name: task.kind.decode(torch.cat([p.targets[task.name] for p in parts]).numpy())
        for task in parts[0].tasks
    }
    return inputs, targets


def residual(inputs, target):
    """RMSE of the least-squares fit, corrected for its degrees of freedom."""
    fitted = np.linalg.lstsq(inputs, target, rcond=None)
    return np.sqrt(fitted[1][0] / (len(target) - inputs.shape[1]))


def test_data_sets_are_found_by_their_exports():
    assert list(all_datasets()) == [
        "conflicting",
        "diabetes",
        "digits",
        "digits13",
        "eight_tasks",
        "hyperspheres",
        "linnerud",
        "planted_groups",
        "related_regression",
        "separate_shapes",
        "transposed_gp",
    ]
    assert find_dataset("digits13") is digits13
    with pytest.raises(ValueError, match=r"no data set 'xyz'; there are conflicting, diabetes"):
        find_dataset("xyz")


@pytest.mark.parametrize("name", list(all_datasets()))
def test_every_data_set_is_deterministic_and_resplit_by_the_seed(name):
    make = find_dataset(name)
    assert make(seed=1).fingerprint() == make(seed=1).fingerprint()
    assert make(seed=1).fingerprint() != make(seed=2).fingerprint()
    assert make().name == name


@pytest.mark.parametrize("name", list(all_datasets()))
def test_every_data_set_describes_itself(name):
    about = describe_dataset(name)
    assert about["name"] == name
    assert about["tasks"] >= 3
    assert about["what"].endswith(".")


def test_digits13_has_the_thirteen_tasks():
    problem = digits13()
    names = [*(f"digit {k}" for k in range(10)), "odd", "upside-down", "random"]
    assert [task.name for task in problem.tasks] == names
    assert problem.train.inputs.shape[1:] == (1, 8, 8)
    inputs, targets = whole(problem)
    assert len(inputs) == 1797
    assert inputs.min() == 0
    assert inputs.max() == 1
    held = {name: values == "yes" for name, values in targets.items()}
    one_hot = np.stack([held[f"digit {k}"] for k in range(10)], axis=1)
    assert (one_hot.sum(1) == 1).all()
    assert np.array_equal(held["odd"], one_hot.argmax(1) % 2 == 1)
    assert held["upside-down"].sum() == 898
    assert held["random"].sum() == 898


def test_digits13_flips_the_images_that_it_says():
    inputs, targets = whole(digits13())
    flipped = targets["upside-down"] == "yes"
    inputs[flipped] = inputs[flipped, :, ::-1]
    found = sorted(map(bytes, (inputs[:, 0] * 16).astype(np.uint8).reshape(-1, 64)))
    original = sorted(map(bytes, load_digits().images.astype(np.uint8).reshape(-1, 64)))
    assert found == original


def test_digits13_stratifies_and_weighs_the_rare_classes():
    problem = digits13(seed=3)
    for task in problem.tasks:
        shares = [
            float((getattr(problem, p).targets[task.name] == 1).float().mean()) for p in PARTS
        ]
        assert max(shares) - min(shares) < 0.02
        if task.name.startswith("digit"):
            assert task.class_weights[1] == pytest.approx(1 / shares[0] - 1, rel=1e-5)
            assert 8 < task.class_weights[1] < 10
        else:
            assert task.class_weights is None
    sizes = [len(getattr(problem, part)) for part in PARTS]
    assert np.abs(np.array(sizes) / 1797 - (0.6, 0.2, 0.2)).max() < 0.005


def test_the_flips_and_random_labels_do_not_depend_on_the_split():
    first, second = whole(digits13(seed=0)), whole(digits13(seed=1))

    def labelled(data):
        inputs, targets = data
        return sorted(zip(map(bytes, inputs), targets["random"], targets["odd"], strict=True))

    assert labelled(first) == labelled(second)
    other = whole(digits13(random_seed=62))
    assert labelled(first) != labelled(other)


def test_digits_are_three_views_of_one_label():
    _, targets = whole(digits())
    digit = targets["digit"].astype(int)
    assert np.array_equal(targets["odd"] == "yes", digit % 2 == 1)
    assert np.array_equal(targets["at least five"] == "yes", digit >= 5)


def test_tables_of_scikit_learn():
    assert [task.name for task in linnerud().tasks] == ["Weight", "Waist", "Pulse"]
    problem = diabetes()
    assert len(problem.tasks) == 7
    assert problem.table.feature_names == ("age", "body mass index", "blood pressure", "sex")


def test_related_regression_has_the_noise_and_the_rank_that_it_says():
    problem = related_regression(num_rows=4000, num_tasks=6, num_features=12, rank=2, noise=0.5)
    inputs, targets = whole(problem)
    for values in targets.values():
        assert residual(inputs, values) == pytest.approx(0.5, rel=0.05)
        assert np.var(values) == pytest.approx(1 + 0.5**2, rel=0.1)
    weights = np.linalg.lstsq(inputs, np.stack(list(targets.values()), axis=1), rcond=None)[0]
    singular = np.linalg.svd(weights, compute_uv=False)
    assert singular[1] > 0.5
    assert singular[2] < 0.1
    assert problem.notes == (
        "synthetic: the expected RMSE of the best possible model is 0.5 for every task",
    )


def test_conflicting_groups_cannot_share_a_small_representation():
    problem = conflicting(num_rows=4000, tasks_per_group=4, num_features=12, rank=2, noise=0.3)
    inputs, targets = whole(problem)
    outputs = np.stack(list(targets.values()), axis=1)
    for values in targets.values():
        assert residual(inputs, values) == pytest.approx(0.3, rel=0.05)
    weights = np.linalg.lstsq(inputs, outputs, rcond=None)[0]
    assert np.abs(weights[:, :4].T @ weights[:, 4:]).max() < 0.05
    # The best two shared dimensions of a linear model: the note's bound is reached, not passed.
    left, singular, right = np.linalg.svd(weights, full_matrices=False)
    best = left[:, :2] * singular[:2] @ right[:2]
    error = np.sqrt(np.mean((inputs @ best - outputs) ** 2))
    bound = float(problem.notes[0].split("at least ")[1].split()[0])
    assert error == pytest.approx(bound, rel=0.05)
    assert bound > 2 * 0.3


def test_separate_shapes_share_a_hidden_rule():
    problem = separate_shapes(noise=0.2)
    assert problem.layout == "separate"
    shapes = {name: tuple(part.inputs.shape) for name, part in problem.train.parts.items()}
    assert shapes == {"small": (72, 5), "wide": (180, 30), "large": (600, 8), "sign": (240, 12)}
    assert isinstance(problem.task("sign").kind, Binary)
    # All inputs of a task lie in three hidden dimensions.
    inputs, targets = whole(problem, "large")
    singular = np.linalg.svd(inputs, compute_uv=False)
    assert singular[3] < 1e-4 * singular[2]
    # Var(sin z) + Var(z z') / 4 + noise^2.
    expected = (1 - np.exp(-2)) / 2 + 1 / 4 + 0.2**2
    assert np.var(targets["large"]) == pytest.approx(expected, rel=0.15)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: related_regression(noise=0), "`noise` must be > 0, found 0"),
        (lambda: related_regression(rank=50), "`rank` must be at most `num_features`"),
        (lambda: conflicting(rank=11), "`rank` must be at most half of `num_features`"),
        (lambda: conflicting(tasks_per_group=1), "at most `tasks_per_group`"),
        (lambda: separate_shapes(noise=-1), "`noise` must be > 0"),
    ],
)
def test_bad_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()
