"""STG-MTL on images: which tasks are grouped, and what the groups gain over their rivals.

    python -m experiments.grouping.images.run --workers 2 --minutes 120

Trains, for each set of tasks and seed, single-task networks, one joint network, and m networks per
way of grouping, and writes F1 on training and test images with what each row cost. Every job is
appended to a log as soon as it ends: the same command goes on where it stopped.
"""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from experiments.common import DATA, Report, ResumableSettings, experiment
from experiments.grouping.images.problems import MACHINES, superclasses, tasks_of
from experiments.showing import canvas, shown, table
from matplotlib.figure import Figure

from polytask.architectures import HardSharing
from polytask.candidates.grouped import GroupedNetworks
from polytask.candidates.method import Budget
from polytask.candidates.network import NetworkMethod
from polytask.encoders import SmallCNN
from polytask.grouping import cluster
from polytask.grouping.base import Grouper
from polytask.grouping.correlation import LabelCorrelation
from polytask.grouping.data_map_recorder import record_data_map
from polytask.grouping.grouping import Grouping
from polytask.grouping.hoa import HOA
from polytask.grouping.learner import Learner
from polytask.grouping.random_groups import RandomGroups
from polytask.grouping.tag import TAG
from polytask.problems.problem import Problem
from polytask.problems.splits import Split
from polytask.training.settings import TrainingSettings

#: Rows of the tables; "x m" has the epochs of m networks for one.
ROWS = (
    "single-task",
    "joint",
    "joint, m x epochs",
    "ensemble of m",
    "random, soft",
    "random, hard",
    "STG, soft",
    "STG, hard",
    "TAG",
    "HOA",
    "label correlation",
)


@dataclass(frozen=True)
class Settings(ResumableSettings):
    """Of the experiment."""

    sets: tuple[str, ...] = ("G1", "G2", "G3")
    seeds: tuple[int, ...] = (0, 1, 2)
    rows: tuple[str, ...] = ROWS
    #: Networks whose data maps are clustered.
    sources: tuple[str, ...] = ("joint", "single")
    #: Groups of the networks that are trained, per set.
    g1_groups: int = 2
    g2_groups: int = 3
    size: int = 16
    images: int = 2000
    test_images: int = 2000
    epochs: int = 8
    #: Of the pair networks of HOA.
    pair_epochs: int = 2
    g3_images: int = 6000
    g3_epochs: int = 12
    batch_size: int = 64
    learning_rate: float = 1e-3
    fuzzifier: float = 2.0
    data: Path = DATA


@dataclass(frozen=True)
class Job:
    """One row of a table for one seed, or the clustering ("maps") of one source of data maps."""

    problem: str
    row: str
    seed: int
    groups: int
    size: int
    images: int
    test_images: int
    epochs: int
    pair_epochs: int
    batch_size: int
    learning_rate: float
    fuzzifier: float


def jobs_of(settings: Settings) -> list[Job]:
    """Seed by seed, so that an interrupted experiment has whole seeds."""
    jobs = []
    for seed in settings.seeds:
        for name in settings.sets:
            large = name == "G3"
            own = {
                "images": settings.g3_images if large else settings.images,
                "epochs": settings.g3_epochs if large else settings.epochs,
                "groups": {"G1": settings.g1_groups, "G2": settings.g2_groups}.get(name, 0),
            }
            sources = [f"maps: {source}" for source in settings.sources]
            rows = ["maps: joint"] if large else [*sources, *settings.rows]
            jobs += [settings.job(Job, problem=name, row=row, seed=seed, **own) for row in rows]
    return jobs


