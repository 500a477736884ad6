"""The Traveling Observer Model: the reference, the theorems of its linear form, tables without a
loop, and memory saved by chunks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest
import torch
from tests.architectures.reference_layers import layer_cases
from tests.architectures.sharing.test_hard_sharing import CountOperations
from tests.architectures.variables.test_film import NAMES
from torch import Tensor, nn

from polytask.architectures.variables.traveling_observer import TravelingObserver
from polytask.architectures.variables.variable_embeddings import VariableEmbeddings
from polytask.balancers import MGDA, GradientOptions
from polytask.checks import architectures as checks
from polytask.problems import Problem
from polytask.problems.table_batch import TableBatch, TableShape
from polytask.tasks import Binary, Multiclass, Regression, Segmentation, Task

REGRESSIONS = tuple(Task(f"r{i}", Regression()) for i in range(4))
MIXED = (Task("price", Regression()), Task("kind", Multiclass(3)), Task("sold", Binary()))


def awake(model: nn.Module) -> nn.Module:
    """The model with every parameter at random, so that no block is the identity."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.5)
    return model


def shared(**options) -> TravelingObserver:
    return awake(TravelingObserver(tasks=MIXED, columns=4, **{"hidden": 6, **options}).double())


# --- the reference -------------------------------------------------------------------------------


def ours(name: str) -> str:
    """The reference's parameter name in our words."""
    for theirs, own in (
        ("encoder_film_layer", "reader"),
        ("decoder_film_layer", "readout"),
        ("core_blocks", "core"),
    ):
        name = name.replace(theirs, own)
    return ".".join(NAMES.get(part, part) for part in name.split("."))


def test_the_model_is_that_of_the_reference_with_gradients(shared):
    for case in layer_cases(shared, "tom"):
        settings, z_in, z_out = case.settings, case.inputs["zin"], case.inputs["zout"]
        table = torch.cat([z_in, z_out], dim=2)[0].T
        model = TravelingObserver(
            tasks=[Task(f"y{j}", Regression()) for j in range(z_out.shape[2])],
            columns=z_in.shape[2],
            embeddings=VariableEmbeddings.oracle(table, trainable=True),
            hidden=settings["hidden_size"],
            encoder_layers=settings["n_enc"],
            core_layers=settings["n_core"],
            decoder_layers=settings["n_dec"],
            affine=True,
        ).double()
        own = dict(model.named_parameters())
        state = {ours(k): v.reshape(own[ours(k)].shape) for k, v in case.parameters.items()}
        assert set(own) == {*state, "table.weight"}
        model.load_state_dict({**state, "table.weight": table})
        x = case.inputs["x"].clone().requires_grad_()
        out = model(x).blocks[0][1].squeeze(-1)
        (out.square().sum() / 2).backward()
        own_in, own_out = own["table.weight"].grad.split([z_in.shape[2], z_out.shape[2]])
        case.check(
            {
                "out": out.detach(),
                "g.x": x.grad,
                "g.zin": own_in.T,
                "g.zout": own_out.T,
                **{f"gp.{name}": own[ours(name)].grad for name in case.parameters},
            }
        )


# --- what the equation says ----------------------------------------------------------------------


def test_the_layers_are_counted_as_in_the_authors_code():
    model = TravelingObserver(tasks=MIXED, columns=4)
    assert (model.hidden, model.table.size) == (128, 2)
    assert [len(p) for p in (model.encoder_blocks, model.core, model.decoder_blocks)] == [2, 3, 2]


@pytest.mark.parametrize("affine", [False, True])
def test_without_embeddings_the_linear_model_is_a_constant(affine):
    table = VariableEmbeddings.none(9, 2)
    model = shared(embeddings=table, affine=affine)
    with torch.no_grad():
        outputs = model(torch.randn(5, 4).double())
    answers = torch.cat(list(outputs.values()), dim=1)
    # All rows agree, as the inputs do not get through, and all outputs, which are one variable.
    torch.testing.assert_close(answers.T[:1].expand(5, 5).T, answers)
    assert (float(answers[:, 0].std()) < 1e-12) == (not affine)


def test_the_order_of_the_inputs_does_not_matter():
    order = torch.tensor([2, 0, 3, 1])
    model, other = shared(), shared()
    state = model.state_dict()
    rows = torch.cat([order, torch.arange(4, 9)])
    other.load_state_dict({**state, "table.weight": state["table.weight"][rows]})
    x = torch.randn(5, 4).double()
    first, second = model(x), other(x[:, order])
    for name in first:
        torch.testing.assert_close(first[name], second[name])


