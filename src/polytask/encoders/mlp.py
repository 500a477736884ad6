"""The multilayer perceptron: the trunk for plain vectors."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor, nn

from polytask.encoders.base import Encoder, check_fraction, check_positive

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "tanh": nn.Tanh,
    "selu": nn.SELU,
}
NORMS: dict[str, Callable[[int], nn.Module]] = {"batch": nn.BatchNorm1d, "layer": nn.LayerNorm}


class MLP(Encoder):
    """Fully connected layers, each followed by normalisation, activation and dropout.

    h_0 = x;  h_i = dropout(activation(norm(W_i h_{i-1} + b_i))),  i = 1 ... len(widths);  the
    features are the last h. Inputs with more than two axes are flattened after the batch axis.

    Args:
        input_size: number of input values per row.
        widths: neurons of each hidden layer; the last is `output_size`. (256, 256) is the usual
            size for small tables.
        activation: "relu", "gelu", "silu", "tanh" or "selu".
        norm: "none", "batch" (needs at least two rows per training batch) or "layer".
        dropout: probability of dropping a hidden value, in [0, 1).

    Shapes: inputs [B, input_size] or [B, ...] of that many values; features [B, widths[-1]].

    Raises:
        ValueError: an argument out of its range, or a row with another number of values.

    Cost: sum of width_i * width_{i-1} multiplications per row.

    Example:
        >>> import torch
        >>> encoder = MLP(input_size=4, widths=(16, 8))
        >>> encoder(torch.zeros(3, 4)).shape
        torch.Size([3, 8])
        >>> encoder
        MLP(input_size=4, widths=(16, 8))

    References:
        D. E. Rumelhart, G. E. Hinton, R. J. Williams, Learning representations by back-propagating
        errors, Nature 323, 1986, https://doi.org/10.1038/323533a0.
    """

    def __init__(
        self,
        *,
        input_size: int,
        widths: Sequence[int] = (256, 256),
        activation: str = "relu",
        norm: str = "none",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.input_size = check_positive("input_size", input_size)
        self.widths = tuple(check_positive("widths", width) for width in widths)
        if not self.widths:
            raise ValueError("`widths` must name at least one layer, found none.")
        if activation not in ACTIVATIONS:
            raise ValueError(
                f"`activation` must be one of {sorted(ACTIVATIONS)}, found {activation!r}."
            )
        if norm != "none" and norm not in NORMS:
            raise ValueError(f"`norm` must be one of {['none', *NORMS]}, found {norm!r}.")
        self.activation = activation
        self.norm = norm
        self.dropout = check_fraction("dropout", dropout)
        self.output_size = self.widths[-1]
        self.layers = nn.Sequential()
        for before, after in zip((self.input_size, *self.widths), self.widths, strict=False):
            self.layers.append(nn.Linear(before, after))
            if norm in NORMS:
                self.layers.append(NORMS[norm](after))
            self.layers.append(ACTIVATIONS[activation]())
            if self.dropout > 0.0:
                self.layers.append(nn.Dropout(self.dropout))

    def forward(self, inputs: Tensor) -> Tensor:
        rows = inputs.flatten(1) if inputs.dim() > 2 else inputs
        if rows.dim() != 2 or rows.shape[1] != self.input_size:
            raise ValueError(
                f"MLP expects rows of {self.input_size} values, found inputs of shape "
                f"{list(inputs.shape)}; give `input_size` the number of values per row."
            )
        features: Tensor = self.layers(rows)
        return features
