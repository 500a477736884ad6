"""Blocks of the MultiModel's body: separable convolutions, attention, and experts between them.

Shape legend: B batch, M source positions, L answer positions, D features.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from polytask.architectures.multimodel.experts import MixtureOfExperts
from polytask.architectures.perceiver.attention import MultiHeadAttention
from polytask.encoders.base import check_fraction, check_positive

__all__ = [
    "AttentionBlock",
    "ConvBlock",
    "ConvStep",
    "Decoder",
    "Encoder",
    "Mixer",
    "MultiModelBody",
]


@dataclass(frozen=True, kw_only=True)
class MultiModelBody:
    """What the encoder, mixer and decoder of a MultiModel are made of.

    Args:
        size: D.
        depth: Convolution blocks of the encoder, and pairs of convolution and attention blocks of
            the decoder; 6 and 4 in the paper. The experts stand in the middle.
        kernels: Lengths of the four filters of a convolution block; the paper's are (3, 3, 15, 15).
        dilation: Of the last filter; 8 in the paper.
        num_heads: Of attention; divides ``size``. 0 leaves attention out: the answer then sees the
            mean of the source only.
        num_experts: 0 leaves the experts out; 240 in the paper (60 for one task alone).
        chosen_experts: Per token, 4 in the paper.
        dropout: After every convolution block, in training.

    Raises:
        ValueError: heads that do not divide the size, even filters, or a count out of range.
    """

    size: int = 64
    depth: int = 2
    kernels: tuple[int, ...] = (3, 3, 15, 15)
    dilation: int = 8
    num_heads: int = 4
    num_experts: int = 8
    chosen_experts: int = 2
    dropout: float = 0.1

    def __post_init__(self) -> None:
        for name in ("size", "depth", "dilation"):
            check_positive(name, getattr(self, name))
        check_fraction("dropout", self.dropout)
        if len(self.kernels) != 4 or any(k < 1 or k % 2 == 0 for k in self.kernels):
            raise ValueError(f"`kernels` must be four odd lengths, found {self.kernels!r}.")
        if self.num_heads < 0 or (self.num_heads and self.size % self.num_heads):
            raise ValueError(
                f"`num_heads` must be 0 or divide the size {self.size}, found {self.num_heads}."
            )
        if self.num_experts and not 1 <= self.chosen_experts <= self.num_experts:
            raise ValueError(
                f"`chosen_experts` must be 1 to {self.num_experts}, found {self.chosen_experts}."
            )


class Mixed(NamedTuple):
    """Tokens and what their experts say of their balance.

    Args:
        values: ``[B, length, D]``.
        balance: ``[]``.
    """

    values: Tensor
    balance: Tensor


class ConvStep(nn.Module):
    """LN(SepConv(relu(x))): a filter per feature along the positions, then a linear map.

    Args:
        size: D.
        kernel: Length of the filter, odd.
        dilation: Distance of its taps.
        causal: Whether a position sees only itself and earlier ones.

    Shapes: ``[B, length, D]`` to the same.
    """

    def __init__(self, *, size: int, kernel: int, dilation: int = 1, causal: bool = False) -> None:
        super().__init__()
        reach = (kernel - 1) * dilation
        self.padding = (reach, 0) if causal else (reach // 2, reach // 2)
        self.dilation = dilation
        self.taps = nn.Parameter(torch.randn(kernel, size) / math.sqrt(kernel))
        self.pointwise = nn.Linear(size, size)
        self.norm = nn.LayerNorm(size)

    def forward(self, tokens: Tensor, present: Tensor) -> Tensor:
        """Positions that are not present count as 0, as those beyond the ends do."""
        values = functional.pad(tokens.relu() * present.unsqueeze(-1), (0, 0, *self.padding))
        found: Tensor = self.norm(self.pointwise(self._filter(values, tokens.shape[1])))
        return found

    def _filter(self, values: Tensor, length: int) -> Tensor:
        """Tap by tap: on a CPU the gradient of a grouped convolution takes ten times as long."""
        starts = range(0, len(self.taps) * self.dilation, self.dilation)
        filtered = torch.zeros_like(values[:, :length])
        for tap, start in zip(self.taps, starts, strict=True):
            filtered = torch.addcmul(filtered, values[:, start : start + length], tap)
        return filtered


class ConvBlock(nn.Module):
    """Four ConvSteps with residual connections from the block's input at the second and fourth."""

    def __init__(self, body: MultiModelBody, *, causal: bool) -> None:
        super().__init__()
        dilations = (1, 1, 1, body.dilation)
        self.steps = nn.ModuleList(
            ConvStep(size=body.size, kernel=kernel, dilation=dilation, causal=causal)
            for kernel, dilation in zip(body.kernels, dilations, strict=True)
        )
        self.dropout = nn.Dropout(body.dropout)

    def forward(self, tokens: Tensor, present: Tensor) -> Tensor:
        """``[B, length, D]`` to the same."""
        first, second, third, fourth = self.steps
        hidden = tokens + second(first(tokens, present), present)
        hidden = tokens + fourth(third(hidden, present), present)
        dropped: Tensor = self.dropout(hidden)
        return dropped


