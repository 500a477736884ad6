"""The minimum-norm point: optimality, limits, scales, and the two approximations of the paper."""

from __future__ import annotations

import pytest
import torch
from tests.solvers.zoo import SCALES, gaussian, zoo

from polytask.solvers import min_norm, min_norm_frank_wolfe, min_norm_two


def gap(jacobian, weights):
    """Upper bound of the distance to the minimum norm, relative to the longest gradient."""
    point = weights @ jacobian
    longest = jacobian.norm(dim=1).max()
    # The point p is optimal if g . p >= p . p for all rows; the bound is Wolfe's.
    slack = (point @ point - (jacobian @ point).min()).clamp(min=0)
    return float(slack.sqrt() / longest) if longest > 0 else 0.0


@pytest.mark.parametrize("name", zoo())
@pytest.mark.parametrize("scale", SCALES)
def test_is_optimal_at_every_scale(name, scale):
    jacobian = scale * zoo()[name]
    solution = min_norm(jacobian @ jacobian.mT)
    assert solution.report.converged
    assert solution.weights.min() >= 0
    assert abs(float(solution.weights.sum()) - 1) < 1e-12
    assert gap(jacobian, solution.weights) < 3e-7


@pytest.mark.parametrize("num_tasks", [10, 40, 100])
@pytest.mark.parametrize("pull", [0.0, 0.5, 0.99])
@pytest.mark.parametrize("width", [0.5, 3.0])
def test_is_within_1e6_of_the_minimum_for_many_tasks(num_tasks, pull, width):
    jacobian = gaussian(num_tasks, int(width * num_tasks), seed=num_tasks, spread=10.0)
    jacobian = jacobian - pull * jacobian.mean(dim=0)
    solution = min_norm(jacobian @ jacobian.mT)
    point = solution.weights @ jacobian
    # Weak duality: min_i g_i . p / |p| bounds the minimum norm from below.
    below = (jacobian @ point).min() / point.norm()
    if point.norm() > 1e-6 * jacobian.norm(dim=1).max():
        assert float(point.norm() - below) <= 1e-6 * float(point.norm())


def test_two_orthogonal_gradients_by_hand():
    # Shortest point between (1, 0) and (0, 2): weights 4/5 and 1/5.
    weights = min_norm(torch.diag(torch.tensor([1.0, 4.0], dtype=torch.float64))).weights
    torch.testing.assert_close(weights, torch.tensor([0.8, 0.2], dtype=torch.float64))


def test_zero_gradients_share_the_weight():
    weights = min_norm(torch.diag(torch.tensor([0.0, 4.0, 0.0]))).weights
    torch.testing.assert_close(weights, torch.tensor([0.5, 0.0, 0.5]))


def test_lengths_that_differ_by_1e8_stay_exact():
    # For orthogonal gradients the weights are inverse squared lengths.
    squares = torch.tensor([1.0, 1e-8, 1e-16], dtype=torch.float64)
    expected = (1 / squares) / (1 / squares).sum()
    torch.testing.assert_close(min_norm(squares.diag()).weights, expected, rtol=1e-12, atol=0)


def test_batch_equals_the_loop_and_keeps_the_data_type():
    grams = torch.stack([(j := gaussian(4, 7, seed=seed)) @ j.mT for seed in range(6)])
    batch = min_norm(grams.reshape(2, 3, 4, 4).float()).weights
    assert batch.dtype == torch.float32
    assert batch.shape == (2, 3, 4)
    single = torch.stack([min_norm(gram).weights for gram in grams]).reshape(2, 3, 4)
    torch.testing.assert_close(batch.double(), single, rtol=0, atol=1e-5)


def test_permuting_tasks_permutes_weights():
    jacobian = gaussian(6, 9, seed=2)
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    weights = min_norm(jacobian @ jacobian.mT).weights
    permuted = min_norm(jacobian[order] @ jacobian[order].mT).weights
    torch.testing.assert_close(permuted, weights[order], rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("a", "b", "gamma"),
    [
        ((1.0, 0.0), (0.0, 2.0), 0.8),
        ((1.0, 0.0), (2.0, 0.0), 1.0),
        ((2.0, 0.0), (1.0, 0.0), 0.0),
        ((1.0, 1.0), (1.0, 1.0), 1.0),
        ((1.0, 0.0), (-3.0, 0.0), 0.75),
    ],
)
def test_segment_by_hand(a, b, gamma):
    a, b = torch.tensor(a), torch.tensor(b)
    assert float(min_norm_two(a @ a, a @ b, b @ b)) == pytest.approx(gamma)


def test_frank_wolfe_approaches_the_exact_point():
    jacobian = gaussian(3, 8, seed=3)
    gram = jacobian @ jacobian.mT
    approximate = min_norm_frank_wolfe(gram, max_iterations=20_000, tolerance=1e-7)
    exact = min_norm(gram).weights @ jacobian
    found = approximate.weights @ jacobian
    assert float(found.norm()) == pytest.approx(float(exact.norm()), rel=1e-3)


def test_frank_wolfe_reports_that_it_stopped_early():
    jacobian = gaussian(5, 8, seed=3)
    report = min_norm_frank_wolfe(jacobian @ jacobian.mT, max_iterations=1).report
    assert not report.converged
    assert report.fallback is not None


@pytest.mark.parametrize("gram", [torch.zeros(2, 3), torch.zeros(3), torch.zeros(0, 0)])
def test_shapes_are_checked(gram):
    with pytest.raises(ValueError, match="gram"):
        min_norm(gram)


def test_numbers_are_checked():
    with pytest.raises(ValueError, match="not finite"):
        min_norm(torch.tensor([[1.0, float("nan")], [float("nan"), 1.0]]))
    with pytest.raises(TypeError, match="int64"):
        min_norm(torch.eye(2, dtype=torch.int64))
    with pytest.raises(ValueError, match="max_iterations"):
        min_norm_frank_wolfe(torch.eye(2), max_iterations=0)
