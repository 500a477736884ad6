"""How good are the decisions that predicted gains lead to? Three tables of measured gains, no
training.

    python -m experiments.grouping.gains.run

Shape legend: T tasks, S sets of tasks.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from experiments.common import DATA, BaseSettings, Report, experiment
from experiments.showing import COLOURS, canvas, label, shown, table
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.stats import rankdata
from torch import Tensor

from polytask.grouping.gain_models import GainModel, MembershipRidge, PartnerRelevance, TaskMean
from polytask.grouping.mtg_net import MTGNetwork
from polytask.grouping.sampled_groups import next_sets
from polytask.grouping.scores import TableScores
from polytask.grouping.search import best_groups

#: A task's sets can be ranked from this many on.
LEAST_SETS = 3
GROUPS = (2, 3)
#: Sets per task of the third budget: n K of MTG-Net.
SETS_PER_TASK = 4
PARTNERS, RIDGE, MTG = "partner relevance", "membership ridge", "MTG-Net"
ACTIVE, FROM_PAIRS = f"{PARTNERS}, active", f"{PARTNERS}, from all pairs"
MODELS: dict[str, Callable[[], GainModel]] = {
    "per-task mean": TaskMean,
    RIDGE: MembershipRidge,
    PARTNERS: PartnerRelevance,
    MTG: MTGNetwork,
}


@dataclass(frozen=True)
class Settings(BaseSettings):
    """Of the experiment."""

    problems: tuple[str, ...] = ("taskonomy", "ettm1", "mimic")
    draws: int = 10
    mtg_draws: int = 10
    rounds: int = 4
    seed: int = 0
    data: Path = DATA


@dataclass(frozen=True)
class Gains:
    """One problem.

    Args:
        masks: ``[S, T]``, the measured sets.
        test: ``[S, T]``, measured gains; NaN outside the sets.
        validation: The same on validation rows, where that is another measurement.
        published: The authors' predictions ``[S, T]``.
        together: Measured mean gain of all tasks in one network.
    """

    name: str
    masks: Tensor
    test: Tensor
    validation: Tensor | None
    published: Mapping[str, Tensor]
    together: float

    @property
    def seen(self) -> Tensor:
        """What a method is told of the sets that it trains ``[S, T]``."""
        return self.test if self.validation is None else self.validation

    @property
    def num_tasks(self) -> int:
        return self.masks.shape[1]

    @property
    def budgets(self) -> list[int]:
        """Observed sets of two or more tasks: 10, 20, n K, and as many as there are pairs."""
        n = self.num_tasks
        return sorted({10, 20, SETS_PER_TASK * n, n * (n - 1) // 2})


FILES = {
    "taskonomy": ("taskonomy_x", "taskonomy", None, "taskonomy_HOA", "taskonomy_TAGHOA"),
    "ettm1": ("ETTm1_x", "ETTm1_y", "ETTm1_val_y", "ETTm1_HOA", "ETTm1_TAG_HOA"),
    # Its validation gains rank every task's sets exactly as the test gains: no other measurement.
    "mimic": ("mimic_x", "mimic_y_test", None, "mimic_HOA", "mimic_TAGHOA"),
}


def read(folder: Path, name: str) -> Gains:
    """One problem's tables."""
    files = FILES[name]
    masks = _numbers(folder, files[0]).bool()
    test, validation, hoa, tag = (
        None if file is None else _numbers(folder, file).masked_fill(~masks, torch.nan)
        for file in files[1:]
    )
    keep = torch.ones(len(masks), dtype=torch.bool)
    everyone = masks.all(1)
    together = float(test[everyone].mean())
    if name == "mimic":
        # This one row is far above what every other large set measures (see the page).
        keep = ~everyone
    return Gains(
        name,
        masks[keep],
        test[keep],
        None if validation is None else validation[keep],
        {"HOA": hoa[keep], "TAG-HOA": tag[keep]},
        together,
    )


