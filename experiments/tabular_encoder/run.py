"""Tune the tabular encoder once on several public tables, and compare it with gradient boosting.

    python run.py search --data ../../../shared/data
    python run.py refine --data ../../../shared/data
    python run.py final --data ../../../shared/data --rows 3000

`search` draws random configurations and trains each on a part of every table; `refine` trains the
best of them, and combinations of what was good, with three seeds; `final` trains the defaults of
`TabularEncoder`, a bare perceptron and scikit-learn's histogram gradient boosting on the same
splits and writes `results.json`; `table` prints it. Selection reads validation rows only.
"""

from __future__ import annotations

import argparse
import copy
import json
import time
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.metrics import accuracy_score, r2_score, roc_auc_score

from polytask.architectures import HardSharing
from polytask.encoders import NumericEmbedding, TabularEncoder
from polytask.encoders.tabular import MemberLinear
from polytask.tasks import Binary, Kind, Regression, Task, TaskTensors
from tables import SCORES, TABLES, Table, load

HERE = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Configuration:
    """One point of the search: the encoder, the optimiser, and how numeric columns are scaled."""

    embedding: NumericEmbedding = field(default_factory=NumericEmbedding)
    adapters: tuple[str, str] = ("before", "")
    members: int = 8
    width: int = 128
    depth: int = 2
    dropout: float = 0.1
    learning_rate: float = 2e-3
    weight_decay: float = 1e-2
    scaling: str = "standard"


#: From the margins of the first round: width 128 or 192, depth 2, dropout 0.15, standard scaling.
COMBINATIONS = (
    Configuration(
        NumericEmbedding(size=8, functions=32, basis="piecewise"), ("after", ""), 8, 192, 2, 0.15
    ),
    Configuration(
        NumericEmbedding(size=8, functions=32, basis="periodic"), ("after", ""), 8, 128, 2, 0.15
    ),
    Configuration(
        NumericEmbedding(size=8, functions=32, basis="piecewise"), ("before", ""), 8, 128, 2, 0.15
    ),
)


def draw(generator: np.random.Generator) -> Configuration:
    """A random configuration."""

    def pick(*values: Any) -> Any:
        return values[int(generator.integers(len(values)))]

    embedding = NumericEmbedding(
        size=pick(1, 4, 8, 16),
        functions=pick(16, 32),
        basis=pick("periodic", "piecewise"),
        scale=pick(0.03, 0.1, 0.3),
    )
    return Configuration(
        embedding=embedding,
        adapters=pick(
            ("before", ""),
            ("after", ""),
            ("before after", "before after"),
            ("after", "before after"),
        ),
        members=pick(1, 4, 8, 8, 16),
        width=pick(64, 128, 192, 256),
        depth=pick(1, 2, 2, 3),
        dropout=pick(0.0, 0.1, 0.2, 0.3),
        learning_rate=pick(1e-3, 2e-3, 4e-3),
        weight_decay=pick(0.0, 1e-2, 1e-1),
        scaling=pick("standard", "quantile"),
    )


def train_network(table: Table, config: Configuration, seed: int, epochs: int) -> HardSharing:
    """AdamW, early stopping on the validation loss, batches of a sixteenth of the rows."""
    torch.manual_seed(seed)
    tasks = tuple(Task(name, kind) for name, kind in table.kinds.items())
    encoder = TabularEncoder(
        num_numeric=table.num_numeric,
        cardinalities=table.cardinalities,
        embedding=config.embedding,
        members=config.members,
        width=config.width,
        depth=config.depth,
        dropout=config.dropout,
    )
    use_adapters(encoder, config.adapters)
    model = HardSharing(encoder=encoder, tasks=tasks)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay
    )
    inputs = {part: torch.from_numpy(values) for part, values in table.inputs.items()}
    targets = {
        part: {name: torch.from_numpy(v) for name, v in values.items()}
        for part, values in table.targets.items()
    }
    rows = len(inputs["train"])
    batch = int(min(256, max(32, 2 ** round(np.log2(rows / 16)))))
    best, best_state, waited = float("inf"), copy.deepcopy(model.state_dict()), 0
    for _ in range(epochs):
        model.train()
        for index in torch.randperm(rows).split(batch):
            chosen = {name: values[index] for name, values in targets["train"].items()}
            loss = mean_loss(tasks, model(inputs["train"][index]), chosen)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
        model.eval()
        with torch.no_grad():
            value = float(mean_loss(tasks, model(inputs["validation"]), targets["validation"]))
        if value < best:
            best, best_state, waited = value, copy.deepcopy(model.state_dict()), 0
        else:
            waited += 1
            if waited == 12:
                break
    model.load_state_dict(best_state)
    return model.eval()


