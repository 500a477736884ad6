"""The engine under the gradient methods: task Jacobians, Gramians, and weighted backward passes."""

from __future__ import annotations

from polytask.gradients.backward import (
    HeadRule,
    accumulate,
    backward_heads,
    head_parameters,
    seeded_backward,
    upstream_parameters,
    used_variables,
    weighted_backward,
)
from polytask.gradients.engine import (
    TaskGradients,
    Workspace,
    gramian,
    jacobian,
    jacobian_rows,
    scaled,
    split_like,
    unique_variables,
)
from polytask.gradients.features import feature_gramian, linear_heads, trunk_seeds
from polytask.gradients.graph import batch_roots, task_roots

__all__ = [
    "HeadRule",
    "TaskGradients",
    "Workspace",
    "accumulate",
    "backward_heads",
    "batch_roots",
    "feature_gramian",
    "gramian",
    "head_parameters",
    "jacobian",
    "jacobian_rows",
    "linear_heads",
    "scaled",
    "seeded_backward",
    "split_like",
    "task_roots",
    "trunk_seeds",
    "unique_variables",
    "upstream_parameters",
    "used_variables",
    "weighted_backward",
]
