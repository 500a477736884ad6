"""Trimmed mean by hand."""

from __future__ import annotations

import pytest
import torch

from polytask.balancers import TrimmedMean


def test_extremes_are_dropped_per_coordinate():
    jacobian = torch.tensor([[1.0, 9.0], [2.0, 1.0], [30.0, 2.0]])
    torch.testing.assert_close(TrimmedMean().combine(jacobian), torch.tensor([2.0, 2.0]))


def test_without_trimming_it_is_the_mean():
    jacobian = torch.randn(4, 3)
    torch.testing.assert_close(TrimmedMean(trim=0).combine(jacobian), jacobian.mean(dim=0))


def test_bad_arguments():
    with pytest.raises(ValueError, match="trim"):
        TrimmedMean(trim=-1)
    with pytest.raises(ValueError, match="more than 2 tasks, found 2"):
        TrimmedMean().combine(torch.zeros(2, 3))
