"""Few parameters per task inside the layers of a shared network."""

from polytask.architectures.adaptations.adapters import Adapters, Scaling
from polytask.architectures.adaptations.attention import LowRank, ProjectedAttention
from polytask.architectures.adaptations.layers import Adaptation, AdaptedLayers
from polytask.architectures.adaptations.task_adapted import ParameterReport, TaskAdapted
from polytask.architectures.families import Family

__all__ = [
    "Adaptation",
    "AdaptedLayers",
    "Adapters",
    "LowRank",
    "ParameterReport",
    "ProjectedAttention",
    "Scaling",
    "TaskAdapted",
]

#: Where the task enters the models of this folder.
FAMILIES = (Family.INTRA_DOMAIN,)
