"""What every architecture offers: outputs for all its tasks, and which parameters are shared.

Shape legend: T tasks, B batch, D features, C output size, m models.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from types import EllipsisType
from typing import TYPE_CHECKING, ClassVar

from torch import Tensor, nn

from polytask.architectures.families import Family
from polytask.tasks import Task, TaskTensors, check_unique_names

if TYPE_CHECKING:
    from polytask.problems import Problem

__all__ = ["Architecture", "Inputs", "TaskIndex"]

#: Shared layout: one tensor ``[B, ...]``. Separate layout: one tensor per task of the step.
Inputs = Tensor | Mapping[str, Tensor]
#: What selects one task's part of a parameter: ``parameter[index]``.
TaskIndex = tuple[int | slice | EllipsisType, ...]


class Architecture(nn.Module, ABC):
    """A module that says which of its parameters several tasks share. It knows nothing of losses or
    data.

    Args:
        tasks: The tasks it has outputs for, in order.
    """

    #: Where the task enters the model; None for what combines or wraps models of any family.
    family: ClassVar[Family | None] = None
    #: Whether the rows of many tables come to it in one piece (``polytask.problems.TableBatch``);
    #: a plain mapping from task to rows must give the same outputs.
    takes_table_batches: ClassVar[bool] = False

    def __init__(self, tasks: tuple[Task, ...]) -> None:
        super().__init__()
        if not tasks:
            raise ValueError("An architecture needs at least one task, found none.")
        check_unique_names(tasks)
        self.tasks = tuple(tasks)

    @classmethod
    def example(cls, tasks: Sequence[Task]) -> tuple[Architecture, Inputs]:
        """A small instance for these tasks and a batch of inputs for it: what ``polytask.checks``
        runs. An architecture whose tasks must all be of one kind keeps the names and gives them
        one.
        """
        del tasks
        raise TypeError(
            f"{cls.__name__} has no example for the checks; define the classmethod `example`."
        )

    @classmethod
    def for_problem(cls, problem: Problem) -> Architecture:
        """An instance for the inputs and tasks of a problem, with default sizes; what a candidate
        of a comparison trains that is named after the class.

        Raises:
            ValueError: the architecture cannot learn these tasks together.
        """
        del problem
        raise NotImplementedError(
            f"{cls.__name__} has no default for a problem; make one with its constructor."
        )

    @abstractmethod
    def forward(self, inputs: Inputs) -> TaskTensors:
        """Outputs of every task (separate layout: of the tasks that ``inputs`` holds)."""

    @abstractmethod
    def shared_parameters(self) -> Iterator[nn.Parameter]:
        """Parameters that the outputs of several tasks depend on."""

    @abstractmethod
    def task_parameters(self, name: str) -> Iterator[nn.Parameter]:
        """Parameters (or block parameters of which rows) that only this task's output depends
        on.
        """

    def task_rows(self, name: str) -> Iterator[tuple[nn.Parameter, TaskIndex]]:
        """The same parameters with the index of the part that is this task's: ``parameter[index]``.

        A block parameter holds the rows of several tasks and is among ``task_parameters`` of each
        of them; its rows belong to one task only.
        """
        for parameter in self.task_parameters(name):
            yield parameter, (...,)

    def last_shared_parameters(self) -> Iterator[nn.Parameter]:
        """Parameters of the last shared layer, for methods with scope "last"; by default all shared
        parameters.
        """
        return self.shared_parameters()

    def features(self, inputs: Inputs) -> Tensor | None:
        """The one representation that all heads start from, or None where there is no such thing.

        An architecture that returns a tensor here also offers ``heads``, with ``forward(x) ==
        heads(features(x))``.
        """
        del inputs
        return None

    def heads(self, features: Tensor) -> TaskTensors:
        """Outputs from the shared representation."""
        raise TypeError(
            f"{type(self).__name__} has no single shared representation to put heads on."
        )

    def auxiliary_losses(self, inputs: Inputs, outputs: TaskTensors) -> dict[str, Tensor]:
        """Loss terms of the architecture's own (a distance between towers, load balance); added
        outside the balancer.
        """
        del inputs, outputs
        return {}

    def member_weights(self) -> Tensor | None:
        """Weights ``[T, m]`` of each task's loss in each of m models whose outputs in training are
        the ensemble members; None where members count alike.

        The loss of a task is then the weighted sum over the models instead of the mean over the
        members. If the models have members of their own, these follow each other.
        """
        return None

    def clip_groups(self) -> Iterator[tuple[nn.Module, float]]:
        """Modules that share no parameter with each other, and each one's share of the weight of
        all losses; by default the whole.

        ``TrainingSettings.clip_norm`` holds for each group by itself, times its share: a group is
        clipped as if it were trained alone.
        """
        yield self, 1.0
