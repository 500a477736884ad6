"""The experiment on ways of sharing layers runs in seconds, and its page says what it measured."""

from __future__ import annotations

import json

import numpy as np
import pytest
from experiments.universal.layer_ordering import run
from experiments.universal.layer_ordering.alphabets import alphabets


def test_it_ends_with_a_table_and_figures(tmp_path, shared):
    out = tmp_path / "results.json"
    run.main(["--smoke", "--out", str(out), "--data", str(shared / "data")])
    found = json.loads(out.read_text(encoding="utf-8"))
    assert found["runs"] == 4
    assert set(found["results"]) == set(run.METHODS)
    soft, same = (found["results"][name]["parameters"] for name in ("soft", "hard sharing"))
    # Two alphabets, two layers: the scores are all that soft ordering has in addition.
    assert soft - same == 2 * 2 * 2
    for name in ("figure.png", "orders.png"):
        assert (tmp_path / name).stat().st_size > 1000


def test_alphabets_are_tasks_and_no_drawing_is_in_two_parts(shared):
    problem = alphabets(shared / "data", seed=0)
    sizes = {task.name: task.kind.num_classes for task in problem.tasks}
    assert len(sizes) == 8
    assert (sizes["Korean"], sizes["Greek"], sizes["Tagalog"]) == (40, 24, 17)
    for name, characters in sizes.items():
        parts = [s.parts[name] for s in (problem.train, problem.validation, problem.test)]
        assert [len(part) for part in parts] == [n * characters for n in (10, 4, 6)]
        rows = np.concatenate([part.inputs.numpy() for part in parts])
        assert len(np.unique(rows, axis=0)) == 20 * characters
        labels = parts[0].targets[name].numpy()
        assert (np.bincount(labels) == 10).all()
    again = alphabets(shared / "data", seed=1)
    assert not np.array_equal(
        problem.test.parts["Greek"].inputs.numpy(), again.test.parts["Greek"].inputs.numpy()
    )


def test_unevenness_by_hand():
    even = run.unevenness(np.full((3, 2, 2), 0.5))
    assert even["mean largest share"] == 0.5
    assert even["mean relative entropy"] == pytest.approx(1)
    assert even["deviation between tasks"] == 0
    apart = np.array([[[0.9, 0.1], [0.9, 0.1]], [[0.1, 0.9], [0.1, 0.9]]])
    uneven = run.unevenness(apart)
    assert uneven["mean largest share"] == pytest.approx(0.9)
    assert uneven["deviation between tasks"] == pytest.approx(0.4)
    assert uneven["mean relative entropy"] == pytest.approx(0.469, abs=1e-3)


def test_the_page_has_the_numbers_of_the_results(root):
    folder = root / "experiments" / "universal" / "layer_ordering"
    page = folder.joinpath("README.md").read_text(encoding="utf-8")
    found = json.loads(folder.joinpath("results.json").read_text(encoding="utf-8"))
    for line in run.show(found["results"]).splitlines():
        assert line in page
