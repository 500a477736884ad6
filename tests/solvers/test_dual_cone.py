"""Projection on the dual cone: optimality conditions on every sort of gradients."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tests.solvers.zoo import SCALES, gaussian, zoo

from polytask.solvers import project_dual_cone
from polytask.solvers.nonnegative import _lawson_hanson, solve_nonnegative


def check_optimality(jacobian, coefficients, projected):
    """``y = J'(u + v)`` with ``v >= 0``, ``J y >= 0`` and ``v . J y = 0``, free of scales."""
    lengths = jacobian.norm(dim=1)
    extra = (projected - coefficients) * lengths
    points = projected @ jacobian
    longest = max(float((coefficients.abs() * lengths).max()), 1e-300)
    slack = points @ jacobian.mT / lengths.clamp(min=1e-300)
    assert float(extra.min()) >= 0
    assert float(slack.min()) >= -1e-7 * longest
    assert float((extra * slack).abs().max()) <= 1e-6 * longest**2


@pytest.mark.parametrize("name", zoo())
@pytest.mark.parametrize("scale", SCALES)
def test_conditions_hold_at_every_scale(name, scale):
    jacobian = scale * zoo()[name]
    eye = torch.eye(len(jacobian), dtype=torch.float64)
    solution = project_dual_cone(jacobian @ jacobian.mT, eye)
    assert solution.report.converged
    check_optimality(jacobian, eye, solution.weights)


@pytest.mark.parametrize("width", [0.5, 3.0])
def test_conditions_hold_for_a_hundred_tasks(width):
    jacobian = gaussian(100, int(100 * width), seed=1, spread=10.0)
    eye = torch.eye(100, dtype=torch.float64)
    solution = project_dual_cone(jacobian @ jacobian.mT, eye)
    assert solution.report.converged
    check_optimality(jacobian, eye, solution.weights)


def test_two_gradients_by_hand():
    jacobian = torch.tensor([[1.0, 0.0], [-1.0, 1.0]], dtype=torch.float64)
    projected = project_dual_cone(jacobian @ jacobian.mT, torch.eye(2, dtype=torch.float64))
    # (1, 0) loses its part along (-1, 1); (-1, 1) loses its part along (1, 0).
    expected = torch.tensor([[0.5, 0.5], [0.0, 1.0]], dtype=torch.float64)
    torch.testing.assert_close(projected.weights @ jacobian, expected, rtol=0, atol=1e-14)


def test_harmless_vectors_stay():
    jacobian = torch.tensor([[1.0, 0.5], [0.5, 1.0]], dtype=torch.float64)
    eye = torch.eye(2, dtype=torch.float64)
    assert torch.equal(project_dual_cone(jacobian @ jacobian.mT, eye).weights, eye)


def test_single_precision_agrees_with_double():
    jacobian = gaussian(8, 30, seed=5)
    gram = jacobian @ jacobian.mT
    eye = torch.eye(8, dtype=torch.float64)
    exact = project_dual_cone(gram, eye).weights
    rough = project_dual_cone(gram.float(), eye.float()).weights
    torch.testing.assert_close(rough.double(), exact, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_singular_blocks_of_small_problems(dtype):
    jacobian = torch.tensor([[1.0], [-1.0], [1.0], [-2.0]], dtype=dtype)
    solution = project_dual_cone(jacobian @ jacobian.mT, torch.eye(4, dtype=dtype))
    assert solution.report.converged
    torch.testing.assert_close(
        solution.weights @ jacobian, torch.zeros(4, 1, dtype=dtype), rtol=0, atol=1e-5
    )


def test_batch_equals_the_loop():
    grams = torch.stack([(j := gaussian(4, 7, seed=seed)) @ j.mT for seed in range(4)])
    sides = torch.rand(4, 2, 4, dtype=torch.float64)
    batch = project_dual_cone(grams, sides).weights
    single = torch.stack(
        [project_dual_cone(gram, side).weights for gram, side in zip(grams, sides, strict=True)]
    )
    torch.testing.assert_close(batch, single)


def test_shapes_are_checked():
    with pytest.raises(ValueError, match="coefficients"):
        project_dual_cone(torch.eye(3), torch.ones(1, 2))


def test_the_safe_method_agrees_with_block_exchanges():
    generator = np.random.default_rng(0)
    for size in (1, 3, 8, 20):
        rows = generator.normal(size=(size, size + 2))
        matrix = rows @ rows.T
        matrix /= np.sqrt(np.diag(matrix))[:, None] * np.sqrt(np.diag(matrix))
        target = generator.normal(size=(1, size))
        fast, _, residual = solve_nonnegative(matrix[None], target, target > 0, 2e-16)
        safe, _ = _lawson_hanson(matrix, target[0], np.zeros(size))
        assert residual < 1e-12
        np.testing.assert_allclose(fast[0], safe, atol=1e-9)
