"""UCI-121: one joint system against a forest, and the methods of tables 2 and 3 of TOM's paper.

    python -m experiments.universal.uci121.run
    python -m experiments.universal.uci121.run --methods system forest
    python -m experiments.universal.uci121.run --scale full --minutes 6000

Every method is appended to a log as soon as it ends: the same command goes on where it stopped.
"""

from __future__ import annotations

import csv
import dataclasses
import functools
import io
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from experiments.common import DATA, Report, ResumableSettings, experiment
from experiments.showing import COLOURS, canvas, label, table
from experiments.universal.uci121 import baselines, system
from matplotlib.figure import Figure
from torch import Tensor

from polytask.datasets.uci121 import uci121
from polytask.evaluation.benchmark_scores import score_benchmark
from polytask.evaluation.significance import paired_test
from polytask.problems import Problem

#: Sets whose test rows are scaled otherwise than their training rows (see the data's README).
SHIFTED = ("annealing", "monks-1", "monks-2", "monks-3")
AS_IS, MATCHED = "as they are", "matched"
SYSTEM, ALONE, FOREST = "system", "system, nothing shared", "forest (reference)"
SHIFTED_FOREST = "forest, shifted sets"
ANCHORS_FILE = DATA.parent / "reference" / "uci_single_task_anchors.csv"
#: Columns of the reference's accuracies, and what they are called here.
ANCHORS = {"rf": FOREST, "hgb": "boosting (reference)", "logreg": "logistic regression (reference)"}
#: Mean accuracies of tables 2 and 3 of the paper, on all 121 sets.
PUBLISHED = {
    "TOM": 81.53, "SNN": 81.39, "SLO": 80.31, "DR-MTL": 78.40, "DR-STL": 76.48, "TOM-STL": 68.18,
}  # fmt: skip
COLUMNS = {
    "win": "Win %",
    "best": "Best %",
    "mean_rank": "Mean Rank",
    "normalized_accuracy": "Norm. Acc.",
    "mean_accuracy": "Mean Acc.",
}
#: Steps of networks for all sets, and of networks for one set each, in the scaled setting.
STEPS_TOGETHER, STEPS_ALONE = 400, 120


@dataclass(frozen=True)
class Settings(ResumableSettings):
    """Of the experiment."""

    data: Path = DATA / "uci121"
    methods: tuple[str, ...] = (
        SYSTEM, ALONE, "TOM", "SLO", "DR-MTL", "DR-STL", "TOM-STL", "SNN",
        "boosting", "forest", SHIFTED_FOREST,
    )  # fmt: skip
    sets: tuple[str, ...] = ()
    seed: int = 0
    length: float = 1.0


@dataclass(frozen=True)
class Job:
    """One method on all sets."""

    method: str
    length: float
    seed: int
    sets: tuple[str, ...]


def jobs_of(settings: Settings) -> list[Job]:
    """The methods, in order."""
    return [settings.job(Job, method=method) for method in settings.methods]


def work(job: Job, *, folder: Path) -> dict[str, Any]:
    """Accuracies of one method."""
    torch.set_num_threads(1)
    started, processor = time.monotonic(), time.process_time()
    outcome = METHODS[job.method](job, folder)
    return {
        **outcome,
        "seconds": time.monotonic() - started,
        "processor_seconds": time.process_time() - processor,
    }


@functools.cache
def read(data: Path, sets: tuple[str, ...], join: bool) -> Problem:
    """The sets with split 0."""
    return uci121(data, sets=sets or None, split=0, join_validation=join)


def matched(problem: Problem) -> dict[str, Tensor]:
    """Test rows of the sets of ``SHIFTED``, scaled to the mean and deviation of the rows to learn
    from; no labels are used.
    """
    found = {}
    for name in SHIFTED:
        if name in problem.test.parts:
            train, test = problem.train.parts[name].inputs, problem.test.parts[name].inputs
            spread = test.std(0).clamp_min(1e-6)
            found[name] = (test - test.mean(0)) / spread * train.std(0) + train.mean(0)
    return found


