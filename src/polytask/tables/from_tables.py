"""A problem from tables in memory."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from polytask.problems.problem import Problem
from polytask.problems.splitting import SplitPlan
from polytask.tables.sources import TablesSource
from polytask.tables.targets import Target

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["from_tables"]


def from_tables(
    tables: Mapping[str, tuple[pd.DataFrame | np.ndarray | Tensor, Any]],
    *,
    name: str = "tables",
    kinds: Mapping[str, str] | None = None,
    split: SplitPlan | None = None,
    categorical: Collection[str] = (),
    seed: int = 0,
) -> Problem:
    """Tables of any shapes, each with its own columns, rows and target, as one problem in the
    separate layout; an architecture over variables trains them all in one batch.

    Columns are read as ``polytask compare`` reads them: numbers are scaled by the training
    rows, dates become numbers, text becomes categories, missing cells stay missing. Rows
    without a label are left out.

    Args:
        tables: Per task its features and its target: a data frame and the name of the target
            column (or the target's values ``[N]``), or an array ``[N, F]`` and values ``[N]``.
        name: Of the problem.
        kinds: "regression", "binary" or "multiclass" per task; the values decide for the
            others.
        split: How the rows of every table are split; None means 60, 20 and 20 per cent,
            stratified.
        categorical: Columns of numbers that are codes of categories, in whichever tables have
            them.
        seed: Of the splits.

    Raises:
        ValueError: A table without features or with another number of rows than its target has
            values; a target that cannot be learned; a class that no training row has.
    """
    unknown = sorted(set(kinds or {}) - set(tables))
    if unknown:
        raise ValueError(f"`kinds` names {unknown[0]!r}, which is none of {list(tables)}.")
    read = {task: _as_table(task, *pair, (kinds or {}).get(task)) for task, pair in tables.items()}
    source = TablesSource(read, name=name, split=split, categorical=categorical)
    return source.problem(seed)


def _as_table(
    task: str, features: Any, target: Any, kind: str | None
) -> tuple[pd.DataFrame, Target]:
    """A frame that holds the target, and which of its columns that is."""
    import pandas as pd

    if isinstance(features, pd.DataFrame):
        frame = features
    else:
        array = np.asarray(features)
        if array.ndim != 2:
            raise ValueError(
                f"The features of table {task!r} must be [rows, columns], found shape"
                f" {list(array.shape)}."
            )
        frame = pd.DataFrame(array, columns=[f"x{j}" for j in range(array.shape[1])])
    if isinstance(target, Target):
        return frame, target
    if not isinstance(target, str):
        values = np.asarray(target)
        if values.shape != (len(frame),):
            raise ValueError(
                f"The target of table {task!r} must have one value per row ({len(frame)}), found"
                f" shape {list(values.shape)}."
            )
        column = "target" if "target" not in frame.columns else f"target of {task}"
        frame, target = frame.assign(**{column: values}), column
    if frame.shape[1] < 2:
        raise ValueError(f"Table {task!r} has no feature; a table needs at least one column.")
    return frame, Target(target, kind)
