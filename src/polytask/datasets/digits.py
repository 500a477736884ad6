"""scikit-learn's handwritten digits as several tasks: 1,797 grey images of 8 x 8 pixels."""

from __future__ import annotations

import numpy as np
import torch

from polytask.problems.problem import Problem
from polytask.problems.splits import SPLIT_NAMES, Split
from polytask.problems.splitting import stratified_split
from polytask.tables.targets import weigh_classes
from polytask.tasks import Binary, Kind, Multiclass, Task

__all__ = ["digits", "digits13"]

FRACTIONS = (0.6, 0.2, 0.2)


def digits13(*, seed: int = 0, flip_seed: int = 67, random_seed: int = 61) -> Problem:
    """Handwritten digits as 13 yes/no tasks: ten one-vs-rest, odd, upside-down, random labels.

    Half of the images, drawn at random, are turned upside down (rows of pixels in reverse order),
    which is a task of its own; the random labels cannot be learned and show what a useless
    companion does to the others. The ten one-vs-rest tasks have one positive in ten, and so a
    positive weight of about 9 in their loss.

    Args:
        seed: Of the split (60 % training, 20 % validation, 20 % test), stratified by all tasks.
        flip_seed: Of the images that are flipped; 67 as in the authors' code.
        random_seed: Of the random labels; 61 as in the authors' code.

    References:
        Sherif, Abid, Elattar, ElHelw. STG-MTL: scalable task grouping for multi-task learning using
        data maps. 2023, https://arxiv.org/abs/2307.03374, the tasks of its group 2, here on smaller
        images.
    """
    images, label = _images()
    is_flipped = _half(len(images), flip_seed)
    images[is_flipped] = images[is_flipped, :, ::-1]
    targets = {f"digit {k}": label == k for k in range(10)}
    targets["odd"] = label % 2 == 1
    targets["upside-down"] = is_flipped
    targets["random"] = _half(len(images), random_seed)
    tasks = [Task(name, Binary(("no", "yes"))) for name in targets]
    codes = np.stack([values.astype(np.int64) for values in targets.values()], axis=1)
    return _problem("digits13", images, tasks, codes, seed)


def digits(*, seed: int = 0) -> Problem:
    """Handwritten digits as three views of one label: which digit, odd, at least five.

    Args:
        seed: Of the split (60 % training, 20 % validation, 20 % test), stratified by all tasks.
    """
    images, label = _images()
    kinds: dict[str, Kind] = {
        "digit": Multiclass(10),
        "odd": Binary(("no", "yes")),
        "at least five": Binary(("no", "yes")),
    }
    codes = np.stack([label, label % 2, (label >= 5).astype(np.int64)], axis=1)
    return _problem(
        "digits", images, [Task(name, kind) for name, kind in kinds.items()], codes, seed
    )


def _images() -> tuple[np.ndarray, np.ndarray]:
    """Images ``[N, 1, 8, 8]`` in 0 .. 1 and digits ``[N]``."""
    from sklearn.datasets import load_digits

    loaded = load_digits()
    return (loaded.images / 16).astype(np.float32)[:, None], loaded.target.astype(np.int64)


def _half(count: int, seed: int) -> np.ndarray:
    """A mask of half of the rows."""
    mask = np.zeros(count, dtype=bool)
    mask[np.random.default_rng(seed).permutation(count)[: count // 2]] = True
    return mask


def _problem(
    name: str, images: np.ndarray, tasks: list[Task], codes: np.ndarray, seed: int
) -> Problem:
    rows = stratified_split(codes, FRACTIONS, seed)
    weighed = [weigh_classes(task, codes[rows["train"], t]) for t, task in enumerate(tasks)]
    ready = [task for task, _ in weighed]
    inputs, targets = torch.from_numpy(images), torch.from_numpy(codes)
    parts = {}
    for part in SPLIT_NAMES:
        index = torch.from_numpy(rows[part])
        parts[part] = Split(
            inputs[index], {t.name: targets[index, i] for i, t in enumerate(ready)}, ready
        )
    return Problem(
        name=name,
        train=parts["train"],
        validation=parts["validation"],
        test=parts["test"],
        notes=[note for _, note in weighed if note],
    )
