"""MoDo: one step by hand, state, three batches."""

from __future__ import annotations

import pytest
import torch

from polytask.balancers import MoDo


def test_one_step_by_hand():
    # (1/2, 1/2) - 0.1 (1/2, 2) = (0.45, 0.3), projected.
    weights = MoDo(gamma=0.1, rho=0.0).weights(torch.diag(torch.tensor([1.0, 4.0])))
    torch.testing.assert_close(weights, torch.tensor([0.575, 0.425]))


def test_equal_weights_do_not_move_for_equal_products():
    weights = MoDo(rho=0.5).weights(torch.full((3, 3), 2.0))
    torch.testing.assert_close(weights, torch.full((3,), 1 / 3))


def test_products_of_different_batches_need_not_be_symmetric():
    product = torch.tensor([[1.0, 2.0], [0.0, 1.0]])
    # G w = (1.5, 0.5): the first task loses 0.05, the second gains it.
    weights = MoDo(gamma=0.1, rho=0.0).weights(product)
    torch.testing.assert_close(weights, torch.tensor([0.45, 0.55]))


def test_present_tasks_without_weight_start_equally():
    balancer = MoDo(gamma=1.0, rho=0.0)
    product = torch.diag(torch.tensor([0.0, 0.0, 10.0]))
    balancer.setup(3)
    balancer.weights(product)
    assert float(balancer.simplex_weights[2]) == 0
    weights = balancer.weights(torch.ones(1, 1), tasks=torch.tensor([2]))
    torch.testing.assert_close(weights, torch.ones(1))
    torch.testing.assert_close(balancer.simplex_weights.sum(), torch.tensor(1.0).double())


def test_weights_are_saved():
    balancer = MoDo(gamma=0.3)
    gram = torch.diag(torch.tensor([1.0, 4.0]))
    balancer.weights(gram)
    resumed = MoDo(gamma=0.3)
    resumed.setup(2)
    resumed.load_state_dict(balancer.state_dict())
    assert torch.equal(resumed.weights(gram), balancer.weights(gram))


def test_a_step_needs_three_batches():
    with pytest.raises(ValueError, match="3, T"):
        MoDo().backward(torch.ones(2, requires_grad=True), shared=[])


def test_bad_arguments():
    with pytest.raises(ValueError, match="gamma"):
        MoDo(gamma=0.0)
    with pytest.raises(ValueError, match="rho"):
        MoDo(rho=-0.1)
