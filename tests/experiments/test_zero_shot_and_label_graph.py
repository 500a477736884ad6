"""The experiments on descriptors and on label relations, in a setting of seconds."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from experiments.universal.label_graph import run as label_graph
from experiments.universal.zero_shot import run as zero_shot

from experiments import common
from polytask.architectures.label_graph import label_counts


def run_smoke(module, folder, *more):
    out = folder / "results.json"
    module.main(["--smoke", "--out", str(out), *more])
    content = json.loads(out.read_text(encoding="utf-8"))
    assert {"settings", "date", "versions", "summary"} < content.keys()
    assert not set(common.PLACES) & content["settings"].keys()
    assert (folder / "figure.png").stat().st_size > 1000
    return content


def test_every_method_predicts_cells_it_never_saw(tmp_path):
    content = run_smoke(zero_shot, tmp_path, "--grids", "bilinear", "--seeds", "0")
    summary = content["summary"]
    assert summary.keys() == {"bilinear, linear", "bilinear, network"}
    assert summary["bilinear, linear"]["methods"].keys() == set(zero_shot.LINEAR)
    assert summary["bilinear, network"]["methods"].keys() == set(zero_shot.METHODS)
    assert (tmp_path / "learned.png").stat().st_size > 1000


def test_the_left_out_cell_is_not_trained_on_and_seeds_cover_all_cells():
    settings = zero_shot.Settings(steps=1)
    jobs = [j for j in zero_shot.jobs_of(settings) if j.grid == "bilinear" and j.net == "linear"]
    mine = [job for job in jobs if job.method == "pooling"]
    cells = [cell for job in mine for cell in zero_shot.work(job)["cells"]]
    assert sorted(cells) == list(range(20))
    grid = zero_shot.grid_of("bilinear", 0, 50)
    kept = [t for t in range(20) if t != 5]
    near = zero_shot.asked_for(grid, 5, kept, "nearest descriptor").nonzero()[:, 1]
    # Cell (1, 1) of 5 x 4 levels: steps along the first attribute are the smaller ones.
    assert [grid.cells[kept[i]] for i in near] == [(0, 1), (2, 1)]
    assert torch.equal(zero_shot.asked_for(grid, 5, kept, zero_shot.OURS), grid.multi_hot[[5]])


def test_digits_have_a_linear_and_a_network_model():
    for method, net in ((zero_shot.OURS, "linear"), ("gated", "network")):
        jobs = zero_shot.jobs_of(zero_shot.Settings(rows=20, steps=15, held_out=1, seeds=(0,)))
        (job,) = [j for j in jobs if (j.grid, j.method, j.net) == ("digits", method, net)]
        (score,) = zero_shot.work(job)["scores"]
        assert 0 <= score <= 100


def test_label_graphs_beside_plain_heads(tmp_path, shared):
    content = run_smoke(label_graph, tmp_path, "--data", str(shared / "data"))
    assert content["published"]["COCO"]["ML-GCN"] == 83.0
    entry = content["summary"]["emotions, 60"]
    assert entry["map"].keys() == set(label_graph.METHODS)
    assert entry["edges"] > 0
    assert content["overall"]["label graph"]["settings"] == 1


def test_planted_labels_follow_their_leaders():
    _, labels, _, _ = label_graph.planted(0)
    together, positives = label_counts(labels)
    share = together / positives
    leaders = torch.arange(0, 20, 4)
    for leader in leaders:
        followers = range(leader + 1, leader + 4)
        assert all(share[f, leader] == 1 for f in followers)
        assert all(share[leader, f] > 0.5 for f in followers)
        others = leaders[leaders != leader]
        assert (share[leader, others] < 0.4).all()


def test_nominal_inputs_become_columns_and_official_rows_stay(shared):
    inputs, labels, test, _ = label_graph.read("flags", shared / "data", 0)
    assert (len(inputs), len(test), labels.shape[1]) == (129, 65, 7)
    assert inputs.shape[1] > 19
    np.testing.assert_allclose(inputs.mean(0), 0, atol=1e-5)
    few, *_ = label_graph.read("enron", shared / "data", 50)
    assert few.shape == (1123, 50)


def test_sizes_beyond_a_set_are_run_once():
    jobs = label_graph.jobs_of(label_graph.Settings(rows=(60, 150, 400)))
    assert len(set(jobs)) == len(jobs)
    rows = {(job.name, job.rows) for job in jobs}
    assert {r for n, r in rows if n == "flags"} == {60, 150}
    assert {r for n, r in rows if n == "birds"} == {60, 150, 400}


def test_average_precision_by_hand():
    scores = torch.tensor([[3.0, 1.0], [2.0, 2.0], [1.0, 3.0]])
    targets = torch.tensor([[1, 0], [0, 0], [1, 0]])
    found = label_graph.precision(scores, targets)
    assert found[0] == pytest.approx(100 * (1 + 2 / 3) / 2)
    assert np.isnan(found[1])


@pytest.mark.parametrize("name", ["zero_shot", "label_graph"])
def test_pages_say_what_the_results_are(name, root):
    folder = root / "experiments" / "universal" / name
    page = (folder / "README.md").read_text(encoding="utf-8")
    assert f"python -m experiments.universal.{name}.run" in page
    content = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    if name == "zero_shot":
        for title, entry in content["summary"].items():
            for method, e in entry["methods"].items():
                for text in zero_shot.written(title, method, e):
                    assert text in page, (method, text)
        return
    for line in label_graph.show(content["summary"], content["overall"]).splitlines():
        assert line in page
