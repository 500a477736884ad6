"""Tasks on a grid of two attributes: can a task be predicted from its attributes alone?

Shape legend: A and B levels of the two attributes, T = A B tasks, N rows of a task, D features.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from polytask.datasets.digits import _images
from polytask.problems.problem import Problem
from polytask.problems.splits import SeparateSplit, Split
from polytask.tasks import Kind, Multiclass, Regression, Task

__all__ = ["AttributeGrid", "bilinear_grid", "digits_grid"]

#: Shares of a task's rows that are trained on and validated on, of those that are not tested on.
TRAIN_SHARE = 0.8


@dataclass(frozen=True)
class AttributeGrid:
    """A problem whose tasks are the cells of a grid, and what is known of every cell.

    Args:
        problem: The tasks "a level, b level" in the separate layout, the second attribute fastest.
        attributes: Names of the two attributes.
        levels: Of each attribute.
    """

    problem: Problem
    attributes: tuple[str, str]
    levels: tuple[tuple[float, ...], tuple[float, ...]]

    @property
    def cells(self) -> list[tuple[int, int]]:
        """Level numbers of both attributes, by task."""
        first, second = self.levels
        return list(itertools.product(range(len(first)), range(len(second))))

    @property
    def multi_hot(self) -> torch.Tensor:
        """Descriptors ``[T, A + B]``: a one for the level of each attribute. A cell that was left
        out is described by levels that other cells have.
        """
        first, second = (torch.eye(len(values)) for values in self.levels)
        return torch.stack([torch.cat([first[a], second[b]]) for a, b in self.cells])

    @property
    def coordinates(self) -> torch.Tensor:
        """Descriptors ``[T, 2]``: the levels, scaled to 0 .. 1 over the grid."""
        columns = []
        for axis, values in enumerate(self.levels):
            span = (max(values) - min(values)) or 1.0
            columns.append([(values[cell[axis]] - min(values)) / span for cell in self.cells])
        return torch.tensor(columns).mT.contiguous()


def bilinear_grid(
    *,
    seed: int = 0,
    first: int = 5,
    second: int = 4,
    num_rows: int = 40,
    num_features: int = 20,
    noise: float = 0.5,
) -> AttributeGrid:
    """Linear regression tasks whose weights are a sum over two attributes: w_ab = u_a + v_b.

    y = x · (u_a + v_b) + e with x [D] standard Gaussian, u and v Gaussian with squared length 1/2
    in expectation, e Gaussian with standard deviation ``noise``. It is bilinear in x and in the
    multi-hot descriptor z_ab: y = x · W z, so a two-sided linear network holds the truth. No method
    can have an RMSE below ``noise`` (in expectation). A cell that was left out is determined by the
    others; whoever predicts it by its nearest cell, which shares one attribute, is off by
    ``|v_b - v_b'|``, of squared length 1 in expectation. ``problem.notes`` says so.

    Args:
        seed: Of everything.
        first: A.
        second: B.
        num_rows: Rows of a task that are not tested on; four fifths of them train.
        num_features: D.
        noise: Standard deviation of the noise, > 0.

    Raises:
        ValueError: fewer than two levels, rows or features, noise that is not positive.
    """
    for name, value in (("first", first), ("second", second), ("num_rows", num_rows)):
        if value < 2:
            raise ValueError(f"`{name}` must be at least 2, found {value}.")
    if num_features < 1 or not noise > 0:
        raise ValueError(
            f"`num_features` must be at least 1 and `noise` > 0, found {num_features} and {noise}."
        )
    rng = np.random.default_rng(seed)
    deviation = math.sqrt(0.5 / num_features)
    u = deviation * rng.standard_normal((first, num_features))
    v = deviation * rng.standard_normal((second, num_features))
    test_rows = 200
    data = {}
    for a, b in itertools.product(range(first), range(second)):
        inputs = rng.standard_normal((num_rows + test_rows, num_features))
        targets = inputs @ (u[a] + v[b]) + noise * rng.standard_normal(len(inputs))
        data[f"a {a}, b {b}"] = inputs.astype(np.float32), targets.astype(np.float32)
    note = (
        f"synthetic: the expected RMSE of the best possible model is {noise:g} for every task, for"
        " a task that was left out too"
    )
    problem = _problem("bilinear_grid", data, Regression(), num_rows, note)
    levels = tuple(map(float, range(first))), tuple(map(float, range(second)))
    return AttributeGrid(problem, ("a", "b"), levels)


def digits_grid(
    *,
    seed: int = 0,
    angles: Sequence[float] = (0.0, 45.0, 90.0, 135.0, 180.0),
    noises: Sequence[float] = (0.0, 0.2, 0.4, 0.6),
    num_rows: int = 50,
    num_test: int = 300,
) -> AttributeGrid:
    """Handwritten digits of 8 x 8 pixels, turned by an angle and covered by noise: which digit?

    Every task has training images of its own, equally many of each digit; all tasks are tested on
    the same images (turned and with noise of their own). A six turned by half a turn is a nine, so
    an image alone does not tell what it shows: the angle has to be known.

    Args:
        seed: Of which images are whose, and of the noise.
        angles: Degrees, counter-clockwise; linear interpolation.
        noises: Standard deviations of Gaussian noise on pixels in 0 .. 1.
        num_rows: Images of a task that are not tested on, at least 20; four fifths of them train.
        num_test: Test images.

    Raises:
        ValueError: fewer than two levels of an attribute, levels that repeat, negative noise, or
            more images than there are (1,797 in all).
    """
    from scipy import ndimage

    for name, values in (("angles", angles), ("noises", noises)):
        if len(set(values)) < 2 or len(set(values)) != len(values):
            raise ValueError(
                f"`{name}` needs at least two levels, each once, found {list(values)}."
            )
    if min(noises) < 0:
        raise ValueError(f"`noises` must be >= 0, found {list(noises)}.")
    images, labels = _images()
    if not 1 <= num_test < len(images):
        raise ValueError(f"`num_test` must be 1 .. {len(images) - 1}, found {num_test}.")
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(images))
    test, rest = order[:num_test], order[num_test:]
    cells = list(itertools.product(angles, noises))
    dealt = _dealt(rest, labels[rest], len(cells), num_rows)
    data = {}
    for (angle, noise), own in zip(cells, dealt, strict=True):
        rows = np.concatenate([own, test])
        turned = ndimage.rotate(images[rows, 0], angle, axes=(2, 1), reshape=False, order=1)
        noisy = turned + noise * rng.standard_normal(turned.shape)
        data[f"angle {angle:g}, noise {noise:g}"] = (
            noisy.reshape(len(rows), -1).astype(np.float32),
            labels[rows],
        )
    problem = _problem("digits_grid", data, Multiclass(10), num_rows, "")
    return AttributeGrid(problem, ("angle", "noise"), (tuple(angles), tuple(noises)))


def _dealt(rows: np.ndarray, digits: np.ndarray, tasks: int, each: int) -> np.ndarray:
    """Rows ``[tasks, each]``, no row twice, the digits of a task in turn."""
    turns = np.arange(each) % 10
    if each < 20:
        raise ValueError(f"`num_rows` must be at least 20, two of each digit, found {each}.")
    dealt = np.empty((tasks, each), dtype=np.int64)
    for digit in range(10):
        places, own = turns == digit, rows[digits == digit]
        needed = tasks * int(places.sum())
        if needed > len(own):
            raise ValueError(
                f"{tasks} tasks of `num_rows`={each} images need {needed} of the digit {digit}, "
                f"and there are {len(own)} beside the test images; take fewer rows or levels."
            )
        dealt[:, places] = own[:needed].reshape(tasks, -1)
    return dealt


def _problem(
    name: str,
    data: dict[str, tuple[np.ndarray, np.ndarray]],
    kind: Kind,
    num_rows: int,
    note: str,
) -> Problem:
    """Rows in order: training, validation (together ``num_rows``), test."""
    middle = min(num_rows - 1, max(1, round(TRAIN_SHARE * num_rows)))
    parts: dict[str, dict[str, Split]] = {"train": {}, "validation": {}, "test": {}}
    cuts = {"train": (0, middle), "validation": (middle, num_rows), "test": (num_rows, None)}
    for task, (inputs, targets) in data.items():
        x, y = torch.from_numpy(inputs), torch.from_numpy(targets)
        for part, (start, end) in cuts.items():
            parts[part][task] = Split(x[start:end], {task: y[start:end]}, [Task(task, kind)])
    return Problem(
        name=name,
        train=SeparateSplit(parts["train"]),
        validation=SeparateSplit(parts["validation"]),
        test=SeparateSplit(parts["test"]),
        notes=[note] if note else [],
    )
