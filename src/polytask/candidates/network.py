"""Neural networks as a method: an architecture, a balancer and training settings."""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from polytask import architectures, balancers
from polytask.architectures import Architecture
from polytask.balancers import Balancer, Equal
from polytask.candidates.method import (
    ArchitectureFactory,
    Budget,
    FitRecord,
    FittedModel,
    fit_record_from,
)
from polytask.candidates.naming import (
    SHARED,
    Named,
    NamedMethod,
    exported,
    plain_name,
    short_name,
    shown_names,
    usual,
)
from polytask.candidates.records import describe_callable, from_record, to_record
from polytask.config import config, rebuildable_repr
from polytask.files import write_atomically
from polytask.problems.problem import Problem
from polytask.problems.splits import AnySplit
from polytask.training import (
    Checkpoints,
    GradientCosines,
    Observer,
    Trainer,
    TrainingResult,
    TrainingSettings,
    TrainingStart,
    predict_outputs,
)

__all__ = [
    "ArchitectureFactory",
    "FittedNetwork",
    "NetworkMethod",
    "architecture_by_name",
    "fit_one",
    "fit_record",
    "within_budget",
]

#: Name of the candidate that every gain is relative to.
BASELINE = "single-task"
#: What stands before the names of candidates that are another architecture.
MODEL = "model:"
WEIGHTS_FILE = "model.safetensors"
#: Looks at the gradients per training: enough for a mean, cheap beside the training itself.
COSINE_LOOKS = 20


class NetworkMethod(NamedMethod):
    """Trains one network on all tasks of a group.

    With a single task there is nothing to balance: the balancer is left out, so that the
    single-task network is the same run whatever it is compared with.

    Args:
        balancer: How to weigh the tasks; None means equal weights.
        architecture: From a problem to a fresh model; None means ``default_architecture``.
        settings: Training settings; None means those of ``TrainingSettings.for_problem``; epochs,
            patience, time limit and seed come from the budget and the run.
        cosines: Whether to record the cosines between the tasks' gradients of joint networks.
    """

    def __init__(
        self,
        *,
        balancer: Balancer | None = None,
        architecture: ArchitectureFactory | None = None,
        settings: TrainingSettings | None = None,
        cosines: bool = True,
    ) -> None:
        self.balancer = balancer
        self.architecture = architecture
        self.settings = settings
        self.cosines = cosines

    def __repr__(self) -> str:
        return rebuildable_repr(self)

    @classmethod
    def named(cls, name: str, architecture: ArchitectureFactory | None) -> Named | None:
        """Single-task networks ("single-task"); a balancer ("pcgrad", "PCGrad", "shared: pcgrad");
        or an architecture that makes itself for a problem ("gated", "model: gated") and takes the
        place of ``architecture``.
        """
        word = plain_name(name.removeprefix(SHARED))
        if word in (plain_name(BASELINE), "single", "stl"):
            return BASELINE, cls(architecture=architecture), "single"
        balancer = exported(balancers, Balancer).get(word)
        if balancer is not None:
            made = usual(balancer, f"NetworkMethod(balancer={balancer.__name__}(...))")
            method = cls(balancer=made, architecture=architecture)
            return f"{SHARED} {short_name(balancer)}", method, None
        model = _architectures().get(plain_name(name.removeprefix(MODEL)))
        if model is not None:
            return f"{MODEL} {short_name(model)}", cls(architecture=model.for_problem), None
        return None

    @classmethod
    def names(cls) -> Sequence[str]:
        return [
            BASELINE,
            *shown_names(exported(balancers, Balancer)),
            *shown_names(_architectures()),
        ]

    def config(self, num_tasks: int) -> dict[str, Any]:
        balancer = self.balancer if self.balancer is not None else Equal()
        return {
            "method": "network",
            "balancer": config(balancer) if num_tasks > 1 else None,
            "architecture": describe_callable(self.architecture),
            "settings": config(self.settings),
        }

    def why_not(self, problem: Problem) -> str | None:
        """None: networks take every problem; an architecture that does not fit says so itself."""
        del problem
        return None

    def fit(
        self, problem: Problem, *, seed: int, budget: Budget, rate: float = 1.0
    ) -> FittedNetwork:
        base = self.settings or TrainingSettings.for_problem(problem)
        settings = within_budget(base, seed, budget, rate)
        observers = []
        if self.cosines and len(problem.tasks) > 1:
            observers.append(_SpreadCosines())
        method = self
        if len(problem.tasks) == 1 and self.balancer is not None:
            method = copy.copy(self)
            method.balancer = None
        fitted, result = fit_one(problem, method, settings, observers=observers)
        if result.stopped_by == "interrupt":
            # The trainer keeps the best model for whoever called it; here the whole sweep is to
            # stop.
            raise KeyboardInterrupt
        if observers:
            cosines = _matrix(observers[0].mean)
            fitted.record = dataclasses.replace(fitted.record, cosines=cosines)
        return fitted

    def build(self, problem: Problem) -> Architecture:
        """A fresh model for the tasks of a problem."""
        if self.architecture is not None:
            return self.architecture(problem)
        from polytask.architectures import default_architecture

        return default_architecture(problem)


def architecture_by_name(name: str) -> ArchitectureFactory:
    """From a problem to a fresh model, for the name of an architecture in any spelling.

    Raises:
        ValueError: There is no such architecture, or it cannot make itself for a problem.
    """
    known = _architectures()
    word = plain_name(name.removeprefix(MODEL))
    if word not in known:
        names = ", ".join(shown_names(known))
        raise ValueError(f"No architecture {name!r}; choose from {names}.")
    return known[word].for_problem


