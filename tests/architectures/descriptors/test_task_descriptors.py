"""Descriptors: the three sorts, by name; comparing tasks by them; what a model takes of them."""

from __future__ import annotations

import pytest
import torch
from tests.architectures.one_kind import same_tasks

from polytask.architectures.descriptors.conditioned import Conditioned
from polytask.architectures.descriptors.gated import Gated
from polytask.architectures.descriptors.task_descriptors import TaskDescriptors
from polytask.architectures.descriptors.two_sided import TwoSided
from polytask.encoders import MLP
from polytask.problems import Problem
from polytask.tasks import Binary, Depth, Multiclass, Regression, Task
from polytask.training import Trainer, TrainingSettings


def test_names_alone_are_one_hot():
    found = TaskDescriptors(names=("a", "b", "c"))
    assert torch.equal(found(), torch.eye(3))
    assert torch.equal(found(["c", "a"]), torch.eye(3)[[2, 0]])
    assert (found.is_one_hot, found.output_size, found.scale) == (True, 3, 1.0)
    assert list(found.parameters()) == []
    assert not found.state_dict()


def test_learned_embeddings_are_parameters_and_given_values_are_state():
    learned = TaskDescriptors(names=("a", "b"), size=500, deviation=0.1)
    assert learned().std().item() == pytest.approx(0.1, rel=0.1)
    assert [p.shape for p in learned.parameters()] == [(2, 500)]
    given = TaskDescriptors(names=("a", "b"), values={"b": (3.0, 4.0), "a": (0.0, 1.0)})
    assert torch.equal(given(), torch.tensor([[0.0, 1.0], [3.0, 4.0]]))
    assert list(given.parameters()) == []
    assert list(given.state_dict()) == ["fixed"]
    assert given.scale == pytest.approx(((1 + 25) / 2) ** 0.5)


def test_a_matrix_is_taken_in_the_order_of_the_names():
    values = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    assert torch.equal(TaskDescriptors(names=("x", "y"), values=values)(["y"]), values[1:])


@pytest.mark.parametrize(
    "make",
    [
        lambda: TaskDescriptors(names=("a", "größe")),
        lambda: TaskDescriptors(names=("a", "b"), size=2, deviation=0.01),
        lambda: TaskDescriptors(names=("a", "b"), values=torch.rand(2, 3)),
    ],
)
def test_repr_rebuilds(make):
    first = make()
    again = eval(repr(first), {"TaskDescriptors": TaskDescriptors})
    assert repr(again) == repr(first)
    assert again().shape == first().shape
    if first.values is not None:
        assert torch.equal(again(), first())


def test_distances_and_similarities_by_hand():
    found = TaskDescriptors(names="abc", values=((3.0, 4.0), (0.0, 0.0), (-6.0, -8.0)))
    expected = torch.tensor([[0.0, 5, 15], [5, 0, 10], [15, 10, 0]])
    torch.testing.assert_close(found.distances(), expected)
    expected = torch.tensor([[1.0, 0, -1], [0, 0, 0], [-1, 0, 1]])
    torch.testing.assert_close(found.similarity(), expected)


def test_equal_descriptors_have_distance_exactly_zero():
    row = tuple(torch.randn(40).mul(1e3).tolist())
    found = TaskDescriptors(names=[str(i) for i in range(30)], values=[row] * 30)
    assert torch.equal(found.distances(), torch.zeros(30, 30))


