"""FiLM layers and the residual blocks of the Traveling Observer Model: one network, modulated by
the variable it looks at.

Shape legend: V variables, B rows, C embedding size, M hidden units, D inputs and O outputs of a
layer.

What modulates depends on the variable alone. It is computed once per variable, ``[V, C] -> [V, M]``
(``maps``, ``layer_of``), and broadcast over the rows of a batch, never computed per cell.
"""

from __future__ import annotations

from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from polytask.config import rebuildable_repr
from polytask.encoders.base import check_fraction, check_positive

__all__ = ["CoreResidualBlock", "FiLM", "FiLMResidualBlock", "InverseFiLM", "Maps"]


class Maps(NamedTuple):
    """What each variable does to a layer's values u: ``scale * u + shift``, each ``[..., M]``."""

    scale: Tensor
    shift: Tensor


class _Modulated(nn.Module):
    """The three linear maps of both orders: of the values, and W* and W+ of the embedding."""

    #: Whether W* and W+ act on the O outputs of the linear layer; else on its D inputs.
    modulates_outputs: ClassVar[bool]

    def __init__(
        self, *, input_size: int, output_size: int, embedding_size: int, affine: bool = False
    ) -> None:
        super().__init__()
        self.input_size = check_positive("input_size", input_size)
        self.output_size = check_positive("output_size", output_size)
        self.embedding_size = check_positive("embedding_size", embedding_size)
        self.affine = affine
        width = output_size if self.modulates_outputs else input_size
        self.scale = nn.Linear(embedding_size, width, bias=affine)
        self.shift = nn.Linear(embedding_size, width, bias=affine)
        self.value = nn.Linear(input_size, output_size)

    def _scaled(self, embeddings: Tensor, factor: Tensor | float) -> Tensor:
        """Factor o W*(z). The factor goes into W*, which has fewer entries than the result."""
        return _linear(embeddings, self.scale.weight, self.scale.bias, factor)

    def __repr__(self) -> str:
        return rebuildable_repr(self)


class FiLM(_Modulated):
    """A linear layer, then a feature-wise scale and shift that the embedding decides.

    FiLM(x, z) = W*(z) o (W x + b) + W+(z), o the elementwise product. W* and W+ are linear in z
    (as the paper says) or affine (as its code has it). The difference matters: with linear maps a
    variable whose embedding is 0 contributes 0, and a model without embeddings is a constant.

    Args:
        input_size: D.
        output_size: O.
        embedding_size: C.
        affine: Whether W* and W+ have a bias.

    Shapes: values ``[..., D]`` and embeddings ``[..., C]``, broadcast, to ``[..., O]``.

    Cost: the linear layer per cell, W* and W+ once per row of the embeddings given.

    Example:
        >>> import torch
        >>> film = FiLM(input_size=1, output_size=4, embedding_size=2)
        >>> film(torch.ones(3, 1), torch.zeros(2)).abs().sum().item()
        0.0

    References:
        E. Perez et al., FiLM: Visual Reasoning with a General Conditioning Layer, AAAI 2018,
        https://arxiv.org/abs/1709.07871, equation 2; E. Meyerson, R. Miikkulainen, The Traveling
        Observer Model, ICLR 2021, https://arxiv.org/abs/2010.02354, equation 7.
    """

    modulates_outputs = True

    def forward(self, values: Tensor, embeddings: Tensor) -> Tensor:
        """FiLM(x, z) ``[..., O]``."""
        return self.modulate(values, self.maps(embeddings))

    def maps(self, embeddings: Tensor, factor: Tensor | float = 1.0) -> Maps:
        """Scale and shift ``[..., O]`` of ``W x``, times a factor; b is part of the shift."""
        b = self.value.bias
        weight = self.shift.weight + b.unsqueeze(1) * self.scale.weight
        bias = torch.addcmul(self.shift.bias, b, self.scale.bias) if self.affine else None
        return Maps(self._scaled(embeddings, factor), _linear(embeddings, weight, bias, factor))

    def modulate(self, values: Tensor, maps: Maps) -> Tensor:
        """The layer's output for embeddings whose maps are known."""
        return _modulated(functional.linear(values, self.value.weight), maps)

    def layer_of(self, embeddings: Tensor) -> tuple[Tensor, Tensor]:
        """The linear layer that each embedding makes of this one where D is 1: weights ``[..., 1,
        O]``, biases ``[..., O]``.
        """
        weights = self._scaled(embeddings, self.value.weight.squeeze(1))
        return weights.unsqueeze(-2), self.maps(embeddings).shift


