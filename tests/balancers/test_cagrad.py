"""CAGrad: the primal problem, limits, rescaling."""

from __future__ import annotations

import pytest
import torch
from tests.solvers.zoo import gaussian

from polytask.balancers import CAGrad


def test_two_tasks_by_hand():
    # The mean (2, 1) serves task 2 worst; the ball of radius sqrt(5) / 2 is left along (0, 1).
    jacobian = torch.tensor([[4.0, 0.0], [0.0, 2.0]], dtype=torch.float64)
    direction = CAGrad(c=0.5).combine(jacobian)
    expected = torch.tensor([2.0, 1 + 0.5 * 5**0.5], dtype=torch.float64)
    torch.testing.assert_close(direction, expected)


def test_c_of_zero_is_the_mean():
    jacobian = gaussian(4, 6, seed=1)
    torch.testing.assert_close(CAGrad(c=0.0).combine(jacobian), jacobian.mean(dim=0))


@pytest.mark.parametrize("seed", range(5))
def test_no_random_direction_in_the_ball_serves_the_worst_task_better(seed):
    jacobian = gaussian(4, 6, seed=seed)
    jacobian = jacobian - 0.5 * jacobian.mean(dim=0)
    mean = jacobian.mean(dim=0)
    direction = CAGrad(c=0.4).combine(jacobian)
    noise = torch.randn(2000, 6, dtype=torch.float64)
    others = mean + 0.4 * mean.norm() * noise / noise.norm(dim=1, keepdim=True)
    best = (others @ jacobian.mT).min(dim=1).values.max()
    assert float((jacobian @ direction).min()) >= float(best)


@pytest.mark.parametrize("scale", [1e-12, 1e-6, 1e6, 1e12])
def test_scale_does_not_matter(scale):
    jacobian = gaussian(3, 6, seed=2)
    direction = CAGrad().combine(jacobian)
    torch.testing.assert_close(CAGrad().combine(scale * jacobian) / scale, direction)


def test_rescaling():
    jacobian = gaussian(3, 6, seed=2)
    plain = CAGrad(c=0.5).combine(jacobian)
    square = CAGrad(c=0.5, rescale="square").combine(jacobian)
    linear = CAGrad(c=0.5, rescale="linear").combine(jacobian)
    torch.testing.assert_close(square, plain / 1.25)
    torch.testing.assert_close(linear, plain / 1.5)


def test_bad_arguments():
    with pytest.raises(ValueError, match=r"`c` must be >= 0, found -0\.5"):
        CAGrad(c=-0.5)
    with pytest.raises(ValueError, match="rescale"):
        CAGrad(rescale="cubic")
