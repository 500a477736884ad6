"""Sequential projections of task gradients on each other, done on coefficients.

Shape legend: T tasks, V visits per task, N problems of a batch.

PCGrad and GradVac change a task's gradient by multiples of the others. Instead of vectors of P
numbers we keep its coefficients in terms of the T gradients and its inner products with them; a
visit is then O(T) for one task and all tasks make their k-th visit together.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from polytask.solvers.arrays import gram_to_array, to_array, to_tensor, unit_trace

__all__ = ["Vaccination", "project_conflicts", "random_orders", "vaccinate"]


def random_orders(
    num_tasks: int, *, generator: torch.Generator | None = None, batch: tuple[int, ...] = ()
) -> Tensor:
    """For every task a random order of the other tasks.

    Args:
        num_tasks: T.
        generator: Source of randomness, on the CPU; None takes PyTorch's global one.
        batch: Leading dimensions of the result.

    Returns:
        ``[*batch, T, T - 1]``, dtype int64, on the CPU; row ``i`` permutes all tasks but ``i``.

    Cost: O(T^2 log T).
    """
    if num_tasks < 1:
        raise ValueError(f"`num_tasks` must be >= 1, found {num_tasks}.")
    keys = torch.rand(*batch, num_tasks, num_tasks, generator=generator, dtype=torch.float64)
    # The task itself sorts behind all others and is cut off.
    keys.diagonal(dim1=-2, dim2=-1).fill_(2)
    return keys.argsort(dim=-1)[..., :-1]


def project_conflicts(gram: Tensor, orders: Tensor) -> Tensor:
    """Coefficients of the projected gradients of PCGrad.

    Task ``i`` starts from ``p_i = g_i`` and visits the tasks of ``orders[i]`` in turn: where
    ``p_i . g_j < 0``, it becomes ``p_i - (p_i . g_j / ||g_j||^2) g_j``, with ``g_j`` itself never
    changed.

    Args:
        gram: ``[..., T, T]``.
        orders: Visits ``[..., T, V]`` (int64), as from ``random_orders``.

    Returns:
        ``C`` ``[..., T, T]`` with ``p_i = sum_j C_ij g_j``; its column sums are the task weights.

    Raises:
        ValueError: If shapes do not fit or an index is out of range.

    Cost: V rounds of O(T^2).

    References:
        Yu, Kumar, Gupta, Levine, Hausman, Finn. Gradient surgery for multi-task learning. NeurIPS
        2020, algorithm 1.
        https://arxiv.org/abs/2001.06782
    """
    array, visits = unit_trace(gram_to_array(gram)), _visits(orders, gram)
    squares = np.einsum("nii->ni", array)
    inverse = np.where(squares > 0, 1 / np.where(squares > 0, squares, 1), 0)
    size = squares.shape[-1]
    rows, first = _flat_rows(visits)
    # One row per task of every problem; flat positions are three times faster than index pairs.
    gradients = array.reshape(-1, size)
    inverse = inverse.reshape(-1)
    coefficients = np.tile(np.eye(size), (len(array), 1))
    products = gradients.copy()
    flat_coefficients, flat_products = coefficients.reshape(-1), products.reshape(-1)
    for visit in range(visits.shape[-1]):
        other = visits[:, :, visit].reshape(-1)
        position = rows + other
        factor = np.minimum(flat_products[position], 0) * inverse[first + other]
        flat_coefficients[position] -= factor
        products -= factor[:, None] * gradients[first + other]
    return to_tensor(coefficients, gram, tuple(gram.shape))


class Vaccination(NamedTuple):
    """Coefficients of the changed gradients and updated targets, both ``[..., T, T]``."""

    coefficients: Tensor
    targets: Tensor


def vaccinate(gram: Tensor, orders: Tensor, targets: Tensor, *, beta: float) -> Vaccination:
    """Coefficients of the gradients of GradVac, and the moving averages of their cosines.

    Task ``i`` starts from ``p_i = g_i`` and visits the tasks of ``orders[i]``. With
    ``phi = cos(p_i, g_j)`` and the target ``r = targets_ij``: where ``phi < r``, ``p_i`` grows by
    ``||p_i|| (r sqrt(1 - phi^2) - phi sqrt(1 - r^2)) / (||g_j|| sqrt(1 - r^2)) g_j``, which makes
    their cosine ``r``; then, changed or not, ``targets_ij <- (1 - beta) r + beta phi``. Pairs with
    a zero gradient are left alone, and a target of one (only reached by parallel gradients) asks
    for nothing.

    Args:
        gram: ``[..., T, T]``.
        orders: Visits ``[..., T, V]`` (int64), each task at most once per row.
        targets: ``[..., T, T]`` of cosines; zeros at the start.
        beta: Weight of the new cosine in the average, in [0, 1].

    Returns:
        The coefficients and the new targets.

    Raises:
        ValueError: If shapes do not fit or an index is out of range.

    Cost: V rounds of O(T^2).

    References:
        Wang, Tsvetkov, Firat, Cao. Gradient vaccine: investigating and improving multi-task
        optimization in massively multilingual models. ICLR 2021, equations 2-3, algorithm 1.
        https://arxiv.org/abs/2010.05874
    """
    array, visits = unit_trace(gram_to_array(gram)), _visits(orders, gram)
    if targets.shape != gram.shape:
        raise ValueError(
            f"`targets` must have the shape {tuple(gram.shape)} of `gram`,"
            f" found {tuple(targets.shape)}."
        )
    norms = np.sqrt(np.einsum("nii->ni", array).clip(min=0))
    size = norms.shape[-1]
    rows, first = _flat_rows(visits)
    gradients = array.reshape(-1, size)
    norms = norms.reshape(-1)
    coefficients = np.tile(np.eye(size), (len(array), 1))
    products = gradients.copy()
    averages = to_array(targets, 2, "targets")
    flat_coefficients, flat_products = coefficients.reshape(-1), products.reshape(-1)
    flat_averages = averages.reshape(-1)
    for visit in range(visits.shape[-1]):
        other = visits[:, :, visit].reshape(-1)
        position = rows + other
        other = first + other
        length = np.sqrt(np.einsum("ij,ij->i", coefficients, products).clip(min=0))
        both = length * norms[other]
        alive = both > 0
        phi = (flat_products[position] / np.where(alive, both, 1)).clip(-1, 1)
        target = flat_averages[position]
        open_angle = np.sqrt((1 - target**2).clip(min=0))
        act = alive & (phi < target) & (open_angle > 0)
        if act.any():
            rise = target * np.sqrt(1 - phi**2) - phi * open_angle
            factor = np.where(act, length * rise / np.where(act, norms[other] * open_angle, 1), 0)
            flat_coefficients[position] += factor
            products += factor[:, None] * gradients[other]
        flat_averages[position] = np.where(alive, target + beta * (phi - target), target)
    shape = tuple(gram.shape)
    return Vaccination(to_tensor(coefficients, gram, shape), to_tensor(averages, targets, shape))


def _flat_rows(visits: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """For every task of every problem: where its row starts, and its problem's first row."""
    count, size = visits.shape[:2]
    tasks = np.arange(count * size)
    return tasks * size, tasks - tasks % size


def _visits(orders: Tensor, gram: Tensor) -> NDArray[np.int64]:
    """Visits ``[N, T, V]``, checked."""
    size = gram.shape[-1]
    if orders.dtype != torch.int64 or orders.shape[:-1] != gram.shape[:-1]:
        raise ValueError(
            "`orders` must be int64 of shape [..., T, V] for a Gramian of shape"
            f" {tuple(gram.shape)}, found {orders.dtype} {tuple(orders.shape)}."
        )
    count = math.prod(gram.shape[:-2])
    visits = orders.cpu().numpy().reshape(count, size, orders.shape[-1])
    if visits.size and not 0 <= visits.min() <= visits.max() < size:
        raise ValueError(f"`orders` must hold task indices from 0 to {size - 1}.")
    return visits
