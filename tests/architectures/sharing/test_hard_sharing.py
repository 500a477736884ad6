"""Hard sharing and its heads: one block instead of a loop, members averaged as an ensemble."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from polytask.architectures import HardSharing, Heads, average_members
from polytask.encoders import MLP, TabularEncoder
from polytask.tasks import Binary, Multiclass, Regression, Segmentation, Task


class CountOperations(TorchDispatchMode):
    """Counts the tensor operations that run inside."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.count += 1
        return function(*args, **(kwargs or {}))


def binary_tasks(count: int) -> list[Task]:
    return [Task(f"t{i}", Binary()) for i in range(count)]


def forward_operations(tasks: int, **head) -> int:
    model = HardSharing(encoder=MLP(input_size=4, widths=(8,)), tasks=binary_tasks(tasks), **head)
    inputs = torch.randn(3, 4)
    with CountOperations() as counter:
        model(inputs)
    return counter.count


@pytest.mark.parametrize("head", [{}, {"head": "mlp", "hidden": (6, 5)}])
def test_operations_do_not_grow_with_the_number_of_tasks(head):
    assert forward_operations(100, **head) == forward_operations(2, **head)


def test_linear_block_equals_separate_linear_layers():
    tasks = [*binary_tasks(3), Task("grade", Multiclass(num_classes=4))]
    heads = Heads(input_size=5, tasks=tasks)
    features = torch.randn(7, 5)
    outputs = heads(features)
    for task in tasks:
        layer = nn.Linear(5, task.kind.output_size)
        (weight, rows), (bias, bias_rows) = heads.task_rows(task.name)
        with torch.no_grad():
            layer.weight.copy_(weight[rows].squeeze(0))
            layer.bias.copy_(bias[bias_rows].squeeze(0))
        torch.testing.assert_close(outputs[task.name], layer(features))


def test_mlp_block_equals_separate_networks():
    tasks = [Task(name, Multiclass(num_classes=3)) for name in "abc"]
    heads = Heads(input_size=5, tasks=tasks, hidden=(6, 4))
    features = torch.randn(7, 5)
    outputs = heads(features)
    for task in tasks:
        parts = {tuple(p.shape): p[index] for p, index in heads.task_rows(task.name)}
        first = (features @ parts[3, 6, 5].T + parts[3, 6]).clamp_min(0)
        second = (first @ parts[3, 4, 6].T + parts[3, 4]).clamp_min(0)
        by_hand = second @ parts[1, 3, 3, 4].squeeze(0).T + parts[1, 3, 3].squeeze(0)
        torch.testing.assert_close(outputs[task.name], by_hand)


def test_initial_values_have_the_spread_of_linear_layers():
    heads = Heads(input_size=100, tasks=binary_tasks(50), hidden=(25,))
    weights = {tuple(p.shape): p for p in heads.parameters()}
    assert weights[50, 25, 100].abs().max().item() == pytest.approx(0.1, rel=0.01)
    assert weights[1, 50, 1, 25].abs().max().item() == pytest.approx(0.2, rel=0.05)


def test_task_parameters_are_the_blocks_that_hold_the_task():
    model = HardSharing(
        encoder=MLP(input_size=4, widths=(8,)), tasks=[*binary_tasks(3), Task("r", Regression())]
    )
    (weight, index), _ = model.task_rows("t2")
    assert weight.shape == (1, 3, 1, 8)
    assert weight[index].shape == (1, 1, 8)
    assert {id(p) for p in model.task_parameters("t2")} == {
        id(p) for p in model.task_parameters("t0")
    }
    assert not {id(p) for p in model.task_parameters("t2")} & {
        id(p) for p in model.task_parameters("r")
    }


def test_last_shared_layer_is_the_last_of_the_encoder():
    encoder = MLP(input_size=4, widths=(8, 6))
    model = HardSharing(encoder=encoder, tasks=binary_tasks(1))
    assert [tuple(p.shape) for p in model.last_shared_parameters()] == [(6, 8), (6,)]


def test_separate_inputs_give_each_task_its_own_rows():
    tasks = [*binary_tasks(2), Task("r", Regression())]
    model = HardSharing(encoder=MLP(input_size=4, widths=(8,)), tasks=tasks).eval()
    inputs = {"r": torch.randn(2, 4), "t0": torch.randn(5, 4), "t1": torch.randn(3, 4)}
    outputs = model(inputs)
    assert list(outputs) == ["r", "t0", "t1"]
    for name, rows in inputs.items():
        torch.testing.assert_close(outputs[name], model(rows)[name])


def test_members_predict_the_average_of_their_probabilities():
    member_logits = torch.tensor([[[4.0]], [[-1.0]], [[0.5]]])
    task = Task("a", Binary())
    average = torch.sigmoid(member_logits).mean(0)
    torch.testing.assert_close(torch.sigmoid(average_members(task, member_logits)), average)

    member_logits = torch.randn(5, 7, 4) * 3
    task = Task("b", Multiclass(num_classes=4))
    average = member_logits.softmax(-1).mean(0)
    torch.testing.assert_close(average_members(task, member_logits).softmax(-1), average)


def test_average_of_extreme_members_is_finite():
    logits = torch.tensor([[[200.0]], [[150.0]]])
    for sign in (1, -1):
        average = average_members(Task("a", Binary()), sign * logits)
        assert torch.isfinite(average).all()
        assert average.sign().item() == sign


def test_numbers_and_own_losses_are_averaged_as_they_are():
    outputs = torch.randn(5, 7, 1)
    own = Task("a", Binary(), loss=lambda output, target: (output.squeeze(-1) - target).abs())
    for task in (Task("r", Regression()), own):
        torch.testing.assert_close(average_members(task, outputs), outputs.mean(0))


def test_members_stay_apart_in_training_and_are_averaged_in_evaluation():
    encoder = TabularEncoder(num_numeric=4, members=3, width=8, dropout=0.0)
    model = HardSharing(encoder=encoder, tasks=[Task("r", Regression()), *binary_tasks(2)])
    inputs = torch.randn(5, 4)
    trained, evaluated = model.train()(inputs), model.eval()(inputs)
    assert trained.members == 3
    assert trained["t1"].shape == (3, 5, 1)
    assert evaluated.members == 1
    torch.testing.assert_close(evaluated["r"], trained["r"].mean(0))
    torch.testing.assert_close(evaluated["t1"].sigmoid(), trained["t1"].sigmoid().mean(0))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"head": "conv"}, "`head` must be 'linear' or 'mlp', found 'conv'"),
        ({"head": "linear", "hidden": (4,)}, r"has no hidden layers, found hidden=\(4,\)"),
        ({"head": "mlp", "hidden": (0,)}, "`hidden` must be at least 1, found 0"),
        ({"tasks": []}, "needs at least one task"),
        ({"tasks": [*binary_tasks(1), *binary_tasks(1)]}, "unique, found 't0' twice"),
        ({"tasks": [Task("map", Segmentation(num_classes=3))]}, "Task 'map' is a Segmentation"),
        ({"encoder": nn.Linear(4, 4)}, "needs an attribute `output_size`"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    given = {"encoder": MLP(input_size=4, widths=(8,)), "tasks": binary_tasks(2), **arguments}
    with pytest.raises(ValueError, match=message):
        HardSharing(**given)
