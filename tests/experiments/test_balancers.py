"""Every experiment runs from beginning to end in a setting of seconds, and its parts are right."""

from __future__ import annotations

import dataclasses
import importlib
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from experiments.balancers import networks
from experiments.balancers.agnostic_minimax import run as agnostic_minimax
from experiments.balancers.mgda_fronts import run as mgda_fronts
from experiments.balancers.pcgrad_landscape import run as pcgrad_landscape
from experiments.balancers.scopes import run as scopes

from experiments import common

EXPERIMENTS = (
    "agnostic_minimax",
    "gradnorm_tanh",
    "mgda_fronts",
    "pcgrad_landscape",
    "uncertainty_two_outputs",
)
ON_DATA = ("multi_mnist", "scopes")


def run_smoke(name, folder, *more):
    module = importlib.import_module(f"experiments.balancers.{name}.run")
    out = folder / "results.json"
    module.main(["--smoke", "--out", str(out), *more])
    return json.loads(out.read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_experiment_runs_and_records_what_it_did(name, tmp_path):
    content = run_smoke(name, tmp_path)
    assert {"settings", "date", "versions"} < content.keys()
    assert not set(common.PLACES) & content["settings"].keys()
    assert (tmp_path / "figure.png").stat().st_size > 1000


@pytest.mark.parametrize("name", ON_DATA)
def test_experiment_on_data_goes_on_where_it_stopped(name, tmp_path, shared, capsys):
    data = ("--data", str(shared / "data"))
    first = run_smoke(name, tmp_path, *data)
    log = tmp_path / "runs.jsonl"
    whole = log.read_text(encoding="utf-8")
    lines = whole.splitlines(keepends=True)
    assert len(lines) == first["runs"]

    log.write_text("".join(lines[:-1]) + lines[-1][:20], encoding="utf-8")  # killed while writing
    capsys.readouterr()
    second = run_smoke(name, tmp_path, *data)
    assert f"{len(lines) - 1} of {len(lines)} runs" in capsys.readouterr().out
    last = log.read_text(encoding="utf-8").splitlines()[-1]
    scores = [json.loads(line)["outcome"]["scores"] for line in (lines[-1], last)]
    assert scores[0] == scores[1]
    assert second["runs"] == first["runs"]


@pytest.mark.parametrize("name", (*EXPERIMENTS, *ON_DATA, "index"))
def test_committed_pages_give_the_command(name, root):
    folder = root / "experiments"
    page = folder / "README.md" if name == "index" else folder / "balancers" / name / "README.md"
    text = page.read_text(encoding="utf-8")
    for experiment in (*EXPERIMENTS, *ON_DATA) if name == "index" else (name,):
        assert f"python -m experiments.balancers.{experiment}.run" in text


def test_settings_come_from_defaults_scale_smoke_and_options_in_this_order(tmp_path):
    @dataclasses.dataclass(frozen=True)
    class Settings(common.ResumableSettings):
        first: int = 1
        second: int = 1
        third: tuple[int, ...] = (1,)

    def parse(*arguments):
        smoke, scales = {"second": 3}, {"full": {"first": 2, "second": 2}}
        return common.parse(
            Settings, description=None, smoke=smoke, scales=scales, arguments=arguments
        )

    assert (parse().first, parse().second, parse().third) == (1, 1, (1,))
    assert (parse("--scale", "full").first, parse("--scale", "full").second) == (2, 2)
    found = parse("--scale", "full", "--smoke", "--third", "7", "8")
    assert (found.first, found.second, found.third) == (2, 3, (7, 8))
    assert parse().out == Path(__file__).resolve().with_name("results.json")
    assert found.out.parent.name == parse().out.parent.name
    assert found.out != parse().out
    for given in (parse(), found):
        assert given.log == given.out.with_name("runs.jsonl")
    elsewhere = parse("--out", str(tmp_path / "a" / "b.json"), "--log", str(tmp_path / "log.jsonl"))
    assert elsewhere.out == tmp_path / "a" / "b.json"
    assert elsewhere.log == tmp_path / "log.jsonl"


def test_a_job_takes_the_settings_of_the_same_name():
    @dataclasses.dataclass(frozen=True)
    class Settings(common.ResumableSettings):
        seeds: tuple[int, ...] = (0, 1)
        steps: int = 5
        rate: float = 0.1

    @dataclasses.dataclass(frozen=True)
    class Job:
        seed: int
        steps: int
        rate: float
        free: bool = True

    assert Settings(rate=0.2).job(Job, seed=1, steps=7) == Job(seed=1, steps=7, rate=0.2)
    with pytest.raises(TypeError, match="seed"):
        Settings().job(Job)


def fail_on_two(job):
    if job.seed == 2:
        raise ValueError("two")
    return {"value": float(job.seed)}


@dataclasses.dataclass(frozen=True)
class Numbered:
    seed: int


def test_a_failed_job_does_not_lose_the_others(tmp_path):
    jobs = [Numbered(seed) for seed in (1, 2, 3)]
    log = tmp_path / "runs.jsonl"
    with pytest.raises(ExceptionGroup, match="1 runs failed") as caught:
        common.run_jobs(jobs, fail_on_two, log=log, workers=0, minutes=1)
    assert "Numbered(seed=2)" in caught.value.exceptions[0].__notes__[0]
    found = common.run_jobs(jobs, fail_on_two, log=log, workers=0, minutes=0)
    assert found == [{"seed": 1, "value": 1.0}, {"seed": 3, "value": 3.0}]


def test_pairs_hold_both_digits_in_opposite_corners():
    digits = np.zeros((3, 28, 28), dtype=np.uint8)
    digits[0, :4, :4] = 255  # in the upper left corner of its own image
    digits[2, -4:, -4:] = 255
    labels = np.array([5, 6, 7], dtype=np.uint8)
    pairs = networks.compose_pairs(digits, labels, rows=30, seed=0)
    again = networks.compose_pairs(digits, labels, rows=30, seed=0)
    assert torch.equal(pairs.inputs, again.inputs)
    assert torch.equal(pairs.targets, again.targets)
    assert pairs.targets[:3, 0].tolist() == [5, 6, 7]
    assert set(pairs.targets[:, 1].tolist()) == {5, 6, 7}
    assert pairs.inputs.amin() >= 0
    assert pairs.inputs.amax() <= 1 + 1e-6
    upper_left = pairs.inputs[:, 0, :3, :3].mean((1, 2)) > 0.5
    lower_right = pairs.inputs[:, 0, -3:, -3:].mean((1, 2)) > 0.5
    assert torch.equal(upper_left, pairs.targets[:, 0] == 5)
    assert torch.equal(lower_right, pairs.targets[:, 1] == 7)


def test_landscape_has_both_valleys_at_its_bottom():
    bottom = torch.tensor([[-2.0, 12.0]], dtype=torch.float64)
    expected = [20 * math.log(5e-6), 25 * math.log(5e-6)]
    assert pcgrad_landscape.losses_of(bottom).squeeze(0).tolist() == pytest.approx(expected)


def test_pareto_sets_are_stationary():
    settings = mgda_fronts.Settings(starts=4)
    for make in (mgda_fronts.fonseca_fleming, mgda_fronts.two_quadratics):
        problem = make(settings, torch.Generator().manual_seed(0))
        points = problem.pareto_set[1000:-1000:3000].clone().requires_grad_()
        first, second = (
            torch.autograd.grad(f.sum(), points, retain_graph=True)[0]
            for f in problem.objectives(points).mT
        )
        cosines = torch.cosine_similarity(first, second)
        torch.testing.assert_close(cosines, -torch.ones_like(cosines), atol=1e-9, rtol=0)


def test_minimax_optimum_has_equal_losses_and_no_better_neighbour():
    weight, worst = agnostic_minimax.analytic_optimum()
    losses = agnostic_minimax.mixture_minimum(weight)
    assert losses.tolist() == pytest.approx([worst, worst])
    for other in (weight - 0.01, weight + 0.01):
        assert agnostic_minimax.mixture_minimum(other).max() > worst


def outcomes_with(changes):
    settings = scopes.Settings(problems=("sarcos",), methods=("mgda",), variants=tuple(changes))
    runs = []
    for seed in settings.seeds:
        singles = [
            {"data": "sarcos", "method": "single", "seed": seed, "tasks": (t,), "scores": [1.0],
             "processor_ms_per_step": 1.0}
            for t in range(7)
        ]  # fmt: skip
        own = {"equal": (1.0, 1.0)}
        own |= {scopes.name_of("mgda", v): change for v, change in changes.items()}
        runs += singles + [
            {"data": "sarcos", "method": name, "seed": seed, "tasks": tuple(range(7)),
             "scores": [error + 1e-5 * seed] * 7, "processor_ms_per_step": time}
            for name, (error, time) in own.items()
        ]  # fmt: skip
    return settings, scopes.collect(runs, settings)


def test_conclusion_takes_the_cheapest_variant_that_is_as_good():
    changes = {"trunk": (0.9, 4.0), "last": (0.901, 2.0), "features": (0.95, 1.0)}
    settings, outcomes = outcomes_with(changes)
    verdicts = scopes.judge(outcomes, settings)
    assert verdicts["last"]["sarcos"]["verdict"] == "as good"
    assert verdicts["last"]["sarcos"]["cost"] == pytest.approx(2.0)
    assert verdicts["last"]["sarcos"]["change"][0] == pytest.approx(-0.1)
    assert verdicts["features"]["sarcos"]["verdict"] == "worse"
    assert "**last**, at 2.00 times" in scopes.conclude(verdicts, settings)


def test_conclusion_keeps_exact_gradients_where_nothing_else_is_as_good():
    settings, outcomes = outcomes_with({"trunk": (0.9, 4.0), "features": (0.95, 1.0)})
    verdicts = scopes.judge(outcomes, settings)
    assert "**trunk**, at 4.00 times" in scopes.conclude(verdicts, settings)
