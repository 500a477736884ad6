"""Training one network with one balancer, in a plain loop without a trainer.

Shape legend: N rows, B batch, T tasks, K classes.

The step is the whole of what a balancer needs from a user's own loop: see ``train_step``.
"""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from polytask.architectures import HardSharing
from polytask.balancers import (
    MGDA,
    Balancer,
    CAGrad,
    Equal,
    GradientOptions,
    GradNorm,
    NashMTL,
    PCGrad,
    UncertaintyWeighting,
    UPGrad,
)
from polytask.encoders import MLP
from polytask.tasks import Multiclass, Regression, Task

BALANCERS: dict[str, Callable[..., Balancer]] = {
    "equal": Equal,
    "uncertainty": UncertaintyWeighting,
    "gradnorm": GradNorm,
    "mgda": MGDA,
    "pcgrad": PCGrad,
    "cagrad": CAGrad,
    "nash_mtl": NashMTL,
    "upgrad": UPGrad,
}
#: Tables by name: file in the data directory, and widths of the network's layers.
TABLES = {"sarcos": "sarcos_test/sarcos_inv_test.npz", "rf1": "mulan_mtr/rf1.npz"}
TABLE_WIDTHS = (128, 128)
#: Two 28 x 28 digits in the corners of this canvas, as in Sabour et al. and Sener & Koltun.
CANVAS = 36
DIGIT = 28


@dataclass(frozen=True)
class Job:
    """One network to train: everything that its scores depend on.

    Args:
        data: "multi_mnist" or a name of ``TABLES``.
        method: How results call it; "single" is single-task learning with ``tasks`` of length one.
        balancer: Key of ``BALANCERS``.
        options: Of ``GradientOptions``; none leaves the balancer its defaults.
        tasks: Positions of the tasks it learns.
        seed: Of initial weights, batch order, and the split of a table.
        rows: Training rows; tables take what there is.
        epochs: Passes over the training rows.
        batch_size: Rows per step, B.
        learning_rate: Of Adam; falls to 0 along a cosine.
        device: "cpu" or "cuda".
    """

    data: str
    method: str
    balancer: str
    tasks: tuple[int, ...]
    seed: int
    epochs: int
    options: Mapping[str, Any] = field(default_factory=dict)
    rows: int = 60_000
    batch_size: int = 256
    learning_rate: float = 1e-3
    device: str = "cpu"


@dataclass(frozen=True)
class Split:
    """Inputs ``[N, ...]`` and encoded targets ``[N, T]``."""

    inputs: Tensor
    targets: Tensor

    def to(self, device: str) -> Split:
        return Split(self.inputs.to(device), self.targets.to(device))


@dataclass(frozen=True)
class Data:
    """The tasks, which are all of one kind, with training and test rows."""

    tasks: tuple[Task, ...]
    train: Split
    test: Split


class LeNet(nn.Module):
    """The trunk of Sener & Koltun's Multi-MNIST: two convolutions and one layer of 50 features."""

    output_size = 50

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 10, 5)
        self.second = nn.Conv2d(10, 20, 5)
        self.dense = nn.Linear(20 * 4 * 4, self.output_size)

    def forward(self, images: Tensor) -> Tensor:
        """Features ``[B, 50]`` of images ``[B, 1, 28, 28]``."""
        maps = functional.max_pool2d(self.first(images), 2).relu()
        maps = functional.max_pool2d(self.second(maps), 2).relu()
        return self.dense(maps.flatten(1)).relu()


@functools.lru_cache(maxsize=2)
def multi_mnist(folder: Path, rows: int, device: str) -> Data:
    """Pairs of digits: the task "left" names the upper left one, "right" the lower right one.

    Pairs are drawn with a fixed seed from the official training and test digits, apart; of test
    pairs there are as many, but at most 10,000.
    """
    with np.load(folder / "mnist" / "mnist.npz") as archive:
        parts = [
            compose_pairs(archive[f"{part}_X"], archive[f"{part}_y"], rows=count, seed=number)
            for number, (part, count) in enumerate((("train", rows), ("test", min(rows, 10_000))))
        ]
    tasks = tuple(Task(name, Multiclass(num_classes=10)) for name in ("left", "right"))
    return Data(tasks, parts[0].to(device), parts[1].to(device))


