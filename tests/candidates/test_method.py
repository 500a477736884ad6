"""Budgets, and saved models of every kind."""

from __future__ import annotations

import pytest
from tests.evaluation.helpers import tiny_problem

from polytask import candidates
from polytask.candidates.method import Budget, FitRecord, FittedModel, load_fitted

RECORD = FitRecord(
    seconds=1.5, steps=3, epochs=1, learning_rate=0.1, stopped_by="epochs", device="cpu",
    notes=("made up",),
)  # fmt: skip


class Constant(FittedModel):
    """Answers one number; all that a new kind of model needs is here."""

    saved_as = "constant of this test"

    def __init__(self, value, record):
        super().__init__(record)
        self.value = value

    num_parameters = 1

    def outputs(self, split):
        return {task.name: self.value for task in split.tasks}

    def save(self, folder):
        folder.mkdir(parents=True)
        self.write_record(folder, value=self.value)

    @classmethod
    def load(cls, folder, record):
        return cls(record["value"], candidates.method.fit_record_from(record["fit"]))


def test_a_kind_of_model_from_outside_is_read_back(tmp_path):
    Constant(2.5, RECORD).save(tmp_path / "model")
    loaded = load_fitted(tmp_path / "model")
    assert isinstance(loaded, Constant)
    assert loaded.outputs(tiny_problem().train)["sum"] == 2.5
    assert loaded.record == RECORD


def test_saved_kinds_are_exported_and_their_names_stay():
    own = [k for k in FittedModel.__subclasses__() if k.__module__.startswith("polytask.")]
    names = [kind.saved_as for kind in own]
    assert {"network", "boosting", "groups"} <= set(names)
    assert len(set(names)) == len(names)
    assert all(getattr(candidates, kind.__name__) is kind for kind in own)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"epochs": 0}, "`epochs` must be >= 1, found 0"),
        ({"patience": 0}, "`patience` must be >= 1 or None, found 0"),
        ({"trials": 6}, "`trials` must be between 1 and 5, found 6"),
        ({"time_limit": float("inf")}, "`time_limit` must be > 0 seconds or None, found inf"),
    ],
)
def test_bad_budgets_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        Budget(**arguments)
