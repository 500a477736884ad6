"""The tabular encoder: cells, members, and its bounds."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from polytask.encoders import NumericEmbedding, TabularEncoder
from polytask.encoders.tabular import (
    ROW_BUDGET,
    CategoricalCells,
    MemberLinear,
    NumericCells,
    dropout_mask,
)

BASES = ("piecewise", "periodic")


def small(**arguments) -> TabularEncoder:
    given = {"num_numeric": 2, "cardinalities": (3, 20), "members": 3, "width": 8, "dropout": 0.0}
    return TabularEncoder(**{**given, **arguments})


@pytest.mark.parametrize("basis", BASES)
@pytest.mark.parametrize(
    ("numeric", "cardinalities"), [(4, ()), (0, (2, 30)), (1, (1,)), (3, (9, 9))]
)
def test_any_mixture_of_columns(numeric, cardinalities, basis):
    encoder = TabularEncoder(
        num_numeric=numeric, cardinalities=cardinalities, embedding=NumericEmbedding(basis=basis)
    )
    inputs = torch.zeros(5, numeric + len(cardinalities))
    assert encoder(inputs).shape == (encoder.num_members, 5, encoder.output_size)


def test_one_member_has_no_member_axis():
    encoder = small(members=1)
    assert encoder(torch.zeros(5, 4)).shape == (5, 8)
    assert encoder.num_members == 1


def test_numeric_cells_piecewise_by_hand():
    settings = NumericEmbedding(size=3, functions=4, basis="piecewise")
    cells = NumericCells(2, settings, room=100)
    values = torch.tensor([[0.3, -2.0], [5.0, 0.0]])
    edges = torch.tensor([-2.5758, -0.6745, 0.0, 0.6745, 2.5758])
    embedded = cells(values).unflatten(1, (2, 3))
    for row in range(2):
        for column in range(2):
            value = values[row, column]
            pieces = ((value - edges[:-1]) / (edges[1:] - edges[:-1])).clamp(0, 1)
            mixed = (pieces @ cells.mix[column] + cells.shift[column]).clamp_min(0)
            by_hand = torch.cat([(value / (1 + (value / 3) ** 2).sqrt()).reshape(1), mixed])
            torch.testing.assert_close(embedded[row, column], by_hand, atol=1e-4, rtol=1e-4)


def test_numeric_cells_periodic_by_hand():
    cells = NumericCells(2, NumericEmbedding(size=3, functions=5, basis="periodic"), room=100)
    values = torch.tensor([[0.3, -2.0]])
    bent = values / (1 + (values / 3) ** 2).sqrt()
    embedded = cells(values).unflatten(1, (2, 3))
    for column in range(2):
        waves = torch.cos(cells.frequency[column] * bent[0, column] + cells.phase[column])
        by_hand = (waves @ cells.mix[column] + cells.shift[column]).clamp_min(0)
        torch.testing.assert_close(embedded[0, column, 1:], by_hand)


@pytest.mark.parametrize("basis", BASES)
def test_a_missing_cell_is_a_learned_vector(basis):
    encoder = small(embedding=NumericEmbedding(basis=basis))
    inputs = torch.tensor([[float("nan"), 0.5, 1.0, 4.0]])
    features = encoder(inputs)
    assert torch.isfinite(features).all()
    features.sum().backward()
    gradients = {name: p.grad for name, p in encoder.named_parameters()}
    assert all(torch.isfinite(g).all() for g in gradients.values() if g is not None)
    assert gradients["numeric.missing"][0].abs().sum() > 0
    assert gradients["numeric.missing"][1].abs().sum() == 0


@pytest.mark.parametrize("basis", BASES)
def test_extreme_cells_stay_bounded(basis):
    cells = NumericCells(1, NumericEmbedding(basis=basis), room=100)
    outlier, larger = cells(torch.tensor([[1e6]])), cells(torch.tensor([[1e30]]))
    assert torch.isfinite(larger).all()
    assert outlier[0, 0].item() == pytest.approx(3.0, rel=1e-5)
    torch.testing.assert_close(outlier, larger, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("code", [3.0, 4.0, 1000.0, -1.0, float("nan")])
def test_every_unknown_code_of_a_small_column_is_no_category(code):
    cells = CategoricalCells((3,), room=100)
    assert cells(torch.tensor([[code]])).tolist() == [[0.0, 0.0, 0.0]]
    assert cells(torch.tensor([[1.0]])).tolist() == [[0.0, 1.0, 0.0]]


@pytest.mark.parametrize("code", [20.0, 21.0, -5.0, float("nan")])
def test_every_unknown_code_of_a_large_column_is_one_trainable_vector(code):
    cells = CategoricalCells((30, 20), room=100)
    rows = cells(torch.tensor([[0.0, code], [29.0, 19.0]])).unflatten(1, (2, -1))
    torch.testing.assert_close(rows[0, 0], cells.vectors[0])
    torch.testing.assert_close(rows[0, 1], cells.vectors[31 + 20])
    torch.testing.assert_close(rows[1, 0], cells.vectors[29])
    torch.testing.assert_close(rows[1, 1], cells.vectors[31 + 19])
    assert cells.vectors[31 + 20].abs().sum() == 0
    rows[0, 1].sum().backward()
    assert cells.vectors.grad[31 + 20].abs().sum() > 0


def test_small_and_large_columns_in_any_order():
    cells = CategoricalCells((40, 2, 3), room=100)
    row = cells(torch.tensor([[7.0, 1.0, 2.0]]))[0]
    assert row[:5].tolist() == [0.0, 1.0, 0.0, 0.0, 1.0]
    torch.testing.assert_close(row[5:], cells.vectors[7])


@pytest.mark.parametrize("adapters", ["", "before", "after", "before after"])
def test_members_share_the_matrix_and_have_their_own_scales(adapters):
    layer = MemberLinear(4, 5, 3, adapters=adapters)
    rows = torch.randn(7, 4)
    found = layer(rows)
    assert sum(p.dim() == 2 and p.shape == (5, 4) for p in layer.parameters()) == 1
    for m in range(3):
        before = 1 if layer.before is None else layer.before[m]
        after = 1 if layer.after is None else layer.after[m]
        by_hand = after * ((before * rows) @ layer.weight.T) + layer.bias[m]
        torch.testing.assert_close(found[m], by_hand)


def test_members_start_different():
    features = small()(torch.randn(6, 4))
    assert all((features[a] - features[b]).abs().max() > 0.01 for a, b in [(0, 1), (1, 2), (0, 2)])


def test_wide_tables_stay_within_the_budget():
    encoder = TabularEncoder(num_numeric=1500, cardinalities=(2,) * 250 + (100,) * 250)
    row_size = encoder.layers[0].weight.shape[1]
    assert row_size <= ROW_BUDGET
    inputs = torch.cat([torch.randn(4, 1500), torch.randint(0, 2, (4, 500)).float()], dim=1)
    encoder(inputs).sum().backward()
    largest = TabularEncoder(num_numeric=5000)
    assert largest.layers[0].weight.shape[1] == 5000


def test_dropout_acts_in_training_only():
    encoder = small(dropout=0.5)
    inputs = torch.randn(6, 4)
    assert not torch.equal(encoder.train()(inputs), encoder.train()(inputs))
    assert torch.equal(encoder.eval()(inputs), encoder.eval()(inputs))


@pytest.mark.parametrize("probability", [0.0001, 0.1, 0.5, 0.99])
def test_dropout_mask_has_the_stated_probability_and_mean_one(probability):
    mask = dropout_mask(torch.zeros(1003, 997), probability)
    assert len(mask.unique()) == 2
    dropped = (mask == 0).double().mean().item()
    spread = (probability * (1 - probability) / mask.numel()) ** 0.5
    assert abs(dropped - probability) < 5 * spread + 2**-17
    assert mask.max().item() == pytest.approx(1 / (1 - probability), rel=2e-3)


def test_dropout_mask_is_independent_between_neighbours():
    mask = (dropout_mask(torch.zeros(4, 250_000), 0.5) > 0).double() - 0.5
    for distance in (1, 2, 3, 4, 8):
        product = 4 * (mask[:, distance:] * mask[:, :-distance]).mean()
        assert abs(product) < 5e-3


def test_dropout_mask_follows_the_seed():
    masks = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        masks.append(dropout_mask(torch.zeros(3, 333), 0.5))
    assert torch.equal(masks[0], masks[1])
    assert not torch.equal(masks[0], masks[2])


def test_fits_a_function_that_a_linear_model_cannot():
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(128, 1, generator=generator)
    codes = torch.randint(0, 2, (128, 1), generator=generator).float()
    target = torch.where(codes == 1, (3 * values).sin(), -(3 * values).sin())
    encoder = TabularEncoder(num_numeric=1, cardinalities=(2,), members=2, width=16, depth=2)
    head = nn.Linear(16, 1)
    optimizer = torch.optim.AdamW([*encoder.parameters(), *head.parameters()], lr=1e-2)
    for _ in range(150):
        loss = (head(encoder(torch.cat([values, codes], dim=1))) - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.2 * target.var().item()


def test_state_holds_what_is_learned_and_nothing_else():
    encoder = small()
    assert set(encoder.state_dict()) == {name for name, _ in encoder.named_parameters()}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_numeric": 0, "cardinalities": ()}, "at least one column"),
        ({"num_numeric": -1}, "at least one column"),
        ({"cardinalities": (3, 0)}, "`cardinalities` must be at least 1, found 0"),
        ({"members": 0}, "`members` must be at least 1, found 0"),
        ({"depth": 0}, "`depth` must be at least 1, found 0"),
        ({"dropout": 1.5}, "`dropout` must lie in"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        small(**arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"size": 0}, "`size` must be at least 1, found 0"),
        ({"functions": 0}, "`functions` must be at least 1, found 0"),
        ({"scale": 0.0}, "`scale` of a NumericEmbedding must be > 0"),
        ({"basis": "spline"}, "`basis` of a NumericEmbedding must be one of"),
    ],
)
def test_bad_embeddings_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        NumericEmbedding(**arguments)


def test_another_table_is_refused():
    with pytest.raises(ValueError, match=r"2 numeric and 2 categorical columns, .*\[5, 3\]"):
        small()(torch.zeros(5, 3))
