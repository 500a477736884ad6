"""Every architecture that makes itself for a problem: as a candidate, and saved and read again."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
import torch

from polytask import Problem, from_tables
from polytask.architectures import Architecture, LabelGraph, TaskAdapted
from polytask.candidates import architecture_by_name, candidate_by_name
from polytask.candidates.method import METHOD_FILE, Budget
from polytask.candidates.network import FittedNetwork, NetworkMethod
from polytask.checks.architectures import public_architectures
from polytask.tasks import Binary

MADE = [cls for cls in public_architectures() if "for_problem" in vars(cls)]
#: What takes tokens instead of numbers, and what needs tables with inputs of their own.
OTHERS = {TaskAdapted}


def tables() -> Problem:
    rng = np.random.default_rng(0)
    homes = pd.DataFrame({"size": rng.uniform(size=60), "town": rng.choice(["n", "s"], 60)})
    homes.loc[3, "size"] = np.nan
    homes["price"] = rng.normal(size=60)
    flowers = rng.normal(size=(50, 4))
    return from_tables({"homes": (homes, "price"), "flowers": (flowers, np.arange(50) % 3)})


def shared() -> Problem:
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(60, 4))
    labels = {name: (inputs[:, i] > 0).astype(int) for i, name in enumerate("abc")}
    return Problem.from_arrays(inputs, labels, dict.fromkeys(labels, Binary()))


def fits(cls: type[Architecture], problem: Problem) -> bool:
    """Whether it takes the problem; what does not must say why."""
    try:
        cls.for_problem(problem)
    except ValueError as error:
        assert str(error).endswith(".")
        return False
    return True


@pytest.mark.parametrize("cls", MADE, ids=lambda cls: cls.__name__)
def test_it_takes_tables_or_shared_inputs_or_says_why_not(cls):
    taken = [fits(cls, problem) for problem in (shared(), tables())]
    assert any(taken) or cls in OTHERS


@pytest.mark.parametrize("make", [shared, tables], ids=lambda make: make.__name__)
@pytest.mark.parametrize("cls", MADE, ids=lambda cls: cls.__name__)
def test_it_is_trained_scored_saved_and_read(cls, make, tmp_path):
    problem = make()
    if not fits(cls, problem):
        pytest.skip(f"{cls.__name__} does not take {make.__name__} inputs, and says so")
    method = NetworkMethod(architecture=cls.for_problem)
    fitted = method.fit(problem, seed=0, budget=Budget(epochs=2, patience=None))
    outputs = fitted.outputs(problem.test)
    for task in problem.tasks:
        rows = problem.test.parts[task.name]
        assert outputs[task.name].shape == (len(rows), task.kind.output_size)
        assert torch.isfinite(outputs[task.name]).all()
    fitted.save(tmp_path)
    record = json.loads((tmp_path / METHOD_FILE).read_text())
    again = FittedNetwork.load(tmp_path, record).outputs(problem.test)
    for name, output in outputs.items():
        torch.testing.assert_close(again[name], output)


def test_candidates_are_named_after_architectures():
    candidate = candidate_by_name("TravelingObserver")
    assert candidate.name == "model: traveling-observer"
    assert candidate_by_name("model: traveling-observer").name == candidate.name
    assert candidate.groups_of(["a", "b"]) == (("a", "b"),)
    assert isinstance(architecture_by_name("label-graph")(shared()), LabelGraph)
    with pytest.raises(ValueError, match=r"No architecture 'xyz'; choose from conditioned, deep"):
        architecture_by_name("xyz")
    with pytest.raises(ValueError, match="traveling-observer"):
        candidate_by_name("xyz")