def _numbers(folder: Path, name: str) -> Tensor:
    path = folder / "group_gains" / f"{name}.csv.gz"
    comma = name == "taskonomy_x"
    return torch.from_numpy(np.loadtxt(path, delimiter="," if comma else None))


# --- measures ------------------------------------------------------------------------------------


def within_task(predicted: Tensor, gains: Tensor, rows: Tensor) -> float:
    """Mean over tasks of Spearman's correlation over sets; a prediction without order counts 0.

    Args:
        predicted: ``[S, T]``.
        gains: ``[S, T]``, NaN outside the sets.
        rows: ``[S]``, the sets that are looked at. NaN where no task has three of them.
    """
    found = []
    for task in range(gains.shape[1]):
        inside = rows & gains[:, task].isfinite()
        if int(inside.sum()) < LEAST_SETS:
            continue
        ranks = [rankdata(values[inside, task].numpy()) for values in (predicted, gains)]
        spread = [float(np.std(r)) for r in ranks]
        found.append(0.0 if min(spread) == 0 else float(np.corrcoef(*ranks)[0, 1]))
    return float(np.mean(found)) if found else float("nan")


def decided(problem: Gains, scores: Tensor, num_groups: int, generator: torch.Generator) -> float:
    """Measured mean gain where the groups, and who serves whom, are chosen by scores."""
    # Which of several equal scores wins must not depend on the order of the table.
    jitter = 1e-6 * max(float(scores[problem.masks].std()), 1e-9)
    noise = torch.rand(scores.shape, generator=generator, dtype=torch.float64)
    known = TableScores(problem.masks, scores.nan_to_num(nan=0.0) + jitter * noise)
    choice = best_groups(known, problem.num_tasks, num_groups, restarts=2)
    measured = TableScores(problem.masks, problem.test.nan_to_num(nan=0.0))(choice.groups)
    return float(measured[choice.serving, torch.arange(problem.num_tasks)].mean())


def random_covers(problem: Gains, num_groups: int, count: int, rng: np.random.Generator) -> float:
    """Mean gain of random measured sets that cover all tasks, each task served by a random one."""
    masks, gains = problem.masks.numpy(), problem.test.numpy()
    found: list[float] = []
    while len(found) < count:
        rows = rng.integers(len(masks), size=(20000, num_groups))
        for chosen in rows[masks[rows].any(1).all(1)][: count - len(found)]:
            served = np.nanmean(np.where(masks[chosen], gains[chosen], np.nan), axis=0)
            found.append(float(served.mean()))
    return float(np.mean(found))


# --- observations --------------------------------------------------------------------------------


def observed_at_random(problem: Gains, budget: int, rng: np.random.Generator) -> Tensor:
    """Rows of sets of two or more tasks."""
    several = np.flatnonzero((problem.masks.sum(1) > 1).numpy())
    return torch.from_numpy(rng.choice(several, budget, replace=False))


def observed_actively(problem: Gains, budget: int, rounds: int, rng: np.random.Generator) -> Tensor:
    """Rows: the first round at random, the others where partner relevance expects the most."""
    sizes = [len(part) for part in np.array_split(np.arange(budget), min(rounds, budget))]
    rows = observed_at_random(problem, sizes[0], rng)
    several = problem.masks.sum(1) > 1
    for size in sizes[1:]:
        model = PartnerRelevance().fit(problem.masks[rows], problem.seen[rows])
        best = problem.seen[rows].nan_to_num(nan=-torch.inf).max(0).values.clamp(min=0.0)
        free = several.clone()
        free[rows] = False
        candidates = free.nonzero().flatten()
        chosen = next_sets(model, problem.masks[candidates], best, size)
        rows = torch.cat([rows, candidates[chosen]])
    return rows


def predict(problem: Gains, model: GainModel, rows: Tensor, seed: int) -> Tensor:
    """Predicted gains of all sets ``[S, T]``; NaN outside."""
    model.fit(problem.masks[rows], problem.seen[rows], seed=seed)
    return model(problem.masks).masked_fill(~problem.masks, torch.nan)


