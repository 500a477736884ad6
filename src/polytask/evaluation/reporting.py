"""From a ``Comparison`` to what its report shows.

Shape legend: C candidates, S seeds, T tasks.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from polytask.report.data import (
    CandidateRow,
    ColumnRow,
    Curve,
    Estimate,
    Failure,
    Gain,
    GradientCosines,
    ReportData,
    SeedScore,
    TaskGroups,
    TaskRow,
    WeightHistory,
)
from polytask.report.formats import duration, listing, number
from polytask.report.lines import Line, known, mean_line

if TYPE_CHECKING:
    from polytask.evaluation.comparison import Comparison, Run

__all__ = ["report_data"]

NAN = float("nan")


def report_data(comparison: Comparison) -> ReportData:
    """Everything that the report of a comparison shows, finished or not."""
    plan = comparison.plan
    done = sum(run.is_done for run in comparison.runs.values())
    status = ""
    if not comparison.is_complete:
        status = f"{done} of {len(comparison.runs)} runs are finished. The same command continues."
    return ReportData(
        title=comparison.name,
        headline=_headline(comparison),
        verdict=comparison.verdict,
        status=status,
        baseline=comparison.baseline,
        candidates=tuple(_candidates(comparison)),
        tasks=tuple(_task(record) for record in plan["tasks"]),
        gains=tuple(_gains(comparison)),
        scores=tuple(_scores(comparison)),
        curves=tuple(_curves(comparison)),
        weights=tuple(_weights(comparison)),
        cosines=tuple(_cosines(comparison)),
        groups=tuple(_groups(comparison)),
        rows=plan["rows"],
        columns=tuple(_columns(plan["schema"])),
        notes=tuple(plan["notes"]),
        failures=tuple(_failures(comparison)),
        budget=_budget(plan["budget"]),
        repeat=_repeat(comparison),
        run_notes=tuple(_run_notes(comparison)),
        interval_note=_interval_note(comparison),
        command=comparison.card()["command"],
        raw_scores="results.jsonl",
    )


# --- the answer ----------------------------------------------------------------------------------


def _headline(comparison: Comparison) -> str:
    """The verdict in a few words; the paragraph has the numbers."""
    from polytask.evaluation.analysis import LEVEL

    analysis = comparison.analysis
    winner, name = analysis.winner, comparison.winner
    if winner is None or name is None:
        return "No verdict yet"
    if analysis.num_real == 1:
        return "One candidate only: nothing to compare it with"
    if winner == analysis.baseline:
        apart = comparison.verdict.startswith("Keep the tasks apart")
        return "Keep the tasks apart" if apart else "No difference can be shown"
    test, p_value = analysis.tests[winner], analysis.adjusted[winner]
    if test is None or math.isnan(p_value) or p_value >= LEVEL:
        return "No difference can be shown"
    if test.interval.mean < 0:
        return "Keep the tasks apart"
    is_joint = any(len(group) > 1 for group in comparison.groups(name))
    return f"Learn the tasks together ({name})" if is_joint else f"Use {name}, a model per task"


def _candidates(comparison: Comparison) -> Iterator[CandidateRow]:
    real = set(comparison.candidates)
    for row in comparison.leaderboard().to_dict("records"):
        name = str(row["candidate"])
        yield CandidateRow(
            name=name,
            description=_description(comparison, name),
            is_baseline=name == comparison.baseline,
            is_winner=bool(row["winner"]),
            is_composite=name not in real,
            runs=_finished(comparison, name) if name in real else "",
            scores={m: _estimate(row, f"mean_{m}") for m in comparison.analysis.means},
            gain=_estimate(row, "delta_m"),
            p_value=row["p_adjusted"],
            win=row["win"],
            best=row["best"],
            mean_rank=row["mean_rank"],
            normalised=row["normalised"],
            parameters=row["parameters"],
            training_seconds=row["train_seconds"],
            prediction_seconds=row["predict_seconds_per_1000"],
            memory_bytes=row["peak_memory_mb"] * 2**20,
        )


def _estimate(row: Mapping[Any, Any], name: str) -> Estimate:
    return Estimate(row[name], row[f"{name}_low"], row[f"{name}_high"])


def _description(comparison: Comparison, name: str) -> str:
    if name not in comparison.candidates:
        return "each task's own best on validation, from the same runs"
    groups = comparison.groups(name)
    if all(len(group) == 1 for group in groups):
        return "a model per task"
    what = "one model for all tasks" if len(groups) == 1 else f"{len(groups)} groups of tasks"
    method = comparison.method(name)
    if method.get("method") == "grouped networks":
        return "a network per group; the groups are found anew for every seed"
    if method.get("method") == "weight search":
        # Its training time is that of the whole search.
        trainings = f"the best of at most {method['evaluations']} trainings"
        return f"{what}, {trainings if len(groups) == 1 else trainings + ' each'}"
    return what


def _finished(comparison: Comparison, name: str) -> str:
    runs = [run for seed in comparison.seeds for run in comparison.runs_of(name, seed)]
    return f"{sum(run.is_done for run in runs)} of {len(runs)}"


def _gains(comparison: Comparison) -> Iterator[Gain]:
    for row in comparison.gains().to_dict("records"):
        if row["candidate"] != comparison.baseline:
            yield Gain(str(row["candidate"]), str(row["task"]), _estimate(row, "gain"))


def _scores(comparison: Comparison) -> Iterator[SeedScore]:
    table = comparison.analysis.table
    for c, candidate in enumerate(comparison.candidates):
        for t, task in enumerate(table.tasks):
            for s, seed in enumerate(table.seeds):
                runs = comparison.runs_of(candidate, seed)
                if any(run.is_done and task in run.tasks for run in runs):
                    yield SeedScore(candidate, task, seed, float(table.test[c, s, t]))


def _interval_note(comparison: Comparison) -> str:
    if comparison.overlap:
        return (
            "Every seed draws its own split, and splits share rows; intervals and tests of gains"
            " are widened for that (Nadeau and Bengio, 2003)."
        )
    return "All seeds share one split, so intervals and tests speak about these test rows only."


# --- how training went ---------------------------------------------------------------------------


def _finished_runs(comparison: Comparison) -> Iterator[tuple[str, int, list[Run]]]:
    """Candidate, seed and the runs that have a result."""
    for candidate in comparison.candidates:
        for seed in comparison.seeds:
            runs = [run for run in comparison.runs_of(candidate, seed) if run.is_done]
            if runs:
                yield candidate, seed, runs


def _curves(comparison: Comparison) -> Iterator[Curve]:
    for candidate, seed, runs in _finished_runs(comparison):
        train = _task_lines(runs, "train_loss", "epoch")
        validation = _task_lines(runs, "validation_loss", "validation_epoch")
        if not train and not validation:
            continue
        lines = [
            mean_line(list(lines.values())) if lines else None for lines in (train, validation)
        ]
        epochs = np.unique(np.concatenate([line[0] for line in lines if line is not None]))
        parts = [
            tuple(np.interp(epochs, *line).tolist()) if line is not None else (NAN,) * len(epochs)
            for line in lines
        ]
        yield Curve(candidate, seed, tuple(epochs.astype(int).tolist()), parts[0], parts[1])


def _task_lines(runs: Sequence[Run], quantity: str, places: str) -> dict[str, Line]:
    """Per task, what its run recorded; tasks without any value are left out."""
    found = {}
    for run in runs:
        curves = run.result["curves"] if run.result is not None else {}
        for task, values in curves.get(quantity, {}).items():
            line = known(curves[places], values)
            if len(line[0]):
                found[task] = line
    return found


def _weights(comparison: Comparison) -> Iterator[WeightHistory]:
    for candidate, seed, runs in _finished_runs(comparison):
        lines = _task_lines([run for run in runs if len(run.tasks) > 1], "weight", "epoch")
        if not lines:
            continue
        epochs = np.unique(np.concatenate([x for x, _ in lines.values()]))
        weights = {task: tuple(np.interp(epochs, *line).tolist()) for task, line in lines.items()}
        yield WeightHistory(candidate, seed, tuple(epochs.astype(int).tolist()), weights)


def _cosines(comparison: Comparison) -> Iterator[GradientCosines]:
    """Mean matrices over seeds, the preferred candidate's first; NaN between two groups."""
    place = {task: t for t, task in enumerate(comparison.tasks)}
    matrices: dict[str, list[np.ndarray]] = defaultdict(list)
    for candidate, _, runs in _finished_runs(comparison):
        for run in runs:
            if run.result is not None and run.result["cosines"] is not None:
                index = [place[task] for task in run.tasks]
                matrix = np.full((len(place), len(place)), np.nan)
                matrix[np.ix_(index, index)] = np.array(run.result["cosines"], dtype=float)
                matrices[candidate].append(matrix)
    for candidate in sorted(matrices, key=lambda name: name != comparison.winner):
        stacked = np.stack(matrices[candidate])
        looks = np.isfinite(stacked).sum(0)
        total = np.nansum(stacked, axis=0)
        mean = np.where(looks > 0, total / np.maximum(looks, 1), np.nan)
        if np.isfinite(mean[~np.eye(len(place), dtype=bool)]).any():
            yield GradientCosines(
                candidate, comparison.tasks, tuple(tuple(row) for row in mean.tolist())
            )


