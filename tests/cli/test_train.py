"""`polytask train` from the command line."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from polytask.cli.main import run
from polytask.serving import load_predictor
from polytask.training import Trainer


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.normal(size=(100, 3)), columns=["a", "b", "c"])
    frame["sum"] = frame.sum(axis=1)
    frame["high"] = np.where(frame["a"] > 0, "yes", "no")
    path = tmp_path_factory.mktemp("data") / "table.csv"
    frame.to_csv(path, index=False)
    return path


def words(data, out, *more, epochs=3):
    return [
        *("train", "--data", str(data), "--target", "sum:regression", "--target", "high:binary"),
        *("--out", str(out), "--epochs", str(epochs), *more),
    ]


def test_train_scores_and_saves(data, tmp_path, capsys):
    out = tmp_path / "out"
    assert run(words(data, out, "--balancer", "pcgrad")) == 0
    shown = capsys.readouterr().out
    assert "rmse" in shown
    assert "auc" in shown
    predictor = load_predictor(out)
    found = predictor.predict_table(pd.read_csv(data).head(4))
    assert list(found.columns) == ["sum", "high", "high probability no", "high probability yes"]
    assert predictor.about["candidate"] == "shared: pcgrad"
    log = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    assert [entry["epoch"] for entry in log] == [1, 2, 3]


def test_a_model_is_chosen_by_the_name_of_its_architecture(data, tmp_path):
    out = tmp_path / "out"
    assert run(words(data, out, "--model", "traveling-observer", epochs=2)) == 0
    predictor = load_predictor(out)
    assert predictor.about["candidate"] == "model: traveling-observer, equal"
    assert len(predictor.predict_table(pd.read_csv(data).head(4))) == 4


def test_resume_ends_as_if_it_had_not_been_interrupted(data, tmp_path, monkeypatch):
    assert run(words(data, tmp_path / "whole", epochs=6)) == 0
    finish = Trainer._finish_epoch

    def stop_after_two(self, started):
        finish(self, started)
        if self.epoch == 3:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_finish_epoch", stop_after_two)
        assert run(words(data, tmp_path / "parts", epochs=6)) == 130
    assert load_predictor(tmp_path / "parts").tasks
    assert run(words(data, tmp_path / "parts", "--resume", epochs=6)) == 0
    weights = [
        (tmp_path / name / "model" / "part-0" / "model.safetensors").read_bytes()
        for name in ("whole", "parts")
    ]
    assert weights[0] == weights[1]


def test_a_folder_with_checkpoints_needs_resume_and_the_same_options(data, tmp_path, capsys):
    assert run(words(data, tmp_path)) == 0
    assert run(words(data, tmp_path)) == 2
    assert "add --resume to continue it" in capsys.readouterr().err
    assert run(words(data, tmp_path, "--resume", "--balancer", "pcgrad")) == 2
    assert "balancer was 'equal', found 'pcgrad'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--balancer", "magic"], "No candidate 'magic'"),
        (["--balancer", "boosting"], "`--balancer` must name a balancer, found 'boosting'"),
        (["--model", "magic"], "No architecture 'magic'; choose from"),
        (["--learning-rate", "-1"], "`learning_rate` must be > 0"),
    ],
)
def test_bad_options_are_one_line_and_code_2(data, tmp_path, capsys, more, message):
    assert run(words(data, tmp_path / "out", *more)) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert message in error