# --- the experiment ------------------------------------------------------------------------------


def measure(
    problem: Gains, predicted: Tensor, rows: Tensor | None, generator: torch.Generator
) -> dict[str, float]:
    """Rank correlation on unobserved sets of three or more tasks, and the gains of decisions by
    predictions alone, and by what was measured of the observed sets and predictions of the others.
    """
    unseen = problem.masks.sum(1) >= 3
    best_known = predicted.clone()
    if rows is not None:
        unseen[rows] = False
        best_known[rows] = problem.seen[rows]
    result = {"spearman": within_task(predicted, problem.test, unseen)}
    for k in GROUPS:
        result[f"predicted_{k}"] = decided(problem, predicted, k, generator)
        if rows is not None:
            result[f"gain_{k}"] = decided(problem, best_known, k, generator)
    return result


def learned(problem: Gains, budget: int, settings: Settings) -> dict[str, list[dict[str, float]]]:
    """Every model after so many observations, once per draw."""
    found: dict[str, list[dict[str, float]]] = {}
    for draw in range(settings.draws):
        # The same sets for all models.
        rng = np.random.default_rng([settings.seed, draw, budget])
        rows = observed_at_random(problem, budget, rng)
        generator = torch.Generator().manual_seed(settings.seed + draw)
        for name, model in MODELS.items():
            if name == MTG and draw >= settings.mtg_draws:
                continue
            started = time.process_time()
            predicted = predict(problem, model(), rows, draw)
            seconds = time.process_time() - started
            outcome = measure(problem, predicted, rows, generator)
            found.setdefault(name, []).append({**outcome, "seconds": seconds})
        active = observed_actively(problem, budget, settings.rounds, rng)
        predicted = predict(problem, PartnerRelevance(), active, draw)
        outcome = measure(problem, predicted, active, generator)
        found.setdefault(ACTIVE, []).append(outcome)
    return found


def given(problem: Gains, settings: Settings) -> dict[str, dict[str, float]]:
    """What needs no draws: controls, the authors' predictions, the oracle and the ceiling."""
    generator = torch.Generator().manual_seed(settings.seed)
    rng = np.random.default_rng(settings.seed)
    found = {"all in one": {f"predicted_{k}": problem.together for k in GROUPS}}
    found["random groups"] = {f"predicted_{k}": random_covers(problem, k, 200, rng) for k in GROUPS}
    for name, predicted in problem.published.items():
        found[name] = measure(problem, predicted, None, generator)
    pairs = (problem.masks.sum(1) == 2).nonzero().flatten()
    predicted = predict(problem, PartnerRelevance(), pairs, 0)
    found[FROM_PAIRS] = measure(problem, predicted, pairs, generator)
    if problem.validation is not None:
        found["validation gains"] = measure(problem, problem.validation, None, generator)
    found["oracle"] = measure(problem, problem.test, None, generator)
    return found


def run_problem(problem: Gains, settings: Settings) -> dict[str, Any]:
    """All numbers of one problem."""
    started = time.process_time()
    several = int((problem.masks.sum(1) > 1).sum())
    budgets = [b for b in problem.budgets if b < several]
    result = {
        "tasks": problem.num_tasks,
        "sets": len(problem.masks),
        "given": given(problem, settings),
        "learned": {str(b): learned(problem, b, settings) for b in budgets},
    }
    if problem.name == "mimic" and settings.draws > 1:
        # Far more than anybody would train: what is left is noise, or beyond the model.
        result["most"] = _with_most_sets(problem, settings)
    return {**result, "cpu_seconds": time.process_time() - started}


def _with_most_sets(problem: Gains, settings: Settings) -> dict[str, Any]:
    rows = observed_at_random(problem, 2500, np.random.default_rng(settings.seed))
    unseen = problem.masks.sum(1) >= 3
    unseen[rows] = False
    models = {name: MODELS[name]() for name in (RIDGE, PARTNERS)}
    return {
        "sets": len(rows),
        **{
            name: within_task(predict(problem, model, rows, 0), problem.test, unseen)
            for name, model in models.items()
        },
    }


