"""Reusable trunks: from inputs to features, one file per encoder."""

from polytask.encoders.base import Encoder
from polytask.encoders.cnn import SmallCNN
from polytask.encoders.hugging_face import HuggingFaceEncoder
from polytask.encoders.layered import LayeredEncoder, LayerSites
from polytask.encoders.mlp import MLP
from polytask.encoders.resnet import ResNet18
from polytask.encoders.snn import SNN
from polytask.encoders.tabular import NumericEmbedding, TabularEncoder
from polytask.encoders.transformer import TokenInputs, Transformer, VectorInputs

__all__ = [
    "MLP",
    "SNN",
    "Encoder",
    "HuggingFaceEncoder",
    "LayerSites",
    "LayeredEncoder",
    "NumericEmbedding",
    "ResNet18",
    "SmallCNN",
    "TabularEncoder",
    "TokenInputs",
    "Transformer",
    "VectorInputs",
]