def use_adapters(encoder: TabularEncoder, adapters: tuple[str, str]) -> None:
    """Replace the layers by ones with other scales: those of the first, and those of the others."""
    for i, layer in enumerate(encoder.layers):
        wanted = adapters[min(i, 1)]
        if wanted != "before after":
            width, size = layer.weight.shape
            encoder.layers[i] = MemberLinear(size, width, encoder.members, wanted)


def mean_loss(
    tasks: tuple[Task, ...], outputs: TaskTensors, targets: dict[str, torch.Tensor]
) -> torch.Tensor:
    """Mean over tasks (and members) of the mean loss over examples."""
    losses = []
    for task in tasks:
        output = outputs[task.name]
        losses.append(task.kind.loss(output, targets[task.name].expand(output.shape[:-1])).mean())
    return torch.stack(losses).mean()


def network_scores(table: Table, model: HardSharing, part: str) -> dict[str, float]:
    """The score of each task on one part."""
    with torch.no_grad():
        outputs = model(torch.from_numpy(table.inputs[part]))
    scores = {}
    for name, kind in table.kinds.items():
        probabilities = kind.probabilities(outputs[name])
        guess = kind.predict(outputs[name]) if probabilities is None else probabilities
        scores[name] = score(kind, guess.numpy(), table.targets[part][name])
    return scores


def score(kind: Kind, guess: np.ndarray, truth: np.ndarray) -> float:
    """R2 of a regression, ROC AUC of a binary, accuracy of a multiclass task: more is better."""
    if isinstance(kind, Regression):
        return float(r2_score(truth, guess))
    if isinstance(kind, Binary):
        return float(roc_auc_score(truth, guess[:, 1]))
    return float(accuracy_score(truth, guess.argmax(1)))


def boosting_scores(table: Table, seed: int) -> dict[str, float]:
    """Histogram gradient boosting, one per target, early stopping on the same validation rows."""
    columns = table.num_numeric + len(table.cardinalities)
    settings = {
        "max_iter": 1000,
        "early_stopping": True,
        "n_iter_no_change": 20,
        "random_state": seed,
        "categorical_features": list(range(table.num_numeric, columns)) or None,
    }
    scores = {}
    for name, kind in table.kinds.items():
        regression = isinstance(kind, Regression)
        model = (HistGradientBoostingRegressor if regression else HistGradientBoostingClassifier)(
            **settings
        )
        model.fit(
            table.inputs["train"],
            table.targets["train"][name],
            X_val=table.inputs["validation"],
            y_val=table.targets["validation"][name],
        )
        guess = (
            model.predict(table.inputs["test"])
            if regression
            else model.predict_proba(table.inputs["test"])
        )
        scores[name] = score(kind, guess, table.targets["test"][name])
    return scores


def trial(
    config: Configuration, name: str, *, data: Path, seed: int, most_rows: int
) -> dict[str, Any]:
    """Train one configuration on one table; the mean validation score over its tasks."""
    table = load(name, data=data, seed=seed, scaling=config.scaling, most_rows=most_rows)
    started = time.process_time()
    model = train_network(table, config, seed, epochs=60)
    value = float(np.mean(list(network_scores(table, model, "validation").values())))
    return {"table": name, "seed": seed, "score": value, "seconds": time.process_time() - started}


def mean_ranks(records: list[dict[str, Any]], count: int) -> np.ndarray:
    """Mean over tables of a configuration's rank by its mean score over seeds (1 is best)."""
    ranks = []
    for name in TABLES:
        means = [
            np.mean([r["score"] for r in records if r["table"] == name and r["configuration"] == c])
            for c in range(count)
        ]
        ranks.append(np.argsort(np.argsort(-np.asarray(means))) + 1)
    return np.mean(ranks, axis=0)


def search(data: Path, *, count: int, most_rows: int) -> None:
    """First round: random configurations, one seed."""
    generator = np.random.default_rng(0)
    configs = [Configuration(), *(draw(generator) for _ in range(count - 1))]
    content = run_round(configs, (0,), data=data, most_rows=most_rows)
    write(HERE / "search.json", content)


def refine(data: Path, *, kept: int, most_rows: int) -> None:
    """Second round: the best of the first and combinations of what was good, three seeds."""
    first = json.loads((HERE / "search.json").read_text(encoding="utf-8"))
    best = np.argsort(first["mean_ranks"])[:kept]
    configs = [restore(first["configurations"][c]) for c in best] + list(COMBINATIONS)
    write(HERE / "refine.json", run_round(configs, (1, 2, 3), data=data, most_rows=most_rows))


