"""The public tables of the experiment, encoded as `TabularEncoder` expects them.

Shape letters: N rows, F numeric columns, G categorical columns.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.stats import norm

from polytask.tasks import Binary, Kind, Multiclass, Regression

#: Table name to its folder in the data directory.
TABLES = {
    "enb": "mulan_mtr",
    "scpf": "mulan_mtr",
    "car": "uci121",
    "bank": "uci121",
    "cardiotocography-10clases": "uci121",
    "magic": "uci121",
}
#: What is reported: higher is better.
SCORES = {
    "enb": "R2",
    "scpf": "R2",
    "car": "accuracy",
    "bank": "ROC AUC",
    "cardiotocography-10clases": "accuracy",
    "magic": "ROC AUC",
}
#: Columns of these tables with at most so many distinct values are categories.
CATEGORIES = {"car": 100, "bank": 12}


@dataclass(frozen=True)
class Table:
    """One split of one table: three parts of inputs [N, F + G] and encoded targets {task: [N]}."""

    name: str
    num_numeric: int
    cardinalities: tuple[int, ...]
    kinds: dict[str, Kind]
    inputs: dict[str, np.ndarray]
    targets: dict[str, dict[str, np.ndarray]]


def load(name: str, *, data: Path, seed: int, scaling: str, most_rows: int) -> Table:
    """Read a table, split it 60 : 20 : 20 by `seed`, and scale it by its training rows."""
    with np.load(data / TABLES[name] / f"{name}.npz") as archive:
        columns = archive["X"].astype(np.float64)
        raw = (
            {
                str(t): archive["Y"][:, i].astype(np.float64)
                for i, t in enumerate(archive["targets"])
            }
            if "Y" in archive.files
            else {"class": archive["y"].astype(np.int64)}
        )
    order = np.random.default_rng(seed).permutation(len(columns))[: int(most_rows / 0.6)]
    first, second = int(0.6 * len(order)), int(0.8 * len(order))
    rows = {"train": order[:first], "validation": order[first:second], "test": order[second:]}
    categorical = [
        g
        for g in range(columns.shape[1])
        if len(np.unique(columns[:, g])) <= CATEGORIES.get(name, 0)
    ]
    numeric = [f for f in range(columns.shape[1]) if f not in categorical]
    scaled = _scale(columns[:, numeric], rows["train"], scaling)
    codes, cardinalities = _codes(columns[:, categorical], rows["train"])
    inputs = np.concatenate([scaled, codes], axis=1).astype(np.float32)
    kinds = {task: _kind(values, rows["train"]) for task, values in raw.items()}
    targets = {
        task: kinds[task].encode(values) if isinstance(kinds[task], Regression) else values
        for task, values in raw.items()
    }
    return Table(
        name=name,
        num_numeric=len(numeric),
        cardinalities=cardinalities,
        kinds=kinds,
        inputs={part: inputs[index] for part, index in rows.items()},
        targets={part: {t: v[index] for t, v in targets.items()} for part, index in rows.items()},
    )


def _kind(values: np.ndarray, train: np.ndarray) -> Kind:
    if values.dtype == np.float64:
        return Regression(mean=float(values[train].mean()), scale=float(values[train].std()))
    classes = int(values.max()) + 1
    return Binary() if classes == 2 else Multiclass(num_classes=classes)


def _scale(columns: np.ndarray, train: np.ndarray, scaling: str) -> np.ndarray:
    known = columns[train]
    if scaling == "standard":
        spread = np.nanstd(known, axis=0)
        return (columns - np.nanmean(known, axis=0)) / np.where(spread > 0, spread, 1.0)
    result = np.full_like(columns, np.nan)
    for f in range(columns.shape[1]):
        reference = np.sort(known[~np.isnan(known[:, f]), f])
        cell = ~np.isnan(columns[:, f])
        low = np.searchsorted(reference, columns[cell, f], side="left")
        high = np.searchsorted(reference, columns[cell, f], side="right")
        result[cell, f] = norm.ppf(((low + high) / 2 + 0.5) / (len(reference) + 1))
    return result


def _codes(columns: np.ndarray, train: np.ndarray) -> tuple[np.ndarray, tuple[int, ...]]:
    coded = np.empty_like(columns)
    cardinalities = []
    for g in range(columns.shape[1]):
        known = np.unique(columns[train, g])
        place = np.searchsorted(known, columns[:, g]).clip(max=len(known) - 1)
        coded[:, g] = np.where(known[place] == columns[:, g], place, len(known))
        cardinalities.append(len(known))
    return coded, tuple(cardinalities)
