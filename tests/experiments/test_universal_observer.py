"""The experiments with the Traveling Observer run in a setting of seconds, and their parts are
right.
"""

from __future__ import annotations

import importlib
import json

import numpy as np
import pytest
import torch
from experiments.universal import embedding_kinds
from experiments.universal.pixels import images
from experiments.universal.pixels import run as pixels
from experiments.universal.synthetic_variables import run as synthetic
from experiments.universal.synthetic_variables.training import METHODS, Kept, SomeTasks
from experiments.universal.temperatures import run as temperatures

from experiments import common
from polytask.datasets.hyperspheres import hyperspheres

NAMES = ("temperatures", "pixels", "synthetic_variables")


def run_smoke(name, folder, *more):
    module = importlib.import_module(f"experiments.universal.{name}.run")
    out = folder / "results.json"
    module.main(["--smoke", "--out", str(out), *more])
    content = json.loads(out.read_text(encoding="utf-8"))
    assert {"settings", "date", "versions", "published"} < content.keys()
    assert not set(common.PLACES) & content["settings"].keys()
    return content


def test_temperatures_go_on_where_they_stopped(tmp_path, shared, capsys):
    data = ("--data", str(shared / "data"), "--maps", "affine", "--steps", "10")
    content = run_smoke("temperatures", tmp_path, *data)
    assert content["summary"]["affine"].keys() == {"none", "learned", "learned, 80 steps"}
    for name in ("errors.png", "embeddings_affine.png"):
        assert (tmp_path / name).stat().st_size > 1000
    log = tmp_path / "runs.jsonl"
    lines = log.read_text(encoding="utf-8").splitlines(keepends=True)
    log.write_text("".join(lines[:-1]) + lines[-1][:20], encoding="utf-8")  # killed while writing
    capsys.readouterr()
    again = run_smoke("temperatures", tmp_path, *data)
    assert "2 of 3 runs" in capsys.readouterr().out
    for kind, entry in content["summary"]["affine"].items():
        assert again["summary"]["affine"][kind]["rmse_test"] == entry["rmse_test"]


def test_digits_are_drawn_on_the_way(tmp_path):
    content = run_smoke("pixels", tmp_path)
    assert content["summary"].keys() == {"none", "learned", "learned, affine, 8 steps"}
    for maps in ("affine", "bias_free"):
        assert (tmp_path / f"embeddings_{maps}.png").stat().st_size > 1000


def test_every_method_learns_both_synthetic_problems(tmp_path):
    content = run_smoke("synthetic_variables", tmp_path, "--seeds", "0")
    for problem in (synthetic.SPHERES, synthetic.GP):
        methods = content["summary"][problem]
        assert methods.keys() == set(METHODS)
        for method, entry in methods.items():
            alone = method.endswith("STL")
            assert (entry["tasks"][0] == entry["common_tasks"][0]) is alone
    for name in ("scores", "embeddings_hyperspheres", "embeddings_transposed_gp"):
        assert (tmp_path / f"{name}.png").stat().st_size > 1000


# --- parts ---------------------------------------------------------------------------------------


def test_order_is_one_for_a_line_and_zero_on_average_for_chance():
    places = torch.arange(10.0).unsqueeze(1)
    line = torch.cat([places, 3 - 2 * places], dim=1)
    assert embedding_kinds.order(line, places) > 0.999
    curve = torch.cat([places, 0.5 * places.square()], dim=1)
    assert 0.5 < embedding_kinds.order(curve, places) < 0.99
    ring = torch.linspace(4, 9, 10)  # more than half of a circle, which the cut at pi divides
    ring = torch.stack([ring.cos(), ring.sin()], dim=1).numpy()
    assert temperatures.around(ring) == pytest.approx(1)
    assert temperatures.around(ring[::-1]) == pytest.approx(1)
    assert temperatures.around(ring[[0, 5, 1, 6, 2, 7, 3, 8, 4, 9]]) < 0.9
    assert np.isnan(temperatures.around(np.zeros((10, 2))))
    assert np.isnan(embedding_kinds.order(torch.zeros(10, 2), places))
    chance = [embedding_kinds.order(torch.randn(10, 2), places) for _ in range(200)]
    assert abs(np.mean(chance)) < 0.05


