"""The main job on tables nothing here was tuned on, through the command line as a user runs it.

    python -m experiments.tables.run [--data ../shared/data] [--only parkinsons ...] [--seeds 5]

Writes the CSV files a user would have into a temporary folder, runs ``polytask compare`` on each,
and keeps the verdict, the leaderboard, the gains per task and the command in ``results/NAME.json``.
"""

from __future__ import annotations

import argparse
import datetime
import json
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

HERE = Path(__file__).resolve().parent
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


def parkinsons(data: Path, folder: Path) -> list[str]:
    """Two clinical scores of 42 patients; no patient is in two splits."""
    source = data / "parkinsons_telemonitoring" / "parkinsons_updrs.csv.gz"
    pd.read_csv(source).to_csv(folder / "parkinsons.csv", index=False)
    targets = ["--target", "motor_UPDRS:regression", "--target", "total_UPDRS:regression"]
    return ["--data", "parkinsons.csv", *targets, "--split-by", "subject#"]


def wine(data: Path, folder: Path) -> list[str]:
    """Quality of red and of white wine: two tables, one task each (separate inputs)."""
    for colour in ("red", "white"):
        frame = pd.read_csv(data / "wine_quality" / f"winequality-{colour}.csv.gz", names=WINE)
        frame.to_csv(folder / f"{colour}.csv", index=False)
    return [
        word for c in ("red", "white") for word in ("--task", f"{c}={c}.csv:quality:regression")
    ]


def sarcos(data: Path, folder: Path) -> list[str]:
    """Seven torques of a robot arm from its position, velocity and acceleration."""
    with np.load(data / "sarcos_test" / "sarcos_inv_test.npz") as arrays:
        inputs, outputs = arrays["X"], arrays["Y"]
    frame = pd.DataFrame(inputs, columns=[f"x{i}" for i in range(inputs.shape[1])])
    names = [f"torque{i + 1}" for i in range(outputs.shape[1])]
    frame[names] = outputs
    frame.to_csv(folder / "sarcos.csv", index=False)
    return ["--data", "sarcos.csv", *[w for n in names for w in ("--target", f"{n}:regression")]]


def emotions(data: Path, folder: Path) -> list[str]:
    """Six emotions that a piece of music evokes: a small multi-label set."""
    with np.load(data / "mulan_multilabel" / "emotions.npz") as arrays:
        inputs = np.concatenate([arrays["train_X"], arrays["test_X"]])
        labels = np.concatenate([arrays["train_Y"], arrays["test_Y"]])
        features, names = arrays["features"].tolist(), arrays["labels"].tolist()
    frame = pd.DataFrame(inputs, columns=features)
    frame[names] = np.where(labels > 0, "yes", "no")
    frame.to_csv(folder / "emotions.csv", index=False)
    return ["--data", "emotions.csv", *[w for n in names for w in ("--target", f"{n}:binary")]]


def jura(data: Path, folder: Path) -> list[str]:
    """Three metals in the soil of the Swiss Jura: 359 places."""
    with np.load(data / "mulan_mtr" / "jura.npz") as arrays:
        frame = pd.DataFrame(arrays["X"], columns=arrays["features"].tolist())
        levels = json.loads(str(arrays["levels"]))
        for name, words in levels.items():
            frame[name] = [None if np.isnan(v) else words[int(v)] for v in frame[name]]
        names = arrays["targets"].tolist()
        frame[names] = arrays["Y"]
    frame.to_csv(folder / "jura.csv", index=False)
    return ["--data", "jura.csv", *[w for n in names for w in ("--target", f"{n}:regression")]]


TABLES: dict[str, Callable[[Path, Path], list[str]]] = {
    made.__name__: made for made in (parkinsons, wine, sarcos, emotions, jura)
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--only", nargs="+", choices=sorted(TABLES), default=sorted(TABLES))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=100)
    options = parser.parse_args()
    for name in options.only:
        with tempfile.TemporaryDirectory() as place:
            words = TABLES[name](options.data.resolve(), Path(place))
            budget = ["--seeds", str(options.seeds), "--epochs", str(options.epochs)]
            command = ["compare", *words, *budget, "--out", name]
            started = time.monotonic()
            subprocess.run(
                [sys.executable, "-m", "polytask.cli.main", *command], cwd=place, check=True
            )
            write_result(name, command, Path(place) / name, time.monotonic() - started)


def write_result(name: str, command: list[str], out: Path, seconds: float) -> None:
    """Keep what a reader wants of a comparison as a small text file."""
    from polytask.evaluation import Comparison

    comparison = Comparison.load(out)
    record = {
        "command": shlex.join(["polytask", *command]),
        "date": datetime.date.today().isoformat(),
        "wall_seconds": round(seconds),
        "verdict": str(comparison.verdict),
        "leaderboard": json.loads(comparison.leaderboard().to_json(orient="records")),
        "gains": json.loads(comparison.gains().to_json(orient="records")),
    }
    (HERE / "results").mkdir(exist_ok=True)
    text = json.dumps(record, indent=1, ensure_ascii=False)
    (HERE / "results" / f"{name}.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
