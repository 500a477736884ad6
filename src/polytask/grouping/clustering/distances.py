"""Distances between tasks from one long vector per task, and few coordinates that have them.

There are many more numbers per task than tasks, so the vectors are read once, in chunks of columns;
what follows works on at most T coordinates per task that have exactly these distances.

Shape legend: T tasks, P numbers per task, Q coordinates per task (Q <= T).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

__all__ = [
    "Points",
    "columns_in_chunks",
    "coordinates",
    "first_equal",
    "squared_distances",
]

Points = Tensor | np.ndarray[Any, np.dtype[Any]]

#: Numbers of one chunk of columns: 64 MiB in float64.
CHUNK = 2**23


def squared_distances(points: Points) -> Tensor:
    """Squared Euclidean distances between tasks ``[T, T]``, float64, in one pass over the data.

    Where numbers are missing (NaN), ``d_ij = P / P_ij sum_p (x_ip - x_jp)^2`` over the ``P_ij``
    columns that both tasks have, of the ``P`` columns that any task has: the columns in which two
    tasks can be compared stand for the others.

    Args:
        points: ``[T, P]`` of any floating type, a tensor or an array, memory-mapped or not.

    Raises:
        ValueError: Not a matrix, infinite numbers, a task without any number, or two tasks that
            share no column.

    Cost: ``2 T^2 P`` operations, three times that in chunks with missing numbers. Memory: about
        ``40 T^2`` bytes and three chunks of 64 MiB.
    """
    if points.ndim != 2 or min(points.shape) < 1:
        raise ValueError(f"`points` must be [tasks, numbers], found shape {tuple(points.shape)}.")
    products, squares, counts = torch.zeros(
        3, points.shape[0], points.shape[0], dtype=torch.float64
    ).unbind()
    columns = 0
    for chunk in _shifted(points):
        known = ~chunk.isnan()
        used = known.any(0)
        columns += int(used.sum())
        if bool(known.all()):
            squares += chunk.square().sum(1, keepdim=True)
            counts += chunk.shape[1]
        else:
            chunk, known = chunk[:, used].nan_to_num_(), known[:, used].double()
            squares.addmm_(chunk.square(), known.T)
            counts.addmm_(known, known.T)
        products.addmm_(chunk, chunk.T)
    for i in (counts.diagonal() == 0).nonzero().flatten().tolist()[:1]:
        raise ValueError(f"`points` has no number (all NaN) for task {i}.")
    for i, j in (counts == 0).nonzero().tolist()[:1]:
        raise ValueError(
            f"`points` has no column that is known (not NaN) for both tasks {i} and {j}."
        )
    found = (squares + squares.T - products - products.T) * (columns / counts)
    return found.clamp_min(0).fill_diagonal_(0)


def _shifted(points: Points) -> Iterator[Tensor]:
    """Columns ``[T, some]`` in float64, each less the first of its numbers that is known.

    That changes no distance, makes the numbers of equal tasks exactly 0, and loses nothing to
    cancellation where numbers are large beside their differences.
    """
    for chunk in columns_in_chunks(points, max(1, CHUNK // points.shape[0])):
        first = (~chunk.isnan()).int().argmax(0, keepdim=True)
        yield chunk.sub_(chunk.gather(0, first))


def columns_in_chunks(points: Points, width: int) -> Iterator[Tensor]:
    """Copies ``[T, width]`` in float64 on the CPU; the last one may be narrower."""
    for start in range(0, points.shape[1], width):
        part = points[:, start : start + width]
        if isinstance(part, Tensor):
            chunk = part.detach().to("cpu", torch.float64, copy=True)
        else:
            chunk = torch.from_numpy(part.astype(np.float64))
        if bool(chunk.isinf().any()):
            row = int(chunk.isinf().any(1).nonzero()[0])
            raise ValueError(f"`points` holds infinite numbers, first for task {row}.")
        yield chunk


def coordinates(squared: Tensor, *, noise: bool = True) -> Tensor:
    """Points ``[T, Q]`` with these distances (classical scaling), principal axes first.

    ``Y Y^T = G = -1/2 C D C`` with the squared distances ``D`` and the centring matrix ``C``.
    Distances that no points have (missing numbers can give such) are replaced by those of the
    positive part of ``G``.

    Args:
        squared: ``D``, ``[T, T]``, symmetric.
        noise: True keeps the distances. False takes the median eigenvalue of ``G`` off all of them:
            what every task has for itself, in all directions alike, says nothing about groups but
            hides them in high dimension.

    Cost: ``O(T^3)``.

    References:
        J. C. Gower, Some distance properties of latent root and vector methods used in multivariate
        analysis, Biometrika 53, 1966.
    """
    num_tasks = squared.shape[0]
    centred = squared - squared.mean(0, keepdim=True)
    gram = (centred - centred.mean(1, keepdim=True)) / -2
    values, vectors = torch.linalg.eigh((gram + gram.T) / 2)
    if not noise and num_tasks > 2:
        # The first of the T eigenvalues is the 0 of the centring.
        values = values - values[1 + (num_tasks - 1) // 2].clamp_min(0)
    values, vectors = values.flip(0), vectors.flip(1)
    rank = max(1, int((values > num_tasks * torch.finfo(torch.float64).eps * values[0]).sum()))
    places: Tensor = vectors[:, :rank] * values[:rank].clamp_min(0).sqrt()
    return places[first_equal(squared)]


def first_equal(squared: Tensor) -> Tensor:
    """Per task ``[T]`` the first task at distance 0 from it, up to rounding; often itself."""
    rounding = squared.shape[0] * torch.finfo(torch.float64).eps * squared.max()
    return (squared <= rounding).int().argmax(1)
