"""A small transformer encoder for token ids or sequences of vectors.

Shape legend: B batch, L positions, S values of a position, D width, H heads.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from polytask.encoders.base import check_fraction, check_positive
from polytask.encoders.layered import (
    LayeredEncoder,
    LayerSites,
    attention_mask,
    check_pooling,
    pool,
)

__all__ = ["TokenInputs", "Transformer", "VectorInputs"]

POSITIONS = ("learned", "sinusoidal")
NORMS = ("post", "pre")
#: Standard deviation of the initial embeddings, as in BERT.
EMBEDDING_SPREAD = 0.02


@dataclass(frozen=True, kw_only=True)
class TokenInputs:
    """Rows of token ids ``[B, L]``.

    Args:
        vocabulary: Number of ids, from 0 on.
        length: Most positions of a row.
        positions: "learned", a vector per position, or "sinusoidal", fixed.
        padding_id: The id of positions that hold nothing; None where there are none.
    """

    vocabulary: int
    length: int
    positions: str = "learned"
    padding_id: int | None = 0

    def __post_init__(self) -> None:
        check_positive("vocabulary", self.vocabulary)
        _check_positions(self.length, self.positions)
        if self.padding_id is not None and not 0 <= self.padding_id < self.vocabulary:
            raise ValueError(
                f"`padding_id` must be an id of the vocabulary of {self.vocabulary}, found "
                f"{self.padding_id!r}."
            )

    def check(self, inputs: Tensor) -> None:
        """Refuse rows that are not ids of this vocabulary."""
        if inputs.dim() != 2 or not 1 <= inputs.shape[1] <= self.length:
            raise ValueError(
                f"Transformer expects token ids [B, L] with L from 1 to {self.length}, found "
                f"inputs of shape {list(inputs.shape)}; cut the rows or raise `length`."
            )
        bad = ~((inputs >= 0) & (inputs < self.vocabulary))
        if bool(bad.any()):
            raise ValueError(
                f"Token ids must lie in 0 .. {self.vocabulary - 1}, found "
                f"{inputs[bad][0].item():g}; map unknown tokens to an id of the vocabulary."
            )


@dataclass(frozen=True, kw_only=True)
class VectorInputs:
    """Rows of vectors ``[B, L, S]``, without padding.

    Args:
        size: S, values of a position.
        length: Most positions of a row.
        positions: "learned", a vector per position, or "sinusoidal", fixed.
    """

    size: int
    length: int
    positions: str = "learned"

    def __post_init__(self) -> None:
        check_positive("size", self.size)
        _check_positions(self.length, self.positions)

    def check(self, inputs: Tensor) -> None:
        """Refuse rows of another shape."""
        if (
            inputs.dim() != 3
            or inputs.shape[2] != self.size
            or not 1 <= inputs.shape[1] <= self.length
        ):
            raise ValueError(
                f"Transformer expects vectors [B, L, {self.size}] with L from 1 to {self.length}, "
                f"found inputs of shape {list(inputs.shape)}."
            )


class Transformer(LayeredEncoder):
    """Attention layers over the positions of a row, pooled to one vector.

    With inputs e_l = LN(embedding of position l + vector of place l), a layer of the "post" kind,
    as in BERT, is

        h' = LN(h + SA(h)),   h_out = LN(h' + FFN(h')),

    and of the "pre" kind

        h' = h + SA(LN(h)),   h_out = h' + FFN(LN(h')),

    with one more LN after the last layer. SA is self-attention with H heads, FFN two linear layers
    with a GELU between them, LN layer normalisation; what SA and FFN add is dropped out.

    Args:
        inputs: ``TokenInputs`` or ``VectorInputs``.
        width: D, values of a hidden state.
        depth: Layers.
        heads: H, a divisor of D.
        expansion: Hidden units of the FFN per value of D (4, as in BERT).
        norm: "post" or "pre".
        pooling: "first" takes the state of the first position (put a token of your own there, as
            BERT's [CLS]); "mean" the mean over all positions that hold something.
        dropout: Probability of dropping a value, in [0, 1).

    Shapes: token ids ``[B, L]``, which may come as floating-point numbers as codes in tables do, or
        vectors ``[B, L, S]``; features ``[B, D]``.

    Raises:
        ValueError: an argument out of its range, rows of another shape, ids outside of the
            vocabulary.

    Differences: attention weights are not dropped out (BERT drops them, which keeps PyTorch from
        its fast kernels on a CPU); no token types.

    Cost: about L * (12 D^2 + 2 L D) multiplications per row and layer (expansion 4).

    Example:
        >>> import torch
        >>> inputs = TokenInputs(vocabulary=100, length=16)
        >>> encoder = Transformer(inputs=inputs, width=32, depth=2, heads=4)
        >>> encoder(torch.tensor([[7, 2, 9, 0], [7, 5, 0, 0]])).shape
        torch.Size([2, 32])

    References:
        A. Vaswani et al., Attention Is All You Need, NeurIPS 2017, https://arxiv.org/abs/1706.03762.
        J. Devlin et al., BERT, NAACL 2019, https://arxiv.org/abs/1810.04805.
        R. Xiong et al., On Layer Normalization in the Transformer Architecture, ICML 2020,
        https://arxiv.org/abs/2002.04745 ("pre").
    """

    def __init__(
        self,
        *,
        inputs: TokenInputs | VectorInputs,
        width: int = 128,
        depth: int = 2,
        heads: int = 4,
        expansion: int = 4,
        norm: str = "post",
        pooling: str = "first",
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.inputs = inputs
        self.width = self.output_size = check_positive("width", width)
        self.depth = check_positive("depth", depth)
        self.heads = check_heads(heads, width, "width")
        self.expansion = check_positive("expansion", expansion)
        if norm not in NORMS:
            raise ValueError(f"`norm` must be one of {NORMS}, found {norm!r}.")
        self.norm = norm
        self.pooling = check_pooling(pooling)
        self.dropout = check_fraction("dropout", dropout)
        self.embedding = PositionEmbedding(inputs, width, self.dropout)
        # Registered before the layers: the last layer stays the last module with parameters.
        self.final_norm = nn.LayerNorm(width) if norm == "pre" else nn.Identity()
        self.layers = nn.ModuleList(
            TransformerLayer(width, heads, width * expansion, norm, self.dropout)
            for _ in range(depth)
        )

    def forward(self, inputs: Tensor) -> Tensor:
        self.inputs.check(inputs)
        padding = self.padding(inputs)
        mask = attention_mask(padding)
        states = self.embedding(inputs)
        for layer in self.layers:
            states = layer(states, mask)
        return pool(self.final_norm(states), padding, self.pooling)

    def layer_sites(self) -> list[LayerSites]:
        """The layers, from the inputs on."""
        parts = ("attention_dropout", "feed_forward_dropout")
        return [
            LayerSites(layer, *(layer.get_submodule(part) for part in parts))
            for layer in self.layers
        ]

    def padding(self, inputs: Tensor) -> Tensor | None:
        """True where a position ``[B, L]`` holds nothing; None where all positions count."""
        if isinstance(self.inputs, VectorInputs) or self.inputs.padding_id is None:
            return None
        return inputs == self.inputs.padding_id


class PositionEmbedding(nn.Module):
    """What each position starts with: LN(its embedding + the vector of its place)."""

    places: Tensor

    def __init__(self, inputs: TokenInputs | VectorInputs, width: int, dropout: float) -> None:
        super().__init__()
        self.content: nn.Module
        if isinstance(inputs, TokenInputs):
            self.content = nn.Embedding(inputs.vocabulary, width)
            nn.init.normal_(self.content.weight, std=EMBEDDING_SPREAD)
        else:
            self.content = nn.Linear(inputs.size, width)
        if inputs.positions == "learned":
            self.places = nn.Parameter(torch.randn(inputs.length, width) * EMBEDDING_SPREAD)
        else:
            self.register_buffer("places", sinusoids(inputs.length, width), persistent=False)
        self.norm = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, inputs: Tensor) -> Tensor:
        """Hidden states ``[B, L, D]``."""
        rows = inputs.long() if isinstance(self.content, nn.Embedding) else inputs
        states = self.content(rows) + self.places[: rows.shape[1]]
        embedded: Tensor = self.dropout(self.norm(states))
        return embedded


class SelfAttention(nn.Module):
    """softmax(Q K^T / sqrt(D / H)) V per head, then a linear layer over the heads' outputs."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query_key_value = nn.Linear(width, 3 * width)
        self.output = nn.Linear(width, width)

    def forward(self, states: Tensor, mask: Tensor | None) -> Tensor:
        """What each position reads, ``[B, L, D]``."""
        output: Tensor = self.output(attend(self.query_key_value(states), self.heads, mask))
        return output


class TransformerLayer(nn.Module):
    """Self-attention and a feed-forward part, each added to what comes in."""

    def __init__(self, width: int, heads: int, hidden: int, norm: str, dropout: float) -> None:
        super().__init__()
        self.norm_first = norm == "pre"
        self.attention_norm = nn.LayerNorm(width)
        self.feed_forward_norm = nn.LayerNorm(width)
        self.attention = SelfAttention(width, heads)
        self.attention_dropout = nn.Dropout(dropout)
        self.feed_forward = nn.Sequential(
            nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width)
        )
        self.feed_forward_dropout = nn.Dropout(dropout)

    def forward(self, states: Tensor, mask: Tensor | None) -> Tensor:
        """The next hidden states ``[B, L, D]``."""
        if self.norm_first:
            states = states + self.attention_dropout(
                self.attention(self.attention_norm(states), mask)
            )
            added: Tensor = self.feed_forward_dropout(
                self.feed_forward(self.feed_forward_norm(states))
            )
            return states + added
        states = self.attention_norm(states + self.attention_dropout(self.attention(states, mask)))
        output: Tensor = self.feed_forward_norm(
            states + self.feed_forward_dropout(self.feed_forward(states))
        )
        return output


def attend(query_key_value: Tensor, heads: int, mask: Tensor | None) -> Tensor:
    """Self-attention without an output layer.

    Args:
        query_key_value: Queries, keys and values side by side, ``[B, L, 3 D]``.
        heads: H.
        mask: True where attention may look, broadcast to ``[B, H, L, L]``.

    Returns:
        ``[B, L, D]``, the heads' outputs side by side.
    """
    rows, length, three = query_key_value.shape
    parts = query_key_value.reshape(rows, length, 3, heads, three // (3 * heads))
    query, key, value = parts.permute(2, 0, 3, 1, 4)
    read = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
    return read.transpose(1, 2).flatten(2)


def sinusoids(length: int, width: int) -> Tensor:
    """``[L, D]``: sin and cos of l / 10000^(2 i / D) for i = 0 ... D / 2 - 1."""
    rates = torch.exp(torch.arange(0, width, 2) * (-math.log(10_000.0) / width))
    angles = torch.arange(length).unsqueeze(1) * rates
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)[:, :width]


def check_heads(heads: int, width: int, name: str) -> int:
    """`heads` as it came if it divides the width that is called `name`."""
    check_positive("heads", heads)
    if width % heads:
        raise ValueError(f"`heads` must divide `{name}` {width}, found {heads}.")
    return heads


def _check_positions(length: int, positions: str) -> None:
    check_positive("length", length)
    if positions not in POSITIONS:
        raise ValueError(f"`positions` must be one of {POSITIONS}, found {positions!r}.")
