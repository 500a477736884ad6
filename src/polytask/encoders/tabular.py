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

#: Values of an embedded row that all columns together may take; embeddings shrink to stay below.
ROW_BUDGET = 2048
#: A categorical column with at most this many categories is one-hot encoded, a larger one embedded.
LARGEST_ONE_HOT = 8
#: Values of a learned vector for a category.
VECTOR_SIZE = 12
#: Numeric cells are bent towards this many standard deviations: x / sqrt(1 + (x / 3)^2).
CLIP = 3.0


@dataclass(frozen=True, kw_only=True)
class NumericEmbedding:
    """How one numeric cell becomes a vector.

    Args:
        size: values per cell, the first of which is the cell itself; 1 means no embedding.
        frequencies: cosines per cell.
        scale: standard deviation of the initial frequencies, in cycles per standard deviation of
            the column: larger values start with finer, less smooth functions.
    """

    size: int = 8
    functions: int = 16
    basis: str = "periodic"
    scale: float = 0.1

    def __post_init__(self) -> None:
        """Check the arguments."""
        check_positive("size", self.size)
        check_positive("functions", self.functions)
        if not self.scale > 0:
            raise ValueError(f"`scale` of a NumericEmbedding must be > 0, found {self.scale!r}.")


class TabularEncoder(Encoder):
    """Embeds every cell, then runs M perceptrons that share almost all of their weights."""

    def __init__(
        self,
        *,
        num_numeric: int,
        cardinalities: Sequence[int] = (),
        embedding: NumericEmbedding | None = None,
        members: int = 8,
        width: int = 256,
        depth: int = 2,
        dropout: float = 0.1,
        adapters: tuple[str, str] = ("before", ""),
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
        self.adapters = adapters
        self.dropout = check_fraction("dropout", dropout)

        room = max(1, ROW_BUDGET // (num_numeric + len(self.cardinalities)))
        self.numeric = NumericCells(num_numeric, self.embedding, room) if num_numeric else None
        self.categorical = (
            CategoricalCells(self.cardinalities, room) if self.cardinalities else None
        )
        row_size = sum(
            part.row_size for part in (self.numeric, self.categorical) if part is not None
        )
        self.layers = nn.ModuleList(
            MemberLinear(
                row_size if i == 0 else width, width, members, adapters=adapters[min(i, 1)]
            )
            for i in range(self.depth)
        )

    def forward(self, inputs: Tensor) -> Tensor:
        """Features of each row."""
        expected = self.num_numeric + len(self.cardinalities)
        if inputs.dim() != 2 or inputs.shape[1] != expected:
            raise ValueError(
                f"TabularEncoder expects rows of {self.num_numeric} numeric and {len(self.cardinalities)} "
                f"categorical columns, found inputs of shape {list(inputs.shape)}; give the table that the "
                "encoder was built for."
            )
        features = self._embed(inputs)
        for layer in self.layers:
            features = functional.relu(layer(features))
            features = functional.dropout(features, self.dropout, self.training)
        return features

    def _embed(self, inputs: Tensor) -> Tensor:
        parts = []
        if self.numeric is not None:
            parts.append(self.numeric(inputs[:, : self.num_numeric]))
        if self.categorical is not None:
            parts.append(self.categorical(inputs[:, self.num_numeric :]))
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)


class NumericCells(nn.Module):
    """Numeric cells [B, F] to embedded rows [B, F * S]."""

    lower: Tensor
    step: Tensor

    def __init__(self, num_columns: int, settings: NumericEmbedding, room: int) -> None:
        super().__init__()
        self.size = min(settings.size, room)
        self.basis = settings.basis
        self.row_size = num_columns * self.size
        self.missing = nn.Parameter(torch.zeros(num_columns, self.size))
        if self.size == 1:
            return
        if self.basis == "periodic":
            shape = (num_columns, settings.functions)
            self.frequency = nn.Parameter(torch.randn(shape) * (2 * math.pi * settings.scale))
            self.phase = nn.Parameter((2 * torch.rand(shape) - 1) * math.pi)
        else:
            quantiles = torch.linspace(0.0, 1.0, settings.functions + 1).clamp(0.005, 0.995)
            edges = torch.special.ndtri(quantiles)
            self.register_buffer("lower", edges[:-1], persistent=False)
            self.register_buffer("step", 1 / edges.diff(), persistent=False)
        bound = 1 / math.sqrt(settings.functions)
        self.mix = nn.Parameter(
            torch.empty(num_columns, settings.functions, self.size - 1).uniform_(-bound, bound)
        )
        self.shift = nn.Parameter(torch.empty(num_columns, self.size - 1).uniform_(-bound, bound))

    def forward(self, cells: Tensor) -> Tensor:
        """Embedded rows."""
        absent = torch.isnan(cells)
        value = torch.where(absent, cells.new_zeros(()), cells).unsqueeze(-1)
        bent = value * torch.rsqrt(1 + (value / CLIP).square())
        if self.size == 1:
            embedded = bent
        else:
            if self.basis == "periodic":
                functions = torch.cos(torch.addcmul(self.phase, bent, self.frequency))
            else:
                functions = ((value - self.lower) * self.step).clamp(0.0, 1.0)
            mixed = torch.baddbmm(self.shift.unsqueeze(1), functions.transpose(0, 1), self.mix)
            embedded = torch.cat([bent, functional.relu(mixed).transpose(0, 1)], dim=-1)
        return torch.where(absent.unsqueeze(-1), self.missing, embedded).flatten(1)


class CategoricalCells(nn.Module):
    """Category codes [B, G] to embedded rows: one-hot columns where there are few, learned vectors where many."""

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
    """A linear layer of M members with one weight matrix and an input scale r_m, output scale s_m and bias each.

    z_m = s_m * (W (r_m * x)) + b_m; `adapters` says which of r and s exist.
    """

    def __init__(self, size: int, width: int, members: int, *, adapters: str) -> None:
        super().__init__()
        bound = 1 / math.sqrt(size)
        self.weight = nn.Parameter(torch.empty(width, size).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(members, width).uniform_(-bound, bound))
        own = members > 1
        self.before = nn.Parameter(_signs(members, size)) if own and "before" in adapters else None
        self.after = nn.Parameter(_signs(members, width)) if own and "after" in adapters else None

    def forward(self, rows: Tensor) -> Tensor:
        """The layer's output for every member."""
        if len(self.bias) == 1:
            return functional.linear(rows, self.weight, self.bias[0])
        if self.before is not None:
            rows = rows * self.before.unsqueeze(1)
        product = functional.linear(rows, self.weight)
        bias = self.bias.unsqueeze(1)
        return (
            product + bias
            if self.after is None
            else torch.addcmul(bias, product, self.after.unsqueeze(1))
        )


def _signs(members: int, size: int) -> Tensor:
    return torch.randint(0, 2, (members, size)).mul_(2).sub_(1).float()
