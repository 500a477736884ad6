"""From inputs to an array of tokens that know their position: one adapter per input format.

Shape legend: B batch, M tokens, C features of a token.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from polytask.config import rebuildable_repr
from polytask.encoders.base import check_positive

__all__ = [
    "CellTokens",
    "PixelTokens",
    "SymbolTokens",
    "TokenAdapter",
    "Tokens",
    "fourier_positions",
    "fourier_size",
]


class Tokens(NamedTuple):
    """An input array.

    Args:
        values: ``[B, M, C]``.
        present: ``[B, M]``, False for what is missing or padding; None where all are present.
    """

    values: Tensor
    present: Tensor | None = None


class TokenAdapter(nn.Module, ABC):
    """Inputs ``[B, ...]`` to ``Tokens`` of ``output_size`` features (C).

    A subclass keeps its constructor arguments under their own names, so that ``repr`` evaluates
    back. What is missing must be finite in ``values``: it is masked, not skipped.
    """

    output_size: int

    @abstractmethod
    def forward(self, inputs: Tensor) -> Tokens:
        """The input array."""

    def __repr__(self) -> str:
        return rebuildable_repr(self)


class CellTokens(TokenAdapter):
    """A table's row: one token per column, x_j a_j + e_j, with learned a_j and e_j ``[C]``.

    Args:
        num_columns: M.
        size: C.

    Shapes: inputs ``[B, M]``, NaN where a cell is missing.
    """

    def __init__(self, *, num_columns: int, size: int) -> None:
        super().__init__()
        self.num_columns = check_positive("num_columns", num_columns)
        self.size = self.output_size = check_positive("size", size)
        self.scale = nn.Parameter(torch.randn(num_columns, size))
        self.column = nn.Parameter(torch.randn(num_columns, size))

    def forward(self, inputs: Tensor) -> Tokens:
        """One token per cell."""
        _check_shape("CellTokens", inputs, (self.num_columns,))
        values = inputs.nan_to_num().unsqueeze(-1) * self.scale + self.column
        return Tokens(values, ~torch.isnan(inputs))


class PixelTokens(TokenAdapter):
    """An image: one token per pixel, its channels followed by Fourier features of its position.

    Args:
        channels: Of the image.
        height: Rows of pixels.
        width: Columns of pixels.
        bands: Frequencies per dimension, see ``fourier_positions``.

    Shapes: inputs ``[B, channels, height, width]``, NaN where a pixel is missing.
    """

    positions: Tensor

    def __init__(self, *, channels: int, height: int, width: int, bands: int = 8) -> None:
        super().__init__()
        self.channels = check_positive("channels", channels)
        self.height = check_positive("height", height)
        self.width = check_positive("width", width)
        self.bands = check_positive("bands", bands)
        self.output_size = channels + fourier_size(2, bands)
        positions = fourier_positions((height, width), bands)
        self.register_buffer("positions", positions, persistent=False)

    def forward(self, inputs: Tensor) -> Tokens:
        """One token per pixel."""
        _check_shape("PixelTokens", inputs, (self.channels, self.height, self.width))
        pixels = inputs.flatten(2).mT
        positions = self.positions.to(pixels).expand(len(pixels), -1, -1)
        values = torch.cat([pixels.nan_to_num(), positions], dim=-1)
        return Tokens(values, ~torch.isnan(pixels).any(-1))


class SymbolTokens(TokenAdapter):
    """A sequence of symbols: a learned vector per symbol, and Fourier features of the position.

    Args:
        vocabulary: Number of symbols, codes 0 .. vocabulary - 1.
        length: M, of the longest sequence.
        size: Of the learned vectors.
        bands: Frequencies of the position, see ``fourier_positions``.

    Shapes: inputs ``[B, M]``, codes as integers or floats, negative where there is padding.
    """

    positions: Tensor

    def __init__(self, *, vocabulary: int, length: int, size: int, bands: int = 8) -> None:
        super().__init__()
        self.vocabulary = check_positive("vocabulary", vocabulary)
        self.length = check_positive("length", length)
        self.size = check_positive("size", size)
        self.bands = check_positive("bands", bands)
        self.output_size = size + fourier_size(1, bands)
        self.symbols = nn.Embedding(vocabulary, size)
        self.register_buffer("positions", fourier_positions((length,), bands), persistent=False)

    def forward(self, inputs: Tensor) -> Tokens:
        """One token per symbol."""
        _check_shape("SymbolTokens", inputs, (self.length,))
        codes = inputs.long()
        if codes.numel() and int(codes.max()) >= self.vocabulary:
            raise ValueError(
                f"SymbolTokens knows the symbols 0 to {self.vocabulary - 1}, found "
                f"{int(codes.max())}."
            )
        symbols = self.symbols(codes.clamp_min(0))
        positions = self.positions.to(symbols).expand(len(symbols), -1, -1)
        return Tokens(torch.cat([symbols, positions], dim=-1), codes >= 0)


def fourier_positions(shape: Sequence[int], bands: int) -> Tensor:
    """Features of every position of a grid, row by row: ``[M, len(shape) * (2 bands + 1)]``.

    A coordinate p runs from -1 to 1 along its dimension of n positions; its features are p itself
    and sin(pi f p), cos(pi f p) for ``bands`` frequencies f evenly from 1 to n / 2.

    References:
        A. Jaegle et al., Perceiver IO, ICLR 2022, https://arxiv.org/abs/2107.14795, appendix D.
    """
    features = []
    axes = [torch.linspace(-1, 1, n) if n > 1 else torch.zeros(1) for n in shape]
    for size, coordinate in zip(shape, torch.meshgrid(*axes, indexing="ij"), strict=True):
        place = coordinate.reshape(-1, 1)
        angle = math.pi * place * torch.linspace(1, max(1, size / 2), bands)
        features += [place, angle.sin(), angle.cos()]
    return torch.cat(features, dim=-1)


def fourier_size(dimensions: int, bands: int) -> int:
    """Number of features that ``fourier_positions`` gives."""
    return dimensions * (2 * bands + 1)


def join_tokens(arrays: Sequence[Tokens]) -> Tokens:
    """The rows of several arrays, the shorter ones padded with absent tokens."""
    longest = max(array.values.shape[1] for array in arrays)
    values, present = [], []
    for array in arrays:
        rows, length, _ = array.values.shape
        known = array.values.new_ones(rows, length, dtype=torch.bool)
        values.append(functional.pad(array.values, (0, 0, 0, longest - length)))
        present.append(
            functional.pad(known if array.present is None else array.present, (0, longest - length))
        )
    return Tokens(torch.cat(values), torch.cat(present))


def _check_shape(name: str, inputs: Tensor, expected: tuple[int, ...]) -> None:
    if tuple(inputs.shape[1:]) != expected:
        raise ValueError(
            f"{name} takes inputs of shape {['B', *expected]}, found {list(inputs.shape)}."
        )
