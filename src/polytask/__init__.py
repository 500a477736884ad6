"""Polytask: learn many tasks with one system, and measure whether learning them together helps.

    >>> import polytask
    >>> task = polytask.Task("price", polytask.Regression())

Importing the package loads nothing else: a name below, or a subpackage, is imported at its first
use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from polytask._version import __version__

if TYPE_CHECKING:
    from polytask import architectures as architectures
    from polytask import balancers as balancers
    from polytask import checks as checks
    from polytask import encoders as encoders
    from polytask import evaluation as evaluation
    from polytask import gradients as gradients
    from polytask import grouping as grouping
    from polytask import losses as losses
    from polytask import metrics as metrics
    from polytask import packed as packed
    from polytask import problems as problems
    from polytask import report as report
    from polytask import samplers as samplers
    from polytask import solvers as solvers
    from polytask import tasks as tasks
    from polytask import training as training
    from polytask.architectures import HardSharing
    from polytask.encoders import MLP
    from polytask.evaluation import Candidate, Comparison, compare
    from polytask.problems import Problem
    from polytask.tasks import Binary, Multiclass, Regression, Task
    from polytask.training import Trainer, TrainingSettings

__all__ = [
    "MLP",
    "Binary",
    "Candidate",
    "Comparison",
    "HardSharing",
    "Multiclass",
    "Problem",
    "Regression",
    "Task",
    "Trainer",
    "TrainingSettings",
    "__version__",
    "compare",
]

_HOME_OF = {
    "MLP": "polytask.encoders",
    "Binary": "polytask.tasks",
    "Candidate": "polytask.evaluation",
    "Comparison": "polytask.evaluation",
    "HardSharing": "polytask.architectures",
    "Multiclass": "polytask.tasks",
    "Problem": "polytask.problems",
    "Regression": "polytask.tasks",
    "Task": "polytask.tasks",
    "Trainer": "polytask.training",
    "TrainingSettings": "polytask.training",
    "compare": "polytask.evaluation",
}
_SUBPACKAGES = frozenset(
    {
        "architectures",
        "balancers",
        "checks",
        "encoders",
        "evaluation",
        "gradients",
        "grouping",
        "losses",
        "metrics",
        "packed",
        "problems",
        "report",
        "samplers",
        "solvers",
        "tasks",
        "training",
    }
)


def __getattr__(name: str) -> object:
    """Import a public name or a subpackage at its first use (PEP 562)."""
    if name in _HOME_OF:
        value: object = getattr(importlib.import_module(_HOME_OF[name]), name)
        globals()[name] = value
        return value
    if name in _SUBPACKAGES:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """Names that are imported already and names that would be."""
    return sorted({*globals(), *_HOME_OF, *_SUBPACKAGES})
