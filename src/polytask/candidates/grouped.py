"""Networks per group of tasks, where the grouping is found on the rows of the run itself.

Shape legend: T tasks, m groups.
"""

from __future__ import annotations

import copy
import dataclasses
import json
import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch

from polytask import grouping as groupers
from polytask.architectures import Architecture, SpecialisedModels
from polytask.candidates.fitted_groups import GROUPING_FILE, FittedGroups, GroupPart
from polytask.candidates.method import ArchitectureFactory, Budget, Fitted
from polytask.candidates.naming import (
    Named,
    NamedMethod,
    exported,
    plain_name,
    short_name,
    shown_names,
    usual,
)
from polytask.candidates.network import NetworkMethod, within_budget
from polytask.config import config, rebuildable_repr
from polytask.files import write_atomically
from polytask.grouping.base import Grouper
from polytask.grouping.grouping import Grouping
from polytask.grouping.learner import Learner
from polytask.problems.problem import Problem
from polytask.runs.store import run_key
from polytask.training import TrainingSettings

__all__ = ["GROUPS", "GroupedNetworks"]

Combine = Literal["auto", "soft", "hard"]
SECONDS_FILE = "seconds.json"
#: Copies of one group get seeds this far apart; the first has the run's own.
COPY_STRIDE = 1_000_003
#: What stands before the names of candidates that group the tasks.
GROUPS = "groups:"


