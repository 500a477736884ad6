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
    tasks are one operation. Outputs in half precision become float32 first: losses are sums over a
    batch, which lose too much in it.

    Args:
        tasks: All tasks of the problem, in order.
        member_weights: ``[tasks, m]``, see ``Architecture.member_weights``: the loss of a task is
            the weighted sum over m models, whose inner ensemble members follow each other and count
            as their mean; None means the mean over all members.
    """

    def __init__(self, tasks: Sequence[Task], *, member_weights: Tensor | None = None) -> None:
        self.tasks = {task.name: task for task in tasks}
        self._member_weights = member_weights
        self._blocks: dict[tuple[str, ...], _BlockLoss] = {}

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
            if names not in self._blocks:
                self._blocks[names] = self._block(names)
            per_example = self._blocks[names](outputs, target)
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

    def _block(self, names: tuple[str, ...]) -> _BlockLoss:
        weights = self._member_weights
        if weights is not None:
            order = list(self.tasks)
            weights = weights[[order.index(name) for name in names]]
        return _BlockLoss([self.tasks[name] for name in names], weights)


class _BlockLoss:
    """Losses per example of homogeneous tasks, with the tables that they need.

    Args:
        tasks: K tasks.
        member_weights: ``[K, m]``, or None.
    """

    def __init__(self, tasks: Sequence[Task], member_weights: Tensor | None) -> None:
        self.names = tuple(task.name for task in tasks)
        self.kind = tasks[0].kind
        self.loss = tasks[0].loss
        self.size = max(task.kind.output_size for task in tasks)
        self._class_weights = [task.class_weights for task in tasks]
        self._is_weighted = any(weights is not None for weights in self._class_weights)
        self._member_weights = member_weights
        self._tables: dict[tuple[object, ...], Tensor] = {}

    def __call__(self, outputs: Mapping[str, Tensor], target: Tensor) -> Tensor:
        """Losses ``[B, K]`` from outputs and targets ``[B, K, ...]``."""
        members = outputs.members if isinstance(outputs, TaskTensors) else 1
        output = outputs.block(self.names) if isinstance(outputs, TaskTensors) else None
        if output is None:
            output = self._stacked(outputs, members)
        if output.dtype in (torch.bfloat16, torch.float16):
            output = output.float()
        leading = output.shape[: output.dim() - self.kind.output_dims]
        expected = ((members,) if members > 1 else ()) + tuple(target.shape[:2])
        channels = output.shape[-3 if self.kind.output_dims == 3 else -1]
        if tuple(leading) != expected or (self.loss is None and channels != self.size):
            raise ValueError(
                f"Outputs of task {self.names[0]!r} have shape"
                f" {tuple(outputs[self.names[0]].shape)} for {target.shape[0]} rows;"
                f" {type(self.kind).__name__} needs {self.size} number(s) per row."
            )
        if self.loss is not None:
            losses = self.loss(output, target)
        else:
            weights = self._weights_of_classes(output) if self._is_weighted else None
            losses = self.kind.loss(output, target, weights)
        if self._member_weights is not None:
            weights = self._weights_of_members(self._member_weights, losses, members)
            return (losses * weights).sum(0) if members > 1 else losses * weights[0]
        return losses.mean(0) if members > 1 else losses

    def _stacked(self, outputs: Mapping[str, Tensor], members: int) -> Tensor:
        """The outputs of the tasks, one by one, as a block ``[B, K, ...]`` (``[M, B, K, ...]``)."""
        missing = [name for name in self.names if name not in outputs]
        if missing:
            raise ValueError(
                f"The model gave no output for task {missing[0]!r}; it gave {list(outputs)}."
            )
        found = [outputs[name] for name in self.names]
        width = max(output.shape[-1] for output in found)
        # Classes that a task of a padded block does not have.
        found = [
            output
            if output.shape[-1] == width
            else functional.pad(output, (0, width - output.shape[-1]), value=-torch.inf)
            for output in found
        ]
        return torch.stack(found, dim=2 if members > 1 else 1)

    def _weights_of_members(self, weights: Tensor, losses: Tensor, members: int) -> Tensor:
        """``[M, 1, K]``."""
        key = (members, losses.device, losses.dtype)
        if key not in self._tables:
            models = weights.shape[1]
            inner, rest = divmod(members, models)
            if rest:
                raise ValueError(
                    f"Outputs have {members} ensemble members, which are not those of {models}"
                    " models; every model needs the same number of them."
                )
            table = (weights / inner).repeat_interleave(inner, dim=1).T.unsqueeze(1)
            self._tables[key] = table.to(losses.dtype).to(losses.device)
        return self._tables[key]

    def _weights_of_classes(self, output: Tensor) -> Tensor:
        """``[K, classes]``, with ones for tasks without weights and for padding."""
        key = ("classes", output.device, output.dtype)
        if key not in self._tables:
            width = max(2, self.size)
            rows = [
                (*(row or ()), *(1.0,) * (width - len(row or ()))) for row in self._class_weights
            ]
            self._tables[key] = torch.tensor(rows, device=output.device, dtype=output.dtype)
        return self._tables[key]
