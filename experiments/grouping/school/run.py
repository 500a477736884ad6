"""School: 139 schools, and a tool that must be able to say "do not group".

    python -m experiments.grouping.school.run

Two parts on the same test rows. *Explained variance* follows the reference: 75 % of every school's
pupils are learned from, the explained variance of all test rows is compared between ways to group
the schools. *Verdict* is ``polytask.evaluation.compare``: the 75 % are split into training and
validation rows, and the verdict says whether groups are worth having. All models are
mean-regularised ridge regressions in closed form, and everything that is chosen (groups, penalties)
is chosen by cross-validation inside the training rows.
"""

from __future__ import annotations

import tempfile
import time
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from experiments.common import DATA, BaseSettings, Report, experiment
from experiments.grouping.school.ridge import (
    CrossValidation,
    ExactGains,
    Learned,
    Moments,
    RidgeMethod,
    Rows,
    Rule,
    learn,
    with_constant,
)
from experiments.showing import table

from polytask.candidates import Budget, Candidate
from polytask.evaluation import Comparison, compare
from polytask.evaluation.scores import interval
from polytask.evaluation.significance import paired_test
from polytask.evaluation.verdict import VerdictFacts, reach_verdict
from polytask.problems import Problem, Source
from polytask.problems.source import short_hash
from polytask.runs.progress import SweepObserver
from polytask.tasks import Regression

TEST, VALIDATION = 0.25, 0.15
#: Explained variance in per cent over ten splits of 75 : 25 (``reference/beyond_joint.md``, 4.2).
REFERENCE = {
    "alone": "32.72 ± 1.26",
    "together": "37.27 ± 1.09",
    "hierarchical Bayes": "37.25 ± 1.27",
    "hierarchical Bayes in 2 clusters": "37.15 ± 1.26",
}
TOGETHER = "together"


@dataclass(frozen=True)
class Settings(BaseSettings):
    """Of the experiment.

    Args:
        groups: Numbers of groups of k-means and of the random groups.
        searched: Number of groups that the search may use.
        schools: The first so many; 0 means all.
    """

    groups: tuple[int, ...] = (2, 3, 5, 10)
    searched: int = 2
    schools: int = 0
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4, 5, 6, 7, 8, 9)
    data: Path = DATA


@dataclass(frozen=True)
class School:
    """Raw inputs ``[N, D]`` without the constant, scores ``[N]`` and rows per school."""

    inputs: torch.Tensor
    scores: torch.Tensor
    rows: tuple[np.ndarray, ...]

    @classmethod
    def read(cls, folder: Path, schools: int) -> School:
        """From the shared data."""
        with np.load(folder / "school" / "school.npz") as archive:
            inputs, scores, task = archive["X"][:, :-1], archive["y"], archive["task"]
        number = schools or int(task.max()) + 1
        rows = tuple(np.flatnonzero(task == t) for t in range(number))
        return cls(torch.from_numpy(inputs).double(), torch.from_numpy(scores).double(), rows)

    def split(self, seed: int) -> list[dict[str, np.ndarray]]:
        """Per school the rows of the parts, drawn at random."""
        generator = np.random.default_rng(seed)
        parts = []
        for rows in self.rows:
            order = generator.permutation(rows)
            learned = round((1 - TEST) * len(rows))
            kept = learned - round(VALIDATION * len(rows))
            train, validation, test = np.split(order, [kept, learned])
            parts.append({"train": train, "validation": validation, "test": test})
        return parts


class SchoolSource(Source):
    """The schools as tasks with rows of their own; every seed draws the split anew."""

    resplits = True

    def __init__(self, school: School) -> None:
        self.name = "school"
        self.school = school

    def build(self, seed: int) -> Problem:
        parts = self.school.split(seed)
        problems = {}
        for number, (rows, split) in enumerate(zip(self.school.rows, parts, strict=True)):
            position = {row: k for k, row in enumerate(rows.tolist())}
            own = {part: [position[row] for row in r.tolist()] for part, r in split.items()}
            name = f"school {number}"
            problems[name] = Problem.from_arrays(
                self.school.inputs[rows].numpy(),
                {name: self.school.scores[rows].numpy()},
                {name: Regression()},
                splits=own,
            )
        return Problem.join(problems, name=self.name)

    def fingerprint(self) -> str:
        return short_hash(self.problem(0).fingerprint())

    def config(self) -> dict[str, Any]:
        return {"type": "SchoolSource", "name": self.name, "resplits": True}

    def save(self, folder: Path) -> None:
        raise ValueError("the schools are read from the shared data")

    @classmethod
    def load(cls, folder: Path, record: Mapping[str, Any]) -> SchoolSource:
        raise ValueError("the schools are read from the shared data")


