"""Soft layer ordering: the tasks share their layers, and each puts them in an order of its own.

Shape legend: T tasks, K tasks of a step, B rows of each, D layers (and depths), H hidden units, F
columns, W most outputs of a task of a step.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from polytask.architectures.base import Inputs, TaskIndex
from polytask.architectures.families import Family
from polytask.architectures.variables.variable_embeddings import VariableEmbeddings
from polytask.architectures.variables.variable_grid import Columns, TableVariables, table_shape
from polytask.architectures.variables.variable_model import VariableModel, columns_of, linear_table
from polytask.config import rebuildable_repr
from polytask.encoders.base import check_fraction, check_positive
from polytask.problems.segments import lookup_sum
from polytask.problems.table_batch import TableBatch
from polytask.tasks import Task, TaskTensors

if TYPE_CHECKING:
    from polytask.problems import Problem

__all__ = ["SoftLayerOrdering", "SoftLayers", "permuted_orders", "same_orders"]

#: Layer of every task at every depth.
Orders = Sequence[Sequence[int]]


class SoftLayers(nn.Module):
    """D layers that all tasks share, mixed anew by each task at each depth.

    h_k = sum_j softmax(S[t, k])_j Drop(ReLU(W_j h_{k-1} + b_j)), k = 1 .. D. All D layers are at
    work at every depth; the scores S ``[T, D, D]`` start at 0, so that every task starts with
    their mean. With ``orders`` there are no scores: task t has layer ``orders[t][k]`` alone at
    depth k.

    Args:
        num_tasks: T.
        size: H, the width of every layer.
        depth: D, the number of layers and of depths.
        orders: Fixed orders ``[T][D]`` of layers, instead of learned soft ones; see
            ``permuted_orders`` and ``same_orders``.
        dropout: Probability that a unit of a layer is dropped in training, before the mixing.

    Shapes: values ``[K, B, H]`` of K tasks to ``[K, B, H]``; rows of any tasks after each other are
        ``[R, 1, H]`` with the task of every row.

    Raises:
        ValueError: orders of another shape, or with a layer that does not exist.

    Cost: D times that of D layers, as every layer is applied at every depth (with ``orders`` once).
        Loops over depths and layers, not over tasks.

    References:
        See ``SoftLayerOrdering``.
    """

    order: Tensor

    def __init__(
        self,
        *,
        num_tasks: int,
        size: int,
        depth: int,
        orders: Orders | None = None,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.num_tasks = check_positive("num_tasks", num_tasks)
        self.size = check_positive("size", size)
        self.depth = check_positive("depth", depth)
        self.orders = _checked_orders(orders, num_tasks, depth)
        self.dropout = check_fraction("dropout", dropout)
        bound = 1 / math.sqrt(size)
        self.weight = nn.Parameter(torch.empty(depth, size, size).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(depth, size).uniform_(-bound, bound))
        if self.orders is None:
            self.scores: nn.Parameter | None = nn.Parameter(torch.zeros(num_tasks, depth, depth))
        else:
            self.scores = None
            self.register_buffer("order", torch.tensor(self.orders), persistent=False)

    def forward(self, values: Tensor, tasks: Tensor | None = None) -> Tensor:
        """Values ``[K, B, H]`` after D depths.

        Args:
            values: Of the tasks before the first layer.
            tasks: Numbers ``[K]`` of the tasks; None means all T, in order.
        """
        if self.scores is None:
            return self._fixed(values, tasks)
        scores = self.scores if tasks is None else self.scores.index_select(0, tasks)
        shares = torch.softmax(scores, dim=-1)
        for depth in range(self.depth):
            # Adding layer by layer takes two thirds of the time of one product for all layers,
            # whose [K, B, D, H] has to be summed over D.
            mixed = self._layer(0, values) * shares[:, depth, 0, None, None]
            for layer in range(1, self.depth):
                share = shares[:, depth, layer, None, None]
                mixed = torch.addcmul(mixed, self._layer(layer, values), share)
            values = mixed
        return values

    def shares(self) -> Tensor:
        """Share ``[T, D, D]`` of every layer (last) in every task's every depth, detached."""
        if self.scores is None:
            return functional.one_hot(self.order, self.depth).to(self.weight.dtype)
        return torch.softmax(self.scores.detach(), dim=-1)

    def _layer(self, layer: int, values: Tensor) -> Tensor:
        hidden = functional.relu(functional.linear(values, self.weight[layer], self.bias[layer]))
        return functional.dropout(hidden, self.dropout, self.training)

    def _fixed(self, values: Tensor, tasks: Tensor | None) -> Tensor:
        assert self.orders is not None
        order = self.order if tasks is None else self.order.index_select(0, tasks)
        for depth in range(self.depth):
            if len({own[depth] for own in self.orders}) == 1:
                values = self._layer(self.orders[0][depth], values)
                continue
            weight, bias = self.weight[order[:, depth]], self.bias[order[:, depth]]
            hidden = functional.relu(torch.baddbmm(bias.unsqueeze(1), values, weight.mT))
            values = functional.dropout(hidden, self.dropout, self.training)
        return values

    def __repr__(self) -> str:
        return rebuildable_repr(self)


