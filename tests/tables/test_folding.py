"""Classes and categories that differ only in case or spaces."""

from __future__ import annotations

import numpy as np
import pandas as pd

from polytask.datasets import load_source
from polytask.tables import TableSource, fit_table, transform_table
from polytask.tables.folding import folded, spelling_notes


def frame():
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "x": rng.normal(size=120),
            "job": np.resize(["Intern", "intern", "Sales  Rep", "sales rep"], 120),
            "y": np.resize(["Yes", "yes", "No", "YES", "Yes ", "no"], 120),
        }
    )


def test_spellings_are_noted_in_targets_and_inputs():
    source = TableSource(frame(), ["y"])
    assert type(source.target_columns[0].kind).__name__ == "Multiclass"
    notes = source.problem(0).notes
    assert (
        "target y: classes differ only in case or spaces: 'No' = 'no'; 'YES' = 'Yes' = 'yes';"
        " --fold-case makes them one" in notes
    )
    assert any(n.startswith("column job: categories differ only in case or spaces") for n in notes)


def test_folding_makes_them_one(tmp_path):
    source = TableSource(frame(), ["y"], fold_case=True)
    problem = source.problem(0)
    assert source.target_columns[0].labels == ("No", "Yes")  # as most rows spell them
    assert problem.table.categorical[0].categories == ("intern", "sales rep")
    assert not any("case" in note for note in problem.notes)
    new = pd.DataFrame({"x": 0.0, "job": ["INTERN", " sales rep ", "chef"]})
    assert transform_table(problem.table, new)[:, 1].tolist() == [0.0, 1.0, 2.0]
    source.save(tmp_path)
    copy = load_source(tmp_path)
    assert copy.fold_case
    assert copy.fingerprint() == source.fingerprint() != TableSource(frame(), ["y"]).fingerprint()


def test_without_folding_categories_stay_as_they_are():
    info = fit_table(frame()[["x", "job"]])
    assert info.categorical[0].categories == ("Intern", "Sales  Rep", "intern", "sales rep")


def test_missing_cells_stay_missing():
    cells = pd.Series(["A", None, "a", "a"], dtype="object")
    assert folded(cells).tolist() == ["a", None, "a", "a"]
    assert folded(cells, like_most=True).tolist() == ["a", None, "a", "a"]
    assert spelling_notes("classes", pd.Series(["north", "south"])) == []
