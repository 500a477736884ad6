"""Aligned-MTL: components, scales, preferences."""

from __future__ import annotations

import pytest
import torch

from polytask.balancers import AlignedMTL


def test_two_tasks_by_hand():
    # The long gradient is shortened to the length of the short one.
    direction = AlignedMTL().combine(torch.tensor([[1.0, 0.0], [0.0, 4.0]]))
    torch.testing.assert_close(direction, torch.tensor([1.0, 1.0]))


def test_scales_by_hand():
    jacobian = torch.diag(torch.tensor([1.0, 2.0, 4.0]))
    for scale, length in (("min", 1.0), ("median", 2.0), ("rmse", 7.0**0.5)):
        direction = AlignedMTL(scale=scale).combine(jacobian)
        torch.testing.assert_close(direction, torch.full((3,), length))


def test_orthonormal_gradients_stay():
    gram = torch.eye(4)
    torch.testing.assert_close(AlignedMTL().weights(gram), torch.ones(4))


def test_preference_weighs_the_aligned_components():
    jacobian = torch.tensor([[1.0, 0.0], [0.0, 4.0]])
    direction = AlignedMTL(preference=[1.0, 0.5]).combine(jacobian)
    torch.testing.assert_close(direction, torch.tensor([1.0, 0.5]))


def test_gradients_of_zero():
    assert torch.equal(AlignedMTL().weights(torch.zeros(3, 3)), torch.zeros(3))


def test_preferences_of_the_present_tasks_are_used():
    balancer = AlignedMTL(preference=[1.0, 2.0, 3.0])
    weights = balancer.weights(torch.eye(2), tasks=torch.tensor([0, 2]))
    torch.testing.assert_close(weights, torch.tensor([1.0, 3.0]))


def test_bad_arguments():
    with pytest.raises(ValueError, match="scale"):
        AlignedMTL(scale="max")
    with pytest.raises(ValueError, match="preference"):
        AlignedMTL(preference=[1.0, -1.0])
    with pytest.raises(ValueError, match="one number per task, 3, found 2"):
        AlignedMTL(preference=[1.0, 1.0]).weights(torch.eye(3))
