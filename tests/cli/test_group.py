"""`polytask group` from the command line, in this process and on a small table."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from polytask.cli.main import run
from polytask.grouping import Grouping

QUICK = ["--seeds", "2", "--epochs", "1", "--workers", "0"]
TARGETS = ["--target", "a:binary", "--target", "b:binary", "--target", "c:binary"]


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    rng = np.random.default_rng(0)
    size = rng.normal(size=120)
    frame = pd.DataFrame({"size": size, "noise": rng.normal(size=120)})
    frame["a"] = size > 0
    frame["b"] = size < 0.1
    frame["c"] = rng.random(120) > 0.5
    path = tmp_path_factory.mktemp("data") / "table.csv"
    frame.to_csv(path, index=False)
    return path


def test_groups_are_shown_and_saved(table, tmp_path, capsys):
    words = [str(table), *TARGETS, "--method", "label-correlation", "--groups", "2", "--no-check"]
    assert run(["group", *words, "--out", str(tmp_path / "out")]) == 0
    grouping = Grouping.load(tmp_path / "out" / "grouping.json")
    # Complements are as related as copies.
    assert sorted(map(len, grouping.groups)) == [1, 2]
    assert grouping.assignment[0] == grouping.assignment[1] != grouping.assignment[2]
    shown = capsys.readouterr().out
    assert "a, b" in shown
    assert "0 models" in shown
    assert not (tmp_path / "out" / "report.html").exists()


def test_the_measurement_tests_groups_against_everything_simpler(table, tmp_path, capsys):
    out = tmp_path / "out"
    words = ["group", str(table), *TARGETS, "--groups", "2", "--out", str(out), *QUICK]
    assert run(words) == 0
    shown = capsys.readouterr().out
    for text in ("Memberships", "group 1", "groups: stg:2", "2 at random", "averaged"):
        assert text in shown
    assert "group the tasks" in shown.lower() or "Grouping does not explain" in shown
    assert (out / "report.html").stat().st_size > 1000
    assert (out / "model").is_dir()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--method", "pcgrad"], "No way of grouping 'pcgrad'"),
        (["--method", "tag:2:3"], "No way of grouping"),
        (["--groups", "many"], "auto or a number"),
        (["--groups", "0"], "auto or a number"),
        (["--groups", "9"], "9 groups"),
        (["--preset", "huge"], "--preset"),
        (["--split-by", "size", "--split-column", "c"], "split"),
    ],
)
def test_bad_options_are_told_before_training(table, tmp_path, capsys, words, told):
    given = ["group", str(table), *TARGETS, *words, "--out", str(tmp_path / "out")]
    assert run(given) == 2
    assert told in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_it_needs_a_folder_and_data_that_exist(table, tmp_path, capsys):
    assert run(["group", str(table), *TARGETS]) == 2
    assert "--out" in capsys.readouterr().err
    assert run(["group", "nothing.csv", *TARGETS, "--out", str(tmp_path)]) == 2
    assert "nothing.csv" in capsys.readouterr().err
    assert run(["group", "nothing", "--out", str(tmp_path)]) == 2
    assert "nothing" in capsys.readouterr().err
