"""Losses that can replace a kind's own: ``Task(..., loss=squared_hinge)``."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["squared_hinge"]


def squared_hinge(output: Tensor, target: Tensor) -> Tensor:
    """sum_c max(0, 1 - (2 t_c - 1) p_c)^2: every class is a number of its own that should be at
    least 1 where the class applies and at most -1 elsewhere.

    The loss of the Traveling Observer Model for classes. Each class is judged by itself, so its
    output is a variable like any other, where cross-entropy needs all classes of a task at once.
    The prediction stays the largest output (for a yes/no target, whether its one output is above
    0); probabilities are not what the outputs mean.

    Args:
        output: p, ``[..., C]``, or ``[..., 1]`` for a yes/no target. A class padded with -inf has
            no part in it.
        target: Classes ``[...]``.

    Returns:
        Losses ``[...]``.

    Example:
        >>> squared_hinge(torch.tensor([[2.0, -0.5, -1.0]]), torch.tensor([0]))
        tensor([0.2500])

    References:
        E. Meyerson, R. Miikkulainen, The Traveling Observer Model, ICLR 2021,
        https://arxiv.org/abs/2010.02354, appendix (classification).
    """
    index = target.long().unsqueeze(-1)
    if output.shape[-1] == 1:
        applies = index.expand_as(output) == 1
    else:
        classes = torch.arange(output.shape[-1], device=output.device)
        applies = index == classes
    # The gradient of (1 + p)^2 at p = -inf is not finite times 0, so padding leaves before it.
    output = torch.where(torch.isneginf(output), -1, output)
    margin = torch.where(applies, output, -output)
    return (1 - margin).clamp_min(0).square().sum(-1)


#: Its outputs may be padded with -inf, see ``Task.padded_key``.
squared_hinge.takes_padding = True  # type: ignore[attr-defined]
