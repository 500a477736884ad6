"""What can be compared: networks, boosting, groups of tasks, searched weights."""

from polytask.candidates.boosting import BoostingMethod, FittedBoosting
from polytask.candidates.candidate import (
    Candidate,
    candidate_by_name,
    default_candidates,
)
from polytask.candidates.fitted_groups import FittedGroups
from polytask.candidates.grouped import GroupedNetworks
from polytask.candidates.method import (
    Budget,
    Fitted,
    FittedModel,
    FittedOverTime,
    Method,
    load_fitted,
)
from polytask.candidates.naming import NamedMethod
from polytask.candidates.network import FittedNetwork, NetworkMethod, architecture_by_name, fit_one
from polytask.candidates.weight_proposals import simplex_grid
from polytask.candidates.weight_search import WeightSearch

__all__ = [
    "BoostingMethod",
    "Budget",
    "Candidate",
    "Fitted",
    "FittedBoosting",
    "FittedGroups",
    "FittedModel",
    "FittedNetwork",
    "FittedOverTime",
    "GroupedNetworks",
    "Method",
    "NamedMethod",
    "NetworkMethod",
    "WeightSearch",
    "architecture_by_name",
    "candidate_by_name",
    "default_candidates",
    "fit_one",
    "load_fitted",
    "simplex_grid",
]
