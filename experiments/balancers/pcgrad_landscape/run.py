"""PCGrad's two-dimensional landscape: plain descent stalls in a valley, PCGrad gets out of it.

    python -m experiments.balancers.pcgrad_landscape.run

Shape legend: S starts, T = 2 losses, P = 2 coordinates.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from experiments.common import BaseSettings, Report, experiment
from experiments.showing import COLOURS, canvas, label, table
from matplotlib.figure import Figure
from torch import Tensor

from polytask.balancers import (
    IMTLG,
    MGDA,
    AlignedMTL,
    CAGrad,
    ConFIG,
    DualProj,
    Equal,
    FairGrad,
    FixedWeights,
    GradDrop,
    GradVac,
    HighestLoss,
    NashMTL,
    PCGrad,
    RandomLossWeighting,
    UPGrad,
)

START = (0.5, -3.0)
#: Arguments of the two logarithms below which a point counts as being at the bottom.
NEAR = 0.1

Rule = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Settings(BaseSettings):
    """Of the experiment."""

    steps: int = 6000
    learning_rate: float = 0.05
    starts: int = 8
    spread: float = 0.05
    seed: int = 0


def arguments(points: Tensor) -> Tensor:
    """What the logarithms are taken of ``[S, T]``: both are 0 only at x = -2, y = infinity."""
    x, y = points.unbind(-1)
    return torch.stack([0.5 * x + torch.tanh(y), 0.5 * x - torch.tanh(y) + 2], dim=-1)


def losses_of(points: Tensor) -> Tensor:
    """Losses ``[S, T]``."""
    scales = torch.tensor([20.0, 25.0], dtype=points.dtype)
    return scales * arguments(points).abs().clamp_min(5e-6).log()


def rules(seed: int) -> dict[str, Rule]:
    """Directions ``[S, P]`` from Jacobians ``[S, T, P]`` and losses ``[S, T]``, for every method
    without state that is defined for losses of any sign.
    """
    from_gradients = (
        PCGrad(seed=seed), GradVac(seed=seed), MGDA(), CAGrad(), NashMTL(), FairGrad(), IMTLG(),
        AlignedMTL(), UPGrad(), DualProj(), ConFIG(), GradDrop(seed=seed),
    )  # fmt: skip
    from_losses = (Equal(), HighestLoss(), RandomLossWeighting(seed=seed))

    def weighted(balancer: Any) -> Rule:
        return lambda jacobian, losses: torch.einsum(
            "st,stp->sp", balancer.weights(losses), jacobian
        )

    def combined(balancer: Any) -> Rule:
        return lambda jacobian, losses: balancer.combine(jacobian, losses)

    found = {type(balancer).__name__: weighted(balancer) for balancer in from_losses}
    found["first loss only"] = weighted(FixedWeights(values=(1.0, 0.0)))
    return found | {type(balancer).__name__: combined(balancer) for balancer in from_gradients}


def descend(rule: Rule, settings: Settings) -> dict[str, Any]:
    """Adam from all starts at once; the first is the published one."""
    generator = torch.Generator().manual_seed(settings.seed)
    shifts = torch.randn(settings.starts, 2, generator=generator, dtype=torch.float64)
    shifts[0] = 0
    points = (torch.tensor(START, dtype=torch.float64) + settings.spread * shifts).requires_grad_()
    optimizer = torch.optim.Adam([points], lr=settings.learning_rate)
    path, first_arrival = [], np.full(settings.starts, np.nan)
    lowest = np.full(settings.starts, np.inf)
    began = time.process_time()
    for step in range(settings.steps):
        losses = losses_of(points)
        gradients = [
            torch.autograd.grad(losses[:, t].sum(), points, retain_graph=t == 0)[0]
            for t in range(2)
        ]
        points.grad = rule(torch.stack(gradients, dim=1), losses.detach())
        optimizer.step()
        with torch.no_grad():
            near = (arguments(points).abs() < NEAR).all(-1).numpy()
            lowest = np.minimum(lowest, losses.mean(-1).numpy())
        first_arrival[near & np.isnan(first_arrival)] = step + 1
        if step % max(settings.steps // 300, 1) == 0:
            path.append(points.detach()[0].tolist())
    arrivals = first_arrival[~np.isnan(first_arrival)]
    return {
        "arrived": len(arrivals),
        "median_step_of_arrival": float(np.median(arrivals)) if len(arrivals) else None,
        "lowest_mean_loss": float(np.median(lowest)),
        "seconds": time.process_time() - began,
        "path": [[round(c, 3) for c in point] for point in path],
    }


def draw(results: dict[str, Any]) -> Figure:
    """Trajectories from the published start, over the contours of the mean loss."""
    x, y = torch.meshgrid(torch.linspace(-5, 4, 300), torch.linspace(-4.5, 7, 300), indexing="xy")
    height = losses_of(torch.stack([x, y], dim=-1)).mean(-1).numpy()
    groups = (("Equal", "PCGrad"), tuple(name for name in results if name != "Equal"))
    figure, axes = canvas(1, 2, width=5.5, height=5)
    for ax, names in zip(axes[0], groups, strict=True):
        ax.contourf(x, y, height, levels=24, cmap="Greys_r", alpha=0.5)
        for number, name in enumerate(names):
            points = np.asarray(results[name]["path"])
            colour = COLOURS[number % len(COLOURS)]
            style = "-" if number < len(COLOURS) else "--"
            ax.plot(*points.T, style, color=colour, lw=0.9, label=name)
            ax.plot(*points[-1], "o", color=colour, ms=4)
        ax.plot(*START, "k*", ms=10)
        ax.set_ylim(-4.5, 7)
        ax.set_xlim(-5, 4)
        ax.legend(fontsize=6, loc="upper right")
    label(axes[0, 0], "plain descent stalls, PCGrad leaves the valley", "x", "y")
    label(axes[0, 1], "all other balancers", "x", "y")
    return figure


def report(settings: Settings) -> Report:
    results = {}
    for name, rule in rules(settings.seed).items():
        results[name] = descend(rule, settings)
        print(name, {k: v for k, v in results[name].items() if k != "path"}, flush=True)
    header = ("balancer", f"arrived, of {settings.starts}", "median step", "lowest mean loss")
    rows = [
        (name, r["arrived"], r["median_step_of_arrival"] or "-", f"{r['lowest_mean_loss']:.0f}")
        for name, r in results.items()
    ]
    return Report({"results": results}, table(header, rows), {"figure.png": draw(results)})


main = experiment(Settings, report, smoke={"steps": 12, "starts": 2})


if __name__ == "__main__":
    main()
