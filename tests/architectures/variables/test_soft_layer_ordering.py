"""Soft layer ordering: the reference's values and gradients, orders by hand, both layouts."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional

from polytask.architectures.variables import soft_layer_ordering, variable_embeddings
from polytask.architectures.variables.soft_layer_ordering import (
    SoftLayerOrdering,
    SoftLayers,
    permuted_orders,
    same_orders,
)
from polytask.architectures.variables.variable_embeddings import VariableEmbeddings
from polytask.checks import architectures as checks
from polytask.problems import Problem, table_batch
from polytask.problems.table_batch import TableBatch, TableShape
from polytask.tasks import Binary, Multiclass, Regression, Task
from polytask.training import Trainer, TrainingSettings

TASKS = (
    Task("price", Regression()),
    Task("species", Multiclass(4)),
    Task("level", Multiclass(2)),
    Task("sold", Binary()),
)
WIDTHS = {"price": 3, "species": 5, "level": 2, "sold": TableShape(1, (2,))}


# --- conformance ---------------------------------------------------------------------------------


def shared_inputs(tasks):
    return SoftLayerOrdering(tasks=tasks, columns=5, hidden=8, depth=2), torch.randn(6, 5)


def permuted_tables(tasks):
    model, inputs = SoftLayerOrdering.example(tasks)
    orders = permuted_orders(len(tasks), 3)
    return (
        SoftLayerOrdering(tasks=tasks, columns=model.columns, hidden=8, orders=orders),
        inputs,
    )


def same_order_shared_table(tasks):
    model, inputs = SoftLayerOrdering.example(tasks)
    orders = same_orders(len(tasks), 3)
    changed = SoftLayerOrdering(
        tasks=tasks, columns=model.columns, embeddings=8, hidden=8, orders=orders
    )
    # At the small start of such a table every unit of the last layer may be off.
    torch.nn.init.normal_(changed.table.weight)
    return changed, inputs


@pytest.mark.parametrize("check", checks.CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize(
    "example",
    [SoftLayerOrdering.example, shared_inputs, permuted_tables, same_order_shared_table],
    ids=["tables", "shared", "permuted", "same"],
)
def test_conformance(example, check):
    check(example)


# --- the reference -------------------------------------------------------------------------------


def reference_cases(shared):
    index = json.loads((shared / "fixtures" / "index.json").read_text())
    cases = [c for c in index["cases"] if c["method"] == "soft_layer_ordering"]
    assert len(cases) == 3
    for case in cases:
        with np.load(shared / "fixtures" / case["file"], allow_pickle=False) as arrays:
            given = {k: torch.from_numpy(arrays[e["key"]]) for k, e in case["inputs"].items()}
            expected = {
                name: (torch.from_numpy(arrays[entry["key"]]), entry["rtol"], entry["atol"])
                for name, entry in case["outputs"].items()
            }
        yield case["params"]["task"], given, expected


def of_reference(given, task):
    """Our model with the reference's parameters, for the reference's number of tasks."""
    num_tasks, depth, _ = given["p.scalars"].shape
    hidden, width = given["Ein"].shape
    outputs = given["Eout"].shape[1]
    names = [f"t{t}" for t in range(num_tasks)]
    model = SoftLayerOrdering(
        tasks=[Task(name, Regression(size=outputs)) for name in names],
        columns=width,
        hidden=hidden,
        depth=depth,
    ).double()
    variables = model.variables
    with torch.no_grad():
        model.layers.scores.copy_(given["p.scalars"])
        for layer in range(depth):
            model.layers.weight[layer] = given[f"p.core_layers.{layer}.weight"]
            model.layers.bias[layer] = given[f"p.core_layers.{layer}.bias"]
        own = model.table.weight[variables.variables_of(names[task])]
        own.copy_(torch.cat([given["Ein"].T, given["Eout"].T]))
    return model, names[task]


@pytest.mark.parametrize("layout", ["shared", "separate"])
def test_values_and_gradients_are_those_of_the_reference(shared, layout):
    for task, given, expected in reference_cases(shared):
        model, name = of_reference(given, task)
        x = given["x"].requires_grad_()
        found = model(x if layout == "shared" else {name: x})[name]
        (found.square().sum() / 2).backward()
        width = x.shape[1]
        own = model.table.weight.grad[model.variables.variables_of(name)]
        results = {
            "out": found,
            "g.x": x.grad,
            "g.Ein": own[:width].T,
            "g.Eout": own[width:].T,
            "gp.scalars": model.layers.scores.grad,
        }
        for layer in range(model.depth):
            results[f"gp.core_layers.{layer}.weight"] = model.layers.weight.grad[layer]
            results[f"gp.core_layers.{layer}.bias"] = model.layers.bias.grad[layer]
        assert results.keys() == expected.keys()
        for key, (value, rtol, atol) in expected.items():
            torch.testing.assert_close(results[key], value, rtol=rtol, atol=atol)


# --- batched against one task after the other ----------------------------------------------------


def tables(rows=5):
    inputs = {
        "price": torch.randn(rows, 3),
        "species": torch.randn(rows, 5),
        "level": torch.randn(rows, 2),
        "sold": torch.stack([torch.randn(rows), torch.arange(rows) % 3.0], dim=1),
    }
    inputs["species"][1, 2] = torch.nan
    return {name: table.double() for name, table in inputs.items()}


def by_hand(model, name, rows):
    """One task, row by row, as the paper has it."""
    place = [task.name for task in model.tasks].index(name)
    shape = model.variables.tables[name]
    z = model.table.weight[model.variables.variables_of(name)]
    outputs = model.tasks[place].kind.output_size
    start = sum(task.kind.output_size for task in model.tasks[:place])
    answers = []
    for row in rows:
        hidden = torch.zeros(model.hidden, dtype=row.dtype)
        for column, value in enumerate(row):
            if torch.isnan(value):
                continue
            if column < shape.num_numeric:
                hidden = hidden + value * z[column]
            else:
                before = shape.cardinalities[: column - shape.num_numeric]
                first = shape.num_numeric + sum(count + 1 for count in before)
                hidden = hidden + z[first + int(value)]
        for depth in range(model.depth):
            layers = [
                torch.relu(model.layers.weight[j] @ hidden + model.layers.bias[j])
                for j in range(model.depth)
            ]
            if model.layers.scores is None:
                hidden = layers[model.orders[place][depth]]
            else:
                share = torch.softmax(model.layers.scores[place, depth], 0)
                hidden = sum(s * layer for s, layer in zip(share, layers, strict=True))
        bias = model.output_bias[start : start + outputs]
        answers.append(z[len(z) - outputs :] @ hidden + bias)
    return torch.stack(answers)


def model_of(orders=None, **changes):
    model = SoftLayerOrdering(tasks=TASKS, columns=WIDTHS, hidden=6, orders=orders, **changes)
    model = model.double()
    with torch.no_grad():
        model.output_bias.normal_()
        if model.layers.scores is not None:
            model.layers.scores.normal_()
    return model


ORDERS = [None, ((2, 0, 1), (0, 1, 2), (1, 2, 0), (2, 1, 0)), same_orders(4, 3)]


@pytest.mark.parametrize("orders", ORDERS, ids=["soft", "permuted", "same"])
@pytest.mark.parametrize("names", [("price", "species", "level", "sold"), ("sold", "species")])
def test_batched_is_one_row_after_the_other(orders, names):
    model, inputs = model_of(orders), tables()
    inputs = {name: inputs[name][: 2 + 3 * (name == "species")] for name in names}
    outputs = model(inputs)
    assert list(outputs) == list(names)
    weights = {name: torch.randn_like(outputs[name]) for name in names}
    sum((outputs[name] * weights[name]).sum() for name in names).backward()
    found = {name: p.grad for name, p in model.named_parameters()}
    model.zero_grad()
    expected = {name: by_hand(model, name, inputs[name]) for name in names}
    sum((expected[name] * weights[name]).sum() for name in names).backward()
    for name in names:
        torch.testing.assert_close(outputs[name], expected[name])
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(found[name], parameter.grad)


def test_packed_rows_have_the_outputs_of_a_plain_mapping():
    model, inputs = model_of(), tables()
    plain = model(inputs)
    outputs = model(replace(TableBatch.pack(inputs), lengths=None))
    assert [names for names, _ in outputs.blocks] == [("price",), ("species", "level"), ("sold",)]
    for name in inputs:
        torch.testing.assert_close(outputs[name], plain[name])
    padded = outputs.blocks[1][1]
    assert torch.isneginf(padded[:, 1, 2:]).all()
    assert torch.isfinite(padded[:, 0]).all()


def test_shared_inputs_are_tables_that_are_equal():
    tasks = TASKS[:3]
    shared = SoftLayerOrdering(tasks=tasks, columns=4, hidden=6).double()
    separate = SoftLayerOrdering(
        tasks=tasks, columns={task.name: 4 for task in tasks}, hidden=6
    ).double()
    separate.load_state_dict(shared.state_dict())
    inputs = torch.randn(5, 4, dtype=torch.float64)
    inputs[2, 1] = torch.nan
    outputs = shared(inputs)
    for name, output in separate({task.name: inputs for task in tasks}).items():
        torch.testing.assert_close(outputs[name], output)
    for name, output in shared({"species": inputs[:2]}).items():
        torch.testing.assert_close(output, outputs[name][:2])


def test_shared_inputs_may_have_codes_of_categories():
    shape = TableShape(1, (2, 3))
    model = SoftLayerOrdering(tasks=TASKS, columns=shape, hidden=6).double()
    inputs = torch.tensor([[0.5, 1, 3], [torch.nan, 2, 0], [-1, 0, 1]], dtype=torch.float64)
    outputs = model(inputs)
    for name, output in model({task.name: inputs for task in TASKS}).items():
        torch.testing.assert_close(outputs[name], output)
        torch.testing.assert_close(output, by_hand(model, name, inputs))
    inputs[1, 2] = 4
    with pytest.raises(ValueError, match=r"codes 0 .. 3, found 4"):
        model(inputs)


def test_a_model_for_the_tables_of_a_problem():
    data = {"sum": (torch.randn(30, 3), torch.randn(30)), "sign": (torch.randn(20, 2), range(20))}
    problem = Problem.from_separate(data, {"sum": Regression(), "sign": Regression()})
    model = SoftLayerOrdering.for_problem(problem)
    assert model.variables.tables == {"sum": TableShape(3), "sign": TableShape(2)}
    assert model(problem.test.batch({"sign": torch.arange(3)}).inputs)["sign"].shape == (3, 1)


def test_single_rows_of_any_tasks_are_as_their_tables():
    layers = SoftLayers(num_tasks=3, size=4, depth=2).double()
    torch.nn.init.normal_(layers.scores)
    values = torch.randn(3, 5, 4, dtype=torch.float64)
    tasks = torch.arange(3).repeat_interleave(5)
    rows = layers(values.flatten(0, 1).unsqueeze(1), tasks)
    torch.testing.assert_close(rows.squeeze(1), layers(values).flatten(0, 1))


# --- orders --------------------------------------------------------------------------------------


def test_permuted_orders_by_hand():
    layers = SoftLayers(num_tasks=2, size=1, depth=2, orders=((0, 1), (1, 0)))
    with torch.no_grad():
        layers.weight.copy_(torch.tensor([2.0, 3.0]).view(2, 1, 1))
        layers.bias.copy_(torch.tensor([1.0, -1.0]).view(2, 1))
    found = layers(torch.full((2, 1, 1), 5.0)).flatten().tolist()
    # 3 (2 x + 1) - 1 and 2 (3 x - 1) + 1.
    assert found == [32.0, 29.0]


def test_same_orders_are_a_plain_network():
    layers = SoftLayers(num_tasks=2, size=4, depth=3, orders=same_orders(2, 3))
    values = torch.randn(2, 5, 4)
    expected = values
    for weight, bias in zip(layers.weight, layers.bias, strict=True):
        expected = functional.relu(functional.linear(expected, weight, bias))
    torch.testing.assert_close(layers(values), expected)


def test_scores_that_choose_one_layer_are_that_order():
    orders = permuted_orders(4, 3, seed=5)
    soft = model_of()
    with torch.no_grad():
        soft.layers.scores.copy_(50 * functional.one_hot(torch.tensor(orders), 3))
    hard = model_of(orders)
    hard.load_state_dict({k: v for k, v in soft.state_dict().items() if k != "layers.scores"})
    inputs = tables()
    for name, output in hard(inputs).items():
        torch.testing.assert_close(output, soft(inputs)[name])
        torch.testing.assert_close(soft.shares()[name], hard.shares()[name])


def test_every_task_starts_with_the_mean_of_the_layers():
    model = SoftLayerOrdering(tasks=TASKS, columns=WIDTHS, hidden=6, depth=4)
    for share in model.shares().values():
        torch.testing.assert_close(share, torch.full((4, 4), 0.25))
        assert not share.requires_grad


def test_permuted_orders_are_permutations_fixed_by_the_seed():
    orders = permuted_orders(400, 3, seed=1)
    assert all(sorted(order) == [0, 1, 2] for order in orders)
    assert orders == permuted_orders(400, 3, seed=1)
    assert orders != permuted_orders(400, 3, seed=2)
    counts = [orders.count(order) for order in set(orders)]
    # Six orders, 400 draws: 67 expected of each, standard deviation 7.5.
    assert len(counts) == 6
    assert max(abs(count - 400 / 6) for count in counts) < 30


def test_the_three_orderings_differ_in_the_scores_alone():
    sizes = [sum(p.numel() for p in model_of(orders).parameters()) for orders in ORDERS]
    assert sizes[1] == sizes[2]
    assert sizes[0] - sizes[1] == 4 * 3 * 3


def test_dropout_is_applied_to_each_layer_before_the_mixing():
    layers = SoftLayers(num_tasks=1, size=2000, depth=2, dropout=0.5)
    with torch.no_grad():
        layers.weight.zero_()
        layers.bias.fill_(1.0)
    found = layers(torch.ones(1, 1, 2000)).flatten()
    # The mean of two layers that are each 0 or 2: 0, 1 and 2 with shares 1/4, 1/2, 1/4.
    assert set(found.tolist()) == {0.0, 1.0, 2.0}
    assert 0.45 < (found == 1).float().mean() < 0.55
    assert (layers.eval()(torch.ones(1, 1, 2000)) == 1).all()


# --- learning ------------------------------------------------------------------------------------


def test_tables_of_different_shapes_are_learned_together():
    generator = torch.Generator().manual_seed(0)
    first, second = torch.randn(60, 3, generator=generator), torch.randn(90, 2, generator=generator)
    problem = Problem.from_separate(
        {"sum": (first, first.sum(1)), "sign": (second, (second[:, 0] > 0).long())},
        {"sum": Regression(), "sign": Multiclass(2)},
    )
    model = SoftLayerOrdering(tasks=problem.tasks, columns={"sum": 3, "sign": 2}, hidden=16)
    settings = TrainingSettings(epochs=40, batch_size=16, learning_rate=1e-2, patience=None)
    before = model.layers.shares()
    result = Trainer(problem, model, settings=settings).fit()
    losses = result.history[-1].validation_losses
    assert losses["sum"] < 0.05
    assert losses["sign"] < 0.3
    assert not torch.allclose(before, model.layers.shares())


# --- bad input -----------------------------------------------------------------------------------


def test_repr_rebuilds_a_model_with_a_given_table():
    count = model_of().variables.num_variables
    model = model_of(embeddings=VariableEmbeddings.random(count, 6), dropout=0.1)
    names = {
        name: getattr(module, name)
        for module in (soft_layer_ordering, variable_embeddings, table_batch)
        for name in module.__all__
    } | {kind.__name__: kind for kind in (Binary, Multiclass, Regression, Task)}
    rebuilt = eval(repr(model), names)
    assert repr(rebuilt) == repr(model)
    assert not isinstance(rebuilt.table.weight, torch.nn.Parameter)


def test_a_fixed_table_is_no_parameter_of_any_task():
    count = model_of().variables.num_variables
    model = model_of(embeddings=VariableEmbeddings.random(count, 6, std=1.0))
    model(tables())["price"].sum().backward()
    assert [tuple(p.shape) for p in model.task_parameters("price")] == [(8,), (4, 3, 3)]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"embeddings": 4}, "`hidden` = 6 units, found embeddings of size 4"),
        ({"embeddings": VariableEmbeddings.learned(3, 6)}, "has 3 variables"),
        ({"orders": same_orders(3, 3)}, r"one order per task \(4\), found 3"),
        ({"orders": same_orders(4, 2)}, r"must be 3 layers, each 0 .. 2, found \[0, 1\]"),
        ({"orders": ((0, 1, 3),) * 4}, r"found \[0, 1, 3\]"),
        ({"depth": 0}, "`depth` must be at least 1"),
        ({"dropout": 1.0}, "`dropout` must lie"),
        ({"columns": 0}, "`columns` must be at least 1"),
        ({"columns": {**WIDTHS, "sold": 0}}, r"`columns\['sold'\]` must be at least 1, found 0"),
        ({"columns": {"price": 3}}, "exactly one table"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_bad_arguments(changes, words):
    arguments = {"tasks": TASKS, "columns": WIDTHS, "hidden": 6, **changes}
    with pytest.raises(ValueError, match=words):
        SoftLayerOrdering(**arguments)


@pytest.mark.parametrize(
    ("columns", "inputs", "words"),
    [
        (4, torch.zeros(3, 5), r"\[rows, 4\], found shape \[3, 5\]"),
        (4, torch.zeros(3), r"found shape \[3\]"),
        (WIDTHS, torch.zeros(3, 4), "one tensor per task"),
        (WIDTHS, {"price": torch.zeros(3, 4)}, "must have 3 columns, found 4"),
        (WIDTHS, {"rent": torch.zeros(3, 4)}, "No table for task 'rent'"),
        (WIDTHS, {"sold": torch.full((1, 2), 3.0)}, r"codes 0 .. 2, found 3"),
    ],
)
def test_bad_inputs(columns, inputs, words):
    model = SoftLayerOrdering(tasks=TASKS, columns=columns, hidden=6)
    with pytest.raises(ValueError, match=words):
        model(inputs)
