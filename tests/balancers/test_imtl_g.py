"""IMTL-G: equal projections by hand and in the closed form of the paper."""

from __future__ import annotations

import pytest
import torch
from tests.solvers.zoo import gaussian

from polytask.balancers import IMTLG


def test_two_tasks_by_hand():
    # Weights inverse to the lengths of orthogonal gradients.
    gram = torch.diag(torch.tensor([1.0, 9.0]))
    torch.testing.assert_close(IMTLG().weights(gram), torch.tensor([0.75, 0.25]))


@pytest.mark.parametrize("num_tasks", [2, 3, 6])
def test_closed_form_of_the_paper(num_tasks):
    jacobian = gaussian(num_tasks, 9, seed=1)
    units = jacobian / jacobian.norm(dim=1, keepdim=True)
    u, d = units[0] - units[1:], jacobian[0] - jacobian[1:]
    rest = jacobian[0] @ u.mT @ torch.linalg.inv(d @ u.mT)
    expected = torch.cat([1 - rest.sum(dim=0, keepdim=True), rest])
    torch.testing.assert_close(IMTLG().weights(jacobian @ jacobian.mT), expected)


def test_lengths_do_not_change_the_direction():
    jacobian = gaussian(3, 6, seed=2)
    stretched = jacobian * torch.tensor([[1.0], [1e3], [1e-3]], dtype=torch.float64)
    cosine = torch.nn.functional.cosine_similarity(
        IMTLG().combine(jacobian), IMTLG().combine(stretched), dim=0
    )
    assert abs(float(cosine)) == pytest.approx(1)
