"""Tasks that share no variable, only the space that their variables lie in.

    python -m experiments.universal.synthetic_variables.run --minutes 90

Concentric hyperspheres (90 classification tasks) and the transposed Gaussian process (100
regression tasks), learned one by one and together by the methods of the paper, all through the same
code. Every run is appended to a log as soon as it ends: the same command goes on where it stopped.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from experiments.common import Report, ResumableSettings, experiment
from experiments.showing import COLOURS, canvas, label, shown, table
from experiments.universal.embedding_kinds import order
from experiments.universal.synthetic_variables.training import METHODS, Job, train
from matplotlib.figure import Figure

from polytask.architectures.variables.variable_grid import TableVariables
from polytask.datasets.hyperspheres import hypersphere_embeddings, hyperspheres
from polytask.datasets.transposed_gp import (
    transposed_gp,
    transposed_gp_embeddings,
    transposed_gp_optimum,
)
from polytask.problems import Problem
from polytask.tasks.losses import squared_hinge

SPHERES, GP = "hyperspheres", "transposed GP"
#: Accuracy in per cent, and squared error (E. Meyerson, R. Miikkulainen, 2021).
PUBLISHED = {
    SPHERES: dict(zip(METHODS, (42.56, 64.52, 56.76, 53.35, 96.91, 99.99), strict=True)),
    GP: dict(zip(METHODS, (0.373, 0.552, 0.379, 0.568, 0.346, 0.342), strict=True)),
}


@dataclass(frozen=True)
class Settings(ResumableSettings):
    """Of the experiment.

    Args:
        steps: Of the networks that learn all hyperspheres; ``single_steps``, of those that learn
            one; with ``gp_`` the same for the processes.
        tasks_per_step: Tasks in a step of the former, drawn uniformly; 0 means all of them.
        every: Steps between two looks at the validation rows (``single_every``: of single tasks).
        single: One task in so many is also learned alone.
        largest: Tasks have up to so many features, classes, inputs and outputs; 10 in the paper.
        rows: Per task and step.
        size: C, of TOM's embeddings.
        affine: Whether TOM's FiLM maps have biases, as in the paper's code.
        embedding_rate: Learning rate of TOM's embeddings.
    """

    problems: tuple[str, ...] = (SPHERES, GP)
    methods: tuple[str, ...] = METHODS
    seeds: tuple[int, ...] = (0,)
    steps: int = 2500
    gp_steps: int = 600
    every: int = 250
    single_steps: int = 1000
    gp_single_steps: int = 400
    single_every: int = 100
    single: int = 16
    tasks_per_step: int = 0
    largest: int = 10
    test_rows: int = 40
    hidden: int = 64
    layers: int = 3
    size: int = 2
    affine: bool = True
    rows: int = 4
    learning_rate: float = 3e-3
    embedding_rate: float = 1e-2
    schedule: str = "cosine"
    weight_decay: float = 1e-4


SCALES = {
    "full": {
        "seeds": (0, 1, 2, 3, 4), "steps": 100_000, "gp_steps": 100_000, "every": 1000,
        "single_steps": 5000, "gp_single_steps": 5000, "single_every": 100, "single": 1,
        "test_rows": 100, "hidden": 128, "learning_rate": 1e-3, "embedding_rate": 1e-3,
        "schedule": "constant",
    }
}  # fmt: skip
SMOKE = {
    "steps": 6, "gp_steps": 6, "every": 3, "single_steps": 2, "gp_single_steps": 2, "single": 2,
    "largest": 3, "test_rows": 5, "hidden": 8,
}  # fmt: skip


def jobs_of(settings: Settings) -> list[Job]:
    """What the bar is about first: TOM, then the others."""
    order = sorted(settings.methods, key=lambda m: (m.endswith("STL"), -METHODS.index(m)))
    jobs = []
    for problem in settings.problems:
        for seed in settings.seeds:
            for method in order:
                alone = method.endswith("STL")
                prefix = "" if problem == SPHERES else "gp_"
                steps = getattr(settings, prefix + ("single_steps" if alone else "steps"))
                jobs.append(
                    settings.job(
                        Job,
                        problem=problem,
                        method=method,
                        seed=seed,
                        steps=steps,
                        every=settings.single_every if alone else settings.every,
                        tasks_per_step=0 if alone else settings.tasks_per_step,
                        single=settings.single if alone else 1,
                        batch_size=settings.rows,
                    )
                )
    return jobs


def problem_of(name: str, *, seed: int, largest: int, test_rows: int) -> Problem:
    """The tasks with the losses of the paper."""
    sizes = sizes_of(name, largest)
    if name == GP:
        return transposed_gp(seed=seed, rows=(10, 10, test_rows), **sizes)
    problem = hyperspheres(seed=seed, rows_per_class=(5, 5, test_rows), **sizes)
    return problem.map_tasks(lambda task: replace(task, loss=squared_hinge))


def truth_of(name: str, *, seed: int, largest: int) -> torch.Tensor:
    """The true embeddings ``[V, 1]``."""
    make = hypersphere_embeddings if name == SPHERES else transposed_gp_embeddings
    return make(seed=seed, **sizes_of(name, largest))


def sizes_of(name: str, largest: int) -> dict[str, tuple[int, ...]]:
    """Sizes of the tasks, as the generators name them."""
    sizes = tuple(range(1, largest + 1))
    if name == GP:
        return {"num_inputs": sizes, "num_outputs": sizes}
    return {"num_features": sizes, "num_classes": sizes[1:]}


def work(job: Job) -> dict[str, Any]:
    """Do one job."""
    torch.set_num_threads(1)
    common = {"seed": job.seed, "largest": job.largest}
    problem = problem_of(job.problem, test_rows=job.test_rows, **common)
    truth = truth_of(job.problem, **common)
    names = [task.name for task in problem.tasks][:: job.single]
    found = train(problem.select_tasks(names) if job.single > 1 else problem, job, oracle=truth)
    z = found.embeddings if job.method == "TOM" else None
    return {
        "test": found.test,
        "curve": {str(step): value for step, value in found.curve.items()},
        "seconds": found.seconds,
        "embeddings": None if z is None else z.tolist(),
        "order": None if z is None else ordered(problem, z, truth),
    }


def is_output(problem: Problem) -> np.ndarray:
    """Which variables are outputs ``[V]``."""
    variables = TableVariables(tasks=problem.tasks, tables=problem.table_shapes())
    mask = np.zeros(variables.num_variables, dtype=bool)
    for task in problem.tasks:
        mask[variables.outputs_of(task.name)] = True
    return mask


def ordered(problem: Problem, found: torch.Tensor, truth: torch.Tensor) -> dict[str, list[float]]:
    """Per sort of variable: rank correlation of the distances between learned and true embeddings,
    and the share of the true ones that a linear function of the learned ones explains.
    """
    outputs = is_output(problem)
    return {
        name: [order(found[mask], truth[mask]), explained(found[mask], truth[mask])]
        for name, mask in (("inputs", ~outputs), ("outputs", outputs))
    }


def order_within(run: Mapping[str, Any]) -> float:
    """The same rank correlation among the variables of one task, the mean over the tasks of ten or
    more variables (or of the most there are).
    """
    common = {"seed": run["seed"], "largest": run["largest"]}
    problem = problem_of(run["problem"], test_rows=1, **common)
    truth, found = truth_of(run["problem"], **common), torch.tensor(run["embeddings"])
    variables = TableVariables(tasks=problem.tasks, tables=problem.table_shapes())
    own = [variables.variables_of(task.name) for task in problem.tasks]
    least = min(10, max(part.stop - part.start for part in own))
    return float(np.mean([order(found[p], truth[p]) for p in own if p.stop - p.start >= least]))


def explained(found: torch.Tensor, truth: torch.Tensor) -> float:
    """R2 of the true embeddings ``[V, 1]`` from a linear function of the learned ``[V, C]``."""
    design = torch.cat([found, torch.ones(len(found), 1)], dim=1).double()
    residual = truth.double() - design @ torch.linalg.lstsq(design, truth.double()).solution
    return float(1 - residual.square().sum() / (truth - truth.mean()).square().sum())


def summarise(runs: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, dict[str, list[Any]]]]:
    """Per problem and method, for every seed: the mean test score of all tasks that were learned,
    that of the tasks that every method learned, and what it cost.
    """
    summary: dict[str, dict[str, dict[str, list[Any]]]] = {}
    for run in runs:
        peers = [r for r in runs if (r["problem"], r["seed"]) == (run["problem"], run["seed"])]
        common = set.intersection(*(set(peer["test"]) for peer in peers))
        entry = summary.setdefault(run["problem"], {}).setdefault(run["method"], {})
        scale = 100 if run["problem"] == SPHERES else -1
        values = {
            "all": scale * float(np.mean(list(run["test"].values()))),
            "common": scale * float(np.mean([run["test"][name] for name in common])),
            "tasks": len(run["test"]),
            "common_tasks": len(common),
            "seconds": run["seconds"],
            "steps": run["steps"],
            "order": run["order"],
        }
        for key, value in values.items():
            entry.setdefault(key, []).append(value)
    return summary


def show(methods: Mapping[str, Mapping[str, list[Any]]], problem: str) -> str:
    """Our scores beside the published ones."""
    digits = 2 if problem == SPHERES else 3
    rows = [
        (
            method,
            shown(entry["all"], digits) if entry["tasks"][0] > entry["common_tasks"][0] else "-",
            shown(entry["common"], digits),
            PUBLISHED[problem][method],
            f"{np.mean(entry['seconds']):.0f}",
        )
        for method, entry in sorted(methods.items(), key=lambda item: METHODS.index(item[0]))
    ]
    count = next(iter(methods.values()))["common_tasks"][0]
    header = ("method", "all tasks", f"the {count} tasks all learned", "published", "CPU seconds")
    return table(header, rows)


def draw_embeddings(run: Mapping[str, Any]) -> Figure:
    """TOM's embeddings of inputs and outputs, coloured by what is true of them."""
    common = {"seed": run["seed"], "largest": run["largest"]}
    problem = problem_of(run["problem"], test_rows=1, **common)
    truth, spheres = truth_of(run["problem"], **common), run["problem"] == SPHERES
    found, outputs = np.array(run["embeddings"]), is_output(problem)
    figure, axes = canvas(1, 2, width=4.6, height=3.8)
    names = (
        ("features", "coordinate of the centre", "classes", "radius / 10")
        if spheres
        else ("inputs", "place / 5", "outputs", "place / 5")
    )
    for ax, mask, title, meaning in (
        (axes[0, 0], ~outputs, names[0], names[1]),
        (axes[0, 1], outputs, names[2], names[3]),
    ):
        dots = ax.scatter(*found[mask].T, c=truth[mask, 0], cmap="viridis", s=9)
        figure.colorbar(dots, ax=ax, label=meaning)
        label(ax, f"{title}: learned embeddings", "z 1", "z 2")
    return figure


