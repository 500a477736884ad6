"""The objective: mean over a task's labelled samples, then over tasks."""

from __future__ import annotations

import pytest
import torch

from polytask.problems import Split
from polytask.tasks import Binary, Multiclass, Regression, Task, TaskTensors
from polytask.training import TaskLosses

TASKS = (Task("a", Regression()), Task("b", Regression()), Task("c", Binary()))


def split(targets: dict[str, torch.Tensor]) -> Split:
    rows = len(next(iter(targets.values())))
    return Split(torch.zeros(rows, 1), targets, TASKS)


def test_mean_over_labelled_samples_by_hand() -> None:
    nan = float("nan")
    data = split(
        {
            "a": torch.tensor([1.0, nan, 3.0]),
            "b": torch.tensor([0.0, 0.0, 2.0]),
            "c": torch.tensor([1, -1, -1]),
        }
    )
    outputs = {"a": torch.zeros(3, 1), "b": torch.ones(3, 1), "c": torch.zeros(3, 1)}
    losses = TaskLosses(TASKS)(outputs, data.batch(torch.arange(3)))
    expected = torch.tensor([(1 + 9) / 2, (1 + 1 + 1) / 3, torch.log(torch.tensor(2.0))])
    torch.testing.assert_close(losses, expected)


def test_task_weight_does_not_depend_on_its_number_of_labels() -> None:
    values = torch.tensor([2.0, 2.0, 2.0, 2.0])
    some = values.clone()
    some[1:] = float("nan")
    labels = torch.tensor([1, 0, 1, 0])
    outputs = {"a": torch.zeros(4, 1), "b": torch.zeros(4, 1), "c": torch.zeros(4, 1)}
    data = split({"a": values, "b": some, "c": labels})
    losses = TaskLosses(TASKS)(outputs, data.batch(torch.arange(4)))
    assert losses[0] == losses[1] == 4.0


def test_a_task_without_labels_takes_part_in_nothing() -> None:
    nan = float("nan")
    data = split(
        {"a": torch.tensor([nan, nan]), "b": torch.tensor([1.0, nan]), "c": torch.tensor([0, 1])}
    )
    batch = data.batch(torch.arange(2))
    assert batch.tasks == ("b", "c")
    outputs = {name: torch.zeros(2, 1, requires_grad=True) for name in "abc"}
    losses = TaskLosses(TASKS)(outputs, batch)
    assert losses.shape == (2,)
    losses.sum().backward()
    assert outputs["a"].grad is None or not outputs["a"].grad.any()
    assert torch.isfinite(outputs["b"].grad).all()


def test_nan_target_gives_no_nan_gradient() -> None:
    data = split(
        {"a": torch.tensor([float("nan"), 1.0]), "b": torch.ones(2), "c": torch.ones(2).long()}
    )
    output = torch.zeros(2, 1, requires_grad=True)
    outputs = {"a": output, "b": torch.zeros(2, 1), "c": torch.zeros(2, 1)}
    TaskLosses(TASKS)(outputs, data.batch(torch.arange(2))).sum().backward()
    assert output.grad is not None
    torch.testing.assert_close(output.grad, torch.tensor([[0.0], [-2.0]]))


def test_class_weights_scale_the_loss_of_their_class() -> None:
    tasks = (
        Task("c", Binary(), class_weights=(1.0, 5.0)),
        Task("m", Multiclass(num_classes=3), class_weights=(1.0, 2.0, 3.0)),
    )
    data = Split(torch.zeros(2, 1), {"c": torch.tensor([0, 1]), "m": torch.tensor([0, 2])}, tasks)
    losses = TaskLosses(tasks)(
        {"c": torch.zeros(2, 1), "m": torch.zeros(2, 3)}, data.batch(torch.arange(2))
    )
    log2, log3 = torch.log(torch.tensor([2.0, 3.0]))
    torch.testing.assert_close(losses, torch.stack([log2 * (1 + 5) / 2, log3 * (1 + 3) / 2]))


def test_members_are_averaged_as_losses_not_as_outputs() -> None:
    data = split({"a": torch.zeros(2), "b": torch.zeros(2), "c": torch.zeros(2).long()})
    members = torch.tensor([1.0, -1.0]).reshape(2, 1, 1, 1).expand(2, 2, 2, 1)
    outputs = TaskTensors([(("a", "b"), members), (("c",), torch.zeros(2, 2, 1, 1))], members=2)
    losses = TaskLosses(TASKS)(outputs, data.batch(torch.arange(2)))
    torch.testing.assert_close(losses[:2], torch.ones(2))


def test_blocks_equal_single_tasks() -> None:
    generator = torch.Generator().manual_seed(0)
    tasks = tuple(Task(f"t{i}", Binary()) for i in range(7))
    targets = {t.name: torch.randint(-1, 2, (20,), generator=generator) for t in tasks}
    logits = torch.randn(20, 7, 1, generator=generator)
    data = Split(torch.zeros(20, 1), targets, tasks)
    batch = data.batch(torch.arange(20))
    as_block = TaskLosses(tasks)(TaskTensors([(tuple(t.name for t in tasks), logits)]), batch)
    one_by_one = TaskLosses(tasks)({t.name: logits[:, i] for i, t in enumerate(tasks)}, batch)
    torch.testing.assert_close(as_block, one_by_one)


@pytest.mark.parametrize(
    ("outputs", "words"),
    [
        ({"a": torch.zeros(2, 1), "b": torch.zeros(2, 1)}, "no output for task 'c'"),
        (
            {"a": torch.zeros(2, 3), "b": torch.zeros(2, 3), "c": torch.zeros(2, 1)},
            "needs 1 number",
        ),
        ({"a": torch.zeros(5, 1), "b": torch.zeros(5, 1), "c": torch.zeros(2, 1)}, "for 2 rows"),
    ],
)
def test_wrong_outputs_are_named(outputs: dict[str, torch.Tensor], words: str) -> None:
    data = split({"a": torch.zeros(2), "b": torch.zeros(2), "c": torch.zeros(2).long()})
    with pytest.raises(ValueError, match=words):
        TaskLosses(TASKS)(outputs, data.batch(torch.arange(2)))
