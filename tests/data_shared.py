"""Readers of the shared data sets beside the checkout, for tests and measurements only."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd

from polytask.problems import Problem
from polytask.tasks import Binary, Multiclass

WINE = [
    "fixed acidity",
    "volatile acidity",
    "citric acid",
    "residual sugar",
    "chlorides",
    "free sulfur dioxide",
    "total sulfur dioxide",
    "density",
    "pH",
    "sulphates",
    "alcohol",
    "quality",
]
ADULT = [
    "age",
    "workclass",
    "fnlwgt",
    "education",
    "education-num",
    "marital-status",
    "occupation",
    "relationship",
    "race",
    "sex",
    "capital-gain",
    "capital-loss",
    "hours-per-week",
    "native-country",
    "income",
]


def wine_table(data: Path, colour: str) -> pd.DataFrame:
    """Red or white wine, with column names (the file has none)."""
    return pd.read_csv(data / "wine_quality" / f"winequality-{colour}.csv.gz", names=WINE)


def adult_table(data: Path) -> pd.DataFrame:
    """The census table with its official parts in the column ``part``."""
    frames = []
    for part in ("train", "test"):
        frame = pd.read_csv(
            data / "adult_census" / f"adult-{part}.csv.gz",
            names=ADULT,
            skipinitialspace=True,
            na_values="?",
        )
        frames.append(frame.assign(income=frame["income"].str.rstrip("."), part=part))
    return pd.concat(frames, ignore_index=True)


def parkinsons_path(data: Path) -> Path:
    """The telemonitoring file, as it came."""
    return data / "parkinsons_telemonitoring" / "parkinsons_updrs.csv.gz"


def mulan_table(data: Path, name: str) -> tuple[pd.DataFrame, list[str]]:
    """A multi-target regression set with nominal attributes as words, and its targets."""
    with np.load(data / "mulan_mtr" / f"{name}.npz", allow_pickle=False) as arrays:
        features, targets = arrays["features"].tolist(), arrays["targets"].tolist()
        frame = pd.DataFrame(arrays["X"], columns=features)
        levels = json.loads(str(arrays["levels"]))
        for attribute, words in levels.items():
            frame[attribute] = [None if np.isnan(v) else words[int(v)] for v in frame[attribute]]
        for i, target in enumerate(targets):
            frame[target] = arrays["Y"][:, i]
    return frame, targets


def uci_problem(data: Path, name: str, *, split: int = 0) -> Problem:
    """One UCI classification set with its published split."""
    with np.load(data / "uci121" / f"{name}.npz", allow_pickle=False) as arrays:
        inputs, labels = arrays["X"], arrays["y"].astype(np.int64)
        is_test, is_validation = arrays["test"][:, split] == 1, arrays["val"][:, split] == 1
    classes = int(labels.max()) + 1
    splits = {
        "train": np.flatnonzero(~is_test & ~is_validation),
        "validation": np.flatnonzero(is_validation),
        "test": np.flatnonzero(is_test),
    }
    kind = Binary() if classes == 2 else Multiclass(classes)
    return Problem.from_arrays(inputs, {name: labels}, {name: kind}, name=name, splits=splits)
