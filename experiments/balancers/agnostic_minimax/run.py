"""ALMO on two quadratics: the weights find the mixture that makes the losses equal.

    python -m experiments.balancers.agnostic_minimax.run

The objectives are ``L_k(h) = a_k |h - c_k|^2 / 2 + b_k`` in the plane. Their Pareto set is the
segment from c_1 to c_2, so the minimax point is the one of the segment where the losses are equal
(or an end of it), and the mixture follows from ``sum_k l_k grad L_k = 0`` there.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from experiments.common import BaseSettings, Report, experiment
from experiments.showing import COLOURS, canvas, label, table
from matplotlib.figure import Figure
from torch import Tensor

from polytask.balancers import AgnosticMinimax, Balancer, Equal, HighestLoss

CURVATURES = (1.0, 4.0)
OFFSETS = (1.0, 0.0)
CENTRES = ((0.0, 0.0), (2.0, 1.0))
#: The convex subset of mixtures: no task may count more than 60 %.
SUBSET = ((0.6, 0.4), (0.4, 0.6))


@dataclass(frozen=True)
class Settings(BaseSettings):
    """Of the experiment."""

    steps: int = 4000
    learning_rate: float = 0.02
    step_size: float = 0.02
    noise: float = 0.5
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)


def losses_of(point: Tensor) -> Tensor:
    """Losses ``[2]`` of a point ``[2]``."""
    centres, curvatures = torch.tensor(CENTRES).to(point), torch.tensor(CURVATURES).to(point)
    return curvatures * (point - centres).square().sum(-1) / 2 + torch.tensor(OFFSETS).to(point)


def on_segment(fraction: float) -> Tensor:
    """The point c_1 + fraction (c_2 - c_1)."""
    first, second = torch.tensor(CENTRES, dtype=torch.float64)
    return first + fraction * (second - first)


def analytic_optimum() -> tuple[float, float]:
    """Weight of the first task and worst loss at the minimax point.

    On the segment ``L_1 - L_2`` is a quadratic in the fraction t; equal losses are its root in
    [0, 1], and ``l_1 a_1 t = l_2 a_2 (1 - t)``.
    """
    square = math.dist(*CENTRES) ** 2
    (a1, a2), (b1, b2) = CURVATURES, OFFSETS
    quadratic = ((a1 - a2) * square / 2, a2 * square, b1 - b2 - a2 * square / 2)
    root = math.sqrt(quadratic[1] ** 2 - 4 * quadratic[0] * quadratic[2])
    roots = [(-quadratic[1] + sign * root) / (2 * quadratic[0]) for sign in (1, -1)]
    fraction = next(t for t in roots if 0 <= t <= 1)
    weight = a2 * (1 - fraction) / (a1 * fraction + a2 * (1 - fraction))
    return weight, float(losses_of(on_segment(fraction)).max())


def mixture_minimum(weight: float) -> Tensor:
    """Losses at the minimum of ``weight L_1 + (1 - weight) L_2``."""
    first, second = weight * CURVATURES[0], (1 - weight) * CURVATURES[1]
    return losses_of(on_segment(second / (first + second)))


def descend(balancer: Balancer, settings: Settings, seed: int) -> dict[str, Any]:
    """Stochastic descent with noisy gradients, with falling steps; averages of the second half."""
    generator = torch.Generator().manual_seed(seed)
    point = torch.tensor([-1.0, 2.0], dtype=torch.float64, requires_grad=True)
    averaged, weights, path = torch.zeros(2, dtype=torch.float64), torch.zeros(2), []
    half = settings.steps // 2
    for step in range(settings.steps):
        point.grad = None
        drawn = balancer.backward(losses_of(point), shared=[point])
        noise = torch.randn(2, generator=generator, dtype=torch.float64)
        with torch.no_grad():
            rate = settings.learning_rate / math.sqrt(1 + 10 * step / settings.steps)
            point -= rate * (point.grad + settings.noise * noise)
            if step >= half:
                averaged += point / (settings.steps - half)
                weights += drawn.float() / (settings.steps - half)
        if step % max(settings.steps // 200, 1) == 0:
            path.append([*point.tolist(), float(drawn[0])])
    losses = losses_of(averaged)
    return {
        "weight_of_first": float(weights[0]),
        "losses": losses.tolist(),
        "worst_loss": float(losses.max()),
        "path": path,
    }


def balancers(settings: Settings) -> dict[str, Balancer]:
    """What is compared."""
    step_size = settings.step_size
    return {
        "uniform": Equal(),
        "ALMO, exponentiated": AgnosticMinimax(step_size=step_size),
        "ALMO, projected": AgnosticMinimax(step_size=step_size, ascent="projected"),
        "ALMO, at most 60 % each": AgnosticMinimax(step_size=step_size, vertices=SUBSET),
        "highest loss only": HighestLoss(),
    }


def expected(name: str) -> tuple[float, list[float]]:
    """Analytic weight of the first task and losses."""
    weight = analytic_optimum()[0]
    if name == "uniform":
        weight = 0.5
    elif "60 %" in name:
        weight = min(max(weight, 0.4), 0.6)
    return weight, mixture_minimum(weight).tolist()


def draw(results: dict[str, Any]) -> Figure:
    """Weights over the steps, and losses reached beside the front."""
    figure, axes = canvas(1, 2, width=5, height=3.8)
    for number, (name, outcome) in enumerate(results.items()):
        colour = COLOURS[number]
        alternates = name == "highest loss only"
        weights = [p[2] for p in outcome["path"]]
        axes[0, 0].plot(weights, color=colour, lw=1, alpha=0.2 if alternates else 1, label=name)
        axes[0, 1].plot(*outcome["losses"], "o", color=colour, label=name)
    axes[0, 0].axhline(analytic_optimum()[0], color="k", ls=":", label="analytic optimum")
    front = torch.stack([losses_of(on_segment(t)) for t in torch.linspace(0, 1, 101).tolist()])
    axes[0, 1].plot(*front.mT, color="k", lw=2.5, alpha=0.3, label="front")
    axes[0, 1].plot([0, 4], [0, 4], color="k", ls=":", lw=0.8, label="equal losses")
    axes[0, 1].set_xlim(0.9, 3.6)
    axes[0, 1].set_ylim(0, 4)
    label(axes[0, 0], "weight of the first task", "steps, in 0.5 %", "weight")
    label(axes[0, 1], "losses at the averaged point", "first loss", "second loss")
    axes[0, 0].legend(fontsize=7)
    axes[0, 1].legend(fontsize=7)
    return figure


def report(settings: Settings) -> Report:
    results: dict[str, Any] = {}
    for name in balancers(settings):
        runs = [descend(balancers(settings)[name], settings, seed) for seed in settings.seeds]
        weight, losses = expected(name)
        results[name] = {
            "weight_of_first": sum(r["weight_of_first"] for r in runs) / len(runs),
            "analytic_weight": weight,
            "losses": [sum(r["losses"][k] for r in runs) / len(runs) for k in range(2)],
            "analytic_losses": losses,
            "worst_loss": sum(r["worst_loss"] for r in runs) / len(runs),
            "worst_loss_per_seed": [r["worst_loss"] for r in runs],
            "path": [[round(v, 4) for v in p] for p in runs[0]["path"]],
        }
    header = ("method", "weight of task 1", "analytic", "losses", "analytic losses", "worst loss")
    rows = [
        (name, f"{r['weight_of_first']:.3f}", f"{r['analytic_weight']:.3f}",
         "{:.3f}, {:.3f}".format(*r["losses"]), "{:.3f}, {:.3f}".format(*r["analytic_losses"]),
         f"{r['worst_loss']:.3f}")
        for name, r in results.items()
    ]  # fmt: skip
    optimum = analytic_optimum()
    analytic = {"weight_of_first": optimum[0], "worst_loss": optimum[1]}
    found = {"analytic": analytic, "results": results}
    return Report(found, table(header, rows), {"figure.png": draw(results)})


main = experiment(Settings, report, smoke={"steps": 60, "seeds": (0,)})


if __name__ == "__main__":
    main()
