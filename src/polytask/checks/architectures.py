"""What every architecture must satisfy.

A check takes an *example*, a function from tasks to a small architecture and a batch of inputs for
it (the classmethod ``Architecture.example``, or a function of yours), and raises ``AssertionError``
with a sentence that says what is wrong. ``CHECKS`` holds all of them::

    for check in polytask.checks.architectures.CHECKS:
        check(MyArchitecture.example)

Shape legend: B batch, C output size, M ensemble members.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
from torch import Tensor

from polytask import architectures, encoders, tasks
from polytask.architectures import Architecture
from polytask.architectures.base import Inputs
from polytask.problems import table_batch
from polytask.tasks import Binary, Multiclass, Regression, Task, TaskTensors

__all__ = ["CHECKS", "Example", "example_tasks", "public_architectures"]

Example = Callable[[Sequence[Task]], tuple[Architecture, Inputs]]

# Names that a module's attribute or a dotted parameter name could be mistaken for.
_NAMES = ("a", "price.net", "größe", "forward", "e")


def example_tasks() -> tuple[Task, ...]:
    """Three homogeneous tasks, one of another size and one of another kind, under awkward names."""
    kinds = (Binary(), Regression(), Binary(), Multiclass(num_classes=3), Binary())
    return tuple(Task(name, kind) for name, kind in zip(_NAMES, kinds, strict=True))


def public_architectures() -> list[type[Architecture]]:
    """The concrete architectures among the exports of ``polytask.architectures``."""
    exported = [getattr(architectures, name) for name in architectures.__all__]
    return [
        item
        for item in exported
        if isinstance(item, type)
        and issubclass(item, Architecture)
        and not getattr(item, "__abstractmethods__", None)
    ]


def check_output_shapes(example: Example) -> None:
    """Every task has an output ``[B, C]``, with M members ``[M, B, C]`` in training."""
    wanted = example_tasks()
    model, inputs = example(wanted)
    for training in (True, False):
        outputs = model.train(training)(inputs)
        assert isinstance(outputs, TaskTensors), f"forward must return TaskTensors, not {outputs!r}"
        assert set(outputs) == {task.name for task in wanted}, (
            f"outputs are those of {list(outputs)}"
        )
        assert training or outputs.members == 1, "members must be averaged in evaluation"
        leading = (outputs.members,) if outputs.members > 1 else ()
        for task in model.tasks:
            expected = (*leading, _rows(inputs, task.name), task.kind.output_size)
            found = tuple(outputs[task.name].shape)
            assert found == expected, f"output of task {task.name!r} is {found}, not {expected}"


def check_parameters_disjoint_and_complete(example: Example) -> None:
    """Every parameter element is shared or one task's own, never both, never two tasks'."""
    model, _ = example(example_tasks())
    claims = {name: torch.zeros_like(p) for name, p in model.named_parameters()}
    names = {id(p): name for name, p in model.named_parameters()}
    for parameter in model.shared_parameters():
        claims[names[id(parameter)]] += 1
    for task in model.tasks:
        rows = list(model.task_rows(task.name))
        own = [id(parameter) for parameter in model.task_parameters(task.name)]
        assert [id(p) for p, _ in rows] == own, "task_rows and task_parameters differ"
        for parameter, index in rows:
            claims[names[id(parameter)]][index] += 1
    for name, count in claims.items():
        assert bool((count >= 1).all()), f"nobody claims some of parameter {name!r}"
        assert bool((count <= 1).all()), f"parameter {name!r} is claimed more than once"


def check_last_shared_is_shared(example: Example) -> None:
    """The last shared layer is a part of the shared parameters."""
    model, _ = example(example_tasks())
    shared = {id(p) for p in model.shared_parameters()}
    last = {id(p) for p in model.last_shared_parameters()}
    assert last <= shared, "last_shared_parameters yields parameters that are not shared"
    assert bool(last) == bool(shared), "there are shared parameters but no last shared layer"


def check_no_leak(example: Example) -> None:
    """A task's loss reaches its own and the shared parameters, and no other task's."""
    model, inputs = example(example_tasks())
    model.train()
    for task in model.tasks:
        model.zero_grad(set_to_none=True)
        model(inputs)[task.name].square().sum().backward()
        for other in model.tasks:
            largest = _largest_gradient(model, other.name)
            if other.name == task.name:
                own = bool(list(model.task_parameters(task.name)))
                assert largest > 0 or not own, f"task {task.name!r} does not train its parameters"
            else:
                assert largest == 0, (
                    f"the loss of {task.name!r} changes parameters of {other.name!r}"
                )
        shared = list(model.shared_parameters())
        reached = any(p.grad is not None and bool(p.grad.any()) for p in shared)
        assert reached or not shared, f"task {task.name!r} does not reach the shared parameters"


def check_one_task(example: Example) -> None:
    """A single task of any kind works, and trains all of its parameters' tensors."""
    for task in example_tasks():
        model, inputs = example((task,))
        outputs = model.train()(inputs)
        assert list(outputs) == [task.name], f"one task in, outputs of {list(outputs)} out"
        outputs[task.name].square().sum().backward()
        idle = [name for name, p in model.named_parameters() if p.grad is None]
        assert not idle, f"parameters without gradient in the one-task case: {idle}"


def check_evaluation_is_deterministic(example: Example) -> None:
    """Evaluation draws no random numbers, changes no buffer, and repeats itself."""
    model, inputs = example(example_tasks())
    model.train()(inputs)
    model.eval()
    before = {name: b.clone() for name, b in model.named_buffers()}
    state = torch.get_rng_state()
    first, second = model(inputs), model(inputs)
    assert torch.equal(torch.get_rng_state(), state), "evaluation draws random numbers"
    changed = [name for name, b in model.named_buffers() if not torch.equal(b, before[name])]
    assert not changed, f"evaluation changes the buffers {changed}"
    _assert_close(first, second, tolerance=0.0, message="two evaluations differ")


