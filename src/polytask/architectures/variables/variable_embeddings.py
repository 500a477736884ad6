"""The table of variable embeddings that a model over variables shares among all of its tasks.

Shape legend: V variables, C embedding size.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from polytask.config import rebuildable_repr
from polytask.encoders.base import check_positive

__all__ = ["VariableEmbeddings"]

Table = Tensor | Sequence[Sequence[float]]


class VariableEmbeddings(nn.Module):
    """A vector z of C numbers for each of V variables: where in a common space it was measured.

    The four kinds of the paper have names of their own: ``learned`` (trained from a small random
    start), ``none`` (all zero: the variables cannot be told apart), ``random`` (drawn once, never
    trained) and ``oracle`` (what is known about the variables, such as the place of a pixel).

    Args:
        num_variables: V.
        size: C.
        std: Standard deviation of the normal distribution that the embeddings start from; 1e-3 as
            in the paper's code.
        trainable: Whether training moves them.
        values: A table ``[V, C]`` to start from instead.

    Shapes: ``weight`` is ``[V, C]``: a parameter if trainable, else a buffer.

    Raises:
        ValueError: a negative ``std``; ``values`` of another shape, or not finite.

    Example:
        >>> kinds = [
        ...     VariableEmbeddings.learned(3, 2),
        ...     VariableEmbeddings.none(3, 2),
        ...     VariableEmbeddings.oracle([[-1.0], [0.0], [1.0]]),
        ... ]
        >>> [sum(p.numel() for p in kind.parameters()) for kind in kinds]
        [6, 0, 0]

    References:
        E. Meyerson, R. Miikkulainen, The Traveling Observer Model, ICLR 2021,
        https://arxiv.org/abs/2010.02354, section 3 and table 1.
    """

    weight: Tensor

    def __init__(
        self,
        *,
        num_variables: int,
        size: int,
        std: float = 1e-3,
        trainable: bool = True,
        values: Table | None = None,
    ) -> None:
        super().__init__()
        self.num_variables = check_positive("num_variables", num_variables)
        self.size = check_positive("size", size)
        if not (std >= 0 and math.isfinite(std)):
            raise ValueError(f"`std` must be >= 0, found {std}.")
        self.std = std
        self.trainable = trainable
        given = None if values is None else torch.as_tensor(values, dtype=torch.get_default_dtype())
        self.values = None if given is None else tuple(map(tuple, given.tolist()))
        weight = torch.randn(num_variables, size) * std if given is None else given.clone()
        if weight.shape != (num_variables, size) or not bool(torch.isfinite(weight).all()):
            raise ValueError(
                f"`values` must be {num_variables} x {size} finite numbers, found a table of shape"
                f" {tuple(weight.shape)}."
            )
        if trainable:
            self.weight = nn.Parameter(weight)
        else:
            self.register_buffer("weight", weight)

    @classmethod
    def learned(cls, num_variables: int, size: int, *, std: float = 1e-3) -> VariableEmbeddings:
        """Trained from a random start."""
        return cls(num_variables=num_variables, size=size, std=std)

    @classmethod
    def none(cls, num_variables: int, size: int) -> VariableEmbeddings:
        """All zero and fixed."""
        return cls(num_variables=num_variables, size=size, std=0.0, trainable=False)

    @classmethod
    def random(cls, num_variables: int, size: int, *, std: float = 1e-3) -> VariableEmbeddings:
        """Drawn once and fixed. At ``std=1`` this is a strong baseline, at 1e-3 a weak one."""
        return cls(num_variables=num_variables, size=size, std=std, trainable=False)

    @classmethod
    def oracle(cls, values: Table, *, trainable: bool = False) -> VariableEmbeddings:
        """What is known about the variables, ``[V, C]``."""
        table = torch.as_tensor(values)
        if table.dim() != 2:
            raise ValueError(f"`values` must be [V, C], found shape {tuple(table.shape)}.")
        return cls(
            num_variables=len(table), size=table.shape[1], trainable=trainable, values=values
        )

    def forward(self, variables: Tensor | slice | None = None) -> Tensor:
        """Embeddings of some variables ``[..., C]``; of all of them ``[V, C]`` if not given."""
        if variables is None or isinstance(variables, slice):
            return self.weight if variables is None else self.weight[variables]
        return functional.embedding(variables, self.weight)

    def __repr__(self) -> str:
        return rebuildable_repr(self)


def embedding_table(
    embeddings: VariableEmbeddings | int, num_variables: int, *, std: float = 1e-3
) -> VariableEmbeddings:
    """The table that an architecture was given, or a learned one of the size it was given.

    Raises:
        ValueError: a table for another number of variables.
    """
    if not isinstance(embeddings, VariableEmbeddings):
        size = check_positive("embeddings", embeddings)
        return VariableEmbeddings.learned(num_variables, size, std=std)
    if embeddings.num_variables != num_variables:
        raise ValueError(
            f"`embeddings` has {embeddings.num_variables} variables, but the model has"
            f" {num_variables}: one per input column (or category) and one per output, in that "
            "order."
        )
    return embeddings
