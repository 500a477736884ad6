"""PCGrad: projections by hand, the guarantee for two tasks, seeds."""

from __future__ import annotations

import pytest
import torch
from tests.solvers.zoo import gaussian

from polytask.balancers import PCGrad, UPGrad


def test_two_tasks_by_hand():
    # (1, 0) keeps (1/2, 1/2), (-1, 1) keeps (0, 1).
    direction = PCGrad().combine(torch.tensor([[1.0, 0.0], [-1.0, 1.0]]))
    torch.testing.assert_close(direction, torch.tensor([0.5, 1.5]))


def test_without_conflict_it_is_the_sum():
    jacobian = torch.tensor([[1.0, 0.1], [0.3, 2.0], [1.0, 1.0]])
    torch.testing.assert_close(PCGrad().combine(jacobian), jacobian.sum(dim=0))


@pytest.mark.parametrize("ratio", [1.0, 1e-3, 1e-6])
def test_two_tasks_never_conflict(ratio):
    jacobian = torch.tensor([[1.0, 0.2], [-0.9, 0.4]], dtype=torch.float64)
    jacobian[1] *= ratio
    direction = PCGrad().combine(jacobian)
    cosines = (jacobian @ direction) / (jacobian.norm(dim=1) * direction.norm())
    assert float(cosines.min()) > -1e-12


def test_twice_upgrad_for_two_tasks():
    jacobian = torch.tensor([[1.0, 0.2], [-0.9, 0.4]], dtype=torch.float64)
    torch.testing.assert_close(PCGrad().combine(jacobian), 2 * UPGrad().combine(jacobian))


def test_the_order_matters_for_three_tasks_and_can_be_given():
    jacobian = torch.tensor([[1.0, 0.0], [-1.0, 0.5], [-1.0, -1.0]])
    gram = jacobian @ jacobian.mT
    forward = torch.tensor([[1, 2], [0, 2], [0, 1]])
    one = PCGrad().weights(gram, orders=forward)
    other = PCGrad().weights(gram, orders=forward.flip(-1))
    assert not torch.allclose(one, other)


def test_a_seed_fixes_the_orders_and_its_state_is_saved():
    jacobian = gaussian(6, 4, seed=1)
    gram = jacobian @ jacobian.mT
    balancer, twin = PCGrad(seed=3), PCGrad(seed=3)
    first = [balancer.weights(gram) for _ in range(3)]
    assert all(torch.equal(a, twin.weights(gram)) for a in first)
    resumed = PCGrad(seed=99)
    resumed.load_state_dict(twin.state_dict())
    assert torch.equal(resumed.weights(gram), balancer.weights(gram))


def test_permuting_tasks_with_their_orders_permutes_weights():
    jacobian = gaussian(4, 3, seed=5)
    orders = torch.tensor([[1, 2, 3], [3, 0, 2], [0, 1, 3], [2, 1, 0]])
    order = torch.tensor([2, 0, 3, 1])
    position = order.argsort()
    weights = PCGrad().weights(jacobian @ jacobian.mT, orders=orders)
    moved = PCGrad().weights(jacobian[order] @ jacobian[order].mT, orders=position[orders[order]])
    torch.testing.assert_close(moved, weights[order])
