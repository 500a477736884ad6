"""Recording data maps: how sure a model is of each example's truth while it trains.

Shape legend: T tasks, N training rows, B batch, K tasks of one block, E recorded epochs, M ensemble
members.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from polytask.grouping.data_map import DTYPES, FILE, DataMap, empty_values
from polytask.grouping.grouping import GroupingCost
from polytask.grouping.learner import Learner
from polytask.grouping.moments import Deviation, RunningMoments
from polytask.problems.problem import Problem
from polytask.tasks import Binary, Kind, Multiclass, Regression, TaskTensors
from polytask.training.observers import Observer
from polytask.training.reports import EpochReport, StepReport, TrainingStart
from polytask.training.settings import TrainingSettings

__all__ = [
    "DataMapRecorder",
    "confidence",
    "default_epochs",
    "record_data_map",
    "why_no_data_map",
]

#: From a kind, outputs ``[..., C]`` and encoded targets ``[...]`` to a number per example.
Measure = Callable[[Kind, Tensor, Tensor], Tensor]

#: Parts of the training after which ``record_data_map`` looks, where nothing else is said.
QUARTERS = (0.25, 0.5, 0.75, 1.0)
#: Numbers that are worked on at a time: enough for a processor's cache to be warm, few enough to
#: fit.
PIECE = 2**17


def confidence(kind: Kind, output: Tensor, target: Tensor) -> Tensor:
    """How likely a model holds the truth to be.

    Classes: p(y), the probability of the true class y. Regression, with target y and output f in
    standard deviations of the training targets (whose mean is 0):

        c = 1 / (1 + exp((y - f)^2 - y^2)),

    the probability that y comes from N(f, 1/2), the model, rather than from N(0, 1/2), the mean of
    the targets, if both are as likely beforehand. Of several numbers the mean squares are taken.

    A model that knows nothing (f = 0) has 1/2 everywhere, as one of a balanced class has. Where it
    is better than the mean c exceeds 1/2, the more the farther the target is from the mean; where
    it is worse c falls below. So maps of numbers and of classes can be compared.

    Args:
        kind: Binary, Multiclass or Regression.
        output: ``[..., C]``.
        target: ``[...]``, encoded.

    Returns:
        ``[...]`` in [0, 1].

    Differences: the paper has no data maps for regression. Eleven measures are compared in
        ``experiments/grouping/regression_maps``; none is the best everywhere. This one also serves
        mixed kinds and uneven noise; tasks of any direction are grouped better by exp(-(y - f)^2),
        which ``measure`` of the recorder can be.
    """
    if isinstance(kind, Binary):
        logit = output.squeeze(-1)
        return (logit * target.to(logit.dtype).mul_(2).sub_(1)).sigmoid_()
    loss = kind.loss(output, target)
    if isinstance(kind, Multiclass):
        return loss.neg_().exp_()
    return (kind.loss(torch.zeros_like(output), target) - loss).sigmoid_()


class DataMapRecorder(Observer):
    """Records mean and deviation over epochs of the true class's probability, per example and task.

    The probabilities are those of the training steps themselves (no second pass over the data), so
    the weights move while an epoch is recorded. Mean and sum of squared deviations are updated as
    the batches come (Welford); nothing grows with the number of epochs except the chosen snapshots.
    An example that an epoch leaves out keeps its numbers, one that comes twice counts twice. All
    tasks with a label are recorded, whatever tasks the sampler draws. Of ensemble members the mean
    confidence is taken.

    Args:
        epochs: Epochs after which a snapshot is taken; empty: only the map at the end.
        deviation: "population" divides by the number of epochs n as Swayamdipta et al. do, "sample"
            by n - 1 as the code of STG-MTL does (NaN after one epoch).
        dtype: Of the snapshots. The running moments are float64 for float64 and float32 otherwise,
            so that float16 only rounds what is stored: numbers in [0, 1] by at most 2^-12.
        folder: Snapshots go to ``data_map.npy`` there and running moments to a nameless file
            instead of memory. The file must stay as long as the map is used or training may be
            resumed.
        measure: What is recorded instead of ``confidence``.

    Differences: the paper does not say which deviation it uses; the default follows the cited
        definition, the other option the released code. Both leave class weights of the loss in the
        probability, as the released code does.

    Cost: per step the confidences, two gathers and two scatters of ``[B, T]``; measured in
        ``benchmarks/grouping/data_maps.py``. Memory 2 T N numbers and 2 T N per snapshot.

    Raises:
        ValueError: Bad arguments; on the first step a task without a confidence, inputs that are
            not shared, or a checkpoint of another problem.

    References:
        A. Sherif, A. Abid, M. Elattar, M. ElHelw, STG-MTL: Scalable Task Grouping for Multi-Task
        Learning Using Data Maps, 2023, https://arxiv.org/abs/2307.03374, section 3.2.
        S. Swayamdipta et al., Dataset Cartography, EMNLP 2020, https://arxiv.org/abs/2009.10795.
    """

    def __init__(
        self,
        *,
        epochs: Sequence[int] = (),
        deviation: Deviation = "population",
        dtype: torch.dtype = torch.float32,
        folder: Path | str | None = None,
        measure: Measure = confidence,
    ) -> None:
        _check_choices(epochs, deviation, dtype)
        self.epochs = tuple(sorted(set(epochs)))
        self.deviation = deviation
        self.dtype = dtype
        self.folder = None if folder is None else Path(folder)
        self.measure = measure
        self.tasks: tuple[str, ...] = ()
        self._kinds: dict[str, Kind] = {}
        self._moments: RunningMoments | None = None
        self._columns: slice | Tensor = slice(None)
        self._values: Tensor | None = None
        self._pending: list[tuple[Tensor, TaskTensors, TaskTensors]] = []
        self._done: list[int] = []
        self._epoch = 0
        self._restored: dict[str, Any] | None = None

    def on_start(self, start: TrainingStart) -> None:
        """Make room for every task and training row, or take up what a checkpoint holds."""
        reason = why_no_data_map(start.problem)
        if reason is not None:
            raise ValueError(reason)
        if start.epoch > 0 and self._restored is None and self._moments is not None:
            return
        (split,) = start.problem.train.pieces.values()
        self._split = split
        self._kinds = {task.name: task.kind for task in split.tasks}
        self.tasks = tuple(self._kinds)
        columns = [name for names, _ in split.targets.blocks for name in names]
        order = [columns.index(name) for name in self.tasks]
        # A slice copies nothing where the blocks have the order of the tasks.
        self._columns = slice(None) if order == sorted(order) else torch.tensor(order)
        if self.folder is not None:
            self.folder.mkdir(parents=True, exist_ok=True)
        self._moments = RunningMoments(
            len(split),
            len(self.tasks),
            dtype=torch.float64 if self.dtype == torch.float64 else torch.float32,
            device=start.device,
            folder=self.folder,
        )
        self._pending, self._done, self._epoch = [], [], start.epoch
        self._values = self._room(len(self.epochs), new=self._restored is None)
        if self._restored is not None:
            self._take_up(self._restored)
            self._restored = None

    def on_step(self, report: StepReport) -> None:
        """Keep the step's outputs; those of several steps are added together.

        Within a training step every small operation starts with cold caches, so that a few large
        ones cost less than half of many small ones.
        """
        for batch, outputs in zip(report.batches, report.outputs, strict=True):
            assert isinstance(batch.indices, Tensor)
            found = TaskTensors.from_mapping(outputs)
            self._pending.append((batch.indices, batch.targets, found))
        if sum(len(rows) for rows, _, _ in self._pending) * len(self.tasks) >= PIECE:
            self._add_pending()

    def on_epoch(self, report: EpochReport) -> None:
        """Take a snapshot after the chosen epochs."""
        self._epoch = report.epoch
        self._add_pending()
        if report.epoch in self.epochs:
            assert self._values is not None
            self.write(self._values[:, self.epochs.index(report.epoch)])
            if self.folder is not None:
                with (self.folder / FILE).open("rb+") as file:
                    os.fsync(file.fileno())
            self._done.append(report.epoch)

    def current(self) -> Tensor:
        """The map so far ``[T, N, 2]``: mean and deviation, NaN for examples never seen or without
        a label.
        """
        self._check_started()
        found = torch.empty(len(self.tasks), len(self._split), 2, dtype=self.dtype)
        self.write(found)
        return found

    def data_map(self, *, allow_fewer: bool = False) -> DataMap:
        """The snapshots, or the map as it is now if none was chosen.

        Args:
            allow_fewer: Leave out chosen epochs that training did not reach, with a note, instead
                of raising an error.

        Raises:
            ValueError: Nothing was recorded, or training ended before a chosen epoch.
        """
        self._check_started()
        assert self._values is not None
        if not self.epochs:
            values = self._room(1)
            self.write(values[:, 0])
            return DataMap(self.tasks, values, (self._epoch,), self.deviation)
        missing = sorted(set(self.epochs) - set(self._done))
        if not missing:
            return DataMap(self.tasks, self._values, self.epochs, self.deviation)
        sentence = f"Training ended after epoch {self._epoch}, before epochs {missing} of the map"
        if not allow_fewer or not self._done:
            raise ValueError(
                f"{sentence}; train with `patience=None` and enough epochs, or choose earlier ones."
            )
        values = self._values[:, : len(self._done)]
        notes = (f"{sentence}.",)
        return DataMap(self.tasks, values, tuple(self._done), self.deviation, notes=notes)

    def _check_started(self) -> None:
        if self._moments is None:
            raise ValueError("The recorder has seen no training; give it to a Trainer's observers.")

    def _add_pending(self) -> None:
        """Add the examples of the steps since the last time."""
        pending, self._pending = self._pending, []
        if not pending:
            return
        assert self._moments is not None
        mean = self._moments.mean
        rows = torch.cat([rows for rows, _, _ in pending])
        found = []
        for names, _ in pending[0][1].blocks:
            target = torch.cat([targets.stacked(names) for _, targets, _ in pending])
            row_axis = pending[0][2].row_axis
            output = torch.cat([outputs.stacked(names) for _, _, outputs in pending], dim=row_axis)
            if output.dtype not in (torch.float32, torch.float64):
                output = output.float()
            values = self.measure(self._kinds[names[0]], output, target)
            found.append(values.mean(0) if row_axis else values)
        joined = found[0] if len(found) == 1 else torch.cat(found, dim=1)
        self._moments.add(rows.to(mean.device), joined.to(device=mean.device, dtype=mean.dtype))

    def write(self, place: Tensor) -> None:
        """Put the map as it is now into ``[T, N, 2]``."""
        self._add_pending()
        assert self._moments is not None
        rows = len(self._split)
        size = max(1, PIECE // len(self.tasks))
        for start in range(0, rows, size):
            piece = slice(start, min(start + size, rows))
            labelled = self._labelled(piece)
            for index, found in enumerate(self._moments.read(piece, self.deviation)):
                if labelled is not None:
                    found.masked_fill_(~labelled.to(found.device), torch.nan)
                place[:, piece, index] = found.cpu()[:, self._columns].T

    def _labelled(self, rows: slice) -> Tensor | None:
        """Mask ``[n, T]`` in the order of the blocks; None where no label is missing.

        Labels stay the same while a model trains, so they need no count per task.
        """
        masks = self._split.masks
        if all(mask is None for mask in masks):
            return None
        parts = []
        for (_, target), mask in zip(self._split.targets.blocks, masks, strict=True):
            some = target[rows]
            parts.append(
                torch.ones(some.shape[:2], dtype=torch.bool, device=some.device)
                if mask is None
                else mask[rows]
            )
        return torch.cat(parts, dim=1)

    def _room(self, epochs: int, *, new: bool = True) -> Tensor:
        """Space ``[T, E, N, 2]`` for snapshots, in memory or on disk."""
        shape = (len(self.tasks), epochs, len(self._split), 2)
        return empty_values(shape, self.dtype, self.folder, new=new)

    def _take_up(self, state: Mapping[str, Any]) -> None:
        assert self._moments is not None
        assert self._values is not None
        self._moments.load_state_dict(state["moments"])
        for epoch, values in state["snapshots"].items():
            if epoch not in self.epochs:
                raise ValueError(
                    f"The checkpoint has a data map after epoch {epoch}, `epochs` are"
                    f" {self.epochs}; resume with the same recorder."
                )
            if values is not None:
                self._values[:, self.epochs.index(epoch)] = values
            self._done.append(epoch)

    def state_dict(self) -> dict[str, Any]:
        """Moments and snapshots; of snapshots on disk only which there are."""
        self._add_pending()
        if self._moments is None or self._values is None:
            return {}
        place = {epoch: self.epochs.index(epoch) for epoch in self._done}
        return {
            "moments": self._moments.state_dict(),
            "snapshots": {
                epoch: self._values[:, i] if self.folder is None else None
                for epoch, i in place.items()
            },
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from ``state_dict``; taken up when training starts."""
        self._restored = state or None


