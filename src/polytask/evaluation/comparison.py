"""The outcome of a comparison: tables, gains, verdict, the winner's model, and the files."""

from __future__ import annotations

import functools
import html
import json
import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from polytask.evaluation.analysis import CHOSEN_PER_TASK, Analysis, analyse
from polytask.evaluation.scores import Interval, ScoreTable, interval
from polytask.evaluation.verdict import VerdictFacts, write_verdict
from polytask.files import write_atomically
from polytask.grouping.random_groups import RandomGroups
from polytask.report import write_report
from polytask.runs.store import RunStore
from polytask.serving.predictor import Predictor, load_predictor, save_predictor

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Comparison", "Run"]

PLAN_FILE = "comparison.json"
STORE_FILE = "runs.sqlite"
RESULTS_FILE = "results.jsonl"
MODEL_FOLDER = "model"
MODELS_FOLDER = "models"
SEARCHES_FOLDER = "searches"
SOURCES_FOLDER = "sources"
FORMAT = 1


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
    status: str
    attempts: int
    error: str | None
    result: Mapping[str, Any] | None

    @property
    def is_done(self) -> bool:
        """Whether it has a result."""
        return self.result is not None


class Comparison:
    """Every run's scores and what follows from them. Made by ``compare`` or ``Comparison.load``.

    Args:
        plan: What was asked for: tasks, seeds, candidates with the keys of their runs, budget,
            data, card.
        runs: The runs, by key.
        folder: Where store, results, models and report lie.
    """

    def __init__(
        self,
        plan: Mapping[str, Any],
        runs: Mapping[str, Run],
        folder: Path,
    ) -> None:
        self.plan = dict(plan)
        self.runs = dict(runs)
        self.folder = folder

    # --- what was asked for ---------------------------------------------------------------------

    @property
    def name(self) -> str:
        """Name of the problem."""
        return str(self.plan["name"])

    @property
    def tasks(self) -> tuple[str, ...]:
        """Names of the tasks."""
        return tuple(task["name"] for task in self.plan["tasks"])

    @property
    def seeds(self) -> tuple[int, ...]:
        """Seeds of the comparison."""
        return tuple(self.plan["seeds"])

    @property
    def candidates(self) -> tuple[str, ...]:
        """Names of the candidates."""
        return tuple(candidate["name"] for candidate in self.plan["candidates"])

    @property
    def baseline(self) -> str:
        """Name of the candidate that gains are relative to."""
        return str(self.plan["baseline"])

    def groups(self, candidate: str) -> tuple[tuple[str, ...], ...]:
        """The groups of tasks that a candidate learns together."""
        return tuple(tuple(group) for group in self._candidate(candidate)["groups"])

    def method(self, candidate: str) -> Mapping[str, Any]:
        """How a candidate learns, as plain values."""
        found: Mapping[str, Any] = self._candidate(candidate)["method"]
        return found

    def runs_of(self, candidate: str, seed: int) -> list[Run]:
        """A candidate's runs of one seed, one per group."""
        return [self.runs[key] for key in self._candidate(candidate)["runs"][str(seed)]]

    def _candidate(self, name: str) -> Mapping[str, Any]:
        for candidate in self.plan["candidates"]:
            if candidate["name"] == name:
                return candidate  # type: ignore[no-any-return]
        raise ValueError(
            f"No candidate {name!r} in this comparison; it has {list(self.candidates)}."
        )

    def card(self) -> dict[str, Any]:
        """What is needed to repeat it: versions, command, seeds, data, budget, machine."""
        return dict(self.plan["card"])

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
        if not self.plan["resplits"]:
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
    def verdict(self) -> str:
        """The answer in words, one paragraph."""
        joint = [
            name for name in self.candidates if any(len(group) > 1 for group in self.groups(name))
        ]
        searched = [n for n in joint if self.method(n).get("method") == "weight search"]
        grouped = [n for n in joint if self._has_groups(n)]
        controls = [n for n in grouped if self.is_control(n)]
        networks = [n for n in (self.baseline, *joint) if n not in grouped]
        facts = VerdictFacts(
            joint=joint,
            grouped={n: [*networks, *controls] for n in grouped if n not in controls},
            controls=controls,
            searched={
                name: [
                    other
                    for other in joint
                    if other not in searched and self.groups(other) == self.groups(name)
                ]
                for name in searched
            },
            boosting="boosting" if "boosting" in self.candidates else None,
            train_seconds={name: self._cost(name, "train_seconds") for name in self.candidates},
            num_failed=len(self.failures),
            incomplete=not self.is_complete,
        )
        return write_verdict(self.analysis, facts)

    def _has_groups(self, name: str) -> bool:
        """Whether a candidate learns groups of tasks: neither all together nor each alone."""
        found = self.method(name).get("method") == "grouped networks"
        return found or len(self.groups(name)) > 1

    def is_control(self, name: str) -> bool:
        """Whether a candidate's groups are drawn at random, or copies of all tasks."""
        grouper = self.method(name).get("grouper") or {}
        return grouper.get("type") == RandomGroups.__name__

    def leaderboard(self) -> pd.DataFrame:
        """One row per candidate, best on validation first; the composite comes last.

        Columns: ``candidate``; ``delta_m`` with ``delta_m_low`` and ``delta_m_high``: mean relative
            gain over
        single-task learning on test, in per cent, with its 95 % interval over seeds; ``p`` and
        ``p_adjusted`` (paired test, Holm over candidates); ``win`` and ``best`` (per cent of
        tasks), ``mean_rank`` (best = 0), ``normalised`` (0 worst .. 100 best); ``mean_<metric>``
        with interval, for each metric over its tasks; ``validation_delta_m``; ``parameters``,
        ``train_seconds`` and ``peak_memory_mb`` (sum, sum and largest over a seed's runs, mean over
        seeds), ``predict_seconds_per_1000`` rows; ``seeds`` that are complete; ``failed`` runs;
        ``winner``.
        """
        import pandas as pd

        analysis = self.analysis
        rows = [self._leaderboard_row(c) for c in range(len(analysis.table.candidates))]
        frame = pd.DataFrame(rows)
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
        real = c < analysis.num_real
        ranks = analysis.standings
        row: dict[str, Any] = {
            "candidate": name,
            "delta_m": 100 * delta.mean,
            "delta_m_low": 100 * delta.low,
            "delta_m_high": 100 * delta.high,
            "p": math.nan if test is None else test.p,
            "p_adjusted": analysis.adjusted[c],
        }
        for column in ("win", "best", "mean_rank", "normalised"):
            row[column] = _mean(getattr(ranks, column)[c]) if real else math.nan
        for metric, values in analysis.means.items():
            found = interval(values[c])
            row |= {
                f"mean_{metric}": found.mean,
                f"mean_{metric}_low": found.low,
                f"mean_{metric}_high": found.high,
            }
        row["validation_delta_m"] = 100 * _mean(analysis.validation_delta[c])
        for column in ("parameters", "train_seconds", "predict_seconds_per_1000", "peak_memory_mb"):
            row[column] = self._cost(name, column) if real else math.nan
        row["seeds"] = int((~np.isnan(analysis.delta[c])).sum())
        row["failed"] = sum(name in run.candidates for run in self.failures)
        row["winner"] = c == analysis.winner
        return row

    def gains(self) -> pd.DataFrame:
        """One row per candidate and task: test score and gain, with 95 % intervals.

        Columns: ``candidate``, ``task``, ``metric``, ``higher_is_better``, ``score`` /
            ``score_low`` / ``score_high``
        (user's units), ``gain`` / ``gain_low`` / ``gain_high`` (per cent of the single-task score,
        positive is better), ``p``, ``p_adjusted`` (Holm over the tasks of the candidate),
        ``seeds``, ``seeds_better``, ``chosen`` (validation prefers this candidate for this task).
        """
        import pandas as pd

        analysis = self.analysis
        table = analysis.table
        rows = []
        for c, name in enumerate(table.candidates):
            for t, task in enumerate(table.tasks):
                test, score = analysis.task_tests[c][t], interval(table.test[c, :, t])
                values = analysis.gains[c, :, t]
                is_baseline = c == analysis.baseline
                rows.append(
                    {
                        "candidate": name,
                        "task": task,
                        "metric": table.metrics[t],
                        "higher_is_better": bool(table.higher_is_better[t]),
                        **_named("score", score),
                        **_named("gain", test.interval, factor=100),
                        "p": math.nan if is_baseline else test.p,
                        "p_adjusted": float(analysis.task_adjusted[c, t]),
                        "seeds": score.count,
                        "seeds_better": int((values > 0).sum()),
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

        primary = {task["name"]: task["metrics"][0] for task in self.plan["tasks"]}
        rows = [
            {
                "candidate": candidate,
                "task": task,
                "seed": run.seed,
                "split": split,
                "metric": metric,
                "primary": metric == primary[task],
                "value": math.nan if value is None else value,
                "run": run.key,
            }
            for run in self.runs.values()
            if run.result is not None
            for candidate in run.candidates
            for task, splits in run.result["scores"].items()
            for split, metrics in splits.items()
            for metric, value in metrics.items()
        ]
        columns = ["candidate", "task", "seed", "split", "metric", "primary", "value", "run"]
        return pd.DataFrame(rows, columns=columns)

    def _score_table(self) -> ScoreTable:
        tasks = self.plan["tasks"]
        place = {task["name"]: t for t, task in enumerate(tasks)}
        shape = (len(self.candidates), len(self.seeds), len(tasks))
        values = {split: np.full(shape, np.nan) for split in ("validation", "test")}
        for c, candidate in enumerate(self.candidates):
            for s, seed in enumerate(self.seeds):
                for run in self.runs_of(candidate, seed):
                    scores = run.result["scores"] if run.result is not None else {}
                    for task, splits in scores.items():
                        metric = tasks[place[task]]["metrics"][0]
                        for split, found in values.items():
                            value = splits[split][metric]
                            found[c, s, place[task]] = math.nan if value is None else value
        complete = [
            [all(run.is_done for run in self.runs_of(name, seed)) for seed in self.seeds]
            for name in self.candidates
        ]
        return ScoreTable(
            complete=np.array(complete),
            candidates=self.candidates,
            seeds=self.seeds,
            tasks=self.tasks,
            metrics=tuple(task["metrics"][0] for task in tasks),
            higher_is_better=np.array([task["higher_is_better"] for task in tasks]),
            **values,
        )

    def _cost(self, candidate: str, quantity: str) -> float:
        """Mean over complete seeds of what a seed's runs cost together (memory: the most)."""
        totals = []
        for seed in self.seeds:
            results = [run.result for run in self.runs_of(candidate, seed)]
            values = [
                result[quantity]
                for result in results
                if result is not None and result[quantity] is not None
            ]
            if len(values) == len(results):
                totals.append(max(values) if quantity == "peak_memory_mb" else sum(values))
        return sum(totals) / len(totals) if totals else math.nan

    # --- files ----------------------------------------------------------------------------------

    @classmethod
    def load(cls, folder: Path | str) -> Comparison:
        """Read a comparison, finished or not; a torn results file is written again.

        Raises:
            ValueError: The folder holds no comparison, or its store is damaged.
        """
        folder = Path(folder)
        plan_path = folder / PLAN_FILE
        if not plan_path.is_file():
            raise ValueError(
                f"{folder} holds no comparison ({PLAN_FILE} is missing); give the --out folder of"
                " `polytask compare`."
            )
        try:
            plan = json.loads(plan_path.read_text(encoding="utf-8"))
        except json.JSONDecodeError as error:
            raise ValueError(
                f"{plan_path} is damaged ({error}); run the same `polytask compare` again."
            ) from error
        if plan.get("format") != FORMAT:
            raise ValueError(
                f"{plan_path} has format {plan.get('format')!r}, this version reads {FORMAT};"
                " compare again."
            )
        store = RunStore(folder / STORE_FILE)
        try:
            comparison = cls.from_store(plan, store, folder)
        finally:
            store.close()
        if not comparison.has_whole_results():
            comparison.export_results()
        return comparison

    @classmethod
    def from_store(
        cls,
        plan: Mapping[str, Any],
        store: RunStore,
        folder: Path,
    ) -> Comparison:
        """The comparison that a plan and the runs in a store make."""
        users: dict[str, list[str]] = {}
        facts: dict[str, tuple[tuple[str, ...], int]] = {}
        for candidate in plan["candidates"]:
            for seed, keys in candidate["runs"].items():
                for group, key in zip(candidate["groups"], keys, strict=True):
                    users.setdefault(key, []).append(candidate["name"])
                    facts[key] = (tuple(group), int(seed))
        stored = {run.key: run for run in store.runs(list(users))}
        runs = {}
        for key, names in users.items():
            found = stored.get(key)
            runs[key] = Run(
                key=key,
                candidates=tuple(names),
                tasks=facts[key][0],
                seed=facts[key][1],
                status=found.status if found is not None else "pending",
                attempts=found.attempts if found is not None else 0,
                error=found.error if found is not None else None,
                result=found.result if found is not None else None,
            )
        return cls(plan, runs, folder)

    def save(self, folder: Path | str) -> None:
        """Copy everything to another folder, from which ``load`` reads it."""
        target = Path(folder)
        if target.resolve() != self.folder.resolve():
            shutil.copytree(self.folder, target, dirs_exist_ok=True)

    def result_lines(self) -> list[str]:
        """The results file: one JSON object per finished run and task."""
        lines = []
        for run in self.runs.values():
            if run.result is None:
                continue
            facts = {
                key: value
                for key, value in run.result.items()
                if key not in ("scores", "labels", "curves", "cosines")
            }
            for task in run.tasks:
                record = {
                    "run": run.key,
                    "candidates": list(run.candidates),
                    "task": task,
                    "seed": run.seed,
                    "group": list(run.tasks),
                    "scores": run.result["scores"][task],
                    "labels": run.result["labels"][task],
                    **facts,
                }
                lines.append(json.dumps(record, ensure_ascii=False))
        return lines

    def export_results(self) -> Path:
        """Write the results file from the store's runs, atomically."""
        path = self.folder / RESULTS_FILE
        write_atomically(path, "".join(line + "\n" for line in self.result_lines()))
        return path

    def has_whole_results(self) -> bool:
        """Whether the results file says exactly what the runs say."""
        path = self.folder / RESULTS_FILE
        if not path.is_file():
            return False
        return path.read_bytes() == "".join(line + "\n" for line in self.result_lines()).encode()

    def report(self, path: Path | str | None = None) -> Path:
        """Write the HTML report (by default ``report.html`` in the folder); returns its path."""
        from polytask.evaluation.reporting import report_data

        target = self.folder / "report.html" if path is None else Path(path)
        write_report(report_data(self), target)
        return target

    # --- the model ------------------------------------------------------------------------------

    def save_model(
        self,
        folder: Path | str | None = None,
        *,
        candidate: str | None = None,
        seed: int | None = None,
    ) -> Path:
        """Write the model to serve, from the models of finished runs; nothing is trained.

        Args:
            folder: Where to; ``model`` in the comparison's folder by default.
            candidate: Whose models: the winner's by default; ``"chosen per task"`` takes each
                task's own best.
            seed: Which seed's; by default the one with the best validation scores of that
                candidate.

        Raises:
            ValueError: The candidate has no complete seed, or its models could not be saved.
        """
        from polytask.datasets.source import load_source

        name = candidate if candidate is not None else self.winner
        if name is None:
            raise ValueError("No candidate has finished a seed, so there is no model to save.")
        seed = self._best_seed(name) if seed is None else seed
        parts = self._parts(name, seed)
        problem = load_source(self.folder / SOURCES_FOLDER / self.plan["source"]).problem(seed)
        target = self.folder / MODEL_FOLDER if folder is None else Path(folder)
        about = {
            "problem": self.name,
            "candidate": name,
            "seed": seed,
            "versions": self.card()["versions"],
        }
        save_predictor(target, problem, parts, about=about)
        return target

    def _best_seed(self, candidate: str) -> int:
        table = self.analysis.table
        values = table.validation[table.place(candidate)]
        signed = np.where(table.higher_is_better, values, -values)
        complete = np.flatnonzero(table.complete[table.place(candidate)]).tolist()
        if not complete:
            raise ValueError(
                f"Candidate {candidate!r} has finished no seed, so there is no model to save."
            )
        mean = np.nanmean(signed[complete], axis=0)
        relative = (signed - mean) / np.where(mean == 0, 1.0, np.abs(mean))
        return table.seeds[max(complete, key=lambda s: (_mean(relative[s]), -s))]

    def _parts(self, candidate: str, seed: int) -> list[tuple[Path, tuple[str, ...]]]:
        chosen = (
            self.chosen_per_task
            if candidate == CHOSEN_PER_TASK
            else dict.fromkeys(self.tasks, candidate)
        )
        found: dict[str, list[str]] = {}
        for task, name in chosen.items():
            run = next(run for run in self.runs_of(name, seed) if task in run.tasks)
            if run.result is None:
                raise ValueError(
                    f"The run of {name!r} on task {task!r} with seed {seed} has no result; choose"
                    " another seed."
                )
            if not run.result["saved"]:
                raise ValueError(
                    f"The model of {name!r} cannot be served: {'; '.join(run.result['notes'])}"
                )
            found.setdefault(run.key, []).append(task)
        return [(self.folder / MODELS_FOLDER / key, tuple(tasks)) for key, tasks in found.items()]

    @functools.cached_property
    def model(self) -> Predictor:
        """The saved model of the winner."""
        return load_predictor(self.folder)

    def predict(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Predictions of the winner for the rows of a table; see ``Predictor.predict_table``."""
        return self.model.predict_table(frame)

    # --- for people -----------------------------------------------------------------------------

    def __repr__(self) -> str:
        done = sum(run.is_done for run in self.runs.values())
        return (
            f"Comparison({self.name!r}: {len(self.candidates)} candidates, {len(self.tasks)} tasks,"
            f" {len(self.seeds)} seeds, {done} of {len(self.runs)} runs done)"
        )

    def _repr_html_(self) -> str:
        columns = [
            "candidate",
            "delta_m",
            "delta_m_low",
            "delta_m_high",
            "p_adjusted",
            "win",
            "best",
            "mean_rank",
            "normalised",
        ]
        table = self.leaderboard()[columns].to_html(
            index=False, float_format="{:.3g}".format, escape=True
        )
        return f"<p>{html.escape(self.verdict)}</p>{table}"


def _mean(values: np.ndarray | Sequence[float]) -> float:
    array = np.asarray(values, dtype=np.float64)
    kept = array[~np.isnan(array)]
    return float(kept.mean()) if len(kept) else math.nan


def _named(name: str, found: Interval, factor: float = 1.0) -> dict[str, float]:
    return {
        name: factor * found.mean,
        f"{name}_low": factor * found.low,
        f"{name}_high": factor * found.high,
    }