def run_system(job: Job, data: Path, *, shared: bool) -> dict[str, Any]:
    """The joint system, with all ways of mixing its answers."""
    problem = read(data, job.sets, True)
    tables = system.tables_of(problem, job.seed)
    plan = system.Plan(seed=job.seed, shared=shared)
    first, later = (max(4, round(n * job.length)) for n in (plan.steps, plan.later_steps))
    plan = replace(plan, steps=first, later_steps=later)
    versions = {
        AS_IS: {name: table.test_inputs for name, table in tables.items()},
        MATCHED: matched(problem),
    }
    answers, facts = system.train(problem, tables, plan, versions)
    accuracies: dict[str, dict[str, float]] = {}
    unseen: dict[str, dict[str, float]] = {}
    weights: dict[str, list[float]] = {}
    for name, own in answers.items():
        table = tables[name]
        classes = table.classes[own.rows].numpy()
        chosen = system.mixture(own.unseen, classes, plan.prior)
        weights[name] = chosen.tolist()
        count = len(chosen)
        ways = {
            "mixture": chosen,
            "mean": np.full(count, 1 / count),
            "last": np.eye(count)[-system.ANSWERS :].mean(0),
            "last heads": np.eye(count)[-system.ANSWERS],
            "last neighbours": np.eye(count)[1 - system.ANSWERS],
        }
        for way, shares in ways.items():
            for version, kept in own.test.items():
                if kept.size:
                    correct = system.accuracy(np.tensordot(shares, kept, 1), table.test_classes)
                    accuracies.setdefault(f"{way}, {version}", {})[name] = correct
            seen = np.tensordot(shares, own.unseen, 1)
            if way == "mixture":
                seen = system.mixed_unseen(table, own, plan.prior)
            unseen.setdefault(way, {})[name] = system.accuracy(seen, classes)
    return {
        "accuracy": accuracies.pop(f"mixture, {AS_IS}"),
        "other": accuracies,
        "unseen": unseen,
        "weights": weights,
        "facts": facts,
    }


def run_network(job: Job, data: Path) -> dict[str, Any]:
    """One of the paper's networks."""
    problem = read(data, job.sets, False)
    steps = STEPS_ALONE if job.method in baselines.SINGLE else STEPS_TOGETHER
    plan = baselines.Plan(steps=max(4, round(steps * job.length)), seed=job.seed)
    found = baselines.run_network(problem, job.method, plan)
    return {"accuracy": found, "facts": {"steps": plan.steps}}


def run_trees(job: Job, data: Path) -> dict[str, Any]:
    """Forest or boosting."""
    problem = read(data, job.sets, True)
    if job.method == SHIFTED_FOREST:
        problem = problem.select_tasks([name for name in SHIFTED if name in problem.train.parts])
    method = "boosting" if job.method == "boosting" else "forest"
    found, other = baselines.run_trees(problem, method, job.seed, matched(problem))
    return {"accuracy": found, "other": {MATCHED: other}}


METHODS: dict[str, Callable[[Job, Path], dict[str, Any]]] = {
    SYSTEM: functools.partial(run_system, shared=True),
    ALONE: functools.partial(run_system, shared=False),
    **dict.fromkeys(("TOM", "SLO", "DR-MTL", "DR-STL", "TOM-STL", "SNN"), run_network),
    **dict.fromkeys(("boosting", "forest", SHIFTED_FOREST), run_trees),
}


def anchors(path: Path, sets: Sequence[str]) -> dict[str, dict[str, float]]:
    """Reference accuracies by method and set; methods without a value for some set are left out."""
    if not path.exists():
        return {}
    with path.open(encoding="utf-8") as file:
        rows = {row["set"]: row for row in csv.DictReader(file)}
    found = {}
    for key, name in ANCHORS.items():
        own = {n: float(rows[n][key]) for n in sets if n in rows and rows[n][key]}
        if len(own) == len(sets):
            found[name] = own
    return found


