"""Many small tables in one ensemble: a network of each table's own around shared layers, answering
by a head and by its nearest neighbours among the rows that it has learned from.

Shape legend: B rows of a table, F columns, M members, H hidden units, Z key size, N remembered
rows, C outputs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from polytask.architectures.base import Architecture, Inputs, TaskIndex
from polytask.architectures.families import Family
from polytask.architectures.heads import average_members
from polytask.architectures.variables.neighbour_layers import (
    Memory,
    SharedLayers,
    TableGroup,
    as_outputs,
    drop,
    groups_of,
    vote,
    vote_values,
)
from polytask.config import rebuildable_repr
from polytask.encoders.base import check_fraction, check_positive
from polytask.problems.table_batch import TableShape
from polytask.tasks import Binary, Multiclass, Task, TaskTensors

if TYPE_CHECKING:
    from polytask.problems import Problem

__all__ = ["NeighbourEnsemble"]

#: Distances that are held in memory at a time when rows are compared with remembered ones.
AT_A_TIME = 4_000_000


class NeighbourEnsemble(Architecture):
    """M members, each y_t = g_t(c(f_t(x_t))) and, from the same features, a vote of the rows that
    are near.

    A row of table t is expanded to v(x) (each numeric column: bent to a bounded range, and as
    steps clip((x - e_k) / (e_k+1 - e_k), 0, 1) between edges at quantiles of the column; each
    category: an indicator). Then, for every member by itself, h = W_t v(x) + b_t; residual layers
    h + a V D r(U D r(h)) (r ReLU, D dropout) whose matrices U, V all tables share; and two answers:

    * head: C_t r(h) + c_t;
    * neighbours: the mean of the targets y_i of remembered rows, weighted with
      ``softmax_i(-s_t |P h - P h_i|^2)``, with P shared by all tables and a sharpness s_t > 0 of
      each.

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

    Shapes: tables ``{task: [B_t, F_t]}`` for any of the tasks, NaN where not observed; outputs a
        block ``[B_t, 1, C_t]`` per task, in training ``[2 M, B_t, 1, C_t]``: M heads, then M
        neighbours.

    Raises:
        ValueError: a task without table or with dense outputs, an argument out of its range, inputs
            of another form, rows to remember that do not fit.

    Cost: every row is compared with every remembered one (in training with at most 256 of them),
        table by table. Rows are remembered with the model's state. A joint step for a hundred
        tables, which computes those of like size as one product, is in
        ``experiments/universal/uci121``.

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
            TableGroup(group, shapes, members=members, hidden=hidden, steps=steps)
            for group in groups_of(self.tasks, shapes, steps)
        )
        self.places = {
            task.name: (g, t)
            for g, group in enumerate(self.table_groups())
            for t, task in enumerate(group.tasks)
        }
        self.layers = SharedLayers(
            members, 1 if shared else len(names), hidden, depth, key_size, dropout
        )
        self.positions = {  # row of the layers' tensors, if every table has its own
            name: position for position, name in enumerate(self.places)
        }
        self.memories = nn.ModuleList(Memory() for _ in names)
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
        for name, part in problem.train.pieces.items():
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
            group, place = self.find(name)
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
            values = vote_values(group.tasks[place], target, group.weight.dtype)
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
                group, place = self.find(name)
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
        group, place = self.find(name)
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
            votes = vote(query[:, part], key, known, allowed, sharpness, factors)
            for of_factor, part_votes in zip(found, votes, strict=True):
                of_factor.append(part_votes)
        task = group.tasks[place]
        near = [as_outputs(task, torch.cat(votes, dim=1)) for votes in found]
        return torch.cat([group.heads(place, self.drop(hidden)), *near])

    def shared_parameters(self) -> Iterator[nn.Parameter]:
        """The residual layers and the keys; with one network per table, none."""
        return self.layers.parameters() if self.shared else iter(())

    def task_parameters(self, name: str) -> Iterator[nn.Parameter]:
        return (parameter for parameter, _ in self.task_rows(name))

    def task_rows(self, name: str) -> Iterator[tuple[nn.Parameter, TaskIndex]]:
        group, place = self.find(name)
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

    def table_groups(self) -> Iterator[TableGroup]:
        """Own parts of the tables, those of like size together."""
        return (cast(TableGroup, group) for group in self.groups)

    def find(self, name: str) -> tuple[TableGroup, int]:
        """The group of a table, and its place there.

        Raises:
            ValueError: an unknown task.
        """
        if name not in self.places:
            raise ValueError(f"No table for task {name!r}; there are {list(self.places)}.")
        g, place = self.places[name]
        return cast(TableGroup, self.groups[g]), place

    def drop(self, hidden: Tensor) -> Tensor:
        """What heads read of hidden values."""
        return drop(functional.relu(hidden), self.dropout, self.training)

    def _memory(self, name: str) -> Memory:
        return cast(Memory, self.memories[self.positions[name]])

    def _one_table(self, name: str, rows: Tensor) -> Tensor:
        """Hidden values ``[M, B, H]`` of rows of one table."""
        group, place = self.find(name)
        cells = functional.pad(rows, (0, group.width - rows.shape[1])).unsqueeze(0)
        tables = torch.tensor([place])
        hidden = group.first(cells, tables)
        result: Tensor = self.layers(hidden, self._own_layers(name))
        return result.squeeze(1)

    def _keys(self, name: str, hidden: Tensor) -> Tensor:
        return self.layers.keys(hidden.unsqueeze(1), self._own_layers(name)).squeeze(1)

    def _own_layers(self, name: str) -> Tensor | None:
        return None if self.shared else torch.tensor([self.positions[name]])
