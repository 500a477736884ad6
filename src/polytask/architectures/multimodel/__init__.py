"""MultiModel: text, images, audio and categories in and out of one encoder and decoder."""

from polytask.architectures.multimodel.blocks import MultiModelBody
from polytask.architectures.multimodel.experts import MixtureOfExperts
from polytask.architectures.multimodel.modalities import (
    AudioModality,
    CategoricalModality,
    ImageModality,
    Modality,
    TextModality,
)
from polytask.architectures.multimodel.multimodel import MultiModel

__all__ = [
    "AudioModality",
    "CategoricalModality",
    "ImageModality",
    "MixtureOfExperts",
    "Modality",
    "MultiModel",
    "MultiModelBody",
    "TextModality",
]
