"""Problems and splits: masks instead of imputation, both layouts, early checks, and files."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from tests.tables.frames_for_tests import HOUSE_TARGETS, houses

from polytask.datasets import separate_shapes
from polytask.problems import Problem, SeparateSplit, Split
from polytask.problems.storage import kind_from_record, task_from_record, task_record
from polytask.tables import TableSource
from polytask.tasks import Binary, Depth, Multiclass, Regression, Segmentation, Task

PARTS = ("train", "validation", "test")
NAN = float("nan")


def arrays(rows=40):
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(rows, 3))
    targets = {
        "price": inputs[:, 0] * 5 + 20,
        "sold": (inputs[:, 1] > 0).astype(int),
        "rent": inputs[:, 2],
        "grade": np.arange(rows) % 3,
    }
    kinds = {
        "price": Regression(),
        "sold": Binary(),
        "rent": Regression(),
        "grade": Multiclass(3),
    }
    return inputs, targets, kinds


# --- splits and batches --------------------------------------------------------------------------


def split_with_gaps():
    tasks = [Task("a", Regression()), Task("b", Binary()), Task("c", Regression())]
    targets = {
        "a": torch.tensor([1.0, NAN, 3.0, NAN]),
        "b": torch.tensor([0, 1, -1, 1]),
        "c": torch.tensor([5.0, 6.0, 7.0, 8.0]),
    }
    return Split(torch.arange(4.0)[:, None], targets, tasks)


def test_missing_labels_are_masked_and_replaced_by_valid_values():
    batch = split_with_gaps().batch(torch.tensor([0, 1, 2]))
    assert batch.inputs[:, 0].tolist() == [0.0, 1.0, 2.0]
    assert [names for names, _ in batch.targets.blocks] == [("a", "c"), ("b",)]
    assert batch.present[0].tolist() == [[True, True], [False, True], [True, True]]
    assert batch.present[1].tolist() == [[True], [True], [False]]
    for _, tensor in batch.targets.blocks:
        assert torch.isfinite(tensor.double()).all()
        assert (tensor >= 0).all()
    assert batch.tasks == ("a", "b", "c")


def test_a_task_without_a_label_in_the_batch_is_not_among_its_tasks():
    batch = split_with_gaps().batch(torch.tensor([1, 3]))
    assert batch.tasks == ("b", "c")


def test_complete_blocks_have_no_mask():
    split = Split(torch.zeros(2, 1), {"c": torch.ones(2)}, [Task("c", Regression())])
    assert split.masks == (None,)


def test_split_knows_its_labels_and_parts():
    split = split_with_gaps()
    assert split.labelled("a").tolist() == [0, 2]
    assert split.num_labels("b") == 3
    assert split.select(["b"]).tasks[0].name == "b"
    assert len(split.take(torch.tensor([1, 2]))) == 2
    part = split.parts["a"]
    assert part.inputs[:, 0].tolist() == [0.0, 2.0]
    assert part.targets["a"].tolist() == [1.0, 3.0]
    assert [len(b.inputs) for b in split.batches(3)] == [3, 1]


def test_rows_of_targets_and_inputs_must_agree():
    with pytest.raises(ValueError, match="task 'a' have 3 rows but the inputs have 2"):
        Split(torch.zeros(2, 1), {"a": torch.ones(3)}, [Task("a", Regression())])


# --- shared inputs -------------------------------------------------------------------------------


def test_problem_from_arrays():
    inputs, targets, kinds = arrays()
    problem = Problem.from_arrays(inputs, targets, kinds, seed=1)
    assert [len(getattr(problem, part)) for part in PARTS] == [24, 8, 8]
    kind = problem.task("price").kind
    decoded = torch.cat([getattr(problem, p).targets["price"] for p in PARTS]).numpy()
    rows = torch.cat([getattr(problem, p).inputs for p in PARTS]).numpy()
    np.testing.assert_allclose(kind.decode(decoded), rows[:, 0] * 5 + 20, rtol=1e-5)
    assert problem.train.targets["price"].mean().item() == pytest.approx(0, abs=1e-5)
    assert problem.train.targets["price"].std(unbiased=False).item() == pytest.approx(1, rel=1e-5)


def test_given_splits_are_kept():
    inputs, targets, kinds = arrays()
    splits = {"train": range(20), "validation": range(20, 30), "test": range(30, 40)}
    problem = Problem.from_arrays(inputs, targets, kinds, splits=splits)
    np.testing.assert_allclose(problem.test.inputs.numpy(), inputs[30:], rtol=1e-6)


def test_subset_keeps_rows_and_layout():
    problem = Problem.from_arrays(*arrays())
    part = problem.select_tasks(["sold", "price"])
    assert [task.name for task in part.tasks] == ["price", "sold"]
    assert torch.equal(part.train.inputs, problem.train.inputs)
    with pytest.raises(ValueError, match=r"No task 'rennt'.*'price', 'sold', 'rent', 'grade'"):
        problem.select_tasks(["rennt"])


def test_fingerprint_knows_rows_tasks_and_splits():
    inputs, targets, kinds = arrays()
    prints = {
        Problem.from_arrays(inputs, targets, kinds, seed=seed).fingerprint() for seed in (0, 1)
    }
    changed = {**targets, "price": targets["price"] + (np.arange(40) == 3)}
    prints.add(Problem.from_arrays(inputs, changed, kinds).fingerprint())
    prints.add(Problem.from_arrays(inputs, targets, kinds).select_tasks(["price"]).fingerprint())
    assert len(prints) == 4
    again = Problem.from_arrays(inputs, targets, kinds).fingerprint()
    assert again in prints


def test_summary_counts_labels():
    inputs, targets, kinds = arrays()
    targets["rent"] = np.where(np.arange(40) % 2 == 0, NAN, targets["rent"])
    summary = Problem.from_arrays(inputs, targets, kinds).summary()
    rent = next(task for task in summary["tasks"] if task["name"] == "rent")
    assert sum(rent["labels_per_split"].values()) == 20
    assert summary["rows"] == {"train": 24, "validation": 8, "test": 8}


def bad(change):
    inputs, targets, kinds = arrays()
    return change(inputs, targets, kinds)


SPLITS = {"train": range(20), "validation": range(20, 30), "test": range(30, 40)}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda x, y, k: Problem.from_arrays(np.where(x > 2, np.inf, x) + 1e40, y, k),
            "Inputs must be finite, found inf",
        ),
        (
            lambda x, y, k: Problem.from_arrays(
                np.where(np.arange(40)[:, None] == 0, NAN, x), y, k
            ),
            "Inputs must be finite, found nan",
        ),
        (
            lambda x, y, k: Problem.from_arrays(x[:2], {"rent": [1.0, 2.0]}, {"rent": k["rent"]}),
            "3 rows",
        ),
        (
            lambda x, y, k: Problem.from_arrays(x, y, {"price": k["price"]}),
            "must name the same tasks",
        ),
        (
            lambda x, y, k: Problem.from_arrays(x, {**y, "price": np.full(40, 3.0)}, k),
            r"Target 'price' has one value only \(3\)",
        ),
        (
            lambda x, y, k: Problem.from_arrays(x, {**y, "price": np.full(40, NAN)}, k),
            "Target 'price' has no label in the training rows",
        ),
        (
            lambda x, y, k: Problem.from_arrays(x, {**y, "price": ["x"] * 40}, k),
            "Regression target 'price' must hold numbers",
        ),
        (
            lambda x, y, k: Problem.from_arrays(x, {**y, "rent": np.full(40, np.inf)}, k),
            "Regression target 'rent' holds an infinite value in row 0",
        ),
        (
            lambda x, y, k: Problem.from_arrays(x, {**y, "sold": np.full(40, 7)}, k),
            "Target 'sold' holds 7, which is none of its labels",
        ),
        (
            lambda x, y, k: Problem.from_arrays(x, {**y, "sold": np.zeros(40, dtype=int)}, k),
            "Task 'sold' has one class only",
        ),
        (
            lambda x, y, k: Problem.from_arrays(
                x,
                {**y, "grade": np.where(np.arange(40) < 30, np.arange(40) % 2, 2)},
                k,
                splits=SPLITS,
            ),
            "Class 2 of task 'grade' occurs in the test rows but in no training row",
        ),
        (lambda x, y, k: Problem.from_arrays(x, y, k, fractions=(0.9, 0.1, 0.1)), "add up to 1"),
        (
            lambda x, y, k: Problem.from_arrays(x, y, k, splits={"train": [0]}),
            "must have the parts",
        ),
    ],
)
def test_problems_that_cannot_be_learned(change, message):
    with np.errstate(over="ignore"), pytest.raises(ValueError, match=message):
        bad(change)


def test_two_tasks_of_one_name():
    tasks = [Task("a", Regression()), Task("a", Regression())]
    split = Split(torch.zeros(2, 1), {"a": torch.tensor([1.0, 2.0])}, tasks)
    with pytest.raises(ValueError, match="Task names must be unique, found 'a' twice"):
        Problem(name="twice", train=split, validation=split, test=split)


# --- separate inputs -----------------------------------------------------------------------------


def test_separate_inputs_keep_their_own_shapes():
    problem = separate_shapes()
    assert isinstance(problem.train, SeparateSplit)
    assert problem.layout == "separate"
    rows = {name: torch.tensor([0, 1]) for name in ("small", "sign")}
    batch = problem.train.batch(rows)
    assert {name: tuple(x.shape) for name, x in batch.inputs.items()} == {
        "small": (2, 5),
        "sign": (2, 12),
    }
    assert batch.tasks == ("small", "sign")
    assert list(batch.targets) == ["small", "sign"]
    part = problem.select_tasks(["wide"])
    assert part.layout == "separate"
    assert [task.name for task in part.tasks] == ["wide"]
    assert len(problem.train) == 600


def test_joining_needs_single_shared_tasks():
    inputs, targets, kinds = arrays()
    two = Problem.from_arrays(inputs, targets, kinds).select_tasks(["price", "rent"])
    with pytest.raises(ValueError, match=r"'houses' has 2 task.s. in the shared layout"):
        Problem.join({"houses": two})


def test_joining_renames_the_task_and_keeps_notes():
    inputs, targets, kinds = arrays()
    one = Problem.from_arrays(inputs, {"price": targets["price"]}, {"price": kinds["price"]})
    noted = Problem(
        name="one", train=one.train, validation=one.validation, test=one.test, notes=["a note"]
    )
    joined = Problem.join({"houses": noted, "flats": one}, name="both")
    assert [task.name for task in joined.tasks] == ["houses", "flats"]
    assert joined.notes == ("houses: a note",)


# --- files ---------------------------------------------------------------------------------------


def dense_problem():
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(10, 1, 4, 4))
    targets = {
        "parts": np.arange(160).reshape(10, 4, 4) % 3,
        "depth": rng.random((10, 4, 4)),
    }
    return Problem.from_arrays(inputs, targets, {"parts": Segmentation(3), "depth": Depth()})


@pytest.mark.parametrize(
    "make",
    [
        lambda: Problem.from_arrays(*arrays()),
        separate_shapes,
        dense_problem,
        lambda: TableSource(houses(), HOUSE_TARGETS, drop=["house"]).problem(0),
    ],
    ids=["arrays", "separate", "dense", "table"],
)
def test_a_problem_comes_back_from_its_folder(make, tmp_path):
    problem = make()
    problem.save(tmp_path / "problem")
    copy = Problem.load(tmp_path / "problem")
    assert copy.fingerprint() == problem.fingerprint()
    assert copy.summary() == problem.summary()
    assert copy.table == problem.table
    assert copy.tables == problem.tables
    assert sorted(f.suffix for f in (tmp_path / "problem").iterdir()) == [".json", ".safetensors"]


def test_tasks_come_back_from_their_records():
    tasks = [
        Task("a", Regression(mean=1.0, scale=2.0)),
        Task("ö", Binary(("no", "yes")), class_weights=(1.0, 3.0)),
        Task("c", Multiclass(3, (1, 2, 5))),
        Task("d", Segmentation(4)),
    ]
    for task in tasks:
        record = json.loads(json.dumps(task_record(task)))
        assert task_from_record(record) == task
        assert kind_from_record(record) == task.kind


def test_a_users_own_loss_cannot_be_saved():
    task = Task("a", Regression(), loss=lambda output, target: output.squeeze(-1) - target)
    with pytest.raises(ValueError, match="Task 'a' has a `loss` of its own"):
        task_record(task)