def run_round(
    configs: list[Configuration], seeds: tuple[int, ...], *, data: Path, most_rows: int
) -> dict[str, Any]:
    """Train every configuration on every table with every seed, and rank them."""
    records = []
    for c, config in enumerate(configs):
        for name in TABLES:
            for seed in seeds:
                outcome = trial(config, name, data=data, seed=seed, most_rows=most_rows)
                records.append({"configuration": c, **outcome})
        own = [r for r in records if r["configuration"] == c]
        print(
            c,
            [round(r["score"], 4) for r in own],
            round(sum(r["seconds"] for r in own)),
            flush=True,
        )
    ranks = mean_ranks(records, len(configs))
    for c in np.argsort(ranks):
        print(f"rank {ranks[c]:.2f} {configs[c]}", flush=True)
    return {
        "configurations": [asdict(c) for c in configs],
        "mean_ranks": ranks.tolist(),
        "cpu_seconds": sum(r["seconds"] for r in records),
        "records": records,
    }


def final(data: Path, *, most_rows: int) -> None:
    """Test scores of the contestants, three seeds, the same splits for all."""
    contestants = final_configurations()
    records = []
    for name in TABLES:
        for seed in (0, 1, 2):
            record: dict[str, Any] = {"table": name, "seed": seed, "scores": {}, "seconds": {}}
            for label, config in contestants.items():
                table = load(
                    name, data=data, seed=seed, scaling=config.scaling, most_rows=most_rows
                )
                started = time.process_time()
                model = train_network(table, config, seed, epochs=100)
                record["seconds"][label] = time.process_time() - started
                record["scores"][label] = network_scores(table, model, "test")
            table = load(name, data=data, seed=seed, scaling="standard", most_rows=most_rows)
            started = time.process_time()
            record["scores"]["boosting"] = boosting_scores(table, seed)
            record["seconds"]["boosting"] = time.process_time() - started
            records.append(record)
            print(json.dumps(record), flush=True)
    described = {label: asdict(config) for label, config in contestants.items()}
    write(HERE / "results.json", {"configurations": described, "runs": records})


def final_configurations() -> dict[str, Configuration]:
    """The default encoder, the larger one that the search ranked first, and a bare perceptron."""
    default = TabularEncoder(num_numeric=1)
    usual = Configuration(
        embedding=default.embedding,
        adapters=("before after", "before after"),
        members=default.members,
        width=default.width,
        depth=default.depth,
        dropout=default.dropout,
        learning_rate=4e-3,
        weight_decay=0.1,
    )
    larger = replace(usual, members=8, width=192, depth=3)
    bare = replace(larger, embedding=NumericEmbedding(size=1), members=1)
    bare = replace(bare, learning_rate=1e-3, weight_decay=1e-4)
    return {"default": usual, "larger": larger, "bare perceptron": bare}


def print_table() -> None:
    """The mean test scores of `results.json` as a Markdown table, one row per target."""
    runs = json.loads((HERE / "results.json").read_text(encoding="utf-8"))["runs"]
    labels = list(runs[0]["scores"])
    print("| table | target | score | " + " | ".join(labels) + " |")
    print("|---|---|---|" + "---|" * len(labels))
    for name in TABLES:
        own = [run["scores"] for run in runs if run["table"] == name]
        for task in own[0][labels[0]]:
            cells = []
            for label in labels:
                values = np.array([scores[label][task] for scores in own])
                cells.append(f"{values.mean():.4f} ± {values.std(ddof=1):.4f}")
            print(f"| {name} | {task} | {SCORES[name]} | " + " | ".join(cells) + " |")
    for label in labels:
        seconds = sum(run["seconds"][label] for run in runs)
        print(f"{label}: {seconds:.0f} s of processor time")


def restore(record: dict[str, Any]) -> Configuration:
    """The configuration that `asdict` wrote."""
    adapters = tuple(record["adapters"])
    return Configuration(
        **{**record, "embedding": NumericEmbedding(**record["embedding"]), "adapters": adapters}
    )


def write(path: Path, content: dict[str, Any]) -> None:
    """Write JSON."""
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("step", choices=("search", "refine", "final", "table"))
    parser.add_argument("--data", type=Path, default=HERE / "../../../shared/data")
    parser.add_argument("--configurations", type=int, default=24)
    parser.add_argument("--kept", type=int, default=2)
    parser.add_argument("--rows", type=int, default=1000, help="most training rows of a table")
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.step == "search":
        search(given.data, count=given.configurations, most_rows=given.rows)
    elif given.step == "refine":
        refine(given.data, kept=given.kept, most_rows=given.rows)
    elif given.step == "final":
        final(given.data, most_rows=given.rows)
    else:
        print_table()


if __name__ == "__main__":
    main()
