"""The data sets that come with the package, found by walking the exports of ``problems``."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable

from polytask import problems
from polytask.problems.problem import Problem

__all__ = ["all_datasets", "describe_dataset", "find_dataset"]


def all_datasets() -> dict[str, Callable[..., Problem]]:
    """Name and function of every data set: the exported functions that return a Problem and need
    no argument (others read a user's files).
    """
    found = {}
    for name in problems.__all__:
        function = getattr(problems, name)
        if not inspect.isfunction(function):
            continue
        signature = inspect.signature(function)
        needed = [p for p in signature.parameters.values() if p.default is inspect.Parameter.empty]
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