def why_no_data_map(problem: Problem) -> str | None:
    """Why a problem has no data map (a sentence), or None if it has one."""
    if problem.layout != "shared":
        return "A data map needs shared inputs: one row of the map per example."
    for task in problem.tasks:
        if not isinstance(task.kind, (Binary, Multiclass, Regression)):
            return (
                f"Task {task.name!r} is a {type(task.kind).__name__}; a data map needs classes or"
                " numbers."
            )
    return None


def record_data_map(
    problem: Problem,
    learner: Learner | None = None,
    *,
    source: Literal["joint", "single"] = "joint",
    epochs: Sequence[int] | None = None,
    deviation: Deviation = "population",
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
    folder: Path | str | None = None,
) -> DataMap:
    """Train, and return the data map of all tasks.

    Every epoch of the settings is run: early stopping would end the map of one task before that of
    another.

    Args:
        problem: Tasks and rows, with shared inputs; only training and validation rows are looked
            at.
        learner: How networks are trained; None means the default network and settings.
        source: "joint": one network of all tasks; "single": one network per task. The maps have the
            same shape and meaning.
        epochs: After which epochs; None means a quarter, a half, three quarters and all of the
            settings' epochs: early ones tell which examples a task learns first, late ones which it
            never learns, and every further one adds 2 N numbers per task. All four recover planted
            groups better than the last alone (``experiments/grouping/regression_maps``).
        deviation: See ``DataMapRecorder``.
        seed: Of initialisation and batch order, the same for every network.
        dtype: Of the map.
        folder: For a map that does not fit in memory: it is kept in ``data_map.npy`` there.

    Cost: one network, or T.

    Raises:
        ValueError: ``why_no_data_map`` has a reason, an epoch beyond those of the settings, or a
            time limit that ended training before the last epoch.
    """
    reason = why_no_data_map(problem)
    if reason is not None:
        raise ValueError(reason)
    if source not in ("joint", "single"):
        raise ValueError(f"`source` must be 'joint' or 'single', found {source!r}.")
    learner = learner or Learner()
    base = learner.settings or TrainingSettings.for_problem(problem)
    settings = dataclasses.replace(base, patience=None)
    chosen = default_epochs(settings.epochs) if epochs is None else tuple(sorted(set(epochs)))
    _check_choices(chosen, deviation, dtype)
    if not chosen or chosen[-1] > settings.epochs:
        raise ValueError(
            f"`epochs` must lie in 1 .. {settings.epochs}, the epochs of the settings, found"
            f" {chosen}."
        )

    def record(part: Problem, place: Path | str | None) -> DataMap:
        recorder = DataMapRecorder(epochs=chosen, deviation=deviation, dtype=dtype, folder=place)
        trained = learner.train(part, seed=seed, observers=(recorder,), settings=settings)
        return dataclasses.replace(recorder.data_map(), cost=trained.cost)

    if source == "joint":
        return record(problem, folder)
    names = tuple(task.name for task in problem.tasks)
    place = None if folder is None else Path(folder)
    values = empty_values((len(names), len(chosen), len(problem.train), 2), dtype, place)
    cost = GroupingCost()
    for index, name in enumerate(names):
        found = record(problem.select_tasks([name]), None)
        values[index] = found.values[0]
        cost += found.cost
    return DataMap(names, values, chosen, deviation, cost)


def default_epochs(total: int) -> tuple[int, ...]:
    """After a quarter, a half, three quarters and all of the epochs."""
    return tuple(sorted({max(1, round(part * total)) for part in QUARTERS}))


def _check_choices(epochs: Sequence[int], deviation: str, dtype: torch.dtype) -> None:
    if any(epoch < 1 for epoch in epochs):
        raise ValueError(f"`epochs` must be >= 1, found {tuple(epochs)}.")
    if deviation not in get_args(Deviation):
        raise ValueError(f"`deviation` must be 'population' or 'sample', found {deviation!r}.")
    if dtype not in DTYPES.values():
        raise ValueError(f"`dtype` must be one of torch's {', '.join(DTYPES)}, found {dtype}.")
