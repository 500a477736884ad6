"""GradDrop: one sign per coordinate, leaks, noise, layer version."""

from __future__ import annotations

import pytest
import torch

from polytask.balancers import GradDrop


def test_agreement_is_kept():
    jacobian = torch.tensor([[1.0, -2.0], [3.0, -1.0]])
    torch.testing.assert_close(GradDrop().combine(jacobian), jacobian.sum(dim=0))


def test_disagreement_by_hand():
    jacobian = torch.tensor([[3.0, 3.0], [-1.0, -1.0]])
    # Purity 3/4: noise below keeps the positive entry, above the negative one.
    direction = GradDrop().combine(jacobian, noise=torch.tensor([0.7, 0.8]))
    torch.testing.assert_close(direction, torch.tensor([3.0, -1.0]))


def test_full_leak_is_the_sum():
    jacobian = torch.randn(4, 9)
    torch.testing.assert_close(GradDrop(leak=1.0).combine(jacobian), jacobian.sum(dim=0))


def test_every_coordinate_moves_as_some_task_wants():
    jacobian = torch.randn(3, 200, generator=torch.Generator().manual_seed(0))
    direction = GradDrop().combine(jacobian)
    positive = jacobian.clamp(min=0).sum(dim=0)
    negative = jacobian.clamp(max=0).sum(dim=0)
    assert bool(((direction == positive) | (direction == negative)).all())


def test_a_seed_fixes_the_noise_and_its_state_is_saved():
    jacobian = torch.randn(3, 50, generator=torch.Generator().manual_seed(0))
    balancer, twin = GradDrop(seed=1), GradDrop(seed=1)
    assert torch.equal(balancer.combine(jacobian), twin.combine(jacobian))
    resumed = GradDrop(seed=5)
    resumed.load_state_dict(balancer.state_dict())
    assert torch.equal(resumed.combine(jacobian), twin.combine(jacobian))


def test_features_share_masks_over_the_batch():
    features = torch.tensor([[1.0], [-1.0]])
    gradients = torch.tensor([[[2.0], [1.0]], [[-1.0], [-1.0]]])
    # Signed sums 2 - 1 = 1 and -1 + 1 = 0: purity 1, task 1 passes, task 2 has no sign.
    out = GradDrop().combine_features(features, gradients, noise=torch.tensor([0.5]))
    torch.testing.assert_close(out, torch.tensor([[2.0], [1.0]]))


def test_leaks_of_the_present_tasks_are_used():
    balancer = GradDrop(leak=[0.0, 0.5, 1.0])
    jacobian = torch.tensor([[3.0], [-1.0]])
    noise = torch.tensor([0.1])
    direction = balancer.combine(jacobian, tasks=torch.tensor([0, 2]), noise=noise)
    torch.testing.assert_close(direction, torch.tensor([2.0]))


def test_bad_arguments():
    with pytest.raises(ValueError, match="leak"):
        GradDrop(leak=1.5)
    with pytest.raises(ValueError, match="one number or 3, found 2"):
        GradDrop(leak=[0.0, 0.0]).combine(torch.zeros(3, 2))
