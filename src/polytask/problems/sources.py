"""Sources: where a problem comes from, so that any seed and any process can make it again.

A comparison draws new splits for every seed where the data allow it, and its workers are processes
of their own: a source is what they are given. It is written to a folder as JSON and plain arrays,
and read back without pickle.
"""

from __future__ import annotations

import hashlib
import inspect
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from polytask.files import write_atomically
from polytask.problems.problem import Problem

__all__ = ["DatasetSource", "FixedSource", "Source", "load_source", "short_hash", "write_record"]

RECORD = "source.json"


class Source(ABC):
    """Where a problem comes from."""

    #: Used in files and reports.
    name: str
    #: Whether the seed draws new splits; otherwise it varies the training only.
    resplits: bool

    @abstractmethod
    def problem(self, seed: int) -> Problem:
        """The problem with the splits of this seed."""

    @abstractmethod
    def fingerprint(self) -> str:
        """A hash of the data and of everything that decides about the problem, 16 hex digits."""

    @abstractmethod
    def describe(self) -> dict[str, Any]:
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

    def problem(self, seed: int) -> Problem:
        """The same problem for every seed."""
        del seed
        return self._problem

    def schema(self) -> list[dict[str, Any]]:
        """The columns, where the problem is a table."""
        table = self._problem.table
        return [] if table is None else table.schema()

    def describe(self) -> dict[str, Any]:
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


class DatasetSource(Source):
    """One of the data sets that come with the package; see ``polytask.problems.datasets``.

    Args:
        name: For example ``digits13``.
        options: Arguments of the data set's function, all but the seed.
    """

    resplits = True

    def __init__(self, name: str, *, options: Mapping[str, Any] | None = None) -> None:
        from polytask.problems.datasets import find_dataset

        self.name = name
        self.options = dict(options or {})
        self._build = find_dataset(name)
        allowed = [p for p in inspect.signature(self._build).parameters if p != "seed"]
        for option in self.options:
            if option not in allowed:
                raise ValueError(
                    f"The data set {name!r} has no option {option!r}; it has"
                    f" {', '.join(allowed) or 'none'}."
                )
        self._fingerprint = ""

    def __repr__(self) -> str:
        return (
            f"DatasetSource({self.name!r}{f', options={self.options!r}' if self.options else ''})"
        )

    def problem(self, seed: int) -> Problem:
        """The data set with the splits of this seed."""
        return self._build(seed=seed, **self.options)

    def schema(self) -> list[dict[str, Any]]:
        """The columns, where the data set is a table."""
        table = self.problem(0).table
        return [] if table is None else table.schema()

    def describe(self) -> dict[str, Any]:
        doc = inspect.getdoc(self._build) or ""
        what = doc.splitlines()[0] if doc else ""
        return {
            "type": "DatasetSource",
            "name": self.name,
            "options": self.options,
            "resplits": True,
            "what": what,
        }

    def fingerprint(self) -> str:
        if not self._fingerprint:
            # Made from the data themselves: another version of the package they come from may
            # change them.
            settings = json.dumps([self.name, self.options], sort_keys=True)
            self._fingerprint = short_hash(settings, self.problem(0).fingerprint())
        return self._fingerprint

    def save(self, folder: Path) -> None:
        write_record(folder, {"type": "DatasetSource", "name": self.name, "options": self.options})

    @classmethod
    def load(cls, folder: Path, record: Mapping[str, Any]) -> DatasetSource:
        del folder
        return cls(record["name"], options=record["options"])


def load_source(folder: Path | str) -> Source:
    """Read the source that ``Source.save`` wrote to a folder.

    Raises:
        FileNotFoundError: There is no source in the folder.
        ValueError: The record names no kind of source.
    """
    path = Path(folder) / RECORD
    if not path.is_file():
        raise FileNotFoundError(f"There is no source in {str(folder)!r}: {RECORD} is missing.")
    from polytask.problems.table_sources import TableSource, TablesSource

    record = json.loads(path.read_text(encoding="utf-8"))
    kinds: dict[str, type[Source]] = {
        kind.__name__: kind for kind in (TableSource, TablesSource, FixedSource, DatasetSource)
    }
    if record.get("type") not in kinds:
        raise ValueError(
            f"{str(path)!r} names no kind of source, found {record.get('type')!r}; write it again."
        )
    return kinds[record["type"]].load(Path(folder), record)


def write_record(folder: Path, record: Mapping[str, Any]) -> None:
    """Write ``source.json`` to a folder (made if needed)."""
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / RECORD, json.dumps(record, ensure_ascii=False, indent=1))


def short_hash(*parts: str) -> str:
    """16 hex digits that identify some texts."""
    return hashlib.sha256("\n".join(parts).encode("utf-8", "backslashreplace")).hexdigest()[:16]
