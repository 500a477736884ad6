"""Observers: they read reports of steps and epochs and never change training.

A *gradient observer* is handed the model and the batch before the update (gradient cosines, task
affinity); it leaves parameters, buffers, gradients and random generators as it found them, which
the base class takes care of.
"""

from __future__ import annotations

import json
import sys
import time
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Literal

import torch
from torch import Tensor, nn

from polytask import gradients
from polytask.architectures.base import Architecture
from polytask.problems.batch import Batch
from polytask.training.losses import TaskLosses
from polytask.training.reports import EpochReport, StepReport, TrainingResult, TrainingStart

__all__ = [
    "GradientCosines",
    "GradientObserver",
    "JsonLinesLog",
    "Observer",
    "Progress",
    "TensorBoard",
    "task_gramian",
]


class Observer:
    """Four moments; every one does nothing unless an observer fills it."""

    def on_start(self, start: TrainingStart) -> None:
        """Before the first step (also of a resumed training)."""

    def on_step(self, report: StepReport) -> None:
        """After every optimiser step."""

    def on_epoch(self, report: EpochReport) -> None:
        """After every epoch and its validation."""

    def on_end(self, result: TrainingResult) -> None:
        """After training; the best parameters are in place."""

    def state_dict(self) -> dict[str, Any]:
        """What must survive a checkpoint."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from ``state_dict``."""
        del state


class GradientObserver(Observer):
    """An observer that looks at model and batch before the update, every ``every`` steps from the
    first.

    Args:
        every: Steps between two looks.
    """

    def __init__(self, *, every: int = 1) -> None:
        if every < 1:
            raise ValueError(f"`every` must be >= 1, found {every}.")
        self.every = every

    def due(self, step: int) -> bool:
        """Whether this step is looked at."""
        return (step - 1) % self.every == 0

    def before_update(
        self, model: Architecture, losses: TaskLosses, batch: Batch, rate: float
    ) -> None:
        """Look, and put everything back as it was."""
        with _untouched(model):
            self.observe(model, losses, batch, rate)

    @abstractmethod
    def observe(self, model: Architecture, losses: TaskLosses, batch: Batch, rate: float) -> None:
        """What the observer does.

        Args:
            model: In training mode.
            losses: From outputs and a batch to losses ``[K]``.
            batch: The first of the step.
            rate: The learning rate of the step.
        """


class GradientCosines(GradientObserver):
    """Mean cosine between the tasks' gradients on the shared parameters: who conflicts with whom.

    Cost of one look: one forward pass and, with scope "trunk", T backward passes through the trunk;
    with the other scopes no pass goes back further than the last shared layer.

    Args:
        every: Steps between two looks.
        scope: What the gradients are taken of: "trunk" (all shared parameters), "last" (those of
            the last shared layer) or "features" (the shared representation itself).
    """

    def __init__(
        self, *, every: int = 10, scope: Literal["trunk", "last", "features"] = "trunk"
    ) -> None:
        super().__init__(every=every)
        if scope not in ("trunk", "last", "features"):
            raise ValueError(f"`scope` must be 'trunk', 'last' or 'features', found {scope!r}.")
        self.scope = scope
        self.tasks: tuple[str, ...] = ()
        self._sum: Tensor | None = None
        self._count: Tensor | None = None

    def on_start(self, start: TrainingStart) -> None:
        self.tasks = tuple(task.name for task in start.problem.tasks)

    def observe(self, model: Architecture, losses: TaskLosses, batch: Batch, rate: float) -> None:
        del rate
        shared = list(model.shared_parameters())
        if not shared or len(batch.tasks) < 2:
            return
        gram = task_gramian(model, losses, batch, self.scope)[1].double().cpu()
        norms = gram.diagonal().clamp_min(0).sqrt()
        scale = torch.where(norms > 0, 1 / norms, torch.zeros_like(norms))
        index = torch.tensor([self.tasks.index(name) for name in batch.tasks])
        grid = torch.meshgrid(index, index, indexing="ij")
        if self._sum is None or self._count is None:
            self._sum = torch.zeros(len(self.tasks), len(self.tasks), dtype=torch.float64)
            self._count = torch.zeros_like(self._sum)
        self._sum[grid] += scale[:, None] * gram * scale[None, :]
        self._count[grid] += ((norms > 0)[:, None] & (norms > 0)[None, :]).double()

    @property
    def mean(self) -> Tensor | None:
        """Mean cosines ``[T, T]`` over all looks; NaN for pairs never seen together; None without a
        look.
        """
        return None if self._sum is None or self._count is None else self._sum / self._count

    def state_dict(self) -> dict[str, Any]:
        return {"sum": self._sum, "count": self._count}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._sum, self._count = state["sum"], state["count"]


