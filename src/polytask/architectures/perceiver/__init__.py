"""Perceiver IO: any inputs as an array of tokens, any outputs as an array of queries."""

from polytask.architectures.perceiver.perceiver_io import PerceiverIO
from polytask.architectures.perceiver.tokens import (
    CellTokens,
    PixelTokens,
    SymbolTokens,
    TokenAdapter,
    Tokens,
)

__all__ = [
    "CellTokens",
    "PerceiverIO",
    "PixelTokens",
    "SymbolTokens",
    "TokenAdapter",
    "Tokens",
]
