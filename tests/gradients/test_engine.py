"""The engine against one plain autograd call per task."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from tests.gradients.networks import NAMES, build, reference
from torch import nn

from polytask import gradients
from polytask.gradients import TaskGradients, Workspace, task_roots
from polytask.gradients.layers import EmbeddingRule, ProductRule


def relative_error(found, wanted):
    return float((found - wanted).abs().max() / wanted.abs().max())


def rules_of(rows):
    return {type(unit.rule) for chunk in rows._chunks for unit in chunk if unit.rule}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", NAMES)
def test_jacobian_and_gramian_equal_autograd(name, dtype):
    case = build(name, dtype=dtype)
    losses, _ = case.losses()
    wanted = reference(losses, case.shared)
    tolerance = 1e-4 if dtype == torch.float32 else 1e-12
    rows = gradients.jacobian(losses, case.shared)
    gram = gradients.gramian(losses, case.shared)
    assert rows.dtype == gram.dtype == dtype
    assert relative_error(rows, wanted) < tolerance
    assert relative_error(gram, wanted @ wanted.mT) < tolerance


@pytest.mark.parametrize("name", NAMES)
def test_small_budget_gives_the_same_gramian_in_chunks(name):
    case = build(name)
    losses, _ = case.losses()
    wanted = reference(losses, case.shared)
    largest = max(parameter.numel() for parameter in case.shared)
    budget = len(losses) * largest * 8
    rows = TaskGradients(task_roots(losses), case.shared, memory=budget, rules=False)
    assert relative_error(rows.gram, wanted @ wanted.mT) < 1e-12
    assert rows.workspace.take(1, 1, dtype=torch.float64, device=losses.device) is not None
    held = rows.workspace._buffer.numel() * 8
    assert held <= budget
    assert len(rows._chunks) > 1
    assert not rows.has_rows


def test_default_budget_grows_with_parameters_not_with_tasks():
    layers = [layer for _ in range(6) for layer in (nn.Linear(31, 31), nn.Tanh())]
    trunk = nn.Sequential(*layers).double()
    features = trunk(torch.randn(40, 31).double())
    losses = (features @ torch.randn(31, 100).double()).square().mean(0)
    shared = list(trunk.parameters())
    numbers = sum(parameter.numel() for parameter in shared)
    rows = TaskGradients(task_roots(losses), shared, memory=20 * numbers * 8, rules=False)
    # Stored at once the rows would be 100 P.
    assert rows.workspace._buffer.numel() <= 20 * numbers
    wanted = reference(losses, shared)
    assert relative_error(rows.gram, wanted @ wanted.mT) < 1e-12


def test_layer_rules_are_used_where_they_save_work():
    torch.manual_seed(0)
    trunk = nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU())
    features = trunk(torch.randn(8, 64))
    losses = (features @ torch.randn(256, 30)).square().mean(0)
    rows = TaskGradients(task_roots(losses), list(trunk.parameters()))
    wanted = reference(losses, list(trunk.parameters()))
    assert rules_of(rows) == {ProductRule}
    assert relative_error(rows.gram, wanted @ wanted.mT) < 1e-5
    assert not rows.has_rows
    few = TaskGradients(task_roots(losses[:2]), list(trunk.parameters()))
    assert few.gram.shape == (2, 2)


def test_product_rule_survives_repeated_rows():
    torch.manual_seed(0)
    layer = nn.Linear(128, 128)
    inputs = torch.randn(1, 128).expand(10, 128)
    losses = (torch.relu(layer(inputs)) @ torch.randn(128, 40)).square().mean(0)
    rows = TaskGradients(task_roots(losses), list(layer.parameters()))
    wanted = reference(losses, list(layer.parameters()))
    assert rules_of(rows) == {ProductRule}
    assert relative_error(rows.gram, wanted @ wanted.mT) < 1e-5


@pytest.mark.parametrize("tasks", [9, 40])
@pytest.mark.parametrize("rows", [20, 24, 30])
def test_product_rule_with_a_few_more_rows_than_inputs(rows, tasks):
    torch.manual_seed(0)
    trunk = nn.Sequential(nn.Linear(20, 256), nn.Tanh(), nn.Linear(256, 256), nn.ReLU())
    losses = (trunk(torch.randn(rows, 20)) @ torch.randn(256, tasks)).square().mean(0)
    found = TaskGradients(task_roots(losses), list(trunk.parameters()))
    wanted = reference(losses, list(trunk.parameters()))
    assert ProductRule in rules_of(found)
    assert relative_error(found.gram, wanted @ wanted.mT) < 1e-5


def test_convolution_rule_on_small_maps():
    torch.manual_seed(0)
    layer = nn.Conv2d(64, 64, 3, stride=2, padding=1, dilation=1)
    images = torch.randn(2, 64, 4, 4)
    losses = (torch.relu(layer(images)).mean((2, 3)) @ torch.randn(64, 40)).square().mean(0)
    rows = TaskGradients(task_roots(losses), list(layer.parameters()))
    wanted = reference(losses, list(layer.parameters()))
    assert rules_of(rows) == {ProductRule}
    assert relative_error(rows.gram, wanted @ wanted.mT) < 1e-5


def test_embedding_rule_leaves_the_padding_code_out():
    torch.manual_seed(0)
    table = nn.Embedding(5000, 16, padding_idx=7)
    codes = torch.randint(0, 5000, (20, 3))
    codes[0] = 7
    losses = (table(codes).mean(1).tanh() @ torch.randn(16, 30)).square().mean(0)
    rows = TaskGradients(task_roots(losses), list(table.parameters()))
    wanted = reference(losses, list(table.parameters()))
    assert rules_of(rows) == {EmbeddingRule}
    assert relative_error(rows.gram, wanted @ wanted.mT) < 1e-5


def test_a_layer_used_twice_has_no_rule():
    torch.manual_seed(0)
    layer = nn.Linear(64, 64).double()
    losses = (layer(torch.relu(layer(torch.randn(4, 64).double())))).square().mean(0)
    rows = TaskGradients(task_roots(losses), list(layer.parameters()))
    wanted = reference(losses, list(layer.parameters()))
    assert rules_of(rows) == set()
    assert relative_error(rows.gram, wanted @ wanted.mT) < 1e-12


def test_kept_rows_add_up_to_the_weighted_gradient():
    case = build("conv")
    losses, _ = case.losses()
    rows = TaskGradients(task_roots(losses), case.shared, rules=False)
    weights = torch.linspace(-1, 2, len(losses), dtype=torch.float64)
    pieces = rows.weighted_sum(weights)
    wanted = torch.autograd.grad((weights * losses).sum(), case.shared)
    for piece, gradient in zip(pieces, wanted, strict=True):
        assert torch.allclose(piece, gradient)


def test_unused_frozen_and_repeated_variables():
    used, unused = torch.ones(2, requires_grad=True), torch.ones(3, requires_grad=True)
    frozen = torch.ones(4)
    losses = torch.stack([used.sum(), (used * frozen[:2]).prod(), torch.tensor(1.0)])
    rows = gradients.jacobian(losses, [used, unused, frozen, used])
    assert rows.tolist() == [[1, 1, 0, 0, 0], [1, 1, 0, 0, 0], [0, 0, 0, 0, 0]]


def test_no_variables_is_an_error():
    with pytest.raises(ValueError, match="at least one shared tensor"):
        gradients.jacobian(torch.ones(2), [torch.ones(2)])


def test_half_precision_parameters_give_single_precision_rows():
    weight = torch.randn(8, 8, dtype=torch.bfloat16, requires_grad=True)
    losses = (torch.randn(4, 8, dtype=torch.bfloat16) @ weight).float().square().mean(0)
    assert gradients.gramian(losses, [weight]).dtype == torch.float32


def test_losses_in_a_vector_equal_stacked_losses():
    case = build("mlp block")
    losses, _ = case.losses()
    stacked = torch.stack(list(losses))
    assert torch.allclose(
        gradients.gramian(losses, case.shared), gradients.gramian(stacked, case.shared)
    )


def test_compiled_and_checkpointed_functions_need_no_rule():
    weight = torch.randn(6, 6, dtype=torch.float64, requires_grad=True)
    inputs = torch.randn(5, 6, dtype=torch.float64)

    def run(values):
        return torch.tanh(values @ weight)

    hidden = torch.utils.checkpoint.checkpoint(run, inputs.requires_grad_(), use_reentrant=False)
    losses = hidden.square().mean(0)
    wanted = reference(run(inputs).square().mean(0), [weight])
    assert torch.allclose(gradients.jacobian(losses, [weight]), wanted)


def test_workspace_is_reused_and_not_copied():
    space = Workspace()
    first = space.take(2, 5, dtype=torch.float32, device=torch.device("cpu"))
    second = space.take(1, 4, dtype=torch.float32, device=torch.device("cpu"))
    assert first.data_ptr() == second.data_ptr()
    assert copy.deepcopy(space)._buffer is None
    assert pickle.loads(pickle.dumps(space))._buffer is None
