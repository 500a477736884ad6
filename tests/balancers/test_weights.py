"""Equal, fixed, random, highest loss, geometric mean, and the boundary intersection."""

from __future__ import annotations

import pytest
import torch

from polytask.balancers import (
    BoundaryIntersection,
    Equal,
    FixedWeights,
    GeometricMean,
    HighestLoss,
    RandomLossWeighting,
)


def test_equal_is_the_gradient_of_the_mean():
    values = torch.tensor([1.0, 2.0, 3.0], requires_grad=True)
    Equal().backward(values * 1)
    assert torch.allclose(values.grad, torch.full((3,), 1 / 3))


def test_equal_averages_over_the_tasks_present():
    balancer = Equal()
    balancer.setup(4)
    values = torch.ones(2, requires_grad=True)
    assert balancer.backward(values * 1, tasks=[3, 1]).tolist() == [0.5, 0.5]


def test_fixed_weights_pick_the_tasks_present():
    balancer = FixedWeights(values=(1, 2, 4))
    balancer.setup(3)
    values = torch.ones(2, requires_grad=True)
    assert balancer.backward(values * 1, tasks=[2, 0]).tolist() == [4, 1]
    assert values.grad.tolist() == [4, 1]


@pytest.mark.parametrize("values", [(), (0.0, 0.0), (1.0, -1.0), (1.0, float("inf"))])
def test_fixed_weights_refuse(values):
    with pytest.raises(ValueError, match="`values`"):
        FixedWeights(values=values)


def test_fixed_weights_need_one_value_per_task():
    with pytest.raises(ValueError, match="2 weights but the problem has 3"):
        FixedWeights(values=(1, 2)).setup(3)


def test_random_weights_are_seeded_and_resume():
    losses = torch.ones(4)
    first, second = RandomLossWeighting(seed=3), RandomLossWeighting(seed=3)
    drawn = [first.weights(losses) for _ in range(3)]
    assert torch.equal(drawn[0], second.weights(losses))
    second.load_state_dict(first.state_dict())
    assert torch.equal(first.weights(losses), second.weights(losses))
    assert not torch.equal(drawn[0], drawn[1])
    assert torch.allclose(torch.stack(drawn).sum(1), torch.ones(3))


def test_random_weights_leave_the_global_generator_alone():
    before = torch.get_rng_state()
    RandomLossWeighting().weights(torch.ones(5))
    assert torch.equal(torch.get_rng_state(), before)


def test_highest_loss_shares_ties():
    assert HighestLoss().weights(torch.tensor([2.0, 1.0, 2.0])).tolist() == [0.5, 0, 0.5]


def test_geometric_mean_is_the_derivative_of_its_total():
    losses = torch.tensor([0.5, 2.0, 8.0], dtype=torch.float64, requires_grad=True)
    balancer = GeometricMean()
    balancer.total(losses).backward()
    assert torch.allclose(balancer.weights(losses.detach()), losses.grad)


def test_geometric_mean_neither_overflows_nor_underflows():
    balancer = GeometricMean()
    for size in (1e30, 1e-30):
        losses = torch.full((100,), size)
        assert balancer.total(losses) == pytest.approx(size, rel=1e-4)
        assert torch.allclose(balancer.weights(losses), torch.full((100,), 0.01), rtol=1e-4)


def test_boundary_intersection_is_the_derivative_of_its_total():
    losses = torch.tensor([0.5, 2.0, 1.0], dtype=torch.float64, requires_grad=True)
    balancer = BoundaryIntersection(preference=(1, 2, 1), theta=3.0, reference=(0.1, 0.2, 0.3))
    balancer.setup(3)
    balancer.total(losses).backward()
    assert torch.allclose(balancer.weights(losses.detach()), losses.grad)


def test_boundary_intersection_on_the_ray_follows_it():
    balancer = BoundaryIntersection(preference=(3, 4))
    balancer.setup(2)
    assert torch.allclose(balancer.weights(torch.tensor([6.0, 8.0])), torch.tensor([0.6, 0.8]))


@pytest.mark.parametrize("name", ["preference", "reference"])
def test_boundary_intersection_needs_one_number_per_task(name):
    with pytest.raises(ValueError, match=f"`{name}` holds 2 numbers"):
        BoundaryIntersection(**{name: (1.0, 1.0)}).setup(3)
