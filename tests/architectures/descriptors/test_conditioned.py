"""Descriptors at any layer of a perceptron equal plain concatenation, in one pass."""

from __future__ import annotations

import pytest
import torch
from tests.architectures.one_kind import check_tasks_of, same_tasks
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from polytask.architectures.descriptors.conditioned import Conditioned
from polytask.architectures.descriptors.task_descriptors import TaskDescriptors
from polytask.checks import architectures as checks
from polytask.tasks import Binary, Multiclass, Regression, Task

PLACES = [(0,), (1,), (2,), (0, 2), (1, 2), None]


def made(at, *, count=3, size=2, kind=None, **more) -> Conditioned:
    tasks = same_tasks(count, kind)
    given = TaskDescriptors(names=[t.name for t in tasks], values=torch.randn(count, size))
    return Conditioned(
        descriptors=given,
        tasks=tasks,
        input_size=4,
        widths=(6, 5),
        at=at,
        activation="tanh",
        **more,
    )


def by_concatenation(model: Conditioned, rows: torch.Tensor, vector: torch.Tensor) -> torch.Tensor:
    """The network of one task with [h, z] joined as it is written in books."""
    hidden = rows
    for depth, layer in enumerate(model.row_layers):
        weight, inputs = layer.weight, hidden
        if model.at is None or depth in model.at:
            weight = torch.cat([weight, model.task_layers[str(depth)].weight], dim=1)
            inputs = torch.cat([hidden, vector.expand(len(hidden), -1)], dim=1)
        hidden = inputs @ weight.T + layer.bias
        if depth < len(model.row_layers) - 1:
            hidden = hidden.tanh()
    return hidden


@pytest.mark.parametrize("at", PLACES)
def test_outputs_and_gradients_are_those_of_concatenation(at):
    model = made(at, kind=Multiclass(3)).double()
    rows = torch.randn(7, 4).double()
    outputs = model(rows)
    expected = [by_concatenation(model, rows, v) for v in model.descriptors()]
    for task, value in zip(model.tasks, expected, strict=True):
        torch.testing.assert_close(outputs[task.name], value)
    parameters = list(model.parameters())
    found = torch.autograd.grad(sum(v.square().sum() for v in outputs.values()), parameters)
    wanted = torch.autograd.grad(sum(v.square().sum() for v in expected), parameters)
    for first, second in zip(found, wanted, strict=True):
        torch.testing.assert_close(first, second)


@pytest.mark.parametrize("at", PLACES)
def test_separate_rows_are_those_of_their_own_task(at):
    model = made(at)
    inputs = {"t2": torch.randn(2, 4), "t0": torch.randn(5, 4)}
    outputs = model(inputs)
    assert list(outputs) == ["t2", "t0"]
    for name, rows in inputs.items():
        torch.testing.assert_close(outputs[name], model(rows)[name])


def products(model, inputs) -> int:
    with FlopCounterMode(display=False) as counter:
        model(inputs)
    return counter.get_total_flops()


def test_layers_before_the_first_descriptor_run_once_for_all_tasks():
    rows, tasks = 11, 9
    model = made((1,), count=tasks)
    once = rows * 4 * 6
    for_tasks = tasks * 2 * 5
    # The rows' part of layer 1 is still one per row; only the head sees every row and task.
    assert products(model, torch.randn(rows, 4)) == 2 * (
        once + rows * 6 * 5 + for_tasks + rows * tasks * 5
    )


