"""Omniglot: a task per alphabet, whose characters are told apart from drawings of ten people."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from polytask.problems.problem import Problem
from polytask.problems.splits import SPLIT_NAMES, SeparateSplit, Split
from polytask.tasks import Multiclass, Task

#: The images' side, the side of what is left of them, and people per character.
PIXELS, SIZE, DRAWERS = 105, 15, 20
#: People whose drawings are for training, for validation and for the test.
PEOPLE = {"train": 10, "validation": 4, "test": 6}


def alphabets(folder: Path, *, seed: int, limit: int | None = None) -> Problem:
    """The eight alphabets of the two small background sets as one problem.

    Every character was drawn once by each of twenty people; for every character the seed decides
    anew whose drawings are for training, validation and test.

    Args:
        folder: With ``omniglot_small``.
        seed: Of the splits.
        limit: Alphabets, from the first; None means all.
    """
    drawings = _drawings(folder)
    names = list(drawings)[:limit]
    generator = np.random.default_rng(seed)
    parts: dict[str, dict[str, Split]] = {part: {} for part in SPLIT_NAMES}
    for name in names:
        images = drawings[name]
        order = generator.permuted(np.tile(np.arange(DRAWERS), (len(images), 1)), axis=1)
        task = Task(name, Multiclass(len(images)))
        first = 0
        for part, people in PEOPLE.items():
            chosen = order[:, first : first + people]
            first += people
            rows = np.take_along_axis(images, chosen[:, :, None], axis=1)
            labels = np.repeat(np.arange(len(images)), people)
            inputs = torch.from_numpy(rows.reshape(-1, SIZE * SIZE))
            parts[part][name] = Split(inputs, {name: torch.from_numpy(labels)}, [task])
    return Problem(
        name=f"alphabets {seed}", **{part: SeparateSplit(found) for part, found in parts.items()}
    )


def _drawings(folder: Path) -> dict[str, np.ndarray]:
    """Share of ink ``[characters, people, SIZE * SIZE]``, standardised, of every alphabet."""
    found: dict[str, np.ndarray] = {}
    for path in sorted((folder / "omniglot_small").glob("*.npz")):
        with np.load(path, allow_pickle=False) as arrays:
            count = PIXELS * PIXELS
            ink = np.unpackbits(arrays["ink_bits"], axis=1)[:, :count].astype(np.float32)
            side = PIXELS // SIZE
            ink = ink.reshape(-1, SIZE, side, SIZE, side).mean((2, 4)).reshape(len(ink), -1)
            ink = (ink - ink.mean()) / ink.std()
            for number, name in enumerate(arrays["alphabets"].tolist()):
                # Greek and Latin are in both files.
                own = arrays["alphabet"] == number
                order = np.lexsort((arrays["drawer"][own], arrays["character"][own]))
                found.setdefault(name, ink[own][order].reshape(-1, DRAWERS, SIZE * SIZE))
    return dict(sorted(found.items()))
