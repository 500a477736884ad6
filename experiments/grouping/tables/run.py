"""Groups of targets of tables: every way of grouping against everything simpler.

    python -m experiments.grouping.tables.run --workers 2

For each table ``compare`` trains, per seed, a network per target, one for all, and the networks of
each way of grouping, which finds its groups anew on the training and validation rows of that seed.
Verdict, leaderboard and groups are kept in ``results.json``, the leaderboards in ``table.md``.
"""

from __future__ import annotations

import dataclasses
import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from experiments.common import DATA, BaseSettings, Report, experiment
from experiments.showing import table

from polytask.candidates import Budget, Candidate, GroupedNetworks, candidate_by_name
from polytask.evaluation import compare
from polytask.grouping import RandomGroups


@dataclass(frozen=True)
class Settings(BaseSettings):
    """Of the experiment."""

    tables: tuple[str, ...] = ("slump", "enb", "sf1", "emotions")
    methods: tuple[str, ...] = (
        "stg", "stg-hard", "tag", "gradient-similarity", "hoa", "sampled", "label-correlation",
    )  # fmt: skip
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    groups: int = 2
    epochs: int = 40
    patience: int = 8
    workers: int = 0
    data: Path = DATA


def multi_target(name: str, data: Path) -> tuple[pd.DataFrame, dict[str, str]]:
    """One of the multi-target regression tables of Mulan (UCI's concrete slump, energy
    efficiency and solar flares among them).
    """
    with np.load(data / "mulan_mtr" / f"{name}.npz") as arrays:
        frame = pd.DataFrame(arrays["X"], columns=arrays["features"].tolist())
        for column, words in json.loads(str(arrays["levels"])).items():
            frame[column] = [None if np.isnan(v) else words[int(v)] for v in frame[column]]
        names = arrays["targets"].tolist()
        frame[names] = arrays["Y"]
    return frame, dict.fromkeys(names, "regression")


def multi_label(name: str, data: Path) -> tuple[pd.DataFrame, dict[str, str]]:
    """One of the multi-label tables of Mulan, its two parts put together."""
    with np.load(data / "mulan_multilabel" / f"{name}.npz") as arrays:
        inputs = np.concatenate([arrays["train_X"], arrays["test_X"]])
        labels = np.concatenate([arrays["train_Y"], arrays["test_Y"]])
        features, names = arrays["features"].tolist(), arrays["labels"].tolist()
    frame = pd.DataFrame(inputs, columns=features)
    frame[names] = np.where(labels > 0, "yes", "no")
    return frame, dict.fromkeys(names, "binary")


TABLES: dict[str, Callable[[str, Path], tuple[pd.DataFrame, dict[str, str]]]] = {
    **dict.fromkeys(("slump", "enb", "sf1", "jura", "rf1"), multi_target),
    **dict.fromkeys(("emotions", "scene", "yeast", "flags"), multi_label),
}


def candidates(settings: Settings) -> list[str | Candidate]:
    """All ways, and the controls: as many networks without any thought."""
    ways = [candidate_by_name(f"groups: {name}:{settings.groups}") for name in settings.methods]
    controls = [
        Candidate(
            f"control: {kind}",
            GroupedNetworks(grouper=RandomGroups(kind=kind), num_groups=settings.groups),
        )
        for kind in ("hard", "soft", "ensemble")
    ]
    return ["single-task", "equal", *ways, *controls]


def measure(name: str, settings: Settings) -> dict[str, Any]:
    """Compare on one table."""
    frame, targets = TABLES[name](name, settings.data)
    with tempfile.TemporaryDirectory() as folder:
        comparison = compare(
            frame,
            targets,
            candidates=candidates(settings),
            seeds=settings.seeds,
            out=Path(folder) / name,
            budget=Budget(epochs=settings.epochs, patience=settings.patience),
            workers=settings.workers,
        )
        board = json.loads(comparison.leaderboard().to_json(orient="records"))
        return {
            "targets": list(targets),
            "rows": len(frame),
            "verdict": str(comparison.verdict),
            "leaderboard": board,
            "failed": [dataclasses.asdict(run)["error"] for run in comparison.failures],
        }


def show(name: str, found: dict[str, Any]) -> str:
    """The leaderboard of a table, best on validation first."""
    rows = [
        (
            row["candidate"],
            _interval(row),
            "" if row["p_adjusted"] is None else f"{row['p_adjusted']:.2f}",
            f"{row['train_seconds']:.1f}",
            f"{row['predict_seconds_per_1000']:.3f}",
        )
        for row in found["leaderboard"]
        if row["train_seconds"] is not None
    ]
    header = (
        f"{name}, {len(found['targets'])} targets", "Δm, %", "p (adjusted)", "s to find and train",
        "s per 1,000 predicted",
    )  # fmt: skip
    return f"{table(header, rows)}\n\n{found['verdict']}\n"


def _interval(row: dict[str, Any]) -> str:
    if row["delta_m"] is None:
        return ""
    if row["delta_m_high"] is None:
        return f"{row['delta_m']:+.2f}"
    return f"{row['delta_m']:+.2f} ± {(row['delta_m_high'] - row['delta_m_low']) / 2:.2f}"


def report(settings: Settings) -> Report:
    found = {name: measure(name, settings) for name in settings.tables}
    text = "\n".join(show(name, entry) for name, entry in found.items())
    return Report({"tables": found}, text, {"table.md": text})


SMOKE = {
    "tables": ("slump",), "methods": ("stg", "label-correlation"), "seeds": (0,), "epochs": 1,
}  # fmt: skip

main = experiment(Settings, report, smoke=SMOKE)


if __name__ == "__main__":
    main()
