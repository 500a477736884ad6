"""Sources: where a problem comes from, so that any seed and any process can make it again.

A comparison draws new splits for every seed where the data allow it, and its workers are processes
of their own: a source is what they are given. It is written to a folder as JSON and plain arrays,
and read back without pickle.
"""

from __future__ import annotations

import functools
import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from polytask.files import write_atomically
from polytask.problems.problem import Problem

__all__ = ["FixedSource", "Source", "read_record", "short_hash", "write_record"]

RECORD = "source.json"
#: Problems that a source holds on to: one for each of two seeds, so that the first seed's, which is
#: shown and planned with, is there again when its model is served.
MOST_KEPT = 2


class Source(ABC):
    """Where a problem comes from."""

    #: Used in files and reports.
    name: str
    #: Whether the seed draws new splits; otherwise it varies the training only.
    resplits: bool

    @abstractmethod
    def build(self, seed: int) -> Problem:
        """Make the problem with the splits of this seed."""

    def problem(self, seed: int) -> Problem:
        """The problem with the splits of this seed; the last two that were asked for are kept, so
        whoever asks again gets the same object.
        """
        key = seed if self.resplits else 0
        kept = self._kept
        found = kept.pop(key, None)
        kept[key] = found if found is not None else self.build(key)
        while len(kept) > MOST_KEPT:
            del kept[next(iter(kept))]
        return kept[key]

    @functools.cached_property
    def _kept(self) -> dict[int, Problem]:
        """By seed, the one that was asked for last at the end."""
        return {}

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_kept"}

    @abstractmethod
    def fingerprint(self) -> str:
        """A hash of the data and of everything that decides about the problem, 16 hex digits."""

    @abstractmethod
    def config(self) -> dict[str, Any]:
        """A plain record for reports: what it is, how it is split, its columns."""

    @abstractmethod
    def save(self, folder: Path) -> None:
        """Write the source to a folder (made if needed) for ``load_source``."""

    @classmethod
    @abstractmethod
    def load(cls, folder: Path, record: Mapping[str, Any]) -> Source:
        """The inverse of ``save``; ``record`` is the content of ``source.json``."""

    def schema(self) -> list[dict[str, Any]]:
        """What is known about the columns before training; empty where there is no table."""
        return []


class FixedSource(Source):
    """A ready problem: seeds vary the training only."""

    resplits = False

    def __init__(self, problem: Problem) -> None:
        self.name = problem.name
        self._problem = problem

    def __repr__(self) -> str:
        return f"FixedSource({self.name!r})"

    def build(self, seed: int) -> Problem:
        """The same problem for every seed."""
        del seed
        return self._problem

    def schema(self) -> list[dict[str, Any]]:
        """The columns, where the problem is a table."""
        table = self._problem.table
        return [] if table is None else table.schema()

    def config(self) -> dict[str, Any]:
        return {"type": "FixedSource", "resplits": False, **self._problem.summary()}

    def fingerprint(self) -> str:
        return self._problem.fingerprint()

    def save(self, folder: Path) -> None:
        self._problem.save(folder / "problem")
        write_record(folder, {"type": "FixedSource", "name": self.name})

    @classmethod
    def load(cls, folder: Path, record: Mapping[str, Any]) -> FixedSource:
        del record
        return cls(Problem.load(folder / "problem"))


def write_record(folder: Path, record: Mapping[str, Any]) -> None:
    """Write ``source.json`` to a folder (made if needed)."""
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / RECORD, json.dumps(record, ensure_ascii=False, indent=1))


def short_hash(*parts: str) -> str:
    """16 hex digits that identify some texts."""
    return hashlib.sha256("\n".join(parts).encode("utf-8", "backslashreplace")).hexdigest()[:16]


def read_record(folder: Path) -> dict[str, Any]:
    """What ``write_record`` wrote.

    Raises:
        FileNotFoundError: There is no source in the folder.
    """
    path = folder / RECORD
    if not path.is_file():
        raise FileNotFoundError(f"There is no source in {str(folder)!r}: {RECORD} is missing.")
    record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return record