class GroupedNetworks(NamedMethod):
    """Finds out which tasks belong together, then trains the groups.

    Soft memberships w train m networks on all tasks in one pass, ``SpecialisedModels``: model j
    minimises (1/T) sum_t w_tj L_tj, and the outputs are combined by the serving weights. Hard
    groups train one network each, on their tasks alone; a task in several groups is predicted by
    those that serve it. A group that serves no task is not trained. So a group of one task is the
    same training as the single-task network of this seed, and one group of all tasks the shared
    network's.

    The search trains with the network's architecture and settings, equal weights, and the epochs,
    patience, learning rate and seed of the run. A time limit holds for every network, of the search
    and after it, as it does for the single-task networks: m networks that are trained in one pass
    have m times as much together. A single task has nothing to group: there the method is
    ``network``.

    Args:
        grouper: Finds the grouping on training and validation rows; anew for every seed.
        grouping: A grouping that is known already, instead of ``grouper``.
        num_groups: m for the grouper; None lets it choose.
        network: What is trained; None means ``NetworkMethod()``.
        combine: "soft": memberships as weights of the losses, also hard ones; "hard": every task in
            the group that serves it most (hard groups, which may overlap, stay as they are);
            "auto": whichever the grouping is.

    Cost: the search (see the grouper's), and one network per group. The record's seconds hold both;
        its steps and epochs are those of the groups. ``curves["grouping"]`` has the grouping and
        what finding it took. The time that a given ``grouping`` took is noted, not added.

    Raises:
        ValueError: Neither or both of ``grouper`` and ``grouping``, or arguments that do not fit.
    """

    def __init__(
        self,
        *,
        grouper: Grouper | None = None,
        grouping: Grouping | None = None,
        num_groups: int | None = None,
        network: NetworkMethod | None = None,
        combine: Combine = "auto",
    ) -> None:
        if (grouper is None) == (grouping is None):
            raise ValueError("GroupedNetworks needs either a `grouper` or a `grouping`.")
        if grouping is not None and num_groups is not None:
            raise ValueError(
                "`num_groups` is for a `grouper`; a `grouping` has its groups already."
            )
        if num_groups is not None and num_groups < 1:
            raise ValueError(f"`num_groups` must be >= 1 or None, found {num_groups}.")
        if combine not in ("auto", "soft", "hard"):
            raise ValueError(f"`combine` must be 'auto', 'soft' or 'hard', found {combine!r}.")
        if network is not None and not isinstance(network, NetworkMethod):
            raise TypeError(f"`network` must be a NetworkMethod, found {network!r}.")
        self.grouper = grouper
        self.grouping = grouping
        self.num_groups = num_groups
        self.network = network
        self.combine: Combine = combine
        self._folder: Path | None = None

    def __repr__(self) -> str:
        return rebuildable_repr(self)

    @classmethod
    def named(cls, name: str, architecture: ArchitectureFactory | None) -> Named | None:
        """A grouper ("stg", "groups: stg"): with "-hard" every task only in the group that serves
        it most, with ":3" three groups ("stg-hard:3").
        """
        asked = name.removeprefix(GROUPS).strip()
        words = re.fullmatch(r"(.*?)(-hard)?(?::(\d+))?", asked)
        known = exported(groupers, Grouper, called=_called)
        if words is None or (grouper := known.get(plain_name(words[1]))) is None:
            if name.startswith(GROUPS):
                ways = ", ".join(cls.names())
                raise ValueError(f"No way of grouping {asked!r}; choose from {ways}.")
            return None
        method = cls(
            grouper=usual(grouper, f"GroupedNetworks(grouper={grouper.__name__}(...))"),
            num_groups=None if words[3] is None else int(words[3]),
            network=NetworkMethod(architecture=architecture),
            combine="hard" if words[2] else "auto",
        )
        shown = f"{GROUPS} {_called(grouper)}{words[2] or ''}"
        return shown if words[3] is None else f"{shown}:{method.num_groups}", method, None

    @classmethod
    def names(cls) -> Sequence[str]:
        return shown_names(exported(groupers, Grouper), called=_called)

    def trainings(self, num_tasks: int) -> int:
        """Networks that a fit may train; see ``Resumable``."""
        if num_tasks == 1:
            return 1
        if self.grouping is not None:
            return self.grouping.num_groups
        assert self.grouper is not None
        return self.grouper.models_trained(num_tasks) + (self.num_groups or num_tasks)

    def resuming_in(self, folder: Path) -> GroupedNetworks:
        """The same method, which writes the grouping down when it is found; see ``Resumable``."""
        found = copy.copy(self)
        found._folder = folder
        return found

    def config(self, num_tasks: int) -> dict[str, Any]:
        inner = self._network().config(num_tasks)
        if num_tasks == 1:
            return inner
        known = self.grouping
        given = None
        if known is not None:
            # What finding it took, and who found it, does not change the results.
            given = config((known.tasks, known.memberships, known.serving))
        return {
            "method": "grouped networks",
            "grouper": None if self.grouper is None else config(self.grouper),
            "grouping": given,
            "num_groups": self.num_groups,
            "combine": self.combine,
            "of": inner,
        }

    def why_not(self, problem: Problem) -> str | None:
        """Why these tasks cannot be grouped or learned, or None if they can."""
        names = [task.name for task in problem.tasks]
        reason = self._network().why_not(problem)
        if reason is not None or len(names) == 1:
            return reason
        if self.grouping is not None:
            odd = sorted(set(self.grouping.tasks) ^ set(names))
            return f"the grouping and the problem do not both have task {odd[0]!r}" if odd else None
        if self.num_groups is not None and self.num_groups > len(names):
            return f"{self.num_groups} groups were asked for, there are {len(names)} tasks"
        assert self.grouper is not None
        reason = self.grouper.why_not(problem)
        return None if reason is None else reason.rstrip(".")

    def fit(self, problem: Problem, *, seed: int, budget: Budget, rate: float = 1.0) -> Fitted:
        """Group the tasks and train the groups; see ``Method.fit``.

        Raises:
            ValueError: The tasks cannot be grouped (see ``why_not``).
        """
        network = self._network()
        if len(problem.tasks) == 1:
            return network.fit(problem, seed=seed, budget=budget, rate=rate)
        reason = self.why_not(problem)
        if reason is not None:
            raise ValueError(f"{self} cannot group the tasks of {problem.name!r}: {reason}.")
        found, seconds = self.find(problem, seed=seed, budget=budget, rate=rate)
        grouping = found.hardened() if self.combine == "hard" and not found.is_hard else found
        grouping = _arranged(grouping, [task.name for task in problem.tasks])
        if self.combine == "soft" or not grouping.is_hard:
            parts = [_fit_soft(network, grouping, problem, seed=seed, budget=budget, rate=rate)]
        else:
            parts = _fit_hard(network, grouping, problem, seed=seed, budget=budget, rate=rate)
        return FittedGroups.after(parts, grouping, seconds)

    def _network(self) -> NetworkMethod:
        return self.network if self.network is not None else NetworkMethod()

    def find(
        self, problem: Problem, *, seed: int, budget: Budget, rate: float = 1.0
    ) -> tuple[Grouping, float | None]:
        """The grouping that ``fit`` would train, and the seconds of the search; None if it was
        known before.
        """
        if self.grouping is not None:
            return self.grouping, None
        folder = self._folder
        if folder is not None:
            identity = {
                "method": self.config(len(problem.tasks)),
                "problem": problem.fingerprint(),
                "seed": seed,
                "budget": dataclasses.asdict(budget),
                "rate": rate,
            }
            folder = folder / f"grouping-{run_key(identity)[:12]}"
            if (folder / GROUPING_FILE).is_file():
                seconds = json.loads((folder / SECONDS_FILE).read_text(encoding="utf-8"))
                return Grouping.load(folder / GROUPING_FILE), float(seconds)
        started = time.monotonic()
        grouping = self._search(problem, seed=seed, budget=budget, rate=rate)
        seconds = time.monotonic() - started
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            # The grouping comes last: where it is, the other file is too.
            write_atomically(folder / SECONDS_FILE, json.dumps(seconds))
            grouping.save(folder / GROUPING_FILE)
        return grouping, seconds

    def _search(self, problem: Problem, *, seed: int, budget: Budget, rate: float) -> Grouping:
        assert self.grouper is not None
        network = self._network()
        base = network.settings or TrainingSettings.for_problem(problem)
        settings = within_budget(base, seed, budget, rate)
        device = settings.resolved_device()
        learner = Learner(architecture=network.architecture, settings=settings)
        # A grouper that draws from the global generator is repeatable as well, and leaves the
        # caller's random state as it was.
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(seed)
            return self.grouper.find(
                problem, learner=learner, num_groups=self.num_groups, seed=seed
            )


