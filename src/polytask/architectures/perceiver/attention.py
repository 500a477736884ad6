"""Attention between two arrays of tokens, with keys that may be absent.

Shape legend: B batch, O queries, E query features, M keys, C key features, A attention channels.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from polytask.encoders.base import check_positive

__all__ = ["AttentionLayer", "CrossAttention", "MultiHeadAttention"]


class MultiHeadAttention(nn.Module):
    """softmax(Q K^T / sqrt(A / heads)) V per head, and a linear map of the joined heads.

    Args:
        query_size: E.
        key_size: C.
        heads: Number of heads.
        channels: A of all heads together; None means E.

    Shapes: queries ``[B, O, E]``, keys ``[B, M, C]``, present ``[B, M]`` or per query ``[B, O,
        M]``; result ``[B, O, E]``. A query for which no key is present reads 0 from the heads.

    Raises:
        ValueError: channels that the heads do not divide.

    Cost: O(O M A) time, and as much memory without a fused kernel.
    """

    def __init__(
        self, *, query_size: int, key_size: int, heads: int, channels: int | None = None
    ) -> None:
        super().__init__()
        channels = check_positive("channels", query_size if channels is None else channels)
        self.heads = check_positive("heads", heads)
        if channels % heads:
            raise ValueError(
                f"`heads` must divide the {channels} channels of attention, found {heads}."
            )
        self.q_proj = nn.Linear(query_size, channels)
        self.k_proj = nn.Linear(key_size, channels)
        self.v_proj = nn.Linear(key_size, channels)
        self.o_proj = nn.Linear(channels, query_size)

    def forward(self, queries: Tensor, keys: Tensor, present: Tensor | None = None) -> Tensor:
        """What each query reads from the keys that are present."""
        query, key, value = (
            projection(tokens).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for projection, tokens in (
                (self.q_proj, queries),
                (self.k_proj, keys),
                (self.v_proj, keys),
            )
        )
        if present is None:
            read = functional.scaled_dot_product_attention(query, key, value)
        else:
            mask = (present if present.dim() == 3 else present.unsqueeze(1)).unsqueeze(1)
            some = mask.any(-1, keepdim=True)
            # A softmax over no key at all is NaN, and so would be its gradient.
            mask = mask | ~some
            read = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
            read = read * some
        joined: Tensor = self.o_proj(read.transpose(1, 2).flatten(-2))
        return joined


class CrossAttention(nn.Module):
    """Attention of normalised queries to normalised keys, without residual connection.

    Args and shapes: as ``MultiHeadAttention``.
    """

    def __init__(
        self, *, query_size: int, key_size: int, heads: int, channels: int | None = None
    ) -> None:
        super().__init__()
        self.q_norm = nn.LayerNorm(query_size)
        self.kv_norm = nn.LayerNorm(key_size)
        self.attention = MultiHeadAttention(
            query_size=query_size, key_size=key_size, heads=heads, channels=channels
        )

    def forward(self, queries: Tensor, keys: Tensor, present: Tensor | None = None) -> Tensor:
        """What each query reads from the keys that are present."""
        read: Tensor = self.attention(self.q_norm(queries), self.kv_norm(keys), present)
        return read


class AttentionLayer(nn.Module):
    """Attention and a perceptron, each after a normalisation and around a residual connection.

    h = x_q + attend(LN(x_q), LN(x_kv)), y = h + W_2 gelu(W_1 LN(h)). Self-attention is the layer
    with both arrays the same, whose two normalisations then have parameters of their own.

    Args:
        query_size: E.
        key_size: C.
        heads: Number of heads.
        channels: Of attention; None means E.
        widening: Hidden units of the perceptron relative to E; 1 as in the paper's image models.

    Shapes: as ``MultiHeadAttention``.

    References:
        A. Jaegle et al., Perceiver IO, ICLR 2022, https://arxiv.org/abs/2107.14795, appendix E.
    """

    def __init__(
        self,
        *,
        query_size: int,
        key_size: int,
        heads: int,
        channels: int | None = None,
        widening: int = 1,
    ) -> None:
        super().__init__()
        self.attend = CrossAttention(
            query_size=query_size, key_size=key_size, heads=heads, channels=channels
        )
        hidden = check_positive("widening", widening) * query_size
        self.mlp = nn.Sequential(
            nn.LayerNorm(query_size),
            nn.Linear(query_size, hidden),
            nn.GELU(),
            nn.Linear(hidden, query_size),
        )

    def forward(self, queries: Tensor, keys: Tensor, present: Tensor | None = None) -> Tensor:
        """The queries after they have read from the keys that are present."""
        hidden = queries + self.attend(queries, keys, present)
        updated: Tensor = hidden + self.mlp(hidden)
        return updated
