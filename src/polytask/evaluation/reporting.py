"""From a ``Comparison`` to what its report shows.

Shape legend: C candidates, S seeds, T tasks.
"""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from polytask.evaluation.plan import Plan
from polytask.evaluation.results import Results, Run
from polytask.report.data import (
    CandidateRow,
    ColumnRow,
    CosineMatrix,
    Curve,
    Estimate,
    Failure,
    Gain,
    ReportData,
    SeedScore,
    TaskGroups,
    TaskRow,
    WeightHistory,
)
from polytask.report.formats import duration, listing, number
from polytask.report.lines import Line, known, mean_line

__all__ = ["report_data"]

NAN = float("nan")


def report_data(results: Results) -> ReportData:
    """Everything that the report of a comparison shows, finished or not."""
    plan = results.plan
    done = sum(run.is_done for run in results.runs.values())
    status = ""
    if not results.is_complete:
        status = f"{done} of {len(results.runs)} runs are finished. The same command continues."
    return ReportData(
        title=results.name,
        headline=results.verdict.headline,
        verdict=str(results.verdict),
        status=status,
        baseline=results.baseline,
        candidates=tuple(_candidates(results)),
        tasks=tuple(_task(record) for record in plan.tasks),
        gains=tuple(_gains(results)),
        scores=tuple(_scores(results)),
        curves=tuple(_curves(results)),
        weights=tuple(_weights(results)),
        cosines=tuple(_cosines(results)),
        groups=tuple(_groups(results)),
        rows=plan.rows,
        columns=tuple(_columns(plan.schema)),
        notes=tuple(plan.notes),
        failures=tuple(_failures(results)),
        budget=_budget(plan.budget),
        repeat=_repeat(results),
        run_notes=tuple(_run_notes(results)),
        interval_note=_interval_note(results),
        command=results.provenance()["command"],
        raw_scores="results.jsonl",
    )


# --- the answer ----------------------------------------------------------------------------------


