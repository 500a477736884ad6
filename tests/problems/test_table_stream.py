"""Packed batches are those of the tables they were made of; streams visit every row once."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats

from polytask.architectures.variables.soft_layer_ordering import SoftLayerOrdering
from polytask.datasets.uci121 import uci121
from polytask.problems import Problem
from polytask.problems.loaders import BatchLoader
from polytask.problems.splits import SeparateSplit, Split
from polytask.problems.table_batch import REMEMBERED, TableBatch
from polytask.problems.table_stream import TableBatchSplit, TableBatchStream
from polytask.tables import from_tables
from polytask.tasks import Binary, Multiclass, Regression, Task
from polytask.training import Checkpoints, Trainer, TrainingSettings
from polytask.training.prediction import predict_outputs, validation_losses

KINDS = {"price": Regression(), "species": Multiclass(4), "sold": Binary(), "grade": Multiclass(3)}
COUNTS = {"price": 11, "species": 5, "sold": 17, "grade": 8}
WIDTHS = {"price": 3, "species": 6, "sold": 1, "grade": 2}


def split_of(*, missing=False) -> SeparateSplit:
    """Tables whose cells say where they stood: 1000 t + 10 row + column."""
    parts = {}
    for t, (name, kind) in enumerate(KINDS.items()):
        rows, columns = torch.arange(COUNTS[name]), torch.arange(WIDTHS[name])
        inputs = 1000.0 * t + 10 * rows.unsqueeze(1) + columns
        if missing:
            inputs[1::3, 0] = torch.nan
        target = rows % kind.output_size if kind.is_categorical else rows / 7
        if isinstance(kind, Binary):
            target = rows % 2
        parts[name] = Split(inputs, {name: target}, [Task(name, kind)])
    return SeparateSplit(parts)


def equal(first: torch.Tensor, second: torch.Tensor) -> bool:
    return torch.allclose(first, second, rtol=0, atol=0, equal_nan=True)


# --- batches -------------------------------------------------------------------------------------


@pytest.mark.parametrize("missing", [False, True], ids=["whole", "with gaps"])
@pytest.mark.parametrize(
    "names", [tuple(KINDS), ("sold",), ("grade", "price", "species")], ids=["all", "one", "some"]
)
def test_a_batch_is_the_plain_batch_row_by_row(missing, names):
    split = split_of(missing=missing)
    rows = torch.stack([torch.randint(COUNTS[name], (6,)) for name in names])
    found = TableBatchSplit(split).batch(names, rows)
    plain = split.batch(dict(zip(names, rows, strict=True)))
    assert found.tasks == plain.tasks == names
    assert set(found.targets) == set(names)
    assert found.present == (None,) * len(found.targets.blocks)
    for name in names:
        assert equal(found.inputs[name], plain.inputs[name])
        assert found.targets[name].dtype == plain.targets[name].dtype
        assert torch.equal(found.targets[name], plain.targets[name])
        assert torch.equal(found.indices[name], plain.indices[name])


def test_tasks_that_differ_in_their_classes_are_one_block():
    names = tuple(KINDS)
    batch = TableBatchSplit(split_of()).batch(names, torch.zeros(4, 2, dtype=torch.int64))
    blocks = [block_names for block_names, _ in batch.targets.blocks]
    assert blocks == [("price",), ("species", "grade"), ("sold",)]


@pytest.mark.parametrize("size", [1, 7, 40, 10_000])
@pytest.mark.parametrize("missing", [False, True], ids=["whole", "with gaps"])
def test_batches_cover_every_row_once(size, missing):
    split = split_of(missing=missing)
    seen = {name: [] for name in KINDS}
    for batch in TableBatchSplit(split).batches(size):
        assert isinstance(batch.inputs, TableBatch)
        assert batch.all_rows_count == all(mask is None for mask in batch.present)
        masks = dict(zip((n for n, _ in batch.targets.blocks), batch.present, strict=True))
        for block_names, mask in masks.items():
            for column, name in enumerate(block_names):
                rows = batch.indices[name]
                counts = rows >= 0
                if mask is not None:
                    assert torch.equal(mask[:, column], counts)
                own = split.parts[name]
                assert equal(batch.inputs[name][counts], own.inputs[rows[counts]])
                target = batch.targets[name][counts]
                assert torch.equal(target, own.targets[name][rows[counts]].to(target.dtype))
                seen[name] += rows[counts].tolist()
    assert seen == {name: list(range(count)) for name, count in COUNTS.items()}


def test_rows_that_fill_up_have_no_part_in_losses_and_outputs():
    split = split_of()
    model = SoftLayerOrdering(tasks=split.tasks, columns=WIDTHS, hidden=4)
    # Inputs of up to 3,000 would make any difference a matter of rounding.
    for part in split.parts.values():
        part.inputs.div_(1000)
    losses = validation_losses(model, split, batch_size=20)
    outputs = predict_outputs(model, split, batch_size=20)
    model.eval()
    for task in split.tasks:
        part = split.parts[task.name]
        expected = model({task.name: part.inputs})[task.name]
        torch.testing.assert_close(outputs[task.name], expected.detach())
        loss = task.kind.loss(expected.detach(), part.targets[task.name]).mean()
        assert losses[task.name] == pytest.approx(float(loss), rel=1e-5)


def test_what_cannot_be_packed_is_named():
    images = Split(torch.zeros(3, 2, 2), {"a": torch.arange(3) / 2}, [Task("a", Regression())])
    with pytest.raises(ValueError, match=r"'a' is no table with one target: inputs \[3, 2, 2\]"):
        TableBatchSplit(SeparateSplit({"a": images}))
    vectors = Split(torch.zeros(3, 2), {"a": torch.zeros(3, 2)}, [Task("a", Regression(size=2))])
    with pytest.raises(ValueError, match=r"targets \[3, 2\]"):
        TableBatchSplit(SeparateSplit({"a": vectors}))
    with pytest.raises(ValueError, match="No table for task 'rent'"):
        TableBatchSplit(split_of()).batch(("rent",), torch.zeros(1, 2, dtype=torch.int64))


def test_rows_without_a_label_are_masked_as_in_the_separate_split():
    numbers, kinds = torch.tensor([1.0, torch.nan, 2.0]), Task("a", Regression())
    classes, kind = torch.tensor([-1, -1, 1, 0]), Task("b", Multiclass(2))
    split = SeparateSplit(
        {
            "a": Split(torch.zeros(3, 2), {"a": numbers}, [kinds]),
            "b": Split(torch.zeros(4, 3), {"b": classes}, [kind]),
        }
    )
    packed = TableBatchSplit(split)
    batch = packed.batch(("a", "b"), torch.tensor([[0, 1], [0, 1]]))
    assert batch.tasks == ("a",)
    assert batch.all_rows_count
    assert [mask[:, 0].tolist() for mask in batch.present] == [[True, False], [False, False]]
    assert batch.targets["a"].tolist() == [1.0, 0.0]
    assert batch.targets["b"].tolist() == [0, 0]
    (whole,) = packed.batches(100)
    assert [mask[:, 0].tolist() for mask in whole.present] == [
        [True, False, True, False],
        [False, False, True, True],
    ]
    model = SoftLayerOrdering(tasks=split.tasks, columns={"a": 2, "b": 3}, hidden=4)
    outputs = predict_outputs(model, split)
    assert {name: len(rows) for name, rows in outputs.items()} == {"a": 3, "b": 4}


def test_targets_of_several_numbers_are_learned_without_packing():
    inputs = torch.randn(40, 3, generator=torch.Generator().manual_seed(0))
    data = {"pair": (inputs, inputs[:, :2]), "one": (inputs[:30, :2], inputs[:30, 0])}
    kinds = {"pair": Regression(size=2), "one": Regression()}
    problem = Problem.from_separate(data, kinds)
    assert not TableBatchSplit.takes(problem.train)
    model = SoftLayerOrdering.for_problem(problem)
    result = Trainer(problem, model, settings=TrainingSettings(epochs=30)).fit()
    losses = [report.train_losses["pair"] for report in result.history]
    assert losses[-1] < 0.5 * losses[0]
    assert predict_outputs(model, problem.test)["pair"].shape[1:] == (2,)


def test_arithmetic_of_a_few_sets_of_tasks_is_kept():
    names = [f"t{i}" for i in range(REMEMBERED + 5)]
    parts = {
        n: Split(torch.zeros(2, 2), {n: torch.arange(2.0)}, [Task(n, Regression())]) for n in names
    }
    packed = TableBatchSplit(SeparateSplit(parts))
    for name in names:
        packed.batch((name,), torch.zeros(1, 2, dtype=torch.int64))
    assert len(packed._sets) <= REMEMBERED


def test_a_table_that_cannot_be_learned_is_named():
    tables = {"flat": (np.ones((20, 2)), np.arange(20) % 2)}
    with pytest.raises(ValueError, match=r"Table 'flat': No column of the table can become"):
        from_tables(tables)


# --- streams -------------------------------------------------------------------------------------


def epochs_of(count, epochs, *, seed=0, batch_size=1) -> np.ndarray:
    """Row numbers ``[epochs, count]`` of one task of so many rows."""
    stream = TableBatchStream(torch.tensor([count]), batch_size, seed)
    draws = -(-count * epochs // batch_size)
    drawn = torch.cat([stream.draw([0])[0] for _ in range(draws)])
    return drawn[: count * epochs].reshape(epochs, count).numpy()


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 16, 17, 64, 1000])
@pytest.mark.parametrize("batch_size", [1, 7])
def test_every_epoch_is_a_permutation(count, batch_size):
    for order in epochs_of(count, 5, batch_size=batch_size):
        assert sorted(order.tolist()) == list(range(count))


def test_epochs_tasks_and_seeds_have_orders_of_their_own():
    orders = epochs_of(50, 20)
    assert len({tuple(order) for order in orders.tolist()}) == 20
    assert not np.array_equal(orders, epochs_of(50, 20, seed=1))
    assert np.array_equal(orders, epochs_of(50, 20))
    both = TableBatchStream(torch.tensor([50, 50]), 50, 0).draw([0, 1])
    assert not torch.equal(both[0], both[1])


@pytest.mark.parametrize("count", [2, 3, 4, 5, 6, 10, 17, 40])
def test_every_row_is_as_likely_to_come_first_and_last(count):
    orders = epochs_of(count, 100 * count, batch_size=1000)
    for column in (orders[:, 0], orders[:, -1]):
        # The seed is fixed; another one would fail once in a hundred thousand.
        assert stats.chisquare(np.bincount(column, minlength=count)).pvalue > 1e-5


@pytest.mark.parametrize("count", [3, 4])
def test_every_order_of_few_rows_is_as_likely(count):
    orders = epochs_of(count, 4800, batch_size=1000)
    _, found = np.unique(orders, axis=0, return_counts=True)
    assert len(found) == np.prod(np.arange(1, count + 1))
    assert stats.chisquare(found).pvalue > 1e-5


def test_neighbours_do_not_stay_together():
    orders = epochs_of(100, 300, batch_size=1000)
    together = (np.abs(np.diff(orders, axis=1)) == 1).mean()
    # Two of a hundred expected; 29,700 pairs have a standard deviation of 0.0008.
    assert abs(together - 0.02) < 0.004


def test_a_stream_goes_on_where_its_state_was_saved():
    counts = torch.tensor([3, 50, 7, 1])
    whole = TableBatchStream(counts, 4, 3)
    expected = [whole.draw([0, 1, 2, 3]) for _ in range(60)]
    for stop in (1, 15, 16, 17, 37):
        stream = TableBatchStream(counts, 4, 3)
        for _ in range(stop):
            stream.draw([0, 1, 2, 3])
        state = stream.state_dict()
        resumed = TableBatchStream(counts, 4, 3)
        resumed.draw([1, 2])
        resumed.load_state_dict(state)
        for draw in expected[stop:]:
            assert torch.equal(resumed.draw([0, 1, 2, 3]), draw)


def test_drawing_some_tasks_does_not_disturb_the_others():
    counts = torch.tensor([3, 50, 7, 20])
    whole, partly = TableBatchStream(counts, 4, 3), TableBatchStream(counts, 4, 3)
    expected = torch.stack([whole.draw([0, 1, 2, 3]) for _ in range(40)])
    found = {task: [] for task in range(4)}
    generator = torch.Generator().manual_seed(0)
    for _ in range(60):
        chosen = torch.randperm(4, generator=generator)[:2].tolist()
        for task, rows in zip(chosen, partly.draw(chosen), strict=True):
            found[task].append(rows)
    for task, drawn in found.items():
        assert len(drawn) > 16
        assert torch.equal(torch.stack(drawn), expected[: len(drawn), task])


def test_the_loader_draws_packed_batches_and_resumes():
    loader = BatchLoader(TableBatchSplit(split_of()), batch_size=4, seed=1)
    assert loader.steps_per_epoch == 5
    for _ in range(3):
        loader.draw()
    state = loader.state_dict()
    expected = [loader.draw(("grade", "sold")) for _ in range(4)]
    again = BatchLoader(TableBatchSplit(split_of()), batch_size=4, seed=1)
    again.load_state_dict(state)
    for batch in expected:
        found = again.draw(("grade", "sold"))
        assert found.tasks == ("grade", "sold")
        assert all(torch.equal(found.indices[name], batch.indices[name]) for name in found.tasks)
        assert torch.equal(found.inputs.cells, batch.inputs.cells)


def test_a_batch_is_no_larger_than_the_largest_table():
    loader = BatchLoader(TableBatchSplit(split_of()), batch_size=1000, seed=1)
    assert loader.draw().inputs.size == max(COUNTS.values())


# --- tables of any shape -------------------------------------------------------------------------


def frames(rows=80):
    generator = np.random.default_rng(0)
    size = generator.normal(100, 30, rows)
    town = np.array(["Bonn", "Köln", "Łódź"], dtype=object)[generator.integers(0, 3, rows)]
    houses = pd.DataFrame({"size": size, "town": town, "price": 10 * size + generator.normal(rows)})
    houses.loc[::9, "size"] = np.nan
    houses.loc[::11, "town"] = None
    letters = generator.normal(size=(rows, 4))
    return {
        "price": (houses, "price"),
        "letter": (letters, np.array(list("abcd"))[letters.argmax(1)]),
        "sign": (torch.from_numpy(letters[:, :2]), (letters[:, 0] > 0).astype(int)),
    }


def test_frames_arrays_and_tensors_become_one_problem():
    problem = from_tables(frames())
    assert problem.layout == "separate"
    assert [type(task.kind) for task in problem.tasks] == [Regression, Multiclass, Binary]
    assert problem.task("letter").kind.labels == ("a", "b", "c", "d")
    shapes = problem.table_shapes()
    assert (shapes["letter"].width, shapes["sign"].width) == (4, 2)
    assert shapes["price"].cardinalities == (3,)
    rows = [len(getattr(problem, part).parts["sign"]) for part in ("train", "validation", "test")]
    assert rows[0] == 48
    assert sum(rows) == 80
    # The missing cells of numbers stay missing, those of categories have a code.
    inputs = problem.train.parts["price"].inputs
    assert torch.isnan(inputs[:, 0]).any()
    assert not torch.isnan(inputs[:, -1]).any()
    assert set(inputs[:, -1].unique().tolist()) == {0, 1, 2, 3}


def test_targets_may_be_values_of_a_frame_and_kinds_can_be_said():
    houses, _ = frames()["price"]
    features, target = houses.drop(columns="price"), houses["price"].round(-3).to_numpy()
    problem = from_tables({"level": (features, target)}, kinds={"level": "multiclass"})
    assert isinstance(problem.task("level").kind, Multiclass)
    assert problem.table_shapes()["level"].width == problem.train.parts["level"].inputs.shape[1]


def test_codes_of_categories_can_be_named():
    codes = pd.DataFrame({"code": [3, 7, 9, 12] * 20, "size": np.arange(80.0)})
    targets = np.tile([0, 1, 1, 0], 20)
    tables = {"a": (codes, targets), "b": (codes[["size"]], targets)}
    shapes = from_tables(tables, categorical=("code",)).table_shapes()
    assert shapes["a"].cardinalities == (4,)
    assert shapes["b"].cardinalities == ()


def test_rows_without_a_label_are_left_out():
    inputs, target = np.random.default_rng(0).normal(size=(60, 2)), np.arange(60.0)
    target[::4] = np.nan
    problem = from_tables({"a": (inputs, target)})
    assert sum(len(getattr(problem, part)) for part in ("train", "validation", "test")) == 45
    TableBatchSplit(problem.train)


def test_a_class_of_one_row_is_trained_on():
    labels = np.array(["x", "y"] * 15 + ["rare"], dtype=object)
    problem = from_tables({"a": (np.random.default_rng(0).normal(size=(31, 2)), labels)})
    rare = problem.task("a").kind.labels.index("rare")
    assert (problem.train.parts["a"].targets["a"] == rare).sum() == 1


NUMBERS = np.random.default_rng(0).normal(size=(30, 2))
LABELS = np.arange(30) % 2


@pytest.mark.parametrize(
    ("tables", "options", "words"),
    [
        ({}, {}, "At least one table"),
        ({"a": (NUMBERS[:, :0], LABELS)}, {}, "Table 'a' has no feature"),
        ({"a": (pd.DataFrame({"y": LABELS}), "y")}, {}, "Table 'a' has no feature"),
        ({"a": (pd.DataFrame({"k": "x", "y": LABELS}), "y")}, {}, "No column of the table can"),
        ({"a": (NUMBERS[:, 0], LABELS)}, {}, r"'a' must be \[rows, columns\], found shape \[30\]"),
        ({"a": (NUMBERS, LABELS[:9])}, {}, r"'a' must have one value per row \(30\), found.*\[9\]"),
        ({"a": (NUMBERS, np.zeros((30, 2)))}, {}, r"found shape \[30, 2\]"),
        ({"a": (NUMBERS, LABELS)}, {"kinds": {"b": "binary"}}, "`kinds` names 'b'"),
        ({"a": (NUMBERS, LABELS)}, {"kinds": {"a": "ordinal"}}, "ordinal"),
        ({"a": (NUMBERS, LABELS)}, {"categorical": ("code",)}, "'code' is in none of the tables"),
        ({"a": (NUMBERS, np.zeros(30))}, {}, "nothing to learn"),
        ({"a": (NUMBERS[:5], LABELS[:5])}, {}, "5 rows; at least 10"),
        ({"a": (NUMBERS * np.inf, LABELS)}, {}, "'x0' must hold finite numbers, found inf"),
        ({"a": (pd.DataFrame(NUMBERS, columns=["p", "q"]), "y")}, {}, "'y'"),
    ],
    ids=lambda value: None if not isinstance(value, str) else value[:20].replace(" ", "-"),
)
def test_tables_that_cannot_be_used(tables, options, words):
    with pytest.raises(ValueError, match=words):
        from_tables(tables, **options)


def test_a_class_that_no_training_row_has_is_named():
    from polytask.problems.splitting import SplitPlan

    frame = pd.DataFrame(NUMBERS, columns=["p", "q"])
    frame["part"] = ["train"] * 20 + ["validation"] * 5 + ["test"] * 5
    frame["y"] = ["no", "yes"] * 14 + ["no", "late"]
    with pytest.raises(ValueError, match=r"'late'.*test rows.*no training"):
        from_tables({"a": (frame, "y")}, split=SplitPlan(column="part"))


# --- other tasks in the place of a problem's -----------------------------------------------------


def absolute(output, target):
    return (output.squeeze(-1) - target).abs()


def test_tasks_can_be_given_a_loss():
    problem = from_tables(frames())
    changed = problem.map_tasks(
        lambda task: Task(task.name, task.kind, loss=absolute) if task.name == "price" else task
    )
    assert [task.loss for task in changed.tasks] == [absolute, None, None]
    assert changed.train.tasks == changed.tasks
    assert problem.task("price").loss is None
    for part in ("train", "validation", "test"):
        for name, piece in getattr(changed, part).parts.items():
            own = getattr(problem, part).parts[name]
            assert equal(piece.inputs, own.inputs)
            assert torch.equal(piece.targets[name], own.targets[name])


@pytest.mark.parametrize(
    "function",
    [lambda task: Task("x" + task.name, task.kind), lambda task: Task(task.name, Regression())],
    ids=["name", "kind"],
)
def test_tasks_keep_their_names_and_kinds(function):
    with pytest.raises(ValueError, match="must keep its name and kind"):
        from_tables(frames()).map_tasks(function)


def test_tasks_of_shared_inputs_can_be_given_a_loss():
    problem = Problem.from_arrays(NUMBERS, {"a": NUMBERS[:, 0]}, {"a": Regression()})
    changed = problem.map_tasks(lambda task: Task(task.name, task.kind, loss=absolute))
    assert changed.task("a").loss is absolute
    assert changed.layout == "shared"


# --- UCI-121 -------------------------------------------------------------------------------------


def write_set(folder: Path, name: str, **changes) -> None:
    """Twelve rows of two classes; rows 0-3 are for the test and 4-5 for validation in split 0."""
    parts = np.zeros((2, 12, 2), dtype=np.uint8)
    parts[0, :4, 0] = parts[1, 4:6, 0] = 1
    parts[0, 8:, 1] = parts[1, 6:8, 1] = 1
    arrays = {
        "X": np.arange(24.0, dtype=np.float32).reshape(12, 2),
        "y": (np.arange(12) % 2).astype(np.uint8),
        "test": parts[0],
        "val": parts[1],
        **changes,
    }
    np.savez(folder / f"{name}.npz", **{k: v for k, v in arrays.items() if v is not None})


def test_sets_of_a_folder_with_their_splits(tmp_path):
    write_set(tmp_path, "b")
    write_set(tmp_path, "a", X=np.ones((12, 3)), y=np.arange(12) % 3)
    problem = uci121(tmp_path)
    assert [task.name for task in problem.tasks] == ["a", "b"]
    assert [task.kind.num_classes for task in problem.tasks] == [3, 2]
    assert problem.train.parts["b"].inputs[:, 0].tolist() == [12, 14, 16, 18, 20, 22]
    assert problem.validation.parts["b"].inputs[:, 0].tolist() == [8, 10]
    assert problem.test.parts["b"].inputs[:, 0].tolist() == [0, 2, 4, 6]
    assert problem.test.parts["b"].targets["b"].tolist() == [0, 1, 0, 1]
    second = uci121(tmp_path, sets=["b"], split=1)
    assert second.test.parts["b"].inputs[:, 0].tolist() == [16, 18, 20, 22]
    joined = uci121(tmp_path, sets=["b"], join_validation=True)
    assert len(joined.train.parts["b"]) == 8
    assert len(joined.validation.parts["b"]) == 2
    assert not problem.notes


def test_a_class_that_no_training_row_has_is_kept_and_noted(tmp_path):
    labels = np.arange(12) % 2
    labels[[1, 5]] = 2
    write_set(tmp_path, "a", y=labels)
    problem = uci121(tmp_path)
    assert problem.test.parts["a"].targets["a"].tolist() == [0, 2, 0, 1]
    assert problem.notes == ("a: 2 row(s) of classes that no training row has",)
    assert problem.to("cpu").select_tasks(["a"]).task("a").kind.num_classes == 3


@pytest.mark.parametrize(
    ("changes", "options", "words"),
    [
        ({}, {"sets": ["b"]}, "no file b.npz"),
        ({}, {"split": 2}, "Set 'a' has splits 0 .. 1, found 2"),
        ({}, {"split": -1}, "found -1"),
        ({"val": None}, {}, "lacks the array 'val'"),
        ({"X": np.zeros((12, 0))}, {}, r"must have features.*found shape \[12, 0\]"),
        ({"X": np.zeros(12)}, {}, r"found shape \[12\]"),
        (
            {"X": np.full((12, 2), np.nan)},
            {},
            "must be finite, found nan in the train rows of task 'a'",
        ),
        ({"X": np.zeros((9, 2))}, {}, "one row each per example, found 9, 12, 12 and 12"),
        ({"y": np.zeros(12)}, {}, r"classes 0, 1, ..., found \[0\]"),
        ({"y": np.arange(12) % 2 - 1}, {}, r"found \[-1, 0\]"),
        (
            {"test": np.ones((12, 2))},
            {},
            "no train rows of task 'a'|no validation rows of task 'a'",
        ),
    ],
)
def test_files_that_are_no_sets(tmp_path, changes, options, words):
    write_set(tmp_path, "a", **changes)
    with pytest.raises(ValueError, match=words):
        uci121(tmp_path, **options)


def test_an_empty_folder_is_said(tmp_path):
    with pytest.raises(ValueError, match=r"no files NAME\.npz"):
        uci121(tmp_path)


def test_the_shared_sets_have_their_listed_sizes(shared):
    folder = shared / "data" / "uci121"
    if not folder.is_dir():
        pytest.skip("needs the shared data set uci121")
    problem = uci121(folder)
    with (folder / "sets.csv").open() as file:
        listed = {row["name"]: row for row in csv.DictReader(file)}
    assert len(problem.tasks) == len(listed) == 100
    for task in problem.tasks:
        row = listed[task.name]
        parts = [s.parts[task.name] for s in (problem.train, problem.validation, problem.test)]
        assert [len(part) for part in parts] == [int(row[k]) for k in ("train0", "val0", "test0")]
        assert parts[0].inputs.shape[1] == int(row["features"])
        assert task.kind.num_classes == int(row["classes"])
    split = TableBatchSplit(problem.train)
    batch = BatchLoader(split, batch_size=4, seed=0).draw()
    assert len(batch.targets.blocks) == 1
    assert batch.inputs.size == 4


# --- training ------------------------------------------------------------------------------------


def test_training_that_was_resumed_equals_training_that_was_not(tmp_path):
    problem = from_tables(frames())
    columns = problem.table_shapes()

    def trainer(folder, epochs):
        torch.manual_seed(3)
        model = SoftLayerOrdering(tasks=problem.tasks, columns=columns, hidden=8, dropout=0.2)
        settings = TrainingSettings(epochs=epochs, batch_size=7, patience=None, device="cpu")
        return Trainer(
            problem, model, settings=settings, checkpoints=Checkpoints(tmp_path / folder)
        )

    whole, stopped = trainer("whole", 6), trainer("stopped", 3)
    expected = whole.fit()
    stopped.fit()
    resumed = trainer("stopped", 6)
    found = resumed.fit(resume=True)
    assert found.steps == expected.steps
    assert [e.train_losses for e in found.history] == [e.train_losses for e in expected.history]
    for one, other in zip(
        whole.architecture.parameters(), resumed.architecture.parameters(), strict=True
    ):
        assert torch.equal(one, other)
    assert min(e.validation_losses["sign"] for e in found.history if e.validation_losses) < 0.7
