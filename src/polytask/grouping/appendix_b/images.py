"""The image sets of STG-MTL, from a folder that the user has.

Shape legend: N images, H and W their height and width.
"""

from __future__ import annotations

import lzma
from pathlib import Path
from typing import ClassVar

import numpy as np

from polytask.grouping.appendix_b.data import BaseDataModule
from polytask.problems.splits import SPLIT_NAMES
from polytask.problems.splitting import stratified_split

__all__ = ["C10DataModule", "C100DataModule", "CelebADataModule"]

#: Names of the classes; images ``[N, 32, 32, 3]`` and classes of training and of test rows.
_Cifar = tuple[tuple[str, ...], tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]


def _read_images(root: Path, shard: str) -> np.ndarray:
    """Bytes ``[N, 32, 32, 3]`` of a shard."""
    plain = root / f"{shard}.npy"
    if plain.exists():
        images: np.ndarray = np.load(plain, allow_pickle=False)
        return images
    with lzma.open(f"{plain}.xz") as handle:
        return _unpredict(np.load(handle, allow_pickle=False))


def _unpredict(residuals: np.ndarray) -> np.ndarray:
    """Images ``[N, H, W, 3]`` from the residuals ``[3, N, H, W]`` of planes G, R - G, B - G."""
    left_to_add = residuals.transpose(2, 3, 0, 1).astype(np.int16)
    planes = np.zeros_like(left_to_add)
    zero = planes[0, 0].copy()
    for i, j in np.ndindex(*planes.shape[:2]):
        left = planes[i, j - 1] if j else planes[i - 1, 0] if i else zero
        upper = planes[i - 1, j] if i else left
        corner = planes[i - 1, j - 1] if i and j else left if j == 0 else upper
        guess = np.clip(left + upper - corner, np.minimum(left, upper), np.maximum(left, upper))
        planes[i, j] = (left_to_add[i, j] + guess) & 255
    green, red, blue = planes[:, :, 0], planes[:, :, 1], planes[:, :, 2]
    colours = np.stack([red + green, green, blue + green], axis=-1) & 255
    return np.ascontiguousarray(colours.transpose(2, 0, 1, 3)).astype(np.uint8)


class C100DataModule(BaseDataModule):
    """CIFAR-100 as 100 tasks "is it of this class?".

    ``data_root`` holds the official binary version (``train.bin``, ``test.bin``,
    ``fine_label_names.txt``), or shards: ``labels.npz`` with ``fine_names`` and, per shard,
    ``<shard>_fine``, and the images of the shards ``train_*`` and ``test_*`` as ``<shard>.npy``
    (bytes ``[N, 32, 32, 3]``) or ``<shard>.npy.xz`` (losslessly predicted: planes G, R - G and
    B - G modulo 256, each less the median of left, upper and left + upper - upper left).

    The test images stay test images; of ``train_val_test_split`` the first two shares are used.
    """

    _names: ClassVar[tuple[str, str]] = ("fine_names", "fine_label_names.txt")
    _shard_labels: ClassVar[str] = "{}_fine"
    _binaries: ClassVar[tuple[tuple[str, ...], ...]] = (("train.bin",), ("test.bin",))
    _label_bytes: ClassVar[int] = 2

    def _initialize(self) -> None:
        root = self._data_root
        read = self._read_shards if (root / "labels.npz").exists() else self._read_binaries
        names, (train, train_class), (test, test_class) = read()
        share = np.array([*self._train_val_test_split[:2], 0.0])
        inner = stratified_split(train_class[:, None], tuple(share / share.sum()), 0)
        rows = {
            "train": inner["train"],
            "validation": inner["validation"],
            "test": len(train) + np.arange(len(test)),
        }
        images = np.concatenate([train, test]).transpose(0, 3, 1, 2)
        labels = np.eye(len(names), dtype=np.float32)[np.concatenate([train_class, test_class])]
        self._use_arrays(np.ascontiguousarray(images), labels, names, rows)

    def _read_shards(self) -> _Cifar:
        root = self._data_root
        with np.load(root / "labels.npz", allow_pickle=False) as arrays:
            known = {key: arrays[key] for key in arrays.files}
        parts = []
        for part in ("train", "test"):
            shards = sorted({p.name.split(".")[0] for p in root.glob(f"{part}*.npy*")})
            if not shards:
                raise ValueError(f"There is no {part}*.npy or {part}*.npy.xz in {root}.")
            images = [_read_images(root, shard) for shard in shards]
            labels = [known[self._shard_labels.format(shard)] for shard in shards]
            parts.append((np.concatenate(images), np.concatenate(labels).astype(np.int64)))
        return tuple(known[self._names[0]].tolist()), parts[0], parts[1]

    def _read_binaries(self) -> _Cifar:
        root, parts = self._data_root, []
        for files in self._binaries:
            if not all((root / file).exists() for file in files):
                raise ValueError(
                    f"{root} holds neither labels.npz nor {', '.join(files)}; give the folder of"
                    " the binary version from https://www.cs.toronto.edu/~kriz/cifar.html."
                )
            raw = [np.fromfile(root / file, dtype=np.uint8) for file in files]
            rows = np.concatenate(raw).reshape(-1, self._label_bytes + 3072)
            images = rows[:, self._label_bytes :].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
            parts.append((images, rows[:, self._label_bytes - 1].astype(np.int64)))
        names = (root / self._names[1]).read_text(encoding="utf-8").split()
        return tuple(names), parts[0], parts[1]


class C10DataModule(C100DataModule):
    """CIFAR-10 as ten tasks "is it of this class?".

    As ``C100DataModule``, with the official files ``data_batch_1.bin`` to ``data_batch_5.bin``,
    ``test_batch.bin`` and ``batches.meta.txt``; in ``labels.npz`` the keys are ``names`` and the
    shards' own names.
    """

    _names = ("names", "batches.meta.txt")
    _shard_labels = "{}"
    _binaries = (tuple(f"data_batch_{k}.bin" for k in range(1, 6)), ("test_batch.bin",))
    _label_bytes = 1


class CelebADataModule(BaseDataModule):
    """CelebA's attributes as yes/no tasks.

    ``data_root`` holds the official ``list_attr_celeba.txt`` and ``list_eval_partition.txt``, and
    ``images.npy``: bytes ``[N, H, W, 3]``, the first N images in the order of the list, in whatever
    size you want them (all three splits must be among them). Without ``list_eval_partition.txt``
    the split is drawn.
    """

    def _initialize(self) -> None:
        images = np.load(self._data_root / "images.npy", mmap_mode="r", allow_pickle=False)
        lines = (self._data_root / "list_attr_celeba.txt").read_text(encoding="utf-8").splitlines()
        labels = np.array([line.split()[1:] for line in lines[2 : 2 + len(images)]], dtype=np.int64)
        if len(labels) != len(images):
            raise ValueError(
                f"images.npy holds {len(images)} images but list_attr_celeba.txt only"
                f" {len(labels)} rows."
            )
        rows, partition = None, self._data_root / "list_eval_partition.txt"
        if partition.exists():
            words = partition.read_text(encoding="utf-8").split()[1 : 2 * len(images) : 2]
            rows = {p: np.flatnonzero(np.array(words) == str(k)) for k, p in enumerate(SPLIT_NAMES)}
        pixels = np.ascontiguousarray(images.transpose(0, 3, 1, 2))
        self._use_arrays(pixels, (labels > 0).astype(np.int64), lines[1].split(), rows)
