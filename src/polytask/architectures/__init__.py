"""What to share: one file per architecture."""

from polytask.architectures.adaptations import (
    Adaptation,
    AdaptedLayers,
    Adapters,
    LowRank,
    ProjectedAttention,
    Scaling,
)
from polytask.architectures.base import Architecture
from polytask.architectures.conditioned import Conditioned
from polytask.architectures.cross_domain import CrossDomain
from polytask.architectures.deep_residual import DeepResidual
from polytask.architectures.defaults import default_architecture, default_encoder
from polytask.architectures.descriptor_model import DescriptorModel
from polytask.architectures.descriptors import TaskDescriptors
from polytask.architectures.families import Family
from polytask.architectures.film import CoreResidualBlock, FiLM, FiLMResidualBlock, InverseFiLM
from polytask.architectures.gated import Gated
from polytask.architectures.hard_sharing import HardSharing
from polytask.architectures.heads import Heads, average_members
from polytask.architectures.independent import Independent
from polytask.architectures.label_graph import LabelGraph, label_adjacency, label_counts
from polytask.architectures.multimodel import (
    AudioModality,
    CategoricalModality,
    ImageModality,
    MixtureOfExperts,
    Modality,
    MultiModel,
    MultiModelBody,
    TextModality,
)
from polytask.architectures.neighbour_ensemble import NeighbourEnsemble
from polytask.architectures.perceiver import (
    CellTokens,
    PerceiverIO,
    PixelTokens,
    SymbolTokens,
    TokenAdapter,
    Tokens,
)
from polytask.architectures.soft_layer_ordering import (
    SoftLayerOrdering,
    SoftLayers,
    permuted_orders,
    same_orders,
)
from polytask.architectures.specialised import SpecialisedModels, combine_outputs
from polytask.architectures.task_adapted import ParameterReport, TaskAdapted
from polytask.architectures.traveling_observer import TravelingObserver
from polytask.architectures.two_sided import TwoSided
from polytask.architectures.variable_embeddings import VariableEmbeddings
from polytask.architectures.wrapped import Wrapped

__all__ = [
    "Adaptation",
    "AdaptedLayers",
    "Adapters",
    "Architecture",
    "AudioModality",
    "CategoricalModality",
    "CellTokens",
    "Conditioned",
    "CoreResidualBlock",
    "CrossDomain",
    "DeepResidual",
    "DescriptorModel",
    "Family",
    "FiLM",
    "FiLMResidualBlock",
    "Gated",
    "HardSharing",
    "Heads",
    "ImageModality",
    "Independent",
    "InverseFiLM",
    "LabelGraph",
    "LowRank",
    "MixtureOfExperts",
    "Modality",
    "MultiModel",
    "MultiModelBody",
    "NeighbourEnsemble",
    "ParameterReport",
    "PerceiverIO",
    "PixelTokens",
    "ProjectedAttention",
    "Scaling",
    "SoftLayerOrdering",
    "SoftLayers",
    "SpecialisedModels",
    "SymbolTokens",
    "TaskAdapted",
    "TaskDescriptors",
    "TextModality",
    "TokenAdapter",
    "Tokens",
    "TravelingObserver",
    "TwoSided",
    "VariableEmbeddings",
    "Wrapped",
    "average_members",
    "combine_outputs",
    "default_architecture",
    "default_encoder",
    "label_adjacency",
    "label_counts",
    "permuted_orders",
    "same_orders",
]
