"""What a data map is: mean and deviation of a confidence per task, epoch and example.

Shape legend: T tasks, N training rows, E recorded epochs.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from polytask.files import write_atomically
from polytask.grouping.grouping import GroupingCost
from polytask.grouping.moments import Deviation

__all__ = ["DTYPES", "FILE", "DataMap", "empty_values"]

#: Snapshots on disk.
FILE = "data_map.npy"
#: By name, for files.
DTYPES = {"float16": torch.float16, "float32": torch.float32, "float64": torch.float64}


@dataclass(frozen=True, eq=False)
class DataMap:
    """Mean and deviation, over the epochs so far, of the confidence in each example's truth.

    Args:
        tasks: Names, in order.
        values: ``[T, E, N, 2]``: mean, deviation; float16, float32 or float64, possibly on disk.
            NaN where an example has no label, was never seen, or has no sample deviation yet.
        epochs: After which epochs, ascending.
        deviation: "population" or "sample".
        cost: What recording took.
        notes: Sentences that a reader should see.

    Raises:
        ValueError: Shapes that do not fit.
    """

    tasks: tuple[str, ...]
    values: Tensor
    epochs: tuple[int, ...]
    deviation: Deviation = "population"
    cost: GroupingCost = field(default_factory=GroupingCost)
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        expected = (len(self.tasks), len(self.epochs), *self.values.shape[2:3], 2)
        if tuple(self.values.shape) != expected or self.values.dim() != 4:
            raise ValueError(
                f"`values` must be [{len(self.tasks)} tasks, {len(self.epochs)} epochs, examples,"
                f" 2], found shape {tuple(self.values.shape)}."
            )
        if self.values.dtype not in DTYPES.values():
            raise ValueError(f"`values` must be one of {list(DTYPES)}, found {self.values.dtype}.")

    @property
    def num_examples(self) -> int:
        """The number of training rows N."""
        return self.values.shape[2]

    def vectors(self) -> Tensor:
        """A point per task ``[T, E N 2]`` for clustering; a view where the values are
        contiguous.
        """
        return self.values.flatten(1)

    def points(self, task: str, epoch: int | None = None) -> np.ndarray:
        """Mean and deviation of every example ``[N, 2]``, float32; NaN where there are none.

        Args:
            task: Its name.
            epoch: Which snapshot; None means the last.

        Raises:
            ValueError: An unknown task or epoch.
        """
        if task not in self.tasks:
            raise ValueError(f"No task {task!r} in the data map; it has {list(self.tasks)}.")
        if epoch is not None and epoch not in self.epochs:
            raise ValueError(f"No epoch {epoch} in the data map; it has {self.epochs}.")
        place = -1 if epoch is None else self.epochs.index(epoch)
        found: np.ndarray = self.values[self.tasks.index(task), place].float().numpy()
        return found

    def select(self, tasks: Sequence[str]) -> DataMap:
        """The map of some tasks, in the given order."""
        for name in tasks:
            if name not in self.tasks:
                raise ValueError(f"No task {name!r} in the data map; it has {list(self.tasks)}.")
        index = torch.tensor([self.tasks.index(name) for name in tasks], dtype=torch.int64)
        values = self.values.index_select(0, index)
        return dataclasses.replace(self, tasks=tuple(tasks), values=values)

    def save(self, path: Path | str) -> None:
        """Write one safetensors file, with everything but the values as JSON in its header;
        atomically.
        """
        record = {
            "tasks": self.tasks,
            "epochs": self.epochs,
            "deviation": self.deviation,
            "cost": asdict(self.cost),
            "notes": self.notes,
        }
        header = {"data_map": json.dumps(record, ensure_ascii=False)}
        tensors = {"values": self.values.contiguous()}
        write_atomically(Path(path), lambda place: save_file(tensors, place, metadata=header))

    @classmethod
    def load(cls, path: Path | str) -> DataMap:
        """Read what ``save`` wrote; the values stay on disk until they are used.

        Raises:
            ValueError: The file is torn, or no data map.
        """
        try:
            with safe_open(Path(path), framework="pt") as file:
                record = json.loads((file.metadata() or {})["data_map"])
                values = file.get_tensor("values")
            return cls(
                tuple(record["tasks"]),
                values,
                tuple(record["epochs"]),
                record["deviation"],
                GroupingCost(**record["cost"]),
                tuple(record["notes"]),
            )
        except (SafetensorError, json.JSONDecodeError, KeyError, TypeError) as error:
            raise ValueError(
                f"{path} is torn or no data map that Polytask has saved ({error}); record it again."
            ) from error

    def __repr__(self) -> str:
        return (
            f"DataMap({len(self.tasks)} tasks, {self.num_examples} examples, after epochs "
            f"{self.epochs}, {self.deviation} deviation)"
        )


def empty_values(
    shape: tuple[int, ...], dtype: torch.dtype, folder: Path | None, *, new: bool = True
) -> Tensor:
    """Space for a map, in memory or in ``data_map.npy``; with ``new=False`` the file is there."""
    if folder is None or 0 in shape:
        return torch.full(shape, torch.nan, dtype=dtype)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / FILE
    name = next(name for name, known in DTYPES.items() if known == dtype)
    if new:
        # An earlier map that is still in use keeps the file that it has.
        path.unlink(missing_ok=True)
        return torch.from_numpy(
            np.lib.format.open_memmap(path, mode="w+", dtype=np.dtype(name), shape=shape)
        )
    if not path.exists():
        raise ValueError(f"{path} of the interrupted training is gone; start afresh.")
    mapped = np.lib.format.open_memmap(path, mode="r+")
    if mapped.shape != shape or mapped.dtype != np.dtype(name):
        raise ValueError(
            f"{path} is {mapped.shape} of {mapped.dtype}, the training needs {shape} of {name};"
            " resume with the same recorder."
        )
    return torch.from_numpy(mapped)
