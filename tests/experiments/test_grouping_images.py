"""The grouping experiments on images, attributes and tables, in a setting of seconds."""

from __future__ import annotations

import json

import numpy as np
import pytest
from experiments.grouping.celeba import run as celeba
from experiments.grouping.images import run as images
from experiments.grouping.images.problems import tasks_of
from experiments.grouping.tables import run as tables


def run_smoke(module, folder, data):
    out = folder / "results.json"
    module.main(["--smoke", "--out", str(out), "--data", str(data / "data")])
    return json.loads(out.read_text(encoding="utf-8"))


def test_images_end_with_a_table_and_figures(tmp_path, shared):
    found = run_smoke(images, tmp_path, shared)
    assert found["runs"] == 4
    assert "purity of animals and machines" in found["bars"]["0"]
    text = (tmp_path / "table.md").read_text(encoding="utf-8")
    assert "STG, soft" in text
    assert (tmp_path / "memberships.png").stat().st_size > 1000


def test_attributes_are_grouped(tmp_path, shared):
    found = run_smoke(celeba, tmp_path, shared)
    assert len(found["groupings"]["2"]["groups"]) == 2


@pytest.mark.slow
def test_tables_have_a_leaderboard(tmp_path, shared):
    found = run_smoke(tables, tmp_path, shared)
    board = {row["candidate"] for row in found["tables"]["slump"]["leaderboard"]}
    assert {"single-task", "groups: stg:2", "control: ensemble"} <= board
    assert not found["tables"]["slump"]["failed"]


def test_the_tasks_are_those_of_the_paper(shared):
    problem = tasks_of("G2", folder=shared / "data", size=8, rows=200, test_rows=100, seed=0)
    values = {
        task.name: np.concatenate(
            [part.targets[task.name].numpy() for part in (problem.train, problem.test)]
        )
        for task in problem.tasks
    }
    assert len(values) == 15
    assert (values["living"] == 1 - values["not living"]).all()
    odd = sum(values[name] for name in ("automobile", "cat", "dog", "horse", "truck"))
    assert (values["odd"] == odd).all()
    assert abs(values["random"].mean() - 0.5) < 0.1


def test_purity_and_agreement_by_hand():
    assert images.purity([0, 0, 1, 1], ["a", "a", "a", "b"]) == 0.75
    assert images.ari([0, 0, 1, 1], [5, 5, 2, 2]) == 1
