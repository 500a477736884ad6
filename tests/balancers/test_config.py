"""ConFIG: equal cosines by hand, dependent gradients."""

from __future__ import annotations

import pytest
import torch
from tests.solvers.zoo import gaussian

from polytask.balancers import ConFIG


def test_two_tasks_by_hand():
    # Direction (1, 1) / sqrt(2), projections 3 and 1 over sqrt(2).
    direction = ConFIG().combine(torch.tensor([[3.0, 0.0], [0.0, 1.0]]))
    torch.testing.assert_close(direction, torch.tensor([2.0, 2.0]))


def test_pseudo_inverse_of_the_paper():
    jacobian = gaussian(4, 7, seed=1, spread=100.0)
    units = jacobian / jacobian.norm(dim=1, keepdim=True)
    direction = torch.linalg.pinv(units) @ torch.ones(4, dtype=torch.float64)
    direction = direction / direction.norm()
    expected = (jacobian @ direction).sum() * direction
    torch.testing.assert_close(ConFIG().combine(jacobian), expected)


def test_more_tasks_than_parameters_take_the_least_squares_direction():
    jacobian = gaussian(6, 3, seed=2)
    units = jacobian / jacobian.norm(dim=1, keepdim=True)
    direction = torch.linalg.pinv(units) @ torch.ones(6, dtype=torch.float64)
    cosine = torch.nn.functional.cosine_similarity(ConFIG().combine(jacobian), direction, dim=0)
    assert abs(float(cosine)) == pytest.approx(1)


def test_identical_gradients_add_up():
    jacobian = torch.tensor([[1.0, 2.0], [1.0, 2.0]])
    torch.testing.assert_close(ConFIG().combine(jacobian), torch.tensor([2.0, 4.0]))


def test_opposite_gradients_cancel():
    jacobian = torch.tensor([[1.0, 2.0], [-2.0, -4.0]])
    torch.testing.assert_close(ConFIG().combine(jacobian), torch.zeros(2))