def work(job: Job, *, folder: Path) -> dict[str, Any]:
    """Do one job."""
    torch.set_num_threads(1)
    problem = tasks_of(
        job.problem,
        folder=folder,
        size=job.size,
        rows=job.images,
        test_rows=job.test_images,
        seed=job.seed,
    )
    started = time.process_time()
    if job.row.startswith("maps"):
        return maps(job, problem)
    learner = learner_of(job)
    grouping = grouping_of(job, problem, learner)
    found = time.process_time() - started
    long = job.row.endswith("m x epochs")
    soft = job.row.endswith("soft") or job.row.startswith("ensemble")
    method = GroupedNetworks(
        grouping=grouping,
        network=NetworkMethod(architecture=network, settings=learner.settings, cosines=False),
        combine="soft" if soft else "hard",
    )
    budget = Budget(epochs=job.epochs * (job.groups if long else 1), patience=None)
    fitted = method.fit(problem, seed=job.seed, budget=budget)
    trained = time.process_time() - started - found
    started = time.process_time()
    outputs = fitted.outputs(problem.test)
    predicted = time.process_time() - started
    return {
        "tasks": [task.name for task in problem.tasks],
        "f1_test": f1(problem, problem.test, outputs),
        "f1_train": f1(problem, problem.train, fitted.outputs(problem.train)),
        "groups": grouping.groups,
        "memberships": grouping.memberships.tolist(),
        "find_models": grouping.cost.models,
        "find_seconds": found,
        "train_seconds": trained,
        "predict_seconds_per_1000": 1000 * predicted / len(problem.test),
    }


def network(problem: Problem) -> HardSharing:
    """The paper's custom network (table 2)."""
    inputs = problem.train.inputs
    size = inputs.shape[-1]
    return HardSharing(encoder=SmallCNN(image_size=size, dropout=0.2), tasks=problem.tasks)


def learner_of(job: Job) -> Learner:
    """How the networks that a grouper looks at are trained."""
    settings = TrainingSettings(
        epochs=job.epochs,
        batch_size=job.batch_size,
        learning_rate=job.learning_rate,
        patience=None,
        weight_decay=0.0,
    )
    return Learner(architecture=network, settings=settings)


def grouping_of(job: Job, problem: Problem, learner: Learner) -> Grouping:
    """The groups behind a row."""
    names = [task.name for task in problem.tasks]
    if job.row == "single-task":
        return Grouping.alone(names)
    if job.row.startswith("joint"):
        return Grouping.together(names)
    if job.row.startswith("STG"):
        data_map = record_data_map(problem, learner, seed=job.seed)
        found = cluster(data_map.vectors(), job.groups, fuzzifier=job.fuzzifier, seed=job.seed)
        grouping = Grouping(tuple(names), found.memberships, method="stg", cost=data_map.cost)
        return grouping.hardened() if job.row.endswith("hard") else grouping
    if job.row == "HOA":
        learner = Learner(
            architecture=network,
            settings=dataclasses.replace(learner.settings, epochs=job.pair_epochs),
        )
    return groupers()[job.row]().find(
        problem, learner=learner, num_groups=job.groups, seed=job.seed
    )


def groupers() -> dict[str, Callable[[], Grouper]]:
    """Rivals by row."""
    return {
        "ensemble of m": functools.partial(RandomGroups, kind="ensemble"),
        "random, soft": functools.partial(RandomGroups, kind="soft"),
        "random, hard": functools.partial(RandomGroups, kind="hard"),
        "TAG": TAG,
        "HOA": HOA,
        "label correlation": LabelCorrelation,
    }


def f1(problem: Problem, split: Split, outputs: Any) -> list[float]:
    """F1 of every task; positive weights stay in the decision, as in the paper."""
    values = []
    for task in problem.tasks:
        target = split.targets[task.name]
        said = outputs[task.name].flatten() > 0
        hits = float((said & (target == 1)).sum())
        values.append(2 * hits / max(1.0, float(said.sum() + (target == 1).sum())))
    return values


def maps(job: Job, problem: Problem) -> dict[str, Any]:
    """Memberships from the data maps of one joint network, or of single-task networks."""
    source = job.row.removeprefix("maps: ")
    data_map = record_data_map(problem, learner_of(job), source=source, seed=job.seed)
    points = data_map.vectors()
    counts = (10, 20) if job.problem == "G3" else (2, 3)
    found = {}
    for count in counts:
        clusters = cluster(points, count, fuzzifier=job.fuzzifier, seed=job.seed)
        found[str(count)] = {
            "memberships": clusters.memberships.tolist(),
            "labels": [int(k) for k in clusters.labels],
        }
    return {
        "tasks": [task.name for task in problem.tasks],
        "clusters": found,
        "models": data_map.cost.models,
        "seconds": data_map.cost.seconds,
    }


