"""Problems on disk: tensors as safetensors, everything else as JSON; nothing is ever unpickled."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from polytask.files import write_atomically
from polytask.problems.splits import SPLIT_NAMES, AnySplit, SeparateSplit, Split
from polytask.tasks import Kind, Task, metrics

__all__ = ["kind_from_record", "read_splits", "task_from_record", "task_record", "write_splits"]


def task_record(task: Task) -> dict[str, Any]:
    """A task as JSON; tasks with a user's own callables cannot be written."""
    for part in ("loss", "prediction"):
        if getattr(task, part) is not None:
            raise ValueError(
                f"Task {task.name!r} has a `{part}` of its own, which cannot be saved to a file."
            )
    record = task.config()
    for metric in task.metrics:
        metrics.by_name(metric.name)
    return {**record, "own_metrics": [m.name for m in task.metrics]}


def kind_from_record(record: dict[str, Any]) -> Kind:
    """The kind that ``Kind.config`` recorded."""
    known = {kind.name_in_files: kind for kind in Kind.__subclasses__()}
    kind = known[record["kind"]]
    names = kind.__dataclass_fields__
    values = {k: tuple(v) if isinstance(v, list) else v for k, v in record.items() if k in names}
    return kind(**values)


def task_from_record(record: dict[str, Any]) -> Task:
    """The inverse of ``task_record``."""
    weights = record["class_weights"]
    return Task(
        record["name"],
        kind_from_record(record),
        metrics=tuple(metrics.by_name(name) for name in record["own_metrics"]),
        class_weights=None if weights is None else tuple(weights),
    )


def write_splits(
    folder: Path,
    splits: Mapping[str, AnySplit],
    record: Mapping[str, Any],
    arrays: Mapping[str, Tensor],
) -> None:
    """Write ``problem.safetensors`` and ``problem.json`` to a folder (made if needed).

    Args:
        folder: Where to.
        splits: The rows per part.
        record: Everything else, as plain values; with the tasks and the layout.
        arrays: Of the tables, as ``arrays_of_tables`` gives them.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tensors: dict[str, Tensor] = dict(arrays)
    for part, split in splits.items():
        for number, piece in enumerate(split.pieces.values()):
            tensors[f"{part}.{number}.inputs"] = piece.inputs.contiguous()
            for index, task in enumerate(piece.tasks):
                tensors[f"{part}.{number}.target.{index}"] = piece.targets[task.name].contiguous()
    write_atomically(folder / "problem.safetensors", lambda path: save_file(tensors, path))
    write_atomically(folder / "problem.json", json.dumps(record, ensure_ascii=False, indent=1))


def read_splits(folder: Path) -> tuple[dict[str, Any], dict[str, AnySplit], dict[str, Tensor]]:
    """The record, the rows and the arrays that ``write_splits`` wrote."""
    record = json.loads((folder / "problem.json").read_text(encoding="utf-8"))
    tensors = load_file(folder / "problem.safetensors")
    tasks = [task_from_record(item) for item in record["tasks"]]
    splits: dict[str, AnySplit] = {}
    for part in SPLIT_NAMES:
        if record["layout"] == "separate":
            pieces = {t.name: _piece(tensors, part, number, [t]) for number, t in enumerate(tasks)}
            splits[part] = SeparateSplit(pieces)
        else:
            splits[part] = _piece(tensors, part, 0, tasks)
    arrays = {name: tensor for name, tensor in tensors.items() if name.startswith("table.")}
    return record, splits, arrays


def _piece(tensors: dict[str, torch.Tensor], part: str, number: int, own: list[Task]) -> Split:
    targets = {
        task.name: tensors[f"{part}.{number}.target.{index}"] for index, task in enumerate(own)
    }
    return Split(tensors[f"{part}.{number}.inputs"], targets, own)
