"""The trained networks of a grouping, as one model with one record.

Shape legend: N rows, T tasks, m groups, C output size.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from polytask.architectures import combine_outputs
from polytask.candidates.method import FitRecord, FittedModel, fit_record_from, read_record
from polytask.candidates.network import FittedNetwork
from polytask.grouping.grouping import Grouping
from polytask.problems.splits import AnySplit

__all__ = ["GROUPING_FILE", "FittedGroups", "GroupPart"]

GROUPING_FILE = "grouping.json"
#: Tasks whose groups stand in a note; all are in the record's curves.
MOST_NAMED = 12
#: Curves of a record, each with the name of its places.
CURVES = {"train_loss": "epoch", "weight": "epoch", "validation_loss": "validation_epoch"}


@dataclass(frozen=True)
class GroupPart:
    """A trained network and what it is asked for.

    Args:
        fitted: The network, of all tasks of its group.
        shares: Per task that it predicts, the weight of its output in the prediction; 1 where it is
            the only one.
    """

    fitted: FittedNetwork
    shares: Mapping[str, float]


class FittedGroups(FittedModel):
    """The networks of a grouping.

    Args:
        parts: The networks.
        grouping: That they were trained by.
        record: Of the search and the trainings together.
    """

    saved_as: ClassVar[str] = "groups"

    def __init__(self, parts: Sequence[GroupPart], grouping: Grouping, record: FitRecord) -> None:
        super().__init__(record)
        self.parts = tuple(parts)
        self.grouping = grouping

    @classmethod
    def after(
        cls, parts: Sequence[GroupPart], grouping: Grouping, seconds: float | None
    ) -> FittedGroups:
        """With one record of the search (its seconds; None if there was none) and all trainings."""
        return cls(parts, grouping, _merged(parts, grouping, seconds))

    @property
    def num_parameters(self) -> int:
        """Trainable numbers of all networks."""
        return sum(part.fitted.num_parameters for part in self.parts)

    def outputs(self, split: AnySplit) -> Mapping[str, Tensor]:
        """Outputs ``[N, C]`` per task, each from the network or networks that serve it."""
        names = [task.name for task in split.tasks]
        found: dict[str, list[tuple[Tensor, float]]] = {name: [] for name in names}
        for part in self.parts:
            asked = [name for name in names if name in part.shares]
            if asked:
                outputs = part.fitted.outputs(split.select(asked))
                for name in asked:
                    found[name].append((outputs[name], part.shares[name]))
        tasks = {t.name: t for part in self.parts for t in part.fitted.architecture.tasks}
        combined = {}
        for name, pairs in found.items():
            if len(pairs) == 1:
                combined[name] = pairs[0][0]
            else:
                stacked = torch.stack([output for output, _ in pairs]).unsqueeze(2)
                weights = torch.tensor([[share for _, share in pairs]], dtype=torch.float64)
                combined[name] = combine_outputs([tasks[name]], stacked, weights).squeeze(1)
        return combined

    def save(self, folder: Path) -> None:
        """Write the networks, each into a folder of its own, and the grouping.

        Raises:
            ValueError: An architecture is not made of Polytask's public classes.
        """
        folder.mkdir(parents=True, exist_ok=True)
        for number, part in enumerate(self.parts):
            part.fitted.save(folder / f"group-{number}")
        self.grouping.save(folder / GROUPING_FILE)
        self.write_record(folder, shares=[dict(part.shares) for part in self.parts])

    @classmethod
    def load(cls, folder: Path, record: Mapping[str, Any]) -> FittedGroups:
        parts = []
        for number, shares in enumerate(record["shares"]):
            place = folder / f"group-{number}"
            parts.append(GroupPart(FittedNetwork.load(place, read_record(place)), shares))
        grouping = Grouping.load(folder / GROUPING_FILE)
        return cls(parts, grouping, fit_record_from(record["fit"]))


def _merged(parts: Sequence[GroupPart], grouping: Grouping, seconds: float | None) -> FitRecord:
    """One record of the search (its seconds; None if there was none) and of all trainings."""
    records = [part.fitted.record for part in parts]
    notes = dict.fromkeys(note for record in records for note in record.notes)
    own = (*grouping.notes, _note(grouping, seconds))
    assert grouping.serving is not None
    found = {
        "method": grouping.method,
        "tasks": list(grouping.tasks),
        "memberships": grouping.memberships.tolist(),
        "serving": grouping.serving.tolist(),
        "cost": {**dataclasses.asdict(grouping.cost), "in_training_time": seconds is not None},
    }
    return FitRecord(
        seconds=sum(record.seconds for record in records) + (seconds or 0.0),
        steps=sum(record.steps for record in records),
        epochs=max(record.epochs for record in records),
        learning_rate=records[0].learning_rate,
        stopped_by=", ".join(dict.fromkeys(record.stopped_by for record in records)),
        device=records[0].device,
        curves={**_curves(parts, grouping.tasks), "grouping": found},
        cosines=_cosines(parts, grouping.tasks),
        notes=(*notes, *own),
    )


def _note(grouping: Grouping, seconds: float | None) -> str:
    groups = "1 group" if grouping.num_groups == 1 else f"{grouping.num_groups} groups"
    if not grouping.is_hard:
        groups = f"{groups} with soft memberships"
    elif len(grouping.tasks) <= MOST_NAMED:
        groups = f"{groups}: " + " | ".join(", ".join(group) for group in grouping.groups)
    if seconds is None:
        if grouping.cost.models == 0:
            return f"tasks grouped beforehand ({grouping.method}) into {groups}"
        return (
            f"tasks grouped beforehand ({grouping.method}: {grouping.cost}, not part of the"
            f" training time) into {groups}"
        )
    cost = dataclasses.replace(grouping.cost, seconds=seconds)
    return f"tasks grouped by {grouping.method} ({cost} of the training time) into {groups}"


def _curves(parts: Sequence[GroupPart], tasks: Sequence[str]) -> dict[str, Any]:
    """Every task's curves from the network that serves it most, all at the same places."""
    records = [part.fitted.record.curves for part in parts]
    merged: dict[str, Any] = {
        places: sorted({place for curves in records for place in curves[places]})
        for places in dict.fromkeys(CURVES.values())
    }
    for quantity, places in CURVES.items():
        merged[quantity] = {}
        for name in tasks:
            shares = [part.shares.get(name, 0.0) for part in parts]
            curves = records[shares.index(max(shares))]
            if name in curves[quantity]:
                values = dict(zip(curves[places], curves[quantity][name], strict=True))
                merged[quantity][name] = [values.get(place) for place in merged[places]]
    return merged


def _cosines(parts: Sequence[GroupPart], tasks: Sequence[str]) -> list[list[float | None]] | None:
    """Cosines between tasks that share a network, their mean where they share several."""
    looks = []
    for part in parts:
        matrix = part.fitted.record.cosines
        if matrix is not None:
            full = np.full((len(tasks), len(tasks)), np.nan)
            index = [tasks.index(task.name) for task in part.fitted.architecture.tasks]
            full[np.ix_(index, index)] = np.array(matrix, dtype=float)
            looks.append(full)
    if not looks:
        return None
    stacked = np.stack(looks)
    counts = np.isfinite(stacked).sum(0)
    mean = np.nansum(stacked, axis=0) / np.maximum(counts, 1)
    return [
        [float(value) if count else None for value, count in zip(*rows, strict=True)]
        for rows in zip(mean, counts, strict=True)
    ]
