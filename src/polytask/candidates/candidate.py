"""What is compared: a candidate is a method and the groups of tasks that it learns together."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

from polytask import architectures, balancers, grouping
from polytask.architectures import Architecture
from polytask.balancers import Balancer
from polytask.candidates.boosting import BoostingMethod
from polytask.candidates.grouped import GROUPING_FILE, GroupedNetworks
from polytask.candidates.method import Method
from polytask.candidates.network import ArchitectureFactory, NetworkMethod
from polytask.candidates.weight_search import WeightSearch
from polytask.grouping.base import Grouper
from polytask.grouping.grouping import Grouping
from polytask.problems.problem import Problem

__all__ = [
    "BASELINE",
    "Candidate",
    "architecture_by_name",
    "candidate_by_name",
    "default_candidates",
]

#: Name of the candidate that every gain is relative to.
BASELINE = "single-task"
BOOSTING = "boosting"
SEARCH = "weight-search"
SEARCHED = "shared: searched weights"
#: Balancers that are compared unless others are named.
DEFAULT_BALANCERS = ("equal", "uncertainty", "pcgrad")

#: What stands before the names of candidates that group the tasks.
GROUPS = "groups:"
#: What stands before the names of candidates that are another architecture.
MODEL = "model:"

Groups = Sequence[Sequence[str]] | Grouping | Literal["single"] | None


@dataclass(frozen=True)
class Candidate:
    """One row of the leaderboard.

    Args:
        name: Shown in tables; unique in a comparison.
        method: How a group of tasks is learned.
        groups: None: all tasks together; "single": every task alone; else the groups, each task in
            exactly one. A ``Grouping`` whose groups overlap or are soft makes the method, which
            must be a ``NetworkMethod``, one of all tasks: ``GroupedNetworks``.
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
        if isinstance(self.groups, Grouping):
            self._use(self.groups)

    def _use(self, grouping: Grouping) -> None:
        """Groups that are a partition of the tasks are runs of their own, others one run."""
        if grouping.is_hard and sum(map(len, grouping.groups)) == len(grouping.tasks):
            object.__setattr__(self, "groups", grouping.groups)
            return
        if not isinstance(self.method, NetworkMethod):
            raise TypeError(
                f"Candidate {self.name!r}: groups that overlap or are soft need a NetworkMethod,"
                f" found {self.method!r}."
            )
        grouped = GroupedNetworks(grouping=grouping, network=self.method)
        object.__setattr__(self, "method", grouped)
        object.__setattr__(self, "groups", None)

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
        assert not isinstance(self.groups, Grouping)  # replaced when the candidate was made
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
        name: "single-task", "boosting", "weight-search", a balancer of ``polytask.balancers`` in
            any spelling ("pcgrad", "PCGrad", "shared: pcgrad"), or a grouper of
            ``polytask.grouping`` ("stg", "groups: stg"): with "-hard" every task only in the group
            that serves it most, with ":3" three groups ("stg-hard:3"); or an architecture of
            ``polytask.architectures`` that makes itself for a problem ("traveling-observer",
            "model: traveling-observer"). A name that ends in ".json" is the file of a saved
            ``Grouping``.
        architecture: For the networks; None means the default. Candidates that are named after an
            architecture keep theirs.

    Raises:
        ValueError: There is no such candidate or file, or the balancer or grouper needs arguments.
    """
    if name.endswith(".json"):
        return _from_file(name, architecture)
    word = _plain(name.removeprefix("shared:"))
    fixed = _built_in(word, architecture)
    if fixed is not None:
        return fixed
    classes, groupers = _balancers(), _groupers()
    grouped = re.fullmatch(r"(.*?)(-hard)?(?::(\d+))?", name.removeprefix(GROUPS).strip())
    if word not in classes and grouped is not None and _plain(grouped[1]) in groupers:
        return _from_grouper(groupers[_plain(grouped[1])], grouped, architecture)
    if word in classes:
        return _from_balancer(classes[word], architecture)
    models = _architectures()
    model = _plain(name.removeprefix(MODEL))
    if model in models:
        chosen = models[model]
        shown = f"{MODEL} {_short(chosen.__name__)}"
        return Candidate(shown, NetworkMethod(architecture=chosen.for_problem))
    ways = sorted({_grouper_name(c) for c in groupers.values()})
    if name.startswith(GROUPS):
        asked = name.removeprefix(GROUPS).strip()
        raise ValueError(f"No way of grouping {asked!r}; choose from {', '.join(ways)}.")
    shared = sorted({_short(c.__name__) for c in classes.values()})
    made = sorted({_short(c.__name__) for c in models.values()})
    known = [BASELINE, BOOSTING, SEARCH, *shared, *ways, *made]
    raise ValueError(f"No candidate {name!r}; choose from {', '.join(known)}.")


def _built_in(word: str, architecture: ArchitectureFactory | None) -> Candidate | None:
    """The candidates that are named after no class."""
    if word in ("singletask", "single", "stl"):
        return Candidate(BASELINE, NetworkMethod(architecture=architecture), "single")
    if word == _plain(BOOSTING):
        return Candidate(BOOSTING, BoostingMethod(), "single")
    if word in (_plain(SEARCH), _plain(SEARCHED.removeprefix("shared:"))):
        return Candidate(SEARCHED, WeightSearch(method=NetworkMethod(architecture=architecture)))
    return None


def _from_balancer(balancer: type[Balancer], architecture: ArchitectureFactory | None) -> Candidate:
    """One network of all tasks under a balancer."""
    try:
        instance = balancer()
    except TypeError as error:
        raise ValueError(
            f"{balancer.__name__} needs arguments, so it cannot be named alone; in Python use"
            f" Candidate(name, NetworkMethod(balancer={balancer.__name__}(...)))."
        ) from error
    method = NetworkMethod(balancer=instance, architecture=architecture)
    return Candidate(f"shared: {_short(balancer.__name__)}", method)


def _from_grouper(
    grouper: type[Grouper], words: re.Match[str], architecture: ArchitectureFactory | None
) -> Candidate:
    """Networks of the groups that a grouper finds; ``words``: its name, "-hard", how many."""
    try:
        instance = grouper()
    except TypeError as error:
        raise ValueError(
            f"{grouper.__name__} needs arguments, so it cannot be named alone; in Python use"
            f" Candidate(name, GroupedNetworks(grouper={grouper.__name__}(...)))."
        ) from error
    count = None if words[3] is None else int(words[3])
    method = GroupedNetworks(
        grouper=instance,
        num_groups=count,
        network=NetworkMethod(architecture=architecture),
        combine="hard" if words[2] else "auto",
    )
    shown = f"{GROUPS} {instance.name}{words[2] or ''}"
    return Candidate(shown if count is None else f"{shown}:{count}", method)


def _from_file(name: str, architecture: ArchitectureFactory | None) -> Candidate:
    """The networks of a saved grouping, shown under the last part of its path that says most."""
    path = Path(name.removeprefix(GROUPS).strip())
    if not path.is_file():
        raise ValueError(
            f"No candidate {name!r}: there is no such file; give the path of a saved grouping."
        )
    usual = path.name == GROUPING_FILE
    shown = f"{path.resolve().parent.name}/{path.name}" if usual else path.name
    method = NetworkMethod(architecture=architecture)
    return Candidate(f"{GROUPS} {shown}", method, Grouping.load(path))


def _balancers() -> dict[str, type[Balancer]]:
    """Every concrete balancer that ``polytask.balancers`` exports, by its plain name."""
    found: dict[str, type[Balancer]] = {}
    for name, value in _concrete(balancers, Balancer):
        found[_plain(name)] = found[_plain(_short(name))] = value
    return found


def architecture_by_name(name: str) -> ArchitectureFactory:
    """From a problem to a fresh model, for the name of an architecture in any spelling.

    Raises:
        ValueError: There is no such architecture, or it cannot make itself for a problem.
    """
    known = _architectures()
    word = _plain(name.removeprefix(MODEL))
    if word not in known:
        names = ", ".join(sorted({_short(c.__name__) for c in known.values()}))
        raise ValueError(f"No architecture {name!r}; choose from {names}.")
    return known[word].for_problem


def _architectures() -> dict[str, type[Architecture]]:
    """Every architecture that makes itself for a problem, by its plain name."""
    return {
        _plain(name): value
        for name, value in _concrete(architectures, Architecture)
        if "for_problem" in vars(value)
    }


def _groupers() -> dict[str, type[Grouper]]:
    """Every concrete grouper that ``polytask.grouping`` exports, by its plain names."""
    found: dict[str, type[Grouper]] = {}
    for name, value in _concrete(grouping, Grouper):
        for known in (name, _short(name), _grouper_name(value)):
            found[_plain(known)] = value
    return found


def _grouper_name(grouper: type[Grouper]) -> str:
    try:
        return grouper().name
    except TypeError:  # it needs arguments: only its class can say what it is called
        return _short(grouper.__name__)


def _concrete(package: ModuleType, base: type) -> Iterator[tuple[str, Any]]:
    """The classes among a package's exports that can be made."""
    for name in package.__all__:
        value = getattr(package, name)
        if inspect.isclass(value) and issubclass(value, base) and not inspect.isabstract(value):
            yield name, value


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _short(name: str) -> str:
    """``GradNorm`` -> "grad-norm", ``PCGrad`` -> "pcgrad", ``FixedWeights`` -> "fixed"."""
    # A word begins at a capital with three small letters behind it, or is a last abbreviation.
    words = re.sub(r"(?<=[a-z])(?=[A-Z][a-z]{3})|(?<=[a-z]{3})(?=[A-Z]{3}$)", "-", name)
    return words.lower().removesuffix("-weighting").removesuffix("-weights")
