"""The deep residual baseline of the Traveling Observer Model: a linear encoder and decoder of each
variable's own around one shared core.

Shape legend: K tables in the batch, B rows of each, Q output variables, V variables of all tasks, M
hidden units, n columns of shared inputs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from polytask.architectures.base import Inputs
from polytask.architectures.families import Family
from polytask.architectures.variables.film import CoreResidualBlock
from polytask.architectures.variables.variable_embeddings import VariableEmbeddings
from polytask.architectures.variables.variable_grid import Columns, Grid, TableVariables
from polytask.architectures.variables.variable_model import (
    VariableModel,
    columns_of,
    linear_table,
    variable_source,
)
from polytask.encoders.base import check_fraction, check_positive
from polytask.problems.segments import lookup_sum
from polytask.tasks import Task, TaskTensors

if TYPE_CHECKING:
    from polytask.problems import Problem

__all__ = ["DeepResidual"]


class DeepResidual(VariableModel):
    """A residual core that all tasks share between linear maps of their variables.

    h = core(sum_i x_i z_i) and y_j = h . z_j: the embeddings of a task's input variables are the
    weights of its linear encoder, those of its outputs the weights of its linear decoder. With one
    task it is DR-STL of the paper, with several DR-MTL: what the Traveling Observer Model is
    compared with to see what reading variables through one network adds.

    When to use it: a fast first model for tables with different columns; only the core is shared,
    so the tasks help each other less than their number suggests.

    Args:
        tasks: The tasks, with vector outputs (one output variable per number, one per class).
        columns: n, for inputs ``[B, n]`` that all tasks share (a ``TableShape`` where some columns
            hold codes of categories); or the columns of every task's own table, ``{task: number or
            TableShape}``, for inputs ``{task: [B_t, F_t]}``.
        embeddings: A table of V embeddings of size M, such as that of a ``TravelingObserver``; M,
            for a learned table that starts as small as there; None: a learned table with the usual
            scale of linear layers, 1 / sqrt(number of inputs). V counts as in
            ``TravelingObserver``.
        hidden: M.
        layers: Residual blocks of the core, 3 in the paper.
        dropout: Of the blocks, in training.

    Shapes: as ``TravelingObserver``; NaN counts as absent.

    Raises:
        ValueError: embeddings of another size than ``hidden``, or another number of them; inputs of
            another form.

    Cost: M numbers per cell and per output of a row, an M x M product per row and block. No loop
        over tasks.

    Example:
        >>> import torch
        >>> from polytask.tasks import Multiclass, Regression, Task
        >>> tasks = (Task("price", Regression()), Task("species", Multiclass(3)))
        >>> model = DeepResidual(tasks=tasks, columns={"price": 5, "species": 2}, hidden=16)
        >>> model({"price": torch.ones(4, 5), "species": torch.ones(1, 2)})
        TaskTensors(1 task(s) (4, 1, 1), 1 task(s) (1, 1, 3))

    References:
        E. Meyerson, R. Miikkulainen, The Traveling Observer Model, ICLR 2021,
        https://arxiv.org/abs/2010.02354, section 4 and table 3 (DR-STL, DR-MTL).
    """

    family = Family.CROSS_DOMAIN

    def __init__(
        self,
        *,
        tasks: Sequence[Task],
        columns: Columns,
        embeddings: VariableEmbeddings | int | None = None,
        hidden: int = 128,
        layers: int = 3,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(tasks, columns, embeddings)
        self.hidden = check_positive("hidden", hidden)
        self.layers = check_positive("layers", layers)
        self.dropout = check_fraction("dropout", dropout)
        self.variables = variable_source(self.tasks, columns)
        self.table = self._table(embeddings)
        self.core = nn.Sequential(
            *(CoreResidualBlock(size=hidden, dropout=dropout) for _ in range(layers))
        )

    @classmethod
    def example(cls, tasks: Sequence[Task]) -> tuple[DeepResidual, Inputs]:
        widths = {task.name: 3 + position for position, task in enumerate(tasks)}
        model = cls(tasks=tasks, columns=widths, hidden=8)
        return model, {name: torch.randn(width + 1, width) for name, width in widths.items()}

    @classmethod
    def for_problem(cls, problem: Problem) -> DeepResidual:
        """An instance for the tables of a problem."""
        return cls(tasks=problem.tasks, columns=columns_of(problem))

    def forward(self, inputs: Inputs) -> TaskTensors:
        grid = self.variables.read(inputs)
        hidden = self.core(self._encode(grid))
        return self.variables.write(grid, self._decode(grid, hidden))

    def last_shared_parameters(self) -> Iterator[nn.Parameter]:
        """Parameters of the last block of the core."""
        return self.core[-1].parameters()

    def _encode(self, grid: Grid) -> Tensor:
        """Sums ``[K, B, M]`` of x_i z_i."""
        shape = (grid.num_tables, grid.num_rows, self.hidden)
        if isinstance(self.variables, TableVariables):
            assert grid.batch is not None
            cells = self.variables.cells(grid.batch)
            return lookup_sum(
                self.table.weight, cells.variables, cells.rows, cells.num_rows, weights=cells.values
            ).view(shape)
        embeddings: Tensor = self.table(grid.columns)
        sums = grid.values.T @ embeddings
        if grid.categories is not None:
            variables, rows = grid.categories
            sums = sums + lookup_sum(self.table.weight, variables, rows, grid.num_rows)
        return sums.view(shape)

    def _decode(self, grid: Grid, hidden: Tensor) -> Tensor:
        """Answers ``[Q, B]``."""
        embeddings: Tensor = self.table(grid.outputs)
        if grid.num_tables == 1:
            return embeddings @ hidden[0].T
        own = hidden.index_select(0, grid.output_tables)
        return torch.bmm(own, embeddings.unsqueeze(-1)).squeeze(-1)

    def _table(self, embeddings: VariableEmbeddings | int | None) -> VariableEmbeddings:
        count = self.variables.num_variables
        if embeddings is not None:
            return linear_table(embeddings, count, self.hidden, "DeepResidual")
        table = VariableEmbeddings.learned(count, self.hidden, std=1.0)
        with torch.no_grad():
            table.weight.div_(self.variables.fan_in(self.hidden).sqrt().unsqueeze(1))
        return table