def test_comparisons_of_learned_descriptors_carry_no_gradient():
    found = TaskDescriptors(names=("a", "b"), size=4)
    assert not found.distances().requires_grad
    assert not found.similarity().requires_grad


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"names": ()}, r"at least one task, each once, found \[\]"),
        ({"names": ("a", "a")}, r"each once, found \['a', 'a'\]"),
        ({"size": 0}, "`size` must be at least 1, found 0"),
        ({"size": 2, "deviation": 0.0}, "`deviation` must be > 0, found 0.0"),
        ({"size": 2, "values": ((1.0,), (2.0,))}, "give one of them"),
        ({"values": ((1.0,),)}, "`values` has 1 descriptors for 2 tasks"),
        ({"values": ((1.0,), (1.0, 2.0))}, r"one length of at least 1, found \[1, 2\]"),
        ({"values": ((), ())}, r"one length of at least 1, found \[0\]"),
        ({"values": ((1.0,), (float("nan"),))}, r"task 'b' must be finite, found \(nan,\)"),
        ({"values": {"a": (1.0,), "c": (2.0,)}}, r"every task, found no pair: \['b', 'c'\]"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        TaskDescriptors(**{"names": ("a", "b"), **arguments})


def test_an_unknown_task_is_named():
    with pytest.raises(ValueError, match="No descriptor of task 'z'"):
        TaskDescriptors(names=("a", "b"))(["a", "z"])


# --- what every model of the family asks for -----------------------------------------------------


def conditioned(tasks, descriptors):
    return Conditioned(descriptors=descriptors, tasks=tasks, input_size=4, widths=(8,))


def test_tasks_of_several_kinds_are_refused_by_name():
    tasks = (Task("sold", Binary()), Task("price", Regression()))
    with pytest.raises(
        ValueError, match=r"one kind with vector outputs, found Binary.*'sold'.*'pr"
    ):
        conditioned(tasks, TaskDescriptors(names=("sold", "price")))
    tasks = (Task("a", Multiclass(3)), Task("b", Multiclass(4)))
    with pytest.raises(ValueError, match=r"num_classes=3.*num_classes=4"):
        conditioned(tasks, TaskDescriptors(names=("a", "b")))
    with pytest.raises(ValueError, match=r"vector outputs, found Depth\(\) \('far'\)"):
        conditioned((Task("far", Depth()),), TaskDescriptors(names=("far",)))


def test_scales_of_regression_may_differ():
    tasks = (Task("a", Regression(mean=5.0)), Task("b", Regression(scale=3.0)))
    assert len(conditioned(tasks, TaskDescriptors(names=("a", "b")))(torch.zeros(2, 4))) == 2


def test_descriptors_must_hold_the_tasks_and_only_given_ones_may_hold_more():
    tasks = same_tasks(2)
    with pytest.raises(ValueError, match="No descriptor of task 't1'"):
        conditioned(tasks, TaskDescriptors(names=("t0",)))
    for more in ({}, {"size": 3}):
        with pytest.raises(ValueError, match=r"must be those of the tasks, found more: \['new'\]"):
            conditioned(tasks, TaskDescriptors(names=("t0", "t1", "new"), **more))
    given = TaskDescriptors(names=("new", "t1", "t0"), values=torch.randn(3, 2))
    model = conditioned(tasks, given)
    inputs = torch.randn(5, 4)
    assert list(model(inputs)) == ["t0", "t1"]
    found = model.predict_for(inputs, given(["t1", "new"]))
    torch.testing.assert_close(found[:, 0], model(inputs)["t1"])
    assert not torch.equal(found[:, 0], found[:, 1])
    with pytest.raises(ValueError, match=r"shape \[tasks, 2\] or \[2\], found \[3\]"):
        model.predict_for(inputs, torch.zeros(3))
    with pytest.raises(ValueError, match="No descriptor of task 'unheard'"):
        model({"unheard": inputs})


# --- in the trainer ------------------------------------------------------------------------------


def grid_model(kind: str, tasks, descriptors):
    if kind == "conditioned":
        return conditioned(tasks, descriptors)
    if kind == "gated":
        encoder = MLP(input_size=4, widths=(8,))
        return Gated(descriptors=descriptors, tasks=tasks, encoder=encoder)
    return TwoSided(descriptors=descriptors, tasks=tasks, inner_size=3, input_size=4)


@pytest.mark.parametrize("layout", ["shared", "separate"])
@pytest.mark.parametrize("kind", ["conditioned", "gated", "two-sided"])
def test_the_trainer_learns_tasks_that_differ_by_their_descriptor(kind, layout):
    # y_t = x_1 + a_t x_2 with the descriptor (1, a_t): multiplicative, so concatenation is slower.
    generator = torch.Generator().manual_seed(0)
    slopes = {"low": -1.0, "none": 0.0, "high": 1.0}
    rows = torch.randn(300, 4, generator=generator)
    targets = {name: rows[:, 0] + slope * rows[:, 1] for name, slope in slopes.items()}
    kinds = dict.fromkeys(slopes, Regression())
    problem = (
        Problem.from_arrays(rows, targets, kinds)
        if layout == "shared"
        else Problem.from_separate({n: (rows, y) for n, y in targets.items()}, kinds)
    )
    given = TaskDescriptors(names=list(slopes), values={n: (1.0, a) for n, a in slopes.items()})
    model = grid_model(kind, problem.tasks, given)
    settings = TrainingSettings(epochs=12, learning_rate=0.02, device="cpu")
    result = Trainer(problem, model, settings=settings).fit()
    first, last = result.history[0].train_losses, result.history[-1].train_losses
    for name in slopes:
        assert last[name] < 0.5 * first[name], name
