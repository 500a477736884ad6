"""Planted groups: which methods find them, and what that costs as the number of tasks grows.

    python -m experiments.grouping.planted.run

Every finished run is appended to a log: the same command goes on where it stopped. Runs that are
too expensive are not made; their cost is extrapolated, and marked as such, by the number of
networks that the method trains (``Grouper.models_trained``).
"""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from experiments.common import Report, ResumableSettings, experiment
from experiments.showing import COLOURS, canvas, label, shown, table
from matplotlib.figure import Figure

from polytask.architectures import Architecture, HardSharing
from polytask.datasets import planted_assignment, planted_groups
from polytask.encoders import MLP
from polytask.grouping.base import Grouper
from polytask.grouping.correlation import LabelCorrelation, PredictionCorrelation
from polytask.grouping.gradient_similarity import GradientSimilarity
from polytask.grouping.hoa import HOA
from polytask.grouping.learner import Learner
from polytask.grouping.mtg_net import MTGNet
from polytask.grouping.random_groups import RandomGroups
from polytask.grouping.sampled_groups import SampledGroups
from polytask.grouping.stg import STG
from polytask.grouping.tag import TAG
from polytask.problems import Problem
from polytask.training import TrainingSettings
from polytask.training.prediction import predict_outputs

#: What is compared, and how results call it.
METHODS: dict[str, Callable[[], Grouper]] = {
    "STG": STG,
    "label correlation": LabelCorrelation,
    "gradient similarity": GradientSimilarity,
    "gradient similarity, features": lambda: GradientSimilarity(scope="features"),
    "TAG, first order": lambda: TAG(mode="first-order"),
    "TAG, exact": TAG,
    "prediction correlation": PredictionCorrelation,
    "sampled sets": SampledGroups,
    "MTG-Net": MTGNet,
    "HOA": HOA,
    "random": RandomGroups,
}
#: Methods that train many networks, or look at all pairs many times: the largest number of tasks
#: that they are run on (there with one seed), and only where tasks of a group are alike.
LARGEST = {
    "TAG, exact": 1000,
    "prediction correlation": 100,
    "sampled sets": 30,
    "MTG-Net": 30,
    "HOA": 30,
}
#: There is no choosing how many random groups there are.
CONTROLS = ("random",)
#: Layers of the networks that find groups, and of those that show what sharing does.
WIDTHS = (64, 64)
SMALL = (8,)


@dataclass(frozen=True)
class Settings(ResumableSettings):
    """Of the experiment.

    Args:
        free_tasks: n where methods also choose the number of groups themselves, with and without
            interference.
        spreads: How different the tasks of a group are; 1: unrelated but for their features.
        sharing: Interferences at which single-task, joint and group networks are compared.
    """

    num_tasks: tuple[int, ...] = (10, 30, 100, 300, 1000)
    free_tasks: int = 30
    spreads: tuple[float, ...] = (0.3, 1.0)
    interference: float = 1.0
    rows: int = 1000
    epochs: int = 20
    batch_size: int = 64
    learning_rate: float = 3e-3
    sharing: tuple[float, ...] = (0.0, 0.5, 1.0)
    seeds: tuple[int, ...] = (0, 1, 2)
    methods: tuple[str, ...] = tuple(METHODS)
    minutes: float = 30.0


@dataclass(frozen=True)
class Job:
    """One problem and what is done with it: groups found by a method, or networks scored."""

    what: str
    num_tasks: int
    num_groups: int
    interference: float
    spread: float
    rows: int
    epochs: int
    batch_size: int
    learning_rate: float
    widths: tuple[int, ...]
    seed: int

    def problem(self) -> Problem:
        """Another problem of the same sort for every seed."""
        return planted_groups(
            seed=self.seed,
            data_seed=self.seed,
            num_tasks=self.num_tasks,
            num_groups=self.num_groups,
            interference=self.interference,
            spread=self.spread,
            num_rows=self.rows,
            num_features=max(20, 2 * (self.num_groups + 1)),
        )

    def learner(self) -> Learner:
        """Trains the same network in the same way for everybody."""
        settings = TrainingSettings(
            epochs=self.epochs,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            patience=None,
            device="cpu",
        )
        return Learner(architecture=self.network, settings=settings)

    def network(self, problem: Problem) -> Architecture:
        """A small perceptron with a linear head per task."""
        width = problem.train.inputs.shape[1]
        return HardSharing(encoder=MLP(input_size=width, widths=self.widths), tasks=problem.tasks)


