"""The deep residual baseline: linear by hand, tables together, and the table of embeddings that it
shares.
"""

from __future__ import annotations

import pytest
import torch

from polytask.architectures.variables.deep_residual import DeepResidual
from polytask.architectures.variables.variable_embeddings import VariableEmbeddings
from polytask.checks import architectures as checks
from polytask.problems.table_batch import TableShape
from polytask.tasks import Binary, Multiclass, Regression, Task

TASKS = (Task("price", Regression()), Task("kind", Multiclass(3)), Task("sold", Binary()))
TABLES = {"price": 3, "kind": TableShape(1, (2,)), "sold": 2}


def awake(model):
    """The model with a core that is not the identity."""
    with torch.no_grad():
        for parameter in model.core.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.5)
    return model.double()


def test_it_starts_as_the_product_of_two_linear_maps():
    model = DeepResidual(tasks=TASKS, columns=4, hidden=6).double()
    x, z = torch.randn(5, 4).double(), model.table.weight
    expected = x @ z[:4] @ z[4:].T
    found = torch.cat(list(model(x).values()), dim=1)
    torch.testing.assert_close(found, expected)


def test_tables_together_equal_one_table_at_a_time():
    model = awake(DeepResidual(tasks=TASKS, columns=TABLES, hidden=6))
    z = model.table.weight
    inputs = {
        "price": torch.randn(4, 3).double(),
        "kind": torch.tensor([[0.5, 2.0], [torch.nan, 0.0]]).double(),
        "sold": torch.randn(3, 2).double(),
    }
    one_hot = torch.tensor([[0.5, 0, 0, 1.0], [0, 1.0, 0, 0]]).double()
    # Variables: price 0-2 and output 3; kind number 4, codes 5-7, classes 8-10; sold 11-12, 13.
    expected = {
        "price": model.core(inputs["price"] @ z[0:3]) @ z[3:4].T,
        "kind": model.core(one_hot @ z[4:8]) @ z[8:11].T,
        "sold": model.core(inputs["sold"] @ z[11:13]) @ z[13:14].T,
    }
    found = model(inputs)
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value)
    own = torch.autograd.grad(
        sum(v.square().sum() for v in found.values()), list(model.parameters())
    )
    other = torch.autograd.grad(
        sum(v.square().sum() for v in expected.values()), list(model.parameters())
    )
    for one, two in zip(own, other, strict=True):
        torch.testing.assert_close(one, two)


def test_shared_categories_are_those_of_a_table():
    task, shape = TASKS[1], TABLES["kind"]
    own = awake(DeepResidual(tasks=[task], columns={"kind": shape}, hidden=6))
    common = DeepResidual(tasks=[task], columns=shape, hidden=6).double()
    common.load_state_dict(own.state_dict())
    rows = torch.tensor([[0.5, 2.0], [torch.nan, 0.0]]).double()
    torch.testing.assert_close(common(rows)["kind"], own({"kind": rows})["kind"])


def test_linear_layers_have_their_usual_scale():
    model = DeepResidual(tasks=TASKS, columns={"price": 400, "kind": 25, "sold": 1}, hidden=256)
    z = model.table.weight
    assert z[:400].std().item() == pytest.approx(1 / 20, rel=0.1)
    assert z[401:426].std().item() == pytest.approx(1 / 5, rel=0.1)
    assert z[426:429].std().item() == pytest.approx(1 / 16, rel=0.1)
    x = torch.randn(1000, 400)
    assert (x @ z[:400]).std().item() == pytest.approx(1.0, rel=0.1)


def test_a_table_can_be_given():
    table = VariableEmbeddings.learned(8, 6)
    model = DeepResidual(tasks=TASKS, columns=3, hidden=6, embeddings=table)
    assert model.table is table
    assert model.embeddings is table
    small = DeepResidual(tasks=TASKS, columns=3, hidden=6, embeddings=6)
    assert small.embeddings == 6
    assert small.table.std == 1e-3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"columns": 3, "embeddings": 2},
            "`hidden` = 128 units, found embeddings of size 2; give both the same size",
        ),
        (
            {"columns": 3, "embeddings": VariableEmbeddings.learned(8, 2), "hidden": 4},
            "`hidden` = 4 units, found embeddings of size 2",
        ),
        ({"columns": 3, "embeddings": VariableEmbeddings.none(7, 128)}, "has 7 variables"),
        ({"columns": 0}, "`columns` must be at least 1, found 0"),
        ({"columns": 3, "layers": 0}, "`layers` must be at least 1, found 0"),
    ],
)
def test_bad_arguments_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        DeepResidual(tasks=TASKS, **options)


def shared_inputs(tasks):
    return DeepResidual(tasks=tasks, columns=5, hidden=8, dropout=0.1), torch.randn(6, 5)


@pytest.mark.parametrize("check", checks.CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("example", [DeepResidual.example, shared_inputs], ids=["tables", "shared"])
def test_conformance(example, check):
    check(example)
