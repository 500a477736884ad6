"""The four kinds of variable embeddings."""

from __future__ import annotations

import pytest
import torch

from polytask.architectures.variables.variable_embeddings import VariableEmbeddings, embedding_table


def test_learned_embeddings_are_small_and_trained():
    table = VariableEmbeddings.learned(500, 4)
    assert [p.shape for p in table.parameters()] == [(500, 4)]
    assert table.weight.std().item() == pytest.approx(1e-3, rel=0.1)


def test_none_is_zero_and_fixed():
    table = VariableEmbeddings.none(3, 2)
    assert not table.weight.any()
    assert not list(table.parameters())


def test_random_is_drawn_and_fixed_but_saved():
    table = VariableEmbeddings.random(400, 4, std=1.0)
    assert not list(table.parameters())
    assert table.weight.std().item() == pytest.approx(1.0, rel=0.1)
    other = VariableEmbeddings.random(400, 4, std=1.0)
    assert not torch.equal(other.weight, table.weight)
    other.load_state_dict(table.state_dict())
    assert torch.equal(other.weight, table.weight)


@pytest.mark.parametrize("trainable", [False, True])
def test_oracle_is_what_is_given(trainable):
    places = [[-1.0, 0.5], [0.0, 0.25], [1.0, 0.0]]
    table = VariableEmbeddings.oracle(torch.tensor(places), trainable=trainable)
    assert table.weight.tolist() == places
    assert len(list(table.parameters())) == trainable
    assert eval(repr(table)).weight.tolist() == places


def test_lookup_by_number_and_by_slice():
    table = VariableEmbeddings.oracle([[0.0], [1.0], [2.0]])
    assert table(torch.tensor([2, 0, 2])).flatten().tolist() == [2.0, 0.0, 2.0]
    assert table(slice(1, 3)).flatten().tolist() == [1.0, 2.0]
    assert table() is table.weight


def test_an_architecture_makes_a_learned_table_or_takes_one():
    table = embedding_table(3, 5)
    assert (table.num_variables, table.size, table.trainable) == (5, 3, True)
    assert embedding_table(table, 5) is table


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: VariableEmbeddings.learned(0, 2), "`num_variables` must be at least 1, found 0"),
        (lambda: VariableEmbeddings.learned(2, 0), "`size` must be at least 1, found 0"),
        (lambda: VariableEmbeddings.random(2, 2, std=-1), "`std` must be >= 0, found -1"),
        (lambda: VariableEmbeddings.oracle(torch.zeros(3)), r"\[V, C\], found shape \(3,\)"),
        (
            lambda: VariableEmbeddings.oracle([[float("nan")]]),
            "`values` must be 1 x 1 finite numbers",
        ),
        (
            lambda: VariableEmbeddings(num_variables=2, size=2, values=[[0.0, 1.0]]),
            r"2 x 2 finite numbers, found a table of shape \(1, 2\)",
        ),
        (
            lambda: embedding_table(VariableEmbeddings.none(4, 2), 5),
            "`embeddings` has 4 variables, but the model has 5",
        ),
    ],
)
def test_bad_tables_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()
