"""Hugging Face encoders: sites of the supported models, padding, pretrained models, bad input."""

from __future__ import annotations

import sys
import warnings

import pytest
import torch

from polytask import architectures, encoders
from polytask.architectures import HardSharing
from polytask.architectures.adaptations.adapters import Adapters, Scaling
from polytask.architectures.adaptations.attention import LowRank, ProjectedAttention
from polytask.architectures.adaptations.task_adapted import TaskAdapted
from polytask.checks import architectures as checks
from polytask.encoders.hugging_face import HuggingFaceEncoder
from polytask.tasks import Binary, Task

BERT = {
    "vocab_size": 11, "hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2,
    "intermediate_size": 16, "max_position_embeddings": 12, "pad_token_id": 0,
}  # fmt: skip
CONFIGS = {
    "bert": {"model_type": "bert", **BERT},
    "roberta": {"model_type": "roberta", **BERT},
    "electra": {"model_type": "electra", "embedding_size": 8, **BERT},
    "distilbert": {
        "model_type": "distilbert", "vocab_size": 11, "dim": 8, "n_layers": 2, "n_heads": 2,
        "hidden_dim": 16, "max_position_embeddings": 12, "pad_token_id": 0,
    },
}  # fmt: skip
ADAPTATIONS = (
    ProjectedAttention(size=4, heads=2),
    LowRank(size=3),
    Adapters(size=3),
    Scaling(),
)
TASKS = (Task("a", Binary()), Task("b", Binary()))


def without_transformers(test):
    """For tests that must run where the extra is absent."""
    test.needs_extra = False
    return test


@pytest.fixture(autouse=True)
def extra(request):
    """Skip where the extra is not installed."""
    if getattr(request.function, "needs_extra", True):
        pytest.importorskip("transformers", reason="needs the extra 'hf' (transformers)")


@pytest.fixture
def names_in_reach(monkeypatch):
    """What a repr may name, also before it is exported."""
    monkeypatch.setattr(encoders, "HuggingFaceEncoder", HuggingFaceEncoder, raising=False)
    monkeypatch.setattr(encoders, "__all__", [*encoders.__all__, "HuggingFaceEncoder"])
    for item in (ProjectedAttention, LowRank, Adapters, Scaling):
        monkeypatch.setattr(architectures, item.__name__, item, raising=False)
    names = {*architectures.__all__, "ProjectedAttention", "LowRank", "Adapters", "Scaling"}
    monkeypatch.setattr(architectures, "__all__", sorted(names))


def tokens(rows: int) -> torch.Tensor:
    found = torch.randint(2, 11, (rows, 5))
    found[0, 2:] = 0
    return found


def example_of(name, adaptation):
    def example(tasks):
        encoder = HuggingFaceEncoder(config=CONFIGS[name], pooling="mean")
        return TaskAdapted(encoder=encoder, tasks=tasks, adaptation=adaptation), tokens(6)

    return example


