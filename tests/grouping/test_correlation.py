"""Correlations of labels and of predictions, and the groups that they give."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.grouping.test_tag import planted, planted_learner
from tests.training.problems_for_tests import mixed_problem

from polytask.grouping.correlation import LabelCorrelation, PredictionCorrelation, association
from polytask.grouping.grouping import Grouping
from polytask.problems import Problem
from polytask.tasks import Binary, Multiclass, Regression, Segmentation


def column(*values: float) -> torch.Tensor:
    return torch.tensor(values)[:, None]


def one_hot(classes: np.ndarray) -> torch.Tensor:
    return torch.nn.functional.one_hot(torch.as_tensor(classes)).float()[:, 1:]


def test_phi_by_hand() -> None:
    """The 2 x 2 table (3, 1; 1, 3): phi = (3 * 3 - 1 * 1) / sqrt(4 * 4 * 4 * 4) = 0.5."""
    first = column(0, 0, 0, 0, 1, 1, 1, 1)
    second = column(0, 0, 0, 1, 0, 1, 1, 1)
    found = association([first, second, 1 - second], absolute=False)
    expected = torch.tensor([[1, 0.5, -0.5], [0.5, 1, -1], [-0.5, -1, 1]], dtype=torch.float64)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(association([first, second, 1 - second]), expected.abs())


def test_classes_and_numbers_against_textbook_formulas() -> None:
    rng = np.random.default_rng(0)
    first = rng.integers(0, 3, 200)
    second = (first + rng.integers(0, 2, 200)) % 4
    number = first + rng.normal(size=200)
    found = association([one_hot(first), one_hot(second), torch.tensor(number)[:, None]])
    table = np.zeros((3, 4))
    np.add.at(table, (first, second), 1)
    expected = np.outer(table.sum(1), table.sum(0)) / 200
    chi_square = ((table - expected) ** 2 / expected).sum()
    assert float(found[0, 1]) == pytest.approx(np.sqrt(chi_square / 200 / 2))  # Cramér's V
    between = sum(
        (first == c).sum() * (number[first == c].mean() - number.mean()) ** 2 for c in range(3)
    )
    total = ((number - number.mean()) ** 2).sum()
    assert float(found[0, 2]) == pytest.approx(np.sqrt(between / total))  # correlation ratio
    torch.testing.assert_close(found, found.T)
    torch.testing.assert_close(found.diagonal(), torch.ones(3, dtype=torch.float64))


def test_two_classes_are_phi_in_either_form() -> None:
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 2, (100, 2))
    single = torch.as_tensor(labels).double()
    doubled = torch.stack([1 - single[:, 0], single[:, 0]], dim=1)
    found = association([single[:, :1], single[:, 1:], doubled])
    torch.testing.assert_close(found[1, 2], found[0, 1])
    torch.testing.assert_close(found[0, 2], torch.ones((), dtype=torch.float64))


def test_missing_labels_are_left_out_by_pairs() -> None:
    rng = np.random.default_rng(2)
    values = rng.normal(size=(300, 5)) @ rng.normal(size=(5, 5)) + 100
    values[rng.random(values.shape) < 0.3] = np.nan
    found = association(list(torch.as_tensor(values).split(1, dim=1)), absolute=False)
    for i in range(5):
        for j in range(5):
            both = ~np.isnan(values[:, [i, j]]).any(1)
            expected = np.corrcoef(values[both, i], values[both, j])[0, 1]
            assert float(found[i, j]) == pytest.approx(expected, abs=1e-10)


def test_missing_classes_are_left_out_by_pairs() -> None:
    rng = np.random.default_rng(3)
    classes = rng.integers(0, 3, 200)
    number = torch.as_tensor(classes + rng.normal(size=200))[:, None]
    columns = one_hot(classes)
    columns[:50] = torch.nan
    number[150:] = torch.nan
    found = association([columns, number])
    alone = association([columns[50:150], number[50:150]])
    torch.testing.assert_close(found[0, 1], alone[0, 1])


def test_pairs_that_say_nothing_are_unknown() -> None:
    nan = float("nan")
    found = association(
        [column(0, 1, 0, 1), column(1, 1, nan, nan), column(nan, nan, 0, 1), column(7, 7, 7, 7)]
    )
    assert bool(found[0, 1].isnan())  # constant where both are present
    assert bool(found[1, 2].isnan())  # never together
    assert bool(found[3].isnan().all())
    assert float(found[0, 2]) == pytest.approx(1.0)


def labelled(targets: dict[str, np.ndarray], kinds: dict) -> Problem:
    rows = len(next(iter(targets.values())))
    inputs = np.random.default_rng(0).normal(size=(rows, 2)).astype(np.float32)
    return Problem.from_arrays(inputs, targets, kinds)


def test_label_groups() -> None:
    """Two groups and complements; the sign decides whether complements belong together."""
    rng = np.random.default_rng(0)
    rows = 2000
    base = rng.random((rows, 2)) < 0.5
    targets = {}
    for name in ["a0", "a1", "a2", "b0", "b1", "b2"]:
        flip = rng.random(rows) < 0.1
        targets[name] = (base[:, "ab".index(name[0])] ^ flip).astype(np.int64)
    targets["a2"] = 1 - targets["a2"]
    problem = labelled(targets, {name: Binary() for name in targets})
    grouper = LabelCorrelation()
    grouping = grouper.find(problem, num_groups=2)
    assert grouping.agreement([0, 0, 0, 1, 1, 1]) == 1.0
    assert grouping.method == "label-correlation"
    assert grouping.cost.models == grouping.cost.steps == 0 == grouper.models_trained(6)
    signed = LabelCorrelation(absolute=False).affinity(problem).matrix
    assert float(signed[0, 2]) < -0.4
    assert float(signed[0, 1]) > 0.4
    # The training rows decide, no others.
    part = problem.train.targets["a0"].double(), problem.train.targets["a1"].double()
    expected = np.corrcoef(*(values.numpy() for values in part))[0, 1]
    assert float(signed[0, 1]) == pytest.approx(expected)


def test_mixed_kinds_with_missing_labels() -> None:
    found = LabelCorrelation().affinity(mixed_problem(rows=600, missing=0.2))
    names = list(found.tasks)
    matrix = found.matrix
    assert bool(((matrix >= 0) & (matrix <= 1)).all())
    torch.testing.assert_close(matrix, matrix.T)
    # "sign" and "linear" share the first input, "bent" and "third" share nothing.
    linear, bent, sign, third = (names.index(n) for n in ("linear", "bent", "sign", "third"))
    assert float(matrix[linear, sign]) > 0.4
    assert float(matrix[bent, third]) < 0.15


def test_unrelated_tasks_are_not_grouped() -> None:
    rng = np.random.default_rng(5)
    targets = {f"t{i}": rng.integers(0, 2, 1000) for i in range(6)}
    problem = labelled(targets, {name: Binary() for name in targets})
    grouping = LabelCorrelation().find(problem)
    assert grouping.num_groups == 6
    assert any("do not group" in note for note in grouping.notes)
    assert LabelCorrelation(alone=0.0).find(problem).num_groups < 6


def test_prediction_groups() -> None:
    problem = planted(rows=300)
    for source, models in (("single", 8), ("joint", 1)):
        grouper = PredictionCorrelation(source=source)
        grouping = grouper.find(problem, learner=planted_learner(), num_groups=2)
        assert grouping.agreement([0, 0, 0, 0, 1, 1, 1, 1]) == 1.0
        assert grouping.cost.models == models == grouper.models_trained(8)
        assert grouping.cost.steps > 0
        assert grouping.method == "prediction-correlation"


def test_predictions_of_classes() -> None:
    problem = mixed_problem()
    learner = planted_learner()
    learner.architecture = None
    found = PredictionCorrelation(source="joint").affinity(problem, learner=learner)
    assert bool(((found.matrix >= 0) & (found.matrix <= 1)).all())
    torch.testing.assert_close(found.matrix.diagonal(), torch.ones(4, dtype=torch.float64))


def test_a_thousand_tasks() -> None:
    """Reference values from numpy; seconds even where labels are missing."""
    rng = np.random.default_rng(0)
    values = torch.as_tensor(rng.integers(0, 2, (3000, 1000)), dtype=torch.float32)
    columns = list(values.split(1, dim=1))
    expected = np.corrcoef(values.numpy().T.astype(np.float64))
    np.testing.assert_allclose(association(columns, absolute=False), expected, atol=1e-12)
    values[torch.as_tensor(rng.random(values.shape) < 0.1)] = torch.nan
    found = association(list(values.split(1, dim=1)), absolute=False)
    both = ~values[:, :2].isnan().any(1)
    pair = np.corrcoef(values[both][:, :2].numpy().T.astype(np.float64))[0, 1]
    assert float(found[0, 1]) == pytest.approx(pair)


def test_attributes_of_faces(shared: Path) -> None:
    """The 40 attributes over the 162,770 training images: known relations, in seconds."""
    import lzma

    folder = shared / "data" / "celeba_attributes"
    names = (folder / "attributes.txt").read_text().split()
    with lzma.open(folder / "list_attr_celeba.npy.xz") as handle:
        bits = np.load(handle)
    labels = np.unpackbits(bits, axis=1)
    values = torch.as_tensor(labels[:162_770, : len(names)]).float()
    started = time.process_time()
    found = association(list(values.split(1, dim=1)), absolute=False)
    assert time.process_time() - started < 5

    def phi(one: str, other: str) -> float:
        return float(found[names.index(one), names.index(other)])

    x, y = (values[:, names.index(name)].numpy() for name in ("Male", "Wearing_Lipstick"))
    assert phi("Male", "Wearing_Lipstick") == pytest.approx(np.corrcoef(x, y)[0, 1], abs=1e-6)
    assert phi("Male", "Wearing_Lipstick") < -0.7
    assert phi("Heavy_Makeup", "Wearing_Lipstick") > 0.7
    assert phi("Goatee", "No_Beard") < -0.5


def test_bad_input() -> None:
    rows = np.random.default_rng(0).normal(size=(30, 2)).astype(np.float32)
    separate = Problem.from_separate(
        dict.fromkeys("ab", (rows, rows[:, 0])), {name: Regression() for name in "ab"}
    )
    pixels = Problem.from_arrays(
        np.zeros((10, 1, 4, 4), dtype=np.float32) + np.arange(10)[:, None, None, None],
        {"a": np.tile(np.arange(2), (10, 4, 2)), "b": np.arange(10)},
        {"a": Segmentation(2), "b": Multiclass(10)},
        splits={"train": np.arange(10), "validation": [0], "test": [1]},
    )
    for grouper in (LabelCorrelation(), PredictionCorrelation()):
        assert "rows of its own" in grouper.why_not(separate)
        with pytest.raises(ValueError, match="rows of its own"):
            grouper.find(separate)
        assert "Segmentation" in grouper.why_not(pixels)
        assert "two tasks" in grouper.why_not(mixed_problem().select_tasks(["sign"]))
        assert grouper.why_not(mixed_problem()) is None
    with pytest.raises(ValueError, match="`source`"):
        PredictionCorrelation(source="both")


def test_groupings_are_of_the_common_kind() -> None:
    found = LabelCorrelation().find(mixed_problem(), num_groups=2)
    assert isinstance(found, Grouping)
    assert found.tasks == ("linear", "bent", "sign", "third")
    assert repr(LabelCorrelation(absolute=False)) == "LabelCorrelation(absolute=False)"
