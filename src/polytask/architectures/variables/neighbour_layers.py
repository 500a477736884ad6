"""The parts of a ``NeighbourEnsemble``: what tables own and share, what is remembered, how rows
vote.

Shape legend: T' tables of a group or some of them, K tables, B rows of each, F columns, E values of
an expanded row, M members, H hidden units, Z key size, C outputs.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from polytask.problems.table_batch import TableShape
from polytask.tasks import Binary, Multiclass, Task

__all__ = [
    "Memory",
    "SharedLayers",
    "TableGroup",
    "as_outputs",
    "drop",
    "groups_of",
    "vote",
    "vote_values",
]

#: Numeric cells are bent towards this many standard deviations: x / sqrt(1 + (x / 3)^2).
CLIP = 3.0
#: Most values of the steps of all columns of a table; wide tables get fewer steps per column.
ROOM = 600
#: Weight of equal shares in what neighbours say, so that one odd neighbour costs a bounded loss.
DOUBT = 0.05
#: Tables whose expanded rows differ by no more than this factor are computed as one product.
SPREAD = 1.35
#: Bounds of the numbers of outputs that are computed as one product.
OUTPUT_CLASSES = (3, 10, 32)


class SharedLayers(nn.Module):
    """Residual layers ``[K, depth, 2, M, H, H]`` and keys, of all tables (K = 1) or of each."""

    def __init__(
        self, members: int, tables: int, size: int, depth: int, key_size: int, probability: float
    ) -> None:
        super().__init__()
        self.probability = probability
        lead = (tables, members)
        self.inner = nn.ParameterList(_normal((*lead, size, size), 2 / size) for _ in range(depth))
        self.outer = nn.ParameterList(_normal((*lead, size, size), 1 / size) for _ in range(depth))
        self.inner_bias = nn.ParameterList(_zeros((*lead, 1, size)) for _ in range(depth))
        self.outer_bias = nn.ParameterList(_zeros((*lead, 1, size)) for _ in range(depth))
        self.scale = nn.ParameterList(
            nn.Parameter(torch.full((*lead, 1, 1), 0.3)) for _ in range(depth)
        )
        self.key = _normal((*lead, size, key_size), 1 / size)

    def forward(self, hidden: Tensor, tables: Tensor | None) -> Tensor:
        """``[M, K, B, H]`` after the layers."""
        for parts in zip(
            self.inner, self.inner_bias, self.outer, self.outer_bias, self.scale, strict=True
        ):
            inner, inner_bias, outer, outer_bias, scale = (_for(p, tables) for p in parts)
            update = drop(functional.relu(hidden), self.probability, self.training)
            update = functional.relu(_product(update, inner) + inner_bias)
            update = drop(update, self.probability, self.training)
            hidden = hidden + scale * (_product(update, outer) + outer_bias)
        return hidden

    def keys(self, hidden: Tensor, tables: Tensor | None) -> Tensor:
        """``[M, K, B, Z]``."""
        return _product(hidden, _for(self.key, tables))

    def last(self) -> Iterator[nn.Parameter]:
        """The last layer and the keys."""
        for parts in (self.inner, self.inner_bias, self.outer, self.outer_bias, self.scale):
            yield parts[-1]
        yield self.key


class TableGroup(nn.Module):
    """Own parts of tables of like size, in tensors that lead with the tables."""

    column: Tensor
    is_step: Tensor
    is_category: Tensor
    low: Tensor
    inverse: Tensor
    mean: Tensor
    gain: Tensor

    def __init__(
        self,
        tasks: Sequence[Task],
        shapes: Mapping[str, TableShape],
        *,
        members: int,
        hidden: int,
        steps: int,
    ) -> None:
        super().__init__()
        self.tasks = tuple(tasks)
        self.names = [task.name for task in tasks]
        self.shapes = [shapes[name] for name in self.names]
        self.members = members
        self.width = max(shape.width for shape in self.shapes)
        self.steps = [_steps(shape, steps) for shape in self.shapes]
        self.sizes = [_expanded(shape, steps) for shape in self.shapes]
        tables, size = len(self.tasks), max(self.sizes)
        self.outputs = max(task.kind.output_size for task in tasks)
        column = torch.zeros(tables, size, dtype=torch.int64)
        is_step, is_category = (torch.zeros(tables, size, dtype=torch.bool) for _ in range(2))
        low, gain = torch.zeros(tables, size), torch.zeros(tables, size)
        for t, (shape, count) in enumerate(zip(self.shapes, self.steps, strict=True)):
            numeric = shape.num_numeric
            of = [torch.arange(numeric), torch.arange(numeric).repeat_interleave(count)]
            codes = []
            for j, categories in enumerate(shape.cardinalities):
                of.append(torch.full((categories + 1,), numeric + j))
                codes.append(torch.arange(categories + 1))
            places = torch.cat(of)
            column[t, : len(places)] = places
            is_step[t, numeric : numeric * (1 + count)] = True
            if codes:
                is_category[t, numeric * (1 + count) : len(places)] = True
                low[t, numeric * (1 + count) : len(places)] = torch.cat(codes).float()
            gain[t, : len(places)] = 1.0
        self.register_buffer("column", column, persistent=False)
        self.register_buffer("is_step", is_step, persistent=False)
        self.register_buffer("is_category", is_category, persistent=False)
        self.register_buffer("low", low)
        self.register_buffer("inverse", torch.ones(tables, size))
        self.register_buffer("mean", torch.zeros(tables, size))
        self.register_buffer("gain", gain)
        # A step has about a third of the variance of a column.
        scale = torch.tensor(
            [
                1 / math.sqrt(s.width + 0.3 * n * s.num_numeric)
                for s, n in zip(self.shapes, self.steps, strict=True)
            ]
        )
        weight = torch.randn(tables, size, members * hidden) * scale[:, None, None]
        self.weight = nn.Parameter(weight)
        self.bias = nn.Parameter(0.3 * torch.randn(tables, members, 1, hidden))
        self.head = nn.Parameter(0.02 * torch.randn(tables, members, hidden, self.outputs))
        self.head_bias = _zeros((tables, members, 1, self.outputs))
        self.sharpness = _zeros((tables, members, 1, 1))

    def fit(self, place: int, rows: Tensor) -> None:
        """Edges of the steps at quantiles of the columns; mean and scale of the values."""
        shape, count = self.shapes[place], self.steps[place]
        device, dtype = self.low.device, self.low.dtype
        numeric = rows[:, : shape.num_numeric].to(device=device, dtype=dtype)
        first = shape.num_numeric
        for j in range(shape.num_numeric):
            edges = _edges(numeric[:, j], count)
            at = slice(first + j * count, first + (j + 1) * count)
            length = edges.diff()
            self.low[place, at] = edges[:-1]
            self.inverse[place, at] = torch.where(length > 0, 1 / length.clamp_min(1e-12), 0.0)
        self.mean[place] = 0.0
        self.gain[place, : self.sizes[place]] = 1.0
        cells = functional.pad(rows.to(device=device, dtype=dtype), (0, self.width - rows.shape[1]))
        values = self.expand(cells.unsqueeze(0), torch.tensor([place])).squeeze(0)
        spread = values.std(0, unbiased=False)
        varies = spread > 1e-4
        self.mean[place] = values.mean(0)
        steps = self.is_step[place] | self.is_category[place]
        of_steps = 0.6 / (0.5 * spread.clamp_min(0.1)).sqrt()
        self.gain[place] = torch.where(varies, torch.where(steps, of_steps, 1.0), 0.0)

    def expand(self, cells: Tensor, tables: Tensor | None) -> Tensor:
        """Values ``[T', B, E]`` of cells ``[T', B, F]``; missing cells become the mean."""
        column, is_step, is_category, low, inverse, mean, gain = (
            (part if tables is None else part[tables]).unsqueeze(1)
            for part in (
                self.column, self.is_step, self.is_category,
                self.low, self.inverse, self.mean, self.gain,
            )
        )  # fmt: skip
        x = cells.gather(2, column.expand(-1, cells.shape[1], -1))
        bent = x / (1 + (x / CLIP).square()).sqrt()
        values = torch.where(is_step, ((x - low) * inverse).clamp(0, 1), bent)
        if self.any_categories:
            values = torch.where(is_category, (x == low).to(x.dtype), values)
        return ((values - mean) * gain).nan_to_num()

    @property
    def any_categories(self) -> bool:
        """Whether a table of the group has categorical columns."""
        return any(shape.cardinalities for shape in self.shapes)

    def first(self, cells: Tensor, tables: Tensor | None) -> Tensor:
        """Hidden values ``[M, T', B, H]`` after the first layer."""
        values = self.expand(cells.to(self.weight.dtype), tables)
        weight, bias = (p if tables is None else p[tables] for p in (self.weight, self.bias))
        hidden = torch.bmm(values, weight)
        split: Tensor = hidden.unflatten(-1, (self.members, -1)).permute(2, 0, 1, 3)
        return split + bias.transpose(0, 1)

    def heads(self, place: int, dropped: Tensor) -> Tensor:
        """The heads' answers ``[M, B, C]`` of one table."""
        size = self.tasks[place].kind.output_size
        answers: Tensor = dropped @ self.head[place] + self.head_bias[place]
        return answers[..., :size]


class Memory(nn.Module):
    """Remembered rows of one table; their number is that of the state that is loaded."""

    inputs: Tensor | None
    values: Tensor | None
    folds: Tensor | None

    def __init__(self) -> None:
        super().__init__()
        for name in ("inputs", "values", "folds"):
            self.register_buffer(name, None)

    def keep(self, inputs: Tensor, values: Tensor, folds: Tensor) -> None:
        """Replace the rows."""
        self.inputs, self.values, self.folds = inputs.to(values.dtype), values, folds

    def _load_from_state_dict(self, state: dict[str, Any], prefix: str, *rest: Any) -> None:
        for name in ("inputs", "values", "folds"):
            if prefix + name in state:
                setattr(self, name, torch.empty_like(state[prefix + name]))
        super()._load_from_state_dict(state, prefix, *rest)


def groups_of(
    tasks: Sequence[Task], shapes: Mapping[str, TableShape], steps: int
) -> Iterator[list[Task]]:
    """Tasks of one kind with like numbers of outputs and of values per row."""

    def outputs(task: Task) -> int:
        return sum(task.kind.output_size > bound for bound in OUTPUT_CLASSES)

    def key(task: Task) -> tuple[str, int]:
        padded = isinstance(task.kind, Multiclass)
        size = outputs(task) if padded else task.kind.output_size
        return (type(task.kind).__name__, size)

    group: list[Task] = []
    for task in sorted(tasks, key=lambda t: (*key(t), _expanded(shapes[t.name], steps))):
        least = _expanded(shapes[group[0].name], steps) if group else 0
        far = _expanded(shapes[task.name], steps) > SPREAD * least + 10
        if group and (far or key(task) != key(group[0])):
            yield group
            group = []
        group.append(task)
    yield group


def _steps(shape: TableShape, steps: int) -> int:
    return min(steps, max(2, ROOM // max(1, shape.num_numeric)))


def _expanded(shape: TableShape, steps: int) -> int:
    """E: the column and its steps; one indicator per category."""
    categories = shape.variables - shape.num_numeric
    return shape.num_numeric * (1 + _steps(shape, steps)) + categories


def _edges(column: Tensor, steps: int) -> Tensor:
    """``[steps + 1]`` ascending edges: the distinct values if they are few, else quantiles."""
    distinct = column[~torch.isnan(column)].unique()
    if len(distinct) <= 2:  # the column itself says it all
        return column.new_zeros(steps + 1)
    if len(distinct) > steps + 1:
        present = column[~torch.isnan(column)].sort().values
        places = torch.linspace(0, len(present) - 1, steps + 1, device=column.device)
        distinct = present[places.round().long()].unique()
    last = distinct[-1:].expand(steps + 1 - len(distinct))
    return torch.cat([distinct, last])


def vote_values(
    task: Task, targets: Tensor, dtype: torch.dtype, outputs: int | None = None
) -> Tensor:
    """What neighbours vote with ``[..., C]``: classes as indicators, numbers as they are."""
    if isinstance(task.kind, Multiclass):
        return functional.one_hot(targets.long(), outputs or task.kind.output_size).to(dtype)
    numbers = targets.to(dtype)
    return numbers if task.kind.output_size > 1 else numbers.unsqueeze(-1)


def vote(
    query: Tensor,
    key: Tensor,
    values: Tensor,
    allowed: Tensor,
    sharpness: Tensor,
    factors: Sequence[float] = (1.0,),
) -> list[Tensor]:
    """Means ``[..., B, C]`` of the values of allowed keys, weighted by nearness, for every factor
    of the sharpness; 0 without any allowed key.
    """
    lengths = query.square().sum(-1).unsqueeze(-1) + key.square().sum(-1).unsqueeze(-2)
    distances = (lengths - 2 * query @ key.mT).clamp_min(0.0)
    alone = ~allowed.any(-1, keepdim=True)  # no neighbour at all: no preference
    scores = (-distances * sharpness.exp()).masked_fill(~(allowed | alone), -torch.inf)
    return [
        ((scores if factor == 1.0 else scores * factor).softmax(-1) @ values) * ~alone
        for factor in factors
    ]


def as_outputs(task: Task, votes: Tensor, padding: Tensor | None = None) -> Tensor:
    """Votes as outputs of the task's kind: logarithms of class shares, or numbers."""
    if isinstance(task.kind, Multiclass):
        real = votes.shape[-1] if padding is None else (padding == 0).sum(-1, keepdim=True)
        shares = ((1 - DOUBT) * votes + DOUBT / real).log()
        return shares if padding is None else shares + padding
    if isinstance(task.kind, Binary):
        shares = (1 - DOUBT) * votes + DOUBT / 2
        return shares.log() - (1 - shares).log()
    return votes


def drop(values: Tensor, probability: float, training: bool) -> Tensor:
    """Dropout from one random byte per value, several times faster than a draw per value."""
    if not training or probability == 0.0:
        return values
    words = torch.empty((values.numel() + 7) // 8, dtype=torch.int64, device=values.device)
    chances = words.random_().view(torch.uint8)[: values.numel()].view(values.shape)
    threshold = round(256 * probability)
    return values * (chances >= threshold) * (256 / (256 - threshold))


def _for(parameter: Tensor, tables: Tensor | None) -> Tensor:
    """``[M, K, ...]`` of some tables, or of the one set of all tables ``[M, 1, ...]``."""
    chosen = parameter if tables is None else parameter[tables]
    return chosen.transpose(0, 1)


def _product(values: Tensor, weight: Tensor) -> Tensor:
    """``[M, K, B, H] @ [M, K or 1, H, H']``, as one product per member where all tables share."""
    if weight.shape[1] > 1:
        return values @ weight
    flat = torch.bmm(values.flatten(1, 2), weight.squeeze(1))
    result: Tensor = flat.unflatten(1, values.shape[1:3])
    return result


def _normal(shape: tuple[int, ...], variance: float) -> nn.Parameter:
    return nn.Parameter(torch.randn(shape) * math.sqrt(variance))


def _zeros(shape: tuple[int, ...]) -> nn.Parameter:
    return nn.Parameter(torch.zeros(shape))
