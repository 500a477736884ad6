"""The small transformer: its equations by hand, padding, positions, pooling, bad input."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional

from polytask.encoders.layered import attention_mask, pool
from polytask.encoders.transformer import (
    TokenInputs,
    Transformer,
    VectorInputs,
    attend,
    sinusoids,
)

TOKENS = TokenInputs(vocabulary=20, length=9)
VECTORS = VectorInputs(size=3, length=7)


def small(**changes) -> Transformer:
    return Transformer(**{"inputs": TOKENS, "width": 8, "depth": 2, "heads": 2, **changes}).eval()


def attention_by_hand(states, attention, heads, padding):
    """softmax(Q K^T / sqrt(d)) V of every head in a loop."""
    width = states.shape[-1]
    query, key, value = attention.query_key_value(states).split(width, dim=-1)
    size = width // heads
    read = []
    for head in range(heads):
        part = slice(head * size, (head + 1) * size)
        scores = query[..., part] @ key[..., part].mT / math.sqrt(size)
        scores = scores.masked_fill(padding[:, None, :], -torch.inf)
        read.append(scores.softmax(-1) @ value[..., part])
    return attention.output(torch.cat(read, dim=-1))


@pytest.mark.parametrize("norm", ["post", "pre"])
def test_features_are_those_of_the_equations(norm):
    encoder = small(norm=norm, pooling="mean").double()
    ids = torch.tensor([[3, 5, 0, 0], [7, 2, 9, 4]])
    padding = ids == 0
    embedding = encoder.embedding
    states = embedding.norm(embedding.content(ids) + embedding.places[:4])
    for layer in encoder.layers:
        before = layer.attention_norm(states) if norm == "pre" else states
        states = states + attention_by_hand(before, layer.attention, 2, padding)
        if norm == "post":
            states = layer.attention_norm(states)
        before = layer.feed_forward_norm(states) if norm == "pre" else states
        first, _, last = layer.feed_forward
        states = states + last(functional.gelu(first(before)))
        if norm == "post":
            states = layer.feed_forward_norm(states)
    states = encoder.final_norm(states)
    by_hand = torch.stack([states[0, :2].mean(0), states[1].mean(0)])
    torch.testing.assert_close(encoder(ids), by_hand)


@pytest.mark.parametrize("pooling", ["first", "mean"])
@pytest.mark.parametrize("positions", ["learned", "sinusoidal"])
def test_padding_changes_nothing(pooling, positions):
    inputs = TokenInputs(vocabulary=20, length=9, positions=positions, padding_id=0)
    encoder = small(inputs=inputs, pooling=pooling)
    short = torch.tensor([[3, 5, 7]])
    long = torch.tensor([[3, 5, 7, 0, 0, 0]])
    torch.testing.assert_close(encoder(short), encoder(long))


def test_a_row_of_padding_alone_is_a_number():
    features = small(pooling="mean")(torch.zeros(2, 4, dtype=torch.int64))
    assert features.isfinite().all()


@pytest.mark.parametrize("inputs", [TOKENS, VECTORS])
def test_the_order_of_positions_matters(inputs):
    rows = torch.tensor([[3, 5, 7]]) if inputs is TOKENS else torch.randn(1, 3, 3)
    encoder = small(inputs=inputs, pooling="mean")
    assert not torch.allclose(encoder(rows), encoder(rows.flip(1)), atol=1e-4)


def test_ids_may_come_as_numbers_of_a_table():
    encoder = small()
    ids = torch.tensor([[3, 5, 0], [1, 19, 2]])
    assert torch.equal(encoder(ids), encoder(ids.float()))


def test_sinusoids_are_those_of_the_paper():
    table = sinusoids(5, 6)
    for place in range(5):
        for pair in range(3):
            angle = place / 10_000 ** (2 * pair / 6)
            assert table[place, 2 * pair].item() == pytest.approx(math.sin(angle), abs=1e-6)
            assert table[place, 2 * pair + 1].item() == pytest.approx(math.cos(angle), abs=1e-6)


def test_attention_to_one_visible_position_reads_its_value():
    states = torch.randn(1, 4, 3 * 6)
    mask = attention_mask(torch.tensor([[True, True, False, True]]))
    read = attend(states, 3, mask)
    torch.testing.assert_close(read, states[:, 2:3, 12:].expand(1, 4, 6))


def test_mean_pooling_counts_positions_that_hold_something():
    states = torch.arange(12.0).reshape(2, 3, 2)
    padding = torch.tensor([[False, False, True], [True, True, True]])
    assert pool(states, padding, "mean").tolist() == [[1.0, 2.0], [0.0, 0.0]]
    assert torch.equal(pool(states, None, "mean"), states.mean(1))


def test_sites_are_the_layers_in_order():
    encoder = small(depth=3)
    assert [site.layer for site in encoder.layer_sites()] == list(encoder.layers)
    assert encoder.layer_sites()[1].attention_output is encoder.layers[1].attention_dropout


@pytest.mark.parametrize("norm", ["post", "pre"])
def test_last_module_with_parameters_belongs_to_the_last_layer(norm):
    encoder = small(norm=norm)
    last = list(encoder.named_parameters())[-1][0]
    assert last.startswith("layers.1.feed_forward")


def test_repr_evaluates_back():
    for encoder in (small(norm="pre", dropout=0.2), small(inputs=VECTORS, expansion=2)):
        rebuilt = eval(repr(encoder))
        assert repr(rebuilt) == repr(encoder) == repr(encoder.fresh())
        shapes = [[p.shape for p in module.parameters()] for module in (encoder, rebuilt)]
        assert shapes[0] == shapes[1]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: TokenInputs(vocabulary=0, length=3), "`vocabulary` must be at least 1"),
        (lambda: TokenInputs(vocabulary=5, length=3, padding_id=5), "`padding_id` must be an id"),
        (lambda: TokenInputs(vocabulary=5, length=3, positions="no"), "`positions` must be one of"),
        (lambda: VectorInputs(size=0, length=3), "`size` must be at least 1"),
        (lambda: VectorInputs(size=1, length=0), "`length` must be at least 1"),
        (lambda: small(heads=3), "`heads` must divide `width` 8, found 3"),
        (lambda: small(norm="middle"), "`norm` must be one of"),
        (lambda: small(pooling="max"), "`pooling` must be one of"),
        (lambda: small(dropout=1.0), r"`dropout` must lie in \[0, 1\)"),
        (lambda: small(depth=0), "`depth` must be at least 1"),
        (lambda: small()(torch.ones(2, 10)), "L from 1 to 9, found inputs of shape"),
        (lambda: small()(torch.ones(2, 0)), "L from 1 to 9"),
        (lambda: small()(torch.full((2, 3), 20)), r"ids must lie in 0 .. 19, found 20"),
        (lambda: small()(torch.full((2, 3), -1)), r"ids must lie in 0 .. 19, found -1"),
        (lambda: small()(torch.full((2, 3), torch.nan)), r"ids must lie in 0 .. 19, found nan"),
        (lambda: small(inputs=VECTORS)(torch.ones(2, 7, 4)), r"vectors \[B, L, 3\]"),
        (lambda: small(inputs=VECTORS)(torch.ones(2, 8, 3)), "L from 1 to 7"),
    ],
)
def test_bad_input_is_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()
