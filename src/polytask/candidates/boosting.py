"""Gradient boosting per task, with scikit-learn: what users of tables would do otherwise.

Shape legend: N rows, F columns, C output size.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from safetensors.numpy import load_file, save_file
from torch import Tensor

from polytask.candidates.method import (
    ArchitectureFactory,
    Budget,
    FitRecord,
    FittedModel,
    fit_record_from,
)
from polytask.candidates.naming import SHARED, Named, NamedMethod, plain_name
from polytask.candidates.trees import TreeEnsemble
from polytask.config import arguments, rebuildable_repr
from polytask.files import write_atomically
from polytask.problems.problem import Problem
from polytask.problems.splits import AnySplit
from polytask.problems.storage import kind_from_record
from polytask.tasks import Binary, Multiclass, Regression, Task

__all__ = ["BoostingMethod", "FittedBoosting"]

#: scikit-learn's trees know at most 255 categories per column; one place is kept for all rarer
#: ones.
MOST_CATEGORIES = 254
#: Inputs with more values per row than this are images or signals, for which trees are no sensible
#: baseline.
MOST_VALUES = 4096
#: Log-odds of a class that has no training row.
NEVER = -30.0
BOOSTING = "boosting"
TREES_FILE = "trees.safetensors"


class BoostingMethod(NamedMethod):
    """One histogram gradient boosting model per task, stopped early on the validation rows.

    Categorical columns and missing cells are passed on as what they are; class weights of a task
    weigh its rows. The budget's epochs and patience are those of networks: trees have their own
    below. A time limit ends a run that exceeds it from outside, without a result.

    Args:
        learning_rate: Shrinkage of each iteration (0.1, scikit-learn's default), before the trial's
            factor.
        max_iter: Most iterations.
        patience: Iterations without a better validation loss before boosting stops; the best
            iteration is kept.
        max_leaf_nodes: Leaves per tree (31, scikit-learn's default).
        min_samples_leaf: Rows per leaf (20, scikit-learn's default).

    References:
        G. Ke et al., LightGBM: A Highly Efficient Gradient Boosting Decision Tree, NeurIPS 2017;
        scikit-learn, ``HistGradientBoostingClassifier`` and ``HistGradientBoostingRegressor``.
    """

    def __init__(
        self,
        *,
        learning_rate: float = 0.1,
        max_iter: int = 500,
        patience: int = 20,
        max_leaf_nodes: int = 31,
        min_samples_leaf: int = 20,
    ) -> None:
        if not learning_rate > 0:
            raise ValueError(f"`learning_rate` must be > 0, found {learning_rate}.")
        for name, value in (
            ("max_iter", max_iter),
            ("patience", patience),
            ("min_samples_leaf", min_samples_leaf),
        ):
            if value < 1:
                raise ValueError(f"`{name}` must be >= 1, found {value}.")
        if max_leaf_nodes < 2:
            raise ValueError(f"`max_leaf_nodes` must be >= 2, found {max_leaf_nodes}.")
        self.learning_rate = learning_rate
        self.max_iter = max_iter
        self.patience = patience
        self.max_leaf_nodes = max_leaf_nodes
        self.min_samples_leaf = min_samples_leaf

    def __repr__(self) -> str:
        return rebuildable_repr(self)

    @classmethod
    def named(cls, name: str, architecture: ArchitectureFactory | None) -> Named | None:
        """The usual boosting, "boosting"."""
        del architecture
        is_meant = plain_name(name.removeprefix(SHARED)) == BOOSTING
        return (BOOSTING, cls(), "single") if is_meant else None

    @classmethod
    def names(cls) -> Sequence[str]:
        return (BOOSTING,)

    def config(self, num_tasks: int) -> dict[str, Any]:
        del num_tasks
        return {"method": "boosting", **arguments(self)}

    def why_not(self, problem: Problem) -> str | None:
        """Why trees cannot learn this problem, or None."""
        for task in problem.tasks:
            if not isinstance(task.kind, (Regression, Binary, Multiclass)):
                kind = type(task.kind).__name__
                return f"task {task.name!r} is a {kind}, boosting needs numbers or classes"
            inputs = problem.train.piece(task.name).inputs
            if not inputs.is_floating_point():
                return f"the inputs of task {task.name!r} are no numeric table"
            if inputs[0].numel() > MOST_VALUES:
                return (
                    f"the inputs of task {task.name!r} have {inputs[0].numel()} values per row,"
                    f" boosting takes at most {MOST_VALUES}"
                )
        return None

    def fit(
        self, problem: Problem, *, seed: int, budget: Budget, rate: float = 1.0
    ) -> FittedBoosting:
        """Fit one model per task; see ``Method.fit``.

        Raises:
            ValueError: The problem is no table or vector problem.
        """
        reason = self.why_not(problem)
        if reason is not None:
            raise ValueError(f"Boosting cannot learn this problem: {reason}.")
        started = time.monotonic()
        models: dict[str, _TaskModel] = {}
        curves: dict[str, list[float]] = {}
        for task in problem.tasks:
            table = problem.tables.get(task.name, problem.table)
            num_numeric = None if table is None else table.num_numeric
            train, validation = _labelled(problem.train, task), _labelled(problem.validation, task)
            columns = _Columns.fit(train[0], num_numeric)
            ensembles, losses = self._fit_task(
                task, columns, train, validation, seed=seed, rate=rate
            )
            models[task.name] = _TaskModel(task.kind.config(), columns, ensembles)
            curves[task.name] = losses
        iterations = sum(len(losses) for losses in curves.values())
        longest = max(len(losses) for losses in curves.values())
        record = FitRecord(
            seconds=time.monotonic() - started,
            steps=iterations,
            epochs=longest,
            learning_rate=self.learning_rate * rate,
            stopped_by="patience" if longest < self.max_iter else "epochs",
            device="cpu",
            curves={
                "validation_epoch": list(range(1, longest + 1)),
                "validation_loss": {
                    name: [float(f"{v:.5g}") for v in losses] + [None] * (longest - len(losses))
                    for name, losses in curves.items()
                },
            },
        )
        return FittedBoosting(models, record)

    def _fit_task(
        self,
        task: Task,
        columns: _Columns,
        train: _Labelled,
        validation: _Labelled,
        *,
        seed: int,
        rate: float,
    ) -> tuple[tuple[_Member, ...], list[float]]:
        """One ensemble (vector regression: one per number), and the first's validation losses."""
        inputs, held_out = columns.transform(train[0]), columns.transform(validation[0])
        targets, checks = train[1], validation[1]
        members: list[_Member] = []
        losses: list[float] = []
        for component in range(task.kind.output_size if isinstance(task.kind, Regression) else 1):
            y = targets[:, component] if targets.ndim == 2 else targets
            y_held_out = checks[:, component] if checks.ndim == 2 else checks
            member, curve = self._fit_one(
                task, columns, (inputs, y), (held_out, y_held_out), seed=seed, rate=rate
            )
            members.append(member)
            losses = losses or curve
        return tuple(members), losses

    def _fit_one(
        self,
        task: Task,
        columns: _Columns,
        train: _Labelled,
        validation: _Labelled,
        *,
        seed: int,
        rate: float,
    ) -> tuple[_Member, list[float]]:
        from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

        has_validation = len(validation[1]) > 0
        options: dict[str, Any] = {
            "learning_rate": self.learning_rate * rate,
            "max_iter": self.max_iter,
            "max_leaf_nodes": self.max_leaf_nodes,
            "min_samples_leaf": self.min_samples_leaf,
            "early_stopping": has_validation,
            "n_iter_no_change": self.patience,
            "tol": 0.0,
            "random_state": seed,
            "categorical_features": list(range(columns.num_categorical)) or None,
        }
        is_regression = isinstance(task.kind, Regression)
        model = (
            HistGradientBoostingRegressor if is_regression else HistGradientBoostingClassifier
        )(**options)
        held_out = {}
        if has_validation:
            held_out = {
                "X_val": validation[0],
                "y_val": validation[1],
                "sample_weight_val": _weights(task, validation[1]),
            }
            held_out = {name: value for name, value in held_out.items() if value is not None}
        model.fit(train[0], train[1], sample_weight=_weights(task, train[1]), **held_out)
        # The score of no tree at all comes first.
        scores = (
            -np.asarray(model.validation_score_)[1:] if has_validation else np.zeros(model.n_iter_)
        )
        best = int(np.argmin(scores)) + 1 if has_validation else int(model.n_iter_)
        ensemble = TreeEnsemble.from_sklearn(model, best)
        _verify(model, ensemble, best, train[0] if not has_validation else validation[0])
        classes = () if is_regression else tuple(int(c) for c in model.classes_)
        return _Member(ensemble, classes), scores.tolist()


_Labelled = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class _Member:
    """An ensemble and the class indices its outputs stand for (none for regression)."""

    ensemble: TreeEnsemble
    classes: tuple[int, ...]


@dataclass(frozen=True)
class _Columns:
    """Columns as trees take them: categorical first, codes without gaps, NaN for missing.

    Args:
        num_numeric: Numeric columns come first in the inputs; None: all of them are numeric.
        codes: Per categorical column, the tree's code for each code of the inputs; -1 for missing.
    """

    num_numeric: int | None
    codes: tuple[np.ndarray, ...]

    @property
    def num_categorical(self) -> int:
        return len(self.codes)

    @classmethod
    def fit(cls, inputs: np.ndarray, num_numeric: int | None) -> _Columns:
        if num_numeric is None:
            return cls(None, ())
        tables = []
        for column in inputs[:, num_numeric:].T:
            seen, counts = np.unique(column.astype(np.int64), return_counts=True)
            table = np.full(int(seen.max()) + 1, -1, dtype=np.int64)
            common = seen[np.argsort(-counts, kind="stable")][:MOST_CATEGORIES]
            table[seen] = len(common)
            table[np.sort(common)] = np.arange(len(common))
            tables.append(table)
        return cls(num_numeric, tuple(tables))

    def transform(self, inputs: np.ndarray) -> np.ndarray:
        if self.num_numeric is None:
            return inputs.astype(np.float64)
        columns = []
        for table, column in zip(self.codes, inputs[:, self.num_numeric :].T, strict=True):
            code = column.astype(np.int64)
            known = (code >= 0) & (code < len(table))
            found = np.where(known, table[np.where(known, code, 0)], -1).astype(np.float64)
            columns.append(np.where(found < 0, np.nan, found)[:, None])
        return np.concatenate([*columns, inputs[:, : self.num_numeric].astype(np.float64)], axis=1)


@dataclass(frozen=True)
class _TaskModel:
    """Everything that predicts one task."""

    kind: dict[str, Any]
    columns: _Columns
    members: tuple[_Member, ...]

    def outputs(self, inputs: np.ndarray) -> np.ndarray:
        """``[N, C]``: standardised values, log-odds of class 1, or a raw score per class."""
        features = self.columns.transform(inputs)
        raw = [member.ensemble.raw(features) for member in self.members]
        kind = kind_from_record(self.kind)
        if isinstance(kind, Regression):
            return np.concatenate(raw, axis=1)
        classes = self.members[0].classes
        # Two classes share one raw score, the log-odds of the second.
        scores = (
            np.concatenate([np.zeros_like(raw[0]), raw[0]], axis=1) if len(classes) == 2 else raw[0]
        )
        if isinstance(kind, Binary):
            log_odds: np.ndarray = scores[:, 1:] - scores[:, :1]
            return log_odds
        full: np.ndarray = np.full((len(scores), kind.output_size), NEVER)
        full[:, list(classes)] = scores
        return full


class FittedBoosting(FittedModel):
    """Boosted trees of one or more tasks, free of scikit-learn.

    Args:
        models: Per task.
        record: How the fits went.
    """

    saved_as: ClassVar[str] = "boosting"

    def __init__(self, models: Mapping[str, _TaskModel], record: FitRecord) -> None:
        super().__init__(record)
        self.models = dict(models)

    @property
    def num_parameters(self) -> int:
        """Thresholds of all splits and values of all leaves."""
        return sum(
            m.ensemble.num_parameters for model in self.models.values() for m in model.members
        )

    def outputs(self, split: AnySplit) -> Mapping[str, Tensor]:
        found = {}
        for name, model in self.models.items():
            inputs = split.piece(name).inputs.flatten(1).cpu().numpy()
            found[name] = torch.from_numpy(model.outputs(inputs)).float()
        return found

    def save(self, folder: Path) -> None:
        """Write the trees' arrays and a description."""
        arrays: dict[str, np.ndarray] = {}
        tasks = []
        for number, (name, model) in enumerate(self.models.items()):
            for index, member in enumerate(model.members):
                for key, value in member.ensemble.arrays().items():
                    arrays[f"{number}.{index}.{key}"] = value
            tasks.append(
                {
                    "name": name,
                    "kind": model.kind,
                    "num_numeric": model.columns.num_numeric,
                    "codes": [table.tolist() for table in model.columns.codes],
                    "classes": [list(member.classes) for member in model.members],
                }
            )
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / TREES_FILE, lambda path: save_file(arrays, path))
        self.write_record(folder, tasks=tasks)

    @classmethod
    def load(cls, folder: Path, record: Mapping[str, Any]) -> FittedBoosting:
        arrays = load_file(folder / TREES_FILE)
        names = [f.name for f in dataclasses.fields(TreeEnsemble)]
        models = {}
        for number, item in enumerate(record["tasks"]):
            members = tuple(
                _Member(
                    TreeEnsemble.from_arrays(
                        {
                            key: arrays[f"{number}.{index}.{key}"]
                            for key in names
                            if f"{number}.{index}.{key}" in arrays
                        },
                        num_features=_num_features(item),
                    ),
                    tuple(classes),
                )
                for index, classes in enumerate(item["classes"])
            )
            codes = _codes(item)
            models[item["name"]] = _TaskModel(
                item["kind"], _Columns(item["num_numeric"], codes), members
            )
        return cls(models, fit_record_from(record["fit"]))


def _codes(item: Mapping[str, Any]) -> tuple[np.ndarray, ...]:
    """From the codes of the table to those of the trees, per categorical column."""
    codes = tuple(np.asarray(table, dtype=np.int64) for table in item["codes"])
    for table in codes:
        if table.ndim != 1 or not -1 <= table.min(initial=0) <= table.max(initial=0) < 256:
            raise ValueError("The codes of categories are damaged: they must be -1 .. 255.")
    return codes


def _num_features(item: Mapping[str, Any]) -> int:
    """Columns that the trees of a task may ask for; all, where their inputs are no table."""
    if item["num_numeric"] is None:
        return int(np.iinfo(np.int32).max)
    return len(item["codes"]) + int(item["num_numeric"])


def _labelled(split: AnySplit, task: Task) -> _Labelled:
    """Flat inputs ``[n, F]`` and encoded targets ``[n]`` of the rows that have a label."""
    piece = split.piece(task.name)
    rows = piece.labelled(task.name)
    return piece.inputs[rows].flatten(1).cpu().numpy(), piece.targets[task.name][rows].cpu().numpy()


def _weights(task: Task, labels: np.ndarray) -> np.ndarray | None:
    return None if task.class_weights is None else np.asarray(task.class_weights)[labels]


def _verify(model: Any, ensemble: TreeEnsemble, iterations: int, features: np.ndarray) -> None:
    """Raise RuntimeError unless the exported trees give exactly what scikit-learn gives."""
    staged = (
        model.staged_predict if not hasattr(model, "classes_") else model.staged_decision_function
    )
    expected = next(
        value for number, value in enumerate(staged(features), start=1) if number == iterations
    )
    found = ensemble.raw(features)
    if not np.array_equal(found, np.asarray(expected).reshape(found.shape)):
        import sklearn

        raise RuntimeError(
            f"The trees taken from scikit-learn {sklearn.__version__} do not reproduce its"
            " predictions;"
            " compare without boosting, or install the version in constraints.txt."
        )
