"""The self-normalising network."""

from __future__ import annotations

import pytest
import torch

from polytask.encoders.snn import SNN


def test_is_the_composition_that_the_docstring_states():
    encoder = SNN(input_size=3, widths=(4,)).double()
    inputs = torch.randn(50, 3, dtype=torch.float64)
    values = inputs @ encoder.layers[0].weight.T + encoder.layers[0].bias
    negative = 1.7580993408473766 * (values.exp() - 1)  # scale * alpha of the paper
    expected = torch.where(values > 0, 1.0507009873554805 * values, negative)
    torch.testing.assert_close(encoder(inputs), expected)


@pytest.mark.parametrize("dropout", [0.0, 0.05])
def test_twenty_layers_keep_mean_0_and_variance_1(dropout):
    torch.manual_seed(0)
    encoder = SNN(input_size=64, widths=(512,) * 20, dropout=dropout).train()
    with torch.no_grad():
        features = encoder(torch.randn(256, 64))
    assert abs(float(features.mean())) < 0.15
    assert 0.8 < float(features.var()) < 1.25


def test_weights_have_variance_1_over_inputs_and_biases_are_0():
    torch.manual_seed(0)
    first = SNN(input_size=400, widths=(300,)).requires_grad_(False).layers[0]
    assert float(first.weight.var()) * 400 == pytest.approx(1.0, rel=0.02)
    assert not bool(first.bias.any())


def test_dropout_acts_in_training_only():
    encoder = SNN(input_size=3, widths=(64,), dropout=0.5)
    inputs = torch.randn(16, 3)
    assert not torch.equal(encoder.train()(inputs), encoder(inputs))
    assert torch.equal(encoder.eval()(inputs), encoder(inputs))


def test_repr_rebuilds():
    encoder = SNN(input_size=3, widths=(5, 4), dropout=0.05)
    assert repr(eval(repr(encoder), {"SNN": SNN})) == repr(encoder)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"input_size": 0}, "`input_size` must be at least 1, found 0"),
        ({"input_size": 3, "widths": ()}, "`widths` must name at least one layer"),
        ({"input_size": 3, "widths": (4, 0)}, "`widths` must be at least 1, found 0"),
        ({"input_size": 3, "dropout": 1.0}, r"`dropout` must lie in \[0, 1\), found 1.0"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        SNN(**arguments)


def test_rows_of_another_length_are_named():
    with pytest.raises(ValueError, match=r"rows of 3 values, found inputs of shape \[2, 4\]"):
        SNN(input_size=3)(torch.zeros(2, 4))
