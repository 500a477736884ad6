"""Does a graph of the labels help? ML-GCN against plain heads on the same encoder.

    python -m experiments.universal.label_graph.run

Every finished run is appended to a log: the same command goes on where it stopped.

Shape legend: N rows, D inputs, T labels.
"""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from experiments.common import DATA, Report, ResumableSettings, experiment, rounded
from experiments.showing import COLOURS, canvas, label, shown, table
from matplotlib.figure import Figure
from torch import Tensor
from torch.nn import functional

from polytask.architectures import Architecture, HardSharing
from polytask.architectures.label_graph import LabelGraph, label_adjacency
from polytask.encoders import MLP
from polytask.evaluation.significance import holm, paired_test
from polytask.tasks import Binary, Task
from polytask.tasks.metrics import AVERAGE_PRECISION, Scored

#: Known labels of its own making, then the sets of the shared data.
PLANTED = "planted"
#: Rows of their training parts.
TRAIN_ROWS = {
    PLANTED: 1000, "birds": 322, "emotions": 391, "enron": 1123, "flags": 129, "scene": 1211,
    "yeast": 1500,
}  # fmt: skip
SETS = tuple(TRAIN_ROWS)
PLAIN = "plain heads"
#: mAP of the paper's tables 1 to 3 beside its backbone with the same (max) and its own pooling.
PUBLISHED = {
    "COCO": {"ML-GCN": 83.0, "ResNet-101, max pooling": 81.9, "ResNet-101, average": 77.3},
    "NUS-WIDE": {"ML-GCN": 62.5, "ResNet-101, max pooling": 59.7, "ResNet-101, average": 56.9},
    "VOC 2007": {"ML-GCN": 94.0, "ResNet-101, max pooling": 93.0, "ResNet-101, average": 91.7},
}
#: Steps without a better validation loss before training stops, and steps between two looks.
PATIENCE, EVERY = 60, 5


@dataclass(frozen=True)
class Settings(ResumableSettings):
    """Of the experiment.

    Args:
        rows: Training rows, a fifth of them to stop training by; no more than there are, 0 means
            all.
        features: Most inputs of a set; of more those that vary in the most rows are kept (words of
            Enron); 0 means all.
        width: Hidden units of the encoder, and features that the heads read.
        hidden: Hidden units of the graph network.
        steps: Most steps, each over all rows.
        learning_rates: Of Adam; a run tries each and keeps the model of the least validation loss.
    """

    sets: tuple[str, ...] = SETS
    rows: tuple[int, ...] = (60, 150, 400)
    features: int = 300
    width: int = 128
    hidden: int = 128
    steps: int = 1000
    learning_rates: tuple[float, ...] = (1e-3,)
    weight_decay: float = 1e-3
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    data: Path = DATA


@dataclass(frozen=True)
class Job:
    """One model on one set."""

    name: str
    method: str
    rows: int
    features: int
    width: int
    hidden: int
    steps: int
    learning_rates: tuple[float, ...]
    weight_decay: float
    seed: int


# --- data ----------------------------------------------------------------------------------------

#: Training inputs and labels, test inputs and labels.
Data = tuple[Tensor, Tensor, Tensor, Tensor]


@functools.lru_cache(maxsize=2)
def read(name: str, folder: Path, features: int) -> Data:
    """A set with its official parts; nominal inputs as one-hot, all standardised on training rows,
    the ``features`` of most variance (0: all).
    """
    with np.load(folder / "mulan_multilabel" / f"{name}.npz", allow_pickle=False) as arrays:
        levels = json.loads(str(arrays["levels"]))
        names = arrays["features"].tolist()
        train, test = (
            _columns(arrays[f"{part}_X"].astype(float), names, levels) for part in ("train", "test")
        )
        labels = [torch.from_numpy(arrays[f"{p}_Y"].astype(np.int64)) for p in ("train", "test")]
    deviation = train.std(0)
    kept = np.sort(np.argsort(-deviation, kind="stable")[: features or None])
    scale = np.where(deviation[kept] > 0, deviation[kept], 1.0)
    ready = [
        torch.from_numpy((part[:, kept] - train[:, kept].mean(0)) / scale).float()
        for part in (train, test)
    ]
    return ready[0], labels[0], ready[1], labels[1]


