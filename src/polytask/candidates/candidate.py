"""What is compared: a candidate is a method and the groups of tasks that it learns together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from polytask.candidates.boosting import BOOSTING, BoostingMethod
from polytask.candidates.fitted_groups import GROUPING_FILE
from polytask.candidates.grouped import GROUPS, GroupedNetworks
from polytask.candidates.method import ArchitectureFactory, Method
from polytask.candidates.naming import NamedMethod
from polytask.candidates.network import BASELINE, NetworkMethod
from polytask.grouping.grouping import Grouping
from polytask.problems.problem import Problem

__all__ = ["BASELINE", "Candidate", "candidate_by_name", "default_candidates"]

#: Balancers that are compared unless others are named.
DEFAULT_BALANCERS = ("equal", "uncertainty", "pcgrad")


@dataclass(frozen=True)
class Candidate:
    """One row of the leaderboard.

    Args:
        name: Shown in tables; unique in a comparison.
        method: How a group of tasks is learned.
        groups: None: all tasks together; "single": every task alone; else the groups, each task in
            exactly one. For a ``Grouping`` see ``from_grouping``.
    """

    name: str
    method: Method
    groups: Sequence[Sequence[str]] | Literal["single"] | None = None

    def __post_init__(self) -> None:
        if not self.name:
            raise ValueError(f"A candidate needs a non-empty name, found {self.name!r}.")
        if not isinstance(self.method, Method):
            raise TypeError(
                f"Candidate {self.name!r}: `method` must be a method such as NetworkMethod(),"
                f" found {self.method!r}."
            )
        if isinstance(self.groups, Grouping):
            raise TypeError(
                f"Candidate {self.name!r}: `groups` must be names of tasks, found a Grouping; use"
                " Candidate.from_grouping(name, grouping)."
            )

    @classmethod
    def from_grouping(
        cls, name: str, grouping: Grouping, method: Method | None = None
    ) -> Candidate:
        """The groups of a grouping: those that share no task are runs of their own; if they overlap
        or are soft, one run of all tasks has them all, see ``GroupedNetworks``.

        Args:
            name: Shown in tables.
            grouping: The groups.
            method: How a group is learned; None means ``NetworkMethod()``.

        Raises:
            TypeError: The groups overlap or are soft, and the method is no ``NetworkMethod``.
        """
        method = method if method is not None else NetworkMethod()
        if grouping.is_hard and sum(map(len, grouping.groups)) == len(grouping.tasks):
            return cls(name, method, grouping.groups)
        if not isinstance(method, NetworkMethod):
            raise TypeError(
                f"Candidate {name!r}: groups that overlap or are soft need a NetworkMethod, found"
                f" {method!r}."
            )
        return cls(name, GroupedNetworks(grouping=grouping, network=method))

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
        name: What the methods of ``polytask.candidates`` say that they are called (their ``named``;
            capitals, spaces and marks do not matter): "single-task", "boosting", "weight-search", a
            balancer ("pcgrad", "shared: pcgrad"), a grouper ("stg", "groups: stg", "stg-hard:3") or
            an architecture ("traveling-observer", "model: traveling-observer"). A name that ends in
            ".json" is the file of a saved ``Grouping``.
        architecture: For the networks; None means the default. Candidates that are named after an
            architecture keep theirs.

    Raises:
        ValueError: There is no such candidate or file, or the balancer or grouper needs arguments.
    """
    if name.endswith(".json"):
        return _from_file(name, architecture)
    methods = NamedMethod.__subclasses__()
    for method in methods:
        found = method.named(name, architecture)
        if found is not None:
            return Candidate(*found)
    known = [known for method in methods for known in method.names()]
    raise ValueError(f"No candidate {name!r}; choose from {', '.join(known)}.")


def _from_file(name: str, architecture: ArchitectureFactory | None) -> Candidate:
    """The networks of a saved grouping, shown under the last part of its path that says most."""
    path = Path(name.removeprefix(GROUPS).strip())
    if not path.is_file():
        raise ValueError(
            f"No candidate {name!r}: there is no such file; give the path of a saved grouping."
        )
    usual = path.name == GROUPING_FILE
    shown = f"{path.resolve().parent.name}/{path.name}" if usual else path.name
    network = NetworkMethod(architecture=architecture)
    return Candidate.from_grouping(f"{GROUPS} {shown}", Grouping.load(path), network)
