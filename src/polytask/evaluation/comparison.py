"""A comparison in its folder: what the runs found, the report, and the winner's model."""

from __future__ import annotations

import functools
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from polytask.datasets.source import load_source
from polytask.evaluation.analysis import CHOSEN_PER_TASK
from polytask.evaluation.reporting import report_data
from polytask.evaluation.results import Results
from polytask.evaluation.run_folder import RunFolder
from polytask.evaluation.scores import mean_of_known
from polytask.problems.source import Source
from polytask.report import write_report
from polytask.serving.predictor import Predictor, load_predictor, save_predictor

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Comparison"]


@dataclass(frozen=True, eq=False, repr=False)
class Comparison(Results):
    """Every run's scores and what follows from them. Made by ``compare`` or ``Comparison.load``.

    Args:
        plan: What was asked for.
        runs: The runs, by key.
        folder: Where store, results, models and report lie.
    """

    folder: Path

    def __repr__(self) -> str:
        done = sum(run.is_done for run in self.runs.values())
        return (
            f"Comparison({self.name!r}: {len(self.candidates)} candidates, {len(self.tasks)} tasks,"
            f" {len(self.seeds)} seeds, {done} of {len(self.runs)} runs done)"
        )

    @classmethod
    def load(cls, folder: Path | str) -> Comparison:
        """Read a comparison, finished or not; nothing is written to the folder.

        Raises:
            ValueError: The folder holds no comparison, or its store is missing or damaged.
        """
        place = RunFolder(Path(folder))
        plan = place.read_plan()
        return cls(plan, place.read_runs(plan), place.path)

    def save(self, folder: Path | str) -> None:
        """Copy everything to another folder, from which ``load`` reads it."""
        target = Path(folder)
        if target.resolve() != self.folder.resolve():
            shutil.copytree(self.folder, target, dirs_exist_ok=True)

    def report(self, path: Path | str | None = None) -> Path:
        """Write the HTML report (by default ``report.html`` in the folder); returns its path."""
        target = RunFolder(self.folder).report if path is None else Path(path)
        return write_report(report_data(self), target)

    def save_model(
        self,
        folder: Path | str | None = None,
        *,
        candidate: str | None = None,
        seed: int | None = None,
        source: Source | None = None,
    ) -> Path:
        """Write the model to serve, from the models of finished runs; nothing is trained.

        Args:
            folder: Where to; ``model`` in the comparison's folder by default.
            candidate: Whose models: the winner's by default; ``"chosen per task"`` takes each
                task's own best.
            seed: Which seed's; by default the one with the best validation scores of that
                candidate.
            source: The data of the comparison where they are at hand; by default they are read
                from its folder.

        Raises:
            ValueError: The candidate has no complete seed, or its models could not be saved.
        """
        place = RunFolder(self.folder)
        name = candidate if candidate is not None else self.winner
        if name is None:
            raise ValueError("No candidate has finished a seed, so there is no model to save.")
        seed = self._best_seed(name) if seed is None else seed
        parts = self._parts(name, seed)
        source = source if source is not None else load_source(place.source(self.plan.source))
        about = {
            "problem": self.name,
            "candidate": name,
            "seed": seed,
            "versions": self.provenance()["versions"],
        }
        target = place.model if folder is None else Path(folder)
        save_predictor(target, source.problem(seed), parts, about=about)
        return target

    def _best_seed(self, candidate: str) -> int:
        table = self.analysis.table
        values = table.validation[table.place(candidate)]
        signed = np.where(table.higher_is_better, values, -values)
        complete = np.flatnonzero(table.complete[table.place(candidate)]).tolist()
        if not complete:
            raise ValueError(
                f"Candidate {candidate!r} has finished no seed, so there is no model to save."
            )
        mean = np.nanmean(signed[complete], axis=0)
        relative = (signed - mean) / np.where(mean == 0, 1.0, np.abs(mean))
        return table.seeds[max(complete, key=lambda s: (mean_of_known(relative[s]), -s))]

    def _parts(self, candidate: str, seed: int) -> list[tuple[Path, tuple[str, ...]]]:
        """The folders of the models that answer for the tasks, and for which tasks each does."""
        chosen = (
            self.chosen_per_task
            if candidate == CHOSEN_PER_TASK
            else dict.fromkeys(self.tasks, candidate)
        )
        found: dict[str, list[str]] = {}
        for task, name in chosen.items():
            run = next(run for run in self.runs_of(name, seed) if task in run.tasks)
            if run.result is None:
                raise ValueError(
                    f"The run of {name!r} on task {task!r} with seed {seed} has no result; choose"
                    " another seed."
                )
            if not run.result["saved"]:
                raise ValueError(
                    f"The model of {name!r} cannot be served: {'; '.join(run.result['notes'])}"
                )
            found.setdefault(run.key, []).append(task)
        models = RunFolder(self.folder).models
        return [(models / key, tuple(tasks)) for key, tasks in found.items()]

    @functools.cached_property
    def model(self) -> Predictor:
        """The saved model of the winner."""
        return load_predictor(self.folder)

    def predict(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Predictions of the winner for the rows of a table; see ``Predictor.predict_table``."""
        return self.model.predict_table(frame)