def compose_pairs(digits: np.ndarray, labels: np.ndarray, *, rows: int, seed: int) -> Split:
    """Pairs of digits as images ``[N, 1, 28, 28]`` in [0, 1].

    The two digits are laid over each other in opposite corners of a 36 x 36 canvas (the brighter
    pixel wins), which is then shrunk to the size of one digit.

    Args:
        digits: ``[M, 28, 28]``, uint8.
        labels: ``[M]``.
        rows: N; the first N digits are the left ones, as far as there are so many.
        seed: Of the right digits.
    """
    generator = np.random.default_rng(seed)
    left = np.arange(rows) % len(digits)
    right = generator.integers(len(digits), size=rows)
    images = torch.empty(rows, 1, DIGIT, DIGIT)
    for part in torch.arange(rows).split(5_000):
        canvas = torch.zeros(2, len(part), CANVAS, CANVAS)
        canvas[0, :, :DIGIT, :DIGIT] = torch.from_numpy(digits[left[part]]) / 255
        canvas[1, :, -DIGIT:, -DIGIT:] = torch.from_numpy(digits[right[part]]) / 255
        images[part] = functional.interpolate(
            canvas.amax(0).unsqueeze(1), size=(DIGIT, DIGIT), mode="bilinear", antialias=True
        )
    targets = np.stack([labels[left], labels[right]], axis=1).astype(np.int64)
    return Split(images, torch.from_numpy(targets))


def load_table(name: str, folder: Path, seed: int) -> Data:
    """A table with several numeric targets, split 80 : 20 by the seed and scaled by its training
    rows; missing cells become the column's mean.
    """
    with np.load(folder / TABLES[name]) as archive:
        inputs, targets = archive["X"].astype(np.float64), archive["Y"].astype(np.float64)
    order = np.random.default_rng(seed).permutation(len(inputs))
    border = round(0.8 * len(inputs))
    train, test = order[:border], order[border:]
    spread = np.nanstd(inputs[train], axis=0)
    inputs = (inputs - np.nanmean(inputs[train], axis=0)) / np.where(spread > 0, spread, 1)
    inputs = np.nan_to_num(inputs, nan=0.0)
    targets = (targets - targets[train].mean(0)) / targets[train].std(0)

    def split(rows: np.ndarray) -> Split:
        return Split(
            torch.from_numpy(inputs[rows]).float(), torch.from_numpy(targets[rows]).float()
        )

    tasks = tuple(Task(f"target_{t}", Regression()) for t in range(targets.shape[1]))
    return Data(tasks, split(train), split(test))


def load(job: Job, folder: Path) -> Data:
    """The data of a job, with the tasks it learns."""
    if job.data == "multi_mnist":
        data = multi_mnist(folder, job.rows, job.device)
    else:
        data = load_table(job.data, folder, job.seed)
    chosen = list(job.tasks)

    def keep(split: Split) -> Split:
        return Split(split.inputs, split.targets[:, chosen])

    return Data(tuple(data.tasks[t] for t in chosen), keep(data.train), keep(data.test))


def make_model(job: Job, data: Data) -> HardSharing:
    """One trunk for all tasks of the job; one head each, with a hidden layer for digits."""
    if job.data == "multi_mnist":
        return HardSharing(encoder=LeNet(), tasks=data.tasks, head="mlp", hidden=(50,))
    encoder = MLP(input_size=data.train.inputs.shape[1], widths=TABLE_WIDTHS)
    return HardSharing(encoder=encoder, tasks=data.tasks)


