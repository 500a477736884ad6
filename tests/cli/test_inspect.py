"""`polytask inspect`: what would be learned from a table, as text and as JSON."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from tests.tables.frames_for_tests import houses

import polytask
from polytask.cli import main as cli

TARGETS = ["--target", "price:regression", "--target", "sold"]


@pytest.fixture
def path(tmp_path):
    houses().to_csv(tmp_path / "houses.csv", index=False)
    return tmp_path / "houses.csv"


def run(capsys, *words):
    code = cli.run([str(word) for word in words])
    printed = capsys.readouterr()
    return code, printed.out, printed.err


def test_json(path, capsys):
    code, printed, error = run(capsys, "inspect", path, *TARGETS, "--json")
    assert (code, error) == (0, "")
    found = json.loads(printed)
    assert (found["name"], found["rows"]) == ("houses", 120)
    assert found["columns"]["town"]["type"] == "category"
    assert found["targets"]["sold"]["kind"] == "binary"
    assert sum(found["split"].values()) == 120


def test_text_names_columns_tasks_split_and_notes(path, capsys):
    code, printed, _ = run(capsys, "inspect", path, *TARGETS)
    assert code == 0
    assert "houses: 120 rows, columns" in printed
    for word in ("größe", "number", "category", "regression", "binary"):
        assert word in printed
    split = polytask.inspect(path, ["price:regression", "sold"]).split
    assert f"split: {split['train']} train, {split['validation']} validation" in printed
    assert "note: target sold: taken for binary" in printed


def test_options_for_missing_case_and_rows_above(tmp_path, capsys):
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "x": np.where(np.arange(120) % 10 == 0, -999, rng.normal(size=120)),
            "answer": np.resize(["Yes", "yes", "no", "-1"], 120),
        }
    )
    path = tmp_path / "t.csv"
    path.write_text("a,b\n1,2\n" + frame.to_csv(index=False), encoding="utf-8")
    words = ["inspect", path, "--target", "answer", "--json", "--skip-rows", "2"]
    code, printed, _ = run(capsys, *words)
    plain = json.loads(printed)
    assert (code, plain["targets"]["answer"]["kind"]) == (0, "multiclass")
    notes = " ".join(plain["notes"])
    assert "-999 in 10 % of `x` (12 rows), far from the rest: missing?" in notes
    assert "target answer: classes differ only in case or spaces: 'Yes' = 'yes'" in notes
    words += ["--missing", "-999", "--missing", "answer=-1", "--fold-case"]
    code, printed, _ = run(capsys, *words)
    found = json.loads(printed)
    assert (code, found["targets"]["answer"]["kind"]) == (0, "binary")
    assert found["targets"]["answer"]["labels"] == 90
    assert found["columns"]["x"]["missing"] == 12


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "`inspect` needs at least one --target"),
        (["--target", "prise"], "Target 'prise' is not a column of the table"),
        (["--target", "price", "--missing", "flog=-1"], "`missing` names the column 'flog'"),
        (["--target", "price", "--skip-rows", "500"], "no line is left below the 500"),
    ],
)
def test_bad_options_end_in_one_line(path, capsys, words, message):
    code, printed, error = run(capsys, "inspect", path, *words)
    assert (code, printed) == (2, "")
    assert error.count("\n") == 1
    assert message in error


def test_options_of_tables_do_not_go_with_a_data_set(capsys, tmp_path):
    words = ["compare", "--dataset", "digits13", "--missing", "-1", "--out", tmp_path / "out"]
    code, _, error = run(capsys, *words)
    assert code == 2
    assert "`--missing` is for tables, found it with --dataset digits13" in error


def test_codes_and_forms_reach_training_and_prediction(tmp_path, capsys):
    frame = houses().drop(columns="house").assign(fee=[f"${i % 37},000.50" for i in range(120)])
    frame.loc[::9, "größe"] = -999
    frame.to_csv(tmp_path / "t.csv", index=False, encoding="latin-1", errors="replace")
    out = tmp_path / "model"
    words = ["train", "--data", tmp_path / "t.csv", "--target", "price", "--missing", "-999"]
    code, printed, _ = run(capsys, *words, "--epochs", "1", "--out", out)
    assert code == 0
    assert "note: the file is no UTF-8 and is read as Latin-1 (cp1252)" in printed
    new = frame.head(12).copy()
    new.to_csv(tmp_path / "new.csv", index=False)
    code, coded, error = run(capsys, "predict", out, tmp_path / "new.csv")
    assert (code, error) == (0, "")
    new.loc[new["größe"] == -999, "größe"] = None
    new.to_csv(tmp_path / "new.csv", index=False)
    assert run(capsys, "predict", out, tmp_path / "new.csv")[1] == coded
