"""Encoders of the Hugging Face library `transformers` (extra ``hf``), with their layers in reach.

Shape legend: B batch, L positions, D width.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from polytask.encoders.base import check_positive
from polytask.encoders.layered import (
    LayeredEncoder,
    LayerSites,
    attention_mask,
    check_pooling,
    pool,
)

__all__ = ["HuggingFaceEncoder"]

#: Of a model type: its layers, and inside a layer the modules whose outputs are what attention and
#: the feed-forward part add to the residual stream.
_BERT = ("encoder.layer", "attention.output.dropout", "output.dropout")
_SITES = {
    "bert": _BERT,
    "camembert": _BERT,
    "electra": _BERT,
    "roberta": _BERT,
    "xlm-roberta": _BERT,
    "distilbert": ("transformer.layer", "attention.out_lin", "ffn"),
}
#: Model types whose models have a pooler, which our own pooling replaces.
_WITH_POOLER = ("bert", "camembert", "roberta", "xlm-roberta")


class HuggingFaceEncoder(LayeredEncoder):
    """A BERT-like encoder of the library `transformers`, pooled to one vector per row.

    Built from a configuration, with random weights; ``from_model`` takes a model with pretrained
    ones. Positions with the configuration's ``pad_token_id`` are padding.

    Args:
        config: The configuration of `transformers` as plain values; ``model_type`` names the model:
            "bert", "roberta", "xlm-roberta", "camembert", "electra" or "distilbert". What is left
            out has the library's default (those of BERT-base).
        pooling: "first" (the state of the first token, [CLS]) or "mean" over all tokens that are
            not padding.

    Shapes: token ids ``[B, L]``, also as floating-point numbers; features ``[B, D]``.

    Raises:
        ImportError: `transformers` is not installed; names the extra.
        ValueError: a model type that is not in the list above, an option that it does not have, a
            feed-forward part computed in chunks, gradient checkpointing (what is recomputed would
            not see the parameters of a task), ids outside of the vocabulary.

    Cost: that of the model.

    References:
        T. Wolf et al., Transformers: State-of-the-Art Natural Language Processing, EMNLP 2020
        (demonstrations), https://arxiv.org/abs/1910.03771.
    """

    def __init__(self, *, config: Mapping[str, Any], pooling: str = "first") -> None:
        super().__init__()
        self.config = dict(config)
        self.pooling = check_pooling(pooling)
        self._take(_build(self.config))

    @classmethod
    def from_model(cls, model: nn.Module, *, pooling: str = "first") -> HuggingFaceEncoder:
        """The encoder around a loaded model, such as ``AutoModel.from_pretrained(...)``.

        The model is taken as it is, not copied; a pooler that it has is taken off, and of a model
        with a head only the part below the head is used.
        """
        encoder = cls.__new__(cls)
        LayeredEncoder.__init__(encoder)
        base: Any = getattr(model, "base_model", model)
        if not hasattr(base, "config"):
            raise ValueError(
                "HuggingFaceEncoder.from_model needs a model of `transformers`, found a "
                f"{type(model).__name__}."
            )
        model_type = base.config.model_type
        _paths(model_type)
        known = type(base.config)().to_dict()
        described = {n: v for n, v in base.config.to_diff_dict().items() if n in known}
        encoder.config = {**described, "model_type": model_type}
        encoder.pooling = check_pooling(pooling)
        if getattr(base, "pooler", None) is not None:
            base.pooler = None
        encoder._take(base)
        return encoder

    def _take(self, model: Any) -> None:
        self.paths = _paths(model.config.model_type)
        if getattr(model.config, "chunk_size_feed_forward", 0):
            raise ValueError(
                "HuggingFaceEncoder needs `chunk_size_feed_forward` 0, found "
                f"{model.config.chunk_size_feed_forward}."
            )
        self.model = model
        self.output_size = check_positive("hidden_size", model.config.hidden_size)
        self.vocabulary = check_positive("vocab_size", model.config.vocab_size)
        self.padding_id: int | None = model.config.pad_token_id

    def forward(self, inputs: Tensor) -> Tensor:
        if inputs.dim() != 2:
            raise ValueError(
                f"HuggingFaceEncoder expects token ids [B, L], found inputs of shape "
                f"{list(inputs.shape)}."
            )
        bad = ~((inputs >= 0) & (inputs < self.vocabulary))
        if bool(bad.any()):
            raise ValueError(
                f"Token ids must lie in 0 .. {self.vocabulary - 1}, found "
                f"{inputs[bad][0].item():g}; use the tokenizer that the model was made for."
            )
        padding = self.padding(inputs)
        mask = attention_mask(padding)
        wanted = None if mask is None else mask[:, 0, 0].long()
        states = self.model(input_ids=inputs.long(), attention_mask=wanted).last_hidden_state
        return pool(states, padding, self.pooling)

    def layer_sites(self) -> list[LayerSites]:
        """The layers, from the inputs on."""
        if any(getattr(part, "gradient_checkpointing", False) for part in self.model.modules()):
            raise ValueError(
                "The layers of a model with gradient checkpointing cannot be adapted; call "
                "`model.gradient_checkpointing_disable()`."
            )
        stack, attention, feed_forward = self.paths
        return [
            LayerSites(layer, layer.get_submodule(attention), layer.get_submodule(feed_forward))
            for layer in self.model.get_submodule(stack).children()
        ]

    def padding(self, inputs: Tensor) -> Tensor | None:
        """True where a position ``[B, L]`` holds nothing; None where all positions count."""
        return None if self.padding_id is None else inputs == self.padding_id


def _build(config: Mapping[str, Any]) -> Any:
    """The model of a configuration, with random weights."""
    model_type = config.get("model_type")
    _paths(model_type)
    try:
        import transformers
    except ImportError as error:
        raise ImportError(
            "HuggingFaceEncoder needs the extra: pip install 'polytask[hf]'."
        ) from error
    library: Any = transformers
    # The library takes any name, and some (kernels, code of the model's own) make it fetch code:
    # a configuration from a file must not.
    known = library.AutoConfig.for_model(model_type).to_dict()
    for name in config:
        if name not in known:
            raise ValueError(
                f"A configuration of model_type {model_type!r} has no {name!r}; it has "
                f"{', '.join(sorted(known))}."
            )
    options = {name: value for name, value in config.items() if name != "model_type"}
    pooler = {"add_pooling_layer": False} if model_type in _WITH_POOLER else {}
    described = library.AutoConfig.for_model(model_type, **options)
    return library.AutoModel.from_config(described, **pooler)


def _paths(model_type: Any) -> tuple[str, str, str]:
    if model_type not in _SITES:
        raise ValueError(
            f"HuggingFaceEncoder can reach the layers of the model types {sorted(_SITES)}, found "
            f"model_type={model_type!r}."
        )
    return _SITES[model_type]
