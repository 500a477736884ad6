"""The experiments on planted groups and on School run, and their closed forms are right."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from experiments.grouping.planted import run as planted
from experiments.grouping.school import ridge
from experiments.grouping.school import run as school
from experiments.grouping.school.ridge import CrossValidation, ExactGains, Moments, Rows, Solver

from experiments import common
from polytask.datasets import planted_groups


@pytest.fixture
def rows():
    """Five small tasks that have something in common."""
    generator = torch.Generator().manual_seed(0)
    common_part = torch.randn(3, generator=generator)
    inputs = [torch.randn(20 + 3 * t, 3, generator=generator) for t in range(5)]
    targets = [
        x @ (common_part + 0.3 * torch.randn(3, generator=generator))
        + 0.5 * torch.randn(len(x), generator=generator)
        for x in inputs
    ]
    return Rows.of(inputs, targets)


def stacked(rows, members, common_penalty, own):
    """Weights ``[K, D]`` of some tasks from one system in w_0 and all v_t."""
    size = rows.inputs[0].shape[1]
    design, target = [], []
    for k, t in enumerate(members):
        blocks = torch.zeros(len(rows.targets[t]), (1 + len(members)) * size, dtype=torch.float64)
        blocks[:, :size] = rows.inputs[t]
        blocks[:, (1 + k) * size : (2 + k) * size] = rows.inputs[t]
        design.append(blocks)
        target.append(rows.targets[t])
    x, y = torch.cat(design), torch.cat(target)
    penalty = torch.full((x.shape[1],), own, dtype=torch.float64)
    penalty[:size] = common_penalty
    found = torch.linalg.solve(x.mT @ x + torch.diag(penalty), x.mT @ y).reshape(-1, size)
    return found[0] + found[1:]


@pytest.mark.parametrize("members", [[0, 2, 3], [1], [0, 1, 2, 3, 4]])
def test_a_groups_weights_solve_the_whole_system(rows, members):
    solver = Solver.of(Moments.by_fold(rows, 0).sum(), 30.0)
    mask = torch.zeros(1, 5, dtype=torch.bool)
    mask[0, members] = True
    found = solver.weights(solver.shared(mask, 10.0)[0])[members]
    torch.testing.assert_close(found, stacked(rows, members, 10.0, 30.0))


def test_cross_validated_errors_are_those_of_the_fits_they_stand_for(rows):
    seed, members = 3, [0, 1, 4]
    judge = CrossValidation(Moments.by_fold(rows, seed))
    mask = torch.zeros(1, 5, dtype=torch.bool)
    mask[0, members] = True
    generator = torch.Generator().manual_seed(seed)
    folds = [torch.randperm(len(y), generator=generator) % ridge.FOLDS for y in rows.targets]
    errors = torch.zeros(5, dtype=torch.float64)
    for fold in range(ridge.FOLDS):
        kept = [f != fold for f in folds]
        part = Rows(
            [x[k] for x, k in zip(rows.inputs, kept, strict=True)],
            [y[k] for y, k in zip(rows.targets, kept, strict=True)],
            rows.shift,
            rows.scale,
            rows.level,
        )
        for t, w in zip(members, stacked(part, members, 1.0, 100.0), strict=True):
            held = ~kept[t]
            errors[t] += (rows.targets[t][held] - rows.inputs[t][held] @ w).square().sum()
    expected = errors / torch.tensor([float(len(y)) for y in rows.targets])
    found = judge.errors(mask, 1.0, 100.0)[0]
    torch.testing.assert_close(found[members], expected[members])


def test_a_task_alone_gains_nothing_and_others_are_not_scored(rows):
    gains = ExactGains(CrossValidation(Moments.by_fold(rows, 0)))
    masks = torch.tensor([[True, False, False, False, False], [True, True, False, True, False]])
    found = gains(masks)
    assert found[0, 0] == 0
    assert (found[~masks] == -torch.inf).all()
    assert found[masks].isfinite().all()
    # Tasks that share most of what they are gain by being learned together.
    assert found[1][masks[1]].mean() > 0


@pytest.mark.parametrize("rule", ["together", "alone", "random", "k-means", "search"])
def test_every_rule_serves_every_task(rows, rule):
    learned = ridge.learn(rows, rule, 2, 0)
    assert learned.weights.shape == (5, 4)
    assert (learned.weights.abs().sum(1) > 0).all()
    sizes = {"together": 1, "alone": 5, "random": 2, "k-means": 2}
    if rule in sizes:
        assert learned.grouping.num_groups == sizes[rule]
    assert sorted(set(learned.grouping.tasks)) == ["0", "1", "2", "3", "4"]


def test_parts_of_a_school_are_disjoint_and_its_test_rows_a_quarter(shared):
    data = school.School.read(shared / "data", 0)
    assert len(data.rows) == 139
    assert len(data.scores) == 15362
    assert data.inputs.shape[1] == 27
    for own, parts in zip(data.rows, data.split(1), strict=True):
        assert np.array_equal(np.sort(np.concatenate(list(parts.values()))), own)
        assert len(parts["test"]) == len(own) - round(0.75 * len(own))


def test_school_gives_the_verdict_of_the_tool(shared, tmp_path):
    out = tmp_path / "results.json"
    school.main(["--smoke", "--data", str(shared / "data"), "--out", str(out)])
    content = json.loads(out.read_text(encoding="utf-8"))
    assert {"settings", "date", "versions", "reference"} < content.keys()
    assert not set(common.PLACES) & content["settings"].keys()
    summary = content["explained_variance"]["summary"]
    assert summary.keys() == {
        "together", "alone", "k-means, 2 groups", "search, 2 groups", "random, 2 groups",
    }  # fmt: skip
    assert "roup the tasks: on the test rows" in content["verdict"]
    assert content["comparison"]["together"]["delta_m"][0] != 0


def test_planted_groups_are_searched_and_a_stopped_run_goes_on(tmp_path, capsys):
    out = tmp_path / "results.json"
    smoke = ["--smoke", "--num-tasks", "5", "--methods", "STG", "TAG, exact", "HOA", "random"]
    planted.main([*smoke, "--out", str(out)])
    content = json.loads(out.read_text(encoding="utf-8"))
    assert {"settings", "date", "versions"} < content.keys()
    entries = content["recovery"]["spread 0.3"]
    assert entries.keys() == {"STG", "TAG, exact", "HOA", "random"}
    for name, entry in entries.items():
        assert entry["5"]["models"] == planted.METHODS[name]().models_trained(5)
        assert -1 <= entry["5"]["agreement"][0] <= 1
    assert content["number_of_groups"].keys() == {"STG", "TAG, exact", "HOA"}
    assert (tmp_path / "figure.png").stat().st_size > 1000
    capsys.readouterr()
    planted.main([*smoke, "--minutes", "0", "--out", str(out)])
    assert "11 of 11 runs are in runs.jsonl" in capsys.readouterr().out
    assert json.loads(out.read_text(encoding="utf-8"))["recovery"] == content["recovery"]


def test_every_method_can_group_planted_tasks():
    problem = planted_groups(num_tasks=4, num_groups=2, num_rows=60)
    for make in planted.METHODS.values():
        assert make().why_not(problem) is None
    assert planted.LARGEST.keys() < planted.METHODS.keys()


def test_costs_beyond_what_was_run_are_extrapolated_and_marked():
    entries = {"30": {"seconds": 93.0, "extrapolated": False}}
    planted.extrapolate("HOA", entries, (10, 30, 100))
    assert entries["100"] == {
        "models": 5050,
        "seconds": pytest.approx(93.0 * 5050 / 465),
        "extrapolated": True,
        "from": 30,
    }
    assert "10" not in entries
    looks = {"300": {"seconds": 5.0, "extrapolated": False}}
    planted.extrapolate("TAG, exact", looks, (300, 1000))
    assert looks["1000"]["seconds"] == pytest.approx(5.0 * (1000 / 300) ** 2)


def test_expensive_methods_are_run_as_far_as_is_said():
    settings = planted.Settings()
    jobs = planted.jobs_of(settings)
    assert len(set(jobs)) == len(jobs)
    for method, largest in planted.LARGEST.items():
        own = [job for job in jobs if job.what == method and type(job) is planted.Job]
        assert max(job.num_tasks for job in own) == largest
        assert sum(job.num_tasks == largest for job in own) == 1
    cheap = [job for job in jobs if job.what == "STG" and not isinstance(job, planted.FreeJob)]
    assert len(cheap) == len(settings.num_tasks) * len(settings.spreads) * len(settings.seeds)


@pytest.mark.parametrize("name", ["planted", "school"])
def test_committed_pages_give_the_command(name, root):
    page = root / "experiments" / "grouping" / name / "README.md"
    assert f"python -m experiments.grouping.{name}.run" in page.read_text(encoding="utf-8")
