"""Data modules of appendix B: three data sets and the tasks on them.

Shape legend: T tasks, N rows, B batch.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from polytask.problems.splits import SPLIT_NAMES
from polytask.problems.splitting import stratified_split

__all__ = ["ArrayDataset", "BaseDataModule", "BaseDataset"]

#: Rows per batch when a split is read.
READ_ROWS = 1024


class BaseDataset(Dataset[tuple[int, Tensor, Tensor]], ABC):
    """Examples that know their own number, so that a data map has a place for each.

    Args:
        data: Whatever ``__getitem__`` reads.
        task_ids: The tasks whose labels it gives.
    """

    def __init__(self, data: Any, task_ids: Sequence[int]) -> None:
        self._data = data
        self._task_ids = tuple(task_ids)

    def __len__(self) -> int:
        return len(self._data)

    @abstractmethod
    def __getitem__(self, index: int) -> tuple[int, Tensor, Tensor]:
        """The index, the input, and the labels ``[T]``."""


class ArrayDataset(BaseDataset):
    """Examples from arrays.

    Args:
        data: Inputs ``[N, ...]``.
        task_ids: Columns of ``labels``.
        labels: ``[N, all tasks]``.
    """

    def __init__(self, data: Tensor, task_ids: Sequence[int], labels: Tensor) -> None:
        super().__init__(data, task_ids)
        self._labels = labels[:, list(self._task_ids)]

    def __getitem__(self, index: int) -> tuple[int, Tensor, Tensor]:
        return index, self._data[index], self._labels[index]


class BaseDataModule(ABC):
    """Three data sets and the tasks on them.

    A subclass fills in ``_initialize``, which sets ``_task_names`` (of all tasks) and the data sets
    ``_data_train``, ``_data_val`` and ``_data_test``; from arrays, ``_use_arrays`` does all that.

    Args:
        data_root: Where the data lies.
        task_ids: The tasks to use, by their position; None for all.
        train_val_test_split: Shares of the rows, for ``_use_arrays``; the split is drawn with a
            fixed seed and stratified by all tasks.
    """

    def __init__(
        self,
        data_root: Path | str | None = None,
        task_ids: Sequence[int] | None = None,
        train_val_test_split: Sequence[float] = (0.7, 0.1, 0.2),
    ) -> None:
        self._data_root = Path(data_root or ".")
        self._task_ids: tuple[int, ...] | None = None if task_ids is None else tuple(task_ids)
        self._train_val_test_split = tuple(train_val_test_split)
        self._task_names: Sequence[str] = ()
        self._data_train: BaseDataset | None = None
        self._data_val: BaseDataset | None = None
        self._data_test: BaseDataset | None = None
        self._tensors: dict[str, tuple[Tensor, Tensor]] = {}
        self._initialize()

    @abstractmethod
    def _initialize(self) -> None:
        """Read the data and set the names of the tasks and the three data sets."""

    def get_task_ids(self) -> tuple[int, ...]:
        """Positions of the chosen tasks among all."""
        count = len(self._task_names)
        ids = tuple(range(count)) if self._task_ids is None else self._task_ids
        if not ids or any(not 0 <= k < count for k in ids):
            raise ValueError(
                f"`task_ids` must be positions below {count} (the tasks), found {ids}."
            )
        return ids

    def get_task_names(self) -> tuple[str, ...]:
        """Names of the chosen tasks."""
        return tuple(self._task_names[k] for k in self.get_task_ids())

    def get_train_dataloader(
        self, batch_size: int, shuffle: bool = True
    ) -> DataLoader[tuple[int, Tensor, Tensor]]:
        """Batches of index, inputs and labels ``[B, T]`` of the training rows."""
        return self._loader(self._data_train, batch_size, shuffle)

    def get_val_dataloader(
        self, batch_size: int, shuffle: bool = False
    ) -> DataLoader[tuple[int, Tensor, Tensor]]:
        """The same of the validation rows."""
        return self._loader(self._data_val, batch_size, shuffle)

    def get_test_dataloader(
        self, batch_size: int, shuffle: bool = False
    ) -> DataLoader[tuple[int, Tensor, Tensor]]:
        """The same of the test rows."""
        return self._loader(self._data_test, batch_size, shuffle)

    def get_imbalance_weights(self) -> tuple[float, ...]:
        """Training rows without each label per row with it: the ``pos_weights`` of a model."""
        labels = self.tensors()["train"][1]
        positive = labels.sum(0)
        return tuple(((len(labels) - positive) / positive.clamp_min(1)).tolist())

    def tensors(self) -> dict[str, tuple[Tensor, Tensor]]:
        """Inputs ``[N, ...]`` and labels ``[N, T]`` of "train", "validation" and "test", in the
        order of their indices; read from the loaders at the first call.

        Raises:
            ValueError: A loader does not give every index once, or labels that are not one per
                task.
        """
        if not self._tensors:
            loaders = (self.get_train_dataloader, self.get_val_dataloader, self.get_test_dataloader)
            for part, loader in zip(SPLIT_NAMES, loaders, strict=True):
                self._tensors[part] = _read(loader(READ_ROWS), part, len(self.get_task_ids()))
        return self._tensors

    def _use_arrays(
        self,
        inputs: np.ndarray,
        labels: np.ndarray,
        task_names: Sequence[str],
        rows: Mapping[str, np.ndarray] | None = None,
    ) -> None:
        """Set everything from inputs ``[N, ...]`` and labels ``[N, all tasks]``.

        Args:
            inputs: Numbers; bytes stay bytes.
            labels: Classes, counted from 0.
            task_names: Of all tasks.
            rows: Row numbers of "train", "validation" and "test"; None draws them.
        """
        self._task_names = tuple(task_names)
        ids = list(self.get_task_ids())
        if rows is None:
            rows = stratified_split(labels[:, ids], self._train_val_test_split, 0)
        images = torch.from_numpy(inputs)
        images = images.float() if images.dtype == torch.float64 else images
        known = torch.from_numpy(np.asarray(labels, dtype=np.float32))
        self._data_train, self._data_val, self._data_test = (
            ArrayDataset(images[rows[part]], ids, known[rows[part]]) for part in SPLIT_NAMES
        )

    def _loader(
        self, dataset: BaseDataset | None, batch_size: int, shuffle: bool
    ) -> DataLoader[tuple[int, Tensor, Tensor]]:
        if dataset is None:
            raise ValueError(
                f"{type(self).__name__}._initialize must set `_data_train`, `_data_val` and"
                " `_data_test`."
            )
        return DataLoader(dataset, batch_size=batch_size, shuffle=shuffle)


def _read(
    loader: DataLoader[tuple[int, Tensor, Tensor]], part: str, num_tasks: int
) -> tuple[Tensor, Tensor]:
    """Inputs and labels of a loader in the order of the indices, whatever order they come in."""
    batches = list(loader)
    if not batches:
        raise ValueError(f"There are no {part} rows; give more data or other shares of the split.")
    index, inputs, labels = (
        torch.cat([torch.as_tensor(batch[k]) for batch in batches]) for k in range(3)
    )
    if not torch.equal(index.sort().values, torch.arange(len(index))):
        raise ValueError(
            f"The {part} loader must give every index from 0 once (without `drop_last`), found"
            f" {len(index)} rows with {len(index.unique())} indices from {int(index.min())} to"
            f" {int(index.max())}."
        )
    labels = labels.unsqueeze(1) if labels.dim() == 1 else labels
    if labels.shape[1:] != (num_tasks,):
        raise ValueError(
            f"The {part} labels must have one column for each of the {num_tasks} tasks, found shape"
            f" {list(labels.shape)}."
        )
    order = index.argsort()
    return inputs[order], labels[order].float()
