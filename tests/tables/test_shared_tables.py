"""Real tables from the shared data become problems; skipped where the data are absent."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from tests.data_shared import adult_table, mulan_table, parkinsons_path, uci_problem, wine_table

from polytask.datasets import load_source
from polytask.problems import SplitPlan
from polytask.tables import TableSource, TablesSource, read_table

PARTS = ("train", "validation", "test")


@pytest.fixture(scope="module")
def data(shared):
    folder = shared / "data"
    if not folder.is_dir():
        pytest.skip("needs the shared data: no folder ../shared/data beside the checkout")
    return folder


def test_adult_with_its_official_test_rows(data, tmp_path):
    frame = adult_table(data)
    source = TableSource(
        frame,
        ["income:binary", "marital-status:multiclass", "hours-per-week:regression"],
        name="adult",
        drop=["fnlwgt", "relationship"],
        split=SplitPlan(column="part"),
    )
    problem = source.problem(0)
    assert len(problem.test) == 16281
    assert len(problem.train) + len(problem.validation) == 32561
    types = {row["column"]: row["type"] for row in source.schema()}
    assert types["age"] == "numeric"
    assert types["workclass"] == types["native-country"] == "categorical"
    cardinality = dict(zip(problem.table.text_columns, problem.table.cardinalities, strict=True))
    # 41 countries; Holand-Netherlands has one row and shares the code of unseen ones.
    assert cardinality["native-country"] in (40, 41)
    assert cardinality["sex"] == 2
    inputs = torch.cat([getattr(problem, part).inputs for part in PARTS])
    assert torch.isfinite(inputs).all()
    shares = [
        float((getattr(problem, part).targets["income"] == 1).float().mean()) for part in PARTS
    ]
    assert abs(shares[0] - shares[1]) < 0.002
    source.save(tmp_path)
    assert load_source(tmp_path).problem(0).fingerprint() == problem.fingerprint()


def test_red_and_white_wine_as_two_tables(data):
    tables = {c: (wine_table(data, c), "quality:regression") for c in ("red", "white")}
    problem = TablesSource(tables).problem(0)
    assert problem.layout == "separate"
    rows = {
        name: sum(len(getattr(problem, part).parts[name]) for part in PARTS)
        for name in ("red", "white")
    }
    assert rows == {"red": 1599, "white": 4898}
    assert problem.task("red").kind.mean == pytest.approx(5.636, abs=0.03)


def test_parkinsons_patients_never_cross(data):
    frame = read_table(parkinsons_path(data))
    assert frame.shape == (5875, 22)
    targets = ["motor_UPDRS:regression", "total_UPDRS:regression"]
    source = TableSource(frame, targets, split=SplitPlan(by="subject#"))
    patients = [set(frame["subject#"].iloc[rows]) for rows in source.rows(0).values()]
    assert sum(map(len, patients)) == 42
    assert len(set.union(*patients)) == 42
    problem = source.problem(0)
    assert problem.train.inputs.shape[1] == 19
    assert "subject#" not in problem.table.feature_names


@pytest.mark.parametrize("name", ["enb", "sf1", "scpf"])
def test_multi_target_sets(data, name):
    frame, targets = mulan_table(data, name)
    problem = TableSource(frame, [f"{t}:regression" for t in targets], name=name).problem(0)
    assert [task.name for task in problem.tasks] == targets
    assert problem.table.num_numeric + len(problem.table.cardinalities) > 0
    missing = frame.drop(columns=targets).isna().any().any()
    inputs = torch.cat([getattr(problem, part).inputs for part in PARTS])
    numeric = inputs[:, : problem.table.num_numeric]
    assert bool(numeric.isnan().any()) <= bool(missing)


def test_a_published_split_is_kept(data):
    problem = uci_problem(data, "iris")
    counts = [len(getattr(problem, part)) for part in PARTS]
    assert sum(counts) == 150
    assert pd.Series(problem.train.targets["iris"].numpy()).nunique() == 3
    assert np.isfinite(problem.test.inputs.numpy()).all()