def task_gramian(
    model: Architecture,
    losses_of: TaskLosses,
    batch: Batch,
    scope: Literal["trunk", "last", "features"] = "trunk",
) -> tuple[Tensor, Tensor]:
    """Losses ``[K]`` of a batch's tasks and the inner products ``[K, K]`` of their gradients.

    Args:
        model: Whose gradients.
        losses_of: From outputs and a batch to losses.
        batch: What the losses are of.
        scope: What the gradients are taken of, as in ``GradientCosines``.

    Raises:
        ValueError: Scope "features" with an architecture that has no single shared representation
            of this batch.
    """
    features = model.features(batch.inputs)
    outputs = model(batch.inputs) if features is None else model.heads(features)
    losses = losses_of(outputs, batch)
    if scope == "features":
        if features is None:
            raise ValueError(
                f"Scope 'features' needs one representation that all heads start from, which"
                f" {type(model).__name__} does not have for these inputs; use scope 'trunk'."
            )
        return losses, gradients.feature_gramian(losses, features)
    chosen = model.shared_parameters() if scope == "trunk" else model.last_shared_parameters()
    variables = gradients.unique_variables(chosen)
    seeds = gradients.trunk_seeds(losses, features, variables)
    return losses, gradients.TaskGradients(seeds, variables).gram


class Progress(Observer):
    """A bar with the time left on a terminal, one plain line per tenth of the epochs elsewhere.

    Args:
        label: Shown before the bar.
        stream: Where to write; standard error by default.
    """

    def __init__(self, *, label: str = "training", stream: IO[str] | None = None) -> None:
        self.label = label
        self.stream = stream
        self._epochs = 1
        self._bar: Any = None
        self._task: Any = None
        self._started = 0.0

    def on_start(self, start: TrainingStart) -> None:
        stream = self.stream or sys.stderr
        self._epochs = start.epochs
        self._started = time.monotonic()
        if not stream.isatty():
            return
        from rich.console import Console
        from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as RichProgress

        self._bar = RichProgress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("epoch {task.completed:.0f}/{task.total:.0f} {task.fields[facts]}"),
            TimeRemainingColumn(),
            console=Console(file=stream),
            transient=True,
        )
        self._bar.start()
        self._task = self._bar.add_task(self.label, total=self._epochs, facts="")

    def on_epoch(self, report: EpochReport) -> None:
        facts = (
            ""
            if report.criterion is None
            else f"validation {report.criterion:.4f}{' *' if report.best else ''}"
        )
        if self._bar is not None:
            self._bar.update(self._task, completed=report.epoch, facts=facts)
        elif report.epoch % max(1, self._epochs // 10) == 0 or report.epoch == 1:
            left = (time.monotonic() - self._started) / report.epoch * (self._epochs - report.epoch)
            stream = self.stream or sys.stderr
            print(
                f"{self.label}: epoch {report.epoch}/{self._epochs} {facts} at most {left:.0f} s "
                "left",
                file=stream,
            )

    def on_end(self, result: TrainingResult) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
        print(
            f"{self.label}: {len(result.history)} epochs in {result.seconds:.1f} s, best epoch "
            f"{result.best_epoch}"
            f" (stopped by {result.stopped_by})",
            file=self.stream or sys.stderr,
        )


class JsonLinesLog(Observer):
    """One JSON object per epoch in a file; a resumed training appends after the epochs it has.

    Args:
        path: The file; its folder is created.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)

    def on_start(self, start: TrainingStart) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        done = start.epoch
        kept = []
        if done and self.path.exists():
            lines = self.path.read_text(encoding="utf-8").splitlines()
            kept = [
                line for line in lines if line.endswith("}") and json.loads(line)["epoch"] <= done
            ]
        self.path.write_text("".join(line + "\n" for line in kept), encoding="utf-8")

    def on_epoch(self, report: EpochReport) -> None:
        record = {name: getattr(report, name) for name in report.__dataclass_fields__}
        with self.path.open("a", encoding="utf-8") as handle:
            handle.write(json.dumps(record, ensure_ascii=False) + "\n")


class TensorBoard(Observer):
    """Losses and weights as TensorBoard scalars; needs the extra ``polytask[log]``.

    Args:
        folder: Log directory.
    """

    def __init__(self, folder: Path | str) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise ImportError(
                "TensorBoard(...) needs the extra: pip install 'polytask[log]'."
            ) from error
        self.folder = str(folder)
        self._writer = SummaryWriter(self.folder)

    def on_epoch(self, report: EpochReport) -> None:
        for name in ("train_losses", "validation_losses", "weights"):
            for task, value in getattr(report, name).items():
                self._writer.add_scalar(f"{name}/{task}", value, report.step)

    def on_end(self, result: TrainingResult) -> None:
        del result
        self._writer.close()


@contextmanager
def _untouched(module: nn.Module) -> Iterator[None]:
    """Whatever happens inside, buffers, gradients and random generators are afterwards as they
    were.
    """
    buffers = {name: buffer.clone() for name, buffer in module.named_buffers()}
    saved = [(parameter, parameter.grad) for parameter in module.parameters()]
    devices = sorted({p.device.index or 0 for p, _ in saved if p.device.type == "cuda"})
    for parameter, _ in saved:
        parameter.grad = None
    try:
        with torch.random.fork_rng(devices=devices):
            yield
    finally:
        with torch.no_grad():
            for name, buffer in module.named_buffers():
                buffer.copy_(buffers[name])
        for parameter, gradient in saved:
            parameter.grad = gradient