class AttentionBlock(nn.Module):
    """The answer attends to itself, causally, and to the source; both carry a timing signal.

    Without heads the answer gets a linear map of the mean of the source instead.
    """

    def __init__(self, body: MultiModelBody) -> None:
        super().__init__()
        size = body.size
        self.steps = nn.ModuleList(
            ConvStep(size=size, kernel=5, dilation=dilation, causal=True) for dilation in (1, 4)
        )
        self.summary = None if body.num_heads else nn.Linear(size, size)
        self.to_self, self.to_source = (
            MultiHeadAttention(query_size=size, key_size=size, heads=body.num_heads)
            if body.num_heads
            else None
            for _ in range(2)
        )
        self.self_norm, self.source_norm = nn.LayerNorm(size), nn.LayerNorm(size)

    def forward(self, answer: Tensor, known: Tensor, source: Tensor, present: Tensor) -> Tensor:
        """Answer ``[B, L, D]``, known ``[B, L]``, source ``[B, M, D]``, present ``[B, M]``."""
        hidden = answer + timing_signal(answer)
        for step in self.steps:
            hidden = hidden + step(hidden, known)
        if self.to_self is None or self.to_source is None:
            assert self.summary is not None
            weight = present.unsqueeze(-1).to(source)
            mean = (source * weight).sum(1) / weight.sum(1).clamp_min(1)
            seen: Tensor = self.source_norm(self.self_norm(hidden) + self.summary(mean)[:, None])
            return seen
        length = answer.shape[1]
        past = torch.ones(length, length, dtype=torch.bool, device=answer.device).tril()
        hidden = self.self_norm(hidden + self.to_self(hidden, hidden, known.unsqueeze(1) & past))
        timed = source + timing_signal(source)
        mixed: Tensor = self.source_norm(hidden + self.to_source(hidden, timed, present))
        return mixed


class ExpertLayer(nn.Module):
    """x + mixture(LN(x)) on the tokens that are present; the identity without experts."""

    def __init__(self, body: MultiModelBody) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(body.size) if body.num_experts else None
        self.experts = (
            MixtureOfExperts(
                size=body.size, num_experts=body.num_experts, chosen=body.chosen_experts
            )
            if body.num_experts
            else None
        )

    def forward(self, tokens: Tensor, present: Tensor) -> Mixed:
        """``[B, length, D]`` to the same, with the balance loss of this layer."""
        if self.experts is None or self.norm is None:
            return Mixed(tokens, tokens.new_zeros(()))
        chosen, balance = self.experts(self.norm(tokens[present]))
        values = tokens.index_put((present,), (tokens[present] + chosen).to(tokens.dtype))
        return Mixed(values, balance)


class Encoder(nn.Module):
    """Convolution blocks with experts in the middle."""

    def __init__(self, body: MultiModelBody) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(ConvBlock(body, causal=False) for _ in range(body.depth))
        self.experts = ExpertLayer(body)

    def forward(self, tokens: Tensor, present: Tensor) -> Mixed:
        """``[B, M, D]`` to the same."""
        balance = tokens.new_zeros(())
        for number, block in enumerate(self.blocks):
            if number == len(self.blocks) // 2:
                tokens, balance = self.experts(tokens, present)
            tokens = block(tokens, present)
        return Mixed(tokens, balance)


class Mixer(nn.Module):
    """What is known of the answer, mixed with the source: attention and two causal convolution
    blocks.
    """

    def __init__(self, body: MultiModelBody) -> None:
        super().__init__()
        self.attention = AttentionBlock(body)
        self.blocks = nn.ModuleList(ConvBlock(body, causal=True) for _ in range(2))

    def forward(self, answer: Tensor, known: Tensor, source: Tensor, present: Tensor) -> Tensor:
        """``[B, L, D]`` to the same."""
        answer = self.attention(answer, known, source, present)
        for block in self.blocks:
            answer = block(answer, known)
        return answer


class Decoder(nn.Module):
    """Pairs of a causal convolution block and attention to the source, experts in the middle."""

    def __init__(self, body: MultiModelBody) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList(ConvBlock(body, causal=True) for _ in range(body.depth))
        self.attentions = nn.ModuleList(AttentionBlock(body) for _ in range(body.depth))
        self.experts = ExpertLayer(body)

    def forward(self, answer: Tensor, known: Tensor, source: Tensor, present: Tensor) -> Mixed:
        """``[B, L, D]`` to the same."""
        balance = answer.new_zeros(())
        pairs = zip(self.convolutions, self.attentions, strict=True)
        for number, (convolution, attention) in enumerate(pairs):
            if number == len(self.attentions) // 2:
                answer, balance = self.experts(answer, known)
            answer = attention(convolution(answer, known), known, source, present)
        return Mixed(answer, balance)


def timing_signal(tokens: Tensor) -> Tensor:
    """Sines and cosines of the position ``[length, D]``, wavelengths 2 pi to 2 pi 10,000.

    References:
        A. Vaswani et al., Attention Is All You Need, NeurIPS 2017, section 3.5.
    """
    length, size = tokens.shape[1:]
    half = (size + 1) // 2
    rates = torch.exp(
        torch.arange(half, device=tokens.device) * (-math.log(1e4) / max(1, half - 1))
    )
    angle = torch.arange(length, device=tokens.device).unsqueeze(1) * rates
    return torch.cat([angle.sin(), angle.cos()], dim=-1)[:, :size].to(tokens)