def _columns(rows: np.ndarray, features: Sequence[str], levels: dict[str, list[str]]) -> np.ndarray:
    """Numbers as they are, nominal codes as one column per level."""
    found = []
    for column, feature in zip(rows.T, features, strict=True):
        if feature in levels:
            found.extend((column == code).astype(float) for code in range(len(levels[feature])))
        else:
            found.append(column)
    return np.stack(found, axis=1)


@functools.lru_cache(maxsize=2)
def planted(seed: int, groups: int = 5, children: int = 3, features: int = 30) -> Data:
    """Twenty labels with a known graph: five that lead, three that follow each.

    x [D] is standard Gaussian; a leading label occurs with probability sigmoid(3 w · x - 3), a
    follower only together with its leader, then with probability sigmoid(3 (w + d) · x / |w + d|)
    with a small direction d of its own: knowing one label of a group tells most of the others.
    """
    rng = np.random.default_rng(1000 + seed)
    inputs = rng.standard_normal((3000, features))
    labels = []
    for _ in range(groups):
        leader = rng.standard_normal(features)
        leader /= np.linalg.norm(leader)
        leads = rng.random(len(inputs)) < 1 / (1 + np.exp(3 - 3 * inputs @ leader))
        labels.append(leads)
        for _ in range(children):
            own = leader + 0.5 * rng.standard_normal(features) / math.sqrt(features)
            chance = 1 / (1 + np.exp(-3 * inputs @ own / np.linalg.norm(own)))
            labels.append(leads & (rng.random(len(inputs)) < chance))
    x = torch.from_numpy(inputs).float()
    y = torch.from_numpy(np.stack(labels, axis=1).astype(np.int64))
    return x[:1000], y[:1000], x[1000:], y[1000:]


# --- training and scores -------------------------------------------------------------------------


def _graph(targets: Tensor, tasks: Sequence[Task], job: Job, size: int, variant: Any) -> LabelGraph:
    return LabelGraph(
        encoder=MLP(input_size=size, widths=(job.width,)), tasks=tasks,
        adjacency=label_adjacency(targets, variant=variant), hidden=job.hidden, variant=variant,
        bias=True,
    )  # fmt: skip


def plain(targets: Tensor, tasks: Sequence[Task], job: Job, size: int) -> HardSharing:
    """A linear head per label."""
    del targets
    return HardSharing(encoder=MLP(input_size=size, widths=(job.width,)), tasks=tasks)


def graph(targets: Tensor, tasks: Sequence[Task], job: Job, size: int) -> LabelGraph:
    """The paper's graph."""
    return _graph(targets, tasks, job, size, "paper")


def graph_of_code(targets: Tensor, tasks: Sequence[Task], job: Job, size: int) -> LabelGraph:
    """The graph of the authors' code."""
    return _graph(targets, tasks, job, size, "code")


def no_edges(targets: Tensor, tasks: Sequence[Task], job: Job, size: int) -> LabelGraph:
    """The same network without any edge: what two more layers do by themselves."""
    return _graph(torch.zeros_like(targets), tasks, job, size, "paper")


METHODS: dict[str, Callable[..., Architecture]] = {
    PLAIN: plain,
    "label graph": graph,
    "label graph, code": graph_of_code,
    "no edges": no_edges,
}


def work(job: Job, *, folder: Path) -> dict[str, Any]:
    """Mean average precision on the test rows."""
    torch.set_num_threads(1)
    data = planted(job.seed) if job.name == PLANTED else read(job.name, folder, job.features)
    inputs, targets, test_inputs, test_targets = data
    generator = torch.Generator().manual_seed(job.seed)
    order = torch.randperm(len(inputs), generator=generator)[: job.rows or None]
    cut = round(0.8 * len(order))
    fit, unseen = order[:cut], order[cut:]
    tasks = [Task(f"label {t}", Binary()) for t in range(targets.shape[1])]
    best = math.inf
    for rate in job.learning_rates:
        torch.manual_seed(job.seed)
        tried = METHODS[job.method](targets[fit], tasks, job, inputs.shape[1])
        parts = (inputs[fit], targets[fit]), (inputs[unseen], targets[unseen])
        found, steps = train(tried, *parts, job, rate)
        if found < best:
            best, model, chosen = found, tried, {"steps": steps, "learning_rate": rate}
    with torch.no_grad():
        scores = precision(logits(model, test_inputs), test_targets)
    return {
        "map": float(np.nanmean(scores)),
        "per_label": scores,
        **chosen,
        "edges": edges_of(model),
        "labels_never_seen": int((targets[fit].sum(0) == 0).sum()),
    }


