"""What models over variables have in common: what they read, and the embeddings of their variables.

Shape legend: V variables of all tasks, M hidden units.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from torch import nn

from polytask.architectures.base import Architecture, TaskIndex
from polytask.architectures.variables.variable_embeddings import VariableEmbeddings, embedding_table
from polytask.architectures.variables.variable_grid import (
    Columns,
    SharedVariables,
    TableVariables,
    VariableSource,
)
from polytask.config import rebuildable_repr
from polytask.tasks import Task

if TYPE_CHECKING:
    from polytask.problems import Problem

__all__ = ["VariableModel", "columns_of", "linear_table", "variable_source"]


class VariableModel(Architecture):
    """A model over variables with one table of their embeddings.

    A task with a table of its own owns the embeddings of its variables, all else is shared.

    Args:
        tasks: With vector outputs.
        columns: What it reads, see ``TravelingObserver``.
        embeddings: A table of V embeddings, or what says how to make one.
    """

    takes_table_batches = True
    variables: VariableSource
    table: VariableEmbeddings

    def __init__(
        self,
        tasks: Sequence[Task],
        columns: Columns,
        embeddings: VariableEmbeddings | int | None,
    ) -> None:
        super().__init__(tuple(tasks))
        self.columns = columns
        # A table that was given is a module, to be registered once, as ``table``.
        self._given = None if isinstance(embeddings, VariableEmbeddings) else (embeddings,)

    @property
    def embeddings(self) -> VariableEmbeddings | int | None:
        """The argument."""
        return self.table if self._given is None else self._given[0]

    def shared_parameters(self) -> Iterator[nn.Parameter]:
        own = {id(p) for task in self.tasks for p in self.task_parameters(task.name)}
        return (parameter for parameter in self.parameters() if id(parameter) not in own)

    def task_parameters(self, name: str) -> Iterator[nn.Parameter]:
        return (parameter for parameter, _ in self.task_rows(name))

    def task_rows(self, name: str) -> Iterator[tuple[nn.Parameter, TaskIndex]]:
        weight = self.table.weight
        if isinstance(self.variables, TableVariables) and isinstance(weight, nn.Parameter):
            yield weight, (self.variables.variables_of(name),)

    def __repr__(self) -> str:
        return rebuildable_repr(self)


def variable_source(
    tasks: Sequence[Task], columns: Columns, same_variables: bool | Mapping[str, int] = False
) -> VariableSource:
    """The variables of shared inputs, or of a table per task.

    Raises:
        ValueError: ``same_variables`` with a table per task.
    """
    if isinstance(columns, Mapping):
        if same_variables:
            raise ValueError(
                "`same_variables` needs inputs that all tasks share, found a table per task."
            )
        return TableVariables(tasks=tasks, tables=columns)
    return SharedVariables(tasks=tasks, columns=columns, same_variables=same_variables)


def columns_of(problem: Problem) -> Columns:
    """What a model over variables reads of a problem.

    Raises:
        ValueError: inputs that are no tables, such as images.
    """
    shapes = problem.table_shapes()
    return shapes if problem.layout == "separate" else next(iter(shapes.values()))


def linear_table(
    embeddings: VariableEmbeddings | int, num_variables: int, hidden: int, name: str
) -> VariableEmbeddings:
    """Given embeddings as the weights of linear layers of ``hidden`` units.

    Raises:
        ValueError: vectors of another size, or another number of them; ``name`` says which model
            they are for.
    """
    table = embedding_table(embeddings, num_variables)
    if table.size != hidden:
        raise ValueError(
            f"{name} uses the embeddings as the weights of linear layers of `hidden` = {hidden}"
            f" units, found embeddings of size {table.size}; give both the same size."
        )
    return table
