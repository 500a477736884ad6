"""Outputs and losses of a trained model over whole splits, in evaluation mode."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from polytask.architectures.base import Architecture
from polytask.problems.batch import Batch
from polytask.problems.splits import AnySplit
from polytask.problems.table_stream import TableBatchSplit
from polytask.tasks import TaskTensors
from polytask.training.losses import TaskLosses

__all__ = ["predict_outputs", "rows_for", "validation_losses"]

#: Rows per forward pass: large enough to be efficient, small enough for images on a laptop.
EVALUATION_ROWS = 1024


def rows_for(
    architecture: Architecture, split: AnySplit | TableBatchSplit
) -> AnySplit | TableBatchSplit:
    """The rows in the form that an architecture takes: tables packed where it asks for that and
    their targets allow it.
    """
    if isinstance(split, TableBatchSplit) or not architecture.takes_table_batches:
        return split
    is_tables = split.layout == "separate" and TableBatchSplit.takes(split)
    return TableBatchSplit(split) if is_tables else split


def predict_outputs(
    architecture: Architecture, split: AnySplit, *, batch_size: int = EVALUATION_ROWS
) -> dict[str, Tensor]:
    """Outputs ``[N, C]`` per task over all rows of a split, on the CPU, in float32."""
    device = next(architecture.parameters()).device
    found: dict[str, list[Tensor]] = {}
    for batch, outputs in _evaluate(architecture, split.to(device), batch_size, None):
        for name, output in outputs.items():
            rows = batch.indices if isinstance(batch.indices, Tensor) else batch.indices[name]
            own = output if batch.all_rows_count else output[rows >= 0]
            found.setdefault(name, []).append(own.float().cpu())
    return {name: torch.cat(pieces) for name, pieces in found.items()}


def validation_losses(
    architecture: Architecture,
    split: AnySplit | TableBatchSplit,
    autocast: torch.dtype | None = None,
    *,
    batch_size: int = EVALUATION_ROWS,
) -> dict[str, float]:
    """Mean loss per task over the labelled rows of a split; tasks without labels there are left
    out.
    """
    losses_of = TaskLosses(architecture.tasks)
    sums: dict[str, Tensor] = {}
    counts: dict[str, float] = {}
    for batch, outputs in _evaluate(architecture, split, batch_size, autocast):
        losses = losses_of(outputs, batch)
        labels = _labels_per_task(batch)
        for name, loss in zip(batch.tasks, losses.unbind(), strict=True):
            sums[name] = sums.get(name, 0) + loss * labels[name]
            counts[name] = counts.get(name, 0) + labels[name]
    names = [task.name for task in architecture.tasks if task.name in sums]
    if not names:
        return {}
    values = torch.stack([sums[name] / counts[name] for name in names]).tolist()
    return dict(zip(names, values, strict=True))


def _evaluate(
    architecture: Architecture,
    split: AnySplit | TableBatchSplit,
    batch_size: int,
    autocast: torch.dtype | None,
) -> Iterator[tuple[Batch, TaskTensors]]:
    """Batches and their outputs in evaluation mode; the module's mode is restored."""
    was_training = architecture.training
    architecture.eval()
    device = next(architecture.parameters()).device.type
    try:
        for batch in rows_for(architecture, split).batches(batch_size):
            with (
                torch.no_grad(),
                torch.autocast(device, dtype=autocast, enabled=autocast is not None),
            ):
                outputs = TaskTensors.from_mapping(architecture(batch.inputs))
            yield batch, outputs
    finally:
        architecture.train(was_training)


def _labels_per_task(batch: Batch) -> Mapping[str, float]:
    labels: dict[str, float] = {}
    for (names, target), mask in zip(batch.targets.blocks, batch.present, strict=True):
        found = [float(target.shape[0])] * len(names) if mask is None else mask.sum(0).tolist()
        labels.update(zip(names, found, strict=True))
    return labels
