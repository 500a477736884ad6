"""Task losses of a batch: the mean over each task's labelled samples (eq. 2 of the first lecture),
block by block.

Shape legend: T tasks with labels in the batch, B batch, K tasks of one block, M ensemble members, m
models.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from polytask.problems.batch import Batch
from polytask.tasks import Task, TaskTensors

__all__ = ["TaskLosses"]


class TaskLosses:
    """Computes the losses ``[T]`` of the tasks that have labels in a batch.

    A missing label is masked: it changes neither the sum nor the count of its task. Homogeneous
    tasks are one operation.

    Args:
        tasks: All tasks of the problem, in order.
        member_weights: ``[tasks, m]``, see ``Architecture.member_weights``: the loss of a task is
            the weighted sum over m models, whose inner ensemble members follow each other and count
            as their mean; None means the mean over all members.
    """

    def __init__(self, tasks: Sequence[Task], *, member_weights: Tensor | None = None) -> None:
        self.tasks = {task.name: task for task in tasks}
        self._member_weights = member_weights
        self._tables: dict[tuple[object, ...], Tensor | None] = {}

    def __call__(
        self, outputs: Mapping[str, Tensor], batch: Batch, counts: Mapping[str, float] | None = None
    ) -> Tensor:
        """Losses ``[T]`` in the order of ``batch.tasks``; 0 for a task that other batches of the
        step have labels of.

        Args:
            outputs: Of a model, per task.
            batch: The batch the outputs belong to.
            counts: Samples per task to divide by, where several batches make one step; None: those
                of this batch.

        Raises:
            ValueError: The outputs lack a task, or have the wrong shape.
        """
        values: list[Tensor] = []
        order: list[str] = []
        for (names, target), mask in zip(batch.targets.blocks, batch.present, strict=True):
            per_example = self._per_example(names, outputs, target)
            if mask is not None:
                per_example = per_example * mask
            if counts is not None:
                divisor = torch.tensor(
                    [counts[name] for name in names], device=target.device
                ).clamp_min(1)
                block = per_example.sum(0) / divisor
            elif mask is not None:
                block = per_example.sum(0) / mask.sum(0).clamp_min(1)
            else:
                block = per_example.mean(0)
            values.append(block)
            order.extend(names)
        losses = values[0] if len(values) == 1 else torch.cat(values)
        if tuple(order) == batch.tasks:
            return losses
        place = {name: i for i, name in enumerate(order)}
        if any(name not in place for name in batch.tasks):
            losses = torch.cat([losses, losses.new_zeros(1)])
        index = torch.tensor(
            [place.get(name, len(order)) for name in batch.tasks], device=losses.device
        )
        return losses.index_select(0, index)

    def _per_example(
        self, names: tuple[str, ...], outputs: Mapping[str, Tensor], target: Tensor
    ) -> Tensor:
        task = self.tasks[names[0]]
        size = max(self.tasks[name].kind.output_size for name in names)
        output, members = _output_block(names, outputs)
        leading = output.shape[: output.dim() - task.kind.output_dims]
        expected = ((members,) if members > 1 else ()) + tuple(target.shape[:2])
        if tuple(leading) != expected or (task.loss is None and _channels(task, output) != size):
            raise ValueError(
                f"Outputs of task {names[0]!r} have shape {tuple(outputs[names[0]].shape)} for "
                f"{target.shape[0]} rows;"
                f" {type(task.kind).__name__} needs {size} number(s) per row."
            )
        if task.loss is not None:
            per_example = task.loss(output, target)
        else:
            per_example = task.kind.loss(output, target, self._weights_of(names, output))
        return self._over_members(names, per_example, members)

    def _over_members(self, names: tuple[str, ...], losses: Tensor, members: int) -> Tensor:
        """One loss ``[B, K]`` from those of the members ``[M, B, K]`` (``[B, K]`` if M is 1)."""
        weights = self._weights_of_members(names, losses, members)
        if weights is None:
            return losses.mean(0) if members > 1 else losses
        return (losses * weights).sum(0) if members > 1 else losses * weights[0]

    def _weights_of_members(
        self, names: tuple[str, ...], losses: Tensor, members: int
    ) -> Tensor | None:
        """``[M, 1, K]``."""
        if self._member_weights is None:
            return None
        key = ("members", members, names, losses.device, losses.dtype)
        if key not in self._tables:
            models = self._member_weights.shape[1]
            inner, rest = divmod(members, models)
            if rest:
                raise ValueError(
                    f"Outputs have {members} ensemble members, which are not those of {models}"
                    " models; every model needs the same number of them."
                )
            order = list(self.tasks)
            rows = self._member_weights[[order.index(name) for name in names]] / inner
            table = rows.repeat_interleave(inner, dim=1).T.unsqueeze(1)
            self._tables[key] = table.to(losses.dtype).to(losses.device)
        return self._tables[key]

    def _weights_of(self, names: tuple[str, ...], output: Tensor) -> Tensor | None:
        key = ("classes", names, output.device, output.dtype)
        if key not in self._tables:
            rows = [self.tasks[name].class_weights for name in names]
            if all(row is None for row in rows):
                self._tables[key] = None
            else:
                width = max(2, *(self.tasks[name].kind.output_size for name in names))
                table = torch.tensor(
                    [(*(row or ()), *(1.0,) * (width - len(row or ()))) for row in rows],
                    device=output.device,
                    dtype=output.dtype,
                )
                self._tables[key] = table
        return self._tables[key]


def _channels(task: Task, output: Tensor) -> int:
    return output.shape[-3] if task.kind.output_dims == 3 else output.shape[-1]


def _output_block(names: tuple[str, ...], outputs: Mapping[str, Tensor]) -> tuple[Tensor, int]:
    """The outputs of some tasks stacked as ``[B, K, ...]`` (``[M, B, K, ...]``), and M."""
    ready = outputs.block(names) if isinstance(outputs, TaskTensors) else None
    members = outputs.members if isinstance(outputs, TaskTensors) else 1
    if ready is not None:
        return ready, members
    missing = [name for name in names if name not in outputs]
    if missing:
        raise ValueError(
            f"The model gave no output for task {missing[0]!r}; it gave {list(outputs)}."
        )
    found = [outputs[name] for name in names]
    width = max(output.shape[-1] for output in found)
    # Classes that a task of a padded block does not have.
    found = [
        output
        if output.shape[-1] == width
        else functional.pad(output, (0, width - output.shape[-1]), value=-torch.inf)
        for output in found
    ]
    return torch.stack(found, dim=2 if members > 1 else 1), members
