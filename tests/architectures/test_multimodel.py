"""MultiModel: its blocks by hand, experts and their balance, decoding, and what tasks share."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional

from polytask import architectures, tasks
from polytask.architectures import multimodel
from polytask.architectures.multimodel import (
    AudioModality,
    CategoricalModality,
    ImageModality,
    MixtureOfExperts,
    MultiModel,
    MultiModelBody,
    TextModality,
)
from polytask.architectures.multimodel.blocks import AttentionBlock, ConvBlock, ConvStep
from polytask.checks import architectures as checks
from polytask.tasks import Binary, Multiclass, Regression, Segmentation, Task, TokenSequence

SMALL = MultiModelBody(
    size=8, depth=1, kernels=(3, 3, 5, 5), dilation=2, num_heads=2, num_experts=3
)
WORDS = 9


def one_modality(tasks):
    """Every task reads the same net, and no block is left out by chance of its size."""
    net = AudioModality(samples=20, size=8, stride=4)
    reads = {task.name: "audio" for task in tasks}
    model = MultiModel(tasks=tasks, modalities={"audio": net}, reads=reads, body=SMALL)
    return model, {task.name: torch.randn(2 + i, 20) for i, task in enumerate(tasks)}


def without_blocks(tasks):
    body = MultiModelBody(size=8, depth=2, kernels=(3, 3, 3, 3), num_heads=0, num_experts=0)
    net = TextModality(vocabulary=WORDS, size=8)
    reads = {task.name: "text" for task in tasks}
    model = MultiModel(tasks=tasks, modalities={"text": net}, reads=reads, body=body)
    codes = {task.name: torch.randint(-1, WORDS, (3, 2 + i)) for i, task in enumerate(tasks)}
    return model, {name: rows.float() for name, rows in codes.items()}


@pytest.mark.parametrize("check", checks.CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("example", [MultiModel.example, one_modality, without_blocks])
def test_conformance(example, check, monkeypatch):
    names = multimodel.__all__
    monkeypatch.setattr(architectures, "__all__", sorted({*architectures.__all__, *names}))
    for name in names:
        monkeypatch.setattr(architectures, name, getattr(multimodel, name), raising=False)
    check(example)


# --- blocks --------------------------------------------------------------------------------------


@pytest.mark.parametrize("causal", [True, False])
def test_a_convolution_step_is_norm_of_separable_convolution_of_relu(causal):
    step = ConvStep(size=6, kernel=5, dilation=2, causal=causal)
    tokens, present = torch.randn(3, 9, 6), torch.ones(3, 9, dtype=torch.bool)
    padded = functional.pad(tokens.relu().mT, (8, 0) if causal else (4, 4))
    filtered = functional.conv1d(padded, step.taps.mT.unsqueeze(1), dilation=2, groups=6)
    expected = step.norm(step.pointwise(filtered.mT))
    torch.testing.assert_close(step(tokens, present), expected)


def test_a_causal_step_sees_no_later_position_and_no_absent_one():
    step = ConvStep(size=4, kernel=3, dilation=2, causal=True)
    tokens = (1 + torch.rand(1, 7, 4)).requires_grad_()  # positive: relu lets all through
    present = torch.ones(1, 7, dtype=torch.bool)
    present[0, 2] = False
    step(tokens, present)[0, 4].pow(3).sum().backward()
    seen = tokens.grad[0].abs().sum(-1) > 0
    assert seen.tolist() == [True, False, False, False, True, False, False]


def test_a_convolution_block_adds_its_input_at_the_second_and_fourth_step():
    block = ConvBlock(SMALL, causal=False).eval()
    tokens, present = torch.randn(2, 6, 8), torch.ones(2, 6, dtype=torch.bool)
    first, second, third, fourth = (lambda x, s=s: s(x, present) for s in block.steps)
    middle = tokens + second(first(tokens))
    torch.testing.assert_close(block(tokens, present), tokens + fourth(third(middle)))
    assert [len(step.taps) for step in block.steps] == [3, 3, 5, 5]
    assert [step.dilation for step in block.steps] == [1, 1, 1, 2]


def test_attention_is_causal_in_the_answer_and_looks_at_the_present_source_only():
    block = AttentionBlock(SMALL)
    answer = torch.randn(1, 5, 8, requires_grad=True)
    source = torch.randn(1, 4, 8, requires_grad=True)
    present = torch.tensor([[True, True, False, True]])
    known = torch.ones(1, 5, dtype=torch.bool)
    block(answer, known, source, present)[0, 2].square().sum().backward()
    assert (answer.grad[0].abs().sum(-1) > 0).tolist() == [True, True, True, False, False]
    assert (source.grad[0].abs().sum(-1) > 0).tolist() == [True, True, False, True]


# --- experts -------------------------------------------------------------------------------------


def dense_mixture(mixture, tokens, gates):
    """All experts on all tokens, weighted by gates ``[R, E]``."""
    inner = torch.einsum("rd,edh->reh", tokens, mixture.inner_weight) + mixture.inner_bias
    outer = torch.einsum("reh,ehd->red", inner.relu(), mixture.outer_weight) + mixture.outer_bias
    return (outer * gates.unsqueeze(-1)).sum(1)


@pytest.mark.parametrize("chosen", [1, 2, 4])
def test_a_mixture_is_the_gated_sum_over_the_chosen_experts(chosen):
    mixture = MixtureOfExperts(size=5, num_experts=4, chosen=chosen).double().eval()
    nn.init.normal_(mixture.gate_weight)
    tokens = torch.randn(11, 5).double()
    logits = tokens @ mixture.gate_weight
    kept = logits >= logits.sort(-1).values[:, -chosen, None]
    gates = torch.softmax(logits.masked_fill(~kept, -torch.inf), -1)
    found, balance = mixture(tokens)
    torch.testing.assert_close(found, dense_mixture(mixture, tokens, gates))
    importance = gates.sum(0)
    variation = importance.std(correction=0) / importance.mean()
    torch.testing.assert_close(balance, variation.square())


def test_experts_that_no_token_chooses_are_not_trained():
    mixture = MixtureOfExperts(size=3, num_experts=4, chosen=1).eval()
    with torch.no_grad():
        mixture.gate_weight.copy_(torch.tensor([[9.0, 0, 0, 0], [0, 0, 9, 0], [0, 0, 0, 0]]))
    mixture(torch.tensor([[1.0, 0, 0], [0, 1.0, 0]]))[0].sum().backward()
    trained = mixture.outer_bias.grad.abs().sum(-1) > 0
    assert trained.tolist() == [True, False, True, False]


def test_the_load_is_the_probability_to_be_chosen_when_ones_own_noise_is_drawn_anew():
    mixture = MixtureOfExperts(size=3, num_experts=4, chosen=2).double()
    tokens = torch.randn(1, 3).double()
    nn.init.normal_(mixture.gate_weight)
    clean = tokens @ mixture.gate_weight
    spread = torch.tensor([[0.5, 1.0, 1.5, 0.7]]).double()
    noisy = clean + spread * torch.randn(1, 4).double()
    load = mixture._load(clean, noisy, spread)[0]
    draws = 40_000
    for expert in range(4):
        again = noisy.repeat(draws, 1)
        fresh = clean[0, expert] + spread[0, expert] * torch.randn(draws).double()
        again[:, expert] = fresh
        share = (again.topk(2, dim=-1).indices == expert).any(-1).double().mean()
        torch.testing.assert_close(load[expert], share, atol=0.01, rtol=0)


def test_the_balance_loss_is_0_for_equal_use_and_evens_out_unequal_use():
    torch.manual_seed(0)
    mixture = MixtureOfExperts(size=4, num_experts=4, chosen=1)
    tokens = torch.eye(4).repeat(16, 1)
    with torch.no_grad():
        mixture.gate_weight.copy_(9 * torch.eye(4))
    assert mixture.eval()(tokens)[1].item() == pytest.approx(0)
    with torch.no_grad():
        mixture.gate_weight.copy_(torch.tensor([2.0, 0, 0, 0]).expand(4, 4))
    assert mixture(tokens)[1].item() == pytest.approx(3)  # one of four: variance 3, mean 1
    optimizer = torch.optim.Adam(mixture.parameters(), lr=0.05)
    for _ in range(60):
        optimizer.zero_grad()
        mixture.train()(tokens)[1].backward()
        optimizer.step()
    importance = torch.zeros(4).index_add(0, mixture.route(tokens)[1][:, 0], torch.ones(64))
    assert importance.max() <= 32


def test_in_training_gates_are_noisy_and_in_evaluation_they_are_not():
    mixture = MixtureOfExperts(size=4, num_experts=4, chosen=1)
    tokens = torch.randn(64, 4)
    first, second = (mixture.train().route(tokens)[1] for _ in range(2))
    assert not torch.equal(first, second)
    first, second = (mixture.eval().route(tokens)[1] for _ in range(2))
    assert torch.equal(first, second)


# --- decoding ------------------------------------------------------------------------------------

LANGUAGE = (
    Task("reverse", TokenSequence(vocabulary=WORDS)),
    Task("topic", Multiclass(num_classes=3)),
    Task("copy", TokenSequence(vocabulary=WORDS)),
    Task("caption", TokenSequence(vocabulary=WORDS)),
    Task("size", Regression()),
)


def language_model(**changes) -> MultiModel:
    settings = {
        "tasks": LANGUAGE,
        "modalities": {
            "text": TextModality(vocabulary=WORDS, size=8),
            "image": ImageModality(channels=1, height=4, width=5, size=8),
        },
        "reads": {
            "reverse": "text",
            "topic": "text",
            "copy": "text",
            "caption": "image",
            "size": "image",
        },
        "writes": dict.fromkeys(("reverse", "copy", "caption"), "text"),
        "lengths": {"reverse": 5, "copy": 5, "caption": 3},
        "body": SMALL,
    }
    return MultiModel(**{**settings, **changes}).eval()


def packed(sources, prefix):
    return torch.cat([sources.flatten(1), prefix.to(sources)], dim=1)


def unknown(rows, length):
    return torch.full((rows, length), -1)


def test_outputs_of_every_length_come_from_one_pass():
    model = language_model()
    inputs = {
        "reverse": packed(torch.randint(WORDS, (2, 6)), torch.randint(WORDS, (2, 4))),
        "topic": torch.randint(WORDS, (3, 4)),
        "caption": packed(torch.randn(4, 1, 4, 5), torch.randint(WORDS, (4, 2))),
        "size": torch.randn(1, 1, 4, 5),
    }
    calls = []
    model.decoder.register_forward_hook(lambda module, given, made: calls.append(given[0].shape))
    outputs = model(inputs)
    assert calls == [(10, 5, 8)]
    shapes = {name: tuple(output.shape) for name, output in outputs.items()}
    assert shapes == {"reverse": (2, 5, 9), "topic": (3, 3), "caption": (4, 3, 9), "size": (1, 1)}
    for name, rows in inputs.items():
        torch.testing.assert_close(model({name: rows})[name], outputs[name])


def test_an_output_depends_on_the_tokens_before_it_only():
    model = language_model()
    sources, prefix = torch.randint(WORDS, (1, 6)), torch.randint(WORDS, (1, 4))
    before = model({"copy": packed(sources, prefix)})["copy"][0]
    prefix[0, 2] = (prefix[0, 2] + 1) % WORDS  # the third token is known from the fourth output on
    after = model({"copy": packed(sources, prefix)})["copy"][0]
    torch.testing.assert_close(after[:3], before[:3])
    assert not torch.allclose(after[3], before[3])
    assert not torch.allclose(after[4], before[4])


def test_what_is_generated_is_what_the_model_says_after_its_own_tokens():
    model = language_model()
    for name, sources in {
        "copy": torch.randint(WORDS, (7, 6)),
        "caption": torch.randn(7, 1, 4, 5),
    }.items():
        answer = model.generate(sources, name)
        length = model.lengths[name]
        assert answer.shape == (7, length)
        told = model({name: packed(sources, answer[:, :-1])})[name]
        assert torch.equal(told.argmax(-1), answer)
        asked = packed(sources, unknown(7, length - 1))
        torch.testing.assert_close(model({name: asked})[name], told)
        assert (asked[:, 1 - length :] == -1).all()  # inputs are left as they were


def test_a_known_beginning_of_an_answer_is_kept():
    model = language_model()
    sources = torch.randint(WORDS, (5, 6))
    free = model.generate(sources, "copy")
    other = (free[:, 0] + 1) % WORDS
    prompt = unknown(5, 4)
    prompt[:, 0] = other
    found = model({"copy": packed(sources, prompt)})["copy"].argmax(-1)
    prompt[:, 1:] = found[:, 1:-1]
    again = model({"copy": packed(sources, prompt)})["copy"].argmax(-1)
    assert torch.equal(again[:, 1:], found[:, 1:])


def test_rows_with_and_without_answers_go_together():
    model = language_model()
    sources, prefix = torch.randint(WORDS, (4, 6)), torch.randint(WORDS, (4, 4))
    prefix[2:] = -1
    whole = model({"copy": packed(sources, prefix), "topic": sources})
    for rows in (slice(0, 2), slice(2, 4)):
        alone = model({"copy": packed(sources[rows], prefix[rows])})["copy"]
        torch.testing.assert_close(whole["copy"][rows], alone)
    torch.testing.assert_close(whole["topic"], model({"topic": sources})["topic"])


def test_the_task_token_alone_decides_which_task_is_answered():
    model = language_model()
    sources, prefix = torch.randint(WORDS, (3, 6)), torch.randint(WORDS, (3, 4))
    rows = packed(sources, prefix)
    before = model({"reverse": rows, "copy": rows})
    assert not torch.allclose(before["reverse"], before["copy"])
    with torch.no_grad():
        model.task_tokens[[0, 2]] = model.task_tokens[[2, 0]].clone()
    after = model({"reverse": rows, "copy": rows})
    torch.testing.assert_close(after["reverse"], before["copy"])
    torch.testing.assert_close(after["copy"], before["reverse"])


def test_padding_of_a_text_is_as_if_it_were_shorter():
    model = language_model()
    codes = torch.randint(WORDS, (3, 4))
    padded = torch.cat([codes, torch.full((3, 3), -1)], dim=1)
    torch.testing.assert_close(model({"topic": padded})["topic"], model({"topic": codes})["topic"])


# --- one parameter set ---------------------------------------------------------------------------


def count(model):
    return sum(p.numel() for p in model.parameters())


def test_another_sequence_task_costs_one_token():
    kept = [task for task in LANGUAGE if task.name != "copy"]
    settings = {
        key: {k: v for k, v in getattr(language_model(), key).items() if k != "copy"}
        for key in ("reads", "writes", "lengths")
    }
    assert count(language_model()) - count(language_model(tasks=kept, **settings)) == 8


def test_nets_of_several_tasks_are_shared_and_nets_of_one_are_its_own():
    model = language_model()
    text, image = (set(model.modalities[name].parameters()) for name in ("text", "image"))
    assert text | image <= set(model.shared_parameters())
    alone = MultiModel(
        tasks=LANGUAGE[:2],
        modalities={"text": TextModality(vocabulary=WORDS, size=8)},
        reads={"reverse": "text", "topic": "text"},
        writes={"reverse": "text"},
        lengths={"reverse": 5},
        body=SMALL,
    )
    assert set(alone.modalities["text"].parameters()) <= set(alone.shared_parameters())
    captions = MultiModel(
        tasks=LANGUAGE[3:],
        modalities=language_model().modalities,
        reads={"caption": "image", "size": "image"},
        writes={"caption": "text"},
        lengths={"caption": 3},
        body=SMALL,
    )
    own = set(captions.task_parameters("caption"))
    assert set(captions.modalities["text"].parameters()) <= own
    assert own.isdisjoint(captions.modalities["image"].parameters())


def test_the_balance_of_the_experts_is_that_of_the_pass():
    model = language_model().train()
    passes = []
    model.encoder.register_forward_hook(lambda module, given, made: passes.append(made.balance))
    inputs = {"topic": torch.randint(WORDS, (6, 4))}
    outputs = model(inputs)
    found = model.auxiliary_losses(inputs, outputs)
    assert len(passes) == 1
    assert set(found) == {"expert balance"}
    found["expert balance"].backward()
    for part in (model.encoder, model.decoder):
        assert part.experts.experts.gate_weight.grad.any()
    copy.deepcopy(model)  # nothing of the pass stays in the model
    without = language_model(body=MultiModelBody(size=8, depth=1, num_experts=0))
    assert without.auxiliary_losses(inputs, without(inputs)) == {}


def test_mixed_precision_trains_and_decodes():
    model = language_model().train()
    sources = torch.randn(3, 1, 4, 5)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        outputs = model({"caption": packed(sources, torch.randint(WORDS, (3, 2)))})
        assert model.generate(sources, "caption").shape == (3, 3)
    assert outputs["caption"].dtype == torch.bfloat16
    outputs["caption"].float().sum().backward()
    assert model.task_tokens.grad.dtype == torch.float32


def test_repr_rebuilds_every_part():
    names = {n: getattr(module, n) for module in (multimodel, tasks) for n in module.__all__}
    model = language_model()
    rebuilt = eval(repr(model), names)
    assert repr(rebuilt) == repr(model)
    rebuilt.load_state_dict(model.state_dict())
    sources = torch.randint(WORDS, (3, 6))
    assert torch.equal(rebuilt.generate(sources, "copy"), model.generate(sources, "copy"))


# --- modalities ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("net", "inputs", "positions"),
    [
        (TextModality(vocabulary=5, size=6), torch.randint(5, (2, 7)), 7),
        (ImageModality(channels=3, height=5, width=8, size=6), torch.randn(2, 3, 5, 8), 12),
        (AudioModality(samples=50, size=6, stride=8), torch.randn(2, 50), 4),
        (AudioModality(samples=64, size=6, stride=8), torch.randn(2, 64), 4),
        (CategoricalModality(cardinalities=(2, 3), size=6), torch.tensor([[0, 2], [1, 0]]), 2),
    ],
    ids=["text", "image", "audio", "even audio", "categories"],
)
def test_modality_nets_lead_into_one_representation(net, inputs, positions):
    values, present = net(inputs)
    assert values.shape == (2, positions, 6)
    assert present is None or present.all()
    with pytest.raises(ValueError, match=f"{type(net).__name__} takes inputs of shape"):
        net(torch.zeros(2, 1, 1, 1, 1))


def test_categories_of_every_column_have_vectors_of_their_own_and_may_be_missing():
    net = CategoricalModality(cardinalities=(2, 3), size=4)
    values, present = net(torch.tensor([[1.0, 2.0], [float("nan"), 0.0], [0.0, -1.0]]))
    assert torch.equal(values[0], net.levels.weight[[1, 4]])
    assert present.tolist() == [[True, True], [False, True], [True, False]]


# --- learning ------------------------------------------------------------------------------------


def test_a_sequence_and_a_class_are_learned_together():
    """All words of three letters of three: their reverse, and whether the first is the last."""
    letters = torch.cartesian_prod(*[torch.arange(3)] * 3)
    reverse, same = letters.flip(1), (letters[:, 0] == letters[:, 2]).long()
    chosen = (Task("reverse", TokenSequence(vocabulary=3)), Task("same", Binary()))
    model = MultiModel(
        tasks=chosen,
        modalities={"text": TextModality(vocabulary=3, size=16)},
        reads={"reverse": "text", "same": "text"},
        writes={"reverse": "text"},
        lengths={"reverse": 3},
        body=MultiModelBody(
            size=16, depth=1, kernels=(3, 3, 3, 3), dilation=1, num_experts=3, dropout=0
        ),
    )
    inputs = {"reverse": packed(letters, reverse[:, :-1]), "same": letters}
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(60):
        outputs = model(inputs)
        loss = chosen[0].kind.loss(outputs["reverse"], reverse).mean()
        loss = loss + chosen[1].kind.loss(outputs["same"], same).mean()
        loss = loss + model.auxiliary_losses(inputs, outputs)["expert balance"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    answers = model.generate(letters, "reverse")
    assert (answers == reverse).all(1).float().mean() >= 0.9  # by chance 1 / 27
    guesses = (model.eval()({"same": letters})["same"].squeeze(1) > 0).long()
    assert (guesses == same).float().mean() >= 0.9  # by chance 2 / 3


# --- bad input -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"reads": {"copy": "text"}}, "`reads` needs exactly one entry per task; found no pair"),
        (
            {"writes": {}},
            r"`writes` needs .* TokenSequence task; found no pair for \['caption', 'copy'",
        ),
        ({"lengths": {"copy": 5}}, r"`lengths` needs exactly one .* \['caption', 'reverse'\]"),
        ({"lengths": {"copy": 0, "reverse": 5, "caption": 3}}, "`lengths` must be at least 1"),
        ({"modalities": {}}, r"`modalities` must be those .* for \['image', 'text'\]"),
        ({"body": MultiModelBody(size=12)}, "Modality 'text' has size 8, but the body has 12"),
        (
            {"writes": {"reverse": "text", "copy": "text", "caption": "image"}},
            "'caption' must write a TextModality, found 'image', a ImageModality",
        ),
        (
            {"tasks": (Task("reverse", TokenSequence(vocabulary=4)), *LANGUAGE[1:])},
            "'reverse' has a vocabulary of 4, but modality 'text' has 9",
        ),
        (
            {"tasks": (*LANGUAGE[:4], Task("size", Segmentation(num_classes=2)))},
            "'size' is a Segmentation; MultiModel answers with",
        ),
    ],
)
def test_wrong_arguments_are_named(changes, message):
    with pytest.raises(ValueError, match=message):
        language_model(**changes)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (torch.zeros(2, 3), r"one tensor per task, found one tensor of shape \[2, 3\]"),
        ({"other": torch.zeros(2, 3)}, r"no task \['other'\]"),
        ({"caption": torch.zeros(2, 9)}, "'caption' need 20 numbers .* and 2 .* found 9 in all"),
        ({"copy": torch.zeros(2, 4)}, "'copy' need at least 1 numbers .* and 4 .* found 4 in all"),
        ({"topic": torch.full((2, 4), 9)}, "knows the symbols 0 to 8, found 9"),
        ({"size": torch.zeros(2, 1, 4, 4)}, r"shape \['B', 1, 4, 5\], found \[2, 1, 4, 4\]"),
    ],
)
def test_inputs_that_do_not_fit_are_named(inputs, message):
    with pytest.raises(ValueError, match=message):
        language_model()(inputs)


def test_only_sequences_are_generated():
    with pytest.raises(ValueError, match="'topic' has no sequence to generate"):
        language_model().generate(torch.zeros(2, 3), "topic")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kernels": (3, 3, 3)}, "`kernels` must be four odd lengths"),
        ({"kernels": (3, 3, 4, 3)}, "`kernels` must be four odd lengths"),
        ({"num_heads": 3}, "`num_heads` must be 0 or divide the size 64, found 3"),
        ({"num_experts": 2, "chosen_experts": 3}, "`chosen_experts` must be 1 to 2, found 3"),
        ({"dropout": 1.0}, "`dropout` must lie in"),
        ({"depth": 0}, "`depth` must be at least 1"),
    ],
)
def test_a_body_that_cannot_be_built_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        MultiModelBody(**arguments)


def test_parts_that_cannot_be_built_are_refused():
    with pytest.raises(ValueError, match="`chosen` must be at most 2 experts, found 3"):
        MixtureOfExperts(size=4, num_experts=2, chosen=3)
    with pytest.raises(ValueError, match="needs at least one column"):
        CategoricalModality(cardinalities=(), size=4)
    net = CategoricalModality(cardinalities=(2, 3), size=4)
    with pytest.raises(ValueError, match=r"Column 1 .* the levels 0 to 2, found 3"):
        net(torch.tensor([[0, 3]]))
    with pytest.raises(ValueError, match="Two names in `modalities` mean the same net"):
        text = TextModality(vocabulary=WORDS, size=8)
        MultiModel(
            tasks=(Task("a", Binary()), Task("b", Binary())),
            modalities={"one": text, "two": text},
            reads={"a": "one", "b": "two"},
            body=SMALL,
        )
