"""A rule of the user."""

from __future__ import annotations

import pytest
import torch

from polytask.balancers import Combination


def test_the_rule_is_applied_and_trains_the_trunk():
    trunk = torch.nn.Linear(3, 4)
    losses = trunk(torch.ones(2, 3)).square().mean(dim=0)
    rows = torch.stack(
        [
            torch.cat(
                [
                    gradient.flatten()
                    for gradient in torch.autograd.grad(loss, trunk.parameters(), retain_graph=True)
                ]
            )
            for loss in losses
        ]
    )
    balancer = Combination(rule=lambda jacobian: jacobian.amax(dim=0))
    balancer.backward(losses, shared=trunk.parameters())
    found = torch.cat([parameter.grad.flatten() for parameter in trunk.parameters()])
    torch.testing.assert_close(found, rows.amax(dim=0))


def test_the_example_is_the_median():
    jacobian = torch.tensor([[1.0], [5.0], [2.0]])
    torch.testing.assert_close(Combination.example().combine(jacobian), torch.tensor([2.0]))


def test_bad_rules():
    with pytest.raises(TypeError, match="rule"):
        Combination(rule="mean")
    with pytest.raises(ValueError, match="must return shape"):
        Combination(rule=lambda jacobian: jacobian).combine(torch.zeros(2, 3))
