"""Running mean and deviation of rows that come batch by batch (Welford's update).

Shape legend: N rows, T columns, B batch.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

__all__ = ["Deviation", "RunningMoments"]

Deviation = Literal["population", "sample"]


class RunningMoments:
    """Mean m and sum of squared deviations s of every row's values, updated one value at a time.

    n <- n + 1;  d = x - m;  m <- m + d / n;  s <- s + d (d - d / n)

    A row is seen with all its columns or not at all, so one count per row is enough.

    Args:
        num_rows: N.
        num_columns: T.
        dtype: Of the moments; float16 would lose every update below 1/2048 of the mean.
        device: Where they live.
        folder: Keep them in a nameless file there instead of in memory (then on the CPU); it is
            gone with the object.

    Cost: two gathers and two scatters of ``[B, T]`` per batch; 2 T N + N numbers.
    """

    def __init__(
        self,
        num_rows: int,
        num_columns: int,
        *,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
        folder: Path | None = None,
    ) -> None:
        shape = (num_rows, num_columns)
        self.seen = torch.zeros(num_rows, dtype=dtype, device="cpu" if folder else device)
        if folder is None:
            self.mean = torch.zeros(shape, dtype=dtype, device=device)
            self.squares = torch.zeros_like(self.mean)
        else:
            with tempfile.TemporaryFile(dir=folder) as file:
                numbers = np.float64 if dtype == torch.float64 else np.float32
                # The mapping keeps the file alive after it is closed.
                mapped = np.memmap(file, dtype=numbers, mode="w+", shape=(2, *shape))
            self.mean, self.squares = torch.from_numpy(mapped).unbind()

    def add(self, rows: Tensor, values: Tensor) -> None:
        """One more value ``[B, T]`` for each of these rows ``[B]``; a row that is named several
        times has its values added one after the other.
        """
        count = self.seen.index_select(0, rows) + 1
        self.seen.index_add_(0, rows, torch.ones_like(count))
        if not torch.equal(self.seen.index_select(0, rows), count):
            self.seen.index_copy_(0, rows, count - 1)
            self._add_in_turns(rows, values)
            return
        delta = values - self.mean.index_select(0, rows)
        step = delta / count[:, None]
        self.mean.index_add_(0, rows, step)
        self.squares.index_add_(0, rows, torch.sub(delta, step).mul_(delta))

    def _add_in_turns(self, rows: Tensor, values: Tensor) -> None:
        """Each row's first value, then what is left."""
        ordered, order = rows.sort(stable=True)
        first = torch.ones_like(ordered, dtype=torch.bool)
        first[1:] = ordered[1:] != ordered[:-1]
        self.add(ordered[first], values[order[first]])
        self.add(ordered[~first], values[order[~first]])

    def read(self, rows: slice, deviation: Deviation) -> tuple[Tensor, Tensor]:
        """Mean and deviation ``[n, T]`` of some rows; NaN for a row that was never seen."""
        seen = self.seen[rows, None]
        divisor = seen if deviation == "population" else seen - 1
        mean = self.mean[rows] + torch.where(seen > 0, 0, torch.nan)
        variance = self.squares[rows] / torch.where(divisor > 0, divisor, torch.nan)
        return mean, variance.sqrt_()

    def state_dict(self) -> dict[str, Tensor]:
        """Count, mean and squares."""
        return {"seen": self.seen, "mean": self.mean, "squares": self.squares}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Continue from ``state_dict``.

        Raises:
            ValueError: It is of another number of rows or columns.
        """
        if state["mean"].shape != self.mean.shape:
            raise ValueError(
                f"The saved moments are of {tuple(state['mean'].shape)} rows and columns, the "
                f"training is of {tuple(self.mean.shape)}; resume with the same problem."
            )
        for name, tensor in self.state_dict().items():
            tensor.copy_(state[name])
