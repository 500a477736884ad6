"""Objects that describe themselves."""

from __future__ import annotations

import numpy as np

from polytask.balancers import CAGrad
from polytask.config import config, rebuildable_repr
from polytask.samplers import ProportionalSampler
from polytask.training import TrainingSettings


def test_repr_names_what_differs_from_the_defaults_and_evaluates_back():
    sampler = ProportionalSampler(exponent=0.5)
    assert rebuildable_repr(sampler) == "ProportionalSampler(exponent=0.5)"
    assert eval(repr(sampler)).exponent == 0.5
    assert repr(ProportionalSampler()) == "ProportionalSampler()"


def test_config_gives_plain_values():
    record = config({"a": (1, 2.5), "b": {3, 1}, "c": np.arange(2), "d": None, 4: config})
    assert record == {
        "a": [1, 2.5],
        "b": [1, 3],
        "c": [0, 1],
        "d": None,
        "4": "polytask.config.config",
    }


def test_describe_tells_configurations_apart():
    assert config(CAGrad(c=0.4))["c"] == 0.4
    assert config(CAGrad(c=0.4)) != config(CAGrad(c=0.5))
    assert config(TrainingSettings())["type"] == "TrainingSettings"
    assert config(TrainingSettings(epochs=3)) != config(TrainingSettings())
