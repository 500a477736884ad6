"""Task gradients with respect to the shared representation."""

from __future__ import annotations

import pytest
import torch
from tests.gradients.networks import NAMES, build, reference
from torch import nn

from polytask import gradients


@pytest.mark.parametrize("name", NAMES)
def test_closed_form_equals_autograd(name):
    case = build(name)
    losses, features = case.losses()
    assert gradients.linear_heads(gradients.task_roots(losses), features) is not None
    wanted = reference(losses, [features])
    assert torch.allclose(gradients.feature_gramian(losses, features), wanted @ wanted.mT)


def test_many_tasks_in_one_block():
    case = build("mlp block", tasks=300)
    losses, features = case.losses()
    heads = gradients.linear_heads(gradients.task_roots(losses), features)
    assert heads is not None
    assert heads.owner.tolist() == [task for task in range(300) for _ in range(2)]


def test_heads_that_share_a_hidden_layer_have_no_closed_form():
    features = torch.randn(5, 4, dtype=torch.float64, requires_grad=True)
    hidden = torch.tanh(nn.Linear(4, 3).double()(features))
    losses = nn.Linear(3, 6).double()(hidden).square().mean(0)
    assert gradients.linear_heads(gradients.task_roots(losses), features) is None
    wanted = reference(losses, [features])
    assert torch.allclose(gradients.feature_gramian(losses, features), wanted @ wanted.mT)


def test_two_tasks_on_one_output_have_no_closed_form():
    features = torch.randn(5, 4, dtype=torch.float64, requires_grad=True)
    outputs = nn.Linear(4, 3).double()(features)
    losses = torch.stack([outputs[:, 0].mean(), outputs[:, 0].square().mean()])
    wanted = reference(losses, [features])
    assert torch.allclose(gradients.feature_gramian(losses, features), wanted @ wanted.mT)


def test_features_used_besides_the_heads():
    features = torch.randn(5, 4, dtype=torch.float64, requires_grad=True)
    head = nn.Linear(4, 1).double()
    losses = torch.stack([head(features).mean() + features.square().mean(), features.sum()])
    assert gradients.linear_heads(gradients.task_roots(losses), features) is None
    wanted = reference(losses, [features])
    assert torch.allclose(gradients.feature_gramian(losses, features), wanted @ wanted.mT)


@pytest.mark.parametrize("hidden", [False, True])
def test_a_fraction_is_the_first_rows(hidden):
    features = torch.randn(8, 4, dtype=torch.float64, requires_grad=True)
    body = nn.Sequential(nn.Linear(4, 3), nn.Tanh()) if hidden else nn.Identity()
    losses = nn.Linear(3 if hidden else 4, 5).double()(body.double()(features)).square().mean(0)
    rows = reference(losses, [features]).view(5, 8, 4)[:, :2].flatten(1)
    found = gradients.feature_gramian(losses, features, fraction=0.25)
    assert torch.allclose(found, rows @ rows.mT)


@pytest.mark.parametrize("name", ["mlp block", "tokens block", "conv block"])
def test_trunk_seeds_start_at_the_features(name):
    case = build(name)
    losses, features = case.losses()
    seeds = gradients.trunk_seeds(losses, features, case.shared)
    assert all(seed is not None and seed[1].shape == features.shape for seed in seeds)
    found = gradients.TaskGradients(seeds, case.shared).gram
    wanted = reference(losses, case.shared)
    assert torch.allclose(found, wanted @ wanted.mT)


def test_trunk_seeds_see_shared_parameters_beside_the_features():
    case = build("mlp block")
    losses, features = case.losses()
    beside = torch.ones(len(losses), dtype=torch.float64, requires_grad=True)
    shared = [*case.shared, beside]
    losses = losses * beside
    seeds = gradients.trunk_seeds(losses, features, shared)
    wanted = reference(losses, shared)
    assert torch.allclose(gradients.TaskGradients(seeds, shared).gram, wanted @ wanted.mT)


def test_a_task_without_gradient_has_a_zero_row():
    features = torch.randn(5, 4, dtype=torch.float64, requires_grad=True)
    outputs = nn.Linear(4, 2).double()(features)
    losses = torch.stack([outputs[:, 0].mean(), outputs[:, 1].mean() * 0])
    gram = gradients.feature_gramian(losses, features)
    assert float(gram[0, 0]) > 0
    assert gram[1].tolist() == [0, 0]