@dataclass(frozen=True)
class FreeJob(Job):
    """The method is to choose the number of groups itself."""

    free: bool = True


def groups_for(num_tasks: int) -> int:
    """About as many groups as tasks per group."""
    return round(math.sqrt(num_tasks))


@functools.cache
def warm_up(method: str) -> None:
    """Import what the method imports late, on a problem of no interest."""
    settings = TrainingSettings(epochs=1, device="cpu")
    tiny = planted_groups(num_tasks=4, num_groups=2, num_rows=60)
    METHODS[method]().find(tiny, learner=Learner(settings=settings), num_groups=2)


def find_groups(job: Job) -> dict[str, Any]:
    """One method on one problem."""
    torch.set_num_threads(1)
    warm_up(job.what)
    problem, grouper = job.problem(), METHODS[job.what]()
    started, begun = time.process_time(), time.monotonic()
    number = None if isinstance(job, FreeJob) else job.num_groups
    grouping = grouper.find(problem, learner=job.learner(), num_groups=number, seed=job.seed)
    return {
        "agreement": grouping.agreement(planted_assignment(problem)),
        "groups": grouping.num_groups,
        "seconds": time.process_time() - started,
        "wall_seconds": time.monotonic() - begun,
        "models": grouping.cost.models,
        "steps": grouping.cost.steps,
        "passes": grouping.cost.passes,
    }


def score_sharing(job: Job) -> dict[str, Any]:
    """Mean ROC AUC on the test rows of single-task networks, a joint one, and one per group."""
    torch.set_num_threads(1)
    problem, learner = job.problem(), job.learner()
    assigned, names = planted_assignment(problem), [task.name for task in problem.tasks]
    planted = [
        [name for name, g in zip(names, assigned, strict=True) if g == group]
        for group in range(job.num_groups)
    ]
    ways = {"single": [[name] for name in names], "joint": [names], "groups": planted}
    found = {}
    for way, groups in ways.items():
        scores = []
        for group in groups:
            part = problem.select_tasks(group)
            model = learner.train(part, seed=job.seed).architecture
            outputs = predict_outputs(model, part.test)
            scores += [
                task.score(outputs[task.name], part.test.targets[task.name])[task.metric.name]
                for task in part.tasks
            ]
        found[way] = sum(scores) / len(scores)
    return found


def work(job: Job) -> dict[str, Any]:
    """Carry out a job."""
    return score_sharing(job) if job.what == "sharing" else find_groups(job)


def jobs_of(settings: Settings) -> list[Job]:
    """Small problems first."""
    jobs = [
        settings.job(
            Job,
            what=method,
            num_tasks=number,
            num_groups=groups_for(number),
            spread=spread,
            widths=WIDTHS,
            seed=seed,
        )
        for number in settings.num_tasks
        for spread in settings.spreads
        for method in settings.methods
        for seed in settings.seeds
        if wanted(settings, method, number, spread, seed)
    ]
    jobs += [
        settings.job(
            Job,
            what="sharing",
            num_tasks=12,
            num_groups=3,
            interference=interference,
            spread=spread,
            widths=SMALL,
            seed=seed,
            epochs=2 * settings.epochs,
        )
        for interference in settings.sharing
        for spread in settings.spreads
        for seed in settings.seeds
    ]
    jobs += [
        settings.job(
            FreeJob,
            what=method,
            num_tasks=settings.free_tasks,
            num_groups=groups_for(settings.free_tasks),
            interference=interference,
            spread=settings.spreads[0],
            widths=WIDTHS,
            seed=seed,
        )
        for interference in (0.0, 1.0)
        for method in settings.methods
        for seed in settings.seeds
        if method not in CONTROLS and LARGEST.get(method, math.inf) > settings.free_tasks
    ]
    return jobs


def wanted(settings: Settings, method: str, number: int, spread: float, seed: int) -> bool:
    """Whether a run is affordable: everything beyond is extrapolated."""
    largest = LARGEST.get(method)
    if largest is None:
        return True
    once = number == largest and seed != settings.seeds[0]
    return number <= largest and spread == settings.spreads[0] and not once


