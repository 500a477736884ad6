"""Batches: every row once per epoch, small tasks start over, loaders continue where they were."""

from __future__ import annotations

import pytest
import torch

from polytask.datasets import related_regression, separate_shapes
from polytask.problems import BatchLoader, RowStream, Split
from polytask.tasks import Regression, Task


def test_an_epoch_visits_every_row_once_in_a_fresh_order():
    stream = RowStream(10, 4, seed=0)
    epochs = []
    for _ in range(2):
        batches = [stream.draw() for _ in range(stream.batches_per_epoch)]
        assert [len(b) for b in batches] == [4, 4, 2]
        epochs.append(torch.cat(batches).tolist())
    assert sorted(epochs[0]) == sorted(epochs[1]) == list(range(10))
    assert epochs[0] != epochs[1]


def test_a_last_batch_of_one_row_is_left_out_and_changes_with_the_epoch():
    stream = RowStream(9, 4, seed=0)
    assert stream.batches_per_epoch == 2
    left_out = set()
    for _ in range(30):
        seen = torch.cat([stream.draw(), stream.draw()]).tolist()
        assert len(set(seen)) == 8
        left_out |= set(range(9)) - set(seen)
    assert len(left_out) > 4


@pytest.mark.parametrize(("count", "size"), [(1, 8), (3, 8), (8, 8)])
def test_few_rows_are_one_batch(count, size):
    stream = RowStream(count, size, seed=0)
    assert stream.batches_per_epoch == 1
    assert sorted(stream.draw().tolist()) == list(range(count))


@pytest.mark.parametrize("make", [related_regression, separate_shapes])
@pytest.mark.parametrize("steps", [0, 1, 7, 40])
def test_a_loader_continues_where_it_stopped(make, steps):
    problem = make()
    loader = BatchLoader(problem.train, batch_size=32, seed=3)
    for _ in range(steps):
        loader.draw()
    state = loader.state_dict()
    expected = [loader.draw().indices for _ in range(12)]
    other = BatchLoader(problem.train, batch_size=32, seed=3)
    other.load_state_dict(state)
    for indices in expected:
        found = other.draw().indices
        if isinstance(indices, dict):
            assert all(torch.equal(found[name], rows) for name, rows in indices.items())
        else:
            assert torch.equal(found, indices)


def test_seeds_give_different_orders():
    problem = related_regression()
    first, second = (BatchLoader(problem.train, batch_size=32, seed=s).draw() for s in (0, 1))
    assert not torch.equal(first.indices, second.indices)


def test_small_tasks_start_over_while_large_ones_go_on():
    problem = separate_shapes()
    loader = BatchLoader(problem.train, batch_size=100, seed=0)
    assert loader.steps_per_epoch == 6
    seen = {task.name: [] for task in problem.tasks}
    for _ in range(loader.steps_per_epoch):
        for name, rows in loader.draw().indices.items():
            seen[name] += rows.tolist()
    assert sorted(seen["large"]) == list(range(600))
    assert len(seen["small"]) == 6 * 72


def test_steps_may_ask_for_some_tasks():
    shared = BatchLoader(related_regression().train, batch_size=16, seed=0)
    assert shared.draw(["task 3", "task 1"]).tasks == ("task 1", "task 3")
    separate = BatchLoader(separate_shapes().train, batch_size=16, seed=0)
    assert set(separate.draw(["wide"]).inputs) == {"wide"}


def test_a_batch_holds_at_least_one_row():
    with pytest.raises(ValueError, match="`batch_size` must be >= 1, found 0"):
        BatchLoader(related_regression().train, batch_size=0, seed=0)


@pytest.mark.parametrize("rows", [398, 399, 400, 401])
def test_batches_of_sparse_labels_are_never_empty(rows):
    """With a label in every 16th row, half of the batches of eight rows had none."""
    labels = torch.full((rows,), torch.nan)
    labels[::16] = torch.arange(len(labels[::16]), dtype=torch.float32)
    split = Split(torch.zeros(rows, 1), {"y": labels}, [Task("y", Regression())])
    loader = BatchLoader(split, batch_size=8, seed=0)
    drawn = [loader.draw() for _ in range(loader.steps_per_epoch)]
    assert all(batch.tasks == ("y",) for batch in drawn)
    seen = torch.cat([batch.indices for batch in drawn])
    assert len(set(seen.tolist())) == len(seen)
    assert set(seen.tolist()) <= set(range(0, rows, 16))