def bars(runs: Sequence[dict[str, Any]], settings: Settings) -> dict[str, Any]:
    """The paper's shapes (i) to (v), seed by seed; None where the runs for it are missing."""
    found: dict[str, dict[str, Any]] = {}
    for seed in settings.seeds:
        own = [run for run in runs if run["seed"] == seed]
        by = {(run["problem"], run["row"]): run for run in own}
        entry: dict[str, Any] = {}
        two = by.get(("G2", "maps: joint"))
        if two:
            index = {name: i for i, name in enumerate(two["tasks"])}
            labels = two["clusters"]["3"]["labels"]
            weights = np.array(two["clusters"]["2"]["memberships"])
            entry["random alone at 3 clusters"] = labels.count(labels[index["random"]]) == 1
            gap = np.abs(weights[index["living"]] - weights[index["not living"]]).max()
            entry["largest difference of living and not living"] = float(gap)
        one = by.get(("G1", "maps: joint"))
        if one:
            entry["purity of animals and machines"] = purity(
                one["clusters"]["2"]["labels"], [name in MACHINES for name in one["tasks"]]
            )
        for name in ("G1", "G2"):
            stg, joint = by.get((name, "STG, soft")), by.get((name, "joint"))
            if stg and joint:
                gain = np.mean(stg["f1_test"]) - np.mean(joint["f1_test"])
                entry[f"mean test F1 of STG, soft minus joint, {name}"] = float(gain)
            single, whole = by.get((name, "maps: single")), by.get((name, "maps: joint"))
            if single and whole:
                for count in ("2", "3"):
                    pair = single["clusters"][count]["labels"], whole["clusters"][count]["labels"]
                    entry[f"ARI of single-task and joint maps, {name}, {count}"] = ari(*pair)
        three = by.get(("G3", "maps: joint"))
        if three:
            truth = superclasses(settings.data)[0].tolist()
            for count, clusters in three["clusters"].items():
                entry[f"superclasses, {count} clusters: ARI"] = ari(clusters["labels"], truth)
                entry[f"superclasses, {count} clusters: purity"] = purity(clusters["labels"], truth)
        found[str(seed)] = entry
    return found


def purity(labels: Sequence[int], truth: Sequence[Any]) -> float:
    """Share of tasks that belong to the commonest true class of their cluster."""
    pairs = list(zip(labels, truth, strict=True))
    total = 0
    for k in set(labels):
        inside = [t for label, t in pairs if label == k]
        total += max(inside.count(t) for t in set(inside))
    return total / len(pairs)


def ari(first: Sequence[int], second: Sequence[int]) -> float:
    """Adjusted Rand index."""
    from sklearn.metrics import adjusted_rand_score

    return float(adjusted_rand_score(first, second))


def show(runs: Sequence[dict[str, Any]], settings: Settings) -> str:
    """A table per set of tasks: mean F1 and costs, over seeds."""
    text = ["# Groups of image tasks", ""]
    for name in settings.sets:
        rows = []
        for row in settings.rows:
            own = [r for r in runs if r["problem"] == name and r["row"] == row]
            if not own:
                continue
            mean = {
                key: [float(np.mean(run[key])) for run in own]
                for key in (
                    "f1_test", "f1_train", "find_seconds", "train_seconds",
                    "predict_seconds_per_1000",
                )
            }  # fmt: skip
            trained = [len([g for g in run["groups"] if g]) for run in own]
            if row.endswith("soft") or row.startswith("ensemble"):
                trained = [len(run["memberships"][0]) for run in own]
            rows.append(
                (
                    row,
                    shown([100 * v for v in mean["f1_test"]]),
                    shown([100 * v for v in mean["f1_train"]]),
                    f"{np.mean([run['find_models'] for run in own]):.0f}",
                    f"{np.mean(mean['find_seconds']):.0f}",
                    f"{np.mean(trained):.0f}",
                    f"{np.mean(mean['train_seconds']):.0f}",
                    f"{np.mean(mean['predict_seconds_per_1000']):.2f}",
                )
            )
        if rows:
            header = (
                name, "F1 test, %", "F1 train, %", "models to find", "s to find",
                "networks", "s to train", "s per 1,000 predicted",
            )  # fmt: skip
            text += [table(header, rows), ""]
    found = bars(runs, settings)
    names = sorted({key for entry in found.values() for key in entry})
    rows = [(name, *(_cell(found[str(s)].get(name)) for s in settings.seeds)) for name in names]
    text += [table(("shape", *(f"seed {s}" for s in settings.seeds)), rows), ""]
    return "\n".join(text)


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "" if value is None else f"{value:.3f}"


