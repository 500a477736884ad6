"""The experiment on measured gains reproduces what its page compares with."""

from __future__ import annotations

import json
import math

import pytest
import torch
from experiments.grouping.gains import run as gains


def big(problem):
    return problem.masks.sum(1) >= 3


@pytest.mark.parametrize(
    ("name", "hoa", "tag"),
    [("taskonomy", 0.51, 0.06), ("ettm1", -0.05, 0.06), ("mimic", 0.36, 0.06)],
)
def test_published_predictions_order_sets_as_the_reference_says(shared, name, hoa, tag):
    problem = gains.read(shared / "data", name)
    for method, expected in (("HOA", hoa), ("TAG-HOA", tag)):
        found = gains.within_task(problem.published[method], problem.test, big(problem))
        assert found == pytest.approx(expected, abs=0.005)


@pytest.mark.parametrize(
    ("name", "method", "two", "three"),
    [
        ("taskonomy", "HOA", 0.122, 0.167),
        ("taskonomy", "TAG-HOA", -0.173, 0.049),
        ("taskonomy", "oracle", 0.139, 0.178),
        ("ettm1", "HOA", 0.049, 0.053),
        ("ettm1", "TAG-HOA", 0.084, 0.076),
        ("ettm1", "oracle", 0.172, 0.190),
    ],
)
def test_decisions_are_those_of_the_reference(shared, name, method, two, three):
    problem = gains.read(shared / "data", name)
    scores = {**problem.published, "oracle": problem.test}[method]
    for num_groups, expected in ((2, two), (3, three)):
        found = gains.decided(problem, scores, num_groups, torch.Generator().manual_seed(0))
        assert found == pytest.approx(expected, abs=0.0006)


def test_rank_correlation_by_hand():
    nan = math.nan
    measured = torch.tensor([[1.0, nan], [2.0, 1.0], [3.0, 2.0], [9.0, 3.0], [0.0, nan]]).double()
    predicted = torch.tensor([[1.0, nan], [3.0, 5.0], [2.0, 5.0], [4.0, 5.0], [7.0, nan]]).double()
    rows = torch.tensor([True, True, True, True, False])
    # Task 0: ranks 1 3 2 4 against 1 2 3 4 give 1 - 6 * 2 / (4 * 15); task 1 has no order.
    assert gains.within_task(predicted, measured, rows) == pytest.approx(0.8 / 2)
    assert math.isnan(gains.within_task(predicted, measured, torch.zeros(5, dtype=torch.bool)))


def test_experiment_runs_and_records_what_it_did(shared, tmp_path):
    out = tmp_path / "results.json"
    data = ("--data", str(shared / "data"))
    gains.main(["--smoke", "--draws", "1", "--mtg-draws", "1", "--out", str(out), *data])
    content = json.loads(out.read_text(encoding="utf-8"))
    assert {"settings", "date", "versions", "problems"} < content.keys()
    learned = content["problems"]["taskonomy"]["learned"]
    assert set(learned) == {"10", "20"}
    assert all(set(gains.MODELS) < set(models) for models in learned.values())
    assert (tmp_path / "figure.png").stat().st_size > 1000


def test_committed_page_gives_the_command(root):
    page = root / "experiments" / "grouping" / "gains" / "README.md"
    assert "python -m experiments.grouping.gains.run" in page.read_text(encoding="utf-8")
