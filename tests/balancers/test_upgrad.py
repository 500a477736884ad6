"""UPGrad: projections by hand, true non-conflict, preferences."""

from __future__ import annotations

import pytest
import torch
from tests.solvers.zoo import gaussian

from polytask.balancers import UPGrad


def test_two_tasks_by_hand():
    direction = UPGrad().combine(torch.tensor([[1.0, 0.0], [-1.0, 1.0]]))
    torch.testing.assert_close(direction, torch.tensor([0.25, 0.75]))


def test_without_conflict_it_is_the_mean():
    jacobian = gaussian(4, 6, seed=1).abs()
    torch.testing.assert_close(UPGrad().combine(jacobian), jacobian.mean(dim=0))


@pytest.mark.parametrize("ratio", [1.0, 1e-2, 1e-4, 1e-6])
@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_no_task_is_hurt_however_short_its_gradient(ratio, scale):
    jacobian = torch.tensor([[1.0, 0.0, 0.0], [-0.9, 0.4, 0.1], [0.2, -0.8, 0.3]]).double()
    jacobian *= scale * torch.tensor([[1.0], [ratio], [ratio**0.5]], dtype=torch.float64)
    direction = UPGrad().combine(jacobian)
    cosines = (jacobian @ direction) / (jacobian.norm(dim=1) * direction.norm())
    assert float(cosines.min()) > -1e-9


@pytest.mark.parametrize("seed", range(3))
def test_each_projection_is_the_nearest_harmless_vector(seed):
    jacobian = gaussian(3, 4, seed=seed)
    balancer = UPGrad(preference=[1.0, 0.0, 0.0])
    projected = balancer.combine(jacobian)
    candidates = projected + 0.5 * torch.randn(20000, 4, dtype=torch.float64)
    harmless = candidates[(candidates @ jacobian.mT >= 0).all(dim=1)]
    assert len(harmless) > 10
    distances = (harmless - jacobian[0]).norm(dim=1)
    assert float((projected - jacobian[0]).norm()) <= float(distances.min())


def test_zero_rows_leave_a_training_step_at_full_length():
    jacobian = torch.tensor([[1.0, 0.5], [0.0, 0.0], [0.5, 1.0]])
    weights = UPGrad().solve(jacobian @ jacobian.mT, torch.ones(3), torch.arange(3))
    torch.testing.assert_close(weights, torch.full((3,), 0.5))


def test_bad_arguments():
    with pytest.raises(ValueError, match="preference"):
        UPGrad(preference=[0.0, 0.0])
    with pytest.raises(ValueError, match="one number per task"):
        UPGrad(preference=[1.0, 1.0, 1.0]).weights(torch.eye(2))
