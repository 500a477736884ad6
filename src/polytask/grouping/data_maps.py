"""Data maps: how sure a model was of each example's true class while it trained.

Shape legend: T tasks, N training rows, B batch, K tasks of one block, E recorded epochs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from polytask.problems.problem import Batch
from polytask.tasks import Binary, Multiclass, TaskTensors
from polytask.training.observers import Observer
from polytask.training.reports import EpochReport, StepReport

if TYPE_CHECKING:
    from polytask.training.trainer import Trainer

__all__ = ["DataMapRecorder"]


class DataMapRecorder(Observer):
    """Records mean and standard deviation over epochs of the true class's probability, per example.

    The probabilities are those of the training steps themselves (no second pass over the data), so
    the weights move while an epoch is recorded. Mean and sum of squared deviations are updated as
    the batches come (Welford); nothing grows with the number of epochs except the chosen snapshots.

    Args:
        epochs: Epochs after which a snapshot is taken; empty: only the map at the end.
        deviation: "population" divides by the number of epochs n as Swayamdipta et al. do, "sample"
            by n - 1 as the code of STG-MTL does (NaN after one epoch).

    Differences: the paper does not say which deviation it uses; the default follows the cited
        definition, the other option the released code.

    Cost: one gather per block and step; memory 2 T N numbers and 2 T N per snapshot.

    Raises:
        ValueError: A task that has no classes, inputs that are not shared, or an epoch below 1.

    References:
        A. Sherif, A. Abid, M. Elattar, M. ElHelw, STG-MTL: Scalable Task Grouping for Multi-Task
        Learning Using Data Maps, 2023, https://arxiv.org/abs/2307.03374, section 3.2.
        S. Swayamdipta et al., Dataset Cartography, EMNLP 2020, https://arxiv.org/abs/2009.10795.
    """

    def __init__(
        self,
        *,
        epochs: Sequence[int] = (),
        deviation: Literal["population", "sample"] = "population",
    ) -> None:
        if any(epoch < 1 for epoch in epochs):
            raise ValueError(f"`epochs` must be >= 1, found {tuple(epochs)}.")
        if deviation not in ("population", "sample"):
            raise ValueError(f"`deviation` must be 'population' or 'sample', found {deviation!r}.")
        self.epochs = tuple(epochs)
        self.deviation = deviation
        self.tasks: tuple[str, ...] = ()
        self._count = self._mean = self._squares = torch.empty(0)
        self._snapshots: dict[int, Tensor] = {}
        self._kinds: dict[str, Binary | Multiclass] = {}

    def on_start(self, trainer: Trainer) -> None:
        """Make room for every task and training row."""
        if trainer.problem.layout != "shared":
            raise ValueError("A data map needs shared inputs: one row of the map per example.")
        for task in trainer.problem.tasks:
            if not isinstance(task.kind, (Binary, Multiclass)):
                raise ValueError(
                    f"Task {task.name!r} is a {type(task.kind).__name__}; a data map needs classes."
                )
            self._kinds[task.name] = task.kind
        self.tasks = tuple(self._kinds)
        if self._mean.numel() == 0:
            shape = (len(self.tasks), len(trainer.problem.train))
            self._count, self._mean, self._squares = torch.zeros(
                3, *shape, dtype=torch.float64, device=trainer.device
            ).unbind()

    def on_step(self, report: StepReport) -> None:
        """Add the examples of the step's batches."""
        for batch, outputs in zip(report.batches, report.outputs, strict=True):
            self._add(batch, TaskTensors.from_mapping(outputs))

    def on_epoch(self, report: EpochReport) -> None:
        """Take a snapshot after the chosen epochs."""
        if report.epoch in self.epochs:
            self._snapshots[report.epoch] = self.current()

    def current(self) -> Tensor:
        """The map so far ``[T, N, 2]``: mean and deviation, NaN for examples never seen."""
        mean = torch.where(self._count > 0, self._mean, torch.nan)
        divisor = self._count if self.deviation == "population" else self._count - 1
        variance = torch.where(divisor > 0, self._squares / divisor, torch.nan)
        return torch.stack([mean, variance.clamp_min(0).sqrt()], dim=-1).cpu()

    def data_map(self) -> Tensor:
        """Snapshots ``[T, E, N, 2]``, or the map at the end ``[T, 1, N, 2]`` if none was chosen."""
        found = [self._snapshots[epoch] for epoch in sorted(self._snapshots)]
        return torch.stack(found or [self.current()], dim=1)

    def _add(self, batch: Batch, outputs: TaskTensors) -> None:
        assert isinstance(batch.indices, Tensor)
        for (names, target), present in zip(batch.targets.blocks, batch.present, strict=True):
            stacked = outputs.block(names)
            dim = 2 if outputs.members > 1 else 1
            output = torch.stack([outputs[n] for n in names], dim) if stacked is None else stacked
            probabilities = self._kinds[names[0]].probabilities(output)
            if outputs.members > 1:
                probabilities = probabilities.mean(0)
            chosen = probabilities.gather(-1, target.unsqueeze(-1)).squeeze(-1).double()  # [B, K]
            rows = torch.tensor([self.tasks.index(name) for name in names], device=chosen.device)
            self._update(rows, batch.indices, chosen.T, None if present is None else present.T)

    def _update(
        self, rows: Tensor, columns: Tensor, values: Tensor, present: Tensor | None
    ) -> None:
        """Welford's update of the entries ``[K, B]`` at these tasks and examples."""
        place = (rows[:, None], columns[None, :])
        seen = torch.ones_like(values) if present is None else present.double()
        count = self._count[place] + seen
        delta = (values - self._mean[place]) * seen
        mean = self._mean[place] + delta / count.clamp_min(1)
        self._squares[place] += delta * (values - mean)
        self._mean[place] = mean
        self._count[place] = count

    def state_dict(self) -> dict[str, Any]:
        """Moments and snapshots."""
        moments = {"count": self._count, "mean": self._mean, "squares": self._squares}
        return {**moments, "snapshots": self._snapshots}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from ``state_dict``."""
        self._count, self._mean, self._squares = state["count"], state["mean"], state["squares"]
        self._snapshots = state["snapshots"]
