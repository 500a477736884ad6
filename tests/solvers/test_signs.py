"""Purity and sign dropout by hand."""

from __future__ import annotations

import torch

from polytask.solvers import drop_signs, sign_purity


def test_purity_by_hand():
    gradients = torch.tensor([[1.0, 3.0, 0.0, -2.0], [1.0, -1.0, 0.0, -1.0]])
    torch.testing.assert_close(sign_purity(gradients), torch.tensor([1.0, 0.75, 0.5, 0.0]))


def test_one_sign_survives_per_coordinate():
    gradients = torch.tensor([[3.0, 3.0], [-1.0, -1.0]])
    purity = sign_purity(gradients)
    noise = torch.tensor([0.7, 0.8])
    kept = drop_signs(gradients, purity, noise, torch.zeros(2))
    torch.testing.assert_close(kept, torch.tensor([3.0, -1.0]))


def test_a_leak_of_one_is_the_sum():
    gradients = torch.randn(3, 4, 6)
    out = drop_signs(gradients, sign_purity(gradients), torch.rand(3, 6), torch.ones(4))
    torch.testing.assert_close(out, gradients.sum(dim=1))


def test_leak_by_hand():
    gradients = torch.tensor([[3.0], [-1.0]])
    out = drop_signs(gradients, torch.tensor([0.75]), torch.tensor([0.5]), torch.tensor([0.0, 0.2]))
    torch.testing.assert_close(out, torch.tensor([2.8]))


def test_expectation_of_the_mask_is_the_purity():
    gradients = torch.tensor([[3.0], [-1.0]]).expand(20000, 2, 1)
    noise = torch.rand(20000, 1, generator=torch.Generator().manual_seed(0))
    out = drop_signs(gradients, sign_purity(gradients), noise, torch.zeros(2))
    # 0.75 * 3 - 0.25 * 1, standard error 0.012.
    assert abs(float(out.mean()) - 2.0) < 0.05
