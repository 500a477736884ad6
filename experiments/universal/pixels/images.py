"""Images as rows of pixels, each pixel a variable that may be given or not."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from polytask.datasets.imputation import imputation
from polytask.problems import Problem
from polytask.tasks import Regression, Task

VALIDATION, TEST = 0.2, 0.2


def brightness_loss(output: Tensor, target: Tensor) -> Tensor:
    """Binary cross-entropy of a brightness in 0 .. 1 whose log-odds are the output ``[..., 1]``."""
    return functional.binary_cross_entropy_with_logits(
        output.squeeze(-1), target.to(output.dtype), reduction="none"
    )


def brightness(output: Tensor) -> Tensor:
    """The brightness that an output means."""
    return torch.sigmoid(output.squeeze(-1))


def pixels(name: str, *, folder: Path, images: int) -> Problem:
    """Images whose V pixels are V tasks.

    Args:
        name: "digits" (8 x 8, scikit-learn's), "cifar" (32 x 32, grey) or "small cifar" (the same,
            each pixel the mean of 4 x 4).
        folder: With ``cifar10`` and ``verify.py``.
        images: The first so many (of CIFAR: of its training part); 0 means all.
    """
    rows = _digits() if name == "digits" else _cifar(folder, images)
    if name == "small cifar":
        rows = rows.reshape(-1, 8, 4, 8, 4).mean((2, 4)).reshape(-1, 64)
    rows = rows[: images or None]
    order = np.random.default_rng(0).permutation(len(rows))
    first, second = (round(share * len(rows)) for share in (1 - VALIDATION - TEST, 1 - TEST))
    parts = dict(
        zip(("train", "validation", "test"), np.split(order, [first, second]), strict=True)
    )
    side = round(rows.shape[1] ** 0.5)
    tasks = [
        Task(f"{k // side}, {k % side}", Regression(), loss=brightness_loss, prediction=brightness)
        for k in range(rows.shape[1])
    ]
    values = {part: torch.from_numpy(rows[index]).float() for part, index in parts.items()}
    return imputation(values, tasks, name=f"pixels of {name}")


def grid(count: int) -> Tensor:
    """Places ``[V, 2]`` of the pixels, within -1 .. 1."""
    side = round(count**0.5)
    axis = torch.linspace(-1, 1, side)
    return torch.stack(torch.meshgrid(axis, axis, indexing="ij"), dim=-1).reshape(-1, 2)


def _digits() -> np.ndarray:
    """``[1797, 64]``; intensities 0 .. 16 are spread over their intervals, since some pixels of
    the margin are the same in all images and would be no variables at all.
    """
    from sklearn.datasets import load_digits

    data = load_digits().data
    rows: np.ndarray = (data + np.random.default_rng(1).random(data.shape)) / 17
    return rows


def _cifar(folder: Path, images: int) -> np.ndarray:
    """Grey values ``[N, 1024]``, the mean of the three colours."""
    spec = importlib.util.spec_from_file_location("verify", folder / "verify.py")
    if spec is None or spec.loader is None:
        raise ValueError(f"{folder} has no verify.py, which unpacks its images.")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found, total = [], 0
    for shard in sorted((folder / "cifar10").glob("train_?.npy.xz")):
        if not images or total < images:
            found.append(module.unpack_images(str(shard)))
            total += len(found[-1])
    if total < max(images, 1):
        raise ValueError(f"{folder / 'cifar10'} has {total} training images, {images} are needed.")
    grey: np.ndarray = np.concatenate(found).mean(3, dtype=np.float32) / np.float32(255)
    return grey.reshape(len(grey), -1)
