"""What counts as a function that a step enters, on a package of a few lines."""

from __future__ import annotations

import importlib.util
import sys

import pytest

from tools import count_frames

PACKAGE = {
    "step.py": """
import solver


def step():
    return [halve(x) for x in (1, 2)] + [solver.solve()]


def halve(x):
    return x / 2
""",
    "solvers/solver.py": """
def solve():
    x = 1.0
    while x > 0.1:
        x = improve(x)
    return x


def improve(x):
    return third(x)


def third(x):
    return x / 3
""",
}


@pytest.fixture
def package(tmp_path, monkeypatch):
    for name, text in PACKAGE.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path / "solvers"))
    spec = importlib.util.spec_from_file_location("step", tmp_path / "step.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module, tmp_path
    sys.modules.pop("solver", None)


def test_comprehensions_and_a_solvers_repetitions_do_not_count(package):
    module, root = package
    whole = count_frames.record(module.step, root)
    (step,) = whole.inner
    assert [call.name for call in step.inner] == ["halve", "halve", "solve"]
    assert (whole.frames - 1, whole.depth - 1) == (6, 4)
    assert [line.split() for line in step.lines()][-1] == ["4", "solvers/solver:", "third"]


def test_a_step_of_the_trainer_is_counted_from_its_entry():
    (step,) = count_frames.count("Equal").inner
    assert step.name == "Trainer.train_step"
    assert any("Equal.weights" in line for line in step.lines())
