"""Nash-MTL: the bargaining equations, clipping, no agreement."""

from __future__ import annotations

import pytest
import torch
from tests.solvers.zoo import gaussian

from polytask.balancers import NashMTL


def test_two_tasks_by_hand():
    gram = torch.diag(torch.tensor([4.0, 0.25]))
    torch.testing.assert_close(NashMTL().weights(gram), torch.tensor([0.5, 2.0]))


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_length_is_the_root_of_the_number_of_tasks(scale):
    direction = NashMTL().combine(scale * gaussian(5, 8, seed=1))
    assert float(direction.norm()) == pytest.approx(5**0.5)


@pytest.mark.parametrize("ratio", [1.0, 1e-3, 1e-6])
def test_every_task_gains(ratio):
    jacobian = gaussian(4, 6, seed=3, spread=ratio)
    direction = NashMTL().combine(jacobian)
    assert float((jacobian @ direction).min()) > 0


def test_it_maximises_the_product_of_gains():
    jacobian = gaussian(3, 5, seed=4)
    direction = NashMTL().combine(jacobian)
    product = (jacobian @ direction).log().sum()
    noise = direction + 0.3 * torch.randn(2000, 5, dtype=torch.float64)
    others = noise * (direction.norm() / noise.norm(dim=1, keepdim=True))
    gains = others @ jacobian.mT
    products = gains[(gains > 0).all(dim=1)].log().sum(dim=1)
    assert len(products) > 100
    assert float(product) >= float(products.max())


def test_clipping():
    jacobian = gaussian(4, 6, seed=3)
    clipped = NashMTL(max_norm=1.0).combine(jacobian)
    torch.testing.assert_close(clipped, NashMTL().combine(jacobian) / 2)
    torch.testing.assert_close(NashMTL(max_norm=3.0).combine(jacobian), NashMTL().combine(jacobian))


def test_opposite_gradients_stop_the_trunk_and_are_reported():
    balancer = NashMTL()
    direction = balancer.combine(torch.tensor([[1.0, 2.0], [-3.0, -6.0]], dtype=torch.float64))
    assert float(direction.norm()) < 1e-7
    assert balancer.notes["converged"] is False
    assert "minimum-norm" in str(balancer.notes["fallback"])


def test_bad_arguments():
    with pytest.raises(ValueError, match=r"`max_norm` must be > 0 or None, found 0\.0"):
        NashMTL(max_norm=0.0)
