"""Task parameters inside a shared network: reference layers, one pass for all tasks, counts."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tests.architectures.reference_layers import layer_cases
from tests.architectures.sharing.test_hard_sharing import CountOperations
from torch import nn

from polytask import architectures, encoders
from polytask.architectures import Family, HardSharing
from polytask.architectures.adaptations.adapters import Adapters, Scaling
from polytask.architectures.adaptations.attention import LowRank, ProjectedAttention
from polytask.architectures.adaptations.layers import TaskLinear, TaskRows
from polytask.architectures.adaptations.task_adapted import TaskAdapted
from polytask.balancers import PCGrad
from polytask.checks import architectures as checks
from polytask.encoders import MLP
from polytask.encoders.transformer import TokenInputs, Transformer, VectorInputs
from polytask.gradients import gramian
from polytask.problems import Problem, SeparateSplit, Split
from polytask.samplers.annealed import AnnealedSampler
from polytask.tasks import Binary, Multiclass, Segmentation, Task
from polytask.training import Trainer, TrainingSettings

PALS = ProjectedAttention(size=4, heads=2)
ADAPTATIONS = {
    "pals": PALS,
    "pals_per_layer": ProjectedAttention(size=4, heads=2, shared=False, activation_after=True),
    "low_rank": LowRank(size=3),
    "low_rank_shared": LowRank(size=3, shared=True),
    "adapters": Adapters(size=3),
    "scaling": Scaling(),
}
TASKS = (
    Task("a", Binary()),
    Task("b", Multiclass(num_classes=3)),
    Task("c", Binary()),
    Task("d", Multiclass(num_classes=3)),
)


def encoder_of(norm: str = "post", pooling: str = "first") -> Transformer:
    return Transformer(
        inputs=TokenInputs(vocabulary=11, length=6),
        width=8,
        depth=2,
        heads=2,
        norm=norm,
        pooling=pooling,
    )


def tokens(rows: int) -> torch.Tensor:
    found = torch.randint(1, 11, (rows, 5))
    found[0, 2:] = 0
    return found


def adapted(adaptation, tasks=TASKS, **changes) -> TaskAdapted:
    """With task parameters that say something."""
    model = TaskAdapted(encoder=encoder_of(**changes), tasks=tasks, adaptation=adaptation)
    with torch.no_grad():
        for parameter in model.task_layers.parameters():
            parameter.add_(0.5 * torch.randn_like(parameter))
    return model.eval()


# --- the checks of every architecture ------------------------------------------------------------


@pytest.fixture
def names_in_reach(monkeypatch):
    """What a repr may name, also before it is exported."""
    parts = {
        encoders: (TokenInputs, Transformer, VectorInputs),
        architectures: (Adapters, LowRank, ProjectedAttention, Scaling, TaskAdapted),
    }
    for module, classes in parts.items():
        for item in classes:
            monkeypatch.setattr(module, item.__name__, item, raising=False)
        names = {*module.__all__, *(item.__name__ for item in classes)}
        monkeypatch.setattr(module, "__all__", sorted(names))


def shared_inputs(adaptation, norm):
    def example(tasks):
        encoder = encoder_of(norm, "mean")
        return TaskAdapted(encoder=encoder, tasks=tasks, adaptation=adaptation), tokens(6)

    return example


def separate_inputs(adaptation, norm):
    def example(tasks):
        model = TaskAdapted(
            encoder=encoder_of(norm), tasks=tasks, adaptation=adaptation, head="mlp"
        )
        return model, {task.name: tokens(3 + i % 2) for i, task in enumerate(tasks)}

    return example


def vectors(tasks):
    encoder = Transformer(inputs=VectorInputs(size=3, length=4), width=8, depth=1, heads=2)
    return TaskAdapted(encoder=encoder, tasks=tasks, adaptation=PALS), torch.randn(6, 4, 3)


EXAMPLES = [
    pytest.param(TaskAdapted.example, id="example"),
    pytest.param(vectors, id="vectors"),
    *(
        pytest.param(make(adaptation, norm), id=f"{name}-{norm}-{make.__name__}")
        for name, adaptation in ADAPTATIONS.items()
        for make, norm in ((shared_inputs, "post"), (separate_inputs, "pre"))
    ),
]


@pytest.mark.parametrize("check", checks.CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("example", EXAMPLES)
@pytest.mark.usefixtures("names_in_reach")
def test_conformance(example, check):
    check(example)


# --- the layers ----------------------------------------------------------------------------------


def stack_tasks(value: torch.Tensor, row: int, num_tasks: int) -> torch.Tensor:
    """The value as one task's row, noise as those of the others."""
    block = torch.randn(num_tasks, *value.shape, dtype=value.dtype)
    block[row] = value
    return block


