"""Reports made by hand: any number of tasks and candidates, with names as data really have."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from polytask.report import (
    CandidateRow,
    ColumnRow,
    CosineMatrix,
    Curve,
    Estimate,
    Failure,
    Gain,
    ReportData,
    SeedScore,
    TaskRow,
    WeightHistory,
)

HOSTILE_NAMES = (
    "<script>alert(1)</script>",
    "a & b",
    "$x_1$ and \\frac{1}{2}",
    "価格 Größe 🙂",
    "x" * 199 + "y",
    "x" * 199 + "z",
    '"><img src=x onerror=alert(2)>',
    "#010102 fill:var(--worse)",
    "{{ 7 * 7 }} {% raw %}",
    "tab\tnew\nline \x00\x1b[31m \u202ereversed",
)
BASELINE = "single-task"
JOINT = (
    "shared: equal",
    "shared: uncertainty",
    "shared: pcgrad",
    "shared: gradnorm",
    "shared: mgda",
)


def interval_of(values: np.ndarray) -> Estimate:
    half = 2.776 * values.std(ddof=1) / math.sqrt(len(values))
    return Estimate(float(values.mean()), float(values.mean() - half), float(values.mean() + half))


def example(
    *,
    num_tasks: int = 3,
    num_joint: int = 2,
    seeds: int = 5,
    epochs: int = 40,
    names: tuple[str, ...] = (),
) -> ReportData:
    """A whole comparison with made-up but consistent numbers."""
    draw = np.random.default_rng(0)
    names = names or tuple(f"task {i + 1}" for i in range(num_tasks))
    candidates = (BASELINE, "boosting", *JOINT[:num_joint])
    effect = draw.normal(1.0, 3.0, len(names))
    gains = {
        c: effect[:, None] * (0.4 + 0.2 * k) + draw.normal(0, 1.5, (len(names), seeds))
        for k, c in enumerate(candidates)
    }
    tasks = tuple(_task(i, name) for i, name in enumerate(names))
    return ReportData(
        title="houses",
        headline="Learn the targets together, with shared: pcgrad.",
        verdict="It gains 2.4 % over single-task learning on average (95 % interval 1.1 to 3.7,"
        " p = 0.004), and trains 2.6 times faster. No difference can be shown for one target.",
        baseline=BASELINE,
        candidates=tuple(_candidate(c, gains[c], draw, tasks) for c in reversed(candidates)),
        tasks=tasks,
        gains=tuple(
            Gain(c, name, interval_of(gains[c][i]))
            for c in candidates[1:]
            for i, name in enumerate(names)
        ),
        scores=tuple(
            SeedScore(c, name, s, float(0.8 + gains[c][i, s] / 100))
            for c in candidates
            for i, name in enumerate(names)
            for s in range(seeds)
        ),
        curves=tuple(_curve(c, s, epochs, draw) for c in candidates for s in range(seeds)),
        weights=tuple(
            _weights(c, s, names, epochs, draw, moves=c != "shared: equal")
            for c in candidates[2:]
            for s in range(seeds)
        ),
        cosines=(CosineMatrix("shared: equal", names, _cosines(len(names), draw)),),
        rows={"train": 14448, "validation": 3096, "test": 3096},
        columns=(
            ColumnRow(name="size", type="numeric", distinct=311),
            ColumnRow(name="town", type="categorical", missing=0.021, distinct=14),
            ColumnRow(name="id", type="identifier", role="unused", distinct=20640, note="unique"),
        ),
        notes=("Target 'sold' is imbalanced: 8.1 % positives; its loss is weighted.",),
        budget={"epochs": "at most 40", "patience": "16 epochs", "trials": "1 learning rate"},
        repeat={"seeds": "0, 1, 2, 3, 4", "data fingerprint": "9f2c1a77b3e0d415"},
        command="polytask compare --data houses.csv --target price:regression --out runs/houses",
        raw_scores="scores.csv",
    )  # fmt: skip


def with_failures(data: ReportData) -> ReportData:
    failure = Failure(
        candidate="shared: mgda",
        group="price, sold",
        seed=3,
        error="Loss `price` is not finite at step 12;\nlower the <learning rate>.",
        attempts=3,
    )
    return replace(
        data, failures=(failure,), status="11 of 12 runs are finished; the rest was interrupted."
    )


def _task(index: int, name: str) -> TaskRow:
    kind = ("regression", "binary", "multiclass")[index % 3]
    return TaskRow(
        name=name,
        kind=kind,
        metric={"regression": "rmse", "binary": "auc", "multiclass": "accuracy"}[kind],
        higher_is_better=kind != "regression",
        labels={"train": 14448, "validation": 3096, "test": 3096},
        classes={"regression": 0, "binary": 2, "multiclass": 5}[kind],
        positives=0.081 if kind == "binary" else float("nan"),
        note="class weights 0.54 and 6.2" if kind == "binary" else "",
    )


def _candidate(
    name: str, gains: np.ndarray, draw: np.random.Generator, tasks: tuple[TaskRow, ...]
) -> CandidateRow:
    is_baseline = name == BASELINE
    scores = {task.metric: interval_of(0.8 + gains.mean(0) / 100) for task in tasks}
    return CandidateRow(
        name=name,
        description="one network for all tasks"
        if name.startswith("shared")
        else "one model per task",
        is_baseline=is_baseline,
        is_winner=name == "shared: pcgrad",
        runs="15 of 15",
        scores=scores,
        gain=Estimate(0.0) if is_baseline else interval_of(gains.mean(0)),
        p_value=float("nan") if is_baseline else float(draw.uniform(0, 0.2)),
        win=float(draw.uniform(0, 60)),
        best=float(draw.uniform(20, 60)),
        mean_rank=float(draw.uniform(0, 3)),
        normalised=float(draw.uniform(0, 100)),
        parameters=float(draw.integers(10_000, 4_000_000)),
        training_seconds=float(draw.uniform(3, 400)),
        prediction_seconds=float(draw.uniform(0.001, 0.3)),
        memory_bytes=float(draw.uniform(3e8, 2e9)),
    )


def _curve(name: str, seed: int, epochs: int, draw: np.random.Generator) -> Curve:
    length = int(draw.integers(epochs // 2, epochs + 1))
    x = np.arange(1, length + 1)
    noise = draw.normal(0, 0.01, length)
    train = 0.25 + 0.8 * np.exp(-x / 8) + noise
    validation = 0.4 + 0.7 * np.exp(-x / 6) + 0.002 * x + noise
    return Curve(name, seed, tuple(x.tolist()), tuple(train.tolist()), tuple(validation.tolist()))


def _weights(
    name: str,
    seed: int,
    tasks: tuple[str, ...],
    epochs: int,
    draw: np.random.Generator,
    *,
    moves: bool,
) -> WeightHistory:
    steps = draw.normal(0, 0.05 if moves else 0.0, (len(tasks), epochs)).cumsum(1)
    weights = {t: tuple(np.exp(steps[i]).tolist()) for i, t in enumerate(tasks)}
    return WeightHistory(name, seed, tuple(range(1, epochs + 1)), weights)


def _cosines(count: int, draw: np.random.Generator) -> tuple[tuple[float, ...], ...]:
    vectors = draw.normal(0, 1, (count, 6))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return tuple(tuple(row) for row in (vectors @ vectors.T).tolist())
