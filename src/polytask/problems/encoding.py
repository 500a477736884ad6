"""Targets in the user's units become encoded targets, and kinds learn their training statistics.

Shape legend: N rows.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from polytask.tasks import IGNORE_INDEX, Binary, Kind, Multiclass, Regression, Task

__all__ = ["encode_targets"]


def encode_targets(
    targets: Mapping[str, np.ndarray | Tensor], kinds: Mapping[str, Kind], train_rows: Tensor
) -> tuple[list[Task], dict[str, Tensor]]:
    """Tasks with training statistics filled in, and their encoded targets.

    Raises:
        ValueError: A task without a kind; a regression target that is no number; an unknown label.
    """
    unknown = set(targets) ^ set(kinds)
    if unknown:
        raise ValueError(
            f"`targets` and `kinds` must name the same tasks, found only one of them for "
            f"{sorted(unknown)}."
        )
    tasks, encoded = [], {}
    for name, values in targets.items():
        kind = kinds[name]
        raw = np.asarray(values)
        if isinstance(kind, Regression):
            numbers = _as_numbers(name, raw)
            seen = numbers[train_rows.numpy()]
            if np.isnan(seen).all():
                raise ValueError(
                    f"Target {name!r} has no label in the training rows; drop it or give labels."
                )
            scale = float(np.nanstd(seen))
            if scale == 0:
                raise ValueError(
                    f"Target {name!r} has one value only ({np.nanmean(seen):g}) in the training "
                    "rows: nothing to learn, drop it."
                )
            kind = replace(kind, mean=float(np.nanmean(seen)), scale=scale)
            encoded[name] = torch.as_tensor(kind.encode(numbers))
        elif isinstance(kind, (Binary, Multiclass)):
            encoded[name] = torch.as_tensor(_encode_classes(name, kind, raw))
        else:
            dtype = torch.int64 if kind.is_categorical else torch.float32
            encoded[name] = torch.as_tensor(raw).to(dtype)
        tasks.append(Task(name, kind))
    return tasks, encoded


def _as_numbers(name: str, raw: np.ndarray) -> np.ndarray:
    try:
        numbers = raw.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"Regression target {name!r} must hold numbers: {error}.") from error
    if np.isinf(numbers).any():
        raise ValueError(
            f"Regression target {name!r} holds an infinite value in row "
            f"{int(np.isinf(numbers).argmax())}."
        )
    return numbers


def _encode_classes(name: str, kind: Binary | Multiclass, raw: np.ndarray) -> np.ndarray:
    labels = kind.labels or tuple(range(kind.output_size))
    codes = kind.encode(raw.tolist())
    for value, code in zip(raw.tolist(), codes.tolist(), strict=True):
        missing = (
            value is None
            or (isinstance(value, float) and math.isnan(value))
            or (value == IGNORE_INDEX and IGNORE_INDEX not in labels)
        )
        if code == IGNORE_INDEX and not missing:
            raise ValueError(
                f"Target {name!r} holds {value!r}, which is none of its labels {labels!r}."
            )
    return codes