def summarise(
    runs: Sequence[Mapping[str, Any]], settings: Settings
) -> dict[str, dict[str, dict[str, Any]]]:
    """Per spread and method, an entry per number of tasks: measured, or extrapolated cost."""
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for spread in settings.spreads:
        for method in settings.methods:
            entries = found.setdefault(f"spread {spread:g}", {}).setdefault(method, {})
            for number in settings.num_tasks:
                own = [
                    run
                    for run in runs
                    if (run["what"], run["num_tasks"], run["spread"]) == (method, number, spread)
                    and not run.get("free")
                ]
                if own:
                    entries[str(number)] = {
                        "agreement": [run["agreement"] for run in own],
                        **{
                            key: float(np.mean([run[key] for run in own]))
                            for key in ("seconds", "wall_seconds", "models", "steps", "passes")
                        },
                        "extrapolated": False,
                    }
            if spread == settings.spreads[0]:
                extrapolate(method, entries, settings.num_tasks)
    return found


def extrapolate(method: str, entries: dict[str, Any], numbers: Sequence[int]) -> None:
    """Add the cost of larger problems, from the largest that was measured.

    Networks: seconds grow as their number. One network with a look at all pairs ("TAG, exact"): n
    passes that each give n losses.
    """
    if not entries:
        return
    grouper = METHODS[method]()
    last = max(map(int, entries))
    for number in numbers:
        if number > last:
            models = grouper.models_trained(number)
            known = grouper.models_trained(last)
            growth = models / known if models > 1 else (number / last) ** 2
            entries[str(number)] = {
                "models": models,
                "seconds": entries[str(last)]["seconds"] * growth,
                "extrapolated": True,
                "from": last,
            }


def show(summary: Mapping[str, Mapping[str, Any]], numbers: Sequence[int]) -> str:
    """Agreement, seconds and networks per method and number of tasks."""
    parts = []
    for spread, methods in summary.items():
        rows = []
        for method, entries in methods.items():
            if not entries:
                continue
            cells = []
            for number in map(str, numbers):
                entry = entries.get(number)
                if entry is None:
                    cells.append("")
                elif entry["extrapolated"]:
                    cells.append(
                        f"(≈ {duration(entry['seconds'])}, {entry['models']:.0f} networks)"
                    )
                else:
                    cells.append(
                        f"{np.mean(entry['agreement']):.2f}, {duration(entry['seconds'])},"
                        f" {entry['models']:.0f}"
                    )
            rows.append((method, *cells))
        parts.append(f"{spread}: adjusted Rand index, processor time, networks trained")
        parts.append(table(("method", *(f"n = {number}" for number in numbers)), rows))
    return "\n\n".join(parts)


def duration(seconds: float) -> str:
    """For example "3.1 s", "12 min" or "5.4 h"."""
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 1.5 * size:
            return f"{seconds / size:.2g} {unit}"
    return f"{seconds:.2g} s"


def show_sharing(sharing: Mapping[str, Mapping[str, Any]]) -> str:
    """Scores by interference; differences are paired over the seeds, which are other problems."""
    rows = []
    for key, entry in sharing.items():
        single, joint, groups = (np.array(entry[way]) for way in ("single", "joint", "groups"))
        means = [f"{values.mean():.4f}" for values in (single, joint, groups)]
        rows.append((key, *means, shown(joint - single, 4), shown(groups - joint, 4)))
    header = (
        "spread, interference",
        "single-task",
        "joint",
        "planted groups",
        "joint - single-task",
        "groups - joint",
    )
    return table(header, rows)


def collect_sharing(runs: Sequence[Mapping[str, Any]], settings: Settings) -> dict[str, Any]:
    """Scores per spread and interference, a value per seed."""
    found: dict[str, Any] = {}
    for spread in settings.spreads:
        for interference in settings.sharing:
            own = [
                run
                for run in runs
                if (run["what"], run["interference"], run["spread"])
                == ("sharing", interference, spread)
            ]
            if own:
                found[f"{spread:g}, {interference:g}"] = {
                    way: [run[way] for run in own] for way in ("single", "joint", "groups")
                }
    return found