def machine(path: Path, ours: Mapping[str, float]) -> dict[str, float]:
    """Mean accuracies of the reference's support vector machine and of ours on the sets that it
    could learn.
    """
    if not path.exists():
        return {}
    with path.open(encoding="utf-8") as file:
        found = {r["set"]: float(r["svm"]) for r in csv.DictReader(file) if r["svm"]}
    common = sorted(found.keys() & ours.keys())
    if not common:
        return {}
    means = [100 * float(np.mean([own[name] for name in common])) for own in (ours, found)]
    return {"sets": len(common), SYSTEM: means[0], "support vector machine": means[1]}


def scores_of(by_method: Mapping[str, Mapping[str, float]]) -> dict[str, dict[str, float]]:
    """The five numbers of every method, compared with each other."""
    sets = sorted(next(iter(by_method.values())))
    array = [[own[name] for name in sets] for own in by_method.values()]
    found = score_benchmark(array, list(by_method))
    return {method: dataclasses.asdict(score) for method, score in found.items()}


def against(ours: Mapping[str, float], theirs: Mapping[str, float]) -> dict[str, Any]:
    """Differences in points over sets: mean with interval, wins and losses, the largest ones."""
    gaps = {name: 100 * (ours[name] - theirs[name]) for name in sorted(ours)}
    values = np.array(list(gaps.values()))
    order = sorted(gaps, key=lambda name: gaps[name])
    found: dict[str, Any] = {
        "mean": float(values.mean()),
        "better": int((values > 0).sum()),
        "worse": int((values < 0).sum()),
        "most_behind": {name: gaps[name] for name in order[:10]},
        "most_ahead": {name: gaps[name] for name in order[::-1][:10]},
    }
    if len(values) > 1:
        test = paired_test(list(values))
        found |= {"low": test.interval.low, "high": test.interval.high, "p": test.p}
    return found


def on_matched(own: Mapping[str, Any], theirs: Mapping[str, float]) -> dict[str, Any]:
    """The system and a forest with the matched test rows of the shifted sets."""
    ours = {**own["accuracy"], **own["other"].get(f"mixture, {MATCHED}", {})}
    return {
        **scores_of({SYSTEM: ours, "forest": theirs}),
        "difference": against(ours, theirs),
        "sets": {name: [ours[name], theirs[name]] for name in SHIFTED if name in ours},
    }


def analyse(outcomes: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """All comparisons that the methods at hand allow."""
    by_method = {o["method"]: o for o in outcomes}
    shifted = by_method.pop(SHIFTED_FOREST, None)
    accuracy = {name: dict(o["accuracy"]) for name, o in by_method.items()}
    sets = sorted(next(iter(accuracy.values())))
    known = anchors(ANCHORS_FILE, sets)
    content: dict[str, Any] = {
        "command": "python -m experiments.universal.uci121.run",
        "published": PUBLISHED,
        "all": scores_of({**accuracy, **known}),
        "accuracy": {**accuracy, **known},
        "runs": {
            name: {k: o[k] for k in ("facts", "seconds", "processor_seconds", "unseen") if k in o}
            for name, o in by_method.items()
        },
    }
    compared = {
        "paper": [m for m in PUBLISHED if m in accuracy],
        "user": [m for m in (SYSTEM, *known, "boosting", "forest") if m in {**accuracy, **known}],
    }
    for key, chosen in compared.items():
        if len(chosen) > 1:
            content[key] = scores_of({m: {**accuracy, **known}[m] for m in chosen})
    if SYSTEM in accuracy:
        own = by_method[SYSTEM]
        content["ways"] = {
            way: 100 * float(np.mean(list(found.values())))
            for way, found in own["other"].items()
            if len(found) == len(sets)
        }
        content["machine"] = machine(ANCHORS_FILE, accuracy[SYSTEM])
        content["against"] = {
            name: against(accuracy[SYSTEM], found)
            for name, found in {**accuracy, **known}.items()
            if name != SYSTEM
        }
        base = {**accuracy, **known}.get("forest" if "forest" in accuracy else FOREST)
        if shifted is not None and base is not None:
            content["matched"] = on_matched(own, {**base, **shifted["other"][MATCHED]})
    return content


def per_set(content: Mapping[str, Any], problem: Problem) -> str:
    """One line of CSV per set: sizes and the accuracy of every method."""
    methods = list(content["accuracy"])
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["set", "rows_to_learn_from", "test_rows", "features", "classes", *methods])
    for task in problem.tasks:
        train, test = (s.parts[task.name] for s in (problem.train, problem.test))
        sizes = [len(train), len(test), train.inputs.shape[1], task.kind.output_size]
        found = [f"{content['accuracy'][m][task.name]:.5f}" for m in methods]
        writer.writerow([task.name, *sizes, *found])
    return file.getvalue()


