"""Projection on the simplex and descent on it."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.solvers.zoo import gaussian

from polytask.solvers import descend_simplex, min_norm, project_simplex


def test_known_projections():
    points = torch.tensor([[0.5, 0.5], [2.0, 0.0], [1.0, 0.5], [-1.0, -1.0]])
    expected = torch.tensor([[0.5, 0.5], [1.0, 0.0], [0.75, 0.25], [0.5, 0.5]])
    torch.testing.assert_close(project_simplex(points), expected)


@given(st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=12))
def test_projection_satisfies_the_variational_inequality(values):
    point = torch.tensor(values, dtype=torch.float64)
    nearest = project_simplex(point)
    assert nearest.min() >= 0
    assert abs(float(nearest.sum()) - 1) < 1e-9
    # (x - p) . (v - p) <= 0 for every vertex v of the simplex.
    towards = point - nearest
    assert float(towards.max() - towards @ nearest) <= 1e-9 * max(1.0, float(point.abs().max()))


def test_a_large_common_shift_does_not_matter():
    point = torch.tensor([0.2, 0.7, -0.4], dtype=torch.float64)
    shifted = project_simplex(point + 2.0**40)
    torch.testing.assert_close(shifted, project_simplex(point), rtol=0, atol=1e-3)
    assert abs(float(shifted.sum()) - 1) < 1e-12


def test_projection_needs_a_coordinate():
    with pytest.raises(ValueError, match="point"):
        project_simplex(torch.zeros(2, 0))


def test_descent_arrives_at_the_minimum_norm_weights():
    jacobian = gaussian(4, 9, seed=1)
    gram = jacobian @ jacobian.mT
    start = torch.full((4,), 0.25, dtype=torch.float64)
    found = descend_simplex(gram, start, steps=4000, step_size=0.02)
    torch.testing.assert_close(found, min_norm(gram).weights, rtol=0, atol=1e-8)


def test_one_step_by_hand():
    gram = torch.tensor([[1.0, 0.0], [0.0, 3.0]])
    start = torch.tensor([0.5, 0.5])
    # start - 0.1 * (G start + (0.5, 0)) = (0.4, 0.35), projected.
    found = descend_simplex(gram, start, steps=1, step_size=0.1, pull=torch.tensor([0.5, 0.0]))
    torch.testing.assert_close(found, torch.tensor([0.525, 0.475]))


@pytest.mark.parametrize(
    "arguments",
    [
        {"steps": -1, "step_size": 1.0},
        {"steps": 1, "step_size": 0.0},
        {"steps": 1, "step_size": 1.0, "momentum": 1.0},
        {"steps": 1, "step_size": 1.0, "pull": torch.zeros(3)},
    ],
)
def test_descent_rejects_bad_arguments(arguments):
    with pytest.raises(ValueError, match="must"):
        descend_simplex(torch.eye(2), torch.tensor([0.5, 0.5]), **arguments)
