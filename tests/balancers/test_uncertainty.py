"""Uncertainty weighting and IMTL-L: their optima, and where likelihoods come from."""

from __future__ import annotations

import pytest
import torch

from polytask.balancers import IMTLL, UncertaintyWeighting
from polytask.tasks import Binary, Depth, Multiclass, Normals, Regression


def minimise(balancer, losses, parameter):
    optimizer = torch.optim.Adam([parameter], lr=0.05)
    for _ in range(1000):
        optimizer.zero_grad()
        balancer.backward(losses.clone().requires_grad_() * 1)
        optimizer.step()


def test_noise_at_the_optimum_is_the_likelihoods_estimate():
    # d/ds: gaussian L = sigma^2, softmax 2 L = sigma^2, laplace L = scale.
    losses = torch.tensor([4.0, 0.5, 3.0])
    balancer = UncertaintyWeighting(likelihoods=("gaussian", "softmax", "laplace"))
    balancer.setup(3)
    minimise(balancer, losses, balancer.log_variances)
    scales = (balancer.log_variances / 2).exp().detach()
    assert torch.allclose(scales, torch.tensor([2.0, 1.0, 3.0]), rtol=1e-3)


def test_laplace_total_is_the_negative_log_likelihood():
    balancer = UncertaintyWeighting(likelihoods=("laplace", "laplace"), initial=1.2)
    balancer.setup(2)
    total, _ = balancer.objective(torch.tensor([0.7, 2.0]), torch.arange(2))
    scale = torch.tensor(1.2 / 2).exp()
    residuals = torch.tensor([0.7, 2.0])
    wanted = -torch.distributions.Laplace(torch.zeros(2), scale).log_prob(residuals).sum()
    assert torch.allclose(total, wanted)


def test_likelihoods_come_from_the_kinds():
    kinds = [Regression(), Binary(), Multiclass(num_classes=3), Depth(), Normals()]
    balancer = UncertaintyWeighting()
    balancer.setup(5, kinds=kinds)
    assert balancer.weights(torch.ones(5)).tolist() == [0.5, 1, 1, 1, 1]
    balancer.log_variances.data.fill_(2.0)
    weights = balancer.weights(torch.ones(5))
    assert weights[3] == pytest.approx(torch.tensor(-1.0).exp().item())
    assert weights[1] == pytest.approx(torch.tensor(-2.0).exp().item())


def test_absent_tasks_keep_their_noise():
    balancer = UncertaintyWeighting()
    balancer.setup(3)
    balancer.backward(torch.ones(2, requires_grad=True) * 1, tasks=[0, 2])
    gradient = balancer.log_variances.grad
    assert gradient[1] == 0
    assert (gradient[[0, 2]] == 0).all()  # exp(0) L / 2 = 1 / 2 at L = 1: the optimum
    balancer.backward(torch.full((2,), 4.0).requires_grad_() * 1, tasks=[0, 2])
    assert (balancer.log_variances.grad[[0, 2]] < 0).all()


def test_likelihoods_are_checked():
    with pytest.raises(ValueError, match="`likelihoods` must be"):
        UncertaintyWeighting(likelihoods=("gauss",))
    with pytest.raises(ValueError, match="names 1 tasks but the problem has 2"):
        UncertaintyWeighting(likelihoods=("gaussian",)).setup(2)


def test_imtl_l_brings_weighted_losses_to_one():
    losses = torch.tensor([0.01, 1.0, 50.0])
    balancer = IMTLL()
    balancer.setup(3)
    minimise(balancer, losses, balancer.log_scales)
    assert torch.allclose(balancer.weights(losses) * losses, torch.ones(3), rtol=1e-3)
