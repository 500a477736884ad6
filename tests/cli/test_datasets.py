"""`polytask datasets`: the list, one data set, and a name that does not exist."""

from __future__ import annotations

import pytest

from polytask.cli import main as cli
from polytask.datasets.catalogue import all_datasets


@pytest.fixture(autouse=True)
def wide_terminal(monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")


def test_every_data_set_is_listed(capsys):
    assert cli.run(["datasets"]) == 0
    printed = capsys.readouterr().out
    for name in all_datasets():
        assert name in printed
    digits13 = next(line for line in printed.splitlines() if " digits13 " in line)
    assert "13 yes/no tasks" in digits13
    assert "1797" in digits13


def test_one_data_set_shows_columns_tasks_and_notes(capsys):
    assert cli.run(["datasets", "diabetes"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("diabetes: Progression of diabetes")
    assert "442 rows, shared inputs" in printed
    for word in ("body mass index", "numeric", "progression", "regression", "rmse"):
        assert word in printed
    assert cli.run(["datasets", "digits13"]) == 0
    assert "note: target digit 0: 9.9 % positive in training" in capsys.readouterr().out


def test_separate_inputs_are_shown(capsys):
    assert cli.run(["datasets", "separate_shapes"]) == 0
    printed = capsys.readouterr().out
    assert "1820 rows, separate inputs" in printed
    assert "auc" in printed


def test_a_name_that_does_not_exist(capsys):
    assert cli.run(["datasets", "digit13"]) == 2
    error = capsys.readouterr().err
    assert error == "error: There is no data set 'digit13'; did you mean 'digits13'?\n"
