"""Tables and targets that cannot be used end `polytask compare` in one line, before training."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from tests.tables.frames_for_tests import houses

from polytask.cli import main as cli


def compare(capsys, path, *words):
    """Exit code and the lines of standard error; nothing may have been trained."""
    out = path.parent / "out"
    code = cli.run(["compare", "--data", str(path), *words, "--out", str(out)])
    assert not (out / "results.jsonl").exists()
    return code, capsys.readouterr().err.splitlines()


def last_rows(frame, value):
    grade = frame["grade"].copy()
    grade.iloc[-3:] = value
    return grade


FRAMES = {
    "plain": lambda f: f,
    "constant": lambda f: f.assign(price=5),
    "all missing": lambda f: f.assign(price=np.nan),
    "infinite": lambda f: f.assign(rooms=np.where(np.arange(120) == 4, np.inf, 3.0)),
    "infinite target": lambda f: f.assign(price=np.where(np.arange(120) == 4, -np.inf, f["price"])),
    "one label": lambda f: f.assign(price=np.where(np.arange(120) == 4, 7.0, np.nan)),
    "one row": lambda f: f[:1],
    "class in test only": lambda f: f.assign(
        part=["train"] * 90 + ["test"] * 30, grade=last_rows(f, "Z")
    ),
}

CASES = [
    ("plain", ["--target", "prise"], "Target 'prise' is not a column of the table"),
    ("plain", ["--target", "price:numbers"], "'numbers' is no kind; the kinds are regression"),
    ("plain", ["--target", "price", "--target", "price:regression"], "'price' is named twice"),
    ("plain", ["--target", "price", "--drop", "price"], "both a target and left out"),
    ("plain", ["--target", "price", "--drop", "garage"], "Dropped column 'garage' is not a column"),
    ("plain", ["--target", "town:regression"], "Regression target 'town' must hold numbers, found"),
    ("plain", ["--target", "grade:binary"], "Binary target 'grade' must have 2 different values"),
    ("plain", ["--target", "price:multiclass"], "'price' has 120 classes in 120 labelled rows"),
    ("plain", ["--target", "price", "--split-by", "sold"], "at least 3 different groups"),
    (
        "plain",
        ["--target", "price", "--split-column", "sold"],
        "must say train, validation or test",
    ),
    ("plain", [], "`--data` needs at least one --target"),
    ("constant", ["--target", "price"], "Target 'price' is 5 in every row that has a label"),
    ("all missing", ["--target", "price"], "Target 'price' has no label: every cell is missing"),
    (
        "infinite",
        ["--target", "price"],
        "Column 'rooms' must hold finite numbers, found inf in row 5",
    ),
    ("infinite target", ["--target", "price"], "must hold finite numbers, found -inf in row 5"),
    ("one label", ["--target", "price", "--target", "sold"], "'price' is 7.0 in every row"),
    ("one row", ["--target", "price"], "has 1 rows; at least 10 are needed"),
    (
        "class in test only",
        ["--target", "grade", "--split-column", "part"],
        "Class 'Z' of target 'grade' occurs in the test rows but in no training row",
    ),
]


@pytest.mark.parametrize(
    ("table", "words", "message"),
    CASES,
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_bad_tables_end_in_one_line(tmp_path, capsys, table, words, message):
    path = tmp_path / "houses.csv"
    FRAMES[table](houses()).to_csv(path, index=False)
    code, lines = compare(capsys, path, *words)
    assert code == 2
    assert len(lines) == 1
    assert lines[0].startswith("error: ")
    assert message in lines[0]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("empty.csv", b"", "is empty"),
        ("header.csv", b"a,b\n", "is empty: it has no row of data"),
        ("picture.csv", b"\x89PNG\r\n\x1a\n" + bytes(range(32)), "its bytes are no text"),
        ("sheet.xlsx", b"PK", "is no whole spreadsheet"),
        ("many.csv", b"a,b\n" + b"x" * 150_000 + b",1\n", "has 1 rows"),
        ("torn.csv.gz", b"\x1f\x8b\x08", "cannot be read"),
        ("table.docx", b"PK", "no kind of table"),
    ],
)
def test_bad_files_end_in_one_line(tmp_path, capsys, name, content, message):
    path = tmp_path / name
    path.write_bytes(content)
    code, lines = compare(capsys, path, "--target", "a")
    assert code == 2
    assert len(lines) == 1
    assert message in lines[0]


def test_a_file_that_does_not_exist(tmp_path, capsys):
    code, lines = compare(capsys, tmp_path / "nowhere.csv", "--target", "a")
    assert code == 2
    assert lines == [f"error: There is no file '{tmp_path / 'nowhere.csv'}'; check the path."]


def test_the_real_command_prints_one_line_and_no_trace(tmp_path):
    (tmp_path / "empty.csv").write_bytes(b"")
    words = ["compare", "--data", "empty.csv", "--target", "y", "--out", "out"]
    command = [sys.executable, "-m", "polytask.cli.main", *words]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("error: The table 'empty.csv' is empty")
    assert done.stderr.count("\n") == 1
