"""Few parameters per task inside the layers of a shared network."""

from polytask.architectures.adaptations.adapters import Adapters, Scaling
from polytask.architectures.adaptations.attention import LowRank, ProjectedAttention
from polytask.architectures.adaptations.layers import Adaptation, AdaptedLayers

__all__ = [
    "Adaptation",
    "AdaptedLayers",
    "Adapters",
    "LowRank",
    "ProjectedAttention",
    "Scaling",
]
