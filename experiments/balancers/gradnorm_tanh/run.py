"""GradNorm's toy: one function family at two scales, and weights that even out the training.

    python -m experiments.balancers.gradnorm_tanh.run

``f_i(x) = s_i tanh((B + e_i) x)`` with scales s = (1, 100): the shared matrix B is what tasks have
in common, e_i is what they have not.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import Any

import torch
from experiments.common import BaseSettings, Report, experiment
from experiments.showing import COLOURS, canvas, label, shown, table
from matplotlib.figure import Figure
from torch import Tensor, nn

from polytask.balancers import Balancer, Equal, FixedWeights, GradNorm, UncertaintyWeighting
from polytask.encoders import MLP

INPUTS, OUTPUTS, WIDTH = 250, 100, 100
#: Variances of the entries of B and of e_i.
SHARED_VARIANCE, OWN_VARIANCE = 10.0, 3.5


@dataclass(frozen=True)
class Settings(BaseSettings):
    """Of the experiment.

    The paper does not say how inputs are drawn, and their spread decides what the toy asks for:
    with 1 the targets are signs of linear functions, with 0.05 the tanh is not saturated.
    """

    scales: tuple[float, ...] = (1.0, 100.0)
    test_rows: int = 1_000
    input_spreads: tuple[float, ...] = (0.05,)
    steps: int = 2_500
    batch_size: int = 100
    learning_rate: float = 2e-3
    alpha: float = 0.12
    weight_learning_rate: float = 0.025
    seeds: tuple[int, ...] = (0, 1, 2)


class Problem:
    """The functions of all tasks; rows are drawn anew whenever they are asked for."""

    def __init__(self, settings: Settings, spread: float, seed: int) -> None:
        self.generator = torch.Generator().manual_seed(seed)
        self.spread = spread
        self.scales = torch.tensor(settings.scales)
        shared = self._normal(OUTPUTS, INPUTS) * SHARED_VARIANCE**0.5
        own = self._normal(len(self.scales), OUTPUTS, INPUTS) * OWN_VARIANCE**0.5
        self.matrices = shared + own

    def draw(self, rows: int) -> tuple[Tensor, Tensor]:
        """Inputs ``[B, 250]`` and targets ``[B, T, 100]``."""
        inputs = self.spread * self._normal(rows, INPUTS)
        values = torch.einsum("tod,bd->bto", self.matrices, inputs)
        return inputs, self.scales.unsqueeze(-1) * torch.tanh(values)

    def _normal(self, *shape: int) -> Tensor:
        return torch.randn(*shape, generator=self.generator)


class Network(nn.Module):
    """Four layers of 100 units, and one linear layer per task."""

    def __init__(self, num_tasks: int) -> None:
        super().__init__()
        self.trunk = MLP(input_size=INPUTS, widths=(WIDTH,) * 4)
        self.heads = nn.ModuleList(nn.Linear(WIDTH, OUTPUTS) for _ in range(num_tasks))

    def forward(self, inputs: Tensor) -> Tensor:
        """Outputs ``[B, T, 100]``."""
        features = self.trunk(inputs)
        return torch.stack([head(features) for head in self.heads], dim=1)

    def last_shared_layer(self) -> list[nn.Parameter]:
        """Weight of the last layer of the trunk, GradNorm's W."""
        return [[p for p in self.trunk.parameters() if p.dim() == 2][-1]]


def balancers(settings: Settings) -> dict[str, Balancer]:
    """What is compared."""
    gradnorm = GradNorm(alpha=settings.alpha, learning_rate=settings.weight_learning_rate)
    # What the task-normalised loss asks for, if one knows the scales.
    known = FixedWeights(values=[scale**-2 for scale in settings.scales])
    return {
        "equal": Equal(),
        "uncertainty": UncertaintyWeighting(),
        "GradNorm": gradnorm,
        "fixed, 1 / s^2": known,
    }


