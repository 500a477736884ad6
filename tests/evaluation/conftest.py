"""A small comparison that was really trained."""

from __future__ import annotations

import numpy as np
import pytest

from polytask.candidates import Budget
from polytask.evaluation import Comparison, compare
from polytask.problems import Problem
from polytask.tasks import Binary, Regression


@pytest.fixture(scope="session")
def trained(tmp_path_factory) -> Comparison:
    """Two tasks, two seeds, single-task networks against one shared network with moving weights."""
    draw = np.random.default_rng(0)
    inputs = draw.normal(size=(80, 4)).astype(np.float32)
    signal = inputs @ np.array([1.0, -1.0, 0.5, 0.0])
    problem = Problem.from_arrays(
        inputs,
        {
            "price & co": signal + draw.normal(size=80),
            "<script>alert(1)</script>": np.where(signal + draw.normal(size=80) > 0, "yes", "no"),
        },
        {"price & co": Regression(), "<script>alert(1)</script>": Binary(("no", "yes"))},
        name="small & real",
    )
    return compare(
        problem,
        candidates=["single-task", "uncertainty"],
        seeds=2,
        budget=Budget(epochs=3),
        out=tmp_path_factory.mktemp("runs") / "small",
        workers=0,
        command="polytask compare --data 'a b.csv'",
    )
