"""Task gradients of every awkward sort, for property tests of solvers."""

from __future__ import annotations

import torch
from torch import Tensor

SCALES = [1e-12, 1e-6, 1.0, 1e6, 1e12]


def gaussian(num_tasks: int, size: int, seed: int = 0, spread: float = 1.0) -> Tensor:
    """Random rows ``[T, P]`` whose lengths run from 1 to ``spread``."""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.logspace(0, 1, num_tasks, base=spread, dtype=torch.float64)
    rows = torch.randn(num_tasks, size, dtype=torch.float64, generator=generator)
    return rows * lengths[:, None]


def zoo() -> dict[str, Tensor]:
    base = gaussian(3, 6, seed=1)
    zero_row = base.clone()
    zero_row[1] = 0
    conflict = gaussian(5, 12, seed=2)
    conflict = conflict - 0.95 * conflict.mean(dim=0)
    return {
        "one task": base[:1],
        "two tasks": base[:2],
        "nine tasks": gaussian(9, 20, seed=3),
        "zero row": zero_row,
        "only zeros": torch.zeros_like(base),
        "identical": base[:1].repeat(3, 1),
        "opposite": torch.stack([base[0], -2 * base[0]]),
        "duplicated task": torch.cat([base, base[:1]]),
        "rank two": gaussian(5, 2, seed=4),
        "more tasks than parameters": gaussian(9, 3, seed=5),
        "conflict": conflict,
        "lengths from 1 to 1e-6": gaussian(4, 10, seed=6, spread=1e-6),
        "orthogonal": torch.diag(torch.tensor([1.0, 2.0, 4.0], dtype=torch.float64)),
    }
