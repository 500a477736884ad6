"""The data sets that come with the package, found by walking the files of this folder."""

from __future__ import annotations

import difflib
import importlib
import inspect
import pkgutil
from collections.abc import Callable

from polytask.problems.problem import Problem

__all__ = ["all_datasets", "describe_dataset", "find_dataset"]

PACKAGE = __name__.rpartition(".")[0]


def all_datasets() -> dict[str, Callable[..., Problem]]:
    """Name and function of every data set: the public functions that return a Problem and need no
    argument (others read a user's files).
    """
    found = {}
    for file in pkgutil.iter_modules(importlib.import_module(PACKAGE).__path__):
        module = importlib.import_module(f"{PACKAGE}.{file.name}")
        for name in getattr(module, "__all__", ()):
            function = getattr(module, name)
            if not inspect.isfunction(function):
                continue
            signature = inspect.signature(function)
            parameters = signature.parameters.values()
            needed = [p for p in parameters if p.default is inspect.Parameter.empty]
            if signature.return_annotation == "Problem" and not needed:
                found[name] = function
    return dict(sorted(found.items()))


def find_dataset(name: str) -> Callable[..., Problem]:
    """The function of a data set; ValueError names those that exist."""
    known = all_datasets()
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(known)}."
        raise ValueError(f"There is no data set {name!r}; {hint}")
    return known[name]


def describe_dataset(name: str) -> dict[str, object]:
    """What a data set is (its function's first line), and how many tasks and rows it has."""
    function = find_dataset(name)
    problem = function()
    parts = (problem.train, problem.validation, problem.test)
    return {
        "name": name,
        "what": (inspect.getdoc(function) or "").splitlines()[0],
        "layout": problem.layout,
        "tasks": len(problem.tasks),
        "rows": sum(
            sum(len(p) for p in part.parts.values()) if problem.layout == "separate" else len(part)
            for part in parts
        ),
    }
