"""Uncertainty weighting's toy: the learned weights name the noise of each output.

    python -m experiments.balancers.uncertainty_two_outputs.run

``y_1 = 2 x + 8 + 10 n`` and ``y_2 = 3 x + 3 + n`` with standard normal x and n: the noise is what
no model can predict, and ``sigma_t = exp(s_t / 2)`` should find its standard deviation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from experiments.common import BaseSettings, Report, experiment
from experiments.showing import COLOURS, canvas, label, shown, table
from matplotlib.figure import Figure
from torch import Tensor, nn

from polytask.balancers import UncertaintyWeighting

SLOPES, OFFSETS, NOISE = (2.0, 3.0), (8.0, 3.0), (10.0, 1.0)
PUBLISHED = (8.59, 0.92)


@dataclass(frozen=True)
class Settings(BaseSettings):
    """Of the experiment."""

    rows: int = 100
    hidden: int = 1024
    epochs: int = 2000
    batch_size: int = 20
    learning_rate: float = 1e-3
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)


def make_data(rows: int, seed: int) -> tuple[Tensor, Tensor]:
    """Inputs ``[N, 1]`` and targets ``[N, 2]``."""
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(rows, 1, generator=generator)
    noise = torch.tensor(NOISE) * torch.randn(rows, 2, generator=generator)
    return inputs, torch.tensor(SLOPES) * inputs + torch.tensor(OFFSETS) + noise


def train(settings: Settings, seed: int) -> dict[str, Any]:
    """Train one network; the learned noise beside what its residuals say."""
    inputs, targets = make_data(settings.rows, seed)
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(1, settings.hidden), nn.ReLU(), nn.Linear(settings.hidden, 2))
    balancer = UncertaintyWeighting(likelihoods=("gaussian", "gaussian"))
    balancer.setup(2)
    optimizer = torch.optim.Adam(
        [*model.parameters(), *balancer.parameters()], lr=settings.learning_rate
    )
    generator = torch.Generator().manual_seed(seed)
    curve = []
    for epoch in range(settings.epochs):
        order = torch.randperm(settings.rows, generator=generator)
        for batch in order.split(settings.batch_size):
            losses = (model(inputs[batch]) - targets[batch]).square().mean(0)
            optimizer.zero_grad()
            balancer.backward(losses)
            optimizer.step()
        if epoch % max(settings.epochs // 100, 1) == 0:
            curve.append([epoch, *(balancer.log_variances.detach() / 2).exp().tolist()])
    with torch.no_grad():
        residuals = (model(inputs) - targets).square().mean(0).sqrt()
    noise = targets - (torch.tensor(SLOPES) * inputs + torch.tensor(OFFSETS))
    return {
        "sigma": (balancer.log_variances.detach() / 2).exp().tolist(),
        "residuals": residuals.tolist(),
        "noise_of_the_sample": noise.square().mean(0).sqrt().tolist(),
        "curve": curve,
    }


def draw(runs: list[dict[str, Any]]) -> Figure:
    """The learned noise over the epochs."""
    figure, axes = canvas(width=5.5, height=3.8)
    ax = axes[0, 0]
    for i, run in enumerate(runs):
        curve = torch.tensor(run["curve"])
        for t in range(2):
            text = f"output {t + 1}" if i == 0 else None
            ax.plot(curve[:, 0], curve[:, 1 + t], color=COLOURS[t], lw=1, label=text)
    for t in range(2):
        ax.axhline(NOISE[t], color=COLOURS[t], ls=":", lw=1)
        ax.plot(runs[0]["curve"][-1][0], PUBLISHED[t], "k*", label="published" if t else None)
    ax.set_yscale("log")
    ax.legend(fontsize=8)
    label(ax, "learned noise; dotted: true", "epoch", "sigma")
    return figure


def report(settings: Settings) -> Report:
    runs = [train(settings, seed) for seed in settings.seeds]
    header = ("output", "true", "published", "ours", "root mean squared residual",
              "noise drawn")  # fmt: skip
    rows = [
        (t + 1, NOISE[t], PUBLISHED[t], *(shown([r[key][t] for r in runs])
         for key in ("sigma", "residuals", "noise_of_the_sample")))
        for t in range(2)
    ]  # fmt: skip
    results = {"published_sigma": PUBLISHED, "runs": runs}
    return Report(results, table(header, rows), {"figure.png": draw(runs)})


main = experiment(Settings, report, smoke={"epochs": 5, "seeds": (0,)})


if __name__ == "__main__":
    main()