def figure(content: Mapping[str, Any], problem: Problem) -> Figure | None:
    """Every set: the system against the forest, and the gap by the rows to learn from."""
    theirs_name = next((m for m in (FOREST, "forest") if m in content["accuracy"]), None)
    if theirs_name is None or SYSTEM not in content["accuracy"]:
        return None
    names = sorted(content["accuracy"][SYSTEM])
    ours, theirs = (
        100 * np.array([content["accuracy"][m][n] for n in names]) for m in (SYSTEM, theirs_name)
    )
    rows = np.array([len(problem.train.parts[n]) for n in names])
    drawn, axes = canvas(1, 2, width=5.5, height=4.5)
    ax = axes[0, 0]
    ax.plot([0, 100], [0, 100], color="0.6", linewidth=1)
    ax.scatter(theirs, ours, s=8 * np.log10(rows) ** 1.5, color=COLOURS[0], alpha=0.7)
    ax.set_xlim(min(theirs.min(), ours.min()) - 3, 101)
    ax.set_ylim(min(theirs.min(), ours.min()) - 3, 101)
    label(ax, "accuracy on the test rows, %", "forest", "joint system")
    ax = axes[0, 1]
    ax.axhline(0, color="0.6", linewidth=1)
    gaps = ours - theirs
    ax.scatter(rows, gaps, s=18, color=np.where(gaps < 0, COLOURS[3], COLOURS[0]), alpha=0.7)
    for place in np.argsort(-np.abs(gaps))[:8]:
        ax.annotate(names[place], (rows[place], gaps[place]), fontsize=7)
    ax.set_xscale("log")
    label(ax, "system minus forest", "rows to learn from", "points of accuracy")
    return drawn


def show(scores: Mapping[str, Mapping[str, float]]) -> str:
    """Five numbers per method, best mean accuracy first, beside the published ones."""
    ordered = sorted(scores, key=lambda m: -scores[m]["mean_accuracy"])
    rows = [
        (
            method,
            *(f"{scores[method][key]:.2f}" for key in COLUMNS),
            f"{PUBLISHED[method]:.2f}" if method in PUBLISHED else "",
        )
        for method in ordered
    ]
    return table(("method", *COLUMNS.values(), "published mean acc. (121 sets)"), rows)


def report(outcomes: Sequence[dict[str, Any]], settings: Settings) -> Report | None:
    if all(outcome["method"] == SHIFTED_FOREST for outcome in outcomes):
        return None
    content = analyse(outcomes)
    kept = [key for key in ("user", "paper", "all") if key in content]
    text = "\n".join(f"\n{key}\n{show(content[key])}" for key in kept)
    problem = read(settings.data, settings.sets, True)
    files = {"per_set.csv": per_set(content, problem), "accuracy.png": figure(content, problem)}
    return Report(content, text, files)


SMOKE = {"sets": ("iris", "lenses", "monks-1"), "length": 0.01}
SCALES = {"full": {"length": 20.0, "minutes": 6000.0}}

main = experiment(Settings, report, jobs=jobs_of, work=work, smoke=SMOKE, scales=SCALES)


if __name__ == "__main__":
    main()
