"""The trainer of appendix B and its data map recorder.

Shape legend: T tasks, N training rows, B batch, C classes, E recorded epochs, m models.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.optim import Adam

from polytask.architectures.custom import CustomArchitecture
from polytask.balancers import FixedWeights
from polytask.encoders.base import check_positive
from polytask.grouping.appendix_b.data import BaseDataModule
from polytask.grouping.appendix_b.models import BaseMetrics, BaseModel, LossFunction
from polytask.grouping.grouping import Grouping
from polytask.grouping.moments import Deviation, RunningMoments
from polytask.problems.batch import Batch
from polytask.problems.problem import Problem
from polytask.problems.splits import SPLIT_NAMES, Split
from polytask.tasks import Binary, Kind, Multiclass, Task
from polytask.training.checkpoint import Checkpoints
from polytask.training.observers import Observer
from polytask.training.prediction import EVALUATION_ROWS
from polytask.training.reports import EpochReport, StepReport, TrainingResult, TrainingStart
from polytask.training.settings import TrainingSettings
from polytask.training.trainer import Trainer as PolytaskTrainer

__all__ = ["DataMapRecorder", "Trainer"]

Part = Literal["train", "validation", "test"]
#: Per task, metric name to value.
Scores = dict[str, dict[str, float]]

REQUIRED_ARGS = ("lr", "num_of_epochs", "batch_size", "base_dir", "checkpoint_enable")
OPTIONAL_ARGS = ("device", "seed")


class DataMapRecorder:
    """Mean and deviation of the true class's probability per example and task, as batches come.

    Args:
        num_tasks: T.
        num_points: N.
        deviation: "sample" divides by the number of epochs less 1 as the authors' code does,
            "population" by the number, as the definition that the paper cites.
        device: Where the moments are kept.
    """

    def __init__(
        self,
        num_tasks: int,
        num_points: int,
        *,
        deviation: Deviation = "sample",
        device: torch.device | str = "cpu",
    ) -> None:
        if deviation not in ("population", "sample"):
            raise ValueError(f"`deviation` must be 'population' or 'sample', found {deviation!r}.")
        self.num_tasks = num_tasks
        self.num_points = num_points
        self.deviation: Deviation = deviation
        self.device = device
        self.reset()

    def reset(self) -> None:
        """Forget everything."""
        self._moments = RunningMoments(self.num_points, self.num_tasks, device=self.device)

    def update(self, confidence: Tensor, indxs: Tensor) -> None:
        """Add probabilities of the true classes ``[B, T]`` of the examples ``[B]``."""
        self._moments.add(indxs.to(self.device), confidence.detach().to(self._moments.mean))

    def get_data_map(self) -> Tensor:
        """The map so far ``[T, N, 2]``, mean then deviation; NaN where there is none yet."""
        columns = self._moments.read(slice(None), self.deviation)
        return torch.stack(columns, dim=-1).transpose(0, 1).cpu()

    def state_dict(self) -> dict[str, Tensor]:
        """What must survive a checkpoint."""
        return self._moments.state_dict()

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Continue from ``state_dict``."""
        self._moments.load_state_dict(state)


