"""Bargaining weights: the equations, the scales, the fallback."""

from __future__ import annotations

import pytest
import torch
from tests.solvers.zoo import SCALES, gaussian, zoo

from polytask.solvers import bargain

SOLVABLE = [
    "one task",
    "two tasks",
    "nine tasks",
    "identical",
    "duplicated task",
    "conflict",
    "lengths from 1 to 1e-6",
    "orthogonal",
]


@pytest.mark.parametrize("name", SOLVABLE)
@pytest.mark.parametrize("power", [0.2, 0.5, 1.0, 2.0])
@pytest.mark.parametrize("scale", SCALES)
def test_equations_hold_at_every_scale(name, power, scale):
    jacobian = scale * zoo()[name]
    gram = jacobian @ jacobian.mT
    weights, report = bargain(gram, power=power)
    assert report.converged
    assert weights.min() > 0
    torch.testing.assert_close(
        (gram @ weights) * weights**power, torch.ones_like(weights), rtol=0, atol=1e-9
    )


@pytest.mark.parametrize("num_tasks", [10, 40, 100])
def test_many_tasks(num_tasks):
    jacobian = gaussian(num_tasks, 2 * num_tasks, seed=num_tasks, spread=10.0)
    gram = jacobian @ jacobian.mT
    weights, report = bargain(gram)
    assert report.converged
    assert report.iterations < 25
    torch.testing.assert_close(
        (gram @ weights) * weights, torch.ones_like(weights), rtol=0, atol=1e-10
    )


def test_orthogonal_gradients_by_hand():
    squares = torch.tensor([16.0, 1.0], dtype=torch.float64)
    torch.testing.assert_close(
        bargain(squares.diag()).weights, torch.tensor([0.25, 1.0], dtype=torch.float64)
    )
    # w^3 = 1 / 8^2 with p = 2 and a squared length of 64.
    torch.testing.assert_close(
        bargain(torch.tensor([[64.0]]), power=2.0).weights, torch.tensor([0.25])
    )


def test_no_agreement_is_reported_and_falls_back_to_the_shortest_combination():
    jacobian = zoo()["opposite"]
    weights, report = bargain(jacobian @ jacobian.mT)
    assert not report.converged
    assert report.fallback == "minimum-norm combination of normalised gradients"
    assert weights.min() > 0
    assert float((weights @ jacobian).norm()) < 1e-7
    # Total of the weights 1 / |g| of orthogonal gradients.
    assert float(weights.sum()) == pytest.approx(float((1 / jacobian.norm(dim=1)).sum()))


def test_rounding_is_not_taken_for_agreement():
    row = torch.randn(50, generator=torch.Generator().manual_seed(0))
    jacobian = torch.stack([row, -0.3 * row])
    weights, report = bargain(jacobian @ jacobian.mT)
    assert not report.converged
    assert float((weights @ jacobian).norm()) < 1e-5


def test_zero_rows_get_the_mean_weight():
    weights = bargain(torch.diag(torch.tensor([4.0, 0.0, 1.0]))).weights
    torch.testing.assert_close(weights, torch.tensor([0.5, 0.75, 1.0]))
    torch.testing.assert_close(bargain(torch.zeros(2, 2)).weights, torch.ones(2))


def test_batch_of_solvable_and_unsolvable_problems():
    grams = torch.stack([torch.eye(2), torch.tensor([[1.0, -1.0], [-1.0, 1.0]])]).double()
    weights, report = bargain(grams)
    assert not report.converged
    torch.testing.assert_close(weights, torch.ones(2, 2, dtype=torch.float64))


@pytest.mark.parametrize("power", [0.0, -1.0, float("inf"), float("nan")])
def test_power_is_checked(power):
    with pytest.raises(ValueError, match="power"):
        bargain(torch.eye(2), power=power)
