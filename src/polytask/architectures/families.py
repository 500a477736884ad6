"""The four families of encoder-decoder models for many tasks: where the task enters.

The taxonomy of the first lecture (Malkinski 2021, after Meyerson and Miikkulainen 2021). Every
architecture says which family it belongs to (``Architecture.family``); one that combines models of
any family has none.
"""

from __future__ import annotations

from enum import Enum

__all__ = ["Family"]


class Family(Enum):
    """Where the task enters an encoder-decoder model.

    Notation: task t has inputs x_t and targets y_t; f encodes, g decodes; z_t is a descriptor of
    the task, z_i and z_j are embeddings of the variable i that is read and the variable j that is
    predicted. A function with an index t belongs to one task, one without is shared by all.
    """

    INTRA_DOMAIN = "intra-domain"
    DESCRIPTOR = "task descriptors"
    CROSS_DOMAIN = "cross-domain"
    VARIABLES = "variable embeddings"

    @property
    def formula(self) -> str:
        """The model in one line."""
        return _FORMULAS[self]

    @property
    def limits(self) -> str:
        """What the family cannot do."""
        return _LIMITS[self]

    def __repr__(self) -> str:
        return f"Family.{self.name}"


_FORMULAS = {
    Family.INTRA_DOMAIN: "y_t = g_t(f(x_t))",
    Family.DESCRIPTOR: "y_t = g(f(x_t, z_t))",
    Family.CROSS_DOMAIN: "y_t = g_t(f_t(x_t))",
    Family.VARIABLES: "y_j = g(sum_i f(x_i, z_i), z_j)",
}
_LIMITS = {
    Family.INTRA_DOMAIN: "all tasks need one input format; what differs is left to the decoders",
    Family.DESCRIPTOR: "all tasks need one input format and one kind of output",
    Family.CROSS_DOMAIN: "any inputs and outputs, but little is shared: f_t and g_t are each "
    "learned from one task",
    Family.VARIABLES: "any inputs and outputs with one set of weights; every input and output must "
    "be a number with an embedding, and inputs are only summed",
}
