"""MGDA on problems whose Pareto sets are known: how near does it come, from anywhere?

    python -m experiments.balancers.mgda_fronts.run

Shape legend: S starts, T = 2 objectives, P coordinates.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from experiments.common import BaseSettings, Report, experiment
from experiments.showing import COLOURS, canvas, label, table
from matplotlib.figure import Figure
from torch import Tensor

from polytask.balancers import MGDA

Objectives = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Settings(BaseSettings):
    """Of the experiment."""

    starts: int = 256
    steps: int = 500
    coordinates: int = 3
    seed: int = 0


@dataclass(frozen=True)
class Problem:
    """Objectives ``[S, T]`` of points ``[S, P]``, and points ``[G, P]`` along the Pareto set."""

    objectives: Objectives
    pareto_set: Tensor
    starts: Tensor
    step_size: float


def fonseca_fleming(settings: Settings, generator: torch.Generator) -> Problem:
    """``f = 1 - exp(-|x -+ 1/sqrt(n)|^2)``; Pareto set: x_1 = ... = x_n in [-1, 1] / sqrt(n)."""
    count = settings.coordinates
    centre = torch.full((count,), count**-0.5, dtype=torch.float64)

    def objectives(points: Tensor) -> Tensor:
        squares = [(points - sign * centre).square().sum(-1) for sign in (1, -1)]
        return 1 - torch.exp(-torch.stack(squares, dim=-1))

    along = torch.linspace(-1, 1, 20_001, dtype=torch.float64).unsqueeze(-1)
    starts = 2 * torch.rand(settings.starts, count, generator=generator, dtype=torch.float64) - 1
    return Problem(objectives, along * centre, starts, step_size=0.2)


def two_quadratics(settings: Settings, generator: torch.Generator) -> Problem:
    """``f_t = (x - c_t)' A_t (x - c_t) / 2``.

    Pareto set: the minimisers of ``l f_1 + (1 - l) f_2`` for l in [0, 1], a curve in closed form.
    """
    count = settings.coordinates
    ascending = torch.logspace(0, 1, count, dtype=torch.float64)
    curvatures = torch.stack([ascending.flip(0), ascending])
    centres = torch.stack([torch.ones(count), -torch.ones(count)]).double()

    def objectives(points: Tensor) -> Tensor:
        difference = points.unsqueeze(-2) - centres
        return (curvatures * difference.square()).sum(-1) / 2

    mix = torch.linspace(0, 1, 20_001, dtype=torch.float64).unsqueeze(-1)
    weighted = torch.stack([mix, 1 - mix], dim=1) * curvatures
    pareto_set = (weighted * centres).sum(1) / weighted.sum(1)
    starts = 2 * torch.randn(settings.starts, count, generator=generator, dtype=torch.float64)
    return Problem(objectives, pareto_set, starts, step_size=0.05)


def descend(problem: Problem, balancer: MGDA | None, settings: Settings) -> dict[str, Any]:
    """Gradient descent from all starts at once, one batch of 2 x 2 Gramians per step.

    ``balancer`` None is plain descent of the mean objective.
    """
    points = problem.starts.clone().requires_grad_()
    path = []
    for step in range(settings.steps + 1):
        values = problem.objectives(points)
        rows = [torch.autograd.grad(f.sum(), points, retain_graph=True)[0] for f in values.mT]
        jacobian = torch.stack(rows, dim=1)
        with torch.no_grad():
            direction = jacobian.mean(1) if balancer is None else balancer.combine(jacobian)
            if step < settings.steps:
                points -= problem.step_size * direction
        if step % max(settings.steps // 60, 1) == 0:
            path.append(values.detach()[:12].tolist())
    # Frank-Wolfe is the paper's solver; the paths use the exact one.
    shortest, paper = (
        MGDA(solver=solver).combine(jacobian).norm(dim=-1) for solver in ("exact", "frank_wolfe")
    )
    distance = distance_to_curve(points.detach(), problem.pareto_set)
    improved = (values <= problem.objectives(problem.starts) + 1e-12).all(-1)
    spread = values.detach()[:, 0].quantile(torch.tensor([0.05, 0.95], dtype=torch.float64))
    return {
        "largest_distance": float(distance.max()),
        "median_distance": float(distance.median()),
        "largest_minimum_norm": float(shortest.max()),
        "largest_excess_of_frank_wolfe": float((paper - shortest).max()),
        "both_objectives_improved": float(improved.double().mean()),
        "first_objective_5_to_95_percent": spread.tolist(),
        "path": [[[round(v, 4) for v in pair] for pair in points] for points in path],
    }


def distance_to_curve(points: Tensor, curve: Tensor) -> Tensor:
    """Distance ``[S]`` of points ``[S, P]`` to the polygon through ``[G, P]``.

    The nearest corner is looked for first, so the polygon must be fine.
    """
    nearest = torch.cdist(points, curve).argmin(-1)
    distances = []
    for shift in (-1, 0):
        start = (nearest + shift).clamp(0, len(curve) - 2)
        begin, edge = curve[start], curve[start + 1] - curve[start]
        share = ((points - begin) * edge).sum(-1) / edge.square().sum(-1)
        foot = begin + share.clamp(0, 1).unsqueeze(-1) * edge
        distances.append((points - foot).norm(dim=-1))
    return torch.stack(distances).amin(0)


def draw(results: dict[str, Any], problems: dict[str, Problem]) -> Figure:
    """Paths in the space of objectives, with the known front."""
    figure, axes = canvas(1, len(problems), width=5, height=4.2)
    for ax, (name, problem) in zip(axes[0], problems.items(), strict=True):
        front = problem.objectives(problem.pareto_set)
        ax.plot(*front.mT, color="k", lw=2.5, alpha=0.35, label="known front")
        for number, (method, outcome) in enumerate(results[name].items()):
            paths = torch.tensor(outcome["path"]).permute(1, 2, 0)
            for i, (first, second) in enumerate(paths):
                text = method if i == 0 else None
                ax.plot(first, second, color=COLOURS[number], lw=0.7, label=text)
                ax.plot(first[-1], second[-1], "o", ms=3.5, color=COLOURS[number])
        if name == "two quadratics":
            ax.set_xscale("symlog")
            ax.set_yscale("symlog")
        ax.legend(fontsize=7)
        label(ax, name, "first objective", "second objective")
    return figure


def report(settings: Settings) -> Report:
    generator = torch.Generator().manual_seed(settings.seed)
    problems = {
        "Fonseca-Fleming": fonseca_fleming(settings, generator),
        "two quadratics": two_quadratics(settings, generator),
    }
    methods = {
        "plain descent of the mean": None,
        "MGDA": MGDA(),
    }
    results = {
        name: {method: descend(problem, b, settings) for method, b in methods.items()}
        for name, problem in problems.items()
    }
    header = ("problem", "method", "largest distance", "largest minimum norm", "improved both",
              "first objective, 5-95 %")  # fmt: skip
    rows = [
        (name, method, f"{r['largest_distance']:.1e}", f"{r['largest_minimum_norm']:.1e}",
         f"{100 * r['both_objectives_improved']:.0f} %",
         "{:.2f} to {:.2f}".format(*r["first_objective_5_to_95_percent"]))
        for name, found in results.items() for method, r in found.items()
    ]  # fmt: skip
    files = {"figure.png": draw(results, problems)}
    return Report({"results": results}, table(header, rows), files)


main = experiment(Settings, report, smoke={"starts": 8, "steps": 30})


if __name__ == "__main__":
    main()
