"""Choosing one sign per coordinate when task gradients disagree.

Shape legend: T tasks, P coordinates, B batch.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["drop_signs", "sign_purity"]


def sign_purity(gradients: Tensor) -> Tensor:
    """How positive the gradients of a coordinate are: ``1/2 (1 + sum_i g_i / sum_i |g_i|)``.

    Args:
        gradients: ``[..., T, P]``.

    Returns:
        ``[..., P]`` in [0, 1]; 1/2 where all gradients are zero.

    Cost: O(T P).

    References:
        Chen, Ngiam, Huang, Luong, Kretzschmar, Chai, Anguelov. Just pick a sign: optimizing deep
        multitask models with gradient sign dropout. NeurIPS 2020, equation 1.
        https://arxiv.org/abs/2010.06808
    """
    total = gradients.abs().sum(dim=-2)
    ratio = gradients.sum(dim=-2) / torch.where(total > 0, total, torch.ones_like(total))
    return 0.5 * (1 + ratio.clamp(-1, 1))


def drop_signs(gradients: Tensor, purity: Tensor, noise: Tensor, leak: Tensor) -> Tensor:
    """The sum of the gradients after one sign per coordinate was dropped.

    Positive entries survive where ``purity > noise`` and negative ones where ``purity < noise``; of
    the others task ``i`` keeps the share ``leak_i``.

    Args:
        gradients: ``[..., T, P]``.
        purity: ``[..., P]``, from ``sign_purity``.
        noise: Uniform in [0, 1), ``[..., P]``.
        leak: ``[T]`` in [0, 1].

    Returns:
        ``[..., P]``.

    Cost: O(T P).

    References:
        As ``sign_purity``, algorithm 1.
    """
    keep_positive = (purity > noise).unsqueeze(-2)
    keep_negative = (purity < noise).unsqueeze(-2)
    kept = torch.where(gradients > 0, keep_positive, keep_negative & (gradients < 0))
    share = leak.to(gradients).unsqueeze(-1)
    return (gradients * (share + (1 - share) * kept)).sum(dim=-2)