def load(layer: TaskLinear, weight: torch.Tensor, bias: torch.Tensor, row: int) -> None:
    with torch.no_grad():
        layer.weight.copy_(stack_tasks(weight, row, len(layer.weight)))
        layer.bias.copy_(stack_tasks(bias, row, len(layer.bias)))


@pytest.mark.parametrize("number", range(4))
def test_layers_are_those_of_the_released_code(shared, number):
    case = list(layer_cases(shared, "pals"))[number]
    given, hidden = case.parameters, case.inputs["h"].requires_grad_()
    is_attention = case.settings["kind"] == "pal"
    size, width = given["aug_dense.weight"].shape
    adaptation = (
        ProjectedAttention(size=size, heads=case.settings["heads"], activation_after=True)
        if is_attention
        else LowRank(size=size)
    )
    layers = adaptation.build(num_tasks=3, width=width, depth=1).double()
    row = 1
    places = {"aug_dense": layers.encode[0], "aug_dense2": layers.decode[0]}
    for name, layer in places.items():
        load(layer, given[f"{name}.weight"], given[f"{name}.bias"], row)
    parts = [f"attn.{part}" for part in ("query", "key", "value")]
    if is_attention:
        joint = layers.middle[0].query_key_value
        stacked = [torch.cat([given[f"{part}.{p}"] for part in parts]) for p in ("weight", "bias")]
        load(joint, *stacked, row)
    padding = case.inputs["mask"][:, 0, 0] < 0
    rows = TaskRows(torch.tensor([row]), [len(hidden)], device=hidden.device, padding=padding)
    output = rows.ungroup(layers.path(0, rows.group(hidden), rows))
    (0.5 * output.square().sum()).backward()
    found = {"out": output, "g.h": hidden.grad}
    for p in ("weight", "bias"):
        found |= {f"gp.{name}.{p}": getattr(layer, p).grad[row] for name, layer in places.items()}
        if is_attention:
            pieces = getattr(joint, p).grad[row].chunk(3)
            found |= {f"gp.{part}.{p}": g for part, g in zip(parts, pieces, strict=True)}
    case.check(found)
    for parameter in layers.parameters():
        assert not parameter.grad[[0, 2]].any()


def test_pals_stand_beside_the_feed_forward_part_and_see_the_layers_input():
    model = adapted(PALS).double()
    ids = tokens(3)
    rows = TaskRows(torch.tensor([2]), [3], device=ids.device, padding=ids == 0)
    states = model.encoder.embedding(ids)
    for number, layer in enumerate(model.encoder.layers):
        attention = layer.attention(states, rows.mask)
        middle = layer.attention_norm(states + attention)
        beside = model.task_layers.path(number, states[None], rows)[0]
        states = layer.feed_forward_norm(middle + layer.feed_forward(middle) + beside)
    name = model.task_heads.order[2]
    output = model.task_heads.some(states[:, 0], [name], [3])[name]
    torch.testing.assert_close(model({name: ids})[name], output)


def test_adapters_change_what_both_parts_of_a_layer_add():
    model = adapted(Adapters(size=3)).double()
    ids = tokens(3)
    rows = TaskRows(torch.tensor([0]), [3], device=ids.device, padding=ids == 0)
    inside = model.task_layers

    def adapter(block, values):
        encode, decode = (
            nn.functional.linear(values, layer.weight[0], layer.bias[0])
            if layer is block.encode
            else layer
            for layer in (block.encode, block.decode)
        )
        small = nn.functional.gelu(encode)
        return values + nn.functional.linear(small, decode.weight[0], decode.bias[0])

    states = model.encoder.embedding(ids)
    for number, layer in enumerate(model.encoder.layers):
        attention = adapter(inside.attention[number], layer.attention(states, rows.mask))
        states = layer.attention_norm(states + attention)
        added = adapter(inside.feed_forward[number], layer.feed_forward(states))
        states = layer.feed_forward_norm(states + added)
    output = model.task_heads.some(states[:, 0], ["a"], [3])["a"]
    torch.testing.assert_close(model({"a": ids})["a"], output)


def test_scaling_multiplies_what_a_layer_returns():
    model = adapted(Scaling(), norm="pre").double()
    ids = tokens(3)
    mask = TaskRows(None, [3], device=ids.device, padding=ids == 0).mask
    states = model.encoder.embedding(ids)
    for layer, scale in zip(model.encoder.layers, model.task_layers.scales, strict=True):
        states = layer(states, mask) * 2 / (1 + torch.exp(-scale[0]))
    states = model.encoder.final_norm(states)
    output = model.task_heads.some(states[:, 0], ["a"], [3])["a"]
    torch.testing.assert_close(model({"a": ids})["a"], output)


# --- all tasks in one pass -----------------------------------------------------------------------


