"""Sequential projections on coefficients against the same on vectors."""

from __future__ import annotations

import pytest
import torch
from tests.solvers.zoo import SCALES, gaussian, zoo

from polytask.solvers import project_conflicts, random_orders, vaccinate


def project_vectors(jacobian, orders):
    """The loop over tasks and vectors, as the paper's algorithm prints it."""
    projected = jacobian.clone()
    for task, order in enumerate(orders.tolist()):
        for other in order:
            inner = projected[task] @ jacobian[other]
            if inner < 0:
                projected[task] -= inner / (jacobian[other] @ jacobian[other]) * jacobian[other]
    return projected


@pytest.mark.parametrize("name", zoo())
@pytest.mark.parametrize("scale", SCALES)
def test_coefficients_equal_vectors(name, scale):
    jacobian = scale * zoo()[name]
    orders = random_orders(len(jacobian), generator=torch.Generator().manual_seed(1))
    found = project_conflicts(jacobian @ jacobian.mT, orders) @ jacobian
    expected = project_vectors(jacobian, orders)
    atol = 1e-12 * float(jacobian.norm())
    torch.testing.assert_close(found, expected, rtol=0, atol=atol)


def test_orders_are_permutations_of_the_others():
    orders = random_orders(5, generator=torch.Generator().manual_seed(0), batch=(7,))
    assert orders.shape == (7, 5, 4)
    for row in range(5):
        others = [task for task in range(5) if task != row]
        assert (orders[:, row].sort(dim=-1).values == torch.tensor(others)).all()
    again = random_orders(5, generator=torch.Generator().manual_seed(0), batch=(7,))
    assert torch.equal(orders, again)
    assert random_orders(1).shape == (1, 0)


def test_orders_are_uniform():
    orders = random_orders(3, generator=torch.Generator().manual_seed(0), batch=(4000,))
    first = (orders[:, 0, 0] == 1).double().mean()
    # Standard error 0.008.
    assert abs(float(first) - 0.5) < 0.04


def test_batch_equals_the_loop():
    grams = torch.stack([(j := gaussian(5, 7, seed=seed)) @ j.mT for seed in range(3)])
    orders = random_orders(5, generator=torch.Generator().manual_seed(1), batch=(3,))
    single = [project_conflicts(gram, order) for gram, order in zip(grams, orders, strict=True)]
    torch.testing.assert_close(project_conflicts(grams, orders), torch.stack(single))


def test_vaccinated_gradients_reach_the_target_cosine():
    jacobian = gaussian(2, 6, seed=1)
    orders = torch.tensor([[1], [0]])
    targets = torch.full((2, 2), 0.8, dtype=torch.float64)
    coefficients, moved = vaccinate(jacobian @ jacobian.mT, orders, targets, beta=0.25)
    changed = coefficients @ jacobian
    cosine = torch.nn.functional.cosine_similarity
    before = cosine(jacobian[0], jacobian[1], dim=0)
    assert float(before) < 0.8
    assert float(cosine(changed[0], jacobian[1], dim=0)) == pytest.approx(0.8)
    assert float(moved[0, 1]) == pytest.approx(0.75 * 0.8 + 0.25 * float(before))
    assert float(moved[0, 0]) == 0.8


def test_targets_of_zero_make_the_projections_of_pcgrad():
    jacobian = gaussian(6, 9, seed=2)
    gram = jacobian @ jacobian.mT
    orders = random_orders(6, generator=torch.Generator().manual_seed(2))
    coefficients, targets = vaccinate(gram, orders, torch.zeros_like(gram), beta=0.0)
    torch.testing.assert_close(coefficients, project_conflicts(gram, orders))
    assert torch.equal(targets, torch.zeros_like(gram))


@pytest.mark.parametrize("name", zoo())
def test_awkward_gradients_are_vaccinated_to_finite_ones(name):
    jacobian = zoo()[name]
    gram = jacobian @ jacobian.mT
    orders = random_orders(len(gram), generator=torch.Generator().manual_seed(3))
    targets = torch.zeros_like(gram)
    for _ in range(5):
        coefficients, targets = vaccinate(gram, orders, targets, beta=1.0)
        assert bool(coefficients.isfinite().all())
        assert float(targets.abs().max()) <= 1


def test_arguments_are_checked():
    with pytest.raises(ValueError, match="orders"):
        project_conflicts(torch.eye(3), torch.zeros(2, 1, dtype=torch.int64))
    with pytest.raises(ValueError, match="orders"):
        project_conflicts(torch.eye(2), torch.zeros(2, 1))
    with pytest.raises(ValueError, match="from 0 to 1"):
        project_conflicts(torch.eye(2), torch.full((2, 1), 2))
    with pytest.raises(ValueError, match="targets"):
        vaccinate(torch.eye(2), torch.tensor([[1], [0]]), torch.zeros(3, 3), beta=0.1)
    with pytest.raises(ValueError, match="num_tasks"):
        random_orders(0)