class Trainer:
    """Trains a model on the tasks of a data module, records data maps, and evaluates.

    Underneath works ``polytask.training.Trainer`` with Adam, fixed task weights and no early
    stopping. The model keeps the last epoch's parameters, as in the paper.

    Args:
        model: Trained in place.
        data_module: Where the rows come from.
        args: ``lr``, ``num_of_epochs``, ``batch_size``, ``base_dir`` (a folder) and
            ``checkpoint_enable`` (whether to save model, optimiser, data map and random states in
            ``base_dir/checkpoints`` after every epoch); optional ``device`` ("auto") and ``seed``
            (0).
        epochs_data_map: Epochs, counted from 1, after which the data map is taken; None for the
            last only.
        task_weights: ``[T]``, the weight of each task's loss: a column of the memberships trains
            the specialised model of that cluster (eq. 3). None for 1.
        deviation: See ``DataMapRecorder``.

    Raises:
        ValueError: ``args`` lack a key or have an unknown one, an epoch that is not trained (or has
            no sample deviation), or a number of weights, losses or metrics that is not that of the
            tasks.
    """

    def __init__(
        self,
        model: BaseModel,
        data_module: BaseDataModule,
        *,
        args: Mapping[str, Any],
        epochs_data_map: Sequence[int] | None = None,
        task_weights: Tensor | Sequence[float] | None = None,
        deviation: Deviation = "sample",
    ) -> None:
        _check_args(args)
        _check_epochs(epochs_data_map or (), args["num_of_epochs"], deviation)
        self.model = model
        self.args = dict(args)
        self.task_names = data_module.get_task_names()
        count = len(self.task_names)
        weights = torch.ones(count) if task_weights is None else torch.as_tensor(task_weights)
        for what, found, wanted in (
            ("`task_weights`", weights.numel(), count),
            ("the model's losses", len(model.get_losses()), count),
            ("the model's metrics", len(model.get_metrics_generator()), len(SPLIT_NAMES)),
        ):
            if found != wanted:
                raise ValueError(f"The number of {what} must be {wanted}, found {found}.")
        problem = _problem(data_module, model.get_losses())
        settings = TrainingSettings(
            epochs=args["num_of_epochs"],
            batch_size=args["batch_size"],
            learning_rate=args["lr"],
            weight_decay=0.0,
            patience=None,
            clip_norm=None,
            precision="float32",
            device=args.get("device", "auto"),
            seed=args.get("seed", 0),
        )
        columns = _Columns(model, self.task_names)
        recorder = DataMapRecorder(
            count, len(problem.train), deviation=deviation, device=settings.resolved_device()
        )
        self._follower = _Follower(self, columns, recorder, epochs_data_map or ())
        folder = Path(args["base_dir"] or ".") / "checkpoints"
        self._trainer = PolytaskTrainer(
            problem,
            CustomArchitecture(module=columns, tasks=problem.tasks),
            balancer=FixedWeights(values=weights.flatten().tolist()),
            settings=settings,
            optimizer=Adam,
            observers=(self._follower,),
            checkpoints=Checkpoints(folder) if args["checkpoint_enable"] else None,
        )

    @property
    def data_map_recorder(self) -> DataMapRecorder:
        """Updated after every iteration."""
        return self._follower.recorder

    @property
    def history(self) -> list[dict[str, Any]]:
        """Per epoch its number ("epoch") and the scores per task of "train" (while it was training)
        and "validation" rows.
        """
        return self._follower.history

    def train(self, *, resume: bool = False) -> TrainingResult:
        """Train for ``num_of_epochs``.

        Args:
            resume: Continue from the newest checkpoint in ``base_dir``, if there is one; the result
                equals that of an uninterrupted training.
        """
        result = self._trainer.fit(resume=resume)
        self._trainer.architecture.load_state_dict(self._follower.last)
        return result

    def get_data_map(self) -> Tensor:
        """Data maps ``[T, E, N, 2]`` of the training rows at the chosen epochs; the last axis is
        mean and deviation.

        Raises:
            ValueError: None of the chosen epochs has been trained yet.
        """
        found = self._follower.maps()
        if not found:
            raise ValueError("There is no data map yet; call `train()` first.")
        return torch.stack(found, dim=1)

    def evaluate(self, on: Part = "validation") -> Scores:
        """Scores of the model as it is, per task; the names are those of its metrics."""
        return self._scores([self.model], None, on)

    def evaluate_ensemble(
        self,
        models: Sequence[Trainer | BaseModel],
        memberships: Tensor | None = None,
        on: Part = "test",
    ) -> Scores:
        """Scores of specialised models together: ``sum_j W_j o O_j`` (eq. 4).

        Args:
            models: One per cluster: O_j are its probabilities.
            memberships: W ``[T, m]``, its rows are divided by their sums; None weighs all models
                alike.
            on: Rows to evaluate on.

        Raises:
            ValueError: Not one column of memberships per model.
        """
        count = len(self.task_names)
        if memberships is None:
            memberships = torch.ones(count, len(models))
        serving = Grouping(self.task_names, memberships).serving
        assert serving is not None
        if serving.shape[1] != len(models):
            raise ValueError(
                f"`memberships` must have one column per model ({len(models)}), found"
                f" {serving.shape[1]}."
            )
        members = [m.model if isinstance(m, Trainer) else m for m in models]
        return self._scores(members, serving.float().to(self._trainer.device), on)

    def _scores(self, models: Sequence[BaseModel], weights: Tensor | None, on: Part) -> Scores:
        if on not in SPLIT_NAMES:
            raise ValueError(f"`on` must be one of {SPLIT_NAMES}, found {on!r}.")
        found = self.model.get_metrics_generator()[SPLIT_NAMES.index(on)]
        found.initialize()
        with _evaluating(models), torch.no_grad():
            for batch in getattr(self._trainer.problem, on).batches(EVALUATION_ROWS):
                outputs = [model.to(self._trainer.device)(batch.inputs) for model in models]
                together = outputs[0] if weights is None else torch.stack(outputs, dim=-1)
                found.update_metrics_iteration(
                    together, _label_matrix(batch, self.task_names), weights
                )
        found.compute_metrics_epoch()
        return _scores_table(found, self.task_names)