def train(name: str, settings: Settings, spread: float, seed: int) -> dict[str, Any]:
    """Train one network; weights and task-normalised test losses along the way."""
    problem = Problem(settings, spread, seed)
    scales, (test_inputs, test_targets) = problem.scales, problem.draw(settings.test_rows)
    torch.manual_seed(seed)
    model, balancer = Network(len(scales)), balancers(settings)[name]
    balancer.setup(len(scales))
    optimizer = torch.optim.Adam(
        [*model.parameters(), *balancer.parameters()], lr=settings.learning_rate
    )
    curve = []
    for step in range(settings.steps):
        inputs, targets = problem.draw(settings.batch_size)
        losses = (model(inputs) - targets).square().mean((0, 2))
        optimizer.zero_grad()
        weights = balancer.backward(losses, shared=model.last_shared_layer())
        optimizer.step()
        if step % max(settings.steps // 80, 1) == 0 or step == settings.steps - 1:
            with torch.no_grad():
                errors = model(test_inputs) - test_targets
            normalised = errors.square().mean((0, 2)) / scales.square()
            curve.append([step, *(weights / weights.sum()).tolist(), *normalised.tolist()])
    count = len(scales)
    return {
        "weight_ratio": curve[-1][1] / curve[-1][2],
        "normalised_losses": curve[-1][1 + count :],
        "task_normalised_loss": statistics.fmean(curve[-1][1 + count :]),
        "mean_task_normalised_loss": statistics.fmean(
            statistics.fmean(c[1 + count :]) for c in curve
        ),
        "curve": curve,
    }


def draw(results: dict[str, dict[str, list[dict[str, Any]]]]) -> Figure:
    """Weight ratio and task-normalised loss of the first seed, a row per spread of the inputs."""
    figure, axes = canvas(len(results), 2, width=5, height=3.2)
    for row, (spread, found) in zip(axes, results.items(), strict=True):
        for number, (name, runs) in enumerate(found.items()):
            curve = torch.tensor(runs[0]["curve"])
            row[0].plot(curve[:, 0], curve[:, 1] / curve[:, 2], color=COLOURS[number], label=name)
            row[1].plot(curve[:, 0], curve[:, 3:].mean(1), color=COLOURS[number], label=name)
        row[0].set_yscale("log")
        label(row[0], f"weight ratio, input spread {spread}", "step", "w1 / w2")
        label(row[1], f"task-normalised test loss, {spread}", "step", "mean of L_i / s_i^2")
        row[0].legend(fontsize=8)
    return figure


def rows_of(spread: str, found: dict[str, list[dict[str, Any]]]) -> list[tuple[str, ...]]:
    """The table of the README; differences are taken seed by seed."""

    def values(name: str, key: str) -> list[float]:
        return [run[key] for run in found[name]]

    rows = []
    for name, runs in found.items():
        cells = []
        for key in ("task_normalised_loss", "mean_task_normalised_loss"):
            pairs = zip(values(name, key), values("equal", key), strict=True)
            gap = "-" if name == "equal" else shown([ours - equal for ours, equal in pairs], 3)
            cells += [shown(values(name, key), 3), gap]
        ratio = statistics.median(values(name, "weight_ratio"))
        tasks = [shown([run["normalised_losses"][t] for run in runs], 3) for t in range(2)]
        rows.append((spread, name, f"{ratio:.3g}", *cells, *tasks))
    return rows


def report(settings: Settings) -> Report:
    results = {
        str(spread): {
            name: [train(name, settings, spread, seed) for seed in settings.seeds]
            for name in balancers(settings)
        }
        for spread in settings.input_spreads
    }
    header = ("input spread", "method", "w1 / w2", "loss at the end", "minus equal",
              "mean over the run", "minus equal", "task 1", "task 2")  # fmt: skip
    text = table(header, [row for item in results.items() for row in rows_of(*item)])
    return Report({"results": results}, text, {"figure.png": draw(results)})


main = experiment(
    Settings, report, smoke={"steps": 8, "test_rows": 50, "seeds": (0,), "input_spreads": (0.05,)}
)


if __name__ == "__main__":
    main()
