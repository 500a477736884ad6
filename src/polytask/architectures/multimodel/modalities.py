"""Modality nets: from text, images, audio and categories to one representation ``[B, M, D]``.

Shape legend: B batch, M positions, D features of the representation, V vocabulary.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from polytask.architectures.perceiver.tokens import TokenAdapter, Tokens
from polytask.encoders.base import check_positive

__all__ = [
    "AudioModality",
    "CategoricalModality",
    "ImageModality",
    "Modality",
    "TextModality",
]


class Modality(TokenAdapter):
    """A token adapter that says which shape a row of its inputs has.

    A subclass keeps its constructor arguments under their own names, so that ``repr`` evaluates
    back.
    """

    @property
    @abstractmethod
    def input_shape(self) -> tuple[int, ...] | None:
        """Shape of a row; None where rows are sequences of any length."""

    def check(self, inputs: Tensor) -> None:
        """Raise ValueError for inputs of another shape."""
        shape = self.input_shape
        fits = inputs.dim() == 2 if shape is None else tuple(inputs.shape[1:]) == shape
        if not fits:
            wanted = ["B", *(shape or ("length",))]
            raise ValueError(
                f"{type(self).__name__} takes inputs of shape {wanted}, found {list(inputs.shape)}."
            )


class TextModality(Modality):
    """Symbols in and out through one table of embeddings: E[c] in, h E^T out.

    Args:
        vocabulary: V; codes 0 .. V - 1, negative ones are padding.
        size: D.

    Shapes: codes ``[B, M]`` (integers or floats) to tokens ``[B, M, D]``; ``logits`` takes
        ``[..., D]`` to ``[..., V]``.
    """

    def __init__(self, *, vocabulary: int, size: int) -> None:
        super().__init__()
        self.vocabulary = check_positive("vocabulary", vocabulary)
        self.size = self.output_size = check_positive("size", size)
        self.symbols = nn.Parameter(torch.randn(vocabulary, size) / math.sqrt(size))

    @property
    def input_shape(self) -> None:
        return None

    def forward(self, inputs: Tensor) -> Tokens:
        """One token per symbol."""
        self.check(inputs)
        codes = inputs.long()
        return Tokens(self.embed(codes), codes >= 0)

    def embed(self, codes: Tensor) -> Tensor:
        """Embeddings ``[..., D]`` of variance 1; negative codes give 0."""
        if codes.numel() and int(codes.max()) >= self.vocabulary:
            raise ValueError(
                f"TextModality knows the symbols 0 to {self.vocabulary - 1}, found "
                f"{int(codes.max())}."
            )
        found = functional.embedding(codes.clamp_min(0), self.symbols) * math.sqrt(self.size)
        return found * (codes >= 0).unsqueeze(-1)

    def logits(self, hidden: Tensor) -> Tensor:
        """Scores of the symbols."""
        return hidden @ self.symbols.mT


class ImageModality(Modality):
    """A residual convolutional net that halves the image; its pixels are the positions.

    conv 3x3, then h = relu(conv 3x3), y = conv 1x1 with stride 2 + conv 3x3 with stride 2 of h. A
    spectrogram is an image of one channel.

    Args:
        channels: Of the image.
        height: Rows of pixels.
        width: Columns of pixels.
        size: D.

    Shapes: inputs ``[B, channels, height, width]`` to M = ceil(height / 2) ceil(width / 2)
        positions.
    """

    def __init__(self, *, channels: int, height: int, width: int, size: int) -> None:
        super().__init__()
        self.channels = check_positive("channels", channels)
        self.height = check_positive("height", height)
        self.width = check_positive("width", width)
        self.size = self.output_size = check_positive("size", size)
        self.first = nn.Conv2d(channels, size, 3, padding=1)
        self.inner = nn.Conv2d(size, size, 3, padding=1)
        self.outer = nn.Conv2d(size, size, 3, stride=2, padding=1)
        self.skip = nn.Conv2d(size, size, 1, stride=2)
        self.norm = nn.LayerNorm(size)

    @property
    def input_shape(self) -> tuple[int, ...]:
        return (self.channels, self.height, self.width)

    def forward(self, inputs: Tensor) -> Tokens:
        """One token per two by two pixels."""
        self.check(inputs)
        hidden = self.first(inputs).relu()
        hidden = self.skip(hidden) + self.outer(self.inner(hidden).relu())
        return Tokens(self.norm(hidden.flatten(2).mT))


class AudioModality(Modality):
    """A residual convolutional net along a waveform; its frames are the positions.

    Args:
        samples: Length of the waveform.
        size: D.
        stride: Samples per frame; filters of the first layer are twice as long. The second layer
            halves the number of frames.

    Shapes: inputs ``[B, samples]`` to M = ceil(ceil(samples / stride) / 2) positions.
    """

    def __init__(self, *, samples: int, size: int, stride: int = 8) -> None:
        super().__init__()
        self.samples = check_positive("samples", samples)
        self.size = self.output_size = check_positive("size", size)
        self.stride = check_positive("stride", stride)
        self.frames = nn.Conv1d(1, size, 2 * stride, stride=stride)
        self.inner = nn.Conv1d(size, size, 3, padding=1)
        self.outer = nn.Conv1d(size, size, 3, stride=2, padding=1)
        self.skip = nn.Conv1d(size, size, 1, stride=2)
        self.norm = nn.LayerNorm(size)

    @property
    def input_shape(self) -> tuple[int, ...]:
        return (self.samples,)

    def forward(self, inputs: Tensor) -> Tokens:
        """One token per two frames."""
        self.check(inputs)
        frames = math.ceil(self.samples / self.stride)
        missing = (frames + 1) * self.stride - self.samples
        hidden = self.frames(functional.pad(inputs.unsqueeze(1), (0, missing))).relu()
        hidden = self.skip(hidden) + self.outer(self.inner(hidden).relu())
        return Tokens(self.norm(hidden.mT))


class CategoricalModality(Modality):
    """A row of categories: one position per column, a learned vector per column and level.

    Args:
        cardinalities: Levels of every column; codes 0 .. levels - 1, negative or NaN is missing.
        size: D.

    Shapes: inputs ``[B, M]``.
    """

    offsets: Tensor

    def __init__(self, *, cardinalities: Sequence[int], size: int) -> None:
        super().__init__()
        self.cardinalities = tuple(check_positive("cardinalities", c) for c in cardinalities)
        if not self.cardinalities:
            raise ValueError("`cardinalities` needs at least one column, found none.")
        self.size = self.output_size = check_positive("size", size)
        self.levels = nn.Embedding(sum(self.cardinalities), size)
        starts = torch.tensor((0, *self.cardinalities[:-1])).cumsum(0)
        self.register_buffer("offsets", starts, persistent=False)

    @property
    def input_shape(self) -> tuple[int, ...]:
        return (len(self.cardinalities),)

    def forward(self, inputs: Tensor) -> Tokens:
        """One token per column."""
        self.check(inputs)
        codes = inputs.nan_to_num(-1).long()
        largest = codes.new_tensor(self.cardinalities)
        if bool((codes >= largest).any()):
            row, column = (codes >= largest).nonzero()[0].tolist()
            raise ValueError(
                f"Column {column} of a CategoricalModality has the levels 0 to "
                f"{self.cardinalities[column] - 1}, found {int(codes[row, column])}."
            )
        return Tokens(self.levels(codes.clamp_min(0) + self.offsets), codes >= 0)
