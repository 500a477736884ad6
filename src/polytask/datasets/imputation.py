"""Problems of filling in: variables are inputs and targets at once, and what is not given has to be
predicted.

Shape legend: N rows, V variables.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from polytask.problems.problem import Problem
from polytask.problems.splits import SPLIT_NAMES, Split
from polytask.problems.table_info import NumericFeature, TableInfo
from polytask.tasks import Task

__all__ = ["imputation"]


def imputation(
    values: Mapping[str, Tensor],
    tasks: Sequence[Task],
    *,
    name: str = "completion",
    observe: tuple[int, int] | None = None,
    seed: int = 0,
    notes: Sequence[str] = (),
) -> Problem:
    """A problem in the shared layout whose V tasks are its V input columns.

    Training rows are whole: what is observed is for the architecture to draw anew in every step
    (``TravelingObserver(same_variables=True, observe=...)``). In validation and test rows a random
    subset of the variables is given; the others are NaN in the inputs and are the only ones with a
    label, so a loss or score of these rows is one of predicting what was not seen.

    Args:
        values: Rows ``[N, V]`` of every part ("train", "validation", "test"), encoded as the
            targets of the tasks are.
        tasks: One per variable, with outputs of one number.
        name: Of the problem.
        observe: Fewest and most variables given of a validation or test row; their number is drawn
            uniformly. None means 1 .. V - 1.
        seed: Of the subsets.
        notes: See ``Problem``.

    Raises:
        ValueError: A part is missing or has another number of columns than there are tasks;
            ``observe`` leaves nothing to give or to predict.
    """
    count = len(tasks)
    low, high = (1, count - 1) if observe is None else observe
    if not 1 <= low <= high < count:
        raise ValueError(
            f"`observe` must be two ascending numbers within 1 .. {count - 1}, found {observe}."
        )
    if set(values) != set(SPLIT_NAMES):
        raise ValueError(f"`values` needs the parts {list(SPLIT_NAMES)}, found {list(values)}.")
    parts = {}
    for position, part in enumerate(SPLIT_NAMES):
        rows = values[part]
        if rows.dim() != 2 or rows.shape[1] != count:
            raise ValueError(
                f"The {part} rows must be [rows, {count}], one column per task, found shape"
                f" {list(rows.shape)}."
            )
        inputs = targets = rows.float()
        if part != "train":
            given = _given(len(rows), count, (low, high), 7919 * seed + position)
            inputs = targets.masked_fill(~given, torch.nan)
            targets = targets.masked_fill(given, torch.nan)
        parts[part] = Split(inputs, dict(zip(_names(tasks), targets.T, strict=True)), tasks)
    return Problem(
        name=name,
        train=parts["train"],
        validation=parts["validation"],
        test=parts["test"],
        table=_columns(tasks),
        notes=notes,
    )


def _given(rows: int, count: int, observe: tuple[int, int], seed: int) -> Tensor:
    """Which variables of every row are given ``[N, V]``."""
    generator = torch.Generator().manual_seed(seed)
    wanted = torch.randint(observe[0], observe[1] + 1, (rows, 1), generator=generator)
    order = torch.rand(rows, count, generator=generator).argsort(dim=1).argsort(dim=1)
    return order < wanted


def _names(tasks: Sequence[Task]) -> list[str]:
    return [task.name for task in tasks]


def _columns(tasks: Sequence[Task]) -> TableInfo:
    """The variables as columns of a table, which may have cells that are not observed."""
    features = tuple(NumericFeature(name=name, column=name) for name in _names(tasks))
    return TableInfo(columns=(), numeric=features, categorical=())