def _architectures() -> dict[str, type[Architecture]]:
    """Every architecture that makes itself for a problem."""
    known = exported(architectures, Architecture)
    return {name: kind for name, kind in known.items() if "for_problem" in vars(kind)}


class _SpreadCosines(GradientCosines):
    """Looks at about ``COSINE_LOOKS`` steps spread evenly over the longest possible training."""

    def on_start(self, start: TrainingStart) -> None:
        super().on_start(start)
        self.every = max(1, start.steps_per_epoch * start.epochs // COSINE_LOOKS)


class FittedNetwork(FittedModel):
    """A trained network.

    Args:
        architecture: With the best epoch's parameters, on the CPU.
        record: How the training went.
    """

    saved_as: ClassVar[str] = "network"

    def __init__(self, architecture: Architecture, record: FitRecord) -> None:
        super().__init__(record)
        self.architecture = architecture

    @property
    def num_parameters(self) -> int:
        """Trainable numbers."""
        return sum(p.numel() for p in self.architecture.parameters() if p.requires_grad)

    def outputs(self, split: AnySplit) -> Mapping[str, Tensor]:
        return predict_outputs(self.architecture, split)

    def save(self, folder: Path) -> None:
        """Write the architecture's description and its parameters.

        Raises:
            ValueError: The architecture is not made of Polytask's public classes.
        """
        architecture = to_record(self.architecture)
        folder.mkdir(parents=True, exist_ok=True)
        state = {
            name: tensor.contiguous() for name, tensor in self.architecture.state_dict().items()
        }
        write_atomically(folder / WEIGHTS_FILE, lambda path: save_file(state, path))
        self.write_record(folder, architecture=architecture)

    @classmethod
    def load(cls, folder: Path, record: Mapping[str, Any]) -> FittedNetwork:
        architecture = from_record(record["architecture"])
        if not isinstance(architecture, Architecture):
            raise ValueError(f"{folder} describes no architecture; the file is damaged.")
        architecture.load_state_dict(load_file(folder / WEIGHTS_FILE))
        return cls(architecture.eval(), fit_record_from(record["fit"]))


def fit_one(
    problem: Problem,
    method: NetworkMethod,
    settings: TrainingSettings,
    *,
    observers: Sequence[Observer] = (),
    checkpoints: Checkpoints | None = None,
    resume: bool = False,
) -> tuple[FittedNetwork, TrainingResult]:
    """Train one fresh network; the one place where a candidate's network is seeded and trained.

    Args:
        problem: Its tasks.
        method: Says the architecture and the balancer, of which a copy is used.
        settings: Of the training; its seed is that of the parameters, too. They replace those of
            the method.
        observers: Told about the training.
        checkpoints: Where the training is kept.
        resume: Whether to go on from the newest checkpoint.

    Returns:
        The network with the best epoch's parameters, on the CPU, and how the training ended; after
        Ctrl-C as well.
    """
    device = settings.resolved_device()
    # Outside the run's own process (a notebook) the user's random state stays as it was.
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(settings.seed)
        trainer = Trainer(
            problem,
            method.build(problem),
            balancer=Equal() if method.balancer is None else copy.deepcopy(method.balancer),
            settings=settings,
            observers=observers,
            checkpoints=checkpoints,
        )
        result = trainer.fit(resume=resume)
    record = fit_record(result, settings, str(device))
    return FittedNetwork(trainer.architecture.cpu(), record), result


def within_budget(
    base: TrainingSettings, seed: int, budget: Budget, rate: float
) -> TrainingSettings:
    """Training settings with what the budget and the run decide."""
    return dataclasses.replace(
        base,
        epochs=budget.epochs,
        patience=budget.patience,
        time_limit=budget.trial_seconds,
        learning_rate=base.learning_rate * rate,
        seed=seed,
    )


def fit_record(
    result: TrainingResult,
    settings: TrainingSettings,
    device: str,
) -> FitRecord:
    """What a training says, as a ``FitRecord``."""
    history = result.history
    tasks = list(history[0].train_losses) if history else []
    validated = [report for report in history if report.validation_losses]
    curves = {
        "epoch": [report.epoch for report in history],
        "train_loss": {t: [_plain(r.train_losses.get(t)) for r in history] for t in tasks},
        "weight": {t: [_plain(r.weights.get(t)) for r in history] for t in tasks},
        "validation_epoch": [report.epoch for report in validated],
        "validation_loss": {
            t: [_plain(r.validation_losses.get(t)) for r in validated] for t in tasks
        },
        "best_epoch": result.best_epoch,
    }
    notes = (
        ()
        if result.reproducible
        else (f"training was ended by the {result.stopped_by}: not repeatable to the bit",)
    )
    return FitRecord(
        seconds=result.seconds,
        steps=result.steps,
        epochs=len(history),
        learning_rate=settings.learning_rate,
        stopped_by=result.stopped_by,
        device=device,
        curves=curves,
        notes=notes,
    )


def _plain(value: float | None) -> float | None:
    """Five significant digits for a curve; None for what JSON cannot hold."""
    return None if value is None or not math.isfinite(value) else float(f"{value:.5g}")


def _matrix(mean: Tensor | None) -> list[list[float | None]] | None:
    return None if mean is None else [[_plain(value) for value in row] for row in mean.tolist()]