def _candidates(results: Results) -> Iterator[CandidateRow]:
    real = set(results.candidates)
    for row in results.leaderboard().to_dict("records"):
        name = str(row["candidate"])
        yield CandidateRow(
            name=name,
            description=_description(results, name),
            is_baseline=name == results.baseline,
            is_winner=bool(row["winner"]),
            is_composite=name not in real,
            runs=_finished(results, name) if name in real else "",
            scores={m: _estimate(row, f"mean_{m}") for m in results.analysis.means},
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


def _description(results: Results, name: str) -> str:
    if name not in results.candidates:
        return "each task's own best on validation, from the same runs"
    groups = results.groups(name)
    if all(len(group) == 1 for group in groups):
        return "a model per task"
    what = "one model for all tasks" if len(groups) == 1 else f"{len(groups)} groups of tasks"
    method = results.plan.candidate(name).method
    if method.get("method") == "grouped networks":
        return "a network per group; the groups are found anew for every seed"
    if method.get("method") == "weight search":
        # Its training time is that of the whole search.
        trainings = f"the best of at most {method['evaluations']} trainings"
        return f"{what}, {trainings if len(groups) == 1 else trainings + ' each'}"
    return what


def _finished(results: Results, name: str) -> str:
    runs = [run for seed in results.seeds for run in results.runs_of(name, seed)]
    return f"{sum(run.is_done for run in runs)} of {len(runs)}"


def _gains(results: Results) -> Iterator[Gain]:
    for row in results.gains().to_dict("records"):
        if row["candidate"] != results.baseline:
            yield Gain(str(row["candidate"]), str(row["task"]), _estimate(row, "gain"))


def _scores(results: Results) -> Iterator[SeedScore]:
    table = results.analysis.table
    for c, candidate in enumerate(results.candidates):
        for t, task in enumerate(table.tasks):
            for s, seed in enumerate(table.seeds):
                runs = results.runs_of(candidate, seed)
                if any(run.is_done and task in run.tasks for run in runs):
                    yield SeedScore(candidate, task, seed, float(table.test[c, s, t]))


def _interval_note(results: Results) -> str:
    if results.overlap:
        return (
            "Every seed draws its own split, and splits share rows; intervals and tests of gains"
            " are widened for that (Nadeau and Bengio, 2003)."
        )
    return "All seeds share one split, so intervals and tests speak about these test rows only."


# --- how training went ---------------------------------------------------------------------------


def _finished_runs(results: Results) -> Iterator[tuple[str, int, list[Run]]]:
    """Candidate, seed and the runs that have a result."""
    for candidate in results.candidates:
        for seed in results.seeds:
            runs = [run for run in results.runs_of(candidate, seed) if run.is_done]
            if runs:
                yield candidate, seed, runs


def _curves(results: Results) -> Iterator[Curve]:
    for candidate, seed, runs in _finished_runs(results):
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


def _weights(results: Results) -> Iterator[WeightHistory]:
    for candidate, seed, runs in _finished_runs(results):
        lines = _task_lines([run for run in runs if len(run.tasks) > 1], "weight", "epoch")
        if not lines:
            continue
        epochs = np.unique(np.concatenate([x for x, _ in lines.values()]))
        weights = {task: tuple(np.interp(epochs, *line).tolist()) for task, line in lines.items()}
        yield WeightHistory(candidate, seed, tuple(epochs.astype(int).tolist()), weights)


def _cosines(results: Results) -> Iterator[CosineMatrix]:
    """Mean matrices over seeds, the preferred candidate's first; NaN between two groups."""
    place = {task: t for t, task in enumerate(results.tasks)}
    matrices: dict[str, list[np.ndarray]] = defaultdict(list)
    for candidate, _, runs in _finished_runs(results):
        for run in runs:
            if run.result is not None and run.result["cosines"] is not None:
                index = [place[task] for task in run.tasks]
                matrix = np.full((len(place), len(place)), np.nan)
                matrix[np.ix_(index, index)] = np.array(run.result["cosines"], dtype=float)
                matrices[candidate].append(matrix)
    for candidate in sorted(matrices, key=lambda name: name != results.winner):
        stacked = np.stack(matrices[candidate])
        looks = np.isfinite(stacked).sum(0)
        total = np.nansum(stacked, axis=0)
        mean = np.where(looks > 0, total / np.maximum(looks, 1), np.nan)
        if np.isfinite(mean[~np.eye(len(place), dtype=bool)]).any():
            yield CosineMatrix(candidate, results.tasks, tuple(tuple(row) for row in mean.tolist()))


def _groups(results: Results) -> Iterator[TaskGroups]:
    """What the candidates that look for groups have found, the preferred candidate's first; the
    groups of controls say nothing.
    """
    from sklearn.metrics import adjusted_rand_score

    found: dict[str, list[tuple[int, Mapping[str, Any]]]] = defaultdict(list)
    for candidate, seed, runs in _finished_runs(results):
        for run in runs if not results.plan.candidate(candidate).is_control else ():
            if run.result is not None and "grouping" in run.result["curves"]:
                found[candidate].append((seed, run.result["curves"]["grouping"]))
    for candidate in sorted(found, key=lambda name: name != results.winner):
        labels = [np.array(grouping["serving"]).argmax(1) for _, grouping in found[candidate]]
        pairs = [adjusted_rand_score(a, b) for a, b in itertools.combinations(labels, 2)]
        seed, first = found[candidate][0]
        memberships = tuple(tuple(row) for row in first["memberships"])
        agreement = float(np.mean(pairs)) if pairs else NAN
        yield TaskGroups(candidate, seed, tuple(first["tasks"]), memberships, agreement)


def _failures(results: Results) -> Iterator[Failure]:
    for run in results.failures:
        yield Failure(
            candidate=", ".join(run.candidates),
            group=listing(run.tasks),
            seed=run.seed,
            error=run.error or "no message",
            attempts=run.attempts,
        )


def _run_notes(results: Results) -> Iterator[str]:
    """Every note once, with the number of runs that left it."""
    counted = Counter(
        note
        for run in results.runs.values()
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


def _splits(plan: Plan) -> str:
    """How rows came into the splits, with the options that the source has."""
    how = "drawn anew for every seed" if plan.resplits else "the same for every seed"
    options = {name: value for name, value in (plan.data.get("split") or {}).items() if value}
    return "; ".join([how, *(f"{name} {value}" for name, value in options.items())])


def _repeat(results: Results) -> dict[str, str]:
    made = results.provenance()
    facts = {
        "seeds": ", ".join(str(seed) for seed in made["seeds"]),
        "splits": _splits(results.plan),
        "data fingerprint": str(made["data_fingerprint"]),
        "started": str(made["started"]),
    }
    for name, value in made["versions"].items():
        facts[f"{name} version"] = str(value)
    facts |= {
        name.replace("_gb", ", GiB"): str(value)
        for name, value in made["machine"].items()
        if value is not None
    }
    return facts
