"""Aligned components, equal projections, equal cosines."""

from __future__ import annotations

import pytest
import torch
from tests.solvers.zoo import SCALES, gaussian, zoo

from polytask.solvers import align_components, conflict_free, equal_projections

REGULAR = ["two tasks", "nine tasks", "conflict", "orthogonal", "lengths from 1 to 1e-6"]


@pytest.mark.parametrize("name", REGULAR)
@pytest.mark.parametrize("scale", SCALES)
def test_projections_are_equal(name, scale):
    jacobian = scale * zoo()[name]
    weights = equal_projections(jacobian @ jacobian.mT)
    assert float(weights.sum()) == pytest.approx(1)
    projections = (jacobian @ (weights @ jacobian)) / jacobian.norm(dim=1)
    spread = projections.max() - projections.min()
    assert float(spread) <= 1e-9 * float(jacobian.norm(dim=1).max())


@pytest.mark.parametrize("name", REGULAR)
@pytest.mark.parametrize("scale", SCALES)
def test_cosines_are_equal_and_the_length_is_the_sum_of_projections(name, scale):
    jacobian = scale * zoo()[name]
    direction = conflict_free(jacobian @ jacobian.mT) @ jacobian
    unit = direction / direction.norm()
    cosines = (jacobian @ unit) / jacobian.norm(dim=1)
    torch.testing.assert_close(cosines, cosines[:1].expand_as(cosines), rtol=1e-8, atol=0)
    assert float(cosines[0]) > 0
    torch.testing.assert_close(direction.norm(), (jacobian @ unit).sum(), rtol=1e-8, atol=0)


@pytest.mark.parametrize("name", REGULAR[:4])
@pytest.mark.parametrize("scale", ["min", "median", "rmse"])
def test_aligned_matrix_has_equal_singular_values(name, scale):
    jacobian = zoo()[name]
    gram = jacobian @ jacobian.mT
    eye = torch.eye(len(gram), dtype=torch.float64)
    # The weights are linear in the preference: columns of B.
    matrix = torch.stack([align_components(gram, row, scale=scale) for row in eye], dim=1)
    singular = torch.linalg.svdvals(matrix @ jacobian)
    torch.testing.assert_close(singular, singular[:1].expand_as(singular), rtol=1e-8, atol=0)
    values = torch.linalg.eigvalsh(gram)
    target = {"min": values[0], "median": values[(len(values) - 1) // 2], "rmse": values.mean()}
    torch.testing.assert_close(singular[0] ** 2, target[scale], rtol=1e-8, atol=0)


@pytest.mark.parametrize("name", zoo())
@pytest.mark.parametrize("solve", [equal_projections, conflict_free])
def test_awkward_gradients_give_finite_weights(name, solve):
    jacobian = zoo()[name]
    assert bool(solve(jacobian @ jacobian.mT).isfinite().all())


def test_opposite_gradients_cancel():
    jacobian = zoo()["opposite"]
    gram = jacobian @ jacobian.mT
    # Equal projections on opposite directions are zero: weights inverse to the lengths.
    torch.testing.assert_close(
        equal_projections(gram), torch.tensor([2 / 3, 1 / 3], dtype=torch.float64)
    )
    assert torch.equal(conflict_free(gram), torch.zeros(2, dtype=torch.float64))


def test_identical_gradients_share_equally():
    gram = torch.full((3, 3), 2.0, dtype=torch.float64)
    third = torch.full((3,), 1 / 3, dtype=torch.float64)
    torch.testing.assert_close(equal_projections(gram), third)
    torch.testing.assert_close(conflict_free(gram), 3 * third)


def test_batches_equal_the_loop():
    grams = torch.stack([(j := gaussian(4, 7, seed=seed)) @ j.mT for seed in range(3)])
    ones = torch.ones(4, dtype=torch.float64)
    for solve in (equal_projections, conflict_free, lambda gram: align_components(gram, ones)):
        torch.testing.assert_close(solve(grams), torch.stack([solve(gram) for gram in grams]))


def test_scale_is_checked():
    with pytest.raises(ValueError, match="scale"):
        align_components(torch.eye(2), torch.ones(2), scale="max")
