"""The model to serve: networks or trees with the table's preprocessing, without pickle.

Shape legend: N rows, C classes.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from polytask.candidates.method import Fitted, load_fitted
from polytask.files import write_atomically
from polytask.problems.problem import Problem
from polytask.problems.splits import AnySplit, SeparateSplit, Split
from polytask.problems.storage import task_from_record, task_record
from polytask.problems.table_info import TableInfo, arrays_of_tables, tables_from_record
from polytask.tables.preprocessing import transform_table
from polytask.tasks import Task

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Prediction", "Predictor", "load_predictor", "save_predictor"]

BUNDLE_FILE = "bundle.json"
#: Beside it where columns of text are inputs.
ARRAYS_FILE = "tables.safetensors"
FORMAT = 1


@dataclass(frozen=True)
class Prediction:
    """What a predictor says about one task.

    Args:
        values: ``[N, ...]`` predictions in the user's units or labels.
        probabilities: ``[N, C]`` in the order of the labels; None for numbers.
    """

    values: np.ndarray
    probabilities: np.ndarray | None


class Predictor:
    """Models that together predict every task, and how a table becomes their inputs.

    Args:
        tasks: All tasks, in order.
        parts: Each model with the tasks it answers for.
        table: How a table's columns become inputs; None where inputs are no table.
        tables: The same per task, in the separate layout.
        separate: Whether every task has inputs of its own.
        about: Where it comes from (candidate, seed, versions), for people.
    """

    def __init__(
        self,
        *,
        tasks: Sequence[Task],
        parts: Sequence[tuple[Fitted, tuple[str, ...]]],
        table: TableInfo | None = None,
        tables: Mapping[str, TableInfo] | None = None,
        separate: bool = False,
        about: Mapping[str, Any] | None = None,
    ) -> None:
        self.tasks = tuple(tasks)
        self.parts = tuple(parts)
        self.table = table
        self.tables = dict(tables or {})
        self.separate = separate
        self.about = dict(about or {})

    def __repr__(self) -> str:
        return f"Predictor({len(self.tasks)} task(s), {len(self.parts)} model(s))"

    @property
    def is_table(self) -> bool:
        """Whether it predicts rows of tables."""
        return self.table is not None or bool(self.tables)

    @property
    def text_columns(self) -> tuple[str, ...]:
        """Columns that a file is to be read with as they are written."""
        infos = [*self.tables.values(), *([self.table] if self.table else [])]
        return tuple(dict.fromkeys(name for info in infos for name in info.text_columns))

    def predict_table(
        self, frame: pd.DataFrame, *, tasks: Sequence[str] | None = None
    ) -> pd.DataFrame:
        """Predictions for the rows of a table, with its index.

        Unseen categories and missing cells are fine; columns that training did not use are ignored.

        Args:
            frame: The columns that the training table had (without targets). Where every task has a
                table of its own: the columns of the tasks asked for.
            tasks: Which tasks; None means all (separate tables: all whose columns the table has).

        Returns:
            Per task a column with its name, in the user's units or labels, and for classes one
            column ``"<task> probability <label>"`` per class.

        Raises:
            ValueError: A column is missing or of the wrong type (it is named); the model was not
                trained on a table.
        """
        import pandas as pd

        if not self.is_table:
            raise ValueError("This model was not trained on a table; use `predict(inputs)`.")
        wanted = self._wanted(frame, tasks)
        if len(frame) == 0:
            raise ValueError(
                "The table has no rows, so there is nothing to predict; give at least one."
            )
        if self.table is not None:
            inputs: Tensor | dict[str, Tensor] = transform_table(self.table, frame)
        else:
            inputs = {name: transform_table(self.tables[name], frame) for name in wanted}
        found = self.predict(inputs, tasks=wanted)
        columns: dict[str, Any] = {}
        for task in self.tasks:
            if task.name in found:
                columns.update(_columns(task, found[task.name]))
        return pd.DataFrame(columns, index=frame.index)

    def predict(
        self, inputs: Tensor | Mapping[str, Tensor], *, tasks: Sequence[str] | None = None
    ) -> dict[str, Prediction]:
        """Predictions from inputs as training had them.

        Args:
            inputs: ``[N, ...]``, or one tensor per task in the separate layout.
            tasks: Which tasks; None means all (separate layout: all that have inputs).
        """
        if self.separate != isinstance(inputs, Mapping):
            wanted_form = "a dict with one tensor per task" if self.separate else "one tensor"
            raise TypeError(
                f"This model needs {wanted_form} as inputs, found {type(inputs).__name__}."
            )
        names = [task.name for task in self.tasks]
        wanted = set(names if tasks is None else tasks)
        if isinstance(inputs, Mapping) and tasks is None:
            wanted &= set(inputs)
        unknown = wanted - set(names)
        if unknown:
            raise ValueError(f"The model has no task {min(unknown)!r}; it has {names}.")
        found = {}
        for fitted, own in self.parts:
            asked = [name for name in own if name in wanted]
            if asked:
                outputs = fitted.outputs(self._rows(inputs, own))
                found.update({name: self._prediction(name, outputs[name]) for name in asked})
        return {name: found[name] for name in names if name in found}

    def _wanted(self, frame: pd.DataFrame, tasks: Sequence[str] | None) -> list[str]:
        names = [task.name for task in self.tasks]
        if tasks is not None:
            for name in tasks:
                if name not in names:
                    raise ValueError(f"The model has no task {name!r}; it has {names}.")
            return list(tasks)
        if self.table is not None:
            return names
        present = set(map(str, frame.columns))
        fitting = [name for name, info in self.tables.items() if set(info.input_columns) <= present]
        if not fitting:
            needed = "; ".join(
                f"{name}: {', '.join(info.input_columns[:8])}" for name, info in self.tables.items()
            )
            raise ValueError(f"The table has the columns of no task; needed are {needed}.")
        return fitting

    def _rows(self, inputs: Tensor | Mapping[str, Tensor], own: tuple[str, ...]) -> AnySplit:
        """New rows as a split whose labels are all missing."""
        tasks = [task for task in self.tasks if task.name in own]
        if isinstance(inputs, Mapping):
            return SeparateSplit(
                {
                    t.name: Split(inputs[t.name], {t.name: _no_labels(t, len(inputs[t.name]))}, [t])
                    for t in tasks
                    if t.name in inputs
                }
            )
        return Split(inputs, {task.name: _no_labels(task, len(inputs)) for task in tasks}, tasks)

    def _prediction(self, name: str, output: Tensor) -> Prediction:
        task = next(task for task in self.tasks if task.name == name)
        probabilities = task.probabilities(output)
        return Prediction(
            values=task.kind.decode(task.predict(output).numpy()),
            probabilities=None if probabilities is None else probabilities.numpy(),
        )


def save_predictor(
    folder: Path,
    problem: Problem,
    parts: Sequence[tuple[Path, tuple[str, ...]]],
    *,
    about: Mapping[str, Any],
) -> None:
    """Write a predictor; an older one in the same folder is replaced as a whole.

    Args:
        folder: Where to.
        problem: The problem with the splits (and so the preprocessing) of the seed that the models
            are from.
        parts: Folder of each saved model, and the tasks it answers for.
        about: A plain record for people.
    """
    new = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(parents=True)
    for number, (source, _) in enumerate(parts):
        shutil.copytree(source, new / f"part-{number}")
    record = {
        "format": FORMAT,
        "separate": problem.layout == "separate",
        "tasks": [task_record(task) for task in problem.tasks],
        "parts": [list(tasks) for _, tasks in parts],
        "table": None if problem.table is None else problem.table.to_record(),
        "tables": {name: info.to_record() for name, info in problem.tables.items()},
        "about": dict(about),
    }
    if arrays := arrays_of_tables(problem.table, problem.tables):
        save_file(arrays, new / ARRAYS_FILE)
    write_atomically(new / BUNDLE_FILE, json.dumps(record, ensure_ascii=False, indent=1))
    old = folder.with_name(f".{folder.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        folder.rename(old)
    new.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


def load_predictor(folder: Path | str) -> Predictor:
    """Read the model in a folder, or in the folder of a comparison.

    Raises:
        ValueError: There is no model in the folder, or it was written by another version.
    """
    folder = Path(folder)
    for place in (folder, folder / "model"):
        if (place / BUNDLE_FILE).is_file():
            return _load(place)
    raise ValueError(
        f"{folder} holds no model ({BUNDLE_FILE} is missing); give the --out folder of a finished"
        " comparison."
    )


def _load(folder: Path) -> Predictor:
    record = json.loads((folder / BUNDLE_FILE).read_text(encoding="utf-8"))
    if record.get("format") != FORMAT:
        raise ValueError(
            f"The model in {folder} has format {record.get('format')!r}, this version reads"
            f" {FORMAT}; train it again."
        )
    has_arrays = (folder / ARRAYS_FILE).is_file()
    table, tables = tables_from_record(
        record, load_file(folder / ARRAYS_FILE) if has_arrays else {}
    )
    return Predictor(
        tasks=[task_from_record(item) for item in record["tasks"]],
        parts=[
            (load_fitted(folder / f"part-{n}"), tuple(tasks))
            for n, tasks in enumerate(record["parts"])
        ],
        table=table,
        tables=tables,
        separate=record["separate"],
        about=record["about"],
    )


def _no_labels(task: Task, count: int) -> Tensor:
    kind = task.kind
    size = kind.output_size
    shape = (count, *[1] * kind.target_dims)
    if not kind.is_categorical and not kind.target_dims and size > 1:
        shape = (count, size)
    return (
        torch.full(shape, -1, dtype=torch.int64)
        if kind.is_categorical
        else torch.full(shape, float("nan"))
    )


def _columns(task: Task, prediction: Prediction) -> dict[str, Any]:
    values = prediction.values
    if values.ndim == 1:
        columns: dict[str, Any] = {task.name: values}
    else:
        flat = values.reshape(len(values), -1)
        columns = {f"{task.name} {i}": flat[:, i] for i in range(flat.shape[1])}
    if prediction.probabilities is not None and prediction.probabilities.ndim == 2:
        labels = getattr(task.kind, "labels", None) or range(prediction.probabilities.shape[1])
        for i, label in enumerate(labels):
            columns[f"{task.name} probability {label}"] = prediction.probabilities[:, i]
    return columns