def check_rows_do_not_mix(example: Example) -> None:
    """In evaluation the output of a row does not depend on the other rows of its batch."""
    model, inputs = example(example_tasks())
    model.eval()
    whole = model(inputs)
    reverse = model(_map_inputs(inputs, lambda rows: rows.flip(0)))
    flipped = TaskTensors((names, block.flip(0)) for names, block in reverse.blocks)
    _assert_close(whole, flipped, tolerance=1e-5, message="outputs depend on the order of rows")
    first = model(_map_inputs(inputs, lambda rows: rows[:1]))
    start = whole.map(lambda block: block[:1])
    _assert_close(first, start, tolerance=1e-5, message="outputs depend on the other rows")


def check_some_tasks_only(example: Example) -> None:
    """Separate inputs: a step with some of the tasks gives their outputs, and those alone."""
    model, inputs = example(example_tasks())
    if not isinstance(inputs, Mapping):
        return
    model.eval()
    whole = model(inputs)
    for name, rows in inputs.items():
        alone = model({name: rows})
        assert list(alone) == [name], f"inputs of {name!r} alone give outputs of {list(alone)}"
        torch.testing.assert_close(alone[name], whole[name], atol=1e-5, rtol=1e-5)


def check_features_and_heads(example: Example) -> None:
    """Where there is one shared representation, heads on it are the whole model."""
    model, inputs = example(example_tasks())
    model.eval()
    features = model.features(inputs)
    if features is not None:
        outputs = model.heads(features)
        _assert_close(
            outputs, model(inputs), tolerance=1e-6, message="heads(features(x)) is not forward(x)"
        )


def check_state_round_trip(example: Example) -> None:
    """The `state_dict` of one instance makes another one give the same outputs."""
    model, inputs = example(example_tasks())
    model.train()(inputs)
    other, _ = example(example_tasks())
    other.load_state_dict({name: value.clone() for name, value in model.state_dict().items()})
    _assert_close(
        model.eval()(inputs), other.eval()(inputs), tolerance=0.0, message="state is incomplete"
    )


def check_float64(example: Example) -> None:
    """In double precision everything stays double, and agrees with single precision."""
    model, inputs = example(example_tasks())
    single = model.eval()(inputs)
    double = model.double()(_map_inputs(inputs, lambda rows: rows.double()))
    for names, block in double.blocks:
        assert block.dtype == torch.float64, (
            f"outputs of {names} are {block.dtype} in a double model"
        )
    rounded = double.map(lambda block: block.float())
    _assert_close(single, rounded, tolerance=1e-4, message="precisions disagree")


def check_repr_constructs(example: Example) -> None:
    """`repr` evaluates to an architecture of the same form."""
    model, _ = example(example_tasks())
    names = {
        name: getattr(module, name)
        for module in (architectures, encoders, table_batch, tasks)
        for name in module.__all__
    }
    names[type(model).__name__] = type(model)
    rebuilt = eval(repr(model), names)
    assert type(rebuilt) is type(model), f"repr gives a {type(rebuilt).__name__}"
    assert repr(rebuilt) == repr(model), "repr of the rebuilt architecture differs"
    shapes = [{n: p.shape for n, p in m.named_parameters()} for m in (model, rebuilt)]
    assert shapes[0] == shapes[1], "the rebuilt architecture has other parameters"


def check_auxiliary_losses(example: Example) -> None:
    """Loss terms of the architecture's own are named scalars."""
    model, inputs = example(example_tasks())
    for name, value in model.auxiliary_losses(inputs, model(inputs)).items():
        assert value.shape == (), f"auxiliary loss {name!r} has shape {tuple(value.shape)}, not ()"


#: Every check of this module, in order.
CHECKS: tuple[Callable[[Example], None], ...] = (
    check_output_shapes,
    check_parameters_disjoint_and_complete,
    check_last_shared_is_shared,
    check_no_leak,
    check_one_task,
    check_evaluation_is_deterministic,
    check_rows_do_not_mix,
    check_some_tasks_only,
    check_features_and_heads,
    check_state_round_trip,
    check_float64,
    check_repr_constructs,
    check_auxiliary_losses,
)


def _rows(inputs: Inputs, name: str) -> int:
    return len(inputs[name]) if isinstance(inputs, Mapping) else len(inputs)


def _map_inputs(inputs: Inputs, function: Callable[[Tensor], Tensor]) -> Inputs:
    if isinstance(inputs, Mapping):
        return {name: function(rows) for name, rows in inputs.items()}
    return function(inputs)


def _own_gradients(model: Architecture, name: str) -> Iterator[Tensor]:
    for parameter, index in model.task_rows(name):
        if parameter.grad is not None:
            yield parameter.grad[index]


def _largest_gradient(model: Architecture, name: str) -> float:
    return max((float(g.abs().max()) for g in _own_gradients(model, name)), default=0.0)


def _assert_close(
    found: TaskTensors, expected: TaskTensors, *, tolerance: float, message: str
) -> None:
    assert list(found) == list(expected), f"{message}: tasks {list(found)} and {list(expected)}"
    for name, value in found.items():
        try:
            torch.testing.assert_close(value, expected[name], atol=tolerance, rtol=tolerance)
        except AssertionError as error:
            raise AssertionError(f"{message} for task {name!r}: {error}") from error
