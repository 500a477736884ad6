"""The UCI-121 collection: many classification tables of every shape, with published splits.

Fernandez-Delgado et al., "Do we need hundreds of classifiers to solve real world classification
problems?", JMLR 15 (2014) 3133-3181; splits of Klambauer et al., "Self-normalizing neural
networks", NeurIPS 2017, arXiv 1706.02515.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from polytask.problems.problem import Problem
from polytask.problems.splits import SPLIT_NAMES, SeparateSplit, Split
from polytask.tasks import Multiclass, Task

__all__ = ["uci121"]


def uci121(
    folder: Path | str,
    *,
    sets: Sequence[str] | None = None,
    split: int = 0,
    join_validation: bool = False,
) -> Problem:
    """The sets of a folder as one problem in the separate layout, a task per set.

    Every set is a file ``NAME.npz`` with ``X [N, F]`` (finite numbers), ``y [N]``
    (classes from 0) and ``test``, ``val [N, splits]`` (1 where a row belongs to that part of a
    split; the remaining rows are for training). Inputs are taken as they are: the published ones
    are standardised.

    A class that the training rows of a split lack cannot be learned from them. Such rows are kept
    where they are, since published accuracies count them as errors; a note says how many there
    are.

    Args:
        folder: Of the files.
        sets: Names; None means all of them, by name.
        split: Which of the published splits, from 0.
        join_validation: Train on the validation rows too (they stay the validation rows as well).

    Raises:
        ValueError: no files; a name without a file; a split that a set does not have; a set without
            features, with one class only, or whose arrays do not fit together.
    """
    place = Path(folder)
    found = {path.stem: path for path in sorted(place.glob("*.npz"))}
    if not found:
        raise ValueError(f"There are no files NAME.npz in {place}.")
    names = list(found) if sets is None else list(sets)
    absent = [name for name in names if name not in found]
    if absent:
        raise ValueError(f"There is no file {absent[0]}.npz in {place}.")
    parts: dict[str, dict[str, Split]] = {part: {} for part in SPLIT_NAMES}
    notes = []
    for name in names:
        with np.load(found[name]) as arrays:
            own, unseen = _read(name, arrays, split, join_validation)
        for part in SPLIT_NAMES:
            parts[part][name] = own[part]
        if unseen:
            notes.append(f"{name}: {unseen} row(s) of classes that no training row has")
    return Problem(
        name=f"uci121 split {split}",
        train=SeparateSplit(parts["train"]),
        validation=SeparateSplit(parts["validation"]),
        test=SeparateSplit(parts["test"]),
        notes=notes,
        check_classes=False,
    )


def _read(
    name: str, arrays: np.lib.npyio.NpzFile, split: int, join_validation: bool
) -> tuple[dict[str, Split], int]:
    missing = [key for key in ("X", "y", "test", "val") if key not in arrays.files]
    if missing:
        raise ValueError(f"Set {name!r} lacks the array {missing[0]!r}; it has {arrays.files}.")
    features, labels = arrays["X"], arrays["y"].astype(np.int64)
    test, validation = arrays["test"], arrays["val"]
    if features.ndim != 2 or features.shape[1] == 0:
        raise ValueError(
            f"Set {name!r} must have features [rows, columns], found shape {list(features.shape)}."
        )
    if not len(features) == len(labels) == len(test) == len(validation):
        raise ValueError(
            f"The arrays of set {name!r} must have one row each per example, found"
            f" {len(features)}, {len(labels)}, {len(test)} and {len(validation)}."
        )
    if not 0 <= split < test.shape[1]:
        raise ValueError(f"Set {name!r} has splits 0 .. {test.shape[1] - 1}, found {split}.")
    classes = int(labels.max()) + 1
    if classes < 2 or labels.min() < 0:
        raise ValueError(
            f"Set {name!r} needs classes 0, 1, ..., found {np.unique(labels).tolist()}."
        )
    tested, validated = test[:, split] == 1, validation[:, split] == 1
    trained = ~tested if join_validation else ~tested & ~validated
    task = Task(name, Multiclass(num_classes=classes))
    rows = {"train": trained, "validation": validated & ~tested, "test": tested}
    found = {
        part: Split(
            torch.from_numpy(features[chosen].astype(np.float32)),
            {name: torch.from_numpy(labels[chosen])},
            [task],
        )
        for part, chosen in rows.items()
    }
    unseen = ~np.isin(labels, labels[trained]) & ~trained
    return found, int(unseen.sum())