@pytest.mark.parametrize("check", checks.CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.usefixtures("names_in_reach")
def test_conformance(name, check):
    check(example_of(name, ADAPTATIONS[0]))


@pytest.mark.parametrize("adaptation", ADAPTATIONS, ids=lambda a: type(a).__name__)
@pytest.mark.parametrize("name", CONFIGS)
def test_every_layer_works_with_the_tasks_parameters(name, adaptation):
    """At the start the outputs are those of the plain model; each parameter then changes them."""
    encoder = HuggingFaceEncoder(config=CONFIGS[name])
    model = TaskAdapted(encoder=encoder, tasks=TASKS, adaptation=adaptation).eval()
    ids = tokens(3)
    features = encoder(ids)
    plain = model.task_heads.all(features.expand(2, *features.shape))
    for task in TASKS:
        torch.testing.assert_close(model(ids)[task.name], plain[task.name])
    with torch.no_grad():
        for parameter in model.task_layers.parameters():
            parameter.add_(0.5 * torch.randn_like(parameter))
    changed = model(ids)
    for parameter in model.task_layers.parameters():
        kept = parameter.detach().clone()
        with torch.no_grad():
            parameter[1] += torch.randn_like(parameter[1])
        found = model(ids)
        torch.testing.assert_close(found["a"], changed["a"], rtol=0, atol=0)
        # A common shift of all keys leaves a softmax as it is, but queries and values change.
        assert not torch.allclose(found["b"], changed["b"], atol=1e-6)
        with torch.no_grad():
            parameter.copy_(kept)


def test_adapters_of_bert_stand_before_the_residual_sums():
    encoder = HuggingFaceEncoder(config=CONFIGS["bert"])
    model = TaskAdapted(encoder=encoder, tasks=TASKS[:1], adaptation=Adapters(size=3)).eval()
    inside = model.task_layers
    with torch.no_grad():
        for parameter in inside.parameters():
            parameter.add_(0.5 * torch.randn_like(parameter))

    def adapter(block, values):
        encode, decode = block.encode, block.decode
        small = torch.nn.functional.gelu(values @ encode.weight[0].T + encode.bias[0])
        return values + small @ decode.weight[0].T + decode.bias[0]

    ids = torch.randint(2, 11, (3, 5))
    states = encoder.model.embeddings(ids)
    for number, layer in enumerate(encoder.model.encoder.layer):
        read = layer.attention.self(states)[0]
        first, last = layer.attention.output, layer.output
        middle = first.LayerNorm(adapter(inside.attention[number], first.dense(read)) + states)
        added = adapter(inside.feed_forward[number], last.dense(layer.intermediate(middle)))
        states = last.LayerNorm(added + middle)
    output = model.task_heads.all(states[:, 0][None])["a"]
    torch.testing.assert_close(model(ids)["a"], output)


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("pooling", ["first", "mean"])
def test_padding_changes_nothing(name, pooling):
    encoder = HuggingFaceEncoder(config=CONFIGS[name], pooling=pooling).eval()
    short = torch.tensor([[3, 5, 7]])
    long = torch.tensor([[3, 5, 7, 0, 0]])
    torch.testing.assert_close(encoder(short), encoder(long))
    assert encoder(torch.zeros(1, 4)).isfinite().all()


def test_a_loaded_model_is_taken_as_it_is():
    import transformers

    config = transformers.BertConfig(**BERT)
    model = transformers.BertForSequenceClassification(config)
    encoder = HuggingFaceEncoder.from_model(model).eval()
    assert encoder.model is model.base_model
    assert encoder.model.pooler is None
    ids = tokens(3)
    states = model.base_model(ids, attention_mask=(ids != 0).long()).last_hidden_state
    torch.testing.assert_close(encoder(ids), states[:, 0])
    again = eval(repr(encoder))
    assert repr(again) == repr(encoder)
    again.load_state_dict(encoder.state_dict())
    torch.testing.assert_close(again.eval()(ids), encoder(ids))


def test_it_is_an_encoder_for_hard_sharing_too():
    encoder = HuggingFaceEncoder(config=CONFIGS["distilbert"])
    assert HardSharing(encoder=encoder, tasks=TASKS)(tokens(4))["b"].shape == (4, 1)


def test_gradient_checkpointing_is_refused():
    encoder = HuggingFaceEncoder(config=CONFIGS["bert"])
    model = TaskAdapted(encoder=encoder, tasks=TASKS, adaptation=Scaling())
    with warnings.catch_warnings():  # the method has another name in newer versions
        warnings.simplefilter("ignore")
        encoder.model.gradient_checkpointing_enable()
    with pytest.raises(ValueError, match="gradient checkpointing cannot be adapted"):
        model(tokens(2))


def test_ids_of_another_vocabulary_are_refused():
    encoder = HuggingFaceEncoder(config=CONFIGS["bert"])
    with pytest.raises(ValueError, match=r"in 0 .. 10, found 11; use the tokenizer"):
        encoder(torch.full((2, 3), 11))
    with pytest.raises(ValueError, match=r"token ids \[B, L\], found inputs of shape \[3\]"):
        encoder(torch.ones(3))


def test_a_chunked_feed_forward_part_is_refused():
    with pytest.raises(ValueError, match="`chunk_size_feed_forward` 0, found 2"):
        HuggingFaceEncoder(config={**CONFIGS["bert"], "chunk_size_feed_forward": 2})


@pytest.mark.parametrize("option", ["hiden_size", "attn_implementation", "auto_map"])
def test_options_that_the_model_does_not_have_are_refused(option):
    with pytest.raises(ValueError, match=f"'bert' has no '{option}'; it has .*hidden_size"):
        HuggingFaceEncoder(config={**CONFIGS["bert"], option: 8})


@without_transformers
@pytest.mark.parametrize("config", [{"model_type": "gpt2"}, {}])
def test_models_whose_layers_are_unknown_are_refused(config):
    with pytest.raises(ValueError, match=r"can reach the layers of the model types .*'bert'"):
        HuggingFaceEncoder(config=config)


@without_transformers
def test_something_else_is_no_loaded_model():
    with pytest.raises(ValueError, match="needs a model of `transformers`, found a Linear"):
        HuggingFaceEncoder.from_model(torch.nn.Linear(2, 2))


@without_transformers
def test_an_absent_package_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ImportError, match=r"pip install 'polytask\[hf\]'"):
        HuggingFaceEncoder(config=CONFIGS["bert"])