def alone(model: TaskAdapted, name: str) -> TaskAdapted:
    """A model of one task with that task's parameters."""
    task = next(task for task in model.tasks if task.name == name)
    single = TaskAdapted(encoder=model.encoder, tasks=[task], adaptation=model.adaptation).eval()
    with torch.no_grad():
        for (target, _), (source, index) in zip(
            single.task_rows(name), model.task_rows(name), strict=True
        ):
            target.copy_(source[index].unsqueeze(0))
    return single.double()


@pytest.mark.parametrize("adaptation", ADAPTATIONS.values(), ids=ADAPTATIONS)
@pytest.mark.parametrize("counts", [(3, 3, 3, 3), (1, 4, 2, 3)], ids=["equal", "unequal"])
def test_one_pass_is_a_pass_per_task(adaptation, counts):
    model = adapted(adaptation).double()
    inputs = {task.name: tokens(n) for task, n in zip(TASKS, counts, strict=True)}
    together = model(inputs)
    everywhere = model(inputs["b"])
    for task in TASKS:
        single = alone(model, task.name)
        torch.testing.assert_close(together[task.name], single(inputs[task.name])[task.name])
        torch.testing.assert_close(everywhere[task.name], single(inputs["b"])[task.name])


@pytest.mark.parametrize("adaptation", ADAPTATIONS.values(), ids=ADAPTATIONS)
def test_first_outputs_are_those_of_hard_sharing(adaptation):
    model = TaskAdapted(encoder=encoder_of(), tasks=TASKS, adaptation=adaptation).eval()
    plain = HardSharing(encoder=model.encoder, tasks=TASKS).eval()
    for task in TASKS:
        for (target, place), (source, index) in zip(
            plain.task_heads.task_rows(task.name),
            model.task_heads.task_rows(task.name),
            strict=True,
        ):
            with torch.no_grad():
                target[place] = source[index]
    ids = tokens(4)
    for name, output in plain(ids).items():
        torch.testing.assert_close(model(ids)[name], output)


@pytest.mark.parametrize("adaptation", ADAPTATIONS.values(), ids=ADAPTATIONS)
def test_operations_do_not_grow_with_the_number_of_tasks(adaptation):
    counts = []
    for number in (2, 40):
        model = adapted(adaptation, tasks=[Task(f"t{i}", Binary()) for i in range(number)])
        with CountOperations() as counter:
            model(tokens(3))
        counts.append(counter.count)
    assert counts[0] == counts[1]


def test_no_hook_stays_on_the_encoder():
    model = adapted(PALS)
    model(tokens(2))
    with pytest.raises(ValueError, match="Token ids"):
        model(torch.full((2, 3), 11))
    for module in model.encoder.modules():
        assert not module._forward_hooks
        assert not module._forward_pre_hooks


@pytest.mark.parametrize("counts", [(2, 2), (1, 3, 2)])
def test_grouping_and_back_is_the_identity(counts):
    rows = TaskRows(None, counts, device=torch.device("cpu"))
    values = torch.randn(sum(counts), 3)
    grouped = rows.group(values)
    assert grouped.shape == (len(counts), max(counts), 3)
    start = 0
    for task, count in enumerate(counts):
        assert torch.equal(grouped[task, :count], values[start : start + count])
        start += count
    assert torch.equal(rows.ungroup(grouped), values)


# --- parameters ----------------------------------------------------------------------------------


def bert_base() -> Transformer:
    """Of the size of BERT-base, without memory."""
    with torch.device("meta"):
        return Transformer(
            inputs=TokenInputs(vocabulary=30_522, length=512), width=768, depth=12, heads=12
        )


def test_pals_for_the_eight_tasks_of_glue_are_1_13_times_bert():
    tasks = [Task(f"t{i}", Binary()) for i in range(8)]
    with torch.device("meta"):
        model = TaskAdapted(
            encoder=bert_base(), tasks=tasks, adaptation=ProjectedAttention(size=204, heads=6)
        )
    report = model.parameter_report()
    pair, attention = 2 * 768 * 204 + 204 + 768, 3 * (204**2 + 204)
    assert report.inside == 8 * (pair + 12 * attention)
    assert report.relative == pytest.approx(1.13, abs=0.005)
    assert report.total == report.shared + report.inside + report.heads
    assert report.separate == 8 * report.shared + report.heads
    assert sum(p.numel() for p in model.parameters()) == report.total


@pytest.mark.parametrize(
    ("adaptation", "per_task"),
    [
        (PALS, (8 * 4 + 4) + (4 * 8 + 8) + 2 * (12 * 4 + 12)),
        (ADAPTATIONS["pals_per_layer"], 2 * ((8 * 4 + 4) + (4 * 8 + 8) + (12 * 4 + 12))),
        (LowRank(size=3), 2 * ((8 * 3 + 3) + (3 * 8 + 8))),
        (LowRank(size=3, shared=True), (8 * 3 + 3) + (3 * 8 + 8)),
        (Adapters(size=3), 4 * ((8 * 3 + 3) + (3 * 8 + 8))),
        (Scaling(), 2 * 8),
    ],
    ids=lambda value: None if isinstance(value, int) else repr(value),
)
def test_parameters_per_task(adaptation, per_task):
    report = adapted(adaptation).parameter_report()
    assert report.inside == 4 * per_task


