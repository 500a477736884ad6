"""The squared hinge of the Traveling Observer Model."""

from __future__ import annotations

import torch

from polytask.problems.splits import Split
from polytask.tasks import Binary, Multiclass, Task, TaskTensors
from polytask.tasks.losses import squared_hinge
from polytask.training import TaskLosses


def test_values_by_hand():
    output = torch.tensor([[2.0, -0.5, -1.0], [0.5, 0.0, -3.0]])
    # Row 1, class 0: 0 + 0.5^2 + 0. Row 2, class 2: 1.5^2 + 1 + 4^2.
    assert squared_hinge(output, torch.tensor([0, 2])).tolist() == [0.25, 19.25]


def test_a_yes_no_target_has_one_output():
    output = torch.tensor([[0.5], [0.5], [-3.0]])
    assert squared_hinge(output, torch.tensor([1, 0, 0])).tolist() == [0.25, 2.25, 0.0]


def test_two_classes_of_opposite_outputs_are_twice_a_yes_no_target():
    output, target = torch.randn(20, 1), torch.randint(0, 2, (20,))
    both = squared_hinge(torch.cat([-output, output], dim=1), target)
    torch.testing.assert_close(both, 2 * squared_hinge(output, target))


def test_padded_classes_have_neither_loss_nor_gradient():
    output = torch.randn(4, 3, 2, dtype=torch.float64, requires_grad=True)
    target = torch.randint(0, 2, (4, 3))
    padding = torch.full((4, 3, 2), -torch.inf, dtype=torch.float64, requires_grad=True)
    padded = squared_hinge(torch.cat([output, padding], dim=-1), target)
    plain = squared_hinge(output, target)
    torch.testing.assert_close(padded, plain)
    found = torch.autograd.grad(padded.sum(), [output, padding])
    torch.testing.assert_close(found[0], torch.autograd.grad(plain.sum(), output)[0])
    assert not found[1].any()


def test_gradient_is_that_of_the_formula():
    output = torch.randn(5, 4, dtype=torch.float64, requires_grad=True)
    target = torch.tensor([0, 3, 1, 1, 2])
    signs = 2 * torch.nn.functional.one_hot(target, 4).double() - 1
    (found,) = torch.autograd.grad(squared_hinge(output, target).sum(), output)
    torch.testing.assert_close(found, -2 * signs * (1 - signs * output).clamp_min(0))


def test_it_is_the_loss_of_a_task():
    tasks = (Task("a", Multiclass(3), loss=squared_hinge), Task("b", Binary(), loss=squared_hinge))
    targets = {"a": torch.tensor([2, 0]), "b": torch.tensor([1, 0])}
    outputs = {"a": torch.zeros(2, 3), "b": torch.tensor([[2.0], [0.0]])}
    batch = Split(torch.zeros(2, 1), targets, tasks).batch(torch.arange(2))
    losses = TaskLosses(tasks)(TaskTensors.from_mapping(outputs), batch)
    assert losses.tolist() == [3.0, 0.5]
    assert tasks[0].predict(torch.tensor([[0.1, 0.5, -2.0]])).tolist() == [1]
