"""Tasks and their kinds: output size, loss per example, prediction, and the metric that scores it.

A *kind* says how one output vector becomes a loss, a prediction and a score. A *task* is a named
kind; any part of the kind can be replaced with a callable of the user's. Targets are stored
*encoded* (a regression target is standardised, a class is an index); scores are always computed in
the user's own units through ``decode``.
"""

from polytask.tasks.kinds import (
    IGNORE_INDEX,
    Binary,
    Depth,
    Kind,
    Multiclass,
    Normals,
    Regression,
    Segmentation,
    TokenSequence,
)
from polytask.tasks.metrics import Metric
from polytask.tasks.task import Task, check_unique_names, group_into_blocks
from polytask.tasks.tensors import TaskTensors

__all__ = [
    "IGNORE_INDEX",
    "Binary",
    "Depth",
    "Kind",
    "Metric",
    "Multiclass",
    "Normals",
    "Regression",
    "Segmentation",
    "Task",
    "TaskTensors",
    "TokenSequence",
    "check_unique_names",
    "group_into_blocks",
]
