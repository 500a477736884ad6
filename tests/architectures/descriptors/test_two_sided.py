"""The two-sided network: the reference, the factorised linear case, and tasks never seen."""

from __future__ import annotations

import pytest
import torch
from tests.architectures.one_kind import check_tasks_of, fixture_cases, same_tasks

from polytask.architectures.descriptors.descriptor_model import linear_by_task
from polytask.architectures.descriptors.task_descriptors import TaskDescriptors
from polytask.architectures.descriptors.two_sided import TwoSided
from polytask.checks import architectures as checks
from polytask.encoders import MLP, TabularEncoder
from polytask.tasks import Binary, Multiclass


def made(names="abc", *, values=None, size=None, kind=None, **more) -> TwoSided:
    tasks = tuple(same_tasks(len(names), kind))
    renamed = TaskDescriptors(names=[t.name for t in tasks], values=values, size=size)
    return TwoSided(descriptors=renamed, tasks=tasks, **more)


def test_reference(shared):
    """Row i of the reference has inputs x_i and the descriptor z_i: a task per row."""
    seen = set()
    for params, given, expected in fixture_cases(shared, "two_sided"):
        seen.add(params["kind"])
        x, z = given["x"].requires_grad_(), given["z"].requires_grad_()
        first = given["P"] if params["kind"] == "linear" else given["P2"]
        network = (
            {"input_size": x.shape[1]}
            if params["kind"] == "linear"
            else {"encoder": MLP(input_size=4, widths=(6,), activation="tanh")}
        )
        model = made("a", values=[[1.0] * z.shape[1]], inner_size=first.shape[1], **network)
        model.double()
        with torch.no_grad():
            model.P.weight.copy_(first.T)
            model.Q.weight.copy_(given["Q"].T)
            if model.encoder is not None:
                model.encoder.layers[0].weight.copy_(given["P1"].T)
                model.encoder.layers[0].bias.zero_()
        out = model.outputs_of_rows(model.represent(x), z, [1] * len(z)).squeeze(1)
        every = model.predict_for(x, z).squeeze(-1)
        torch.testing.assert_close(every.diagonal(), out)
        (0.5 * out.square().sum()).backward()
        found = {"out": out, "g.x": x.grad, "g.z": z.grad, "g.Q": model.Q.weight.grad.T}
        found["g.P" if params["kind"] == "linear" else "g.P2"] = model.P.weight.grad.T
        if model.encoder is not None:
            found["g.P1"] = model.encoder.layers[0].weight.grad.T
        assert found.keys() == expected.keys()
        for name, (value, rtol, atol) in expected.items():
            torch.testing.assert_close(found[name], value, rtol=rtol, atol=atol)
    assert seen == {"linear", "mlp"}


def test_linear_case_is_a_factorised_table_of_weights():
    model = made(inner_size=2, input_size=5)
    table = (model.P.weight.T @ model.Q.weight).detach()
    assert table.shape == (5, 3)
    assert torch.linalg.matrix_rank(table) == 2
    rows = torch.randn(7, 5)
    outputs = torch.cat(list(model(rows).values()), dim=1)
    torch.testing.assert_close(outputs, rows @ table)


def test_vector_outputs_have_a_matrix_valued_q():
    model = made(kind=Multiclass(4), values=torch.randn(3, 2), inner_size=3, input_size=5)
    rows = torch.randn(6, 5)
    for i, (name, value) in enumerate(model(rows).items()):
        q = (model.Q.weight @ model.descriptors()[i]).reshape(4, 3)
        torch.testing.assert_close(value, rows @ model.P.weight.T @ q.T)
        torch.testing.assert_close(model({name: rows})[name], value)


@pytest.mark.parametrize("counts", [[4, 4, 4], [3, 5, 4], [1, 40, 2], [2, 0, 3]])
@pytest.mark.parametrize("leading", [(), (2,)])
def test_rows_meet_the_matrix_of_their_task_however_uneven_the_tasks(counts, leading):
    features = torch.randn(*leading, sum(counts), 5)
    weights = torch.randn(3, 2, 5)
    found = linear_by_task(features, weights, counts)
    pieces = features.split(counts, dim=-2)
    expected = [piece @ weight.T for piece, weight in zip(pieces, weights, strict=True)]
    torch.testing.assert_close(found, torch.cat(expected, dim=-2))


