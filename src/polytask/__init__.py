"""Polytask: learn many tasks with one system, and measure whether learning them together helps.

    >>> import polytask
    >>> task = polytask.Task("price", polytask.Regression())

Importing the package loads nothing else: a name below, or a subpackage, is imported at its first
use.
"""

from __future__ import annotations

import importlib
import pkgutil
from typing import TYPE_CHECKING

from polytask._version import __version__

if TYPE_CHECKING:
    from polytask.architectures import HardSharing
    from polytask.candidates import Candidate
    from polytask.encoders import MLP
    from polytask.evaluation import Comparison, compare
    from polytask.problems import Problem
    from polytask.tables import from_tables, inspect
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
    "from_tables",
    "inspect",
]

#: What each subpackage offers here, so that a name can be found without loading the others.
_EXPORTS = {
    "architectures": ("HardSharing",),
    "candidates": ("Candidate",),
    "encoders": ("MLP",),
    "evaluation": ("Comparison", "compare"),
    "problems": ("Problem",),
    "tables": ("from_tables", "inspect"),
    "tasks": ("Binary", "Multiclass", "Regression", "Task"),
    "training": ("Trainer", "TrainingSettings"),
}
_HOME_OF = {name: package for package, names in _EXPORTS.items() for name in names}


def __getattr__(name: str) -> object:
    """Import a public name or a subpackage at its first use (PEP 562)."""
    if name in _HOME_OF:
        home = importlib.import_module(f"{__name__}.{_HOME_OF[name]}")
        value: object = getattr(home, name)
        globals()[name] = value
        return value
    if name in _subpackages():
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """Names that are imported already and names that would be."""
    return sorted({*globals(), *_HOME_OF, *_subpackages()})


def _subpackages() -> set[str]:
    return {module.name for module in pkgutil.iter_modules(__path__) if module.ispkg}