def draw_scores(summary: Mapping[str, Any], runs: Sequence[Mapping[str, Any]]) -> Figure:
    """Scores beside the published ones, and validation scores on the way."""
    figure, axes = canvas(len(summary), 2, width=5.2, height=3.4)
    for row, (problem, methods) in enumerate(summary.items()):
        names = [method for method in METHODS if method in methods]
        ax, scale = axes[row, 0], 100 if problem == SPHERES else -1
        score = "accuracy, %" if problem == SPHERES else "squared error"
        ax.bar(names, [np.mean(methods[m]["common"]) for m in names], color="#4c72b0", label="ours")
        ax.plot(names, [PUBLISHED[problem][m] for m in names], "k_", markersize=22,
                label="published")  # fmt: skip
        ax.tick_params(axis="x", rotation=20)
        count = next(iter(methods.values()))["common_tasks"][0]
        label(ax, f"{problem}: test, the {count} tasks that all methods learned", "", score)
        ax.legend(frameon=False, fontsize=8, loc="upper left")
        for run in runs:
            if run["problem"] == problem and not run["method"].endswith("STL"):
                steps, values = zip(*run["curve"].items(), strict=True)
                axes[row, 1].plot(
                    [int(step) for step in steps],
                    [scale * value for value in values],
                    color=COLOURS[METHODS.index(run["method"])],
                    label=run["method"] if run["seed"] == runs[0]["seed"] else None,
                )
        label(axes[row, 1], "validation, learned together", "step", score)
        axes[row, 1].legend(frameon=False, fontsize=8)
    return figure


def report(runs: Sequence[dict[str, Any]], settings: Settings) -> Report:
    summary = summarise(runs)
    text = "\n".join(f"{name}\n{show(methods, name)}" for name, methods in summary.items())
    content = {
        "command": "python -m experiments.universal.synthetic_variables.run",
        "published": PUBLISHED,
        "best_possible_gp": [
            float(transposed_gp_optimum(seed=seed, **sizes_of(GP, settings.largest)).mean())
            for seed in settings.seeds
        ],
        "order_within_tasks": {
            run["problem"]: order_within(run) for run in runs if run["embeddings"] is not None
        },
        "summary": summary,
    }
    files = {
        f"embeddings_{run['problem'].replace(' ', '_').lower()}.png": draw_embeddings(run)
        for run in runs
        if run["embeddings"] is not None and run["seed"] == settings.seeds[0]
    }
    return Report(content, text, {"scores.png": draw_scores(summary, runs), **files})


main = experiment(Settings, report, jobs=jobs_of, work=work, smoke=SMOKE, scales=SCALES)


if __name__ == "__main__":
    main()