@pytest.mark.parametrize("seed", [0, 1])
def test_an_unseen_cell_of_a_two_attribute_grid_is_predicted_exactly(seed):
    """w_ab = u_a + v_b and multi-hot descriptors: the optimum on the other cells fits all."""
    generator = torch.Generator().manual_seed(seed)
    u, v = torch.randn(3, 6, generator=generator), torch.randn(4, 6, generator=generator)
    cells = [(a, b) for a in range(3) for b in range(4)]
    hot = torch.cat(
        [
            torch.nn.functional.one_hot(torch.tensor([c[i] for c in cells]), n)
            for i, n in ((0, 3), (1, 4))
        ],
        dim=1,
    ).float()
    weights = torch.stack([u[a] + v[b] for a, b in cells])
    rows = torch.randn(80, 6, generator=generator)
    tasks = same_tasks(11)
    names = [task.name for task in tasks]
    model = TwoSided(
        descriptors=TaskDescriptors(names=names, values=hot[:-1]),
        tasks=tasks, inner_size=6, input_size=6,
    ).double()  # fmt: skip
    rows, weights = rows.double(), weights.double()
    optimizer = torch.optim.LBFGS(
        model.parameters(), max_iter=800, tolerance_grad=1e-12, tolerance_change=1e-14
    )

    def closure():
        optimizer.zero_grad()
        (_, found), *_ = model(rows).blocks
        loss = (found.squeeze(-1) - rows @ weights[:-1].T).square().mean()
        loss.backward()
        return loss

    optimizer.step(closure)
    assert closure().item() < 1e-9
    unseen = model.predict_for(rows, hot[-1].double()).squeeze(-1)
    truth = rows @ weights[-1]
    assert (unseen - truth).square().mean() < 1e-5 * truth.square().mean()
    nearest = rows @ weights[-2]
    assert (nearest - truth).square().mean() > 0.1 * truth.square().mean()


def test_a_constant_gives_outputs_a_level():
    without = made(values=torch.randn(3, 2), inner_size=2, input_size=5)
    assert torch.equal(without(torch.zeros(1, 5))["t0"], torch.zeros(1, 1))
    with_bias = made(values=torch.randn(3, 2), inner_size=2, input_size=5, bias=True)
    assert with_bias(torch.zeros(1, 5))["t0"].abs().item() > 0


def test_initial_outputs_have_the_scale_of_linear_heads():
    tasks = 300
    for more in ({}, {"size": 40}, {"values": 50 * torch.randn(tasks, 7)}):
        model = made("x" * tasks, inner_size=64, input_size=64, **more)
        spread = torch.cat(list(model(torch.ones(1, 64)).values())).std().item()
        assert 0.05 < spread < 0.8, more


def one_hot(tasks):
    names = [task.name for task in tasks]
    model = TwoSided(
        descriptors=TaskDescriptors(names=names), tasks=tasks, inner_size=3, input_size=5, bias=True
    )
    return model, torch.randn(6, 5)


def learned_separate(tasks):
    names = [task.name for task in tasks]
    model = TwoSided(
        descriptors=TaskDescriptors(names=names, size=2), tasks=tasks, inner_size=3, input_size=5
    )
    return model, {task.name: torch.randn(3 + i, 5) for i, task in enumerate(tasks)}


def members(tasks):
    names = [task.name for task in tasks]
    encoder = TabularEncoder(num_numeric=3, members=3, width=8, depth=1, dropout=0.1)
    given = TaskDescriptors(names=names, size=2)
    return TwoSided(descriptors=given, tasks=tasks, inner_size=4, encoder=encoder), torch.randn(
        6, 3
    )


@pytest.mark.parametrize("check", checks.CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize(
    "example",
    [
        pytest.param(example, id=name)
        for name, example in {
            "networks": TwoSided.example,
            "one-hot": one_hot,
            "learned, separate": learned_separate,
            "members": members,
        }.items()
    ],
)
@pytest.mark.parametrize("kind", [Binary(), Multiclass(3)], ids=["binary", "classes"])
def test_conformance(example, check, kind, monkeypatch):
    check_tasks_of(kind, monkeypatch)
    check(example)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "input_size=None and no encoder"),
        ({"input_size": 4, "encoder": MLP(input_size=4)}, "input_size=4 and an encoder"),
        ({"input_size": 4, "inner_size": 0}, "`inner_size` must be at least 1, found 0"),
        ({"encoder": torch.nn.Linear(4, 4)}, "needs an attribute `output_size`"),
        (
            {"input_size": 4, "descriptor_encoder": torch.nn.Linear(3, 4)},
            "needs an attribute `output_size`",
        ),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        made(**{"inner_size": 2, **arguments})
