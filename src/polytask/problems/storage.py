"""Problems on disk: tensors as safetensors, everything else as JSON; nothing is ever unpickled."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from polytask import metrics, tasks
from polytask.files import write_atomically
from polytask.problems.problem import SPLIT_NAMES, Problem, SeparateSplit, Split
from polytask.tasks import Kind, Task

__all__ = ["kind_from_record", "load_problem", "save_problem", "task_from_record", "task_record"]


def task_record(task: Task) -> dict[str, Any]:
    """A task as JSON; tasks with a user's own callables cannot be written."""
    for part in ("loss", "prediction"):
        if getattr(task, part) is not None:
            raise ValueError(
                f"Task {task.name!r} has a `{part}` of its own, which cannot be saved to a file."
            )
    record = task.describe()
    for metric in task.metrics:
        metrics.by_name(metric.name)
    return {**record, "own_metrics": [m.name for m in task.metrics]}


def kind_from_record(record: dict[str, Any]) -> Kind:
    """The kind that ``Kind.describe`` recorded."""
    kinds = {name.lower(): getattr(tasks, name) for name in tasks.__all__}
    kind = kinds[record["kind"]]
    names = kind.__dataclass_fields__
    values = {k: tuple(v) if isinstance(v, list) else v for k, v in record.items() if k in names}
    return kind(**values)  # type: ignore[no-any-return]


def task_from_record(record: dict[str, Any]) -> Task:
    """The inverse of ``task_record``."""
    weights = record["class_weights"]
    return Task(
        record["name"],
        kind_from_record(record),
        metrics=tuple(metrics.by_name(name) for name in record["own_metrics"]),
        class_weights=None if weights is None else tuple(weights),
    )


def save_problem(problem: Problem, folder: Path) -> None:
    """Write ``problem.safetensors`` and ``problem.json`` to a folder (created if needed)."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors: dict[str, Tensor] = {}
    for part in SPLIT_NAMES:
        split = getattr(problem, part)
        pieces = split.parts if isinstance(split, SeparateSplit) else {"": split}
        for number, piece in enumerate(pieces.values()):
            tensors[f"{part}.{number}.inputs"] = piece.inputs.contiguous()
            for index, task in enumerate(piece.tasks):
                tensors[f"{part}.{number}.target.{index}"] = piece.targets[task.name].contiguous()
    record = {
        "name": problem.name,
        "layout": problem.layout,
        "tasks": [task_record(task) for task in problem.tasks],
        "table": None if problem.table is None else problem.table.to_record(),
        "tables": {name: table.to_record() for name, table in problem.tables.items()},
        "notes": list(problem.notes),
        "check_classes": problem.check_classes,
    }
    write_atomically(folder / "problem.safetensors", lambda path: save_file(tensors, path))
    write_atomically(folder / "problem.json", json.dumps(record, ensure_ascii=False, indent=1))


def load_problem(folder: Path) -> Problem:
    """Read what ``save_problem`` wrote."""
    record = json.loads((folder / "problem.json").read_text(encoding="utf-8"))
    tensors = load_file(folder / "problem.safetensors")
    loaded = [task_from_record(item) for item in record["tasks"]]
    separate = record["layout"] == "separate"
    splits: dict[str, Split | SeparateSplit] = {}
    for part in SPLIT_NAMES:
        if separate:
            splits[part] = SeparateSplit(
                {
                    task.name: _piece(tensors, part, number, [task])
                    for number, task in enumerate(loaded)
                }
            )
        else:
            splits[part] = _piece(tensors, part, 0, loaded)
    from polytask.problems.tables import TableInfo

    return Problem(
        name=record["name"],
        table=None if record["table"] is None else TableInfo.from_record(record["table"]),
        tables={name: TableInfo.from_record(item) for name, item in record["tables"].items()},
        notes=record["notes"],
        check_classes=record.get("check_classes", True),
        train=splits["train"],
        validation=splits["validation"],
        test=splits["test"],
    )


def _piece(tensors: dict[str, torch.Tensor], part: str, number: int, own: list[Task]) -> Split:
    targets = {
        task.name: tensors[f"{part}.{number}.target.{index}"] for index, task in enumerate(own)
    }
    return Split(tensors[f"{part}.{number}.inputs"], targets, own)
