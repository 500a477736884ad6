"""The trunk for tables with numeric and categorical columns.

Shape legend: B rows, F numeric columns, G categorical columns, S embedding size, E values of an
embedded row, M ensemble members, D features.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from polytask.encoders.base import Encoder, check_fraction, check_positive

__all__ = ["NumericEmbedding", "TabularEncoder"]

#: Values of an embedded row that all columns together may take; embeddings shrink to stay below.
ROW_BUDGET = 2048
#: A categorical column with at most this many categories is one-hot encoded, a larger one embedded.
LARGEST_ONE_HOT = 8
#: Values of a learned vector for a category.
VECTOR_SIZE = 12
#: Numeric cells are bent towards this many standard deviations: x / sqrt(1 + (x / 3)^2).
CLIP = 3.0
BASES = ("piecewise", "periodic")
MEMBERS = 4
WIDTH = 128
DEPTH = 2


@dataclass(frozen=True, kw_only=True)
class NumericEmbedding:
    """How one numeric cell x becomes a vector of S values.

    The first value is the cell itself, bent to a bounded range: u = x / sqrt(1 + (x / 3)^2). The
    others are r(V_j b(x) + c_j), r the ReLU, V_j and c_j learned for column j, b fixed functions of
    the cell: "piecewise", b_k = clip((x - e_k) / (e_{k+1} - e_k), 0, 1) between edges e at
    quantiles of a standard Gaussian; "periodic", b_k = cos(w_k u + p_k) with learned frequencies
    and phases.

    Args:
        size: S; 1 means the cell itself only.
        functions: number of functions b_k.
        basis: "piecewise" or "periodic".
        scale: standard deviation of the initial frequencies of "periodic", in cycles per standard
            deviation of the column: larger values start with finer, less smooth functions.

    The defaults come from the search in ``experiments/tabular_encoder``.

    References:
        Y. Gorishniy, I. Rubachev, A. Babenko, On Embeddings for Numerical Features in Tabular Deep
        Learning, NeurIPS 2022, https://arxiv.org/abs/2203.05556, sections 3.2 and 3.3.
    """

    size: int = 8
    functions: int = 32
    basis: str = "piecewise"
    scale: float = 0.1

    def __post_init__(self) -> None:
        check_positive("size", self.size)
        check_positive("functions", self.functions)
        if self.basis not in BASES:
            raise ValueError(
                f"`basis` of a NumericEmbedding must be one of {BASES}, found {self.basis!r}."
            )
        if not self.scale > 0:
            raise ValueError(f"`scale` of a NumericEmbedding must be > 0, found {self.scale!r}.")


class TabularEncoder(Encoder):
    """Embeds every cell, then runs M perceptrons that share almost all of their weights.

    h_m,0 = the embedded row;  h_m,i = dropout(r(s_m,i * (W_i (r_m,i * h_m,i-1)) + b_m,i)): the
    matrix W_i of layer i is shared by the members m = 1 ... M; the scales r, s (products by
    element, initially random signs) and the bias b are each member's own. Every member is trained
    on its own loss and the heads average their predictions: an ensemble for the parameters of one
    network.

    A numeric cell is embedded as ``NumericEmbedding`` says and should be scaled to a standard
    deviation near 1; a missing one (NaN) becomes a learned vector of its column. A category is
    one-hot in a column of at most 8 categories, a learned vector otherwise. Whatever is no known
    category (code ``cardinality`` or any other number, NaN) is all zeros in the first case and one
    vector of its column, zero until it is trained, in the second. In a table of many columns the
    vectors shrink so that a row has at most 2,048 values (or one per column, if there are more
    columns than that): beyond 1,024 columns every cell is one value.

    Args:
        num_numeric: F, numeric columns; they come first in the inputs.
        cardinalities: categories of each of the G categorical columns.
        embedding: of numeric cells; None means ``NumericEmbedding()``.
        members: M; 1 means an ordinary network without a member axis.
        width: D, units of every layer.
        depth: number of layers.
        dropout: probability of dropping a hidden value, in [0, 1).

    The defaults were tuned once, on six tables (``experiments/tabular_encoder``), with AdamW, a
    learning rate of 0.004 and a weight decay of 0.1.

    Shapes: inputs ``[B, F + G]``; features ``[M, B, D]``, or ``[B, D]`` if M = 1.

    Raises:
        ValueError: no columns, an argument out of its range, or rows of another length.

    Differences: from TabM, edges at quantiles of a Gaussian instead of the data's (columns come
        scaled), and random signs as initial scales of every layer (TabM: of the first only).

    Cost: M times the multiplications of one network; (members - 1) * (inputs + 2 * width) more
        parameters per layer.

    Example:
        >>> import torch
        >>> encoder = TabularEncoder(num_numeric=2, cardinalities=(3,), members=4, width=16)
        >>> encoder(torch.tensor([[0.5, float("nan"), 2.0]])).shape
        torch.Size([4, 1, 16])

    References:
        Y. Gorishniy, A. Kotelnikov, A. Babenko, TabM: Advancing Tabular Deep Learning with
        Parameter-Efficient Ensembling, ICLR 2025, https://arxiv.org/abs/2410.24210, section 3.
        Y. Wen, D. Tran, J. Ba, BatchEnsemble, ICLR 2020, https://arxiv.org/abs/2002.06715.
        D. Holzmueller, L. Grinsztajn, I. Steinwart, Better by Default: Strong Pre-Tuned MLPs and
        Boosted Trees on Tabular Data, NeurIPS 2024, https://arxiv.org/abs/2407.04491 (bent inputs).
    """

    def __init__(
        self,
        *,
        num_numeric: int,
        cardinalities: Sequence[int] = (),
        embedding: NumericEmbedding | None = None,
        members: int = MEMBERS,
        width: int = WIDTH,
        depth: int = DEPTH,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        if num_numeric < 0 or num_numeric + len(cardinalities) == 0:
            raise ValueError(
                f"TabularEncoder needs at least one column, found num_numeric={num_numeric} and "
                f"{len(cardinalities)} categorical columns."
            )
        self.num_numeric = num_numeric
        self.cardinalities = tuple(check_positive("cardinalities", size) for size in cardinalities)
        self.embedding = embedding or NumericEmbedding()
        self.members = self.num_members = check_positive("members", members)
        self.width = self.output_size = check_positive("width", width)
        self.depth = check_positive("depth", depth)
        self.dropout = check_fraction("dropout", dropout)

        room = max(1, ROW_BUDGET // (num_numeric + len(self.cardinalities)))
        row_size = 0
        self.numeric: NumericCells | None = None
        self.categorical: CategoricalCells | None = None
        if num_numeric:
            self.numeric = NumericCells(num_numeric, self.embedding, room)
            row_size += self.numeric.row_size
        if self.cardinalities:
            self.categorical = CategoricalCells(self.cardinalities, room)
            row_size += self.categorical.row_size
        sizes = [row_size] + [width] * (depth - 1)
        self.layers = nn.ModuleList(MemberLinear(size, width, members) for size in sizes)

    def forward(self, inputs: Tensor) -> Tensor:
        """Features of each row, for every member."""
        expected = self.num_numeric + len(self.cardinalities)
        if inputs.dim() != 2 or inputs.shape[1] != expected:
            raise ValueError(
                f"TabularEncoder expects rows of {self.num_numeric} numeric and "
                f"{len(self.cardinalities)} categorical columns, found inputs of shape "
                f"{list(inputs.shape)}; give the table that the encoder was built for."
            )
        features = self._embed(inputs)
        for layer in self.layers:
            features = functional.relu(layer(features))
            if self.training and self.dropout > 0.0:
                features = features * dropout_mask(features, self.dropout)
        return features

    def _embed(self, inputs: Tensor) -> Tensor:
        parts = []
        if self.numeric is not None:
            parts.append(self.numeric(inputs[:, : self.num_numeric]))
        if self.categorical is not None:
            parts.append(self.categorical(inputs[:, self.num_numeric :]))
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)


class NumericCells(nn.Module):
    """Numeric cells ``[B, F]`` to embedded rows ``[B, F * S]``."""

    lower: Tensor
    slope: Tensor

    def __init__(self, num_columns: int, settings: NumericEmbedding, room: int) -> None:
        super().__init__()
        self.size = min(settings.size, room)
        self.basis = settings.basis
        self.row_size = num_columns * self.size
        self.missing = nn.Parameter(torch.zeros(num_columns, self.size))
        if self.size == 1:
            return
        functions = settings.functions
        if self.basis == "periodic":
            frequency = torch.randn(num_columns, functions) * (2 * math.pi * settings.scale)
            self.frequency = nn.Parameter(frequency)
            self.phase = nn.Parameter((2 * torch.rand(num_columns, functions) - 1) * math.pi)
        else:
            # The outermost quantiles of a Gaussian are infinite; 0.5 % stands in for them.
            quantiles = torch.linspace(0.0, 1.0, functions + 1).clamp(0.005, 0.995)
            edges = torch.special.ndtri(quantiles)
            self.register_buffer("lower", edges[:-1], persistent=False)
            self.register_buffer("slope", 1 / edges.diff(), persistent=False)
        bound = 1 / math.sqrt(functions)
        mix = torch.empty(num_columns, functions, self.size - 1).uniform_(-bound, bound)
        self.mix = nn.Parameter(mix)
        self.shift = nn.Parameter(torch.empty(num_columns, self.size - 1).uniform_(-bound, bound))

    def forward(self, cells: Tensor) -> Tensor:
        """Embedded rows."""
        absent = torch.isnan(cells).unsqueeze(-1)
        value = torch.nan_to_num(cells, nan=0.0).unsqueeze(-1)
        # hypot does not overflow where the square of a huge cell would.
        bent = value / torch.hypot(value.new_ones(()), value / CLIP)
        embedded = bent
        if self.size > 1:
            if self.basis == "periodic":
                functions = torch.cos(torch.addcmul(self.phase, bent, self.frequency))
            else:
                functions = ((value - self.lower) * self.slope).clamp(0.0, 1.0)
            mixed = torch.baddbmm(self.shift.unsqueeze(1), functions.transpose(0, 1), self.mix)
            embedded = torch.cat([bent, functional.relu(mixed).transpose(0, 1)], dim=-1)
        return torch.where(absent, self.missing, embedded).flatten(1)


class CategoricalCells(nn.Module):
    """Category codes ``[B, G]`` to embedded rows: one-hot where few, learned vectors where many."""

    sizes: Tensor
    one_hot_columns: Tensor
    one_hot_start: Tensor
    one_hot_kept: Tensor
    vector_columns: Tensor
    vector_start: Tensor

    def __init__(self, cardinalities: tuple[int, ...], room: int) -> None:
        super().__init__()
        sizes = torch.tensor(cardinalities)
        few = sizes <= min(LARGEST_ONE_HOT, room)
        self.size = min(VECTOR_SIZE, room)
        self.row_size = int(sizes[few].sum()) + int((~few).sum()) * self.size
        # Every column has one place more than categories: the code for unseen and missing values.
        starts, totals = [], []
        for chosen in (few, ~few):
            ends = (sizes[chosen] + 1).cumsum(0)
            starts.append(ends - sizes[chosen] - 1)
            totals.append(int(ends[-1]) if len(ends) else 0)
        kept = torch.ones(totals[0], dtype=torch.bool)
        kept[starts[0] + sizes[few]] = False
        for name, value in (
            ("sizes", sizes),
            ("one_hot_columns", few.nonzero().flatten()),
            ("one_hot_start", starts[0]),
            ("one_hot_kept", kept.nonzero().flatten()),
            ("vector_columns", (~few).nonzero().flatten()),
            ("vector_start", starts[1]),
        ):
            self.register_buffer(name, value, persistent=False)
        self.vectors = nn.Parameter(torch.randn(totals[1], self.size))
        with torch.no_grad():
            # A category that training never saw says nothing until it is trained.
            self.vectors[starts[1] + sizes[~few]] = 0.0

    def forward(self, cells: Tensor) -> Tensor:
        """Embedded rows."""
        known = (cells >= 0) & (cells < self.sizes)
        codes = torch.where(known, cells, self.sizes.to(cells.dtype)).long()
        parts = []
        if len(self.one_hot_columns):
            places = codes[:, self.one_hot_columns] + self.one_hot_start
            width = len(self.one_hot_kept) + len(self.one_hot_columns)
            flags = cells.new_zeros(len(cells), width).scatter_(1, places, 1.0)
            parts.append(flags[:, self.one_hot_kept])
        if len(self.vector_columns):
            places = codes[:, self.vector_columns] + self.vector_start
            parts.append(functional.embedding(places, self.vectors).flatten(1))
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)


class MemberLinear(nn.Module):
    """A linear layer whose M members share one matrix: z_m = s_m * (W (r_m * x)) + b_m.

    Args:
        size: values of x.
        width: values of z.
        members: M; with one member there are no scales.
        adapters: which scales exist: "before" (r), "after" (s), both, or none.
    """

    def __init__(self, size: int, width: int, members: int, adapters: str = "before after") -> None:
        super().__init__()
        bound = 1 / math.sqrt(size)
        self.weight = nn.Parameter(torch.empty(width, size).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(members, width).uniform_(-bound, bound))
        own = members > 1
        self.before = nn.Parameter(_signs(members, size)) if own and "before" in adapters else None
        self.after = nn.Parameter(_signs(members, width)) if own and "after" in adapters else None

    def forward(self, rows: Tensor) -> Tensor:
        """Outputs ``[M, B, width]`` of ``[B, size]`` or ``[M, B, size]``; no M if it is 1."""
        if len(self.bias) == 1:
            return functional.linear(rows, self.weight, self.bias[0])
        if self.before is not None:
            rows = rows * self.before.unsqueeze(1)
        product = functional.linear(rows, self.weight)
        bias = self.bias.unsqueeze(1)
        if self.after is None:
            return product + bias
        return torch.addcmul(bias, product, self.after.unsqueeze(1))


def dropout_mask(values: Tensor, probability: float) -> Tensor:
    """Zeros with `probability`, else 1 / (1 - probability), in the shape of `values`.

    Random bits are the most expensive part of a small step on a CPU, and an ordinary mask draws a
    number for each value; here one draw of 64 bits serves four, so that the probability is rounded
    to a multiple of 2^-16.
    """
    count = values.numel()
    draws = torch.empty((count + 3) // 4, dtype=torch.int64, device=values.device)
    bits = draws.random_(-(2**63), None).view(torch.int16)[:count].view(values.shape)
    dropped = min(max(round(probability * 2**16), 1), 2**16 - 1)
    return (bits >= dropped - 2**15).to(values.dtype) * (2**16 / (2**16 - dropped))


def _signs(members: int, size: int) -> Tensor:
    return torch.randint(0, 2, (members, size)).mul_(2).sub_(1).float()
