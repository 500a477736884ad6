"""Independent networks, cross-domain encoder-decoders, and wrapped modules."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from polytask.architectures import CrossDomain, CustomArchitecture, HardSharing, Independent
from polytask.encoders import MLP
from polytask.tasks import Binary, Depth, Multiclass, Regression, Segmentation, Task, TaskTensors

TASKS = (Task("a", Binary()), Task("b", Binary()), Task("c", Regression()))


class CountCalls(nn.Module):
    """A linear core that remembers how many rows it was given at each call."""

    def __init__(self, size: int):
        super().__init__()
        self.output_size = size
        self.linear = nn.Linear(size, size)
        self.rows = []

    def forward(self, features):
        self.rows.append(len(features))
        return self.linear(features)


class TwoHeads(nn.Module):
    """A module as a user would write it."""

    def __init__(self):
        super().__init__()
        self.trunk = nn.Linear(4, 8)
        self.heads = nn.ModuleDict({name: nn.Linear(8, 1) for name in "abc"})

    def forward(self, inputs):
        hidden = self.trunk(inputs).relu()
        return {name: head(hidden).squeeze(-1) for name, head in self.heads.items()}


def test_independent_networks_start_differently_and_have_all_parameters():
    encoder = MLP(input_size=4, widths=(8,))
    model = Independent(encoder=encoder, tasks=TASKS)
    one = HardSharing(encoder=encoder, tasks=TASKS[:1])
    sizes = [sum(p.numel() for p in m.parameters()) for m in (model, one)]
    assert sizes[0] == 3 * sizes[1]
    first, second = (next(model.task_parameters(name)) for name in "ab")
    assert not torch.equal(first, second)
    assert all(p is not q for p in encoder.parameters() for q in model.parameters())


def test_independent_takes_a_function_and_refuses_a_module_it_cannot_copy():
    def make():
        return CountCalls(4)

    model = Independent(encoder=make, tasks=TASKS)
    model(torch.randn(5, 4))
    assert [network[0].rows for network in model.networks] == [[5], [5], [5]]
    with pytest.raises(TypeError, match="cannot make fresh copies of a CountCalls"):
        Independent(encoder=make(), tasks=TASKS)


def test_cross_domain_is_head_of_core_of_encoder():
    sizes = {"a": 3, "b": 5, "c": 2}
    encoders = {name: MLP(input_size=size, widths=(6,)) for name, size in sizes.items()}
    core = CountCalls(6)
    model = CrossDomain(encoders=encoders, core=core, tasks=TASKS)
    inputs = {name: torch.randn(size + 2, size) for name, size in sizes.items()}
    outputs = model(inputs)
    assert core.rows == [5 + 7 + 4]
    for name, rows in inputs.items():
        weight, bias = (p.squeeze() for p in model.task_heads["abc".index(name)].parameters())
        by_hand = core.linear(encoders[name](rows)) @ weight + bias
        torch.testing.assert_close(outputs[name].squeeze(-1), by_hand)
    assert list(model.encoders) == ["a", "b", "c"]
    assert list(model.shared_parameters()) == list(core.parameters())


def test_cross_domain_names_what_is_wrong():
    encoders = {name: MLP(input_size=3, widths=(6,)) for name in "abc"}
    core = MLP(input_size=6)
    with pytest.raises(ValueError, match=r"one encoder per task, found no pair for \['c'\]"):
        CrossDomain(encoders={"a": encoders["a"], "b": encoders["b"]}, core=core, tasks=TASKS)
    with pytest.raises(ValueError, match="must agree in `output_size`"):
        CrossDomain(encoders={**encoders, "c": MLP(input_size=3)}, core=core, tasks=TASKS)
    model = CrossDomain(encoders=encoders, core=core, tasks=TASKS)
    with pytest.raises(
        ValueError, match=r"one tensor per task, found one tensor of shape \[2, 3\]"
    ):
        model(torch.zeros(2, 3))
    with pytest.raises(ValueError, match=r"no encoder for \['d'\]"):
        model({"d": torch.zeros(2, 3)})


def test_wrapped_module_keeps_its_outputs_and_its_heads():
    module = TwoHeads()
    model = CustomArchitecture(module=module, tasks=TASKS, own={n: [f"heads.{n}"] for n in "abc"})
    inputs = torch.randn(5, 4)
    outputs = model(inputs)
    assert [names for names, _ in outputs.blocks] == [("a", "b"), ("c",)]
    for name, value in module(inputs).items():
        torch.testing.assert_close(outputs[name].squeeze(-1), value)
    assert list(model.shared_parameters()) == list(module.trunk.parameters())
    assert list(model.task_parameters("b")) == list(module.heads["b"].parameters())


def test_wrapped_module_with_one_tensor_or_task_tensors():
    inputs = torch.randn(5, 4)
    tasks = (Task("x", Multiclass(num_classes=3)), Task("y", Regression(size=2)))
    linear = nn.Linear(4, 5)
    outputs = CustomArchitecture(module=linear, tasks=tasks)(inputs)
    torch.testing.assert_close(torch.cat([outputs["x"], outputs["y"]], dim=1), linear(inputs))
    inner = HardSharing(encoder=MLP(input_size=4), tasks=TASKS)
    outputs = CustomArchitecture(module=inner, tasks=TASKS)(inputs)
    assert isinstance(outputs, TaskTensors)
    torch.testing.assert_close(outputs["c"], inner(inputs)["c"])


def test_wrapped_dense_outputs():
    class Dense(nn.Module):
        def forward(self, images):
            return {"seg": images.repeat(1, 3, 1, 1), "depth": images.squeeze(1)}

    tasks = (Task("seg", Segmentation(num_classes=3)), Task("depth", Depth()))
    outputs = CustomArchitecture(module=Dense(), tasks=tasks)(torch.randn(2, 1, 4, 5))
    assert outputs["seg"].shape == (2, 3, 4, 5)
    assert outputs["depth"].shape == (2, 1, 4, 5)


@pytest.mark.parametrize(
    ("own", "message"),
    [
        ({"z": ["trunk"]}, "names the task 'z'"),
        ({"a": ["heads.z"]}, "'heads.z', which matches no parameter"),
        ({"a": ["heads"], "b": ["heads.b"]}, "'heads.b.weight' is given to the tasks 'a' and 'b'"),
    ],
)
def test_wrapped_refuses_parts_that_do_not_fit(own, message):
    with pytest.raises(ValueError, match=message):
        CustomArchitecture(module=TwoHeads(), tasks=TASKS, own=own)


class Returns(nn.Module):
    """Returns what it was given, whatever the inputs."""

    def __init__(self, value):
        super().__init__()
        self.value = value

    def forward(self, inputs):
        del inputs
        return self.value


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (torch.zeros(5, 2), r"must return \[B, 3\]"),
        ([torch.zeros(5, 3)], "must return a dict of tensors or one tensor, found list"),
        ({"a": torch.zeros(5, 1)}, r"returned no output for \['b', 'c'\]"),
        (
            dict.fromkeys("abc", torch.zeros(5, 2)),
            r"Task 'a' needs outputs with 1 values .*\[5, 2\]",
        ),
    ],
)
def test_wrapped_refuses_outputs_that_do_not_fit(value, message):
    with pytest.raises(ValueError, match=message):
        CustomArchitecture(module=Returns(value), tasks=TASKS)(torch.zeros(5, 4))