def draw(runs: Sequence[dict[str, Any]], settings: Settings) -> Figure | None:
    """Memberships as the paper's figures 4 and 5, from the first seed; None without any."""
    maps = {
        run["problem"]: run
        for run in runs
        if run["row"] == "maps: joint" and run["seed"] == settings.seeds[0]
    }
    chosen = [
        (f"{name}, {count} clusters", maps[name], count)
        for name in ("G1", "G2")
        for count in ("2", "3")
        if name in maps
    ]
    if not chosen:
        return None
    figure, axes = canvas(1, len(chosen), width=3.2, height=5.0)
    for ax, (title, run, count) in zip(axes[0], chosen, strict=True):
        values = np.array(run["clusters"][count]["memberships"])
        ax.imshow(values, cmap="Blues", vmin=0, vmax=1, aspect="auto")
        ax.set_yticks(range(len(run["tasks"])), run["tasks"], fontsize=8)
        ax.set_xticks(range(values.shape[1]))
        ax.set_title(title, fontsize=10)
        for (i, j), value in np.ndenumerate(values):
            colour = "white" if value > 0.6 else "black"
            ax.text(j, i, f"{value:.2f}", ha="center", va="center", fontsize=7, color=colour)
    return figure


def draw_scores(runs: Sequence[dict[str, Any]], settings: Settings) -> Figure | None:
    """Mean F1 per row on training and test images, as the paper's figure 6."""
    sets = [n for n in settings.sets if any(r["problem"] == n and "f1_test" in r for r in runs)]
    if not sets:
        return None
    figure, axes = canvas(1, len(sets), width=5.5, height=4.0)
    for ax, name in zip(axes[0], sets, strict=True):
        rows = [
            row
            for row in settings.rows
            if any(r["problem"] == name and r["row"] == row for r in runs)
        ]
        for shift, key, colour in ((-0.2, "f1_train", "#bbbbbb"), (0.2, "f1_test", "#4c72b0")):
            values = [
                [
                    100 * float(np.mean(r[key]))
                    for r in runs
                    if r["problem"] == name and r["row"] == row
                ]
                for row in rows
            ]
            places = np.arange(len(rows)) + shift
            ax.barh(places, [np.mean(v) for v in values], 0.38, color=colour, label=key[3:])
            for place, own in zip(places, values, strict=True):
                ax.plot(own, [place] * len(own), "k.", ms=3)
        ax.set_yticks(range(len(rows)), rows)
        ax.invert_yaxis()
        ax.set_xlabel("mean F1, %")
        ax.set_title(name, fontsize=10)
        ax.legend(fontsize=8, ncols=2, loc="upper right", bbox_to_anchor=(1, 1.1), frameon=False)
    return figure


def report(runs: Sequence[dict[str, Any]], settings: Settings) -> Report:
    text = show(runs, settings)
    files = {
        "table.md": text,
        "memberships.png": draw(runs, settings),
        "scores.png": draw_scores(runs, settings),
    }
    return Report({"runs": len(runs), "bars": bars(runs, settings)}, text, files)


SMOKE = {
    "sets": ("G1",), "seeds": (0,), "size": 8, "images": 200, "test_images": 100, "epochs": 1,
    "pair_epochs": 1, "rows": ("joint", "STG, soft"),
}  # fmt: skip

main = experiment(Settings, report, jobs=jobs_of, work=work, smoke=SMOKE)


if __name__ == "__main__":
    main()
