"""Reusable trunks: from inputs to features, one file per encoder."""

from polytask.encoders.base import Encoder
from polytask.encoders.cnn import SmallCNN
from polytask.encoders.mlp import MLP
from polytask.encoders.resnet import ResNet18
from polytask.encoders.tabular import NumericEmbedding, TabularEncoder

__all__ = ["MLP", "Encoder", "NumericEmbedding", "ResNet18", "SmallCNN", "TabularEncoder"]
