"""What to share: one file per architecture."""

from polytask.architectures.base import Architecture
from polytask.architectures.cross_domain import CrossDomain
from polytask.architectures.defaults import default_architecture, default_encoder
from polytask.architectures.families import Family
from polytask.architectures.hard_sharing import HardSharing
from polytask.architectures.heads import Heads, average_members
from polytask.architectures.independent import Independent
from polytask.architectures.specialised import SpecialisedModels, combine_outputs
from polytask.architectures.wrapped import Wrapped

__all__ = [
    "Architecture",
    "CrossDomain",
    "Family",
    "HardSharing",
    "Heads",
    "Independent",
    "SpecialisedModels",
    "Wrapped",
    "average_members",
    "combine_outputs",
    "default_architecture",
    "default_encoder",
]