def _groups(comparison: Comparison) -> Iterator[TaskGroups]:
    """What the candidates that look for groups have found, the preferred candidate's first; the
    groups of controls say nothing.
    """
    from sklearn.metrics import adjusted_rand_score

    found: dict[str, list[tuple[int, Mapping[str, Any]]]] = defaultdict(list)
    for candidate, seed, runs in _finished_runs(comparison):
        for run in runs if not comparison.is_control(candidate) else ():
            if run.result is not None and "grouping" in run.result["curves"]:
                found[candidate].append((seed, run.result["curves"]["grouping"]))
    for candidate in sorted(found, key=lambda name: name != comparison.winner):
        labels = [np.array(grouping["serving"]).argmax(1) for _, grouping in found[candidate]]
        pairs = [adjusted_rand_score(a, b) for a, b in itertools.combinations(labels, 2)]
        seed, first = found[candidate][0]
        memberships = tuple(tuple(row) for row in first["memberships"])
        agreement = float(np.mean(pairs)) if pairs else NAN
        yield TaskGroups(candidate, seed, tuple(first["tasks"]), memberships, agreement)


def _failures(comparison: Comparison) -> Iterator[Failure]:
    for run in comparison.failures:
        yield Failure(
            candidate=", ".join(run.candidates),
            group=listing(run.tasks),
            seed=run.seed,
            error=run.error or "no message",
            attempts=run.attempts,
        )