class _Columns(nn.Module):
    """A ``BaseModel`` as ``CustomArchitecture`` wants it: outputs by task.

    ``latest`` is what ``forward`` returned: a step's report has the tasks' outputs one by one, but
    ``get_probabilities_true_target`` and the metrics want them as the model gave them.
    """

    def __init__(self, model: BaseModel, names: Sequence[str]) -> None:
        super().__init__()
        self.model = model
        self.names = tuple(names)
        self.latest: Tensor | None = None

    def forward(self, inputs: Tensor) -> dict[str, Tensor]:
        outputs = self.model(inputs)
        self.latest = outputs
        return {n: self.model.get_task_output(outputs, k) for k, n in enumerate(self.names)}


class _Follower(Observer):
    """Keeps the data map, the metrics and the last epoch's parameters while a model trains."""

    def __init__(
        self, owner: Trainer, columns: _Columns, recorder: DataMapRecorder, epochs: Sequence[int]
    ) -> None:
        self.owner = owner
        self.columns = columns
        self.recorder = recorder
        self.epochs = frozenset(epochs or (owner.args["num_of_epochs"],))
        self.history: list[dict[str, Any]] = []
        self.last: dict[str, Tensor] = {}
        self._maps: dict[int, Tensor] = {}
        self._metrics = owner.model.get_metrics_generator()[0]

    def maps(self) -> list[Tensor]:
        """Data maps ``[T, N, 2]`` in the order of their epochs."""
        return [self._maps[epoch] for epoch in sorted(self.epochs & self._maps.keys())]

    def on_start(self, start: TrainingStart) -> None:
        self._architecture = start.architecture
        self._keep_parameters()
        self._metrics.initialize()

    def on_step(self, report: StepReport) -> None:
        (batch,) = report.batches
        outputs, self.columns.latest = self.columns.latest, None
        assert outputs is not None
        assert isinstance(batch.indices, Tensor)
        targets = _label_matrix(batch, self.columns.names)
        with torch.no_grad():
            confidence = self.columns.model.get_probabilities_true_target(outputs, targets)
            self.recorder.update(confidence, batch.indices)
            self._metrics.update_metrics_iteration(outputs, targets)

    def on_epoch(self, report: EpochReport) -> None:
        self._metrics.compute_metrics_epoch()
        train = _scores_table(self._metrics, self.columns.names)
        scores = {"train": train, "validation": self.owner.evaluate("validation")}
        self.history.append({"epoch": report.epoch, **scores})
        self._metrics.initialize()
        if report.epoch in self.epochs:
            self._maps[report.epoch] = self.recorder.get_data_map()
        self._keep_parameters()

    def _keep_parameters(self) -> None:
        state = self._architecture.state_dict()
        self.last = {name: tensor.detach().clone() for name, tensor in state.items()}

    def state_dict(self) -> dict[str, Any]:
        return {
            "recorder": self.recorder.state_dict(),
            "maps": self._maps,
            "history": self.history,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.recorder.load_state_dict(state["recorder"])
        self._maps = state["maps"]
        self.history = state["history"]


def _check_args(args: Mapping[str, Any]) -> None:
    known = (*REQUIRED_ARGS, *OPTIONAL_ARGS)
    for key in REQUIRED_ARGS:
        if key not in args:
            raise ValueError(f"`args` lacks the key {key!r}; it needs {', '.join(REQUIRED_ARGS)}.")
    for key in args:
        if key not in known:
            raise ValueError(f"`args` has an unknown key {key!r}; the keys are {', '.join(known)}.")
    for key in ("num_of_epochs", "batch_size"):
        check_positive(key, args[key])
    if args["checkpoint_enable"] and not args["base_dir"]:
        raise ValueError(
            "`base_dir` must be a folder if `checkpoint_enable` is set, found"
            f" {args['base_dir']!r}."
        )


def _check_epochs(epochs: Sequence[int], last: int, deviation: str) -> None:
    for epoch in epochs:
        if not 1 <= epoch <= last:
            raise ValueError(
                f"`epochs_data_map` must be epochs from 1 to `num_of_epochs` ({last}), found"
                f" {epoch}."
            )
        if epoch == 1 and deviation == "sample":
            raise ValueError(
                "`epochs_data_map` holds epoch 1, after which there is no sample deviation; start"
                " at 2 (the authors' code, which counts from 0, calls it 1) or choose"
                " deviation='population'."
            )


def _problem(data_module: BaseDataModule, losses: Sequence[LossFunction]) -> Problem:
    """The data module's rows, with the model's losses as those of the tasks."""
    tensors = data_module.tensors()
    names = data_module.get_task_names()
    labels = {part: tensors[part][1] for part in SPLIT_NAMES}
    for part, values in labels.items():
        if not bool(((values >= 0) & (values == values.round())).all()):
            raise ValueError(
                f"The {part} labels must be classes counted from 0, one for every row and task."
            )
    highest = torch.cat(list(labels.values())).amax(0).int().tolist()
    tasks = [
        _task(name, Binary() if high < 2 else Multiclass(high + 1), loss)
        for name, high, loss in zip(names, highest, losses, strict=True)
    ]
    splits = {
        part: Split(
            tensors[part][0], {n: labels[part][:, k].long() for k, n in enumerate(names)}, tasks
        )
        for part in SPLIT_NAMES
    }
    return Problem(
        name=type(data_module).__name__,
        train=splits["train"],
        validation=splits["validation"],
        test=splits["test"],
    )


def _task(name: str, kind: Kind, loss: LossFunction) -> Task:
    """A task with the model's loss; the logistic loss is our own, so that such tasks are one
    block.
    """
    if (
        type(loss) is nn.BCEWithLogitsLoss
        and isinstance(kind, Binary)
        and loss.weight is None
        and loss.reduction == "mean"
        and (loss.pos_weight is None or loss.pos_weight.numel() == 1)
    ):
        positive = 1.0 if loss.pos_weight is None else float(loss.pos_weight)
        return Task(name, kind, class_weights=None if positive == 1 else (1.0, positive))
    return Task(name, kind, loss=_MeanLoss(loss, isinstance(kind, Binary)))


class _MeanLoss:
    """A loss of a task's outputs and targets that is a mean over the rows, as a loss per row whose
    mean it is.
    """

    def __init__(self, loss: LossFunction, is_binary: bool) -> None:
        self.loss = loss
        self.is_binary = is_binary

    def __call__(self, output: Tensor, target: Tensor) -> Tensor:
        """The mean, once for every row ``[B, 1]``; outputs are ``[B, 1, C]``."""
        if self.is_binary:
            mean = self.loss(output[..., 0].flatten(), target.flatten().to(output.dtype))
        else:
            mean = self.loss(output.flatten(0, -2), target.flatten())
        return mean.expand(target.shape)


def _label_matrix(batch: Batch, names: Sequence[str]) -> Tensor:
    """Labels ``[B, T]`` of a batch, as the model's own methods take them."""
    block = batch.targets.block(tuple(names))
    stacked = torch.stack([batch.targets[n] for n in names], 1) if block is None else block
    return stacked.float()


@contextmanager
def _evaluating(models: Sequence[nn.Module]) -> Iterator[None]:
    """Evaluation mode inside, the former mode afterwards."""
    modes = [model.training for model in models]
    for model in models:
        model.eval()
    try:
        yield
    finally:
        for model, mode in zip(models, modes, strict=True):
            model.train(mode)


def _scores_table(found: BaseMetrics, tasks: Sequence[str]) -> Scores:
    columns = [values.tolist() for values in found.get_metrics()]
    names = found.get_metric_names()
    return {
        task: dict(zip(names, row, strict=True))
        for task, row in zip(tasks, zip(*columns, strict=True), strict=True)
    }
