"""The MultiModel experiment runs from beginning to end, and its page says what its results say."""

from __future__ import annotations

import json
import math

import pytest
from experiments.common import read_log
from experiments.universal.multimodel import run as experiment
from torch.nn import functional

from polytask.architectures.multimodel import MultiModelBody
from polytask.datasets.eight_tasks import VOCABULARY, EightSizes, eight_tasks


def test_experiment_runs_and_goes_on_where_it_stopped(tmp_path, capsys):
    arguments = ["--smoke", "--out", str(tmp_path / "results.json"), "--tasks", "sort", "table"]
    experiment.main(arguments)
    content = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
    assert content["runs"] == len(read_log(tmp_path / "runs.jsonl")) == 3
    assert set(content["answers"]) == {"alone", "together"}
    assert (tmp_path / "figure.png").stat().st_size > 1000
    capsys.readouterr()
    experiment.main([*arguments, "--minutes", "0"])
    assert "3 of 3 runs" in capsys.readouterr().out


def test_a_task_alone_has_the_parameters_that_it_needs_and_company_one_set_for_all():
    problem = eight_tasks(sizes=EightSizes(text=20, parse=10, other=40))
    body = MultiModelBody(size=8, depth=1, num_heads=2, num_experts=2)
    model = experiment.build(problem, body)
    assert list(model.modalities) == ["image", "text", "audio", "table"]
    alone = experiment.build(problem.select_tasks(["tone"]), body)
    assert list(alone.modalities) == ["audio"]
    together = {name for name, _ in model.named_parameters()}
    assert {n for n, _ in alone.named_parameters() if not n.startswith(("nets", "outputs"))} <= (
        together
    )


def test_an_answer_is_right_from_beginning_to_end_and_padding_does_not_count(monkeypatch):
    problem = eight_tasks(sizes=EightSizes(text=20, parse=10, other=40)).select_tasks(["sort"])
    target = problem.test.parts["sort"].targets["sort"]

    def scores_if_it_says(answers):
        said = {"sort": functional.one_hot(answers, len(VOCABULARY)).float()}
        monkeypatch.setattr(experiment, "predict_outputs", lambda model, split: said)
        return experiment.scores_of(None, problem)["sort"]

    right = target.clamp_min(0)
    assert scores_if_it_says(right) == {"answers": 100, "tokens": 100}
    wrong = right.clone()
    wrong[:50, 0] += 1
    found = scores_if_it_says(wrong)
    assert found["answers"] == 75
    assert found["tokens"] == pytest.approx(100 - 100 * 50 / int((target >= 0).sum()))


def test_committed_page_shows_the_committed_results(root):
    folder = root / "experiments" / "universal" / "multimodel"
    page = (folder / "README.md").read_text(encoding="utf-8")
    content = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    assert "python -m experiments.universal.multimodel.run" in page
    known = {k: tuple(v) if isinstance(v, list) else v for k, v in content["settings"].items()}
    settings = experiment.Settings(**known)
    changes = content["together minus"]
    for way in changes.values():
        for task, values in way.items():
            way[task] = [math.nan if v is None else v for v in values]
    for line in experiment.show(content["answers"], changes, settings).splitlines():
        assert line in page
