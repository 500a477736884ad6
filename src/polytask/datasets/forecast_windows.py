"""Windows of a series: the values of consecutive steps are variables, some given and the others
predicted.

Shape legend: S steps of the series, L steps of a window, N windows.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from polytask.datasets.imputation import imputation
from polytask.problems.problem import Problem
from polytask.problems.splits import SPLIT_NAMES
from polytask.tasks import Regression, Task

__all__ = ["forecast_windows"]


def forecast_windows(
    series: np.ndarray | Tensor,
    *,
    length: int = 10,
    stride: int = 1,
    fractions: tuple[float, float, float] = (0.6, 0.2, 0.2),
    observe: tuple[int, int] | None = None,
    seed: int = 0,
    name: str = "windows",
) -> Problem:
    """All windows of a series as one problem: L variables, each an input and a task.

    The series is cut by time: the first steps are for training, the next for validation, the last
    for the test, and no window reaches over a cut, so that no value is in two parts. Values are
    scaled by the mean and standard deviation of the training steps, the same for all variables.
    What is given of a validation or test window is drawn at random, see ``completion``.

    Args:
        series: ``[S]`` numbers, evenly spaced in time.
        length: L, at least 2.
        stride: Steps from one window to the next.
        fractions: Shares of the steps for training, validation and test.
        observe: Fewest and most values given of a validation or test window; None: 1 .. L - 1.
        seed: Of what is given.
        name: Of the problem.

    Raises:
        ValueError: A series that is no vector of finite, varying numbers; a part too short for a
            window; shares that are not three positive numbers with sum 1.

    Example:
        >>> problem = forecast_windows(np.sin(np.arange(200.0)), length=4)
        >>> problem.train.inputs.shape, [task.name for task in problem.tasks]
        (torch.Size([117, 4]), ['t+0', 't+1', 't+2', 't+3'])
    """
    values = torch.as_tensor(np.asarray(series, dtype=np.float64))
    if values.dim() != 1 or not bool(torch.isfinite(values).all()):
        raise ValueError(
            f"`series` must be a vector of finite numbers, found shape {list(values.shape)} with"
            f" {int((~torch.isfinite(values)).sum())} number(s) that are not finite."
        )
    if length < 2 or stride < 1:
        raise ValueError(f"`length` must be >= 2 and `stride` >= 1, found {length} and {stride}.")
    if min(fractions) <= 0 or abs(sum(fractions) - 1) > 1e-6:
        raise ValueError(
            f"`fractions` must be three positive shares with sum 1, found {fractions}."
        )
    first, second = round(fractions[0] * len(values)), round(sum(fractions[:2]) * len(values))
    parts = dict(zip(SPLIT_NAMES, values.tensor_split([first, second]), strict=True))
    for part, steps in parts.items():
        if len(steps) < length:
            raise ValueError(
                f"The {part} part has {len(steps)} steps, fewer than a window of {length}."
            )
    mean, scale = parts["train"].mean().item(), parts["train"].std(correction=0).item()
    if scale == 0:
        raise ValueError(f"`series` has one value only ({mean:g}) in its training steps.")
    kind = Regression(mean=mean, scale=scale)
    tasks = tuple(Task(f"t+{k}", kind) for k in range(length))
    rows = {
        part: ((steps - mean) / scale).unfold(0, length, stride) for part, steps in parts.items()
    }
    spans = ", ".join(f"{part} {len(steps)}" for part, steps in parts.items())
    return imputation(
        rows,
        tasks,
        name=name,
        observe=observe,
        seed=seed,
        notes=[f"cut by time into consecutive steps: {spans}; no window reaches over a cut"],
    )