def collect_free(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Numbers of groups that methods choose, and agreement, a value per seed."""
    found: dict[str, Any] = {}
    for run in runs:
        if run.get("free"):
            entry = found.setdefault(run["what"], {}).setdefault(
                f"interference {run['interference']:g}", {"groups": [], "agreement": []}
            )
            entry["groups"].append(run["groups"])
            entry["agreement"].append(run["agreement"])
    return found


def show_free(free: Mapping[str, Any], num_tasks: int) -> str:
    """How many groups methods find where there are none, and where there are some."""
    keys = sorted({key for entry in free.values() for key in entry})
    rows = []
    for method, entry in free.items():
        numbers = [", ".join(map(str, entry[key]["groups"])) for key in keys]
        means = [np.mean(entry[key]["agreement"]) for key in keys]
        rows.append((method, *(f"{n} ({m:.2f})" for n, m in zip(numbers, means, strict=True))))
    return table((f"groups chosen for {num_tasks} tasks (adjusted Rand index)", *keys), rows)


def draw(summary: Mapping[str, Any], sharing: Mapping[str, Any], settings: Settings) -> Figure:
    """Agreement and seconds over the number of tasks; what sharing does over the interference."""
    figure, axes = canvas(1, 3, width=5, height=4.2)
    first = summary[f"spread {settings.spreads[0]:g}"]
    for k, (method, entries) in enumerate(first.items()):
        colour = COLOURS[k % len(COLOURS)]
        measured = [(int(n), e) for n, e in entries.items() if not e["extrapolated"]]
        guessed = [(int(n), e) for n, e in entries.items() if e["extrapolated"]]
        numbers = [n for n, _ in measured]
        means = [float(np.mean(e["agreement"])) for _, e in measured]
        axes[0, 0].plot(numbers, means, "o-", ms=4, color=colour, label=method)
        seconds = [e["seconds"] for _, e in measured]
        axes[0, 1].plot(numbers, seconds, "o-", ms=4, color=colour, label=method)
        if guessed:
            line = [(numbers[-1], seconds[-1]), *((n, e["seconds"]) for n, e in guessed)]
            axes[0, 1].plot(*zip(*line, strict=True), "o:", ms=4, mfc="none", color=colour)
    for k, way in enumerate(("joint", "groups")):
        for spread, style in zip(settings.spreads, ("o-", "s:"), strict=False):
            values = [
                (rho, float(np.mean(np.subtract(entry[way], entry["single"]))))
                for rho in settings.sharing
                if (entry := sharing.get(f"{spread:g}, {rho:g}")) is not None
            ]
            if values:
                points = zip(*values, strict=True)
                axes[0, 2].plot(
                    *points, style, ms=4, color=COLOURS[k], label=f"{way}, spread {spread:g}"
                )
    axes[0, 2].axhline(0, color="k", lw=0.8)
    axes[0, 0].set_xscale("log")
    axes[0, 1].set_xscale("log")
    axes[0, 1].set_yscale("log")
    label(axes[0, 0], "planted groups found", "tasks", "adjusted Rand index")
    label(axes[0, 1], "cost (dotted: extrapolated)", "tasks", "processor seconds")
    label(axes[0, 2], "networks of 8 units, 12 tasks", "interference", "ROC AUC over single-task")
    axes[0, 1].legend(fontsize=6, loc="upper left")
    axes[0, 2].legend(fontsize=6)
    return figure


def report(runs: Sequence[dict[str, Any]], settings: Settings) -> Report:
    summary = summarise(runs, settings)
    sharing = collect_sharing(runs, settings)
    free = collect_free(runs)
    shown_free = show_free(free, settings.free_tasks)
    text = "\n\n".join((show(summary, settings.num_tasks), show_sharing(sharing), shown_free))
    content = {
        "command": "python -m experiments.grouping.planted.run",
        "runs": len(runs),
        "groups": {str(n): groups_for(n) for n in settings.num_tasks},
        "methods": {name: repr(make()) for name, make in METHODS.items()},
        "recovery": summary,
        "sharing": sharing,
        "number_of_groups": free,
    }
    return Report(content, text, {"figure.png": draw(summary, sharing, settings)})


SMOKE = {
    "num_tasks": (4, 5), "spreads": (0.3,), "rows": 80, "epochs": 1, "sharing": (1.0,),
    "free_tasks": 5, "seeds": (0,),
}  # fmt: skip

main = experiment(Settings, report, jobs=jobs_of, work=work, smoke=SMOKE)


if __name__ == "__main__":
    main()
