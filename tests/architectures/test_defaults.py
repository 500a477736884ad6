"""Which architecture a problem gets when nothing is said."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from polytask.architectures import CrossDomain, HardSharing, default_architecture
from polytask.encoders import MLP, SmallCNN, TabularEncoder
from polytask.problems import Problem
from polytask.problems.table_info import TableInfo
from polytask.tables import fit_table, transform_table
from polytask.tasks import Binary, Regression


def shared_problem(inputs: np.ndarray, table: TableInfo | None = None) -> Problem:
    rows = len(inputs)
    targets = {"a": np.arange(rows) % 2, "r": np.linspace(0, 1, rows)}
    kinds = {"a": Binary(), "r": Regression()}
    problem = Problem.from_arrays(np.nan_to_num(inputs), targets, kinds)
    problem.table = table
    return problem


def example_frame() -> pd.DataFrame:
    generator = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "x": generator.normal(size=60),
            "y": generator.normal(size=60),
            "city": ["a", "b", "c"] * 20,
        }
    )


def test_vectors_get_a_perceptron():
    model = default_architecture(shared_problem(np.random.default_rng(0).normal(size=(60, 7))))
    assert isinstance(model, HardSharing)
    assert isinstance(model.encoder, MLP)
    assert model.encoder.input_size == 7


def test_images_get_the_small_network_unless_they_are_too_small_for_it():
    pixels = np.random.default_rng(0).normal(size=(60, 2, 8, 9))
    model = default_architecture(shared_problem(pixels))
    assert isinstance(model.encoder, SmallCNN)
    assert model.encoder.input_shape == (2, 8, 9)
    model = default_architecture(shared_problem(pixels[:, :, :5]))
    assert isinstance(model.encoder, MLP)
    assert model(torch.zeros(4, 2, 5, 9))["a"].shape == (4, 1)


def test_tables_get_the_tabular_encoder():
    frame = example_frame()
    table = fit_table(frame)
    inputs = transform_table(table, frame)
    model = default_architecture(shared_problem(inputs.numpy(), table), members=2)
    assert isinstance(model.encoder, TabularEncoder)
    assert (model.encoder.num_numeric, model.encoder.cardinalities) == (2, (3,))
    assert model.encoder.num_members == 2
    assert model.eval()(inputs)["r"].shape == (60, 1)


def test_one_task_gives_a_single_task_network():
    problem = shared_problem(np.random.default_rng(0).normal(size=(60, 7))).select_tasks(["r"])
    model = default_architecture(problem, head="mlp")
    assert list(model(torch.zeros(2, 7))) == ["r"]


@pytest.mark.parametrize("tables", [("a", "b"), ("a",), ()])
def test_separate_inputs_get_a_shared_core(tables):
    frame = example_frame()
    table = fit_table(frame)
    generator = np.random.default_rng(0)
    inputs = {name: generator.normal(size=(50, 3 + i)) for i, name in enumerate("ab")}
    inputs.update({name: transform_table(table, frame).numpy() for name in tables})
    data = {name: (rows, np.arange(len(rows)) % 2) for name, rows in inputs.items()}
    problem = Problem.from_separate(data, dict.fromkeys("ab", Binary()))
    problem.tables = dict.fromkeys(tables, table)
    model = default_architecture(problem)
    assert isinstance(model, CrossDomain)
    for name, encoder in model.encoders.items():
        assert isinstance(encoder, TabularEncoder if name in tables else MLP)
    batch = problem.train.batch({name: torch.arange(5) for name in "ab"})
    outputs = model.train()(batch.inputs)
    assert outputs.members == (TabularEncoder(num_numeric=1).num_members if len(tables) == 2 else 1)
    assert model.eval()(batch.inputs)["b"].shape == (5, 1)
