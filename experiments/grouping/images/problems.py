"""CIFAR-10 and CIFAR-100 as yes/no tasks: the groups G1, G2 and G3 of STG-MTL."""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from sklearn.model_selection import train_test_split

from polytask.problems.problem import Problem
from polytask.problems.splits import Split
from polytask.tasks import Binary, Task

MACHINES = ("airplane", "automobile", "ship", "truck")
ANIMALS = ("bird", "cat", "deer", "dog", "frog", "horse")
#: The class labels that the paper calls odd.
ODD = ("automobile", "cat", "dog", "horse", "truck")
#: Seeds of the authors' code for the images turned upside down and the random labels.
FLIP_SEED, RANDOM_SEED = 67, 61
#: Share of the training images that choices are made on.
VALIDATION = 0.2


def tasks_of(
    name: str, *, folder: Path, size: int, rows: int, test_rows: int, seed: int
) -> Problem:
    """One of the paper's sets of tasks, with positive weights for one-vs-rest tasks.

    Args:
        name: "G1" (CIFAR-10, one-vs-rest), "G2" (and living, odd, upside-down, not living, random
            labels) or "G3" (CIFAR-100, one-vs-rest).
        folder: With ``cifar10`` and ``cifar100``.
        size: Pixels a side; images of 32 are averaged over squares.
        rows: Images for training and validation.
        test_rows: Images for the test.
        seed: Of the split into training and validation; the test images are the official ones.
    """
    kind = "cifar100" if name == "G3" else "cifar10"
    images, label, names = _load(kind, folder, rows, test_rows)
    images = _shrink(images, size)
    targets = {str(c): label == k for k, c in enumerate(names)}
    if name == "G2":
        flipped = _half(len(images), FLIP_SEED)
        images[flipped] = images[flipped, :, ::-1]
        word = names[label]
        targets |= {
            "living": np.isin(word, ANIMALS),
            "odd": np.isin(word, ODD),
            "upside-down": flipped,
            "not living": np.isin(word, MACHINES),
            "random": _half(len(images), RANDOM_SEED),
        }
    train, validation = train_test_split(
        np.arange(rows), test_size=VALIDATION, stratify=label[:rows], random_state=seed
    )
    parts = {"train": train, "validation": validation, "test": np.arange(rows, len(images))}
    return _problem(name, images, targets, parts)


def superclasses(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """CIFAR-100's superclass of every class ``[100]``, and the names of the 20 superclasses."""
    with np.load(folder / "cifar100" / "labels.npz", allow_pickle=False) as labels:
        return labels["fine_to_coarse"].astype(int), labels["coarse_names"]


def _problem(
    name: str,
    images: np.ndarray,
    targets: Mapping[str, np.ndarray],
    parts: Mapping[str, np.ndarray],
) -> Problem:
    ready = []
    for task, values in targets.items():
        share = float(values[parts["train"]].mean())
        # BCE with positive weights, as in the paper; even tasks need none.
        weights = None if share > 0.3 else (1.0, (1 - share) / share)
        ready.append(Task(task, Binary(("no", "yes")), class_weights=weights))
    centre = images[parts["train"]].mean((0, 2, 3), keepdims=True)
    scale = images[parts["train"]].std((0, 2, 3), keepdims=True)
    inputs = torch.from_numpy(np.ascontiguousarray((images - centre) / scale))
    codes = torch.from_numpy(np.stack(list(targets.values()), 1).astype(np.int64))
    splits = {
        part: Split(inputs[index], {t.name: codes[index, i] for i, t in enumerate(ready)}, ready)
        for part, index in ((p, torch.from_numpy(rows)) for p, rows in parts.items())
    }
    return Problem(
        name=name, train=splits["train"], validation=splits["validation"], test=splits["test"]
    )


@functools.lru_cache(maxsize=2)
def _load(
    kind: str, folder: Path, rows: int, test_rows: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Images ``[rows + test_rows, 32, 32, 3]``, class numbers, and the classes' names."""
    labels = np.load(folder / kind / "labels.npz", allow_pickle=False)
    suffix, names = ("_fine", labels["fine_names"]) if kind == "cifar100" else ("", labels["names"])
    found, classes = [], []
    for part, wanted in (("train", rows), ("test", test_rows)):
        images, codes = [], []
        for shard in sorted((folder / kind).glob(f"{part}_?.npy.xz")):
            if sum(map(len, images)) < wanted:
                images.append(_unpacker(folder)(str(shard)))
                codes.append(labels[shard.name.removesuffix(".npy.xz") + suffix])
        if sum(map(len, images)) < wanted:
            raise ValueError(
                f"{folder / kind} has {sum(map(len, images))} {part} images, {wanted} are needed."
            )
        found.append(np.concatenate(images)[:wanted])
        classes.append(np.concatenate(codes)[:wanted])
    return np.concatenate(found), np.concatenate(classes).astype(np.int64), names


@functools.cache
def _unpacker(folder: Path) -> Callable[[str], np.ndarray]:
    """The reader of image shards that lies beside the data."""
    spec = importlib.util.spec_from_file_location("verify", folder / "verify.py")
    if spec is None or spec.loader is None:
        raise ValueError(f"{folder} has no verify.py, which unpacks its images.")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    unpack: Callable[[str], np.ndarray] = functools.cache(module.unpack_images)
    return unpack


def _shrink(images: np.ndarray, size: int) -> np.ndarray:
    """``[N, 32, 32, 3]`` bytes to ``[N, 3, size, size]`` in 0 .. 1."""
    if 32 % size:
        raise ValueError(f"`size` must divide 32, found {size}.")
    k = 32 // size
    tiles = images.reshape(len(images), size, k, size, k, 3).mean((2, 4), dtype=np.float32)
    return np.ascontiguousarray(tiles.transpose(0, 3, 1, 2)) / np.float32(255)


def _half(count: int, seed: int) -> np.ndarray:
    mask = np.zeros(count, dtype=bool)
    mask[np.random.default_rng(seed).permutation(count)[: count // 2]] = True
    return mask
