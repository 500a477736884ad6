"""Krum: neighbours by hand, outliers."""

from __future__ import annotations

import pytest
import torch

from polytask.balancers import Krum


def test_the_outlier_is_ignored():
    jacobian = torch.tensor([[1.0], [1.1], [1.3], [9.0]])
    balancer = Krum(num_selected=2)
    # One neighbour each: squared distances 0.01, 0.01, 0.04, 59.29.
    scores = balancer.scores(jacobian @ jacobian.mT)
    torch.testing.assert_close(
        scores, torch.tensor([0.01, 0.01, 0.04, 59.29]), rtol=1e-4, atol=1e-5
    )
    torch.testing.assert_close(balancer.combine(jacobian), torch.tensor([1.05]))


def test_identical_gradients_are_their_own_mean():
    jacobian = torch.ones(5, 3)
    torch.testing.assert_close(Krum(num_selected=3).combine(jacobian), torch.ones(3))


def test_bad_arguments():
    with pytest.raises(ValueError, match="num_outliers"):
        Krum(num_outliers=-1)
    with pytest.raises(ValueError, match="num_selected"):
        Krum(num_selected=0)
    with pytest.raises(ValueError, match="at least 4 tasks, found 3"):
        Krum().weights(torch.eye(3))
