"""`polytask compare` from the command line, in this process and on small tables."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from polytask.cli.data_options import DataOptions, parse_task
from polytask.cli.main import run
from polytask.evaluation import Comparison
from polytask.tables import TableSource

QUICK = ["--seeds", "2", "--epochs", "2", "--patience", "2", "--workers", "0"]


def table(rows=120, seed=0):
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {
            "key": range(rows),
            "size": rng.normal(100, 30, rows),
            "[bold]größe[/bold]": rng.normal(size=rows),
            "street": np.arange(rows) // 4,
        }
    )
    frame["price"] = 3 * frame["size"] + rng.normal(0, 5, rows)
    frame["sold"] = np.where(frame["size"] > 100, "yes", "no")
    return frame


@pytest.fixture(scope="module")
def houses(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "houses.csv"
    table().to_csv(path, index=False)
    return path


@pytest.fixture(scope="module")
def finished(houses, tmp_path_factory):
    """The folder and the words of a comparison that has ended."""
    out = tmp_path_factory.mktemp("runs") / "houses"
    words = [
        *("compare", "--data", str(houses), "--target", "price:regression"),
        *("--target", "sold:binary", "--drop", "key", "--split-by", "street"),
        *("--candidate", "boosting", "--candidate", "equal", "--out", str(out), *QUICK),
    ]
    assert run(words) == 0
    return out, words


def test_the_same_command_shows_everything_and_trains_nothing(finished, capsys):
    out, words = finished
    assert run(words) == 0
    shown, progress = capsys.readouterr()
    assert "10 of 10 runs are finished already and are not trained again" in progress
    assert "[1/" not in progress
    for text in ("size", "[bold]größe[/bold]", "groups", "dropped", "target", "binary"):
        assert text in shown
    for name in ("single-task", "boosting", "shared: equal", "chosen per task"):
        assert name in shown
    comparison = Comparison.load(out)
    assert str(comparison.verdict) in shown
    assert "* best mean gain on validation" in shown
    for name in ("report.html", "results.jsonl", "model"):
        assert str(out / name) in shown
        assert (out / name).exists()


def test_showing_planning_and_serving_share_the_problem_of_a_seed(finished, monkeypatch):
    _, words = finished
    built = []
    build = TableSource.build

    def counting(source, seed):
        built.append(seed)
        return build(source, seed)

    monkeypatch.setattr(TableSource, "build", counting)
    assert run(words) == 0
    assert len(built) == len(set(built)) <= 2
    assert built[0] == 0


def test_the_files_of_a_comparison(finished):
    out, _ = finished
    comparison = Comparison.load(out)
    assert comparison.is_complete
    assert comparison.overlap > 0
    lines = (out / "results.jsonl").read_text(encoding="utf-8").splitlines()
    assert len(lines) == 2 * (2 + 2 + 2)
    assert all(json.loads(line)["scores"]["test"] for line in lines)
    assert comparison.provenance()["command"].startswith("polytask ")
    assert "houses" in (out / "report.html").read_text(encoding="utf-8")


def test_the_model_predicts_from_the_command_line(finished, tmp_path):
    out, _ = finished
    new = table(7, seed=1).drop(columns=["price", "sold", "key", "street"])
    new.to_csv(tmp_path / "new.csv", index=False)
    target = tmp_path / "found.csv"
    assert run(["predict", str(out), str(tmp_path / "new.csv"), "--out", str(target)]) == 0
    found = pd.read_csv(target)
    assert len(found) == 7
    assert {"price", "sold"} <= set(found.columns)


def test_tables_of_their_own(houses, tmp_path):
    other = tmp_path / "other:table.csv"
    table(100, seed=3).drop(columns=["price"]).to_csv(other, index=False)
    words = [
        *("compare", "--task", f"cost={houses}:price:regression", "--task", f"sale={other}:sold"),
        *("--candidate", "equal", "--drop", "key", "--drop", "street", "--out"),
        *(str(tmp_path / "out"), *QUICK, "--seeds", "1"),
    ]
    assert run(words) == 0
    comparison = Comparison.load(tmp_path / "out")
    assert comparison.tasks == ("cost", "sale")
    assert comparison.plan.layout == "separate"
    assert comparison.failures == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "exactly one of --data, --task and --dataset, found none of them"),
        (["--dataset", "digits13", "--data", "DATA"], "found --data and --dataset"),
        (["--data", "DATA"], "`--data` needs at least one --target"),
        (["--dataset", "digits13", "--target", "x"], "`--target` goes with --data"),
        (["--dataset", "digits13", "--drop", "x"], "`--drop` is for tables"),
        (["--dataset", "nothing"], "There is no data set 'nothing'"),
        (["--data", "none.csv", "--target", "x"], "There is no file 'none.csv'"),
        (["--data", "DATA", "--target", "prize:regression"], "'prize'"),
        (["--data", "DATA", "--target", "price", "--target", "price"], "'price'"),
        (["--task", "a=b"], "`--task` must be NAME=FILE:COLUMN"),
        (["--data", "DATA", "--target", "price", "--preset", "x"], "`--preset` must be one of"),
        (["--data", "DATA", "--target", "price", "--candidate", "x"], "No candidate 'x'"),
        (["--data", "DATA", "--target", "price", "--trials", "9"], "`trials` must be between"),
        (["--data", "DATA", "--target", "price", "--time-limit", "-1"], "`time_limit` must be > 0"),
    ],
)
def test_bad_options_are_one_line_and_code_2(houses, tmp_path, capsys, words, message):
    given = [str(houses) if word == "DATA" else word for word in words]
    assert run(["compare", *given, "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert message in error
    assert not (tmp_path / "out" / "runs.sqlite").exists()


def test_out_is_needed_and_must_be_a_folder(houses, tmp_path, capsys):
    words = ["compare", "--data", str(houses), "--target", "price", *QUICK]
    assert run(words) == 2
    assert "`--out` is needed" in capsys.readouterr().err
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    assert run([*words, "--out", str(tmp_path / "file")]) == 2
    assert "Cannot write to the output folder" in capsys.readouterr().err


def test_a_comparison_without_any_result_is_code_1(houses, tmp_path, capsys, monkeypatch):
    from polytask.candidates.network import NetworkMethod

    def fail(*_, **__):
        raise FloatingPointError("loss `price` is not finite at step 3")

    monkeypatch.setattr(NetworkMethod, "fit", fail)
    words = ["compare", "--data", str(houses), "--target", "price", "--candidate", "single-task"]
    assert run([*words, *QUICK, "--out", str(tmp_path / "out")]) == 1
    shown, said = capsys.readouterr()
    assert "loss `price` is not finite at step 3" in shown
    assert "No verdict yet" in shown
    assert "2 of 2 runs failed; the same command with --retry-failed starts them again" in said


def test_a_comparison_with_a_failed_run_is_code_1(houses, tmp_path, capsys, monkeypatch):
    from polytask.candidates.network import NetworkMethod

    plain, calls = NetworkMethod.fit, []

    def fails_once(self, *given, **named):
        calls.append(1)
        if len(calls) == 1:
            raise FloatingPointError("loss `price` is not finite at step 3")
        return plain(self, *given, **named)

    monkeypatch.setattr(NetworkMethod, "fit", fails_once)
    words = ["compare", "--data", str(houses), "--target", "price", "--candidate", "single-task"]
    words += [*QUICK, "--out", str(tmp_path / "out")]
    assert run(words) == 1
    assert "1 of 2 runs failed; the same command with --retry-failed" in capsys.readouterr().err
    assert run([*words, "--retry-failed"]) == 0


def test_ctrl_c_is_code_130_and_shows_what_is_finished(houses, tmp_path, capsys, monkeypatch):
    from polytask.candidates.network import NetworkMethod

    plain, calls = NetworkMethod.fit, []

    def interrupted(self, *given, **named):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return plain(self, *given, **named)

    monkeypatch.setattr(NetworkMethod, "fit", interrupted)
    words = ["compare", "--data", str(houses), "--target", "price", "--candidate", "single-task"]
    assert run([*words, *QUICK, "--out", str(tmp_path / "out")]) == 130
    shown, progress = capsys.readouterr()
    assert "ended early" in shown
    assert "1 of 2 runs are finished and kept; the same command continues" in progress


def test_task_options_with_colons_in_file_names(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a:b.csv").write_text("x\n1\n", encoding="utf-8")
    assert parse_task("t=a:b.csv:y:binary") == (
        "t",
        (tmp_path / "a:b.csv").relative_to(tmp_path),
        "y:binary",
    )
    name, path, column = parse_task("t=none.csv:y")
    assert (name, path.name, column) == ("t", "none.csv", "y")


def test_split_by_and_split_column_reach_the_plan(houses):
    source = DataOptions(data=houses, target=["price"], split_by="street").source()
    assert source.split.by == "street"
    assert source.name == "houses"
