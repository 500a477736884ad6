"""What is compared: a candidate is a method and the groups of tasks that it learns together."""

from __future__ import annotations

import inspect
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from polytask.evaluation.boosting import BoostingMethod
from polytask.evaluation.method import Method
from polytask.evaluation.network import ArchitectureFactory, NetworkMethod
from polytask.evaluation.weight_search import WeightSearch
from polytask.problems.problem import Problem

__all__ = ["BASELINE", "Candidate", "candidate_by_name", "default_candidates"]

#: Name of the candidate that every gain is relative to.
BASELINE = "single-task"
BOOSTING = "boosting"
SEARCH = "weight-search"
SEARCHED = "shared: searched weights"
#: Balancers that are compared unless others are named.
DEFAULT_BALANCERS = ("equal", "uncertainty", "pcgrad")

Groups = Sequence[Sequence[str]] | Literal["single"] | None


@dataclass(frozen=True)
class Candidate:
    """One row of the leaderboard.

    Args:
        name: Shown in tables; unique in a comparison.
        method: How a group of tasks is learned.
        groups: None: all tasks together; "single": every task alone; else the groups, each task in
            exactly one.
    """

    name: str
    method: Method
    groups: Groups = None

    def __post_init__(self) -> None:
        """Check the arguments."""
        if not self.name:
            raise ValueError(f"A candidate needs a non-empty name, found {self.name!r}.")
        if not isinstance(self.method, Method):
            raise TypeError(
                f"Candidate {self.name!r}: `method` must be a method such as NetworkMethod(),"
                f" found {self.method!r}."
            )

    def groups_of(self, tasks: Sequence[str]) -> tuple[tuple[str, ...], ...]:
        """The groups for the tasks of a problem, with each group's tasks in the problem's order.

        Raises:
            ValueError: A task is in no group or in several, or a group names a task that does not
                exist.
        """
        if self.groups is None:
            return (tuple(tasks),)
        if self.groups == "single":
            return tuple((task,) for task in tasks)
        named = [task for group in self.groups for task in group]
        for task in named:
            if task not in tasks:
                raise ValueError(
                    f"Candidate {self.name!r} groups a task {task!r}, the problem has"
                    f" {list(tasks)}."
                )
        for task in tasks:
            if named.count(task) != 1:
                raise ValueError(
                    f"Candidate {self.name!r} has task {task!r} in {named.count(task)} groups; it"
                    " must be in exactly one."
                )
        return tuple(tuple(task for task in tasks if task in set(group)) for group in self.groups)


def default_candidates(
    problem: Problem, *, architecture: ArchitectureFactory | None = None
) -> tuple[Candidate, ...]:
    """Single-task networks, boosting where it can be, a shared network per usual balancer."""
    names = [BASELINE]
    if BoostingMethod().why_not(problem) is None:
        names.append(BOOSTING)
    if len(problem.tasks) > 1:
        names.extend(DEFAULT_BALANCERS)
    return tuple(candidate_by_name(name, architecture=architecture) for name in names)


def candidate_by_name(name: str, *, architecture: ArchitectureFactory | None = None) -> Candidate:
    """The candidate that a word on the command line means.

    Args:
        name: "single-task", "boosting", "weight-search", or a balancer of ``polytask.balancers`` in
            any spelling ("pcgrad", "PCGrad", "shared: pcgrad").
        architecture: For the networks; None means the default.

    Raises:
        ValueError: There is no such candidate, or the balancer needs arguments.
    """
    word = _plain(name.removeprefix("shared:"))
    if word in ("singletask", "single", "stl"):
        return Candidate(BASELINE, NetworkMethod(architecture=architecture), "single")
    if word == _plain(BOOSTING):
        return Candidate(BOOSTING, BoostingMethod(), "single")
    if word in (_plain(SEARCH), _plain(SEARCHED.removeprefix("shared:"))):
        return Candidate(SEARCHED, WeightSearch(method=NetworkMethod(architecture=architecture)))
    classes = _balancers()
    if word not in classes:
        known = [
            BASELINE,
            BOOSTING,
            SEARCH,
            *sorted({_short(c.__name__) for c in classes.values()}),
        ]
        raise ValueError(f"No candidate {name!r}; choose from {', '.join(known)}.")
    balancer = classes[word]
    try:
        instance = balancer()
    except TypeError as error:
        raise ValueError(
            f"{balancer.__name__} needs arguments, so it cannot be named alone; in Python use"
            f" Candidate(name, NetworkMethod(balancer={balancer.__name__}(...)))."
        ) from error
    method = NetworkMethod(balancer=instance, architecture=architecture)
    return Candidate(f"shared: {_short(balancer.__name__)}", method)


def _balancers() -> dict[str, Any]:
    """Every concrete balancer that ``polytask.balancers`` exports, by its plain name."""
    from polytask import balancers

    found: dict[str, Any] = {}
    for name in balancers.__all__:
        value = getattr(balancers, name)
        if (
            inspect.isclass(value)
            and issubclass(value, balancers.Balancer)
            and not inspect.isabstract(value)
        ):
            found[_plain(name)] = found[_plain(_short(name))] = value
    return found


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _short(name: str) -> str:
    """``GradNorm`` -> "grad-norm", ``PCGrad`` -> "pcgrad", ``FixedWeights`` -> "fixed"."""
    # A word begins at a capital with three small letters behind it, or is a last abbreviation.
    words = re.sub(r"(?<=[a-z])(?=[A-Z][a-z]{3})|(?<=[a-z]{3})(?=[A-Z]{3}$)", "-", name)
    return words.lower().removesuffix("-weighting").removesuffix("-weights")