class SoftLayerOrdering(VariableModel):
    """Shared layers in a soft order of each task's own, between linear maps of each task's own.

    Encoder and decoder of a task are linear: h_0 = sum_i x_i z_i and y_j = h_D . z_j + c_j, with a
    vector z per input and output variable of the task. In between lie the D layers of
    ``SoftLayers``. So what a task shares is not a place in the network but what a layer does, which
    it may use early or late.

    When to use it: tasks of any inputs and outputs that should share more than hard sharing can
    impose. With ``orders=same_orders(...)`` it is plain hard sharing of the layers, with
    ``permuted_orders(...)`` every task has them in a fixed random order; the three have the same
    layers, encoders and decoders, and soft ordering T D^2 scores in addition.

    Args:
        tasks: The tasks, with vector outputs.
        columns: F, for inputs ``[B, F]`` that all tasks share (a ``TableShape`` where some columns
            hold codes of categories); or the columns of every task's own table, ``{task: number or
            TableShape}``, for inputs ``{task: [B_t, F_t]}``.
        embeddings: The vectors z: a table of all variables, task by task its columns (every
            category and one more per categorical column) and then its outputs, with vectors of
            ``hidden`` numbers; or ``hidden``, for a learned table that starts as small as that of a
            ``TravelingObserver``; None: a learned table with the usual scale of linear layers.
        hidden: H.
        depth: D.
        orders: Fixed orders ``[T][D]`` of the layers instead of learned soft ones.
        dropout: Of the layers, in training.

    Shapes: inputs ``[B, F]``, outputs a block ``[B, K', C]`` for the K' tasks of one kind (classes
        that a task does not have are -inf); tables ``{task: [B_t, F_t]}`` for any of the tasks
        (``TableBatch`` pass through), outputs of each task for its own rows. What is NaN counts as
        absent.

    Raises:
        ValueError: vectors of another size than ``hidden``, or another number of them; orders that
            do not fit; inputs of another form.

    Cost: per cell and per output of a row a vector of H numbers, per row D^2 products of H x H (D
        with ``orders``), and K W H numbers for the decoders. No loop over tasks.

    Differences: the paper and its code train one task per step; here a step holds whatever tasks
        the sampler draws, all of them by default. A bias per output.

    Example:
        >>> import torch
        >>> from polytask.tasks import Multiclass, Regression, Task
        >>> tasks = (Task("price", Regression()), Task("species", Multiclass(3)))
        >>> model = SoftLayerOrdering(tasks=tasks, columns={"price": 5, "species": 2}, hidden=16)
        >>> model({"price": torch.ones(4, 5), "species": torch.ones(1, 2)})
        TaskTensors(1 task(s) (4, 1, 1), 1 task(s) (1, 1, 3))
        >>> model.shares()["price"][0]
        tensor([0.3333, 0.3333, 0.3333])

    References:
        E. Meyerson, R. Miikkulainen, Beyond Shared Hierarchies: Deep Multitask Learning through
        Soft Layer Ordering, ICLR 2018, https://arxiv.org/abs/1711.00108 (soft and permuted
        ordering); as the baseline SLO on a table of variables: the same, The Traveling Observer
        Model, ICLR 2021, https://arxiv.org/abs/2010.02354, table 3.
    """

    family = Family.CROSS_DOMAIN
    variables: TableVariables

    def __init__(
        self,
        *,
        tasks: Sequence[Task],
        columns: Columns,
        embeddings: VariableEmbeddings | int | None = None,
        hidden: int = 128,
        depth: int = 3,
        orders: Orders | None = None,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(tasks, columns, embeddings)
        self.hidden = check_positive("hidden", hidden)
        self.depth = check_positive("depth", depth)
        self.dropout = check_fraction("dropout", dropout)
        if not isinstance(columns, Mapping):
            columns = {task.name: table_shape(columns) for task in self.tasks}
        self.variables = TableVariables(tasks=self.tasks, tables=columns)
        self.layers = SoftLayers(
            num_tasks=len(self.tasks), size=hidden, depth=depth, orders=orders, dropout=dropout
        )
        self.orders = self.layers.orders
        self.table = self._table(embeddings)
        self.output_bias = nn.Parameter(torch.zeros(int(self.variables.num_outputs.sum())))

    @classmethod
    def example(cls, tasks: Sequence[Task]) -> tuple[SoftLayerOrdering, Inputs]:
        widths = {task.name: 3 + position for position, task in enumerate(tasks)}
        model = cls(tasks=tasks, columns=widths, hidden=8)
        return model, {name: torch.randn(width + 1, width) for name, width in widths.items()}

    @classmethod
    def for_problem(cls, problem: Problem) -> SoftLayerOrdering:
        """An instance for the tables of a problem."""
        return cls(tasks=problem.tasks, columns=columns_of(problem))

    def forward(self, inputs: Inputs) -> TaskTensors:
        if isinstance(inputs, Tensor):
            rows, encoded = self._encode_shared(inputs)
        else:
            rows = self.variables.pack(inputs)
            encoded = self._encode(rows)
        places = self._places(rows)
        return self._decode(self.layers(encoded, places), rows, places)

    def task_rows(self, name: str) -> Iterator[tuple[nn.Parameter, TaskIndex]]:
        """The vectors of the task's variables, the biases of its outputs, its scores."""
        place = self.variables.places[name]
        yield from super().task_rows(name)
        first = int(self.variables.num_outputs[:place].sum())
        yield self.output_bias, (slice(first, first + self.tasks[place].kind.output_size),)
        if self.layers.scores is not None:
            yield self.layers.scores, (place,)

    def shares(self) -> dict[str, Tensor]:
        """Task name to the share ``[D, D]`` of every layer (last) in each of its depths."""
        names = [task.name for task in self.tasks]
        return dict(zip(names, self.layers.shares().unbind(), strict=True))

    def _table(self, embeddings: VariableEmbeddings | int | None) -> VariableEmbeddings:
        count = self.variables.num_variables
        if embeddings is not None:
            return linear_table(embeddings, count, self.hidden, "Soft layer ordering")
        table = VariableEmbeddings.learned(count, self.hidden, std=1 / math.sqrt(self.hidden))
        with torch.no_grad():
            for name, shape in self.variables.tables.items():
                first = self.variables.variables_of(name).start
                own = table.weight[first : self.variables.outputs_of(name).start]
                own.mul_(math.sqrt(self.hidden / shape.width))
        return table

    def _places(self, rows: TableBatch) -> Tensor | None:
        """Numbers ``[K]`` of the tasks of a batch; None for all of them in order."""
        places = [self.variables.places[name] for name in rows.names]
        if places == list(range(len(self.tasks))):
            return None
        return torch.tensor(places, device=rows.device)

    def _encode(self, rows: TableBatch) -> Tensor:
        """h_0 ``[K, B, H]``."""
        cells = self.variables.cells(rows)
        sums = lookup_sum(
            self.table.weight, cells.variables, cells.rows, cells.num_rows, weights=cells.values
        )
        encoded: Tensor = sums.unflatten(0, (len(rows.names), rows.size))
        return encoded

    def _encode_shared(self, inputs: Tensor) -> tuple[TableBatch, Tensor]:
        """h_0 ``[T, B, H]`` of inputs ``[B, F]``, and the rows of every task without cells."""
        shape = next(iter(self.variables.tables.values()))
        one_table = not isinstance(self.columns, Mapping)
        if not one_table or inputs.dim() != 2 or inputs.shape[1] != shape.width:
            wanted = f"[rows, {shape.width}]" if one_table else "one tensor per task"
            raise ValueError(f"The inputs must be {wanted}, found shape {list(inputs.shape)}.")
        # The first variable is 0, so where columns start in the first table they start in all.
        starts = self.variables.column_variable[: shape.width]
        own = self.variables.first_variable[:-1, None] + starts
        numbers = inputs[:, : shape.num_numeric].nan_to_num(nan=0.0)
        encoded = torch.matmul(numbers, self.table(own[:, : shape.num_numeric]))
        if shape.cardinalities:
            self.variables.pack({self.tasks[0].name: inputs})  # checks the codes
            codes = inputs[:, shape.num_numeric :].to(torch.int64)
            chosen = own[:, None, shape.num_numeric :] + codes
            sums = functional.embedding_bag(chosen.flatten(0, 1), self.table.weight, mode="sum")
            encoded = encoded + sums.view_as(encoded)
        rows = TableBatch(
            cells=inputs.new_empty(0),
            positions=own.new_empty(0),
            counts=own.new_zeros(len(self.tasks) * len(inputs)),
            names=tuple(task.name for task in self.tasks),
            widths=(shape.width,) * len(self.tasks),
        )
        return rows, encoded

    def _decode(self, hidden: Tensor, rows: TableBatch, places: Tensor | None) -> TaskTensors:
        """The outputs of every task: decoders padded to the most outputs, in one product."""
        tables, counts = self.variables.tables_of(rows.names), self.variables.num_outputs
        first_bias = counts.cumsum(0) - counts
        if places is not None:
            first_bias = first_bias[places]
        column = torch.arange(tables.width, device=counts.device)
        exists = column < tables.num_outputs.unsqueeze(1)
        column = torch.where(exists, column, 0)
        weight = self.table(tables.first_output.unsqueeze(1) + column)
        bias = self.output_bias[first_bias.unsqueeze(1) + column]
        padded = torch.baddbmm(bias.unsqueeze(1), hidden, weight.mT)
        return self.variables.blocks(rows, padded.masked_fill(~exists.unsqueeze(1), -torch.inf))


def permuted_orders(num_tasks: int, depth: int, *, seed: int = 0) -> tuple[tuple[int, ...], ...]:
    """A random order of the layers for every task, ``[T][D]``: permuted ordering.

    Example:
        >>> permuted_orders(3, 4)
        ((2, 3, 0, 1), (0, 2, 1, 3), (2, 3, 0, 1))
    """
    generator = torch.Generator().manual_seed(seed)
    keys = torch.rand(num_tasks, depth, generator=generator)
    return tuple(map(tuple, keys.argsort(dim=1).tolist()))


def same_orders(num_tasks: int, depth: int) -> tuple[tuple[int, ...], ...]:
    """One order of the layers for all tasks, ``[T][D]``: hard sharing.

    Example:
        >>> same_orders(2, 3)
        ((0, 1, 2), (0, 1, 2))
    """
    return (tuple(range(depth)),) * num_tasks


def _checked_orders(
    orders: Orders | None, num_tasks: int, depth: int
) -> tuple[tuple[int, ...], ...] | None:
    if orders is None:
        return None
    given = tuple(tuple(order) for order in orders)
    if len(given) != num_tasks:
        raise ValueError(
            f"`orders` must have one order per task ({num_tasks}), found {len(given)}."
        )
    for order in given:
        if len(order) != depth or not all(0 <= layer < depth for layer in order):
            raise ValueError(
                f"Every order in `orders` must be {depth} layers, each 0 .. {depth - 1}, found"
                f" {list(order)}."
            )
    return given
