"""Where, how often and from how much of the batch gradients are taken: values and their errors."""

from __future__ import annotations

import dataclasses

import pytest

from polytask.balancers import MGDA, GradientOptions, GradNorm


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("scope", "head"),
        ("every", 0),
        ("samples", 0.0),
        ("samples", 1.5),
        ("samples", float("nan")),
        ("memory", 0),
    ],
)
def test_an_impossible_option_is_named(name, value):
    with pytest.raises(ValueError, match=f"`{name}` must"):
        GradientOptions(**{name: value})


def test_options_are_values_that_cannot_change():
    options = GradientOptions(scope="last", every=4)
    assert options == GradientOptions(every=4, scope="last")
    assert len({options, GradientOptions(scope="last", every=4), GradientOptions()}) == 2
    with pytest.raises(dataclasses.FrozenInstanceError):
        options.every = 2


def test_only_what_differs_from_the_defaults_is_shown():
    assert repr(MGDA()) == "MGDA()"
    assert repr(MGDA(gradients=GradientOptions(memory=8))) == (
        "MGDA(gradients=GradientOptions(memory=8))"
    )


def test_gradnorm_looks_at_the_last_shared_layer_unless_told_otherwise():
    assert GradNorm().scope == "last"
    assert GradNorm(gradients=GradientOptions(scope="trunk")).scope == "trunk"
