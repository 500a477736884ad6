"""MoCo: one step by hand, tracking, state."""

from __future__ import annotations

import pytest
import torch
from tests.solvers.zoo import gaussian

from polytask.balancers import MoCo


def test_one_step_by_hand():
    # beta = 1 tracks at once: weights (1/2, 1/2) - 0.1 (1/2, 2) = (0.45, 0.3), projected.
    direction = MoCo(beta=1.0, gamma=0.1).combine(torch.tensor([[1.0, 0.0], [0.0, 2.0]]))
    torch.testing.assert_close(direction, torch.tensor([0.575, 0.85]))


def test_tracking_is_a_moving_average():
    balancer = MoCo(beta=0.5, decay=0.0)
    jacobian = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
    for step in range(1, 4):
        balancer.combine(jacobian)
        torch.testing.assert_close(balancer.tracked, (1 - 0.5**step) * jacobian)


def test_rates_decay():
    balancer = MoCo(beta=1.0, decay=1.0)
    balancer.combine(torch.ones(2, 3))
    balancer.combine(torch.zeros(2, 3))
    # The second step has the rate 1/2.
    torch.testing.assert_close(balancer.tracked, torch.full((2, 3), 0.5))


def test_state_is_saved():
    balancer = MoCo()
    for seed in range(3):
        balancer.combine(gaussian(3, 5, seed=seed))
    resumed = MoCo()
    resumed.setup(3)
    resumed.load_state_dict(balancer.state_dict())
    jacobian = gaussian(3, 5, seed=7)
    assert torch.equal(resumed.combine(jacobian), balancer.combine(jacobian))


def test_absent_tasks_are_not_touched():
    balancer = MoCo(beta=1.0)
    balancer.setup(3)
    balancer.combine(torch.ones(3, 2))
    balancer.combine(torch.zeros(2, 2), tasks=torch.tensor([0, 2]))
    torch.testing.assert_close(balancer.tracked[1], torch.ones(2))
    assert float(balancer.simplex_weights.sum()) == pytest.approx(1)


def test_bad_arguments():
    for name, value in (("beta", 0.0), ("gamma", 0.0), ("decay", -1.0), ("rho", -1.0)):
        with pytest.raises(ValueError, match=name):
            MoCo(**{name: value})
    with pytest.raises(ValueError, match=r"\[T, P\]"):
        MoCo().combine(torch.zeros(2, 3, 4))
