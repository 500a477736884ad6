"""FairGrad: the equations, the limits of alpha."""

from __future__ import annotations

import pytest
import torch
from tests.solvers.zoo import gaussian

from polytask.balancers import MGDA, FairGrad, NashMTL


def test_two_tasks_by_hand():
    # w^(3/2) = 1 / |g|^2 for alpha = 2.
    gram = torch.diag(torch.tensor([64.0, 1.0]))
    torch.testing.assert_close(FairGrad(alpha=2.0).weights(gram), torch.tensor([0.0625, 1.0]))


def test_alpha_of_one_is_nash():
    jacobian = gaussian(4, 6, seed=1)
    torch.testing.assert_close(FairGrad(alpha=1.0).combine(jacobian), NashMTL().combine(jacobian))


def test_a_small_alpha_approaches_the_sum():
    jacobian = gaussian(3, 6, seed=2)
    direction = FairGrad(alpha=0.01).combine(jacobian)
    # The weights are gains^(-alpha), up to a common factor.
    cosine = torch.nn.functional.cosine_similarity(direction, jacobian.sum(dim=0), dim=0)
    assert float(cosine) > 0.999


def test_a_large_alpha_approaches_the_minimum_norm():
    jacobian = gaussian(3, 6, seed=2)
    direction = FairGrad(alpha=500.0).combine(jacobian)
    cosine = torch.nn.functional.cosine_similarity(direction, MGDA().combine(jacobian), dim=0)
    assert float(cosine) > 0.999


@pytest.mark.parametrize("alpha", [0.5, 1.0, 2.0, 5.0])
@pytest.mark.parametrize("scale", [1e-6, 1e6])
def test_scale_changes_the_length_by_the_stated_power(alpha, scale):
    jacobian = gaussian(4, 6, seed=3, spread=100.0)
    gram = jacobian @ jacobian.mT
    weights = FairGrad(alpha=alpha).weights(gram)
    scaled = FairGrad(alpha=alpha).weights(scale**2 * gram)
    torch.testing.assert_close(scaled, weights * scale ** (-2 * alpha / (1 + alpha)))


@pytest.mark.parametrize("alpha", [0.0, -1.0, float("inf"), float("nan")])
def test_bad_arguments(alpha):
    with pytest.raises(ValueError, match="alpha"):
        FairGrad(alpha=alpha)
