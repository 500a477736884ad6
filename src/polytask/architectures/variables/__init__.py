"""Tables of any shapes in one system: embedded variables, or own layers around a shared core."""

from polytask.architectures.families import Family
from polytask.architectures.variables.deep_residual import DeepResidual
from polytask.architectures.variables.film import (
    CoreResidualBlock,
    FiLM,
    FiLMResidualBlock,
    InverseFiLM,
)
from polytask.architectures.variables.neighbour_ensemble import NeighbourEnsemble
from polytask.architectures.variables.soft_layer_ordering import (
    SoftLayerOrdering,
    SoftLayers,
    permuted_orders,
    same_orders,
)
from polytask.architectures.variables.traveling_observer import TravelingObserver
from polytask.architectures.variables.variable_embeddings import VariableEmbeddings

__all__ = [
    "CoreResidualBlock",
    "DeepResidual",
    "FiLM",
    "FiLMResidualBlock",
    "InverseFiLM",
    "NeighbourEnsemble",
    "SoftLayerOrdering",
    "SoftLayers",
    "TravelingObserver",
    "VariableEmbeddings",
    "permuted_orders",
    "same_orders",
]

#: Where the task enters the models of this folder.
FAMILIES = (Family.VARIABLES, Family.CROSS_DOMAIN)
