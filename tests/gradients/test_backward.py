"""Filling gradients: head rule, accumulation, hooks, several batches."""

from __future__ import annotations

import pytest
import torch
from tests.gradients.networks import build, reference
from torch import nn

from polytask import gradients
from polytask.gradients import batch_roots, seeded_backward, task_roots


def test_head_parameters_are_those_that_are_not_shared():
    case = build("mlp")
    losses, features = case.losses()
    own = {id(p) for p in case.heads.parameters()}
    assert {id(p) for p in gradients.head_parameters(losses, case.shared)} == own
    assert {id(p) for p in gradients.head_parameters(losses, [features])} == own


@pytest.mark.parametrize("known", ["features", "last layer"])
def test_upstream_parameters_are_the_trunk(known):
    case = build("mlp")
    losses, features = case.losses()
    last = list(case.trunk[2].parameters())
    if known == "features":
        found = gradients.upstream_parameters(losses, [features], features)
    else:
        found = gradients.upstream_parameters(losses, last, None)
    leaves = {id(p) for p in found if p.is_leaf}
    assert leaves == {id(p) for p in case.shared}


def test_plain_heads_need_shared_parameters():
    losses = torch.ones(2, requires_grad=True)
    with pytest.raises(ValueError, match="heads='mean' needs `shared`"):
        gradients.weighted_backward(losses.sum(), losses, shared=None, heads="mean")


def test_plain_heads_leave_the_balancers_own_parameters_to_the_total():
    trunk, head = torch.ones(2, requires_grad=True), torch.ones(2, requires_grad=True)
    learned = torch.ones(2, requires_grad=True)
    losses = trunk * head
    total = (learned * losses).sum()
    gradients.weighted_backward(total, losses, shared=[trunk], heads="mean", scale=10.0)
    assert learned.grad.tolist() == [10, 10]
    assert trunk.grad.tolist() == [10, 10]
    assert head.grad.tolist() == [5, 5]


def test_accumulate_runs_hooks_and_keeps_the_layout():
    weight = torch.randn(4, 3, 2, 2).to(memory_format=torch.channels_last).requires_grad_()
    seen = []
    weight.register_post_accumulate_grad_hook(lambda p: seen.append(p.grad.clone()))
    gradients.accumulate([weight], [torch.ones(4, 3, 2, 2)])
    gradients.accumulate([weight], [torch.ones(4, 3, 2, 2)])
    assert len(seen) == 2
    assert weight.grad.stride() == weight.stride()
    assert bool((weight.grad == 2).all())


def test_batches_that_were_stacked_are_taken_apart():
    case = build("mlp", tasks=3)
    passes = []
    features = []
    for _ in range(2):
        losses, z = case.losses()
        z.register_hook(lambda grad: passes.append(1))
        features.append(losses)
    seeds = batch_roots(torch.stack(features))
    rows = gradients.jacobian_rows(seeds[0], case.shared)
    assert torch.equal(rows, gradients.jacobian(features[0], case.shared))
    assert len(passes) == 3 + 3
    whole = batch_roots(torch.stack(features) * 2)
    assert torch.allclose(gradients.jacobian_rows(whole[1], case.shared), 2 * rows)
    assert batch_roots(torch.ones(2, 3)) == [[None] * 3] * 2


def test_seeded_backward_weighs_trunk_and_heads():
    case = build("mlp", tasks=3)
    losses, _ = case.losses()
    weights = torch.tensor([1.0, 2.0, -1.0], dtype=torch.float64)
    plain = torch.full_like(weights, 1 / 3)
    wanted = weights @ reference(losses, case.shared)
    heads = reference(losses, list(case.heads.parameters())).sum(0) / 3
    seeded_backward(task_roots(losses), weights, plain, trunk=case.shared)
    assert torch.allclose(torch.cat([p.grad.flatten() for p in case.shared]), wanted)
    found = torch.cat([p.grad.flatten() for p in case.heads.parameters()])
    assert torch.allclose(found, heads)


def test_user_hooks_on_features_see_ordinary_gradients():
    trunk, heads = nn.Linear(3, 4), nn.Linear(4, 2)
    features = trunk(torch.randn(5, 3))
    seen = []
    features.register_hook(lambda grad: seen.append(grad.shape))
    losses = heads(features).square().mean(0)
    gradients.backward_heads(losses, torch.ones(2), shared=trunk.parameters())
    assert seen == []
    assert all(p.grad is not None for p in heads.parameters())
    assert all(p.grad is None for p in trunk.parameters())
