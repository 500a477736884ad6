"""Did learning the tasks together help, and by how much? Comparisons and their verdicts.

Names are imported when they are first used, so that a worker process and the command line start at
once.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from polytask.evaluation.boosting import BoostingMethod
    from polytask.evaluation.bundle import Bundle, load_bundle
    from polytask.evaluation.candidates import (
        Candidate,
        architecture_by_name,
        candidate_by_name,
        default_candidates,
    )
    from polytask.evaluation.comparing import compare
    from polytask.evaluation.comparison import Comparison
    from polytask.evaluation.executor import Executor, InlineExecutor, LocalExecutor
    from polytask.evaluation.grouped import GroupedNetworks
    from polytask.evaluation.many_sets import ManySetsScore, score_many_sets
    from polytask.evaluation.method import Budget, Fitted, Method, load_fitted
    from polytask.evaluation.network import NetworkMethod
    from polytask.evaluation.store import RunStore
    from polytask.evaluation.weight_proposals import simplex_grid
    from polytask.evaluation.weight_search import WeightSearch

__all__ = [
    "BoostingMethod",
    "Budget",
    "Bundle",
    "Candidate",
    "Comparison",
    "Executor",
    "Fitted",
    "GroupedNetworks",
    "InlineExecutor",
    "LocalExecutor",
    "ManySetsScore",
    "Method",
    "NetworkMethod",
    "RunStore",
    "WeightSearch",
    "architecture_by_name",
    "candidate_by_name",
    "compare",
    "default_candidates",
    "load_bundle",
    "load_fitted",
    "score_many_sets",
    "simplex_grid",
]

_HOME_OF = {
    "BoostingMethod": "boosting",
    "Budget": "method",
    "Bundle": "bundle",
    "Candidate": "candidates",
    "Comparison": "comparison",
    "Executor": "executor",
    "Fitted": "method",
    "GroupedNetworks": "grouped",
    "InlineExecutor": "executor",
    "LocalExecutor": "executor",
    "ManySetsScore": "many_sets",
    "Method": "method",
    "NetworkMethod": "network",
    "RunStore": "store",
    "WeightSearch": "weight_search",
    "architecture_by_name": "candidates",
    "candidate_by_name": "candidates",
    "compare": "comparing",
    "default_candidates": "candidates",
    "load_bundle": "bundle",
    "load_fitted": "method",
    "score_many_sets": "many_sets",
    "simplex_grid": "weight_proposals",
}


def __getattr__(name: str) -> object:
    """Import a public name at its first use (PEP 562)."""
    if name in _HOME_OF:
        value: object = getattr(importlib.import_module(f"{__name__}.{_HOME_OF[name]}"), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
