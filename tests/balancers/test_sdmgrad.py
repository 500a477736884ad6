"""SDMGrad: minimum-norm limit, regularisation, state, three batches."""

from __future__ import annotations

import pytest
import torch
from tests.solvers.zoo import gaussian

from polytask.balancers import MGDA, GradientOptions, SDMGrad


def test_without_regularisation_it_arrives_at_the_minimum_norm():
    jacobian = gaussian(3, 6, seed=1)
    gram = jacobian @ jacobian.mT
    weights = SDMGrad(lam=0.0, iterations=5000, step_size=0.2).weights(gram)
    torch.testing.assert_close(weights, MGDA().weights(gram), rtol=0, atol=1e-6)


def test_strong_regularisation_is_the_mean():
    weights = SDMGrad(lam=1e6).weights(torch.diag(torch.tensor([1.0, 4.0])))
    torch.testing.assert_close(weights, torch.full((2,), 0.5), rtol=0, atol=1e-5)


@pytest.mark.parametrize("scale", [1e-6, 1e6])
def test_scale_does_not_matter(scale):
    jacobian = gaussian(3, 6, seed=2)
    gram = jacobian @ jacobian.mT
    torch.testing.assert_close(SDMGrad().weights(scale**2 * gram), SDMGrad().weights(gram))


def test_weights_go_on_from_the_last_step_and_are_saved():
    gram = torch.diag(torch.tensor([1.0, 4.0], dtype=torch.float64))
    balancer = SDMGrad(iterations=1, step_size=0.1)
    first = balancer.weights(gram)
    resumed = SDMGrad(iterations=1, step_size=0.1)
    resumed.setup(2)
    resumed.load_state_dict(balancer.state_dict())
    second = balancer.weights(gram)
    assert not torch.equal(first, second)
    assert torch.equal(resumed.weights(gram), second)


def test_absent_tasks_keep_their_share():
    balancer = SDMGrad(lam=0.0)
    balancer.setup(3)
    balancer.weights(torch.diag(torch.tensor([1.0, 4.0])), tasks=torch.tensor([0, 2]))
    weights = balancer.simplex_weights
    assert float(weights[1]) == pytest.approx(1 / 3)
    assert float(weights.sum()) == pytest.approx(1)


def test_three_batches_in_a_step():
    torch.manual_seed(0)
    trunk, heads = torch.nn.Linear(4, 5).double(), torch.nn.Linear(5, 3).double()
    inputs = torch.randn(3, 8, 4, dtype=torch.float64)
    losses = heads(trunk(inputs).tanh()).square().mean(dim=1)
    rows = [
        torch.cat(
            [g.flatten() for g in torch.autograd.grad(loss, trunk.parameters(), retain_graph=True)]
        )
        for loss in losses.flatten()
    ]
    first, second, third = torch.stack(rows).reshape(3, 3, -1)
    expected = SDMGrad().weights(first @ second.mT)
    balancer = SDMGrad()
    weights = balancer.backward(losses, shared=trunk.parameters())
    torch.testing.assert_close(weights, expected)
    found = torch.cat([parameter.grad.flatten() for parameter in trunk.parameters()])
    torch.testing.assert_close(found, expected @ third)


def test_bad_arguments():
    with pytest.raises(ValueError, match="lam"):
        SDMGrad(lam=-1.0)
    with pytest.raises(ValueError, match="iterations"):
        SDMGrad(iterations=0)
    with pytest.raises(ValueError, match="step_size"):
        SDMGrad(step_size=0.0)
    with pytest.raises(ValueError, match="scope"):
        SDMGrad(gradients=GradientOptions(scope="features"))
