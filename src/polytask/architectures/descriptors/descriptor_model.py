"""What the architectures of the descriptor family have in common: one model, told which task.

Shape legend: B batch, R rows of several tasks, K tasks, Z numbers of a descriptor, H hidden size,
C output size, M ensemble members.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn

from polytask.architectures.base import Architecture, Inputs, TaskIndex
from polytask.architectures.descriptors.task_descriptors import TaskDescriptors
from polytask.architectures.families import Family
from polytask.architectures.heads import average_members
from polytask.tasks import Task, TaskTensors

__all__ = ["DescriptorModel", "alike", "linear_by_task", "spread"]


class DescriptorModel(Architecture):
    """One model of all tasks that is told the task by a descriptor: y_t = g(f(x), z_t).

    A subclass says what can be computed before the descriptor comes in (``represent``), how the
    rest goes for every row and every task (``outputs_of_all``) and for rows that belong to one task
    each (``outputs_of_rows``). Neither is a loop over tasks.

    All tasks need one kind of output. Where descriptors are one-hot, the weights on entry t of a
    descriptor are task t's own; learned descriptors are the own parameters of their tasks;
    everything else is shared.

    Args:
        descriptors: z_t by name; given ones may describe more tasks than ``tasks``.
        tasks: The tasks.

    Shapes: inputs ``[B, ...]``; outputs one block ``[B, T, C]``, in training with M > 1 members
        ``[M, B, T, C]``. Separate layout: inputs ``{task: [B_t, ...]}``, all rows in one pass.

    Raises:
        ValueError: tasks of different kinds or with dense outputs; a task without descriptor;
            learned or one-hot descriptors of tasks that the model does not have.
    """

    family = Family.DESCRIPTOR
    num_members = 1
    positions: Tensor

    def __init__(self, *, descriptors: TaskDescriptors, tasks: Sequence[Task]) -> None:
        super().__init__(tuple(tasks))
        names = [task.name for task in self.tasks]
        kinds = {task.kind.block_key: task.name for task in self.tasks}
        if len(kinds) > 1 or self.tasks[0].kind.output_dims != 1:
            odd = [(name, next(t.kind for t in self.tasks if t.name == name)) for name in
                   kinds.values()]  # fmt: skip
            raise ValueError(
                f"{type(self).__name__} has one decoder for all tasks, which need one kind with "
                f"vector outputs, found {', '.join(f'{kind!r} ({name!r})' for name, kind in odd)};"
                " use one model per kind, or HardSharing."
            )
        unknown = sorted(set(descriptors.names) - set(names))
        if descriptors.values is None and unknown:
            raise ValueError(
                f"One-hot and learned descriptors must be those of the tasks, found more: {unknown}"
            )
        self.descriptors = descriptors
        self.output_size = self.tasks[0].kind.output_size
        rows = torch.tensor([descriptors.position(name) for name in names])
        self.register_buffer("positions", rows, persistent=False)

    @abstractmethod
    def represent(self, inputs: Tensor) -> Tensor:
        """What does not depend on the task: ``[B, H]`` (``[M, B, H]``)."""

    @abstractmethod
    def outputs_of_all(self, features: Tensor, vectors: Tensor) -> Tensor:
        """Outputs ``[B, K, C]`` (``[M, B, K, C]``) of every row for descriptors ``[K, Z]``."""

    @abstractmethod
    def outputs_of_rows(self, features: Tensor, vectors: Tensor, counts: Sequence[int]) -> Tensor:
        """Outputs ``[R, C]`` (``[M, R, C]``) of rows that belong to one task each: the first
        ``counts[0]`` rows to descriptor 0, the next ``counts[1]`` to descriptor 1, and so on.
        """

    def descriptor_weights(self) -> Iterator[tuple[nn.Parameter, int]]:
        """Parameters that multiply descriptors, each with the axis that runs over their numbers."""
        yield from ()

    def forward(self, inputs: Inputs) -> TaskTensors:
        if isinstance(inputs, Mapping):
            return self._forward_separate(inputs)
        vectors = self.descriptors.vectors.index_select(0, self.positions)
        outputs = self._finish(self.outputs_of_all(self.represent(inputs), vectors))
        names = tuple(task.name for task in self.tasks)
        return TaskTensors([(names, outputs)], self._members)

    def _forward_separate(self, inputs: Mapping[str, Tensor]) -> TaskTensors:
        names, counts = list(inputs), [len(rows) for rows in inputs.values()]
        vectors = self.descriptors(names)
        features = self.represent(torch.cat(list(inputs.values())))
        outputs = self._finish(self.outputs_of_rows(features, vectors, counts)).unsqueeze(-2)
        pieces = outputs.split(counts, dim=-3)
        return TaskTensors(
            [((name,), piece) for name, piece in zip(names, pieces, strict=True)], self._members
        )

    def predict_for(self, inputs: Tensor, descriptors: Tensor) -> Tensor:
        """Outputs for tasks that need not have been trained, told by their descriptors alone.

        Args:
            inputs: ``[B, ...]``.
            descriptors: ``[K, Z]``, or ``[Z]`` for one task.

        Returns:
            ``[B, K, C]``, or ``[B, C]`` for one task; encoded as the outputs of the tasks are.

        Raises:
            ValueError: descriptors of another length.
        """
        size = self.descriptors.output_size
        if descriptors.dim() not in (1, 2) or descriptors.shape[-1] != size:
            raise ValueError(
                f"`descriptors` must have shape [tasks, {size}] or [{size}], found "
                f"{list(descriptors.shape)}."
            )
        outputs = self.outputs_of_all(self.represent(inputs), descriptors.reshape(-1, size))
        if self.num_members > 1:
            outputs = average_members(self.tasks[0], outputs)
        return outputs.squeeze(1) if descriptors.dim() == 1 else outputs

    @property
    def _members(self) -> int:
        return self.num_members if self.training else 1

    def _finish(self, outputs: Tensor) -> Tensor:
        if self.num_members > 1 and not self.training:
            return average_members(self.tasks[0], outputs)
        return outputs

    def shared_parameters(self) -> Iterator[nn.Parameter]:
        own = {id(parameter) for parameter, _ in self.task_rows(self.tasks[0].name)}
        return (parameter for parameter in self.parameters() if id(parameter) not in own)

    def task_parameters(self, name: str) -> Iterator[nn.Parameter]:
        """Parameters with rows or columns of this task."""
        return (parameter for parameter, _ in self.task_rows(name))

    def task_rows(self, name: str) -> Iterator[tuple[nn.Parameter, TaskIndex]]:
        position = self.descriptors.position(name)
        if self.descriptors.embedding is not None:
            yield self.descriptors.embedding, (position,)
        if self.descriptors.is_one_hot:
            for parameter, axis in self.descriptor_weights():
                yield parameter, (*(slice(None),) * axis, position)


def spread(parts: Tensor, counts: Sequence[int]) -> Tensor:
    """Each task's part ``[K, ...]`` at each of its rows ``[R, ...]``."""
    repeats = torch.tensor(counts, device=parts.device)
    # The size is given so that an accelerator need not be waited for.
    return parts.repeat_interleave(repeats, dim=0, output_size=sum(counts))


