"""Does the cheap scope cost quality? Final Delta_m against the time of a step.

    python -m experiments.balancers.scopes.run --workers 2 --minutes 120

Every gradient method is trained with exact gradients of the trunk and with each cheaper way of
looking at them, beside equal weights and single-task learning, on Multi-MNIST and two tables. The
text and table ``conclusion.md`` are made from the numbers. Every run is appended to a log as soon
as it ends: the same command goes on where it stopped.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from experiments.balancers.networks import Job, train
from experiments.common import DATA, Report, ResumableSettings, experiment
from experiments.showing import COLOURS, canvas, delta_m, label, shown, table
from matplotlib.figure import Figure

from polytask.evaluation.scores import Interval, interval

#: Ways to look at task gradients, as ``GradientOptions``; the first is exact. ``samples`` of the
#: features are not rows of a second forward pass, and ``every`` combines with all.
VARIANTS: dict[str, dict[str, Any]] = {
    "trunk": {},
    "last": {"scope": "last"},
    "features": {"scope": "features"},
    "samples 1/8": {"samples": 0.125},
    "every 4": {"every": 4},
    "last, every 4": {"scope": "last", "every": 4},
    "features, every 4": {"scope": "features", "every": 4},
}
NUM_TASKS = {"multi_mnist": 2, "sarcos": 7, "rf1": 8}
#: Test rows over training rows where every seed splits a table anew, for the intervals.
TABLE_OVERLAP = 0.2 / 0.8


@dataclass(frozen=True)
class Settings(ResumableSettings):
    """Of the experiment."""

    problems: tuple[str, ...] = ("multi_mnist", "sarcos", "rf1")
    methods: tuple[str, ...] = ("mgda", "pcgrad", "cagrad", "nash_mtl", "upgrad")
    variants: tuple[str, ...] = tuple(VARIANTS)
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    digit_rows: int = 10_000
    digit_epochs: int = 6
    table_epochs: int = 20
    digit_batch_size: int = 256
    table_batch_size: int = 128
    learning_rate: float = 1e-3
    #: Loss of Delta_m, in percentage points, that we call no loss.
    margin: float = 0.5
    data: Path = DATA


def jobs_of(settings: Settings) -> list[Job]:
    """Seed by seed, so that an interrupted experiment has whole seeds."""
    return [
        job
        for seed in settings.seeds
        for problem in settings.problems
        for job in _jobs_of(settings, problem, seed)
    ]


def _jobs_of(settings: Settings, problem: str, seed: int) -> list[Job]:
    digits = problem == "multi_mnist"
    common = {
        "data": problem,
        "seed": seed,
        "rows": settings.digit_rows if digits else 0,
        "epochs": settings.digit_epochs if digits else settings.table_epochs,
        "batch_size": settings.digit_batch_size if digits else settings.table_batch_size,
        "learning_rate": settings.learning_rate,
    }
    everything = tuple(range(NUM_TASKS[problem]))
    jobs = [Job(method="single", balancer="equal", tasks=(task,), **common) for task in everything]
    jobs.append(Job(method="equal", balancer="equal", tasks=everything, **common))
    for method in settings.methods:
        for variant in settings.variants:
            options = VARIANTS[variant]
            name = name_of(method, variant)
            jobs.append(
                Job(method=name, balancer=method, tasks=everything, options=options, **common)
            )
    return jobs


def name_of(method: str, variant: str) -> str:
    """How results call a method with a variant."""
    return f"{method}: {variant}"


@dataclass(frozen=True)
class Outcomes:
    """``delta[problem][name]`` in per cent and ``time[problem][name]`` relative to equal weights,
    one value per seed; NaN where runs are missing.
    """

    delta: dict[str, dict[str, np.ndarray]]
    time: dict[str, dict[str, np.ndarray]]

    def difference(self, problem: str, methods: Sequence[str], variant: str) -> np.ndarray:
        """Delta_m of a variant minus that of "trunk", mean over methods, per seed."""
        own = self.delta[problem]
        pairs = [own[name_of(m, variant)] - own[name_of(m, "trunk")] for m in methods]
        return np.mean(pairs, axis=0)

    def cost(self, problem: str, methods: Sequence[str], variant: str) -> float:
        """Median time over methods and seeds, relative to equal weights."""
        return float(np.nanmedian([self.time[problem][name_of(m, variant)] for m in methods]))


def collect(runs: Sequence[dict[str, Any]], settings: Settings) -> Outcomes:
    """Delta_m over single-task learning, and processor time per step over that of equal weights."""
    seeds = list(settings.seeds)
    names = ["single", "equal"]
    names += [name_of(m, v) for m in settings.methods for v in settings.variants]
    delta, time = {}, {}
    for problem in settings.problems:
        errors = np.full((len(names), len(seeds), NUM_TASKS[problem]), np.nan)
        times = np.full((len(names), len(seeds)), np.nan)
        for run in runs:
            if run["data"] == problem:
                place = names.index(run["method"]), seeds.index(run["seed"])
                errors[place][list(run["tasks"])] = run["scores"]
                times[place] = run["processor_ms_per_step"]
        # Relative gains of accuracy for digits, of the root mean squared error for tables.
        higher = problem == "multi_mnist"
        scores = 1 - errors if higher else errors
        gains = delta_m(scores, 0, higher_is_better=higher)
        delta[problem] = dict(zip(names, gains, strict=True))
        time[problem] = dict(zip(names, times / times[1], strict=True))
    return Outcomes(delta, time)


def overlap_of(problem: str) -> float:
    """For the intervals: tables are split anew with every seed, digits are not."""
    return 0.0 if problem == "multi_mnist" else TABLE_OVERLAP


def judge(outcomes: Outcomes, settings: Settings) -> dict[str, Any]:
    """Per variant: cost, change of Delta_m per problem, and whether it costs quality anywhere.

    A variant is "as good" where the whole interval of its change lies above minus the margin,
    "worse" where it lies below 0 as a whole, else "not clear".
    """
    found: dict[str, Any] = {}
    for variant in settings.variants:
        rows = {}
        for problem in settings.problems:
            values = outcomes.difference(problem, settings.methods, variant)
            change = interval(values, overlap=overlap_of(problem))
            verdict = "not clear"
            if variant == "trunk" or change.low > -settings.margin:
                verdict = "as good"
            elif change.high < 0:
                verdict = "worse"
            rows[problem] = {
                "cost": outcomes.cost(problem, settings.methods, variant),
                "change": [change.mean, change.low, change.high],
                "seeds": change.count,
                "verdict": verdict,
            }
        found[variant] = rows
    return found


def conclude(verdicts: dict[str, Any], settings: Settings) -> str:
    """One paragraph: the cheapest variant that is as good as exact gradients on every problem."""
    costs = {
        variant: float(np.exp(np.mean([np.log(r["cost"]) for r in rows.values()])))
        for variant, rows in verdicts.items()
    }
    good = [v for v, rows in verdicts.items() if all_are(rows, "as good")]
    choice = min(good, key=costs.__getitem__, default="trunk")
    sentences = [
        f"Over {', '.join(settings.methods)} and {', '.join(settings.problems)}"
        f" ({len(settings.seeds)} seeds), exact trunk gradients cost {costs['trunk']:.2f} times an"
        f" equal-weighting step (geometric mean over the problems). The cheapest way whose Delta_m"
        f" stays within {settings.margin} points of them on every problem is"
        f" **{choice}**, at {costs[choice]:.2f} times."
    ]
    for variant, rows in verdicts.items():
        if variant == "trunk":
            continue
        parts = [f"{problem} {points(row['change'])}" for problem, row in rows.items()]
        verdict = next(
            (word for word in ("as good", "worse") if all_are(rows, word)), "mixed or not clear"
        )
        sentences.append(f"{variant} ({costs[variant]:.2f} times): {'; '.join(parts)}: {verdict}.")
    sentences.append(
        "Changes are percentage points of Delta_m against exact gradients, mean over the methods,"
        " with 95 % intervals over seeds."
    )
    return "\n".join(["# Does the cheap scope cost quality?", "", " ".join(sentences), ""])


def all_are(rows: dict[str, Any], verdict: str) -> bool:
    """Whether a variant has this verdict on every problem."""
    return all(row["verdict"] == verdict for row in rows.values())


def points(change: Sequence[float]) -> str:
    """``mean [low, high]``."""
    mean, low, high = change
    return f"{mean:+.2f} [{low:+.2f}, {high:+.2f}]"


def show(outcomes: Outcomes, settings: Settings) -> str:
    """Delta_m with its interval, and relative time in brackets."""
    rows = []
    for name in outcomes.delta[settings.problems[0]]:
        if name == "single":
            continue
        cells = []
        for problem in settings.problems:
            values = outcomes.delta[problem][name]
            time = float(np.nanmedian(outcomes.time[problem][name]))
            cells.append(f"{shown(values, overlap=overlap_of(problem))} ({time:.2f}x)")
        rows.append((name, *cells))
    return table(("method: what is looked at", *settings.problems), rows)


def draw(outcomes: Outcomes, settings: Settings) -> Figure:
    """Delta_m against relative time: colour is the variant, marker the method."""
    markers = "osD^vP*"
    figure, axes = canvas(1, len(settings.problems), width=4.6, height=4.2)
    for ax, problem in zip(axes[0], settings.problems, strict=True):
        for m, method in enumerate(settings.methods):
            for v, variant in enumerate(settings.variants):
                name = name_of(method, variant)
                ax.plot(
                    np.nanmedian(outcomes.time[problem][name]),
                    np.nanmean(outcomes.delta[problem][name]),
                    markers[m % len(markers)],
                    color=COLOURS[v % len(COLOURS)],
                    ms=6,
                    alpha=0.8,
                )
        equal: Interval = interval(outcomes.delta[problem]["equal"], overlap=overlap_of(problem))
        ax.axhline(equal.mean, color="k", lw=0.8, ls=":")
        if not np.isnan(equal.low):
            ax.axhspan(equal.low, equal.high, color="k", alpha=0.08)
        label(ax, problem, "time of a step, relative to equal weights", "Delta_m, %")
    for v, variant in enumerate(settings.variants):
        axes[0, 0].plot([], [], "s", color=COLOURS[v % len(COLOURS)], label=variant)
    for m, method in enumerate(settings.methods):
        axes[0, -1].plot([], [], markers[m % len(markers)], color="grey", label=method)
    axes[0, -1].plot([], [], "k:", label="equal weights")
    axes[0, 0].legend(fontsize=6.5)
    axes[0, -1].legend(fontsize=6.5)
    return figure


def report(runs: Sequence[dict[str, Any]], settings: Settings) -> Report:
    outcomes = collect(runs, settings)
    verdicts = judge(outcomes, settings)
    text = conclude(verdicts, settings) + "\n" + show(outcomes, settings)
    results = {"runs": len(runs), "delta_m": outcomes.delta, "time": outcomes.time}
    files = {"conclusion.md": text, "figure.png": draw(outcomes, settings)}
    return Report({**results, "verdicts": verdicts}, text, files)


SMOKE = {
    "problems": ("sarcos",), "methods": ("mgda",), "variants": ("trunk", "last"),
    "seeds": (0, 1), "table_epochs": 1, "table_batch_size": 1024,
}  # fmt: skip

main = experiment(Settings, report, jobs=jobs_of, work=train, smoke=SMOKE)


if __name__ == "__main__":
    main()