def test_without_a_model_errors_are_those_by_hand(shared):
    problem = temperatures.problem_of(shared / "data", 10)
    errors = temperatures.anchors(problem)
    series = temperatures.read(shared / "data")
    assert len(series) == 3650
    # What is asked is a third to a half of all test windows' days, drawn without looking at them.
    spread = np.sqrt(np.mean((series[2920:] - series[:2190].mean()) ** 2))
    assert errors["training mean"] == pytest.approx(spread, abs=0.1)
    assert errors["mean of the given days"] < errors["training mean"]


def test_brightness_loss_is_least_at_the_truth():
    target = torch.tensor([0.2, 0.7])
    at_truth = images.brightness_loss(torch.logit(target).unsqueeze(-1), target)
    entropy = -(target * target.log() + (1 - target) * (1 - target).log())
    torch.testing.assert_close(at_truth, entropy)
    shifted = images.brightness_loss(torch.logit(target).unsqueeze(-1) + 0.5, target)
    assert (shifted > at_truth).all()


def test_grid_and_tasks_agree_on_where_a_pixel_is():
    problem = images.pixels("digits", folder=common.DATA, images=50)
    assert problem.tasks[10].name == "1, 2"
    torch.testing.assert_close(images.grid(64)[10], torch.tensor([1, 2]) / 3.5 - 1)
    assert 0 <= problem.train.inputs.min() <= problem.train.inputs.max() <= 1


def test_grey_images_have_1024_variables(shared):
    problem = images.pixels("cifar", folder=shared / "data", images=30)
    assert problem.train.inputs.shape == (18, 1024)
    assert problem.test.inputs.isnan().any(1).all()


def test_the_test_score_is_kept_at_the_best_validation_score(monkeypatch):
    problem = hyperspheres(num_features=(1, 2), num_classes=(2,), rows_per_class=(1, 1, 1))
    one, two = (task.name for task in problem.tasks)
    found = iter([{one: 0.5, two: 0.9}, {one: 0.1, two: 0.2},
                  {one: 0.7, two: 0.4}, {one: 0.3},
                  {one: 0.7, two: 0.9}, {one: 0.6, two: 0.8}])  # fmt: skip
    monkeypatch.setattr(
        "experiments.universal.synthetic_variables.training.scores",
        lambda model, split: dict(next(found)),
    )
    kept = Kept(problem)
    for step in range(3):
        kept.look(None, step)
    assert kept.test == {one: 0.6, two: 0.8}
    assert kept.curve[1] == pytest.approx(0.55)


def test_tasks_of_a_step_are_drawn_uniformly():
    problem = hyperspheres(num_features=(1, 2), num_classes=(2, 3), rows_per_class=(1, 1, 1))
    assert SomeTasks(count=0, seed=0).draw(problem) is None
    sampler = SomeTasks(count=2, seed=0)
    drawn = [sampler.draw(problem) for _ in range(2000)]
    assert all(len(set(names)) == 2 for names in drawn)
    counts = [sum(task.name in names for names in drawn) for task in problem.tasks]
    assert max(abs(count - 1000) for count in counts) < 4 * 500**0.5


def test_a_linear_map_of_the_truth_is_explained():
    truth = torch.randn(30, 1)
    assert synthetic.explained(torch.cat([1 - 2 * truth, truth], dim=1), truth) > 0.999
    assert synthetic.explained(torch.randn(30, 2), truth) < 0.6


@pytest.mark.parametrize("name", NAMES)
def test_committed_pages_give_the_command(name, root):
    page = root / "experiments" / "universal" / name / "README.md"
    assert f"python -m experiments.universal.{name}.run" in page.read_text(encoding="utf-8")


def test_one_more_run_has_affine_maps():
    jobs = pixels.jobs_of(pixels.Settings(seeds=(0, 1)))
    assert [(job.kind, job.seed) for job in jobs if job.affine] == [("learned", 0)]
    assert len(set(jobs)) == len(jobs) == 9
