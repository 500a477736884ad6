"""Concentric hyperspheres: many small tables that share nothing but the geometry of their
variables.

Shape legend: n features and m classes of a task, N rows, V variables of all tasks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product

import numpy as np
import torch
from torch import Tensor

from polytask.problems.problem import Problem
from polytask.problems.splits import SPLIT_NAMES, SeparateSplit, Split
from polytask.tasks import Multiclass, Task

__all__ = ["hypersphere_embeddings", "hyperspheres"]

_EVERY_FEATURES = tuple(range(1, 11))
_EVERY_CLASSES = tuple(range(2, 11))
#: A radius of this many units has the true embedding 1.
_RADIUS_SCALE = 10


def hyperspheres(
    *,
    seed: int = 0,
    num_features: Sequence[int] = _EVERY_FEATURES,
    num_classes: Sequence[int] = _EVERY_CLASSES,
    rows_per_class: tuple[int, int, int] = (5, 5, 100),
) -> Problem:
    """One table per pair (n features, m classes): name the sphere that a point is on.

    A task has a centre o ~ N(0, I_n), and its class c = 1 .. m is uniform on the sphere of radius
    c around o. No two tasks share a column, a class or a row; but a feature is known by one number,
    its coordinate of the centre, and a class by its radius (``hypersphere_embeddings``). Five rows
    per class do not tell the spheres apart, so a model has to find what all tasks have in common.

    Tasks are named "3 features, 5 classes" and ordered by features, then classes. A task of two
    classes has twice the rows per class, as in the authors' files.

    Args:
        seed: Of everything: another one is another 90 centres and other rows.
        num_features: Every n.
        num_classes: Every m, at least 2.
        rows_per_class: Training, validation and test rows of each class.

    Raises:
        ValueError: No or repeated sizes, or sizes out of their range.

    Example:
        >>> problem = hyperspheres(num_features=(1, 2), num_classes=(3,))
        >>> [task.name for task in problem.tasks]
        ['1 features, 3 classes', '2 features, 3 classes']
        >>> problem.train.parts["2 features, 3 classes"].inputs.shape
        torch.Size([15, 2])

    References:
        E. Meyerson, R. Miikkulainen, The Traveling Observer Model, ICLR 2021,
        https://arxiv.org/abs/2010.02354, section 4.2; rows per class of two classes from its code.
    """
    _check(num_features, num_classes, rows_per_class)
    found: dict[str, dict[str, Split]] = {part: {} for part in SPLIT_NAMES}
    for name, classes, centre, rng in _tasks(seed, num_features, num_classes):
        task = Task(name, Multiclass(classes))
        factor = 2 if classes == 2 else 1
        for part, rows in zip(SPLIT_NAMES, rows_per_class, strict=True):
            codes = np.repeat(np.arange(classes), factor * rows)
            directions = rng.standard_normal((len(codes), len(centre)))
            directions /= np.linalg.norm(directions, axis=1, keepdims=True)
            points = centre + (codes[:, None] + 1) * directions
            inputs = torch.from_numpy(points.astype(np.float32))
            found[part][name] = Split(inputs, {name: torch.from_numpy(codes)}, [task])
    return Problem(
        name="hyperspheres",
        train=SeparateSplit(found["train"]),
        validation=SeparateSplit(found["validation"]),
        test=SeparateSplit(found["test"]),
        notes=["synthetic: with the centres known, the radius of a point gives its class"],
    )


def hypersphere_embeddings(
    *,
    seed: int = 0,
    num_features: Sequence[int] = _EVERY_FEATURES,
    num_classes: Sequence[int] = _EVERY_CLASSES,
) -> Tensor:
    """The true embeddings ``[V, 1]`` of the variables of ``hyperspheres`` with these arguments.

    Feature i of a task has its centre's coordinate o_i, class c has c / 10. Variables are in the
    order of models over tables: task by task, its features, then its classes.

    Example:
        >>> hypersphere_embeddings(num_features=(1,), num_classes=(3,))[1:].flatten()
        tensor([0.1000, 0.2000, 0.3000])
    """
    _check(num_features, num_classes, (1, 1, 1))
    values = [
        value
        for _, classes, centre, _ in _tasks(seed, num_features, num_classes)
        for value in (*centre, *(np.arange(1, classes + 1) / _RADIUS_SCALE))
    ]
    return torch.tensor(values, dtype=torch.float32).unsqueeze(1)


def _tasks(
    seed: int, num_features: Sequence[int], num_classes: Sequence[int]
) -> Iterator[tuple[str, int, np.ndarray, np.random.Generator]]:
    """Name, classes and centre of every task, and the generator of its rows.

    A task's numbers depend on its own sizes only, not on which other tasks there are.
    """
    for features, classes in product(num_features, num_classes):
        rng = np.random.default_rng([20_210_503, seed, features, classes])
        yield f"{features} features, {classes} classes", classes, rng.standard_normal(features), rng


def _check(
    num_features: Sequence[int], num_classes: Sequence[int], rows_per_class: Sequence[int]
) -> None:
    checks = (
        ("num_features", num_features, 1),
        ("num_classes", num_classes, 2),
        ("rows_per_class", rows_per_class, 1),
    )
    for name, sizes, least in checks:
        if not sizes or min(sizes) < least:
            raise ValueError(f"`{name}` needs numbers of at least {least}, found {tuple(sizes)}.")
        if name != "rows_per_class" and len(set(sizes)) < len(sizes):
            raise ValueError(f"`{name}` holds a number twice: {tuple(sizes)}.")
