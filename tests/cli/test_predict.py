"""`polytask predict`: a saved model, new tables of every sort, and what ends in one line."""

from __future__ import annotations

import io

import numpy as np
import pandas as pd
import pytest
from tests.tables.frames_for_tests import HOUSE_TARGETS, houses

from polytask.candidates.method import Budget
from polytask.candidates.network import NetworkMethod
from polytask.cli import main as cli
from polytask.serving.predictor import load_predictor, save_predictor
from polytask.tables import TableSource


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A folder with a model of houses; their numbered towns are read as they are written."""
    folder = tmp_path_factory.mktemp("model")
    frame = houses().assign(zip=[f"{i % 4:05d}" for i in range(120)])
    source = TableSource(frame, HOUSE_TARGETS, drop=["house"], categorical=["zip"])
    problem = source.problem(0)
    fitted = NetworkMethod().fit(problem, seed=0, budget=Budget(epochs=2))
    fitted.save(folder / "run")
    save_predictor(
        folder / "model",
        problem,
        [(folder / "run", tuple(t.name for t in problem.tasks))],
        about={},
    )
    return folder


@pytest.fixture
def new(tmp_path):
    frame = houses(30, seed=5).assign(zip=[f"{i % 5:05d}" for i in range(30)])
    frame.to_csv(tmp_path / "new.csv", index=False)
    return tmp_path / "new.csv"


def predict(capsys, *words):
    code = cli.run(["predict", *map(str, words)])
    printed = capsys.readouterr()
    return code, printed.out, printed.err


def test_predictions_are_written_in_the_order_of_the_rows(model, new, tmp_path, capsys):
    out = tmp_path / "made" / "predictions.csv"
    code, printed, _ = predict(capsys, model, new, "--out", out)
    assert code == 0
    assert printed == f"wrote 30 rows to {out}\n"
    found = pd.read_csv(out)
    predictor = load_predictor(model)
    frame = pd.read_csv(new, dtype={"zip": str})
    expected = predictor.predict_table(frame)
    assert list(found.columns) == list(expected.columns)
    np.testing.assert_allclose(found["price"], expected["price"].astype(float), rtol=1e-6)
    assert found["sold"].tolist() == expected["sold"].tolist()
    assert set(found["sold"]) <= {"yes", "no"}
    for task, labels in (("sold", ["no", "yes"]), ("grade", ["A", "B", "C"])):
        columns = [c for c in found.columns if c.startswith(task) and c != task]
        assert len(columns) == len(labels)
        probabilities = found[columns].to_numpy()
        np.testing.assert_allclose(probabilities.sum(1), 1, atol=1e-5)
        assert [labels[i] for i in probabilities.argmax(1)] == found[task].tolist()


def test_without_out_the_table_is_printed(model, new, capsys):
    code, printed, _ = predict(capsys, model, new, "--task", "price")
    assert code == 0
    assert list(pd.read_csv(io.StringIO(printed)).columns) == ["price"]


def test_identifiers_are_copied_in_front(model, new, tmp_path, capsys):
    out = tmp_path / "predictions.parquet"
    code, _, _ = predict(capsys, model, new, "--out", out, "--id", "house", "--id", "zip")
    assert code == 0
    found = pd.read_parquet(out)
    assert list(found.columns)[:3] == ["house", "zip", "price"]
    assert found["house"].tolist() == [f"house-{i:04d}" for i in range(30)]
    assert found["zip"].iloc[1] == "00001"


def test_unseen_categories_missing_cells_and_targets_that_are_not_there(model, new, capsys):
    frame = pd.read_csv(new, dtype={"zip": str}).drop(columns=["price", "sold", "grade"])
    frame.loc[0, "town"] = "Atlantis"
    frame.loc[1, ["größe", "town", "built", "zip"]] = None
    frame["rooms"] = None
    frame.to_csv(new, index=False)
    code, printed, _ = predict(capsys, model, new)
    assert code == 0
    found = pd.read_csv(io.StringIO(printed))
    assert len(found) == 30
    assert not found.isna().any().any()


@pytest.mark.parametrize(
    ("edit", "words", "message"),
    [
        (lambda f: f.drop(columns=["town", "größe"]), [], "lacks the column(s) 'größe', 'town'"),
        (
            lambda f: f.assign(größe="large"),
            [],
            "'größe' must hold numbers, found 'large' in row 1",
        ),
        (lambda f: f.assign(rooms=np.inf), [], "Column 'rooms' must hold finite numbers"),
        (lambda f: f, ["--id", "key"], "`--id` names the column 'key', which the table"),
        (lambda f: f, ["--id", "price"], "`--id` names 'price', which is a prediction"),
        (lambda f: f, ["--task", "rent"], "no task 'rent'"),
        (lambda f: f, ["--out", "predictions.xlsx"], "must end in .csv or .parquet"),
        (lambda f: f[:0], [], "has no row of data"),
    ],
)
def test_bad_input_ends_in_one_line(model, new, capsys, edit, words, message):
    edit(pd.read_csv(new, dtype={"zip": str})).to_csv(new, index=False)
    code, printed, error = predict(capsys, model, new, *words)
    assert (code, printed) == (2, "")
    assert error.count("\n") == 1
    assert message in error


def test_a_folder_without_a_model_and_an_output_that_is_a_folder(model, new, tmp_path, capsys):
    code, _, error = predict(capsys, tmp_path, new)
    assert code == 2
    assert "holds no model" in error
    (tmp_path / "folder.csv").mkdir()
    code, _, error = predict(capsys, model, new, "--out", tmp_path / "folder.csv")
    assert code == 2
    assert "must be a file" in error
