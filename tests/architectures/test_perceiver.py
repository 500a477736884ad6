"""Perceiver IO: its attention against the reference, its invariances, and outputs of any shape."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from torch import nn

from polytask import architectures, tasks
from polytask.architectures import perceiver
from polytask.architectures.perceiver import (
    CellTokens,
    PerceiverIO,
    PixelTokens,
    SymbolTokens,
    Tokens,
)
from polytask.architectures.perceiver.attention import AttentionLayer, CrossAttention
from polytask.architectures.perceiver.tokens import fourier_positions
from polytask.checks import architectures as checks
from polytask.tasks import Binary, Depth, Multiclass, Regression, Segmentation, Task, TokenSequence

LAYER_NAMES = (("0.module.", "attend."), ("1.module.", "mlp."))


def separate_adapters(tasks):
    sizes = {task.name: 3 + i for i, task in enumerate(tasks)}
    adapters = {name: CellTokens(num_columns=size, size=6) for name, size in sizes.items()}
    model = PerceiverIO(tasks=tasks, adapter=adapters, num_latents=3, size=8, depth=1, num_heads=2)
    return model, {name: torch.randn(size, size) for name, size in sizes.items()}


def separate_rows(tasks):
    adapter = PixelTokens(channels=1, height=3, width=4, bands=2)
    model = PerceiverIO(tasks=tasks, adapter=adapter, num_latents=3, size=8, num_heads=2)
    return model, {task.name: torch.randn(2 + i, 1, 3, 4) for i, task in enumerate(tasks)}


@pytest.mark.parametrize("check", checks.CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("example", [PerceiverIO.example, separate_adapters, separate_rows])
def test_conformance(example, check, monkeypatch):
    # Where the adapters are exported `repr` finds them.
    names = perceiver.__all__
    monkeypatch.setattr(architectures, "__all__", sorted({*architectures.__all__, *names}))
    for name in names:
        monkeypatch.setattr(architectures, name, getattr(perceiver, name), raising=False)
    check(example)


# --- the attention of the reference --------------------------------------------------------------


def reference_cases(shared):
    index = json.loads((shared / "fixtures" / "index.json").read_text())
    cases = [c for c in index["cases"] if c["method"] == "perceiver_cross_attention"]
    assert len(cases) == 8
    for case in cases:
        with np.load(shared / "fixtures" / case["file"], allow_pickle=False) as arrays:
            given = {k: torch.from_numpy(arrays[e["key"]]) for k, e in case["inputs"].items()}
            expected = {
                name: (torch.from_numpy(arrays[entry["key"]]), entry["rtol"], entry["atol"])
                for name, entry in case["outputs"].items()
            }
        yield case["params"], given, expected


def our_name(name: str) -> str:
    for theirs, ours in LAYER_NAMES:
        name = name.replace(theirs, ours) if name.startswith(theirs) else name
    return name


def test_attention_and_its_gradients_are_those_of_the_reference(shared):
    for params, given, expected in reference_cases(shared):
        layer_of = CrossAttention if params["kind"] == "cross_attention" else AttentionLayer
        queries, keys = given["xq"].requires_grad_(), given["xkv"].requires_grad_()
        layer = layer_of(
            query_size=queries.shape[-1], key_size=keys.shape[-1], heads=params["heads"]
        ).double()
        state = {our_name(n[2:]): v for n, v in given.items() if n.startswith("p.")}
        layer.load_state_dict(state)
        present = ~given["pad"] if params["masked"] else None
        found = layer(queries, keys, present)
        (found.square().sum() / 2).backward()
        own = dict(layer.named_parameters())
        results = {"out": found, "g.xq": queries.grad, "g.xkv": keys.grad}
        results |= {n: own[our_name(n[3:])].grad for n in expected if n.startswith("gp.")}
        assert results.keys() == expected.keys()
        for name, (value, rtol, atol) in expected.items():
            torch.testing.assert_close(results[name], value, rtol=rtol, atol=atol)


def test_a_row_without_any_key_reads_nothing_and_has_finite_gradients():
    layer = CrossAttention(query_size=4, key_size=6, heads=2)
    queries, keys = torch.randn(2, 3, 4), torch.randn(2, 5, 6, requires_grad=True)
    present = torch.tensor([[False] * 5, [True] * 5])
    read = layer(queries, keys, present)
    bias = layer.attention.o_proj.bias
    torch.testing.assert_close(read[0], bias.expand(3, 4))
    read.sum().backward()
    assert not keys.grad[0].any()
    assert keys.grad[1].any()
    assert all(torch.isfinite(p.grad).all() for p in layer.parameters())


# --- invariances ---------------------------------------------------------------------------------

MIXED = (
    Task("odd", Binary()),
    Task("parts", Segmentation(num_classes=3)),
    Task("even", Binary()),
    Task("words", TokenSequence(vocabulary=5)),
    Task("depth", Depth()),
    Task("level", Regression(size=2)),
)
SHAPES = {"parts": (2, 3), "depth": (4, 2), "words": (7,)}


def mixed_model(**changes) -> PerceiverIO:
    settings = {
        "tasks": MIXED,
        "adapter": PixelTokens(channels=2, height=4, width=4),
        "output_shapes": SHAPES,
        "num_latents": 5,
        "size": 12,
        "num_heads": 3,
    }
    return PerceiverIO(**{**settings, **changes}).eval()


def test_one_model_has_outputs_of_every_structure_from_one_attention_call():
    model = mixed_model()
    calls = []
    model.decoder.register_forward_hook(lambda module, given, read: calls.append(read.shape))
    outputs = model(torch.randn(3, 2, 4, 4))
    shapes = {name: tuple(value.shape[1:]) for name, value in outputs.items()}
    assert shapes == {
        "odd": (1,),
        "even": (1,),
        "parts": (3, 2, 3),
        "words": (7, 5),
        "depth": (1, 4, 2),
        "level": (2,),
    }
    assert [shape[1] for shape in calls] == [1 + 1 + 6 + 7 + 8 + 1]
    for task in MIXED:
        assert task.predict(outputs[task.name]).shape[0] == 3


def test_the_order_of_tokens_that_carry_their_positions_does_not_matter():
    model = mixed_model().double()
    values, present = model.adapter(torch.randn(3, 2, 4, 4).double())
    present[:, 2] = False
    order = torch.randperm(16)
    latents = model.encode(Tokens(values, present))
    shuffled = model.encode(Tokens(values[:, order], present[:, order]))
    torch.testing.assert_close(shuffled, latents)
    for name, output in model.heads(shuffled).items():
        torch.testing.assert_close(output, model.heads(latents)[name])
    # Pixels that swap their positions are another image.
    moved = torch.cat([values[:, order, :2], values[..., 2:]], dim=-1)
    assert not torch.allclose(model.encode(Tokens(moved, present)), latents)


@pytest.mark.parametrize(
    ("adapter", "inputs", "missing", "other"),
    [
        (CellTokens(num_columns=4, size=5), torch.randn(3, 4), torch.nan, 7.0),
        (PixelTokens(channels=2, height=2, width=3), torch.randn(3, 2, 2, 3), torch.nan, 7.0),
        (SymbolTokens(vocabulary=9, length=4, size=5), torch.randint(9, (3, 4)), -1, 2),
    ],
    ids=["cells", "pixels", "symbols"],
)
def test_what_is_missing_is_as_if_its_token_were_not_there(adapter, inputs, missing, other):
    model = PerceiverIO(tasks=MIXED[:1], adapter=adapter, size=8, num_latents=3).eval()
    holed, changed = inputs.clone(), inputs.clone()
    holed[:, ..., 1], changed[:, ..., 1] = missing, other
    outputs = model(holed)["odd"]
    assert not torch.allclose(outputs, model(changed)["odd"])
    values, present = model.adapter(holed)
    assert not present.all()
    kept = torch.stack([values[i, present[i]] for i in range(3)])
    torch.testing.assert_close(model.heads(model.encode(Tokens(kept)))["odd"], outputs)


def test_a_query_alone_tells_tasks_of_one_kind_apart():
    model = mixed_model()
    inputs = torch.randn(3, 2, 4, 4)
    before = model(inputs)
    rows = [[task.name for task in MIXED].index(name) for name in ("odd", "even")]
    with torch.no_grad():
        model.task_embeddings[rows] = model.task_embeddings[rows[::-1]].clone()
    after = model(inputs)
    torch.testing.assert_close(after["odd"], before["even"])
    torch.testing.assert_close(after["even"], before["odd"])
    assert not torch.allclose(before["odd"], before["even"])


def test_separate_rows_have_the_outputs_of_the_shared_layout():
    model = mixed_model()
    inputs = torch.randn(6, 2, 4, 4)
    whole = model(inputs)
    parts = {"words": inputs[:3], "odd": inputs[2:], "depth": inputs[:1]}
    separate = model(parts)
    assert list(separate) == list(parts)
    torch.testing.assert_close(separate["words"], whole["words"][:3])
    torch.testing.assert_close(separate["odd"], whole["odd"][2:])
    torch.testing.assert_close(separate["depth"], whole["depth"][:1])


def test_tasks_with_inputs_of_any_format_share_one_model():
    sizes = {"words": 6, "parts": 5}
    adapters = {
        "words": SymbolTokens(vocabulary=9, length=6, size=11, bands=6),
        "parts": PixelTokens(channels=2, height=4, width=4, bands=5),
    }
    assert adapters["words"].output_size == adapters["parts"].output_size == 24
    chosen = tuple(task for task in MIXED if task.name in sizes)
    shapes = {name: SHAPES[name] for name in sizes}
    model = PerceiverIO(tasks=chosen, adapter=adapters, output_shapes=shapes, size=8)
    inputs = {"parts": torch.randn(2, 2, 4, 4), "words": torch.randint(9, (3, 6))}
    outputs = model(inputs)
    assert outputs["words"].shape == (3, 7, 5)
    assert outputs["parts"].shape == (2, 3, 2, 3)
    own = {id(p) for p in model.task_parameters("parts")}
    assert {id(p) for p in adapters["words"].parameters()}.isdisjoint(own)


def test_fourier_positions_by_hand():
    features = fourier_positions((3,), 2)
    angles = torch.tensor([-1.0, 0.0, 1.0]).unsqueeze(1) * torch.pi * torch.tensor([1.0, 1.5])
    torch.testing.assert_close(features[:, 0], torch.tensor([-1.0, 0.0, 1.0]))
    torch.testing.assert_close(features[:, 1:], torch.cat([angles.sin(), angles.cos()], 1))
    grid = fourier_positions((3, 4), 5)
    assert len(torch.unique(grid, dim=0)) == 12
    assert fourier_positions((1,), 2).isfinite().all()


def test_repr_rebuilds_every_part():
    names = {n: getattr(module, n) for module in (perceiver, tasks) for n in module.__all__}
    model = mixed_model()
    rebuilt = eval(repr(model), names)
    assert repr(rebuilt) == repr(model)
    rebuilt.load_state_dict(model.state_dict())
    inputs = torch.randn(3, 2, 4, 4)
    for name, output in rebuilt.eval()(inputs).items():
        assert torch.equal(output, model(inputs)[name])


# --- learning ------------------------------------------------------------------------------------


def test_a_map_and_a_class_are_learned_together_from_bright_pixels():
    """One of 36 pixels is bright: its quarter, and the map of the rows down to it; no noise."""
    where = torch.arange(36)
    images = nn.functional.one_hot(where, 36).float().reshape(36, 1, 6, 6)
    row, column = where // 6, where % 6
    quarter = 2 * (row >= 3) + (column >= 3)
    above = (torch.arange(6)[:, None] <= row[:, None, None]).expand(-1, 6, 6).long()
    chosen = (Task("quarter", Multiclass(num_classes=4)), Task("above", Segmentation(2)))
    model = PerceiverIO(
        tasks=chosen,
        adapter=PixelTokens(channels=1, height=6, width=6),
        output_shapes={"above": (6, 6)},
        num_latents=4,
        size=32,
        depth=1,
    )
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    for _ in range(150):
        outputs = model(images)
        loss = chosen[0].kind.loss(outputs["quarter"], quarter).mean()
        loss = loss + chosen[1].kind.loss(outputs["above"], above).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        outputs = model.eval()(images)
    assert chosen[0].score(outputs["quarter"], quarter)["accuracy"] >= 0.95
    # The best map that does not depend on the image has 0.60 (rows 0 to 2).
    assert chosen[1].score(outputs["above"], above)["mean_iou"] >= 0.95


# --- bad input -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"output_shapes": {}}, "'parts' is a Segmentation, which needs 2 .* found \\(\\)"),
        ({"output_shapes": {**SHAPES, "odd": (1,)}}, "'odd' is a Binary, which needs 0"),
        (
            {"output_shapes": {**SHAPES, "words": (7, 2)}},
            "'words' is a TokenSequence, which",
        ),
        ({"output_shapes": {**SHAPES, "other": (7,)}}, r"names \['other'\]; the tasks are"),
        ({"output_shapes": {**SHAPES, "words": (0,)}}, "`output_shapes` must be at least 1"),
        ({"num_heads": 5}, "`heads` must divide the 12 channels of attention, found 5"),
        ({"adapter": {"odd": CellTokens(num_columns=2, size=3)}}, "exactly one per task; found no"),
    ],
)
def test_wrong_arguments_are_named(changes, message):
    with pytest.raises(ValueError, match=message):
        mixed_model(**changes)


def test_adapters_that_do_not_fit_are_named():
    small, large = CellTokens(num_columns=2, size=3), CellTokens(num_columns=2, size=4)
    pair = (Task("a", Binary()), Task("b", Binary()))
    with pytest.raises(ValueError, match=r"must agree in `output_size`, found \[3, 4\]"):
        PerceiverIO(tasks=pair, adapter={"a": small, "b": large})
    with pytest.raises(ValueError, match="Two tasks have the same adapter"):
        PerceiverIO(tasks=pair, adapter={"a": small, "b": small})
    model = PerceiverIO(tasks=pair, adapter=small, size=8)
    with pytest.raises(ValueError, match=r"CellTokens takes inputs of shape \['B', 2\], found"):
        model(torch.zeros(3, 4))
    with pytest.raises(ValueError, match=r"no task \['c'\]; its tasks are \['a', 'b'\]"):
        model({"c": torch.zeros(3, 2)})
    own = {"a": small, "b": CellTokens(num_columns=5, size=3)}
    with pytest.raises(ValueError, match="takes one tensor per task, found one tensor of shape"):
        PerceiverIO(tasks=pair, adapter=own, size=8)(torch.zeros(3, 2))
    with pytest.raises(ValueError, match="knows the symbols 0 to 4, found 7"):
        SymbolTokens(vocabulary=5, length=2, size=3)(torch.tensor([[7, 0]]))
