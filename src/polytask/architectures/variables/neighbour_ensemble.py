"""Many small tables in one ensemble: a network of each table's own around shared layers, answering
by a head and by its nearest neighbours among the rows that it has learned from.

Shape legend: T tables of a group, K tables in the batch, B rows of each, F columns, E values of an
expanded row, M members, H hidden units, Z key size, N remembered rows, C outputs.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from polytask.architectures.base import Architecture, Inputs, TaskIndex
from polytask.architectures.families import Family
from polytask.architectures.heads import average_members
from polytask.config import rebuildable_repr
from polytask.encoders.base import check_fraction, check_positive
from polytask.problems.table_batch import TableBatch, TableShape
from polytask.tasks import Binary, Multiclass, Task, TaskTensors

if TYPE_CHECKING:
    from polytask.problems import Problem, SeparateSplit

__all__ = ["NeighbourEnsemble"]

#: Numeric cells are bent towards this many standard deviations: x / sqrt(1 + (x / 3)^2).
CLIP = 3.0
#: Most values of the steps of all columns of a table; wide tables get fewer steps per column.
ROOM = 600
#: Weight of equal shares in what neighbours say, so that one odd neighbour costs a bounded loss.
DOUBT = 0.05
#: Distances that are held in memory at a time when rows are compared with remembered ones.
AT_A_TIME = 4_000_000
#: Tables whose expanded rows differ by no more than this factor are computed as one product.
SPREAD = 1.35
#: Bounds of the numbers of outputs that are computed as one product.
OUTPUT_CLASSES = (3, 10, 32)


class NeighbourEnsemble(Architecture):
    """M members, each y_t = g_t(c(f_t(x_t))) and, from the same features, a vote of the rows that
    are near.

    A row of table t is expanded to v(x) (each numeric column: bent to a bounded range, and as
    steps clip((x - e_k) / (e_k+1 - e_k), 0, 1) between edges at quantiles of the column; each
    category: an indicator). Then, for every member by itself, h = W_t v(x) + b_t; residual layers
    h + a V D r(U D r(h)) (r ReLU, D dropout) whose matrices U, V all tables share; and two answers:

    * head: C_t r(h) + c_t;
    * neighbours: the mean of the targets y_i of remembered rows, weighted with
      softmax_i(-s_t |P h - P h_i|^2), with P shared by all tables and a sharpness s_t > 0 of each.

    The 2 M answers are the ensemble members: each has its own loss in training, and their
    predictions are averaged. Networks answer smoothly, neighbours remember exceptions and repeated
    rows as forests do; which is right depends on the table.

    When to use it: many tables of ten to some ten thousand rows with columns of their own. When
    not: one large table (``TabularEncoder``), or tasks that share their inputs (``HardSharing``).

    Args:
        tasks: The tasks, with vector outputs.
        columns: Columns of every task's table, ``{task: number of numeric columns or
            TableShape}``; numeric columns should be scaled to a standard deviation near 1.
        members: M.
        hidden: H.
        depth: Residual layers.
        steps: Steps per numeric column, fewer in tables of more than 600 / steps columns.
        key_size: Z.
        dropout: Probability of dropping a hidden value, in [0, 1).
        folds: Member m does not learn from rows of fold m mod ``folds``; see ``remember``.
        shared: Whether residual layers and P are common to all tables; False gives every table
            its own. On the UCI-121 tables neither is more accurate, see
            ``experiments/universal/uci121``; sharing has half of the parameters.

    Shapes: tables ``{task: [B_t, F_t]}`` for any of the tasks (``TableBatch`` pass through), NaN
        where not observed; outputs a block ``[B_t, 1, C_t]`` per task, in training ``[2 M, B_t, 1,
        C_t]``: M heads, then M neighbours.

    Raises:
        ValueError: a task without table or with dense outputs, an argument out of its range, inputs
            of another form, rows to remember that do not fit.

    Cost: ``learn`` computes tables of like size as one product and the rows of a step as each
        other's neighbours, B^2 distances per table and member. ``forward`` compares every row with
        every remembered one (in training with at most 256 of them), table by table: it is meant for
        evaluation. Rows are remembered with the model's state.

    Differences: from ModernNCA, which looks for neighbours by Euclidean distance of one table's
        rows: squared distances with a learned sharpness, a head beside them, and shared layers.

    Example:
        >>> import torch
        >>> from polytask.tasks import Multiclass, Task
        >>> tasks = (Task("iris", Multiclass(3)), Task("coin", Multiclass(2)))
        >>> model = NeighbourEnsemble(tasks=tasks, columns={"iris": 4, "coin": 1}, members=2)
        >>> rows = {"iris": torch.randn(9, 4), "coin": torch.randn(6, 1)}
        >>> classes = {"iris": torch.arange(9) % 3, "coin": torch.arange(6) % 2}
        >>> model.remember(rows, classes)
        >>> model.eval()({"iris": torch.randn(5, 4)})["iris"].shape
        torch.Size([5, 3])

    References:
        H.-J. Ye, H.-H. Yin, D.-C. Zhan, Revisiting Nearest Neighbor for Tabular Data, ICLR 2025,
        https://arxiv.org/abs/2407.03257, section 4. Y. Gorishniy, I. Rubachev, A. Babenko, On
        Embeddings for Numerical Features in Tabular Deep Learning, NeurIPS 2022,
        https://arxiv.org/abs/2203.05556, section 3.2.
    """

    family = Family.CROSS_DOMAIN

    def __init__(  # noqa: PLR0913 - sizes of a network with two kinds of answers
        self,
        *,
        tasks: Sequence[Task],
        columns: Mapping[str, int | TableShape],
        members: int = 5,
        hidden: int = 64,
        depth: int = 2,
        steps: int = 8,
        key_size: int = 32,
        dropout: float = 0.35,
        folds: int = 5,
        shared: bool = True,
    ) -> None:
        super().__init__(tuple(tasks))
        names = [task.name for task in self.tasks]
        if set(columns) != set(names):
            odd = sorted(set(columns) ^ set(names))
            raise ValueError(f"Every task needs exactly one table, found no pair for {odd}.")
        for task in self.tasks:
            if task.kind.output_dims != 1:
                raise ValueError(
                    f"Task {task.name!r} is a {type(task.kind).__name__}, whose outputs are not "
                    "vectors; a row of a table has one target."
                )
        self.columns = {name: columns[name] for name in names}
        self.members = check_positive("members", members)
        self.hidden = check_positive("hidden", hidden)
        self.depth = check_positive("depth", depth)
        self.steps = check_positive("steps", steps)
        self.key_size = check_positive("key_size", key_size)
        self.dropout = check_fraction("dropout", dropout)
        self.folds = check_positive("folds", folds)
        self.shared = shared
        shapes = {n: TableShape(s) if isinstance(s, int) else s for n, s in self.columns.items()}
        self.groups = nn.ModuleList(
            _Group(group, shapes, members=members, hidden=hidden, steps=steps)
            for group in _alike(self.tasks, shapes, steps)
        )
        self.places = {
            task.name: (g, t)
            for g, group in enumerate(self._groups())
            for t, task in enumerate(group.tasks)
        }
        self.layers = _Layers(
            members, 1 if shared else len(names), hidden, depth, key_size, dropout
        )
        self.positions = {  # row of the layers' tensors, if every table has its own
            name: position for position, name in enumerate(self.places)
        }
        self.memories = nn.ModuleList(_Memory() for _ in names)
        self.register_buffer("held_out", torch.arange(members) % folds, persistent=False)
        self.held_out: Tensor

    @classmethod
    def example(cls, tasks: Sequence[Task]) -> tuple[NeighbourEnsemble, Inputs]:
        """A small instance for these tasks, which remembers some rows, and inputs for it."""
        sizes = {task.name: 2 + position % 3 for position, task in enumerate(tasks)}
        model = cls(tasks=tasks, columns=sizes, members=2, hidden=6, steps=3, dropout=0.1)
        generator = torch.Generator().manual_seed(0)
        rows = {n: torch.randn(7, size, generator=generator) for n, size in sizes.items()}
        numbers = torch.arange(7)
        targets = {
            task.name: numbers % max(2, task.kind.output_size)
            if isinstance(task.kind, (Binary, Multiclass))
            else numbers / 7
            for task in tasks
        }
        model.remember(rows, targets)
        return model, {n: torch.randn(4 + size, size) for n, size in sizes.items()}

    @classmethod
    def for_problem(cls, problem: Problem) -> NeighbourEnsemble:
        """An instance for the tables of a problem, which remembers its labelled training rows.

        Raises:
            ValueError: a problem whose tasks share their inputs.
        """
        if problem.layout != "separate":
            raise ValueError(
                f"NeighbourEnsemble takes a table per task, and the tasks of {problem.name!r} share"
                " their inputs; use HardSharing."
            )
        model = cls(tasks=problem.tasks, columns=problem.table_shapes())
        inputs, targets = {}, {}
        for name, part in cast("SeparateSplit", problem.train).parts.items():
            rows = part.labelled(name)
            inputs[name], targets[name] = part.inputs[rows], part.targets[name][rows]
        model.remember(inputs, targets)
        return model

    def remember(
        self,
        inputs: Mapping[str, Tensor],
        targets: Mapping[str, Tensor],
        folds: Mapping[str, Tensor] | None = None,
    ) -> None:
        """Keep the rows that neighbours are found among, and set the steps of the columns by them.

        To be called once, before training, with the rows to train on.

        Args:
            inputs: ``{task: [N_t, F_t]}``.
            targets: ``{task: [N_t]}``, encoded.
            folds: ``{task: [N_t]}``, fold of every row; member m compares with, and is to learn
                from, rows of other folds than m mod ``folds``. None lets all members use all rows.

        Raises:
            ValueError: an unknown task, no rows, or numbers of rows or columns that do not fit.
        """
        for name, rows in inputs.items():
            group, place = self._find(name)
            width = group.shapes[place].width
            if rows.dim() != 2 or not len(rows) or rows.shape[1] != width:
                raise ValueError(
                    f"Table {name!r} must be [rows, {width}] with at least one row, found shape"
                    f" {list(rows.shape)}."
                )
            target = targets[name]
            fold = torch.full((len(rows),), -1) if folds is None else folds[name]
            if not len(rows) == len(target) == len(fold):
                raise ValueError(
                    f"Table {name!r} has {len(rows)} rows, but {len(target)} targets and"
                    f" {len(fold)} folds."
                )
            group.fit(place, rows)
            device = group.weight.device
            values = _values(group.tasks[place], target, group.weight.dtype)
            self._memory(name).keep(rows.to(device), values.to(device), fold.to(device))

    def forward(self, inputs: Inputs) -> TaskTensors:
        """Outputs of the tasks, with neighbours among the remembered rows."""
        if not isinstance(inputs, Mapping):
            raise ValueError(
                f"NeighbourEnsemble takes one tensor per task, found one tensor of shape"
                f" {list(inputs.shape)}."
            )
        blocks = []
        for name in inputs:
            answers = self.answers(name, inputs[name])
            if not self.training:
                group, place = self._find(name)
                answers = average_members(group.tasks[place], answers)
            blocks.append(((name,), answers.unsqueeze(-2)))
        return TaskTensors(blocks, 2 * self.members if self.training else 1)

    def answers(self, name: str, rows: Tensor, *, sharper: Sequence[float] = ()) -> Tensor:
        """The answers ``[2 M, B, C]`` for rows of one table: M heads, then M neighbours.

        Args:
            name: Of the task.
            rows: ``[B, F]``.
            sharper: Factors of the learned sharpness for which to add M answers each; sharpness is
                learned among the rows of a batch, and among many more remembered rows a larger one
                can be better.

        Raises:
            ValueError: an unknown task, rows of another length, or no rows remembered.
        """
        group, place = self._find(name)
        if rows.dim() != 2 or rows.shape[1] != group.shapes[place].width:
            raise ValueError(
                f"Table {name!r} must have {group.shapes[place].width} columns, found shape"
                f" {list(rows.shape)}."
            )
        memory = self._memory(name)
        if memory.inputs is None or memory.values is None or memory.folds is None:
            raise ValueError(f"No rows of {name!r} are remembered; call `remember` first.")
        kept = slice(None)
        if self.training and len(memory.inputs) > 256:
            kept = cast(slice, torch.randperm(len(memory.inputs), device=rows.device)[:256])
        keys, known, folds = memory.inputs[kept], memory.values[kept], memory.folds[kept]
        hidden = self._one_table(name, rows)
        query, key = self._keys(name, hidden), self._keys(name, self._one_table(name, keys))
        usable = (folds != self.held_out.unsqueeze(1)).unsqueeze(1)  # [M, 1, N]
        sharpness = group.sharpness[place].view(-1, 1, 1)
        factors = (1.0, *sharper)
        found: list[list[Tensor]] = [[] for _ in factors]
        chunk = max(1, AT_A_TIME // (self.members * len(keys)))
        for start in range(0, len(rows), chunk):
            part = slice(start, start + chunk)
            allowed = usable.expand(-1, len(rows[part]), -1)
            if self.training:  # a row must not find itself
                same = rows[part].nan_to_num().unsqueeze(1) == keys.nan_to_num()
                allowed = allowed & ~same.all(-1)
            votes = _votes(query[:, part], key, known, allowed, sharpness, factors)
            for of_factor, vote in zip(found, votes, strict=True):
                of_factor.append(vote)
        task = group.tasks[place]
        near = [_as_outputs(task, torch.cat(votes, dim=1)) for votes in found]
        return torch.cat([group.heads(place, self._drop(hidden)), *near])

    def learn(
        self,
        inputs: Mapping[str, Tensor],
        targets: Mapping[str, Tensor],
        use: Tensor,
        rows: Tensor | None = None,
    ) -> TaskTensors:
        """Answers for a training batch, whose rows are each other's neighbours.

        Args:
            inputs: Tables with as many rows each, or ``TableBatch``.
            targets: Of every table, encoded.
            use: ``[M, K, B]``, whether member m may learn from row b of table k; the other rows are
                no neighbours for it, and their losses should be left out.
            rows: Row numbers ``[K, B]``, where a row may have been drawn twice: a row is no
                neighbour of itself. None means that all rows differ.

        Returns:
            Blocks ``[2 M, B, T', C]`` of tables of like size, padded with -inf.
        """
        packed = TableBatch.pack(inputs)
        order = {name: k for k, name in enumerate(packed.names)}
        chosen = [(group, [n for n in group.names if n in order]) for group in self._groups()]
        chosen = [(group, names) for group, names in chosen if names]
        first = [
            group.first(group.cells(packed, [order[n] for n in names]), group.select(names))
            for group, names in chosen
        ]
        tables = torch.tensor([self.positions[n] for _, names in chosen for n in names])
        hidden = self.layers(torch.cat(first, dim=1), None if self.shared else tables)
        keys = self.layers.keys(hidden, None if self.shared else tables)
        dropped = self._drop(hidden)
        numbers = torch.arange(packed.size).expand(len(order), -1) if rows is None else rows
        other = (numbers.unsqueeze(2) != numbers.unsqueeze(1)).to(packed.device)
        blocks, start = [], 0
        for group, names in chosen:
            own = slice(start, start + len(names))
            start += len(names)
            places = torch.tensor([order[n] for n in names])
            allowed = use[:, places].unsqueeze(-2) & other[places]
            answers = group.answers(
                keys[:, own],
                dropped[:, own],
                torch.stack([targets[n] for n in names]),
                allowed,
                group.select(names),
            )
            blocks.append((tuple(names), answers.transpose(1, 2)))
        sizes = {task.name: task.kind.output_size for task in self.tasks if task.name in order}
        return TaskTensors(blocks, 2 * self.members, sizes=sizes)

    def shared_parameters(self) -> Iterator[nn.Parameter]:
        """The residual layers and the keys; with one network per table, none."""
        return self.layers.parameters() if self.shared else iter(())

    def task_parameters(self, name: str) -> Iterator[nn.Parameter]:
        """Parameters that hold values of this task."""
        return (parameter for parameter, _ in self.task_rows(name))

    def task_rows(self, name: str) -> Iterator[tuple[nn.Parameter, TaskIndex]]:
        """The same, each with the index of the task's own part."""
        group, place = self._find(name)
        for parameter in group.parameters():
            yield parameter, (place,)
        if not self.shared:
            for parameter in self.layers.parameters():
                yield parameter, (self.positions[name],)

    def last_shared_parameters(self) -> Iterator[nn.Parameter]:
        """The last residual layer and the keys."""
        return self.layers.last() if self.shared else iter(())

    def __repr__(self) -> str:
        return rebuildable_repr(self)

    def _groups(self) -> Iterator[_Group]:
        return (cast(_Group, group) for group in self.groups)

    def _find(self, name: str) -> tuple[_Group, int]:
        if name not in self.places:
            raise ValueError(f"No table for task {name!r}; there are {list(self.places)}.")
        g, place = self.places[name]
        return cast(_Group, self.groups[g]), place

    def _memory(self, name: str) -> _Memory:
        return cast(_Memory, self.memories[self.positions[name]])

    def _drop(self, hidden: Tensor) -> Tensor:
        return _dropout(functional.relu(hidden), self.dropout, self.training)

    def _one_table(self, name: str, rows: Tensor) -> Tensor:
        """Hidden values ``[M, B, H]`` of rows of one table."""
        group, place = self._find(name)
        cells = functional.pad(rows, (0, group.width - rows.shape[1])).unsqueeze(0)
        tables = torch.tensor([place])
        hidden = group.first(cells, tables)
        result: Tensor = self.layers(hidden, self._own_layers(name))
        return result.squeeze(1)

    def _keys(self, name: str, hidden: Tensor) -> Tensor:
        return self.layers.keys(hidden.unsqueeze(1), self._own_layers(name)).squeeze(1)

    def _own_layers(self, name: str) -> Tensor | None:
        return None if self.shared else torch.tensor([self.positions[name]])


class _Layers(nn.Module):
    """Residual layers ``[K, depth, 2, M, H, H]`` and keys, of all tables (K = 1) or of each."""

    def __init__(
        self, members: int, tables: int, size: int, depth: int, key_size: int, dropout: float
    ) -> None:
        super().__init__()
        self.dropout = dropout
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
            update = _dropout(functional.relu(hidden), self.dropout, self.training)
            update = functional.relu(_product(update, inner) + inner_bias)
            update = _dropout(update, self.dropout, self.training)
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


class _Group(nn.Module):
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
        padding = torch.zeros(tables, 1, self.outputs)
        for t, task in enumerate(tasks):
            padding[t, :, task.kind.output_size :] = -torch.inf
        self.register_buffer("padding", padding, persistent=False)
        self.padding: Tensor

    def select(self, names: Sequence[str]) -> Tensor | None:
        """Places of some tables; None means all."""
        if len(names) == len(self.names):
            return None
        return torch.tensor([self.names.index(name) for name in names])

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

    def cells(self, packed: TableBatch, tables: Sequence[int]) -> Tensor:
        """The rows ``[T', B, F]`` of some tables of a batch; NaN where there is no cell."""
        size, device = packed.size, packed.device
        base = torch.full((len(packed.names),), -1, device=device)
        base[torch.tensor(tables, device=device)] = torch.arange(len(tables), device=device)
        row = packed.rows
        table = base[torch.div(row, size, rounding_mode="floor")]
        own = table >= 0
        where = (table[own] * size + row[own] % size) * self.width + packed.positions[own]
        flat = packed.cells.new_full((len(tables) * size * self.width,), torch.nan)
        flat[where] = packed.cells[own]
        return flat.view(len(tables), size, self.width)

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

    def answers(
        self,
        keys: Tensor,
        dropped: Tensor,
        targets: Tensor,
        allowed: Tensor,
        tables: Tensor | None,
    ) -> Tensor:
        """Answers ``[2 M, T', B, C]``, with the rows of the batch as neighbours of each other."""
        head, bias, sharpness = (
            (p if tables is None else p[tables]).transpose(0, 1)
            for p in (self.head, self.head_bias, self.sharpness)
        )
        padding = self.padding if tables is None else self.padding[tables]
        heads = dropped @ head + bias + padding
        task = self.tasks[0]
        values = _values(task, targets, keys.dtype, self.outputs)
        (votes,) = _votes(keys, keys, values, allowed, sharpness)
        near = _as_outputs(task, votes, padding)
        return torch.cat([heads, near])


class _Memory(nn.Module):
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


def _alike(
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


def _values(task: Task, targets: Tensor, dtype: torch.dtype, outputs: int | None = None) -> Tensor:
    """What neighbours vote with ``[..., C]``: classes as indicators, numbers as they are."""
    if isinstance(task.kind, Multiclass):
        return functional.one_hot(targets.long(), outputs or task.kind.output_size).to(dtype)
    numbers = targets.to(dtype)
    return numbers if task.kind.output_size > 1 else numbers.unsqueeze(-1)


def _votes(
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


def _as_outputs(task: Task, votes: Tensor, padding: Tensor | None = None) -> Tensor:
    """Votes as outputs of the task's kind: logarithms of class shares, or numbers."""
    if isinstance(task.kind, Multiclass):
        real = votes.shape[-1] if padding is None else (padding == 0).sum(-1, keepdim=True)
        shares = ((1 - DOUBT) * votes + DOUBT / real).log()
        return shares if padding is None else shares + padding
    if isinstance(task.kind, Binary):
        shares = (1 - DOUBT) * votes + DOUBT / 2
        return shares.log() - (1 - shares).log()
    return votes


def _dropout(values: Tensor, probability: float, training: bool) -> Tensor:
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
