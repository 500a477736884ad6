"""The conflict-averse direction: primal optimality against its dual, limits, scales."""

from __future__ import annotations

import pytest
import torch
from tests.solvers.zoo import SCALES, gaussian, zoo

from polytask.solvers import conflict_averse, min_norm

REGULAR = ["two tasks", "nine tasks", "duplicated task", "conflict", "orthogonal", "identical"]


def check_optimality(jacobian, c, weights):
    """The worst task's gain equals the dual objective of the weights."""
    mean = jacobian.mean(dim=0)
    direction = weights @ jacobian
    radius = c * mean.norm()
    torch.testing.assert_close((direction - mean).norm(), radius, rtol=1e-8, atol=0)
    dual = weights - 1 / len(weights)
    assert float(dual.min()) >= 0
    dual = dual / dual.sum()
    combination = dual @ jacobian
    bound = combination @ mean + radius * combination.norm()
    worst = (jacobian @ direction).min()
    assert float(bound - worst) <= 1e-7 * float(jacobian.norm() ** 2)


@pytest.mark.parametrize("name", REGULAR)
@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("c", [0.2, 0.5, 2.0])
def test_primal_equals_dual_at_every_scale(name, scale, c):
    jacobian = scale * zoo()[name]
    weights, report = conflict_averse(jacobian @ jacobian.mT, c=c)
    assert report.converged
    check_optimality(jacobian, c, weights)


@pytest.mark.parametrize("pull", [0.0, 0.9])
def test_a_hundred_tasks(pull):
    jacobian = gaussian(100, 200, seed=1, spread=10.0)
    jacobian = jacobian - pull * jacobian.mean(dim=0)
    weights, report = conflict_averse(jacobian @ jacobian.mT, c=0.4)
    assert report.converged
    check_optimality(jacobian, 0.4, weights)


def test_radius_zero_is_the_mean():
    weights = conflict_averse(torch.eye(4), c=0.0).weights
    torch.testing.assert_close(weights, torch.full((4,), 0.25))


def test_small_radius_serves_only_the_worst_task():
    # For g = (4, 0), (0, 2) the mean is (2, 1): task 2 gains 2, task 1 gains 8.
    jacobian = torch.tensor([[4.0, 0.0], [0.0, 2.0]], dtype=torch.float64)
    weights = conflict_averse(jacobian @ jacobian.mT, c=0.5).weights
    expected = torch.tensor([2.0, 1 + 0.5 * 5**0.5], dtype=torch.float64)
    torch.testing.assert_close(weights @ jacobian, expected)


def test_large_radius_approaches_the_minimum_norm_direction():
    jacobian = gaussian(3, 8, seed=4)
    gram = jacobian @ jacobian.mT
    direction = conflict_averse(gram, c=1e4).weights @ jacobian
    shortest = min_norm(gram).weights @ jacobian
    cosine = torch.nn.functional.cosine_similarity(direction, shortest, dim=0)
    assert float(cosine) > 1 - 1e-6


@pytest.mark.parametrize("name", ["rank two", "more tasks than parameters", "opposite", "zero row"])
def test_stationary_points_hurt_nobody(name):
    jacobian = zoo()[name]
    weights, report = conflict_averse(jacobian @ jacobian.mT, c=0.9)
    assert report.converged
    assert bool(weights.isfinite().all())
    mean = jacobian.mean(dim=0)
    assert float((weights @ jacobian - mean).norm()) <= 0.9 * float(mean.norm()) * (1 + 1e-6)


def test_c_is_checked():
    with pytest.raises(ValueError, match=r"`c` must be >= 0, found -0.5"):
        conflict_averse(torch.eye(2), c=-0.5)
    with pytest.raises(ValueError, match="found nan"):
        conflict_averse(torch.eye(2), c=float("nan"))