def test_a_task_descriptor_family_is_not_claimed():
    assert TaskAdapted.family is Family.INTRA_DOMAIN


def test_last_shared_parameters_are_those_of_the_last_layer():
    model = adapted(PALS)
    assert list(model.last_shared_parameters()) == list(model.encoder.layers[1].parameters())


# --- training ------------------------------------------------------------------------------------


def opposite(sizes: dict[str, int]) -> Problem:
    """Tasks that must say opposite things about the same first token."""
    parts = {}
    for part in ("train", "validation", "test"):
        found = {}
        for sign, (name, size) in enumerate(sizes.items()):
            ids = torch.randint(1, 11, (size, 5))
            found[name] = Split(ids, {name: ((ids[:, 0] > 5) ^ bool(sign)).long()}, [TASK[name]])
        parts[part] = SeparateSplit(found)
    return Problem(name="opposite", **parts)


TASK = {name: Task(name, Binary()) for name in ("big", "small")}


def test_gramian_of_the_shared_parameters_is_that_of_the_jacobian():
    model = adapted(PALS).double()
    outputs = model(tokens(6))
    losses = torch.stack([output.square().mean() for output in outputs.values()])
    shared = list(model.shared_parameters())
    rows = [
        torch.cat([g.flatten() for g in torch.autograd.grad(loss, shared, retain_graph=True)])
        for loss in losses
    ]
    jacobian = torch.stack(rows)
    torch.testing.assert_close(gramian(losses, shared), jacobian @ jacobian.mT)


@pytest.mark.parametrize("together", [True, False], ids=["projected", "annealed"])
def test_opposite_tasks_are_learned(together):
    problem = opposite({"big": 96, "small": 64})
    model = TaskAdapted(encoder=encoder_of(), tasks=problem.tasks, adaptation=PALS)
    settings = TrainingSettings(
        epochs=8 if together else 12, batch_size=32, learning_rate=3e-2, device="cpu"
    )
    trainer = Trainer(
        problem,
        model,
        balancer=PCGrad() if together else None,
        sampler=None if together else AnnealedSampler(epochs=12, draws_per_epoch=3),
        settings=settings,
    )
    history = trainer.fit().history
    for name in ("big", "small"):
        assert min(e.validation_losses[name] for e in history if e.validation_losses) < 0.2


def test_the_model_for_a_problem_takes_its_rows():
    words = opposite({"big": 8, "small": 6})
    model = TaskAdapted.for_problem(words)
    assert model.encoder.inputs == TokenInputs(vocabulary=11, length=5)
    assert list(model({"small": words.test.parts["small"].inputs})) == ["small"]
    numbers = {name: np.arange(20) % 2 for name in "ab"}
    kinds = {name: Binary() for name in "ab"}
    series = Problem.from_arrays(np.zeros((20, 7, 3)), numbers, kinds)
    assert TaskAdapted.for_problem(series).encoder.inputs == VectorInputs(size=3, length=7)
    table = Problem.from_arrays(np.zeros((20, 7)), numbers, kinds, name="table")
    with pytest.raises(ValueError, match=r"'table' has rows of shape \[7\], torch.float32"):
        TaskAdapted.for_problem(table)


# --- bad input -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: TaskAdapted(encoder=MLP(input_size=3), tasks=TASKS, adaptation=PALS),
            "found a MLP; derive it from LayeredEncoder",
        ),
        (
            lambda: TaskAdapted(
                encoder=encoder_of(), tasks=[Task("map", Segmentation(2))], adaptation=PALS
            ),
            "'map' is a Segmentation",
        ),
        (
            lambda: TaskAdapted(encoder=encoder_of(), tasks=TASKS, adaptation=PALS, head="deep"),
            "`head` must be 'linear' or 'mlp'",
        ),
        (lambda: adapted(PALS)({"e": tokens(2)}), r"no task \['e'\]"),
        (
            lambda: adapted(PALS)({"a": tokens(2), "b": tokens(2)[:, :4]}),
            r"one shape for all tasks .* 'b': \[4\]",
        ),
        (lambda: ProjectedAttention(size=10, heads=3), "`heads` must divide `size` 10, found 3"),
        (lambda: ProjectedAttention(size=0), "`size` must be at least 1"),
        (lambda: LowRank(size=0), "`size` must be at least 1"),
        (lambda: Adapters(size=-1), "`size` must be at least 1"),
    ],
)
def test_bad_input_is_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()