def logits(model: Architecture, rows: Tensor) -> Tensor:
    """Log-odds ``[N, T]``."""
    ((_, block),) = model(rows).blocks
    return block.squeeze(-1)


def train(
    model: Architecture,
    fit: tuple[Tensor, Tensor],
    unseen: tuple[Tensor, Tensor],
    job: Job,
    rate: float,
) -> tuple[float, int]:
    """Adam on all rows at once; the parameters with the least validation loss are kept. Returns
    that loss and their step.
    """
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=job.weight_decay)
    best, kept_at, kept = math.inf, 0, {}
    for step in range(job.steps + 1):
        if step % EVERY == 0:
            with torch.no_grad():
                found = float(loss(model, *unseen))
            if found < best:
                best, kept_at = found, step
                kept = {k: v.clone() for k, v in model.state_dict().items()}
            elif step - kept_at > PATIENCE:
                break
        optimizer.zero_grad()
        loss(model, *fit).backward()
        optimizer.step()
    model.load_state_dict(kept)
    return best, kept_at


def loss(model: Architecture, rows: Tensor, targets: Tensor) -> Tensor:
    """The multi-label logistic loss."""
    return functional.binary_cross_entropy_with_logits(logits(model, rows), targets.float())


def precision(scores: Tensor, targets: Tensor) -> list[float]:
    """Average precision in per cent per label; NaN for a label without a positive."""
    found = []
    for score, target in zip(scores.T, targets.T, strict=True):
        positive = torch.sigmoid(score.double())
        scored = Scored(
            prediction=(score > 0).long().numpy(),
            target=target.numpy(),
            probabilities=torch.stack([1 - positive, positive], dim=1).numpy(),
        )
        found.append(100 * AVERAGE_PRECISION(scored))
    return found


def edges_of(model: Architecture) -> int:
    """Edges between different labels."""
    if not isinstance(model, LabelGraph):
        return 0
    matrix = torch.tensor(model.adjacency)
    return int((matrix > 0).sum() - len(matrix))


# --- results -------------------------------------------------------------------------------------


def jobs_of(settings: Settings) -> list[Job]:
    """Every run, seed by seed."""
    return [
        settings.job(Job, name=name, method=method, rows=rows, seed=seed)
        for seed in settings.seeds
        for name in settings.sets
        for rows in settings.rows
        if is_new(name, rows, settings.rows)
        for method in METHODS
    ]


def is_new(name: str, rows: int, others: Sequence[int]) -> bool:
    """Whether no smaller number of rows is all that the set has."""
    return rows == 0 or not any(TRAIN_ROWS[name] <= other < rows for other in others if other)


def summarise(runs: Sequence[dict[str, Any]], settings: Settings) -> dict[str, Any]:
    """Per set and number of rows: mAP of each method and its difference from plain heads."""
    found: dict[str, Any] = {}
    tests = []
    for name in settings.sets:
        for rows in settings.rows:
            chosen = [r for r in runs if r["name"] == name and r["rows"] == rows]
            values = {
                method: np.array([r["map"] for r in chosen if r["method"] == method])
                for method in METHODS
            }
            if not chosen or len({len(v) for v in values.values()}) > 1:
                continue
            entry: dict[str, Any] = {
                "edges": float(
                    np.mean([r["edges"] for r in chosen if r["method"] == "label graph"])
                ),
                "labels_never_seen": float(np.mean([r["labels_never_seen"] for r in chosen])),
                "map": {method: v.tolist() for method, v in values.items()},
                "difference": {},
            }
            for method in list(METHODS)[1:]:
                test = paired_test(values[method] - values[PLAIN])
                entry["difference"][method] = {
                    "interval": [test.interval.mean, test.interval.low, test.interval.high],
                    "p": test.p,
                }
                tests.append(entry["difference"][method])
            found[f"{name}, {rows or 'all'}"] = entry
    known = [test for test in tests if not math.isnan(test["p"])]
    for test, adjusted in zip(known, holm([test["p"] for test in known]), strict=True):
        test["p_adjusted"] = adjusted
    return found