def _called(grouper: type[Grouper]) -> str:
    """What the grouper says that it is called, or its class where it needs arguments."""
    try:
        return grouper().name
    except TypeError:
        return short_name(grouper)


def _arranged(grouping: Grouping, names: Sequence[str]) -> Grouping:
    """The grouping with its tasks in this order and hard memberships exactly 0 and 1, without the
    groups that serve nobody.
    """
    assert grouping.serving is not None
    rows = [grouping.tasks.index(name) for name in names]
    memberships, serving = grouping.memberships[rows], grouping.serving[rows]
    if grouping.is_hard:
        memberships = memberships.round()
        serving = serving * memberships
        serving = serving / serving.sum(1, keepdim=True)
    kept = (serving > 0).any(0)
    return dataclasses.replace(
        grouping, tasks=tuple(names), memberships=memberships[:, kept], serving=serving[:, kept]
    )


def _fit_soft(
    network: NetworkMethod,
    grouping: Grouping,
    problem: Problem,
    *,
    seed: int,
    budget: Budget,
    rate: float,
) -> GroupPart:
    """All networks in one pass, the losses weighted by the memberships."""

    def build(problem: Problem) -> Architecture:
        models = [network.build(problem) for _ in range(grouping.num_groups)]
        return SpecialisedModels(
            models=models, memberships=grouping.memberships, serving=grouping.serving
        )

    together = NetworkMethod(
        balancer=network.balancer,
        architecture=build,
        settings=network.settings,
        cosines=network.cosines,
    )
    if budget.time_limit is not None:
        budget = dataclasses.replace(budget, time_limit=budget.time_limit * grouping.num_groups)
    fitted = together.fit(problem, seed=seed, budget=budget, rate=rate)
    return GroupPart(fitted, dict.fromkeys(grouping.tasks, 1.0))


def _fit_hard(
    network: NetworkMethod,
    grouping: Grouping,
    problem: Problem,
    *,
    seed: int,
    budget: Budget,
    rate: float,
) -> list[GroupPart]:
    """One network after the other, each on the tasks of its group."""
    assert grouping.serving is not None
    parts = []
    for j, group in enumerate(grouping.groups):
        # The same group twice is meant as two networks, not as one network twice.
        copies = grouping.groups[:j].count(group)
        fitted = network.fit(
            problem.select_tasks(group), seed=seed + COPY_STRIDE * copies, budget=budget, rate=rate
        )
        shares = zip(grouping.tasks, grouping.serving[:, j].tolist(), strict=True)
        parts.append(GroupPart(fitted, {name: share for name, share in shares if share > 0}))
    return parts
