"""MGDA: normalisations, the theorem of common descent, the solver of the paper."""

from __future__ import annotations

import pytest
import torch
from tests.solvers.zoo import gaussian

from polytask.balancers import MGDA


def test_two_tasks_by_hand():
    # Shortest point of the segment from (1, 0) to (0, 2).
    direction = MGDA().combine(torch.tensor([[1.0, 0.0], [0.0, 2.0]]))
    torch.testing.assert_close(direction, torch.tensor([0.8, 0.4]))


@pytest.mark.parametrize("seed", range(5))
def test_every_task_gains_at_least_the_squared_length(seed):
    jacobian = gaussian(6, 10, seed=seed, spread=1e-3)
    direction = MGDA().combine(jacobian)
    square = float(direction @ direction)
    assert float((jacobian @ direction).min()) >= square * (1 - 1e-9)


def test_stationary_points_stay():
    jacobian = torch.tensor([[1.0, 0.0], [-0.5, 1.0], [-0.5, -1.0]], dtype=torch.float64)
    assert float(MGDA().combine(jacobian).norm()) < 1e-12


def test_normalisation_by_length_weighs_orthogonal_gradients_equally():
    gram = torch.diag(torch.tensor([1.0, 100.0, 1e-4], dtype=torch.float64))
    weights = MGDA(normalisation="l2").weights(gram)
    torch.testing.assert_close(weights, torch.full((3,), 1 / 3, dtype=torch.float64))


def test_normalisation_by_loss_by_hand():
    # Gradients of length 1 and 2 over losses of 1 and 4: lengths 1 and 1/2.
    gram = torch.diag(torch.tensor([1.0, 4.0]))
    weights = MGDA(normalisation="loss").weights(gram, torch.tensor([1.0, 4.0]))
    torch.testing.assert_close(weights, torch.tensor([0.2, 0.8]))
    both = MGDA(normalisation="loss+").weights(gram, torch.tensor([1.0, 4.0]))
    # Over L |g| the lengths are 1 and 1/4.
    torch.testing.assert_close(both, torch.tensor([1 / 17, 16 / 17]))


@pytest.mark.parametrize("normalisation", ["none", "l2", "loss", "loss+"])
@pytest.mark.parametrize("scale", [1e-6, 1e6])
def test_scale_of_the_losses_does_not_matter(normalisation, scale):
    jacobian = gaussian(4, 8, seed=1)
    losses = torch.tensor([0.5, 2.0, 1.0, 4.0], dtype=torch.float64)
    balancer = MGDA(normalisation=normalisation)
    weights = balancer.weights(jacobian @ jacobian.mT, losses)
    scaled = balancer.weights(scale**2 * (jacobian @ jacobian.mT), scale * losses)
    torch.testing.assert_close(scaled, weights, rtol=1e-9, atol=1e-12)


def test_losses_of_zero_and_gradients_of_zero_do_not_divide_by_zero():
    gram = torch.diag(torch.tensor([1.0, 0.0, 1.0]))
    losses = torch.tensor([1.0, 0.0, 0.0])
    for normalisation in ("l2", "loss", "loss+"):
        weights = MGDA(normalisation=normalisation).weights(gram, losses)
        assert bool(weights.isfinite().all())


def test_frank_wolfe_is_close_and_reports():
    gram = torch.diag(torch.tensor([1.0, 4.0]))
    balancer = MGDA(solver="frank_wolfe")
    torch.testing.assert_close(balancer.weights(gram), torch.tensor([0.8, 0.2]))
    assert balancer.notes["converged"] is True


def test_bad_arguments():
    with pytest.raises(ValueError, match="normalisation"):
        MGDA(normalisation="l1")
    with pytest.raises(ValueError, match="solver"):
        MGDA(solver="cvxpy")
    with pytest.raises(ValueError, match="needs losses"):
        MGDA(normalisation="loss").weights(torch.eye(2))
    with pytest.raises(ValueError, match="needs losses >= 0"):
        MGDA(normalisation="loss").weights(torch.eye(2), torch.tensor([1.0, -1.0]))
