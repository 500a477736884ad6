"""The self-normalising network: deep plain layers for vectors, without batch normalisation."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor, nn

from polytask.encoders.base import Encoder, check_fraction, check_positive

__all__ = ["SNN"]


class SNN(Encoder):
    """Layers whose values keep mean 0 and variance 1 by themselves.

    h_0 = x;  h_i = alpha dropout(selu(W_i h_{i-1} + b_i)), with selu(u) = 1.0507 u for u > 0 and
    1.0507 * 1.6733 (exp(u) - 1) below. With inputs of mean 0 and variance 1 and weights of variance
    1 / (number of inputs), mean 0 and variance 1 are a stable fixed point of a layer, so that many
    layers train without normalisation. Alpha dropout sets values to selu's lower limit instead of 0
    and rescales, which keeps both moments.

    When to use it: one table of a few hundred to some thousand rows, and more than two or three
    layers. Inputs must be standardised.

    Args:
        input_size: Values per row.
        widths: Units of every layer; the last is ``output_size``.
        dropout: Probability of alpha dropout, in [0, 1); the paper tries 0 and 0.05.

    Shapes: inputs ``[B, input_size]``; features ``[B, widths[-1]]``.

    Raises:
        ValueError: an argument out of its range, or a row with another number of values.

    Cost: sum of width_i * width_{i-1} multiplications per row.

    Differences: the paper's networks for UCI-121 also come in a conic shape and are chosen by
        validation from 2 to 32 layers; here the widths are given.

    Example:
        >>> import torch
        >>> SNN(input_size=4, widths=(16, 16, 8))(torch.randn(3, 4)).shape
        torch.Size([3, 8])

    References:
        G. Klambauer, T. Unterthiner, A. Mayr, S. Hochreiter, Self-Normalizing Neural Networks,
        NeurIPS 2017, https://arxiv.org/abs/1706.02515, equations 1-2 and section "New dropout
        technique".
    """

    def __init__(
        self, *, input_size: int, widths: Sequence[int] = (128, 128, 128, 128), dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.input_size = check_positive("input_size", input_size)
        self.widths = tuple(check_positive("widths", width) for width in widths)
        if not self.widths:
            raise ValueError("`widths` must name at least one layer, found none.")
        self.dropout = check_fraction("dropout", dropout)
        self.output_size = self.widths[-1]
        self.layers = nn.Sequential()
        for before, after in zip((self.input_size, *self.widths), self.widths, strict=False):
            linear = nn.Linear(before, after)
            nn.init.normal_(linear.weight, std=1 / math.sqrt(before))
            nn.init.zeros_(linear.bias)
            self.layers.extend([linear, nn.SELU()])
            if self.dropout > 0.0:
                self.layers.append(nn.AlphaDropout(self.dropout))

    def forward(self, inputs: Tensor) -> Tensor:
        if inputs.dim() != 2 or inputs.shape[1] != self.input_size:
            raise ValueError(
                f"SNN expects rows of {self.input_size} values, found inputs of shape "
                f"{list(inputs.shape)}; give `input_size` the number of values per row."
            )
        features: Tensor = self.layers(inputs)
        return features