class InverseFiLM(_Modulated):
    """A feature-wise scale and shift that the embedding decides, then a linear layer.

    InverseFiLM(x, z) = W (W*(z) o x + W+(z)) + b: the order of the decoder, whose last layer has
    one output for all variables.

    Args:
        input_size: D.
        output_size: O.
        embedding_size: C.
        affine: Whether W* and W+ have a bias.

    Shapes: values ``[..., D]`` and embeddings ``[..., C]``, broadcast, to ``[..., O]``.

    Cost: the linear layer per cell, W* and W+ once per row of the embeddings given.

    References:
        E. Meyerson, R. Miikkulainen, The Traveling Observer Model, ICLR 2021,
        https://arxiv.org/abs/2010.02354, figure 15.
    """

    modulates_outputs = False

    def forward(self, values: Tensor, embeddings: Tensor) -> Tensor:
        """InverseFiLM(x, z) ``[..., O]``."""
        outputs: Tensor = self.value(
            torch.addcmul(self.shift(embeddings), self.scale(embeddings), values)
        )
        return outputs

    def layer_of(self, embeddings: Tensor) -> tuple[Tensor, Tensor]:
        """The linear layer that each embedding makes of this one where O is 1: weights ``[..., D,
        1]``, biases ``[..., 1]``.
        """
        weights = self._scaled(embeddings, self.value.weight.squeeze(0))
        return weights.unsqueeze(-1), self.value(self.shift(embeddings))


class FiLMResidualBlock(nn.Module):
    """FRB(h, z) = h + alpha Drop(FiLM(ReLU(h), z)), with a trainable scalar alpha that starts at 0.

    At first the block is the identity, which replaces normalisation (SkipInit).

    Args:
        size: M.
        embedding_size: C.
        dropout: Probability that a unit of the update is dropped in training.
        affine: Whether the FiLM maps have biases.

    Shapes: hidden values ``[..., M]`` and embeddings ``[..., C]``, broadcast, to ``[..., M]``.

    Cost: one M x M product per cell.

    References:
        Figure 15 of the Traveling Observer Model (see ``FiLM``); S. De, S. Smith, Batch
        Normalization Biases Residual Blocks Towards the Identity Function, NeurIPS 2020,
        https://arxiv.org/abs/2002.10444 (SkipInit).
    """

    def __init__(
        self, *, size: int, embedding_size: int, dropout: float = 0.0, affine: bool = False
    ) -> None:
        super().__init__()
        self.size = check_positive("size", size)
        self.embedding_size = check_positive("embedding_size", embedding_size)
        self.dropout = check_fraction("dropout", dropout)
        self.affine = affine
        self.film = FiLM(
            input_size=size, output_size=size, embedding_size=embedding_size, affine=affine
        )
        self.alpha = nn.Parameter(torch.zeros(()))

    def forward(self, hidden: Tensor, embeddings: Tensor) -> Tensor:
        """FRB(h, z) ``[..., M]``."""
        return self.update(hidden, self.values(hidden), self.maps(embeddings))

    def maps(self, embeddings: Tensor) -> Maps:
        """Scale and shift ``[..., M]`` of ``values``; alpha is part of both."""
        return self.film.maps(embeddings, self.alpha)

    def values(self, hidden: Tensor) -> Tensor:
        """What is modulated, ``W ReLU(h)``: it does not depend on the variable."""
        return functional.linear(functional.relu(hidden), self.film.value.weight)

    def update(self, hidden: Tensor, values: Tensor, maps: Maps) -> Tensor:
        """The block's output from its parts; dropout commutes with alpha."""
        change = _modulated(values, maps)
        if self.dropout and self.training:
            return hidden + functional.dropout(change, self.dropout)
        return change.add_(hidden)

    def __repr__(self) -> str:
        return rebuildable_repr(self)


class CoreResidualBlock(nn.Module):
    """CRB(h) = h + alpha Drop(W ReLU(h) + b), with a trainable scalar alpha that starts at 0.

    Args:
        size: M.
        dropout: Probability that a unit of the update is dropped in training.

    Shapes: hidden values ``[..., M]`` to ``[..., M]``.

    Cost: one M x M product per row.

    References:
        Figure 15 of the Traveling Observer Model (see ``FiLM``).
    """

    def __init__(self, *, size: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.size = check_positive("size", size)
        self.dropout = check_fraction("dropout", dropout)
        self.value = nn.Linear(size, size)
        self.alpha = nn.Parameter(torch.zeros(()))

    def forward(self, hidden: Tensor) -> Tensor:
        """CRB(h) ``[..., M]``."""
        change = functional.dropout(
            self.value(functional.relu(hidden)), self.dropout, self.training
        )
        return hidden + self.alpha * change

    def __repr__(self) -> str:
        return rebuildable_repr(self)


def _linear(
    embeddings: Tensor, weight: Tensor, bias: Tensor | None, factor: Tensor | float
) -> Tensor:
    """Factor o (weight z + bias)."""
    if isinstance(factor, Tensor) and factor.dim():
        weight = factor.unsqueeze(1) * weight
    else:
        weight = factor * weight
    return functional.linear(embeddings, weight, None if bias is None else factor * bias)


def _modulated(values: Tensor, maps: Maps) -> Tensor:
    """Scale * u + shift. ``addcmul`` would take one more pass backward, a sum of its own one more
    tensor.
    """
    return (maps.scale * values).add_(maps.shift)
