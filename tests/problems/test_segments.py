"""Sums over segments, against sums by hand and by a loop."""

from __future__ import annotations

import pytest
import torch

from polytask.problems.segments import lookup_sum, segment_sum

# Empty segments at the start, in the middle and at the end.
SEGMENTS = torch.tensor([1, 1, 1, 3, 4, 4])
COUNT = 6


@pytest.mark.parametrize("shape", [(), (2,), (3, 2)])
def test_segment_sum_equals_a_loop(shape):
    values = torch.randn(6, *shape, dtype=torch.float64, requires_grad=True)
    expected = torch.stack([values[s == SEGMENTS].sum(0) for s in range(COUNT)])
    found = segment_sum(values, SEGMENTS, COUNT)
    torch.testing.assert_close(found, expected)
    weight = torch.randn_like(found)
    gradients = [
        torch.autograd.grad((sums * weight).sum(), values)[0] for sums in (found, expected)
    ]
    torch.testing.assert_close(*gradients)


def test_without_entries_every_sum_is_zero():
    none = torch.zeros(0, dtype=torch.int64)
    assert segment_sum(torch.zeros(0, 3), none, 2).tolist() == [[0.0] * 3] * 2
    assert lookup_sum(torch.ones(4, 3), none, none, 2).tolist() == [[0.0] * 3] * 2


@pytest.mark.parametrize("weighted", [False, True])
def test_lookup_sum_equals_a_loop(weighted):
    table = torch.randn(3, 2, dtype=torch.float64, requires_grad=True)
    weights = torch.randn(6, dtype=torch.float64, requires_grad=True) if weighted else None
    indices = torch.tensor([2, 0, 2, 1, 1, 1])
    rows = table[indices] if weights is None else table[indices] * weights.unsqueeze(1)
    expected = torch.stack([rows[s == SEGMENTS].sum(0) for s in range(COUNT)])
    found = lookup_sum(table, indices, SEGMENTS, COUNT, weights=weights)
    torch.testing.assert_close(found, expected)
    leaves = [table] if weights is None else [table, weights]
    for one, other in zip(
        torch.autograd.grad(found.square().sum(), leaves),
        torch.autograd.grad(expected.square().sum(), leaves),
        strict=True,
    ):
        torch.testing.assert_close(one, other)
