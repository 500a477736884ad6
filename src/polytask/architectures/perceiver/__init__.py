"""Perceiver IO: any inputs as an array of tokens, any outputs as an array of queries."""

from polytask.architectures.families import Family
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

#: Where the task enters the models of this folder.
FAMILIES = (Family.DESCRIPTOR,)
