"""Gating by one-hot descriptors is one expert head per task; other descriptors mix the experts."""

from __future__ import annotations

import copy

import pytest
import torch
from tests.architectures.one_kind import check_tasks_of, same_tasks
from torch.nn import functional

from polytask.architectures import HardSharing
from polytask.architectures.descriptors.gated import Gated
from polytask.architectures.descriptors.task_descriptors import TaskDescriptors
from polytask.architectures.descriptors.two_sided import TwoSided
from polytask.checks import architectures as checks
from polytask.encoders import MLP, TabularEncoder
from polytask.tasks import Binary, Multiclass


def pair(hidden=()) -> tuple[Gated, HardSharing]:
    """A gated model with one-hot descriptors and hard sharing with the same values."""
    tasks = same_tasks(3, Multiclass(4))
    encoder = MLP(input_size=5, widths=(8,))
    gated = Gated(
        descriptors=TaskDescriptors(names=[t.name for t in tasks]),
        tasks=tasks, encoder=encoder, hidden=hidden,
    )  # fmt: skip
    heads = HardSharing(
        encoder=copy.deepcopy(encoder), tasks=tasks, head="mlp" if hidden else "linear",
        hidden=hidden or None,
    )  # fmt: skip
    (block,) = heads.task_heads.blocks
    own = [*zip(block.hidden_weights, block.hidden_biases, strict=True)]
    own.append((block.output_weight[0], block.output_bias[0]))
    with torch.no_grad():
        for weight, bias, (other, shift) in zip(gated.weights, gated.biases, own, strict=True):
            other.copy_(weight)
            shift.copy_(bias)
    return gated.double(), heads.double()


@pytest.mark.parametrize("layout", ["shared", "separate"])
@pytest.mark.parametrize("hidden", [(), (7, 6)], ids=["linear", "hidden layers"])
@pytest.mark.parametrize(
    "optimizer",
    [
        lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.01),
        lambda p: torch.optim.AdamW(p, lr=0.01),
    ],
    ids=["SGD", "AdamW"],
)
def test_one_hot_gates_are_expert_heads_in_function_and_in_every_step(hidden, optimizer, layout):
    models = pair(hidden)
    rows = torch.randn(9, 5).double()
    target = torch.randint(0, 4, (9, 3))
    inputs = rows if layout == "shared" else {f"t{i}": rows[2 * i :] for i in range(3)}
    steps = [optimizer(model.parameters()) for model in models]
    for _ in range(6):
        losses = []
        for model, step in zip(models, steps, strict=True):
            outputs = model(inputs)
            loss = sum(
                functional.cross_entropy(outputs[f"t{i}"], target[-len(outputs[f"t{i}"]) :, i])
                for i in range(3)
            )
            step.zero_grad()
            loss.backward()
            step.step()
            losses.append(loss.item())
        assert losses[0] == pytest.approx(losses[1], rel=1e-12)
    for name, value in models[0](rows).items():
        torch.testing.assert_close(value, models[1](rows)[name], atol=1e-9, rtol=1e-9)


def test_any_descriptor_is_the_outer_product_with_the_features():
    tasks = same_tasks(3, Multiclass(2))
    given = TaskDescriptors(names=[t.name for t in tasks], values=torch.randn(3, 4))
    model = Gated(descriptors=given, tasks=tasks, encoder=MLP(input_size=5, widths=(8,)))
    rows = torch.randn(6, 5)
    features = model.encoder(rows)
    for task, vector in zip(tasks, given(), strict=True):
        outer = (features[:, :, None] * vector).flatten(1)
        weight = model.weights[0].permute(1, 2, 0).flatten(1)
        expected = outer @ weight.T + vector @ model.biases[0]
        torch.testing.assert_close(model(rows)[task.name], expected)
        torch.testing.assert_close(model({task.name: rows})[task.name], expected)


def test_a_linear_two_sided_network_is_gating_of_low_rank():
    tasks = same_tasks(3, Multiclass(2))
    given = TaskDescriptors(names=[t.name for t in tasks], values=torch.randn(3, 4))
    two_sided = TwoSided(descriptors=given, tasks=tasks, inner_size=3, input_size=5)

    class Inputs(torch.nn.Module):
        output_size = 5

        def forward(self, rows):
            return rows

    gated = Gated(descriptors=given, tasks=tasks, encoder=Inputs())
    with torch.no_grad():
        table = two_sided.Q.weight.T.unflatten(1, (2, 3)) @ two_sided.P.weight
        gated.weights[0].copy_(table)
        gated.biases[0].zero_()
    assert torch.linalg.matrix_rank(table.flatten(0, 1)) == 3
    rows = torch.randn(6, 5)
    for name, value in two_sided(rows).items():
        torch.testing.assert_close(gated(rows)[name], value)


def test_initial_outputs_do_not_depend_on_the_length_of_descriptors():
    tasks = same_tasks(200)
    names = [task.name for task in tasks]
    spreads = []
    for values in (None, torch.randn(200, 60), 100 * torch.randn(200, 60)):
        model = Gated(
            descriptors=TaskDescriptors(names=names, values=values),
            tasks=tasks, encoder=MLP(input_size=5, widths=(64,)),
        )  # fmt: skip
        spreads.append(torch.cat(list(model(torch.ones(1, 5)).values())).std().item())
    assert max(spreads) < 1.5 * min(spreads)


def members(tasks):
    encoder = TabularEncoder(num_numeric=3, members=3, width=8, depth=1, dropout=0.1)
    names = [task.name for task in tasks]
    given = TaskDescriptors(names=names, size=2)
    return Gated(descriptors=given, tasks=tasks, encoder=encoder, hidden=(4,)), torch.randn(6, 3)


def separate_members(tasks):
    model, _ = members(tasks)
    return model, {task.name: torch.randn(3 + i, 3) for i, task in enumerate(tasks)}


def given_separate(tasks):
    names = [task.name for task in tasks]
    given = TaskDescriptors(names=names, values=torch.randn(len(names), 2))
    model = Gated(descriptors=given, tasks=tasks, encoder=MLP(input_size=5, widths=(8,)))
    return model, {task.name: torch.randn(3 + i, 5) for i, task in enumerate(tasks)}


@pytest.mark.parametrize("check", checks.CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize(
    "example",
    [
        pytest.param(example, id=name)
        for name, example in {
            "one-hot": Gated.example,
            "members": members,
            "separate members": separate_members,
            "given, separate": given_separate,
        }.items()
    ],
)
@pytest.mark.parametrize("kind", [Binary(), Multiclass(3)], ids=["binary", "classes"])
def test_conformance(example, check, kind, monkeypatch):
    check_tasks_of(kind, monkeypatch)
    check(example)


def test_members_are_averaged_for_new_tasks_too():
    tasks = same_tasks(3, Binary())
    model, rows = members(tasks)
    model.eval()
    found = model.predict_for(rows, model.descriptors(["t1"])[0])
    torch.testing.assert_close(found, model(rows)["t1"])
    assert found.shape == (6, 1)


def test_bad_arguments_are_named():
    given = {"descriptors": TaskDescriptors(names=("t0",)), "tasks": same_tasks(1)}
    with pytest.raises(ValueError, match="needs an attribute `output_size`"):
        Gated(**given, encoder=torch.nn.Linear(4, 4))
    with pytest.raises(ValueError, match="`hidden` must be at least 1, found 0"):
        Gated(**given, encoder=MLP(input_size=4), hidden=(0,))