def ways(settings: Settings) -> dict[str, tuple[Rule, int]]:
    """What is compared: name, and rule and number of groups."""
    found: dict[str, tuple[Rule, int]] = {TOGETHER: (TOGETHER, 1), "alone": ("alone", 1)}
    found |= {f"k-means, {m} groups": ("k-means", m) for m in settings.groups}
    found[f"search, {settings.searched} groups"] = ("search", settings.searched)
    found |= {f"random, {m} groups": ("random", m) for m in settings.groups}
    return found


def explained_variance(school: School, settings: Settings) -> dict[str, dict[str, list[Any]]]:
    """Per way, a value per seed: explained variance of all test rows and per school, seconds."""
    results: dict[str, dict[str, list[Any]]] = {}
    for seed in settings.seeds:
        parts = school.split(seed)
        learned_from = [np.concatenate([p["train"], p["validation"]]) for p in parts]
        rows = Rows.of(
            [school.inputs[r] for r in learned_from], [school.scores[r] for r in learned_from]
        )
        for name, (rule, number) in ways(settings).items():
            learned = learn(rows, rule, number, seed)
            entry = results.setdefault(
                name, {"ev": [], "ev_per_school": [], "seconds": [], "sizes": [], "promised": []}
            )
            ev, per_school = judge(school, rows, learned, [p["test"] for p in parts])
            entry["ev"].append(ev)
            entry["ev_per_school"].append(per_school)
            entry["seconds"].append(learned.grouping_seconds)
            if rule not in (TOGETHER, "alone"):
                entry["sizes"].append(sorted(map(len, learned.grouping.groups), reverse=True))
            entry["promised"].append(100 * learned.promised)
        print(f"explained variance: seed {seed}", flush=True)
    return results


def judge(
    school: School, rows: Rows, learned: Learned, test: list[np.ndarray]
) -> tuple[float, float]:
    """1 - SSE / SST in per cent: of all test rows together, and around every school's own mean."""
    errors, spreads = [], []
    for t, chosen in enumerate(test):
        inputs = with_constant(school.inputs[chosen], rows.shift, rows.scale)
        target = school.scores[chosen]
        errors.append((inputs @ learned.weights[t] + rows.level - target).square())
        spreads.append((target - target.mean()).square())
    everything = school.scores[np.concatenate(test)]
    total = (everything - everything.mean()).square().sum()
    own = [1 - e.sum() / s.sum() for e, s in zip(errors, spreads, strict=True)]
    return float(100 * (1 - torch.cat(errors).sum() / total)), float(100 * sum(own) / len(own))


def gain_times(school: School) -> dict[str, float]:
    """Processor milliseconds for the exact gains of one group of schools, and of each of many."""
    parts = school.split(0)
    rows = Rows.of(
        [school.inputs[p["train"]] for p in parts], [school.scores[p["train"]] for p in parts]
    )
    gains = ExactGains(CrossValidation(Moments.by_fold(rows, 0)))
    generator = torch.Generator().manual_seed(0)
    masks = torch.rand(512, len(parts), generator=generator) < 0.5
    found = {}
    for name, sets in (("one", masks[:1]), ("each of 512", masks)):
        times = []
        for _ in range(5):
            started = time.process_time()
            gains(sets)
            times.append(1000 * (time.process_time() - started) / len(sets))
        found[name] = min(times)
    return found