# --- what is shown -------------------------------------------------------------------------------


def values(rows: Sequence[Mapping[str, float]], key: str) -> list[float]:
    """Of all draws in which it is defined."""
    return [row[key] for row in rows if np.isfinite(row.get(key, np.nan))]


def lines(result: Mapping[str, Any]) -> list[list[str]]:
    """Rows of a problem's table: method, trained networks, correlation, gains and shares."""
    oracle = result["given"]["oracle"]
    n = result["tasks"]
    pairs = n * (n - 1) // 2
    cost = {"HOA": n + pairs, "TAG-HOA": 1, FROM_PAIRS: n + pairs}

    def row(name: str, networks: Any, outcomes: Sequence[Mapping[str, float]]) -> list[str]:
        cells = [name, str(networks)]
        ranked = values(outcomes, "spearman") if name != "oracle" else []
        cells.append(shown(ranked) if ranked else "-")
        for kind in ("predicted", "gain"):
            for k in GROUPS:
                gains = values(outcomes, f"{kind}_{k}")
                share = 100 * float(np.mean(gains or [0.0])) / oracle[f"predicted_{k}"]
                cells.append(f"{shown(gains, 3)} ({share:.0f} %)" if gains else "-")
        return cells

    found = [row(name, cost.get(name, "-"), [r]) for name, r in result["given"].items()]
    for budget, models in result["learned"].items():
        found += [row(name, n + int(budget), outcomes) for name, outcomes in models.items()]
    return found


HEADER = [
    "method",
    "networks",
    "within-task Spearman",
    "gain, 2 groups",
    "3 groups",
    "2 groups, measured first",
    "3 groups, measured first",
]


def draw(results: Mapping[str, Any]) -> Figure:
    """Correlation and share of the oracle's gain over the number of observed sets."""
    figure, axes = canvas(2, len(results), width=4.2, height=3.4)
    for column, (name, result) in enumerate(results.items()):
        budgets = [int(b) for b in result["learned"]]
        oracle = result["given"]["oracle"]["predicted_2"]
        _curves(axes[0, column], result, budgets, ("spearman", "spearman"), 1.0)
        _curves(axes[1, column], result, budgets, ("gain_2", "predicted_2"), oracle)
        label(axes[0, column], name, "observed sets", "within-task Spearman")
        label(axes[1, column], name, "observed sets", "share of the oracle's gain, 2 groups")
    axes[0, -1].legend(fontsize=6, loc="lower right")
    return figure


def _curves(
    ax: Axes, result: Mapping[str, Any], budgets: list[int], keys: tuple[str, str], unit: float
) -> None:
    """One line per model with standard errors of two, and the levels of what needs no draws."""
    for colour, model in zip(COLOURS, (*MODELS, ACTIVE), strict=False):
        drawn = [values(result["learned"][str(b)][model], keys[0]) for b in budgets]
        middle = [np.mean(d) / unit if d else np.nan for d in drawn]
        spread = [2 * np.std(d) / len(d) ** 0.5 / unit if d else np.nan for d in drawn]
        ax.errorbar(budgets, middle, spread, label=model, color=colour, marker="o", ms=3)
    for style, other in (("--", "HOA"), (":", "TAG-HOA"), ("-.", "validation gains")):
        if other in result["given"]:
            level = result["given"][other][keys[1]] / unit
            ax.axhline(level, color="grey", linestyle=style, label=other, linewidth=1)
    ax.set_xscale("log")


def report(settings: Settings) -> Report:
    torch.set_num_threads(1)
    results = {}
    for name in settings.problems:
        results[name] = run_problem(read(settings.data, name), settings)
        print(f"\n### {name}\n\n{table(HEADER, lines(results[name]))}", flush=True)
    return Report({"problems": results}, files={"figure.png": draw(results)})


main = experiment(Settings, report, smoke={"problems": ("taskonomy",), "draws": 2, "mtg_draws": 1})


if __name__ == "__main__":
    main()
