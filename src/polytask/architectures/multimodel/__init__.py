"""MultiModel: text, images, audio and categories in and out of one encoder and decoder."""

from polytask.architectures.families import Family
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

#: Where the task enters the models of this folder.
FAMILIES = (Family.CROSS_DOMAIN,)