def verdict(school: School, settings: Settings, folder: Path) -> tuple[Comparison, str]:
    """The library's comparison of the same ways, and what it says."""
    chosen = ways(settings)
    candidates = [Candidate("single-task", RidgeMethod(), "single")]
    candidates += [Candidate(n, RidgeMethod(rule=r, num_groups=m)) for n, (r, m) in chosen.items()]
    with warnings.catch_warnings():
        # Nothing here is to be served.
        warnings.filterwarnings("ignore", "The data cannot be saved|The winner was not saved")
        comparison = compare(
            SchoolSource(school),
            candidates=candidates,
            seeds=settings.seeds,
            budget=Budget(epochs=1),
            out=folder,
            workers=0,
            observer=SweepObserver(),
        )
    # The groups are found inside the method, where the comparison cannot see them.
    controls = [n for n, (rule, _) in chosen.items() if rule == "random"]
    grouped = [n for n, (rule, _) in chosen.items() if rule in ("k-means", "search")]
    facts = VerdictFacts(
        joint=[TOGETHER, *grouped, *controls],
        boosting=None,
        train_seconds={},
        num_failed=len(comparison.failures),
        grouped={n: ["single-task", TOGETHER, *controls] for n in grouped},
        controls=controls,
    )
    return comparison, str(reach_verdict(comparison.analysis, facts))


def summarise(results: Mapping[str, Mapping[str, list[Any]]]) -> dict[str, Any]:
    """Means with intervals of redrawn splits, and the paired difference from all together."""
    overlap = TEST / (1 - TEST)
    base = np.array(results[TOGETHER]["ev"])
    summary = {}
    for name, entry in results.items():
        test = paired_test(np.array(entry["ev"]) - base, overlap=overlap)
        summary[name] = {
            "ev": interval(entry["ev"]).mean,
            "ev_deviation": float(np.std(entry["ev"], ddof=1)) if len(base) > 1 else None,
            "ev_per_school": float(np.mean(entry["ev_per_school"])),
            "difference": [test.interval.mean, test.interval.low, test.interval.high],
            "p": test.p,
            "promised": float(np.mean(entry["promised"])),
            "better_seeds": int((np.array(entry["ev"]) > base).sum()),
            "grouping_seconds": float(np.mean(entry["seconds"])),
        }
    return summary


def show(summary: Mapping[str, Any], count: int) -> str:
    """Explained variances beside those of the reference."""
    rows = [
        (
            name,
            f"{e['ev']:.2f} ± {e['ev_deviation'] or 0:.2f}",
            f"{e['ev_per_school']:.1f}",
            "" if name == TOGETHER else "{:+.2f} ({:+.2f} to {:+.2f})".format(*e["difference"]),
            "" if name == TOGETHER else f"{e['better_seeds']} of {count}",
            f"{e['promised']:.2f}",
            f"{e['grouping_seconds']:.2f}",
            REFERENCE.get(name, ""),
        )
        for name, e in summary.items()
    ]
    header = (
        "schools learned",
        "EV % (mean ± sd)",
        "EV % per school",
        "difference from together (95 % interval)",
        "better splits",
        "promised gain %",
        "s to group",
        "reference EV %",
    )
    return table(header, rows)


def leaderboard(comparison: Comparison) -> dict[str, Any]:
    """Delta_m of the comparison with intervals, in per cent."""
    analysis = comparison.analysis
    return {
        name: {
            "delta_m": [
                100 * v for v in (test.interval.mean, test.interval.low, test.interval.high)
            ],
            "validation_delta_m": float(100 * np.nanmean(analysis.validation_delta[c])),
            "p_adjusted": analysis.adjusted[c],
        }
        for c, (name, test) in enumerate(
            zip(analysis.table.candidates, analysis.tests, strict=True)
        )
        if test is not None
    }


def report(settings: Settings) -> Report:
    torch.set_num_threads(1)
    school = School.read(settings.data, settings.schools)
    times = gain_times(school)
    results = explained_variance(school, settings)
    summary = summarise(results)
    with tempfile.TemporaryDirectory() as folder:
        comparison, said = verdict(school, settings, Path(folder))
        board = leaderboard(comparison)
    intervals = ["{:+.2f} ({:+.2f} to {:+.2f})".format(*e["delta_m"]) for e in board.values()]
    rows = zip(board, intervals, strict=True)
    gains = table(("candidate", "Delta_m % (95 % interval)"), rows)
    text = "\n".join((show(summary, len(settings.seeds)), said, gains))
    content = {
        "command": "python -m experiments.grouping.school.run",
        "milliseconds_per_group": times,
        "explained_variance": {"summary": summary, "runs": results},
        "reference": REFERENCE,
        "comparison": board,
        "verdict": said,
    }
    return Report(content, text)


main = experiment(Settings, report, smoke={"groups": (2,), "schools": 5, "seeds": (0, 1)})


if __name__ == "__main__":
    main()
