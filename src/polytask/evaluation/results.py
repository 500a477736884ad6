"""What the runs of a comparison found: tables, gains and the verdict; knows no files."""

from __future__ import annotations

import functools
import html
import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from polytask.evaluation.analysis import CHOSEN_PER_TASK, Analysis, analyse
from polytask.evaluation.plan import Plan, PlannedCandidate
from polytask.evaluation.scores import Interval, ScoreHistory, ScoreTable, interval, mean_of_known
from polytask.evaluation.verdict import Verdict, VerdictFacts, reach_verdict

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Results", "Run"]

#: Columns of the leaderboard that a notebook shows.
SHOWN = (
    "candidate", "delta_m", "delta_m_low", "delta_m_high", "p_adjusted", "win", "best", "mean_rank",
    "normalised",
)  # fmt: skip


@dataclass(frozen=True)
class Run:
    """One run and how it ended.

    Args:
        key: In the store; also the name of the folder of its model.
        candidates: Names of the candidates that use it.
        tasks: The group that was learned together.
        seed: Of split and training.
        status: "pending", "running", "done" or "failed".
        attempts: How often it was started.
        error: Text of its last error.
        result: Its record (scores, parameters, seconds, memory, curves, weights, cosines, trials,
            notes) if it is done.
    """

    key: str
    candidates: tuple[str, ...]
    tasks: tuple[str, ...]
    seed: int
    status: str = "pending"
    attempts: int = 0
    error: str | None = None
    result: Mapping[str, Any] | None = None

    @property
    def is_done(self) -> bool:
        """Whether it has a result."""
        return self.result is not None