def test_nan_leaves_the_variable_out_of_the_sum():
    model = shared()
    state = model.state_dict()
    less = TravelingObserver(tasks=MIXED, columns=3, hidden=6).double()
    rows = torch.tensor([0, 2, 3, 4, 5, 6, 7, 8])
    less.load_state_dict({**state, "table.weight": state["table.weight"][rows]})
    x = torch.randn(5, 4).double()
    without = x.clone()
    without[:, 1] = torch.nan
    for name, output in less(x[:, [0, 2, 3]]).items():
        torch.testing.assert_close(model(without)[name], output)
    # Row by row: what one row lacks does not change another.
    mixed = torch.cat([x[:1], without[1:]])
    torch.testing.assert_close(model(mixed)["kind"][:1], model(x)["kind"][:1])
    torch.testing.assert_close(model(mixed)["kind"][1:], model(without)["kind"][1:])


def test_gradients_stay_finite_where_inputs_are_missing():
    model = shared()
    x = torch.randn(5, 4).double()
    x[0] = torch.nan
    x[1:, 2] = torch.nan
    sum(output.sum() for output in model(x).values()).backward()
    assert all(bool(torch.isfinite(p.grad).all()) for p in model.parameters())


def test_equal_embeddings_are_one_variable():
    same = TravelingObserver(tasks=REGRESSIONS, columns=4, hidden=6, same_variables=True)
    assert same.table.num_variables == 4
    twice = TravelingObserver(tasks=REGRESSIONS, columns=4, hidden=6)
    assert twice.table.num_variables == 8
    state = awake(same).state_dict()
    twice.load_state_dict({**state, "table.weight": state["table.weight"].repeat(2, 1)})
    x = torch.randn(5, 4)
    torch.testing.assert_close(same(x).blocks[0][1], twice(x).blocks[0][1])


def test_some_outputs_are_columns():
    tasks = (*REGRESSIONS[:1], Task("kind", Multiclass(2)))
    model = TravelingObserver(tasks=tasks, columns=4, hidden=6, same_variables={"kind": 1})
    assert model.table.num_variables == 5
    assert model.variables.output_ids.tolist() == [4, 1, 2]


def test_one_vector_task_over_all_columns():
    vector = (Task("pixels", Regression(size=4)),)
    model = awake(TravelingObserver(tasks=vector, columns=4, hidden=6, same_variables=True))
    split = TravelingObserver(tasks=REGRESSIONS, columns=4, hidden=6, same_variables=True)
    split.load_state_dict(model.state_dict())
    x = torch.randn(5, 4)
    torch.testing.assert_close(model(x)["pixels"], split(x).blocks[0][1].squeeze(-1))


# --- observing a part ----------------------------------------------------------------------------


def readings(model: TravelingObserver, x: Tensor) -> Tensor:
    """How many columns of each row were read: a model whose readings are all one."""
    model.reader.layer_of = lambda z: (z.new_zeros(len(z), 1, 6), z.new_ones(len(z), 6))
    model.encoder_blocks = nn.ModuleList()
    return model._encode(model.variables.read(x))[0, :, 0]


def test_training_reads_a_random_number_of_columns_and_evaluation_all():
    model = TravelingObserver(tasks=MIXED, columns=4, hidden=6, observe=(1, 3))
    counts = readings(model, torch.randn(6000, 4)).long().bincount()
    assert counts[0] == 0 and len(counts) == 4
    assert all(abs(float(count) / 6000 - 1 / 3) < 0.03 for count in counts[1:])
    assert readings(model.eval(), torch.randn(7, 4)).tolist() == [4.0] * 7


def test_training_reads_observed_columns_only():
    model = TravelingObserver(tasks=MIXED, columns=4, hidden=6, observe=(3, 3))
    x = torch.randn(50, 4)
    x[:, 0] = torch.nan
    assert readings(model, x).tolist() == [3.0] * 50
    x[:, 1] = torch.nan
    assert readings(model, x).tolist() == [2.0] * 50


def test_every_column_is_read_equally_often():
    model = TravelingObserver(tasks=REGRESSIONS, columns=4, hidden=6, observe=(1, 1))
    x = torch.eye(4).repeat(1000, 1)
    model.reader.layer_of = lambda z: (z.new_ones(len(z), 1, 6), z.new_zeros(len(z), 6))
    model.encoder_blocks = nn.ModuleList()
    seen = model._encode(model.variables.read(x))[0, :, 0].view(1000, 4).mean(0)
    assert bool(((seen - 0.25).abs() < 0.05).all())


