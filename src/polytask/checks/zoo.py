"""Inputs that balancers and solvers have to survive: task gradients and losses of awkward sorts.

Shape legend: T tasks, P shared parameters.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["NUM_PARAMETERS", "TASK_COUNTS", "conflicting", "jacobians", "losses", "regular"]

NUM_PARAMETERS = 12
TASK_COUNTS = (1, 2, 3, 9)


def regular(tasks: int, *, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    """Task gradients ``[T, P]`` in general position, of similar lengths."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(tasks, NUM_PARAMETERS, generator=generator, dtype=torch.float64).to(dtype)


def conflicting(tasks: int, ratio: float, *, seed: int = 0) -> Tensor:
    """Task gradients ``[T, P]`` that disagree, the last shorter than the first by ``ratio``."""
    rows = regular(tasks, seed=seed)
    common = regular(1, seed=seed + 1)
    # Subtracting the mean makes all pairs disagree; a little of a common direction keeps the
    # point from being stationary.
    rows = rows - rows.mean(0) + 0.3 * common if tasks > 1 else rows
    return rows * torch.logspace(0, torch.tensor(ratio).log10().item(), tasks).unsqueeze(-1)


def jacobians(tasks: int) -> dict[str, Tensor]:
    """Task gradients ``[T, P]`` by name, float64."""
    rows = regular(tasks)
    zoo = {
        "regular": rows,
        "orthogonal": torch.eye(tasks, NUM_PARAMETERS, dtype=torch.float64),
        "rank one": rows[:1] * torch.linspace(1, 2, tasks, dtype=torch.float64).unsqueeze(-1),
        "tiny": rows * 1e-12,
        "huge": rows * 1e12,
        "mixed scales": rows * torch.logspace(-6, 6, tasks, dtype=torch.float64).unsqueeze(-1),
        "all zero": torch.zeros_like(rows),
    }
    if tasks > 1:
        duplicated, opposite, zero = rows.clone(), rows.clone(), rows.clone()
        duplicated[1], opposite[1], zero[0] = rows[0], -0.5 * rows[0], 0
        dependent = rows.clone()
        dependent[-1] = rows[:-1].sum(0)
        stationary = rows.clone()
        stationary[-1] = -(torch.arange(1, tasks, dtype=torch.float64) @ rows[:-1])
        zoo |= {
            "duplicated": duplicated,
            "opposite": opposite,
            "zero row": zero,
            "dependent": dependent,
            "stationary": stationary,
        }
    return zoo


def losses(tasks: int) -> dict[str, Tensor]:
    """Losses ``[T]`` by name, float64."""
    plain = torch.linspace(0.5, 2.0, tasks, dtype=torch.float64)
    zero = plain.clone()
    zero[0] = 0
    return {
        "plain": plain,
        "equal": torch.ones_like(plain),
        "tiny": plain * 1e-12,
        "huge": plain * 1e12,
        "mixed": plain * torch.logspace(-6, 6, tasks, dtype=torch.float64),
        "one zero": zero,
    }