@dataclass(frozen=True, eq=False, repr=False)
class Results:
    """Every run's scores and what follows from them; nothing in it changes.

    Args:
        plan: What was asked for.
        runs: The runs, by key.
    """

    plan: Plan
    runs: Mapping[str, Run]

    # --- what was asked for ---------------------------------------------------------------------

    @property
    def name(self) -> str:
        """Name of the problem."""
        return self.plan.name

    @property
    def tasks(self) -> tuple[str, ...]:
        """Names of the tasks."""
        return self.plan.task_names

    @property
    def seeds(self) -> tuple[int, ...]:
        """Seeds of the comparison."""
        return self.plan.seeds

    @property
    def candidates(self) -> tuple[str, ...]:
        """Names of the candidates."""
        return tuple(candidate.name for candidate in self.plan.candidates)

    @property
    def baseline(self) -> str:
        """Name of the candidate that gains are relative to."""
        return self.plan.baseline

    def groups(self, candidate: str) -> tuple[tuple[str, ...], ...]:
        """The groups of tasks that a candidate learns together."""
        return self.plan.candidate(candidate).groups

    def runs_of(self, candidate: str, seed: int) -> list[Run]:
        """A candidate's runs of one seed, one per group."""
        return [self.runs[key] for key in self.plan.candidate(candidate).runs[seed]]

    def provenance(self) -> dict[str, Any]:
        """What is needed to repeat it: versions, command, seeds, data, budget, machine."""
        return dict(self.plan.provenance)

    # --- what came out --------------------------------------------------------------------------

    @property
    def failures(self) -> list[Run]:
        """Runs that ended with an error."""
        return [run for run in self.runs.values() if run.status == "failed"]

    @property
    def is_complete(self) -> bool:
        """Whether every run has ended, with a result or with an error."""
        return all(run.status in ("done", "failed") for run in self.runs.values())

    @functools.cached_property
    def analysis(self) -> Analysis:
        """Gains, tests, standings and the winner, as arrays."""
        return analyse(self._score_table(), baseline=self.baseline, overlap=self.overlap)

    @functools.cached_property
    def overlap(self) -> float:
        """Mean ratio of test to training labels if every seed draws the split anew, else 0."""
        if not self.plan.resplits:
            return 0.0
        ratios = [
            labels["test"] / labels["train"]
            for run in self.runs.values()
            if run.result is not None
            for labels in run.result["labels"].values()
        ]
        return sum(ratios) / len(ratios) if ratios else 0.0

    @property
    def winner(self) -> str | None:
        """The candidate with the best mean gain on validation; None before any seed is complete."""
        place = self.analysis.winner
        return None if place is None else self.candidates[place]

    @property
    def chosen_per_task(self) -> dict[str, str]:
        """For each task the candidate with the best mean validation score."""
        choice = self.analysis.choice
        if choice is None:
            return dict.fromkeys(self.tasks, self.baseline)
        return {task: self.candidates[c] for task, c in zip(self.tasks, choice, strict=True)}

    @functools.cached_property
    def verdict(self) -> Verdict:
        """The answer; as text one paragraph."""
        return reach_verdict(self.analysis, self._verdict_facts())

    def _verdict_facts(self) -> VerdictFacts:
        joint = [candidate for candidate in self.plan.candidates if candidate.is_joint]
        grouped = [c.name for c in joint if c.has_groups]
        controls = [c.name for c in joint if c.has_groups and c.is_control]
        simpler = [n for n in (self.baseline, *(c.name for c in joint)) if n not in grouped]
        return VerdictFacts(
            joint=[candidate.name for candidate in joint],
            grouped={n: [*simpler, *controls] for n in grouped if n not in controls},
            controls=controls,
            searched={
                one.name: [c.name for c in joint if not c.is_search and c.groups == one.groups]
                for one in joint
                if one.is_search
            },
            boosting="boosting" if "boosting" in self.candidates else None,
            train_seconds={c.name: self._cost(c, "train_seconds") for c in self.plan.candidates},
            num_failed=len(self.failures),
            incomplete=not self.is_complete,
        )

    def leaderboard(self) -> pd.DataFrame:
        """One row per candidate, best on validation first; the composite comes last.

        Columns: ``candidate``; ``delta_m`` with ``delta_m_low`` and ``delta_m_high``: mean relative
        gain over single-task learning on test, in per cent, with its 95 % interval over seeds;
        ``p`` and ``p_adjusted`` (paired test, Holm over candidates); ``win`` and ``best`` (per cent
        of tasks), ``mean_rank`` (best = 0), ``normalised`` (0 worst .. 100 best); ``mean_<metric>``
        with interval, for each metric over its tasks; ``validation_delta_m``; ``parameters``,
        ``train_seconds`` and ``peak_memory_mb`` (sum, sum and largest over a seed's runs, mean over
        seeds), ``predict_seconds_per_1000`` rows; ``seeds`` that are complete; ``failed`` runs;
        ``winner``.
        """
        import pandas as pd

        frame = pd.DataFrame([self._leaderboard_row(c) for c in range(len(self.analysis.delta))])
        composite = frame["candidate"] == CHOSEN_PER_TASK
        ordered = frame[~composite].sort_values(
            "validation_delta_m", ascending=False, kind="stable", na_position="last"
        )
        return pd.concat([ordered, frame[composite]], ignore_index=True)

    def _leaderboard_row(self, c: int) -> dict[str, Any]:
        analysis = self.analysis
        name = analysis.table.candidates[c]
        test = analysis.tests[c]
        delta = interval(analysis.delta[c]) if test is None else test.interval
        planned = self.plan.candidates[c] if c < analysis.num_real else None
        row: dict[str, Any] = {
            "candidate": name,
            **_named("delta_m", delta, factor=100),
            "p": math.nan if test is None else test.p,
            "p_adjusted": analysis.adjusted[c],
        }
        for column in ("win", "best", "mean_rank", "normalised"):
            values = getattr(analysis.standings, column)
            row[column] = math.nan if planned is None else mean_of_known(values[c])
        for metric, values in analysis.means.items():
            row |= _named(f"mean_{metric}", interval(values[c]))
        row["validation_delta_m"] = 100 * mean_of_known(analysis.validation_delta[c])
        for column in ("parameters", "train_seconds", "predict_seconds_per_1000", "peak_memory_mb"):
            row[column] = math.nan if planned is None else self._cost(planned, column)
        row["seeds"] = int((~np.isnan(analysis.delta[c])).sum())
        row["failed"] = sum(name in run.candidates for run in self.failures)
        row["winner"] = c == analysis.winner
        return row

    def gains(self) -> pd.DataFrame:
        """One row per candidate and task: test score and gain, with 95 % intervals.

        Columns: ``candidate``, ``task``, ``metric``, ``higher_is_better``; ``score`` with
        ``score_low`` and ``score_high`` (user's units); ``gain`` with ``gain_low`` and
        ``gain_high`` (per cent of the single-task score, positive is better); ``p``,
        ``p_adjusted`` (Holm over the tasks of the candidate), ``seeds``, ``seeds_better``,
        ``chosen`` (validation prefers this candidate for this task).
        """
        import pandas as pd

        analysis = self.analysis
        table = analysis.table
        rows = []
        for c, name in enumerate(table.candidates):
            for t, task in enumerate(table.tasks):
                test, score = analysis.task_tests[c][t], interval(table.test[c, :, t])
                rows.append(
                    {
                        "candidate": name,
                        "task": task,
                        "metric": table.metrics[t],
                        "higher_is_better": bool(table.higher_is_better[t]),
                        **_named("score", score),
                        **_named("gain", test.interval, factor=100),
                        "p": math.nan if c == analysis.baseline else test.p,
                        "p_adjusted": float(analysis.task_adjusted[c, t]),
                        "seeds": score.count,
                        "seeds_better": int((analysis.gains[c, :, t] > 0).sum()),
                        "chosen": analysis.choice is not None
                        and c < analysis.num_real
                        and analysis.choice[t] == c,
                    }
                )
        return pd.DataFrame(rows)

    def scores(self) -> pd.DataFrame:
        """Raw scores: one row per candidate, task, seed, split and metric.

        Columns: ``candidate``, ``task``, ``seed``, ``split``, ``metric``, ``primary``, ``value``,
        ``run``.
        """
        import pandas as pd

        primary = dict(zip(self.tasks, self.plan.metrics, strict=True))
        rows = [
            (
                candidate,
                task,
                run.seed,
                split,
                metric,
                metric == primary[task],
                _number(value),
                run.key,
            )
            for run in self.runs.values()
            if run.result is not None
            for candidate in run.candidates
            for task, splits in run.result["scores"].items()
            for split, metrics in splits.items()
            for metric, value in metrics.items()
        ]
        columns = ["candidate", "task", "seed", "split", "metric", "primary", "value", "run"]
        return pd.DataFrame(rows, columns=columns)

    def history(self, split: Literal["validation", "test"] = "test") -> ScoreHistory | None:
        """Scores after each moment of training; None where no finished run has moments.

        Raises:
            ValueError: Runs have different moments.
        """
        table = self.analysis.table
        told = {
            key: run.result["moments"]
            for key, run in self.runs.items()
            if run.result is not None and "moments" in run.result
        }
        names = {tuple(moments["names"]) for moments in told.values()}
        if len(names) > 1:
            raise ValueError(
                f"The runs of a comparison must have the same moments, found {sorted(names)}."
            )
        if not names:
            return None
        (moments,) = names
        real = len(self.candidates)
        last = getattr(table, split)[:real]
        values = np.full((*last.shape[:2], len(moments), last.shape[2]), np.nan)
        values[:, :, -1] = last
        for (c, candidate), (s, seed) in itertools.product(
            enumerate(self.candidates), enumerate(self.seeds)
        ):
            for run in self.runs_of(candidate, seed):
                for task, scores in told.get(run.key, {"scores": {}})["scores"].items():
                    t = self.tasks.index(task)
                    line = scores[split][self.plan.metrics[t]]
                    values[c, s, :, t] = [_number(value) for value in line]
        return ScoreHistory(
            candidates=self.candidates,
            seeds=self.seeds,
            moments=moments,
            tasks=self.tasks,
            metrics=self.plan.metrics,
            higher_is_better=table.higher_is_better,
            values=values,
        )

    def _score_table(self) -> ScoreTable:
        place = {task: t for t, task in enumerate(self.tasks)}
        shape = (len(self.candidates), len(self.seeds), len(place))
        values = {split: np.full(shape, np.nan) for split in ("validation", "test")}
        complete = np.zeros(shape[:2], dtype=bool)
        for c, candidate in enumerate(self.candidates):
            for s, seed in enumerate(self.seeds):
                runs = self.runs_of(candidate, seed)
                complete[c, s] = all(run.is_done for run in runs)
                for run in runs:
                    scores = run.result["scores"] if run.result is not None else {}
                    for task, splits in scores.items():
                        t = place[task]
                        for split, found in values.items():
                            found[c, s, t] = _number(splits[split][self.plan.metrics[t]])
        return ScoreTable(
            complete=complete,
            candidates=self.candidates,
            seeds=self.seeds,
            tasks=self.tasks,
            metrics=self.plan.metrics,
            higher_is_better=np.array([task["higher_is_better"] for task in self.plan.tasks]),
            **values,
        )

    def _cost(self, candidate: PlannedCandidate, quantity: str) -> float:
        """Mean over complete seeds of what a seed's runs cost together (memory: the most)."""
        totals = []
        for seed in self.seeds:
            runs = self.runs_of(candidate.name, seed)
            values = [
                run.result[quantity]
                for run in runs
                if run.result is not None and run.result[quantity] is not None
            ]
            if len(values) == len(runs):
                totals.append(max(values) if quantity == "peak_memory_mb" else sum(values))
        return sum(totals) / len(totals) if totals else math.nan

    def _repr_html_(self) -> str:
        table = self.leaderboard()[list(SHOWN)].to_html(
            index=False, float_format="{:.3g}".format, escape=True
        )
        return f"<p>{html.escape(str(self.verdict))}</p>{table}"


def _number(value: float | None) -> float:
    """A number of a record; what JSON cannot hold is None there."""
    return math.nan if value is None else value


def _named(name: str, found: Interval, factor: float = 1.0) -> dict[str, float]:
    return {
        name: factor * found.mean,
        f"{name}_low": factor * found.low,
        f"{name}_high": factor * found.high,
    }