# --- many tables ---------------------------------------------------------------------------------

TABLES = {"price": TableShape(3), "kind": TableShape(1, (2, 0, 4)), "sold": TableShape(2)}


def table_rows(sizes: tuple[int, int, int] = (3, 5, 4)) -> dict[str, Tensor]:
    price, sold = torch.randn(sizes[0], 3).double(), torch.randn(sizes[2], 2).double()
    price[0, 1] = torch.nan
    codes = [torch.randint(0, count + 1, (sizes[1],)).double() for count in (2, 0, 4)]
    kind = torch.stack([torch.randn(sizes[1]).double(), *codes], dim=1)
    return {"price": price, "kind": kind, "sold": sold}


def by_loop(model: TravelingObserver, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The equation of the paper as it stands: a loop over tables, rows, columns and outputs."""
    first, found = 0, {}
    starts = {}
    for name, shape in TABLES.items():
        starts[name] = first
        first += shape.variables + model.variables.num_outputs[len(starts) - 1].item()
    table = model.table.weight
    for name, rows in inputs.items():
        shape, start = TABLES[name], starts[name]
        outputs = next(task for task in MIXED if task.name == name).kind.output_size
        answers = []
        for row in rows:
            total = row.new_zeros(model.hidden)
            offset = start
            for i, value in enumerate(row):
                categories = [0] * shape.num_numeric + [c + 1 for c in shape.cardinalities]
                if categories[i]:
                    variable, number = offset + int(value), row.new_ones(1)
                else:
                    variable, number = offset, value.reshape(1)
                offset += categories[i] or 1
                if torch.isnan(value):
                    continue
                hidden = model.reader(number, table[variable])
                for block in model.encoder_blocks:
                    hidden = block(hidden, table[variable])
                total = total + hidden
            total = model.core(total)
            for j in range(start + shape.variables, start + shape.variables + outputs):
                hidden = total
                for block in model.decoder_blocks:
                    hidden = block(hidden, table[j])
                answers.append(model.readout(hidden, table[j]))
        found[name] = torch.cat(answers).view(len(rows), outputs)
    return found


def tabular(**options) -> TravelingObserver:
    model = TravelingObserver(tasks=MIXED, columns=TABLES, **{"hidden": 6, **options})
    return awake(model.double())


def gradients(model: nn.Module, outputs: Mapping[str, Tensor]) -> list[Tensor]:
    model.zero_grad()
    sum(output.square().sum() for output in outputs.values()).backward()
    return [parameter.grad.clone() for parameter in model.parameters()]


@pytest.mark.parametrize("names", [("price", "kind", "sold"), ("sold", "kind"), ("price",)])
@pytest.mark.parametrize("sizes", [(3, 5, 4), (4, 4, 4)])
def test_tables_together_equal_a_loop_over_everything(names, sizes):
    model = tabular()
    inputs = {name: rows for name, rows in table_rows(sizes).items() if name in names}
    inputs = {name: inputs[name] for name in names}
    expected = by_loop(model, inputs)
    found = model(inputs)
    assert set(found) == set(names)
    for name in names:
        torch.testing.assert_close(found[name], expected[name])
    for one, other in zip(gradients(model, found), gradients(model, expected), strict=True):
        torch.testing.assert_close(one, other)


def test_shared_tables_with_categories_equal_one_table_of_their_own():
    shape, task = TABLES["kind"], MIXED[1]
    own = tabular()
    one = TravelingObserver(tasks=[task], columns={"kind": shape}, hidden=6).double()
    state = {**own.state_dict(), "table.weight": own.table.weight.detach()[4:17]}
    one.load_state_dict(state)
    common = TravelingObserver(tasks=[task], columns=shape, hidden=6).double()
    common.load_state_dict(state)
    rows = table_rows()["kind"]
    rows[0, 0] = torch.nan
    expected = own({"kind": rows})["kind"]
    torch.testing.assert_close(one({"kind": rows})["kind"], expected)
    torch.testing.assert_close(common(rows)["kind"], expected)
    rows[1, 3] = 9
    with pytest.raises(ValueError, match=r"Column 3 holds codes 0 .. 4, found 9"):
        common(rows)


def test_a_table_of_categories_alone():
    task, shape = MIXED[1], TableShape(0, (2, 1))
    own = awake(TravelingObserver(tasks=[task], columns={"kind": shape}, hidden=6).double())
    common = TravelingObserver(tasks=[task], columns=shape, hidden=6).double()
    common.load_state_dict(own.state_dict())
    rows = torch.tensor([[0.0, 1.0], [2.0, 0.0], [0.0, 1.0]]).double()
    found = own({"kind": rows})["kind"]
    torch.testing.assert_close(common(rows)["kind"], found)
    torch.testing.assert_close(found[0], found[2])
    assert not torch.allclose(found[0], found[1])


def test_the_default_for_a_problem_reads_its_tables():
    x = np.random.default_rng(0).normal(size=(30, 4))
    kinds = {"a": Regression(), "b": Regression()}
    shared_inputs = Problem.from_arrays(x, {"a": x[:, 0], "b": x[:, 1]}, kinds)
    model = TravelingObserver.for_problem(shared_inputs)
    assert model.table.num_variables == 6
    assert model(shared_inputs.train.inputs).blocks[0][1].shape == (18, 2, 1)
    separate = Problem.from_separate({"a": (x, x[:, 0]), "b": (x[:, :2], x[:, 1])}, kinds)
    assert TravelingObserver.for_problem(separate).table.num_variables == 8


def test_packed_rows_are_the_same_as_a_mapping():
    model, inputs = tabular(), table_rows()
    packed, plain = model(TableBatch.pack(inputs)), model(inputs)
    for name in plain:
        torch.testing.assert_close(packed[name], plain[name], rtol=0, atol=0)


def test_operations_do_not_grow_with_the_number_of_tables():
    counts = []
    for number in (3, 20):
        tasks = [Task(f"t{i}", Multiclass(3)) for i in range(number)]
        model = TravelingObserver(tasks=tasks, columns={t.name: 2 for t in tasks}, hidden=4)
        packed = TableBatch.pack({task.name: torch.randn(2, 2) for task in tasks})
        packed = replace(packed, lengths=None)  # a loader has equally many rows of every table
        model(packed)
        with CountOperations() as counter:
            model(packed)
        counts.append(counter.count)
    assert counts[0] == counts[1]


def test_a_task_owns_the_embeddings_of_its_table():
    model = tabular()
    rows = [index[0] for name in TABLES for _, index in model.task_rows(name)]
    assert rows == [slice(0, 4), slice(4, 17), slice(17, 20)]
    fixed = tabular(embeddings=VariableEmbeddings.none(20, 2))
    assert not list(fixed.task_rows("kind"))


# --- chunks --------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", [shared, tabular])
@pytest.mark.parametrize("chunks", [(1, 1), (2, 3), (100, 100)])
def test_chunks_change_neither_values_nor_gradients(form, chunks):
    whole = form()
    chunked = form(encoder_chunk=chunks[0], decoder_chunk=chunks[1])
    chunked.load_state_dict(whole.state_dict())
    inputs = table_rows() if form is tabular else torch.randn(5, 4).double()
    expected, found = whole(inputs), chunked(inputs)
    for name in expected:
        torch.testing.assert_close(found[name], expected[name])
    for one, other in zip(gradients(chunked, found), gradients(whole, expected), strict=True):
        torch.testing.assert_close(one, other)


def test_chunks_recompute_with_the_same_dropout():
    model = shared(dropout=0.4, encoder_chunk=1, decoder_chunk=2)
    x = torch.randn(3, 4).double().requires_grad_()
    step = 1e-6 * torch.randn_like(x)

    def total(at: Tensor) -> Tensor:
        torch.manual_seed(7)
        return sum(output.square().sum() for output in model(at).values())

    value = total(x)
    value.backward()
    difference = (total(x + step) - total(x - step)).item() / 2
    assert difference == pytest.approx(float((x.grad * step).sum()), rel=1e-5)


@pytest.mark.parametrize("scope", ["trunk", "last"])
def test_gradient_methods_see_the_same_with_and_without_chunks(scope):
    # The decoder is shared as well, so no layer stands for the whole: both scopes are exact.
    whole, chunked = shared(), shared(encoder_chunk=1, decoder_chunk=2)
    chunked.load_state_dict(whole.state_dict())
    x = torch.randn(5, 4).double()
    found = []
    for model in (whole, chunked):
        losses = torch.stack([output.square().mean() for output in model(x).values()])
        parameters = (
            model.last_shared_parameters() if scope == "last" else model.shared_parameters()
        )
        weights = MGDA(gradients=GradientOptions(scope=scope)).backward(
            losses, shared=list(parameters)
        )
        found.append([weights, *(parameter.grad for parameter in model.parameters())])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other)


# --- as an architecture --------------------------------------------------------------------------


def some_columns_are_outputs(tasks):
    model = TravelingObserver(
        tasks=tasks,
        columns=5,
        hidden=8,
        affine=True,
        same_variables={tasks[0].name: 1},
        observe=(2, 5),
        decoder_chunk=2,
    )
    return model, torch.randn(6, 5)


def missing_inputs(tasks):
    inputs = torch.randn(6, 5)
    inputs[inputs > 1] = torch.nan
    return TravelingObserver(tasks=tasks, columns=5, hidden=8, dropout=0.1), inputs


def tables(tasks):
    columns = {task.name: i % 3 + 1 for i, task in enumerate(tasks)}
    model = TravelingObserver(tasks=tasks, columns=columns, hidden=8, core_layers=0)
    return model, {t.name: torch.randn(3 + i, columns[t.name]) for i, t in enumerate(tasks)}


@pytest.mark.parametrize("check", checks.CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize(
    "example",
    [TravelingObserver.example, some_columns_are_outputs, missing_inputs, tables],
    ids=["example", "some_columns_are_outputs", "missing_inputs", "tables"],
)
def test_conformance(example, check):
    check(example)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"columns": 0}, "`columns` must be at least 1, found 0"),
        ({"columns": 4, "hidden": 0}, "`hidden` must be at least 1, found 0"),
        ({"columns": 4, "core_layers": -1}, "`core_layers` must be >= 0, found -1"),
        ({"columns": 4, "decoder_chunk": 0}, "`decoder_chunk` must be at least 1, found 0"),
        ({"columns": 4, "observe": (0, 3)}, r"1 <= low <= high <= 4 columns, found \(0, 3\)"),
        ({"columns": 4, "observe": (2, 5)}, r"1 <= low <= high <= 4 columns, found \(2, 5\)"),
        ({"columns": 4, "same_variables": True}, r"as many outputs as columns \(4\), found 5"),
        ({"columns": 4, "same_variables": {"x": 0}}, "names 'x', which is no task"),
        ({"columns": 4, "same_variables": {"kind": 2}}, "must lie in columns 0 .. 3"),
        (
            {"columns": 4, "embeddings": VariableEmbeddings.none(8, 2)},
            "`embeddings` has 8 variables, but the model has 9",
        ),
        ({"columns": TABLES, "observe": (1, 2)}, "`observe` needs numbers that all tasks share"),
        ({"columns": TABLES, "same_variables": True}, "`same_variables` needs inputs"),
        ({"columns": {"price": 3}}, r"found no pair for \['kind', 'sold'\]"),
        ({"columns": {**TABLES, "price": 0}}, r"`columns\['price'\]` must be at least 1, found 0"),
    ],
)
def test_bad_arguments_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        TravelingObserver(tasks=MIXED, **options)


def test_dense_outputs_are_refused():
    with pytest.raises(ValueError, match="Task 'map' is a Segmentation, whose outputs are not"):
        TravelingObserver(tasks=[Task("map", Segmentation(3))], columns=4)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (torch.zeros(5, 3), r"must be \[rows, 4\], found \[5, 3\]"),
        (torch.zeros(4), r"must be \[rows, 4\], found \[4\]"),
        ({"price": torch.zeros(5, 4)}, "found one tensor per task; for a table per task"),
    ],
)
def test_bad_inputs_are_named(inputs, message):
    with pytest.raises(ValueError, match=message):
        shared()(inputs)


# --- a toy with a known optimum ------------------------------------------------------------------


def twins_loss(embeddings: VariableEmbeddings, *, steps: int = 300) -> float:
    """Mean squared error of two pairs of equal variables, of which one of the four is read.

    The pair that is read can be predicted, the other is independent of it with variance 1: no model
    does better than 1/2, and a model that cannot tell variables apart not better than 1.
    """
    model = TravelingObserver(
        tasks=REGRESSIONS,
        columns=4,
        hidden=16,
        encoder_layers=2,
        core_layers=1,
        decoder_layers=2,
        embeddings=embeddings,
        same_variables=True,
        observe=(1, 1),
    )
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(steps):
        x = torch.randn(128, 2).repeat_interleave(2, dim=1)
        loss = (model(x).blocks[0][1].squeeze(-1) - x).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return sum(losses[-50:]) / 50


def test_pairs_of_equal_variables_are_found():
    assert twins_loss(VariableEmbeddings.learned(4, 2, std=1.0)) == pytest.approx(0.5, abs=0.04)


def test_without_embeddings_only_the_mean_is_learned():
    assert twins_loss(VariableEmbeddings.none(4, 2), steps=80) == pytest.approx(1.0, abs=0.06)
