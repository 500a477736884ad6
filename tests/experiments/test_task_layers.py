"""Task layers against separate and shared networks: the generator, equal budgets, the files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from experiments.universal.task_layers import run
from experiments.universal.task_layers.planted import FIRST, START, planted_lookups

from experiments import common

SIZES = (5, 7, 9, 30, 30)


@pytest.fixture(scope="module")
def planted():
    """Five tasks over three keys: tasks 0 and 3, and 1 and 4, ask about the same key."""
    return planted_lookups(keys=3, values=4, sizes=SIZES, held_out=200, seed=1)


def values_of(split) -> torch.Tensor:
    """The value of every key ``[N, 3]``, read off the tokens."""
    codes = split.inputs[:, 1:] - FIRST
    found = torch.full_like(codes, -1)
    return found.scatter(1, codes // 4, codes % 4)


def test_every_key_is_in_a_row_once_in_a_random_order(planted):
    split = planted.test.parts["task 0"]
    assert (split.inputs[:, 0] == START).all()
    keys = (split.inputs[:, 1:] - FIRST) // 4
    assert (keys.sort(1).values == torch.arange(3)).all()
    assert len(set(map(tuple, keys.tolist()))) == 6


def test_a_label_is_a_set_of_values_of_the_tasks_own_key(planted):
    accepted = {}
    for number in range(5):
        name = f"task {number}"
        split = planted.test.parts[name]
        value = values_of(split)[:, number % 3]
        label = split.targets[name]
        accepted[number] = {v for v in range(4) if label[value == v].all()}
        rejected = {v for v in range(4) if not label[value == v].any()}
        assert len(accepted[number]) == len(rejected) == 2
    assert len({frozenset(values) for values in accepted.values()}) > 1


def test_sizes_and_seeds_of_planted_tasks(planted):
    assert [len(planted.train.parts[f"task {t}"]) for t in range(5)] == list(SIZES)
    again = planted_lookups(keys=3, values=4, sizes=SIZES, held_out=200, seed=1)
    other = planted_lookups(keys=3, values=4, sizes=SIZES, held_out=200, seed=2)
    same = [
        torch.equal(planted.train.parts["task 4"].inputs, p.train.parts["task 4"].inputs)
        for p in (again, other)
    ]
    assert same == [True, False]


def smoke(tmp_path: Path, *arguments: str) -> run.Settings:
    out = str(tmp_path / "results.json")
    run.main(["--smoke", "--out", out, *arguments])
    return json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))


def test_it_runs_and_goes_on_where_it_stopped(tmp_path, capsys):
    first = smoke(tmp_path, "--methods", "shared", "PALs", "scaling")
    assert first["runs"] == 3
    assert not set(common.PLACES) & first["settings"].keys()
    assert (tmp_path / "figure.png").stat().st_size > 1000
    log = tmp_path / "runs.jsonl"
    lines = log.read_text(encoding="utf-8").splitlines(keepends=True)
    log.write_text("".join(lines[:-1]), encoding="utf-8")
    capsys.readouterr()
    second = smoke(tmp_path, "--methods", "shared", "PALs", "scaling")
    assert "2 of 3 runs" in capsys.readouterr().out
    for method, entry in first["summary"]["planted"].items():
        assert second["summary"]["planted"][method]["accuracy"] == entry["accuracy"]


def test_separate_networks_have_the_steps_of_the_joint_run():
    settings = run.Settings(families=("planted",), seeds=(3,), methods=(*run.METHODS, run.LONGER))
    by_method = {job.method: job for job in run.jobs_of(settings)}
    problem = run.problem_of(by_method["separate"], settings.data)
    planned = run.steps_per_task(by_method["separate"], problem)
    sampler = run.sampler_of(by_method["PALs"], problem)
    total = settings.planted_epochs * run.steps_per_epoch(by_method["PALs"], problem)
    drawn = [sampler.draw(problem) for _ in range(total)]
    assert planned == {task.name: drawn.count((task.name,)) for task in problem.tasks}
    longer = run.steps_per_task(by_method[run.LONGER], problem)
    assert longer == {name: 4 * steps for name, steps in planned.items()}


def test_the_methods_have_nearly_equally_many_parameters_inside():
    job = run.jobs_of(run.Settings(families=("planted",), seeds=(0,)))[0]
    inside = {}
    for name in ("PALs", "adapters", "low-rank"):
        layers = run.ADAPTATIONS[name].build(num_tasks=1, width=job.width, depth=2)
        inside[name] = sum(p.numel() for p in layers.parameters())
    assert max(inside.values()) <= 1.03 * min(inside.values())


def test_whole_seeds_come_first():
    jobs = run.jobs_of(run.Settings(methods=(*run.METHODS, run.LONGER)))
    assert [job.seed for job in jobs[: 2 * len(run.METHODS)]] == [0] * 2 * len(run.METHODS)
    assert {job.method for job in jobs[-6:]} == {run.LONGER}


def test_the_table_shows_the_recorded_numbers(root):
    folder = root / "experiments" / "universal" / "task_layers"
    page = (folder / "README.md").read_text(encoding="utf-8")
    assert "python -m experiments.universal.task_layers.run" in page
    assert "table.md" in page
    shown = (folder / "table.md").read_text(encoding="utf-8")
    results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    for entries in results["summary"].values():
        assert run.show(entries) in shown