def _run_notes(comparison: Comparison) -> Iterator[str]:
    """Every note once, with the number of runs that left it."""
    counted = Counter(
        note
        for run in comparison.runs.values()
        if run.result is not None
        for note in run.result["notes"]
    )
    for note, times in counted.most_common():
        yield f"{note} ({times} run{'s' if times > 1 else ''})"


# --- data and circumstances ----------------------------------------------------------------------


def _task(record: Mapping[str, Any]) -> TaskRow:
    kind = record["kind"]
    classes = {"binary": 2, "multiclass": record.get("num_classes", 0)}.get(kind, 0)
    return TaskRow(
        name=record["name"],
        kind=kind,
        metric=record["metrics"][0],
        higher_is_better=record["higher_is_better"],
        labels=record["labels_per_split"],
        classes=classes,
        positives=NAN if record.get("positives") is None else record["positives"],
        note="; ".join(_treatment(record)),
    )


def _treatment(record: Mapping[str, Any]) -> Iterator[str]:
    """How a task's targets were treated."""
    if record["kind"] == "regression" and (record["mean"], record["scale"]) != (0.0, 1.0):
        yield f"learned as (y − {number(record['mean'])}) / {number(record['scale'])}"
    if record["kind"] == "binary":
        yield f"positive: {listing([str(record['labels'][1])])}"
    weights = record.get("class_weights")
    if weights is not None:
        yield f"class weights {listing([number(weight, 3) for weight in weights])}"


def _columns(schema: Sequence[Mapping[str, Any]]) -> Iterator[ColumnRow]:
    for record in schema:
        yield ColumnRow(
            # Separate tables are listed one after the other, with the task of each.
            name=f"{record['task']}: {record['column']}" if "task" in record else record["column"],
            type=record["type"],
            role=record.get("role", "input"),
            missing=record["missing"],
            distinct=record["distinct"],
            note=record["note"],
        )


def _budget(budget: Mapping[str, Any]) -> dict[str, str]:
    patience, limit = budget["patience"], budget["time_limit"]
    trials = budget["trials"]
    return {
        "epochs": f"at most {budget['epochs']}",
        "early stopping": "none"
        if patience is None
        else f"after {patience} epochs without a better validation loss",
        "learning rates tried": f"{trials}, the best on validation kept" if trials > 1 else "1",
        "time limit": "none" if limit is None else f"{duration(limit)} of training per run",
    }


def _splits(plan: Mapping[str, Any]) -> str:
    """How rows came into the splits, with the options that the source has."""
    how = "drawn anew for every seed" if plan["resplits"] else "the same for every seed"
    options = {name: value for name, value in (plan["data"].get("split") or {}).items() if value}
    return "; ".join([how, *(f"{name} {value}" for name, value in options.items())])


def _repeat(comparison: Comparison) -> dict[str, str]:
    card = comparison.card()
    facts = {
        "seeds": ", ".join(str(seed) for seed in card["seeds"]),
        "splits": _splits(comparison.plan),
        "data fingerprint": str(card["data_fingerprint"]),
        "started": str(card["started"]),
    }
    for name, value in card["versions"].items():
        facts[f"{name} version"] = str(value)
    facts |= {
        name.replace("_gb", ", GiB"): str(value)
        for name, value in card["machine"].items()
        if value is not None
    }
    return facts