def overall(summary: dict[str, Any]) -> dict[str, Any]:
    """Differences from plain heads over the real sets: mean, and where they are better or worse."""
    found = {}
    for method in list(METHODS)[1:]:
        entries = [
            e["difference"][method] for key, e in summary.items() if not key.startswith(PLANTED)
        ]
        means = [e["interval"][0] for e in entries]
        found[method] = {
            "mean": float(np.mean(means)) if means else math.nan,
            "settings": len(means),
            "better": sum(e["interval"][1] > 0 for e in entries),
            "worse": sum(e["interval"][2] < 0 for e in entries),
        }
    return found


def show(summary: dict[str, Any], totals: dict[str, Any]) -> str:
    """A row per set and number of rows."""
    rows = [
        (
            key,
            f"{e['edges']:.0f}",
            shown(e["map"][PLAIN], 1),
            *(
                "{:+.1f} ({:+.1f} to {:+.1f})".format(*e["difference"][m]["interval"])
                for m in e["difference"]
            ),
        )
        for key, e in summary.items()
    ]
    header = (
        "set, training rows",
        "edges",
        f"mAP of {PLAIN}, %",
        *(f"{m}, points" for m in totals),
    )
    lines = [
        f"{m}: {t['mean']:+.2f} points on average over {t['settings']} settings of real sets, "
        f"better in {t['better']}, worse in {t['worse']} (95 % intervals)."
        for m, t in totals.items()
    ]
    return "\n".join([table(header, rows), "", *lines])


def draw(summary: dict[str, Any], settings: Settings) -> Figure:
    """Differences from plain heads with intervals, a panel per number of rows."""
    figure, axes = canvas(1, len(settings.rows), width=4.4, height=4.2)
    for ax, rows in zip(axes.flat, settings.rows, strict=True):
        names = [name for name in settings.sets if f"{name}, {rows or 'all'}" in summary]
        for m, method in enumerate(list(METHODS)[1:]):
            found = np.array(
                [
                    summary[f"{name}, {rows or 'all'}"]["difference"][method]["interval"]
                    for name in names
                ]
            ).reshape(-1, 3)
            places = np.arange(len(names)) + 0.22 * (m - 1)
            half = np.nan_to_num(found[:, 2] - found[:, 0])
            ax.errorbar(
                found[:, 0], places, xerr=half, fmt="o", ms=4, capsize=2, color=COLOURS[m],
                label=method,
            )  # fmt: skip
        ax.axvline(0, color="grey", linewidth=0.8)
        ax.set_yticks(range(len(names)), names)
        ax.invert_yaxis()
        label(ax, f"{rows or 'all'} training rows", "mAP minus plain heads, points", "")
    axes.flat[0].legend(fontsize=7, frameon=False, loc="lower left")
    return figure


def report(runs: Sequence[dict[str, Any]], settings: Settings) -> Report:
    summary = rounded(summarise(runs, settings))
    totals = rounded(overall(summary))
    text = show(summary, totals)
    content = {
        "command": "python -m experiments.universal.label_graph.run",
        "published": PUBLISHED,
        "summary": summary,
        "overall": totals,
    }
    return Report(content, text, {"figure.png": draw(summary, settings), "table.md": text})


SMOKE = {"sets": (PLANTED, "emotions"), "rows": (60,), "seeds": (0, 1), "steps": 20}
SCALES = {
    "full": {
        "rows": (30, 60, 150, 400, 0), "features": 0, "seeds": tuple(range(20)),
        "learning_rates": (3e-4, 1e-3, 3e-3),
    }
}  # fmt: skip

main = experiment(Settings, report, jobs=jobs_of, work=work, smoke=SMOKE, scales=SCALES)


if __name__ == "__main__":
    main()