def task_losses(model: HardSharing, features: Tensor, targets: Tensor) -> Tensor:
    """Losses ``[T]`` of tasks of one kind: all columns at once."""
    names = tuple(task.name for task in model.tasks)
    outputs = model.heads(features).block(names)
    return model.tasks[0].kind.loss(outputs, targets).mean(0)


def train_step(
    model: HardSharing,
    balancer: Balancer,
    optimizer: torch.optim.Optimizer,
    inputs: Tensor,
    targets: Tensor,
) -> Tensor:
    """One step with any balancer; returns the losses ``[T]``.

    ``shared`` are the parameters that task gradients are taken of, ``features`` what the heads
    start from, and ``partial_losses`` gives the losses of a part of the batch: a balancer uses what
    its scope and samples ask for.
    """

    def partial_losses(fraction: float) -> Tensor:
        rows = math.ceil(fraction * len(inputs))
        return task_losses(model, model.features(inputs[:rows]), targets[:rows])

    optimizer.zero_grad()
    features = model.features(inputs)
    losses = task_losses(model, features, targets)
    last = balancer.scope == "last"
    shared = model.last_shared_parameters() if last else model.shared_parameters()
    balancer.backward(losses, shared=shared, features=features, partial_losses=partial_losses)
    optimizer.step()
    return losses.detach()


def train(job: Job, folder: Path) -> dict[str, Any]:
    """Train a network; its score per task on the test rows, and the time that a step took.

    Scores are the error rate of classes and the root mean squared error of standardised targets:
    lower is better. Nothing is selected, so the test rows are read once, at the end.
    """
    torch.set_num_threads(1)
    data = load(job, folder)
    torch.manual_seed(job.seed)
    model = make_model(job, data).to(job.device)
    chosen = {"gradients": GradientOptions(**job.options)} if job.options else {}
    balancer = BALANCERS[job.balancer](**chosen)
    kinds = [task.kind for task in data.tasks]
    balancer.setup(len(data.tasks), kinds=kinds, device=torch.device(job.device))
    parameters = [*model.parameters(), *balancer.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=job.learning_rate)
    rows = len(data.train.inputs)
    total = job.epochs * (rows // job.batch_size)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=total)
    generator = torch.Generator().manual_seed(job.seed)

    step, processor, wall = 0, time.process_time(), time.perf_counter()
    for _ in range(job.epochs):
        order = torch.randperm(rows, generator=generator).to(job.device)
        for batch in order[: rows - rows % job.batch_size].split(job.batch_size):
            inputs, targets = data.train.inputs[batch], data.train.targets[batch]
            losses = train_step(model, balancer, optimizer, inputs, targets)
            schedule.step()
            step += 1
    final = losses.tolist()  # waits for the device
    processor, wall = time.process_time() - processor, time.perf_counter() - wall
    if not np.isfinite(final).all():
        raise ValueError(f"The losses of {job} are not finite: {final}; lower the learning rate.")
    return {
        "steps": step,
        "final_losses": final,
        "scores": test_scores(model, data),
        "processor_ms_per_step": 1e3 * processor / step,
        "wall_ms_per_step": 1e3 * wall / step,
    }


@torch.no_grad()
def test_scores(model: HardSharing, data: Data) -> list[float]:
    """Error rate or root mean squared error of each task."""
    names = tuple(task.name for task in model.tasks)
    errors = []
    for inputs, targets in zip(
        data.test.inputs.split(2_000), data.test.targets.split(2_000), strict=True
    ):
        kind = model.tasks[0].kind
        found = kind.predict(model(inputs).block(names))
        if isinstance(kind, Multiclass):
            errors.append((found != targets).double())
        else:
            errors.append((found - targets).double().square())
    mean = torch.cat(errors).mean(0)
    return (mean if isinstance(kind, Multiclass) else mean.sqrt()).tolist()
