"""Small problems that the training tests share."""

from __future__ import annotations

import numpy as np
import torch

from polytask.architectures import HardSharing
from polytask.encoders import MLP
from polytask.problems import Problem
from polytask.tasks import Binary, Multiclass, Regression


def mixed_problem(rows: int = 240, missing: float = 0.0, seed: int = 0) -> Problem:
    """Two regressions, one binary and one three-class task on five numbers; labels may be
    missing.
    """
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows, 5)).astype(np.float32)
    targets = {
        "linear": 100 + 20 * x[:, 0] + 5 * x[:, 1],
        "bent": np.abs(x[:, 0]) - x[:, 2],
        "sign": np.where(x[:, 0] + x[:, 3] > 0, "yes", "no").astype(object),
        "third": np.digitize(x[:, 1], [-0.5, 0.5]),
    }
    hidden = rng.random((rows, 4)) < missing
    targets["linear"][hidden[:, 0]] = np.nan
    targets["bent"][hidden[:, 1]] = np.nan
    targets["sign"][hidden[:, 2]] = None
    targets["third"][hidden[:, 3]] = -1
    kinds = {
        "linear": Regression(),
        "bent": Regression(),
        "sign": Binary(labels=("no", "yes")),
        "third": Multiclass(num_classes=3),
    }
    return Problem.from_arrays(x, targets, kinds, seed=seed)


def small_model(problem: Problem, seed: int = 0, dropout: float = 0.0) -> HardSharing:
    torch.manual_seed(seed)
    encoder = MLP(input_size=5, widths=(16, 16), dropout=dropout)
    return HardSharing(encoder=encoder, tasks=problem.tasks)
