"""What a comparison was asked for, and the record of it that lies beside its runs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from polytask.candidates.run import plain
from polytask.grouping.random_groups import RandomGroups

__all__ = ["Plan", "PlannedCandidate"]

FORMAT = 1


@dataclass(frozen=True)
class PlannedCandidate:
    """One candidate of a plan.

    Args:
        name: Unique in the plan.
        groups: The tasks that it learns together.
        runs: Per seed the keys of its runs, one per group.
        method: How it learns, as plain values.
    """

    name: str
    groups: tuple[tuple[str, ...], ...]
    runs: Mapping[int, tuple[str, ...]]
    method: Mapping[str, Any]

    @property
    def is_joint(self) -> bool:
        """Whether it learns several tasks with one model."""
        return any(len(group) > 1 for group in self.groups)

    @property
    def has_groups(self) -> bool:
        """Whether it learns groups of tasks: neither all together nor each alone."""
        found = self.method.get("method") == "grouped networks"
        return found or (self.is_joint and len(self.groups) > 1)

    @property
    def is_search(self) -> bool:
        """Whether it is the best of many trainings with fixed weights."""
        return self.method.get("method") == "weight search"

    @property
    def is_control(self) -> bool:
        """Whether its groups are drawn at random, or copies of all tasks."""
        grouper = self.method.get("grouper") or {}
        return grouper.get("type") == RandomGroups.__name__

    def to_record(self) -> dict[str, Any]:
        """Plain values for ``from_record``."""
        return {
            "name": self.name,
            "groups": [list(group) for group in self.groups],
            "runs": {str(seed): list(keys) for seed, keys in self.runs.items()},
            "method": self.method,
        }

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> PlannedCandidate:
        """The inverse of ``to_record``."""
        return cls(
            name=record["name"],
            groups=tuple(tuple(group) for group in record["groups"]),
            runs={int(seed): tuple(keys) for seed, keys in record["runs"].items()},
            method=record["method"],
        )


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a comparison was asked for, as plain values that JSON can hold.

    Args:
        name: Of the problem.
        baseline: Name of the candidate that gains are relative to.
        tasks: Per task ``name``, ``kind``, ``metrics`` (the primary one first),
            ``higher_is_better``, ``labels_per_split`` and what its kind adds.
        layout: "shared" or "separate" inputs.
        rows: Per split.
        notes: Sentences about the data.
        seeds: Of splits and training.
        candidates: In the order of the user.
        budget: Of every run.
        resplits: Whether every seed draws its own splits.
        source: Fingerprint of the data; name of their folder.
        data: What the data are and how they are split.
        schema: Per column what is known before training; empty where there is no table.
        provenance: What is needed to repeat it: versions, command, seeds, data, budget, machine.
    """

    name: str
    baseline: str
    tasks: tuple[Mapping[str, Any], ...]
    layout: str
    rows: Mapping[str, Any]
    notes: tuple[str, ...]
    seeds: tuple[int, ...]
    candidates: tuple[PlannedCandidate, ...]
    budget: Mapping[str, Any]
    resplits: bool
    source: str
    data: Mapping[str, Any]
    schema: tuple[Mapping[str, Any], ...]
    provenance: Mapping[str, Any]

    def candidate(self, name: str) -> PlannedCandidate:
        """The candidate of a name.

        Raises:
            ValueError: There is none.
        """
        for candidate in self.candidates:
            if candidate.name == name:
                return candidate
        names = [candidate.name for candidate in self.candidates]
        raise ValueError(f"No candidate {name!r} in this comparison; it has {names}.")

    @property
    def task_names(self) -> tuple[str, ...]:
        """In the user's order."""
        return tuple(task["name"] for task in self.tasks)

    @property
    def metrics(self) -> tuple[str, ...]:
        """Name of each task's primary metric."""
        return tuple(task["metrics"][0] for task in self.tasks)

    def to_json(self) -> str:
        """The text of the plan's file. Provenance is stored as ``card``; NaN becomes null."""
        record = {
            "format": FORMAT,
            **{name: getattr(self, name) for name in self.__dataclass_fields__},
            "candidates": [candidate.to_record() for candidate in self.candidates],
        }
        record["card"] = record.pop("provenance")
        return json.dumps(plain(record), default=str, ensure_ascii=False, indent=1)

    @classmethod
    def from_json(cls, text: str) -> Plan:
        """The inverse of ``to_json``.

        Raises:
            ValueError: The text is no JSON, or of a format that this version does not read.
        """
        try:
            record = json.loads(text)
        except json.JSONDecodeError as error:
            raise ValueError(
                f"is damaged ({error}); run the same `polytask compare` again."
            ) from error
        if record.get("format") != FORMAT:
            raise ValueError(
                f"has format {record.get('format')!r}, this version reads {FORMAT}; compare again."
            )
        record["provenance"] = record.pop("card")
        values = {name: record[name] for name in cls.__dataclass_fields__}
        for name in ("tasks", "notes", "seeds", "schema"):
            values[name] = tuple(values[name])
        values["candidates"] = tuple(map(PlannedCandidate.from_record, values["candidates"]))
        return cls(**values)
