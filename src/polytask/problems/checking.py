"""What is wrong with the rows of a problem, found before anything is trained."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from polytask.problems.splits import AnySplit
from polytask.tasks import Binary, Multiclass, Regression, Task

__all__ = ["check_labels", "check_rows"]


def check_rows(part: str, split: AnySplit, *, allow_nan: bool) -> None:
    """Raise ValueError where a part has no rows, or inputs that are not finite."""
    for name, piece in split.pieces.items():
        where = f"{part} rows" + (f" of task {name!r}" if name else "")
        if len(piece) == 0:
            raise ValueError(f"There are no {where}; give more data or other split fractions.")
        _check_inputs(piece.inputs, where, allow_nan=allow_nan)


def _check_inputs(inputs: Tensor, where: str, *, allow_nan: bool) -> None:
    if not inputs.is_floating_point():
        return
    bad = torch.isinf(inputs) if allow_nan else ~torch.isfinite(inputs)
    if bool(bad.any()):
        place = [int(i) for i in bad.nonzero()[0]]
        value = inputs[tuple(place)].item()
        raise ValueError(
            f"Inputs must be finite, found {value} in the {where} at position {place}."
        )


def check_labels(task: Task, labels: Mapping[str, Tensor], *, check_classes: bool) -> None:
    """Raise ValueError where a task cannot be learned from its labels per part."""
    train = labels["train"]
    if len(train) == 0:
        raise ValueError(
            f"Task {task.name!r} has no label in the training rows; drop it or give labels."
        )
    if isinstance(task.kind, (Binary, Multiclass)):
        seen = set(train.unique().tolist())
        names = task.kind.labels or tuple(range(task.kind.output_size))
        for part in ("validation", "test") if check_classes else ():
            for code in labels[part].unique().tolist():
                if code not in seen:
                    raise ValueError(
                        f"Class {names[code]!r} of task {task.name!r} occurs in the {part} rows "
                        "but in no training row;"
                        " split differently, merge the class with another, or drop those rows."
                    )
        if len(seen) < 2:
            raise ValueError(
                f"Task {task.name!r} has one class only ({names[next(iter(seen))]!r}) in the "
                "training rows:"
                " nothing to learn, drop it."
            )
    elif isinstance(task.kind, Regression) and len(train) > 1 and bool((train == train[0]).all()):
        raise ValueError(
            f"Task {task.name!r} has one value only in the training rows: nothing to learn, drop "
            "it."
        )
