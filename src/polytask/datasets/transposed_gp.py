"""The transposed Gaussian process: tasks whose variables are places on one line.

Shape legend: n inputs and m outputs of a task, N rows, V variables of all tasks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product

import numpy as np
import torch
from torch import Tensor

from polytask.problems.problem import Problem
from polytask.problems.splits import SPLIT_NAMES, SeparateSplit, Split
from polytask.tasks import Regression, Task

__all__ = ["transposed_gp", "transposed_gp_embeddings", "transposed_gp_optimum"]

_EVERY_SIZE = tuple(range(1, 11))
#: Places lie in 0 .. LENGTH; the process has length scale 1.
LENGTH = 5.0
#: Added to the diagonal of covariances: places can be very close together.
_JITTER = 1e-8


def transposed_gp(
    *,
    seed: int = 0,
    num_inputs: Sequence[int] = _EVERY_SIZE,
    num_outputs: Sequence[int] = _EVERY_SIZE,
    rows: tuple[int, int, int] = (10, 10, 100),
) -> Problem:
    """One table per pair (n inputs, m outputs): fill in a function from its values elsewhere.

    A task has n + m places, uniform in [0, 5]. Every row is a function of its own, drawn from a
    Gaussian process on the line (mean 0, variance 1, covariance exp(-d^2 / 2)): its values at the
    first n places are the inputs, those at the other m the targets. Where ordinary regression has
    the places as inputs, here they are variables and are not told; what tasks have in common is the
    line that their variables lie on. The best possible score is known (``transposed_gp_optimum``).

    Tasks are named "3 to 5" and ordered by inputs, then outputs; a task is a ``Regression`` of m
    numbers with mean 0 and scale 1.

    Args:
        seed: Of everything: another one is another set of places and other rows.
        num_inputs: Every n.
        num_outputs: Every m.
        rows: Training, validation and test rows of each task.

    Raises:
        ValueError: No or repeated sizes, or sizes below 1.

    Example:
        >>> problem = transposed_gp(num_inputs=(4,), num_outputs=(1, 2))
        >>> part = problem.train.parts["4 to 2"]
        >>> part.inputs.shape, part.targets["4 to 2"].shape
        (torch.Size([10, 4]), torch.Size([10, 2]))

    References:
        E. Meyerson, R. Miikkulainen, The Traveling Observer Model, ICLR 2021,
        https://arxiv.org/abs/2010.02354, section 4.2.
    """
    _check(num_inputs, num_outputs, rows)
    found: dict[str, dict[str, Split]] = {part: {} for part in SPLIT_NAMES}
    for name, inputs, places, rng in _tasks(seed, num_inputs, num_outputs):
        task = Task(name, Regression(size=len(places) - inputs))
        root = np.linalg.cholesky(_covariance(places) + _JITTER * np.eye(len(places)))
        for part, count in zip(SPLIT_NAMES, rows, strict=True):
            drawn = rng.standard_normal((count, len(places))) @ root.T
            values = torch.from_numpy(drawn.astype(np.float32))
            targets = values[:, inputs:]
            if targets.shape[1] == 1:
                targets = targets.squeeze(1)
            found[part][name] = Split(values[:, :inputs], {name: targets}, [task])
    mean = float(
        transposed_gp_optimum(seed=seed, num_inputs=num_inputs, num_outputs=num_outputs).mean()
    )
    return Problem(
        name="transposed_gp",
        train=SeparateSplit(found["train"]),
        validation=SeparateSplit(found["validation"]),
        test=SeparateSplit(found["test"]),
        notes=[f"synthetic: the expected MSE of the best possible model is {mean:.3f} on average"],
    )


def transposed_gp_embeddings(
    *,
    seed: int = 0,
    num_inputs: Sequence[int] = _EVERY_SIZE,
    num_outputs: Sequence[int] = _EVERY_SIZE,
) -> Tensor:
    """The places ``[V, 1]`` of the variables of ``transposed_gp`` with these arguments, over 5.

    Variables are in the order of models over tables: task by task, its inputs, then its outputs.
    """
    _check(num_inputs, num_outputs, (1, 1, 1))
    places = [places for _, _, places, _ in _tasks(seed, num_inputs, num_outputs)]
    return torch.from_numpy((np.concatenate(places) / LENGTH).astype(np.float32)).unsqueeze(1)


def transposed_gp_optimum(
    *,
    seed: int = 0,
    num_inputs: Sequence[int] = _EVERY_SIZE,
    num_outputs: Sequence[int] = _EVERY_SIZE,
) -> Tensor:
    """Expected squared error ``[T]`` of the best possible model for each task: the mean posterior
    variance of its outputs, their places and the process being known.

    Example:
        >>> optimum = transposed_gp_optimum(num_inputs=(1, 10), num_outputs=(5,))
        >>> bool(optimum[1] < optimum[0] < 1)
        True
    """
    _check(num_inputs, num_outputs, (1, 1, 1))
    found = []
    for _, inputs, places, _ in _tasks(seed, num_inputs, num_outputs):
        covariance = _covariance(places)
        given = covariance[:inputs, :inputs] + _JITTER * np.eye(inputs)
        across = covariance[:inputs, inputs:]
        explained = np.sum(across * np.linalg.solve(given, across), axis=0)
        found.append(float(np.mean(1 - explained)))
    return torch.tensor(found)


def _covariance(places: np.ndarray) -> np.ndarray:
    covariance: np.ndarray = np.exp(-0.5 * (places[:, None] - places) ** 2)
    return covariance


def _tasks(
    seed: int, num_inputs: Sequence[int], num_outputs: Sequence[int]
) -> Iterator[tuple[str, int, np.ndarray, np.random.Generator]]:
    """Name, number of inputs and places ``[n + m]`` of every task, and the generator of its rows.

    A task's numbers depend on its own sizes only, not on which other tasks there are.
    """
    for inputs, outputs in product(num_inputs, num_outputs):
        rng = np.random.default_rng([20_210_504, seed, inputs, outputs])
        yield f"{inputs} to {outputs}", inputs, rng.uniform(0, LENGTH, inputs + outputs), rng


def _check(num_inputs: Sequence[int], num_outputs: Sequence[int], rows: Sequence[int]) -> None:
    checks = (("num_inputs", num_inputs), ("num_outputs", num_outputs), ("rows", rows))
    for name, sizes in checks:
        if not sizes or min(sizes) < 1:
            raise ValueError(f"`{name}` needs numbers of at least 1, found {tuple(sizes)}.")
        if name != "rows" and len(set(sizes)) < len(sizes):
            raise ValueError(f"`{name}` holds a number twice: {tuple(sizes)}.")
