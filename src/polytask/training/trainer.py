"""The trainer: epochs, validation, early stopping, schedules and checkpoints around the training
step.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

from polytask.architectures.base import Architecture
from polytask.balancers import Equal
from polytask.balancers.base import Balancer
from polytask.problems.batch import Batch
from polytask.problems.loaders import BatchLoader
from polytask.problems.problem import Problem
from polytask.samplers import AllTasks, Sampler
from polytask.training.checkpoint import Checkpoints, random_state, restore_random_state
from polytask.training.observers import GradientObserver, Observer
from polytask.training.prediction import rows_for, validation_losses
from polytask.training.reports import (
    EpochReport,
    StepReport,
    StopReason,
    TrainingResult,
    TrainingStart,
)
from polytask.training.settings import TrainingSettings
from polytask.training.step import TrainingStep

__all__ = ["Trainer"]

OptimizerFactory = Callable[[list[dict[str, Any]]], Optimizer]

#: Validation after every epoch would cost more than training where an epoch is a step or two.
_MIN_STEPS_BETWEEN_VALIDATIONS = 8


class Trainer:
    """Trains an architecture on a problem with a balancer; deterministic by seed, resumable to the
    bit.

    Early stopping looks at the validation rows only: per task the root of the validation loss
    relative to that of the untrained model, where a task that has become worse than untrained
    counts as untrained (so that one task that overfits cannot end the training of the others); the
    mean over tasks must fall. The best epoch's parameters are kept.

    Args:
        problem: Tasks and rows.
        architecture: The model; trained in place.
        balancer: How to weigh the tasks; equal weights by default.
        sampler: Which tasks take part in a step; all by default.
        settings: Everything else.
        optimizer: From parameter groups to an optimiser; AdamW with the settings' rates by default.
        observers: Told about every step and epoch.
        checkpoints: Where to save the state, if at all.

    Example:
        >>> import torch
        >>> from polytask import HardSharing, MLP, Problem, Regression, Trainer, TrainingSettings
        >>> kinds = {"sum": Regression(), "first": Regression()}
        >>> x = torch.randn(200, 4, generator=torch.Generator().manual_seed(0))
        >>> problem = Problem.from_arrays(x, {"sum": x.sum(1), "first": x[:, 0]}, kinds)
        >>> model = HardSharing(encoder=MLP(input_size=4, widths=(32,)), tasks=problem.tasks)
        >>> result = Trainer(problem, model, settings=TrainingSettings(epochs=5)).fit()
        >>> result.stopped_by
        'epochs'
    """

    def __init__(
        self,
        problem: Problem,
        architecture: Architecture,
        *,
        balancer: Balancer | None = None,
        sampler: Sampler | None = None,
        settings: TrainingSettings | None = None,
        optimizer: OptimizerFactory | None = None,
        observers: Sequence[Observer] = (),
        checkpoints: Checkpoints | None = None,
    ) -> None:
        self.settings = settings or TrainingSettings()
        self.device = self.settings.resolved_device()
        names = [task.name for task in problem.tasks]
        if [task.name for task in architecture.tasks] != names:
            raise ValueError(
                f"The architecture has tasks {[t.name for t in architecture.tasks]} but the "
                f"problem has {names}."
            )
        self.problem = problem.to(self.device)
        self.architecture = architecture.to(self.device)
        self.balancer = balancer if balancer is not None else Equal()
        self.balancer.setup(len(names), kinds=[t.kind for t in problem.tasks], device=self.device)
        self.sampler = sampler if sampler is not None else AllTasks()
        self.observers = tuple(observers)
        self.checkpoints = checkpoints
        self._validation = rows_for(architecture, self.problem.validation)
        self.loader = BatchLoader(
            rows_for(architecture, self.problem.train),
            batch_size=self.settings.batch_size_for(len(problem.train)),
            seed=self.settings.seed,
        )
        self.optimizer = (optimizer or self._adamw)(
            parameter_groups(architecture, self.balancer, self.settings)
        )
        self.step = TrainingStep(
            architecture,
            self.balancer,
            self.optimizer,
            clip_norm=self.settings.clip_norm,
            autocast=self.settings.autocast_dtype(self.device),
        )
        self._base_rates = [group["lr"] for group in self.optimizer.param_groups]
        self._progress = _Progress()

    @property
    def steps_per_epoch(self) -> int:
        """Optimiser steps in one pass over the (largest task's) training rows."""
        batches = self.settings.accumulate * self.balancer.batches_per_step
        return max(1, math.ceil(self.loader.steps_per_epoch / batches))

    @property
    def epoch(self) -> int:
        """Epochs done so far."""
        return self._progress.epoch

    def start(self) -> TrainingStart:
        """What observers are told before the first step."""
        return TrainingStart(
            problem=self.problem,
            architecture=self.architecture,
            device=self.device,
            epochs=self.settings.epochs,
            steps_per_epoch=self.steps_per_epoch,
            epoch=self.epoch,
        )

    def fit(self, *, resume: bool = False) -> TrainingResult:
        """Train until the epochs, the patience or the time limit are used up, and keep the best
        epoch's parameters.

        Ctrl-C ends training early with the best parameters so far (``stopped_by == "interrupt"``).

        Args:
            resume: Continue from the newest whole checkpoint, if there is one; the result equals an
                uninterrupted run.

        Raises:
            NonFiniteLossError: A task's loss became NaN or infinite.
            ValueError: ``resume`` without ``checkpoints``.
        """
        if resume and self.checkpoints is None:
            raise ValueError("`resume=True` needs `checkpoints=Checkpoints(folder)`.")
        torch.manual_seed(self.settings.seed)
        state = self.checkpoints.load_newest() if resume and self.checkpoints is not None else None
        if state is not None:
            self.load_state_dict(state)
        else:
            self._progress.reference = validation_losses(
                self.architecture, self._validation, self.step.autocast
            )
        start = self.start()
        for observer in self.observers:
            observer.on_start(start)
        try:
            stopped_by = self._run_epochs()
        except KeyboardInterrupt:
            stopped_by = "interrupt"
        if self._progress.best_state is not None:
            self.architecture.load_state_dict(self._progress.best_state)
        result = TrainingResult(
            history=tuple(self._progress.history),
            best_epoch=self._progress.best_epoch,
            steps=self._progress.step,
            seconds=self._progress.seconds,
            stopped_by=stopped_by,
        )
        for observer in self.observers:
            observer.on_end(result)
        return result

    def _run_epochs(self) -> StopReason:
        progress, settings = self._progress, self.settings
        while progress.epoch < settings.epochs:
            if self._out_of_patience():
                return "patience"
            started = time.monotonic()
            in_time = self._run_steps(started)
            if in_time or progress.history == []:
                self._finish_epoch(started)
            else:
                progress.seconds += time.monotonic() - started
            if not in_time:
                return "time limit"
            if self.checkpoints is not None and progress.epoch % self.checkpoints.every_epochs == 0:
                self.checkpoints.save(progress.step, self.state_dict())
        return "patience" if self._out_of_patience() else "epochs"

    def _run_steps(self, started: float) -> bool:
        """The rest of an epoch's steps; False if the time limit ended them."""
        progress, limit = self._progress, self.settings.time_limit
        self.architecture.train()
        every = self.checkpoints.every_steps if self.checkpoints is not None else None
        while progress.step < (progress.epoch + 1) * self.steps_per_epoch:
            self.train_step()
            elapsed = progress.seconds + time.monotonic() - started
            if every is not None and progress.step % every == 0:
                assert self.checkpoints is not None
                self.checkpoints.save(progress.step, {**self.state_dict(), "seconds": elapsed})
            if limit is not None and elapsed > limit:
                return False
        return True

    def train_step(self) -> StepReport:
        """The next optimiser step: draw, look, update, tell the observers; ``fit`` repeats it."""
        progress = self._progress
        self._set_learning_rate()
        batches = self._draw()
        for observer in self.observers:
            if isinstance(observer, GradientObserver) and observer.due(progress.step + 1):
                rate = float(self.optimizer.param_groups[0]["lr"])
                observer.before_update(self.architecture, self.step.losses, batches[0], rate)
        report = self.step(batches, step=progress.step + 1, epoch=progress.epoch + 1)
        progress.step += 1
        progress.add(report, self.step.positions)
        for observer in self.observers:
            observer.on_step(report)
        return report

    def _draw(self) -> list[Batch]:
        count = (
            self.settings.accumulate
            if self.balancer.batches_per_step == 1
            else self.balancer.batches_per_step
        )
        return [self.loader.draw(self.sampler.draw(self.problem)) for _ in range(count)]

    def _finish_epoch(self, started: float) -> None:
        progress = self._progress
        progress.epoch += 1
        names = [task.name for task in self.problem.tasks]
        train_losses, weights = progress.epoch_means(names)
        gap = math.ceil(_MIN_STEPS_BETWEEN_VALIDATIONS / self.steps_per_epoch)
        validates = (
            progress.epoch % gap == 0
            or progress.epoch == self.settings.epochs
            or not progress.history
        )
        found = (
            validation_losses(self.architecture, self._validation, self.step.autocast)
            if validates
            else {}
        )
        criterion = relative_loss(found, progress.reference) if validates else None
        best = criterion is not None and criterion < progress.best_criterion
        if best:
            assert criterion is not None
            progress.best_criterion, progress.best_epoch = criterion, progress.epoch
            progress.best_state = {
                k: v.detach().clone() for k, v in self.architecture.state_dict().items()
            }
        if self.balancer.uses_epoch_means or self.balancer.uses_scores:
            self._tell_balancer(names, train_losses, found)
        progress.seconds += time.monotonic() - started
        report = EpochReport(
            epoch=progress.epoch,
            step=progress.step,
            train_losses=train_losses,
            weights=weights,
            validation_losses=found,
            criterion=criterion,
            best=best,
            learning_rate=float(self.optimizer.param_groups[0]["lr"]),
            seconds=progress.seconds,
        )
        progress.history.append(report)
        for observer in self.observers:
            observer.on_epoch(report)

    def _tell_balancer(
        self, names: list[str], train: dict[str, float], validation: dict[str, float]
    ) -> None:
        means = torch.tensor([train.get(n, math.nan) for n in names], device=self.device)
        scores = None
        if self.balancer.uses_scores and validation:
            reference = self._progress.reference
            skill = [1 - validation[n] / reference[n] if reference[n] > 0 else 0.0 for n in names]
            scores = torch.tensor(skill, device=self.device).clamp(0, 1)
        self.balancer.end_epoch(means, scores)

    def _out_of_patience(self) -> bool:
        progress, patience = self._progress, self.settings.patience
        return (
            patience is not None
            and bool(progress.history)
            and progress.epoch - progress.best_epoch >= patience
        )

    def _set_learning_rate(self) -> None:
        settings, step = self.settings, self._progress.step
        factor = min(1.0, (step + 1) / settings.warmup_steps) if settings.warmup_steps else 1.0
        if settings.schedule == "cosine":
            total = settings.epochs * self.steps_per_epoch
            factor *= 0.5 * (1 + math.cos(math.pi * min(1.0, step / total)))
        for group, rate in zip(self.optimizer.param_groups, self._base_rates, strict=True):
            group["lr"] = rate * factor

    def _adamw(self, groups: list[dict[str, Any]]) -> Optimizer:
        fused = (
            all(p.is_floating_point() for group in groups for p in group["params"])
            and self.device.type != "mps"
        )
        return AdamW(groups, lr=self.settings.learning_rate, fused=fused)

    def state_dict(self) -> dict[str, Any]:
        """Everything that training depends on, random generators included."""
        return {
            "architecture": dict(self.architecture.state_dict()),
            "balancer": dict(self.balancer.state_dict()),
            "optimizer": self.optimizer.state_dict(),
            "loader": self.loader.state_dict(),
            "sampler": self.sampler.state_dict(),
            "observers": [observer.state_dict() for observer in self.observers],
            "random": random_state(),
            **self._progress.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from ``state_dict``."""
        self.architecture.load_state_dict(state["architecture"])
        self.balancer.load_state_dict(state["balancer"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.loader.load_state_dict(state["loader"])
        self.sampler.load_state_dict(state["sampler"])
        for observer, saved in zip(self.observers, state["observers"], strict=True):
            observer.load_state_dict(saved)
        self._progress.load_state_dict(state, self.device)
        restore_random_state(state["random"])


class _Progress:
    """Where training stands: counters, the best parameters so far, and the running means of the
    epoch.
    """

    def __init__(self) -> None:
        self.step = 0
        self.epoch = 0
        self.seconds = 0.0
        self.history: list[EpochReport] = []
        self.reference: dict[str, float] = {}
        self.best_epoch = 0
        self.best_criterion = math.inf
        self.best_state: dict[str, Tensor] | None = None
        self._sums: Tensor | None = None

    def add(self, report: StepReport, positions: dict[str, int]) -> None:
        """Add a step's losses and weights to the epoch's sums ``[3, T]`` (losses, weights,
        steps).
        """
        if self._sums is None:
            self._sums = torch.zeros(
                3, len(positions), dtype=torch.float64, device=report.losses.device
            )
        values = torch.stack(
            [report.losses, report.weights.to(report.losses), torch.ones_like(report.losses)]
        )
        if len(report.tasks) == len(positions):
            self._sums += values
        else:
            places = [positions[name] for name in report.tasks]
            index = torch.tensor(places, dtype=torch.long, device=values.device)
            self._sums.index_add_(1, index, values.double())

    def epoch_means(self, names: list[str]) -> tuple[dict[str, float], dict[str, float]]:
        """Mean losses and weights of the epoch's steps per task; starts the next epoch's sums."""
        if self._sums is None:
            return {}, {}
        losses, weights, counts = self._sums.tolist()
        self._sums = None
        seen = [i for i, count in enumerate(counts) if count]
        return (
            {names[i]: losses[i] / counts[i] for i in seen},
            {names[i]: weights[i] / counts[i] for i in seen},
        )

    def state_dict(self) -> dict[str, Any]:
        return {
            "step": self.step,
            "epoch": self.epoch,
            "seconds": self.seconds,
            "history": [dataclasses.asdict(report) for report in self.history],
            "reference": self.reference,
            "best_epoch": self.best_epoch,
            "best_criterion": self.best_criterion,
            "best_state": self.best_state,
            "sums": self._sums,
        }

    def load_state_dict(self, state: dict[str, Any], device: torch.device) -> None:
        self.step, self.epoch, self.seconds = state["step"], state["epoch"], state["seconds"]
        self.history = [EpochReport(**record) for record in state["history"]]
        self.reference = state["reference"]
        self.best_epoch, self.best_criterion = state["best_epoch"], state["best_criterion"]
        best = state["best_state"]
        self.best_state = None if best is None else {k: v.to(device) for k, v in best.items()}
        self._sums = None if state["sums"] is None else state["sums"].to(device)


def relative_loss(losses: dict[str, float], reference: dict[str, float]) -> float:
    """Mean over tasks of the root of the validation loss relative to the untrained model's, each at
    most 1.

    The root makes it the relative root mean squared error for squared errors: with the loss itself
    a task that is learned to a few per cent would hardly count beside one that stays at a half.
    NaN counts as untrained; a task whose untrained loss is 0 counts as 1 unless its loss stays 0.
    """
    ratios = []
    for name, loss in losses.items():
        base = reference[name]
        ratio = loss / base if base > 0 else float(loss > 0)
        ratios.append(math.sqrt(min(ratio, 1.0)) if math.isfinite(ratio) else 1.0)
    return sum(ratios) / len(ratios)


def parameter_groups(
    architecture: nn.Module, balancer: nn.Module, settings: TrainingSettings
) -> list[dict[str, Any]]:
    """Trainable parameters: matrices with weight decay; biases, norms and learned task weights
    without.
    """
    decayed: list[nn.Parameter] = []
    plain: list[nn.Parameter] = []
    for name, parameter in architecture.named_parameters():
        if parameter.requires_grad:
            undecayed = parameter.dim() < 2 or "bias" in name
            (plain if undecayed else decayed).append(parameter)
    plain.extend(p for p in balancer.parameters() if p.requires_grad)
    groups = [
        {"params": decayed, "lr": settings.learning_rate, "weight_decay": settings.weight_decay},
        {"params": plain, "lr": settings.learning_rate, "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    if not groups:
        raise ValueError("The architecture has no trainable parameter.")
    return groups
