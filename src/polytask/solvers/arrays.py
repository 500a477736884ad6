"""Between the tensors of the public functions and the float64 arrays that the solvers work on.

Shape legend: T tasks, N problems of a batch.

A Gramian of T tasks is tiny; what costs time is the number of array operations, and each costs
about a microsecond in NumPy against three to five in PyTorch. The solvers that iterate therefore
run on float64 arrays on the CPU, whatever the device and precision of the Gramian, and hand the
weights back where it came from.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = [
    "Array",
    "Mask",
    "Solution",
    "SolverReport",
    "accepted",
    "gram_to_array",
    "rounding",
    "to_array",
    "to_tensor",
    "unit_gram",
    "unit_trace",
]

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class SolverReport:
    """How a solver ended, over all problems of the batch.

    Args:
        converged: Whether every problem reached the solver's tolerance.
        iterations: The largest number of iterations that a problem took.
        residual: The largest scale-free residual of the optimality conditions.
        fallback: What was returned in place of a solution that was not found; None if all were
            found.
    """

    converged: bool
    iterations: int
    residual: float
    fallback: str | None = None


class Solution(NamedTuple):
    """Weights ``[..., T]`` and the report on how they were found."""

    weights: Tensor
    report: SolverReport


def gram_to_array(gram: Tensor) -> Array:
    """A float64 copy ``[N, T, T]`` on the CPU of Gramians ``[..., T, T]``.

    Raises:
        TypeError: If ``gram`` does not hold floating point numbers.
        ValueError: If it is not square or not finite.
    """
    if not gram.is_floating_point():
        raise TypeError(f"`gram` must be a floating point tensor, found {gram.dtype}.")
    if gram.dim() < 2 or gram.shape[-1] != gram.shape[-2] or gram.shape[-1] == 0:
        raise ValueError(f"`gram` must have shape [..., T, T], found {tuple(gram.shape)}.")
    array = gram.detach().to("cpu", torch.float64, copy=True).numpy()
    if not np.isfinite(array).all():
        raise ValueError("`gram` has elements that are not finite; look for a diverged loss.")
    return array.reshape(math.prod(array.shape[:-2]), *array.shape[-2:])


def to_array(tensor: Tensor, trailing: int, name: str) -> Array:
    """A float64 copy ``[N, ...]`` on the CPU that keeps the last ``trailing`` dimensions.

    Raises:
        ValueError: If an element is not finite, naming the tensor.
    """
    array = tensor.detach().to("cpu", torch.float64, copy=True).numpy()
    if not np.isfinite(array).all():
        raise ValueError(f"`{name}` has elements that are not finite; look for a diverged loss.")
    kept = array.ndim - trailing
    return array.reshape(math.prod(array.shape[:kept]), *array.shape[kept:])


def to_tensor(array: Array, like: Tensor, shape: tuple[int, ...]) -> Tensor:
    """The array as a tensor of the given shape with the data type and device of ``like``."""
    return torch.from_numpy(array.reshape(shape)).to(like.device, like.dtype)


def accepted(precision: float) -> float:
    """The residual at which a solver has done what the precision of its input allows."""
    return max(1e-8, 256 * precision)


def rounding(tensor: Tensor) -> float:
    """The relative rounding error of a tensor's data type: what its zeros may look like."""
    return float(torch.finfo(tensor.dtype).eps)


def unit_trace(gram: Array) -> Array:
    """Gramians ``[N, T, T]`` divided by their traces, which keeps products away from overflow."""
    trace = np.einsum("nii->n", gram)
    scaled: Array = gram / np.where(trace > 0, trace, 1)[:, None, None]
    return scaled


def unit_gram(gram: Array) -> tuple[Array, Array]:
    """Cosines ``[N, T, T]`` of a batch of Gramians and norms ``[N, T]`` relative to the largest.

    Rows of zeros get a cosine of one with themselves, zero with the others and norm zero: for the
    solvers they are tasks that touch nobody.
    """
    squares = np.einsum("nii->ni", gram).clip(min=0)
    # The division keeps products of norms away from overflow and underflow.
    largest = squares.max(axis=-1, keepdims=True)
    largest[largest == 0] = 1
    relative = squares / largest
    norms = np.sqrt(relative)
    alive = relative > np.finfo(np.float64).tiny
    inverse = np.where(alive, 1 / np.where(alive, norms, 1), 0)
    cosines = (gram / largest[..., None]) * inverse[:, :, None] * inverse[:, None, :]
    # Rounding of nearly parallel rows would leave the matrix indefinite.
    np.clip(cosines, -1, 1, out=cosines)
    diagonal = np.arange(gram.shape[-1])
    cosines[:, diagonal, diagonal] = 1
    return cosines, norms * alive