def linear_by_task(features: Tensor, weights: Tensor, counts: Sequence[int]) -> Tensor:
    """Every row times the matrix of its task, with no loop over tasks.

    Args:
        features: ``[R, H]`` or ``[M, R, H]``, the rows of one task after those of another.
        weights: ``[K, C, H]``.
        counts: Rows of each task.

    Returns:
        ``[R, C]`` or ``[M, R, C]``.
    """
    tasks, longest = len(counts), max(counts)
    if tasks * longest > 2 * sum(counts):
        # So uneven that padding would cost more than a matrix per row.
        return torch.einsum("...rh,rch->...rc", features, spread(weights, counts))
    if min(counts) == longest:
        by_task = features.unflatten(-2, (tasks, longest))
        return torch.einsum("...knh,kch->...knc", by_task, weights).flatten(-3, -2)
    lengths = torch.tensor(counts, device=features.device).unsqueeze(1)
    within = torch.arange(longest, device=features.device)
    places = (lengths.cumsum(0) - lengths + torch.minimum(within, lengths - 1)).clamp_min(0)
    by_task = features.index_select(-2, places.flatten()).unflatten(-2, (tasks, longest))
    outputs = torch.einsum("...knh,kch->...knc", by_task, weights).flatten(-3, -2)
    return outputs.index_select(-2, torch.nonzero((within < lengths).flatten()).squeeze(1))


def alike(tasks: Sequence[Task]) -> tuple[Task, ...]:
    """The tasks with the kind of the first, for examples of models that take one kind only."""
    return tuple(Task(task.name, tasks[0].kind) for task in tasks)
