"""GradNorm, ExcessMTL and DB-MTL."""

from __future__ import annotations

import pytest
import torch

from polytask.balancers import DBMTL, ExcessMTL, GradNorm
from polytask.checks.balancers import ToyNetwork


def test_equal_rates_are_balanced_by_the_norms_alone():
    # With alpha = 0 the targets are the mean norm, and w n is the same for all at the optimum.
    balancer = GradNorm(alpha=0.0, learning_rate=0.01)
    balancer.setup(2)
    gram = torch.diag(torch.tensor([1.0, 9.0], dtype=torch.float64))
    for _ in range(400):
        weights = balancer.weights(gram, torch.ones(2))
    wanted = torch.tensor([1.5, 0.5], dtype=torch.float64)
    assert torch.allclose(weights, wanted, atol=0.02)


def test_slow_tasks_gain_weight():
    balancer = GradNorm(alpha=1.5)
    balancer.setup(2)
    gram = torch.eye(2, dtype=torch.float64)
    balancer.weights(gram, torch.tensor([1.0, 1.0]))
    for _ in range(20):
        weights = balancer.weights(gram, torch.tensor([0.2, 0.9]))
    assert weights[1] > 1 > weights[0]
    assert float(weights.sum()) == pytest.approx(2)


@pytest.mark.parametrize("parameterisation", ["simplex", "softmax"])
def test_weights_stay_positive_and_sum_to_the_number_of_tasks(parameterisation):
    balancer = GradNorm(learning_rate=1.0, parameterisation=parameterisation)
    network = ToyNetwork(3)
    for _ in range(30):
        weights = network.step(balancer)
        assert bool((weights > 0).all())
        assert float(weights.sum()) == pytest.approx(3, rel=1e-5)


def test_absent_tasks_keep_weight_and_first_loss():
    balancer = GradNorm(learning_rate=0.1)
    balancer.setup(3)
    network = ToyNetwork(3)
    network.step(balancer, tasks=[0, 2])
    assert balancer.initial_losses.isnan().tolist() == [False, True, False]
    assert balancer.values[1] == 1
    network.step(balancer)
    assert not bool(balancer.initial_losses.isnan().any())


def test_excess_weights_follow_the_excess_risk():
    balancer = ExcessMTL(step_size=1.0)
    rows = torch.tensor([[1.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
    assert torch.equal(balancer.combine(rows), torch.ones(2, dtype=torch.float64))
    balancer.combine(rows * torch.tensor([[1.0], [0.1]]))
    assert balancer.task_weights[0] > balancer.task_weights[1]
    assert float(balancer.task_weights.sum()) == pytest.approx(2)


def test_excess_heads_are_weighted():
    network, balancer = ToyNetwork(3), ExcessMTL(step_size=1.0)
    for _ in range(3):
        network.zero_grad()
        weights = network.step(balancer)
    assert weights.tolist() == pytest.approx(balancer.task_weights.tolist())
    assert not torch.allclose(weights, weights.mean().expand(3))


def test_dual_balancing_stretches_all_gradients_to_the_longest():
    balancer = DBMTL(beta=0.0)
    rows = torch.tensor([[3.0, 0.0], [0.0, 8.0]], dtype=torch.float64)
    # Logarithms divide by the losses: lengths 3 and 2, both stretched to 3.
    found = balancer.combine(rows, torch.tensor([1.0, 4.0], dtype=torch.float64))
    assert torch.allclose(found, torch.tensor([3.0, 3.0], dtype=torch.float64))


def test_dual_balancing_smooths_each_task_by_its_own_count():
    balancer = DBMTL(beta=0.5)
    balancer.setup(2)
    rows = torch.eye(2, dtype=torch.float64)
    ones = torch.ones(2, dtype=torch.float64)
    balancer.combine(rows, ones)
    balancer.combine(rows[:1], ones[:1], tasks=torch.tensor([0]))
    assert balancer.smoothed[0, 0] == pytest.approx(0.75)
    assert balancer.smoothed[1, 1] == pytest.approx(0.5)
    with pytest.raises(ValueError, match="needs `losses`"):
        DBMTL().combine(rows)
