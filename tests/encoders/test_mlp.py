"""The multilayer perceptron."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from polytask.encoders import MLP


def test_is_the_composition_that_the_docstring_states():
    encoder = MLP(input_size=3, widths=(5, 4))
    first, second = (layer for layer in encoder.layers if isinstance(layer, nn.Linear))
    inputs = torch.randn(7, 3)
    by_hand = inputs @ first.weight.T + first.bias
    by_hand = by_hand.clamp_min(0) @ second.weight.T + second.bias
    torch.testing.assert_close(encoder(inputs), by_hand.clamp_min(0))


def test_images_are_flattened():
    encoder = MLP(input_size=12, widths=(4,))
    image = torch.randn(2, 3, 2, 2)
    torch.testing.assert_close(encoder(image), encoder(image.flatten(1)))


@pytest.mark.parametrize("norm", ["batch", "layer"])
def test_norms_centre_before_the_activation(norm):
    encoder = MLP(input_size=3, widths=(64,), norm=norm, activation="tanh").train()
    features = encoder(torch.randn(512, 3) + 100.0)
    assert features.mean().abs() < 0.1


def test_dropout_acts_in_training_only():
    encoder = MLP(input_size=3, widths=(64,), dropout=0.5)
    inputs = torch.randn(16, 3)
    assert (encoder.train()(inputs) == 0).float().mean() > 0.6
    assert torch.equal(encoder.eval()(inputs), encoder.eval()(inputs))


def test_fresh_has_the_same_form_and_other_values():
    encoder = MLP(input_size=3, widths=(4,), norm="layer")
    fresh = encoder.fresh()
    assert repr(fresh) == repr(encoder)
    assert not torch.equal(fresh.layers[0].weight, encoder.layers[0].weight)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"input_size": 0}, "`input_size` must be at least 1, found 0"),
        ({"input_size": 3, "widths": ()}, "`widths` must name at least one layer"),
        ({"input_size": 3, "widths": (4, -1)}, "`widths` must be at least 1, found -1"),
        ({"input_size": 3, "activation": "swish9"}, "`activation` must be one of"),
        ({"input_size": 3, "norm": "group"}, "`norm` must be one of"),
        ({"input_size": 3, "dropout": 1.0}, r"`dropout` must lie in \[0, 1\), found 1.0"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        MLP(**arguments)


def test_a_size_that_is_no_whole_number_is_a_type_error():
    with pytest.raises(TypeError, match=r"`input_size` must be a whole number, found 2\.5"):
        MLP(input_size=2.5)


def test_rows_of_another_length_are_refused():
    with pytest.raises(ValueError, match=r"rows of 3 values, found inputs of shape \[2, 4\]"):
        MLP(input_size=3)(torch.zeros(2, 4))