def test_separate_rows_cost_no_more_with_more_tasks():
    def cost(tasks):
        model = made((0,), count=tasks)
        inputs = {f"t{i}": torch.randn(12 // tasks, 4) for i in range(tasks)}
        return products(model, inputs) - 2 * tasks * 2 * 6

    assert cost(2) == cost(6)


def test_initial_values_are_those_of_one_layer_on_both():
    tasks = same_tasks(2)
    given = TaskDescriptors(names=("t0", "t1"), size=300)
    model = Conditioned(descriptors=given, tasks=tasks, input_size=100, widths=(50,), at=(0,))
    for layer in (model.row_layers[0], model.task_layers["0"]):
        assert layer.weight.abs().max().item() == pytest.approx(1 / 20, rel=0.01)
    assert isinstance(model.row_layers[1], nn.Linear)
    assert model.row_layers[1].weight.abs().max().item() == pytest.approx(50**-0.5, rel=0.1)


def test_one_hot_columns_are_the_tasks_own():
    tasks = same_tasks(3)
    model = Conditioned(
        descriptors=TaskDescriptors(names=("t0", "t1", "t2")), tasks=tasks, input_size=4, at=None
    )
    rows = list(model.task_rows("t1"))
    assert [tuple(p[i].shape) for p, i in rows] == [(256,), (256,), (1,)]
    model(torch.randn(5, 4))["t1"].square().sum().backward()
    for parameter, index in rows:
        gradient = parameter.grad.clone()
        assert gradient[index].abs().max() > 0
        gradient[index] = 0
        assert gradient.abs().max() == 0


def test_a_learned_offset_per_task_finds_a_known_optimum():
    # y_t = x_1 + c_t: at the output layer one-hot descriptors are an offset per task.
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(200, 2, generator=generator)
    offsets = torch.tensor([-1.0, 0.5, 2.0])
    tasks = same_tasks(3)
    names = [task.name for task in tasks]
    model = Conditioned(
        descriptors=TaskDescriptors(names=names), tasks=tasks, input_size=2, widths=(), at=(0,)
    )
    optimizer = torch.optim.LBFGS(model.parameters(), max_iter=100)
    target = rows[:, :1] + offsets

    def closure():
        optimizer.zero_grad()
        found = torch.cat([model(rows)[name] for name in names], dim=1)
        loss = (found - target).square().mean()
        loss.backward()
        return loss

    optimizer.step(closure)
    assert closure().item() < 1e-8
    between = model.predict_for(rows, torch.tensor([0.5, 0.0, 0.5]))
    torch.testing.assert_close(between, rows[:, :1] + 0.5, atol=1e-3, rtol=0)


VARIANTS = {
    "learned": Conditioned.example,
    "one-hot everywhere": lambda tasks: (
        Conditioned(
            descriptors=TaskDescriptors(names=[t.name for t in tasks]),
            tasks=tasks, input_size=5, widths=(8,), at=None, dropout=0.2,
        ),
        torch.randn(6, 5),
    ),
    "given, separate": lambda tasks: (
        Conditioned(
            descriptors=TaskDescriptors(
                names=[t.name for t in tasks], values=torch.randn(len(tasks), 2)
            ),
            tasks=tasks, input_size=5, widths=(8,), at=(0, 1),
        ),
        {t.name: torch.randn(3 + i, 5) for i, t in enumerate(tasks)},
    ),
}  # fmt: skip


@pytest.mark.parametrize("check", checks.CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("kind", [Binary(), Multiclass(3)], ids=["binary", "classes"])
def test_conformance(variant, check, kind, monkeypatch):
    check_tasks_of(kind, monkeypatch)
    check(VARIANTS[variant])


def test_the_example_gives_mixed_tasks_one_kind():
    model, _ = Conditioned.example(checks.example_tasks())
    assert {task.kind for task in model.tasks} == {Binary()}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"at": ()}, r"from 0 \(the input\) to 2 \(the output layer\), at least one, found \(\)"),
        ({"at": (3,)}, r"found \(3,\)"),
        ({"at": (-1,)}, r"found \(-1,\)"),
        ({"activation": "sine"}, "`activation` must be one of .* found 'sine'"),
        ({"dropout": 1.0}, r"`dropout` must lie in \[0, 1\), found 1.0"),
        ({"widths": (8, 0)}, "`widths` must be at least 1, found 0"),
        ({"input_size": 0}, "`input_size` must be at least 1, found 0"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    task = Task("a", Regression())
    given = {
        "descriptors": TaskDescriptors(names=("a",)), "tasks": (task,), "input_size": 4,
        "widths": (8, 8), **arguments,
    }  # fmt: skip
    with pytest.raises(ValueError, match=message):
        Conditioned(**given)


def test_rows_of_another_width_are_refused():
    with pytest.raises(ValueError, match=r"rows of 4 values, found inputs of shape \[2, 5\]"):
        made((0,))(torch.zeros(2, 5))
