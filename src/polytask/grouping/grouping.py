"""What every way of grouping tasks returns: who is trained where, who is served from where, and
what it cost to find out.

Shape legend: T tasks, m groups.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from polytask.files import write_atomically

__all__ = ["Grouping", "GroupingCost"]

#: Memberships closer than this to 0 and 1 are hard; rows of ``serving`` sum to 1 within it.
TOLERANCE = 1e-6


@dataclass(frozen=True, kw_only=True)
class GroupingCost:
    """What it took to find a grouping; training the groups afterwards is not part of it.

    Args:
        models: Networks trained.
        steps: Optimiser steps over all of them.
        passes: Forward or backward passes over a batch beyond those of the steps.
        seconds: Processor seconds.
    """

    models: int = 0
    steps: int = 0
    passes: int = 0
    seconds: float = 0.0

    def __add__(self, other: GroupingCost) -> GroupingCost:
        """Both one after the other."""
        return GroupingCost(
            models=self.models + other.models,
            steps=self.steps + other.steps,
            passes=self.passes + other.passes,
            seconds=self.seconds + other.seconds,
        )

    def __str__(self) -> str:
        """For example "45 models, 9000 steps, 12.3 s"."""
        passes = f", {self.passes} more passes" if self.passes else ""
        models = "1 model" if self.models == 1 else f"{self.models} models"
        return f"{models}, {self.steps} steps{passes}, {self.seconds:.1f} s"


@dataclass(frozen=True, eq=False)
class Grouping:
    """Which tasks are learned together.

    Args:
        tasks: Names, in order.
        memberships: ``[T, m]`` in [0, 1]: the weight of each task's loss in each group's network.
            Hard memberships are 0 or 1 and may overlap: a task can help in a group that does not
            serve it.
        serving: ``[T, m]``, rows sum to 1: how the groups' outputs are combined for each task;
            None: the memberships, each row divided by its sum.
        method: Who found it.
        cost: What finding it took.
        score: What the search maximised, in the method's own unit; None where there is no such
            thing.
        notes: Sentences that a reader should see.

    Raises:
        ValueError: Shapes that do not fit, values outside [0, 1], a task without any group, a group
            without any task, or a task served by a group that does not train it.
    """

    tasks: tuple[str, ...]
    memberships: Tensor
    serving: Tensor | None = None
    method: str = "given"
    cost: GroupingCost = field(default_factory=GroupingCost)
    score: float | None = None
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Check and normalise."""
        object.__setattr__(self, "tasks", tuple(self.tasks))
        memberships = torch.as_tensor(self.memberships).detach().to("cpu", torch.float64)
        _check_matrix("memberships", memberships, self.tasks)
        totals = memberships.sum(1, keepdim=True)
        for i in (totals[:, 0] <= 0).nonzero().flatten().tolist():
            raise ValueError(f"Task {self.tasks[i]!r} is in no group; every task needs one.")
        if bool((memberships.sum(0) <= 0).any()):
            raise ValueError("`memberships` has a group without any task; leave that column out.")
        given = memberships / totals if self.serving is None else self.serving
        serving = torch.as_tensor(given).detach().to("cpu", torch.float64)
        _check_matrix("serving", serving, self.tasks)
        if serving.shape != memberships.shape:
            raise ValueError(
                f"`serving` must have the shape of `memberships`, {tuple(memberships.shape)}, found"
                f" {tuple(serving.shape)}."
            )
        for i, total in enumerate(serving.sum(1).tolist()):
            if abs(total - 1) > TOLERANCE:
                raise ValueError(
                    f"Row {self.tasks[i]!r} of `serving` must sum to 1, found {total}."
                )
        for i, j in ((serving > 0) & (memberships == 0)).nonzero().tolist():
            raise ValueError(
                f"Task {self.tasks[i]!r} is served by group {j}, which does not train it."
            )
        object.__setattr__(self, "memberships", memberships)
        object.__setattr__(self, "serving", serving)

    @classmethod
    def from_groups(
        cls,
        tasks: Sequence[str],
        groups: Sequence[Sequence[str]],
        *,
        serving: Mapping[str, int] | None = None,
        method: str = "given",
        cost: GroupingCost | None = None,
        score: float | None = None,
        notes: Sequence[str] = (),
    ) -> Grouping:
        """Hard groups by names; they may overlap.

        Args:
            tasks: All tasks, in order.
            groups: Names per group.
            serving: For a task in several groups, the index of the group that serves it; a task
                that is not named is served by the first group that has it.
            method: Who found it.
            cost: What finding it took.
            score: What the search maximised.
            notes: For the reader.

        Raises:
            ValueError: A group names a task that does not exist, or names one twice.
        """
        index = {name: i for i, name in enumerate(tasks)}
        memberships = torch.zeros(len(tasks), len(groups), dtype=torch.float64)
        for j, group in enumerate(groups):
            for name in group:
                if name not in index:
                    raise ValueError(
                        f"Group {j} names a task {name!r}, the problem has {list(tasks)}."
                    )
                if memberships[index[name], j]:
                    raise ValueError(f"Group {j} names task {name!r} twice.")
                memberships[index[name], j] = 1.0
        served = torch.zeros_like(memberships)
        for name, i in index.items():
            inside = memberships[i].nonzero().flatten().tolist()
            if inside:
                served[i, (serving or {}).get(name, inside[0])] = 1.0
        return cls(
            tuple(tasks),
            memberships,
            served if bool((served.sum(1) > 0).all()) else None,
            method=method,
            cost=cost or GroupingCost(),
            score=score,
            notes=tuple(notes),
        )

    @classmethod
    def together(cls, tasks: Sequence[str]) -> Grouping:
        """One group of all tasks."""
        return cls.from_groups(tasks, [tasks], method="together")

    @classmethod
    def alone(cls, tasks: Sequence[str]) -> Grouping:
        """Every task in a group of its own."""
        return cls.from_groups(tasks, [[task] for task in tasks], method="alone")

    @property
    def num_groups(self) -> int:
        """The number of groups m."""
        return self.memberships.shape[1]

    @property
    def is_hard(self) -> bool:
        """Whether every task is wholly in or wholly out of every group."""
        inside = self.memberships
        return bool(torch.minimum(inside, 1 - inside).abs().max() <= TOLERANCE)

    @property
    def assignment(self) -> tuple[int, ...]:
        """Per task the group that serves it most."""
        assert self.serving is not None
        return tuple(self.serving.argmax(1).tolist())

    @property
    def groups(self) -> tuple[tuple[str, ...], ...]:
        """Names per group: all members of hard groups, else the tasks that the group serves most
        (then a group may be empty).
        """
        if self.is_hard:
            inside = self.memberships > 0.5
            return tuple(
                tuple(task for task, here in zip(self.tasks, column, strict=True) if here)
                for column in inside.T.tolist()
            )
        return tuple(
            tuple(task for task, k in zip(self.tasks, self.assignment, strict=True) if k == j)
            for j in range(self.num_groups)
        )

    def hardened(self) -> Grouping:
        """Every task in the one group that serves it most; groups that serve nobody are left
        out.
        """
        groups = [
            [task for task, k in zip(self.tasks, self.assignment, strict=True) if k == j]
            for j in range(self.num_groups)
        ]
        return Grouping.from_groups(
            self.tasks,
            [group for group in groups if group],
            method=self.method,
            cost=self.cost,
            score=self.score,
            notes=self.notes,
        )

    def agreement(self, other: Grouping | Sequence[int]) -> float:
        """Adjusted Rand index (Hubert and Arabie 1985) of two assignments: 1 the same, 0 chance."""
        from sklearn.metrics import adjusted_rand_score

        if isinstance(other, Grouping) and other.tasks != self.tasks:
            raise ValueError(f"The groupings are of different tasks: {self.tasks}, {other.tasks}.")
        theirs = other.assignment if isinstance(other, Grouping) else tuple(other)
        if len(theirs) != len(self.tasks):
            raise ValueError(f"`other` has {len(theirs)} entries for {len(self.tasks)} tasks.")
        return float(adjusted_rand_score(theirs, self.assignment))

    def save(self, path: Path | str) -> None:
        """Write JSON, atomically."""
        assert self.serving is not None
        record = {
            "tasks": self.tasks,
            "memberships": self.memberships.tolist(),
            "serving": self.serving.tolist(),
            "method": self.method,
            "cost": asdict(self.cost),
            "score": self.score,
            "notes": self.notes,
            "groups": self.groups,
        }
        write_atomically(Path(path), json.dumps(record, ensure_ascii=False, indent=1))

    @classmethod
    def load(cls, path: Path | str) -> Grouping:
        """Read what ``save`` wrote.

        Raises:
            ValueError: The file is no grouping.
        """
        try:
            record = json.loads(Path(path).read_text(encoding="utf-8"))
            return cls(
                tuple(record["tasks"]),
                torch.tensor(record["memberships"], dtype=torch.float64),
                torch.tensor(record["serving"], dtype=torch.float64),
                method=record["method"],
                cost=GroupingCost(**record["cost"]),
                score=record["score"],
                notes=tuple(record["notes"]),
            )
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise ValueError(f"{path} is no grouping that Polytask has saved: {error}.") from error

    def __repr__(self) -> str:
        kind = "hard" if self.is_hard else "soft"
        return (
            f"Grouping({self.method}: {len(self.tasks)} tasks in {self.num_groups} {kind} groups)"
        )


def _check_matrix(name: str, matrix: Tensor, tasks: Sequence[str]) -> None:
    if matrix.dim() != 2 or matrix.shape[0] != len(tasks) or matrix.shape[1] < 1:
        raise ValueError(
            f"`{name}` must be [{len(tasks)} tasks, groups], found shape {tuple(matrix.shape)}."
        )
    if not bool(((matrix >= 0) & (matrix <= 1)).all()):
        raise ValueError(f"`{name}` must lie in [0, 1], found {matrix.min()} .. {matrix.max()}.")
