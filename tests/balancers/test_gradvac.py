"""GradVac: the first step, the moving average, state."""

from __future__ import annotations

import pytest
import torch
from tests.solvers.zoo import gaussian

from polytask.balancers import GradVac, PCGrad


def test_the_first_step_is_pcgrad():
    jacobian = torch.tensor([[1.0, 0.0], [-1.0, 1.0]])
    torch.testing.assert_close(GradVac().combine(jacobian), PCGrad().combine(jacobian))


def test_the_second_step_by_hand():
    jacobian = torch.tensor([[1.0, 0.0], [0.0, 2.0]], dtype=torch.float64)
    balancer = GradVac(beta=0.5)
    aligned = torch.tensor([[1.0, 0.0], [1.2, 1.6]], dtype=torch.float64)
    balancer.combine(aligned)
    # The cosine of 0.6 enters by half.
    assert float(balancer.targets[0, 1]) == pytest.approx(0.3)
    # At cosine 0 the multiple of g_j is |g_i| 0.3 / (|g_j| sqrt(1 - 0.09)).
    factor = 0.3 / 0.91**0.5
    expected = torch.tensor([1 + 2 * factor, 2 + factor], dtype=torch.float64)
    torch.testing.assert_close(balancer.combine(jacobian), expected)


def test_beta_zero_stays_pcgrad():
    orders = torch.tensor([[1, 2], [2, 0], [0, 1]])
    vac, pc = GradVac(beta=0.0), PCGrad()
    for seed in range(3):
        gram = (j := gaussian(3, 4, seed=seed)) @ j.mT
        torch.testing.assert_close(
            vac.weights(gram, orders=orders), pc.weights(gram, orders=orders)
        )


def test_scale_does_not_matter():
    one, other = GradVac(beta=0.3), GradVac(beta=0.3)
    for seed in range(4):
        jacobian = gaussian(4, 6, seed=seed)
        direction = one.combine(jacobian)
        torch.testing.assert_close(1e6 * other.combine(1e-6 * jacobian), direction)


def test_state_is_saved():
    balancer = GradVac(beta=0.5)
    for seed in range(3):
        balancer.combine(gaussian(3, 5, seed=seed))
    resumed = GradVac(beta=0.5, seed=7)
    resumed.setup(3)
    resumed.load_state_dict(balancer.state_dict())
    jacobian = gaussian(3, 5, seed=9)
    assert torch.equal(resumed.combine(jacobian), balancer.combine(jacobian))


def test_absent_tasks_keep_their_averages():
    balancer = GradVac(beta=0.5)
    balancer.setup(4)
    jacobian = gaussian(2, 5, seed=1)
    balancer.weights(jacobian @ jacobian.mT, tasks=torch.tensor([1, 3]))
    changed = balancer.targets.nonzero().tolist()
    assert changed == [[1, 3], [3, 1]]


def test_a_batch_leaves_the_averages():
    balancer = GradVac(beta=0.5)
    jacobian = torch.stack([gaussian(3, 5, seed=1), gaussian(3, 5, seed=2)])
    assert balancer.weights(jacobian @ jacobian.mT).shape == (2, 3)
    assert torch.equal(balancer.targets, torch.zeros(3, 3, dtype=torch.float64))


def test_bad_arguments():
    with pytest.raises(ValueError, match=r"`beta` must be in \[0, 1\], found 1.5"):
        GradVac(beta=1.5)
    balancer = GradVac()
    balancer.setup(3)
    with pytest.raises(ValueError, match="set up for 3 tasks"):
        balancer.weights(torch.eye(2))
