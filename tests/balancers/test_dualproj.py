"""DualProj: the projected mean by hand, true non-conflict."""

from __future__ import annotations

import pytest
import torch
from tests.solvers.zoo import gaussian

from polytask.balancers import DualProj


def test_two_tasks_by_hand():
    # The mean (-1, 1/2) loses its part along (1, 0).
    direction = DualProj().combine(torch.tensor([[1.0, 0.0], [-3.0, 1.0]]))
    torch.testing.assert_close(direction, torch.tensor([0.0, 0.5]))


def test_a_harmless_mean_stays():
    jacobian = torch.tensor([[1.0, 0.0], [-0.5, 1.0]])
    torch.testing.assert_close(DualProj().combine(jacobian), jacobian.mean(dim=0))


@pytest.mark.parametrize("ratio", [1.0, 1e-3, 1e-6])
def test_no_task_is_hurt(ratio):
    jacobian = gaussian(6, 9, seed=4, spread=ratio)
    jacobian = jacobian - 0.8 * jacobian.mean(dim=0)
    direction = DualProj().combine(jacobian)
    cosines = (jacobian @ direction) / (jacobian.norm(dim=1) * direction.norm())
    assert float(cosines.min()) > -1e-9


def test_preference_chooses_what_is_projected():
    jacobian = torch.tensor([[1.0, 0.0], [-3.0, 1.0]])
    direction = DualProj(preference=[1.0, 0.0]).combine(jacobian)
    # (1, 0) loses its part along (-3, 1).
    torch.testing.assert_close(direction, torch.tensor([0.1, 0.3]))


def test_bad_arguments():
    with pytest.raises(ValueError, match="preference"):
        DualProj(preference=[])
