"""The data sets of the package as sources, and any source read back from its folder."""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from polytask.datasets.catalogue import find_dataset
from polytask.problems.problem import Problem
from polytask.problems.source import FixedSource, Source, read_record, short_hash, write_record
from polytask.tables.sources import TableSource, TablesSource

__all__ = ["DatasetSource", "load_source"]


class DatasetSource(Source):
    """One of the data sets that come with the package; see ``polytask.datasets.catalogue``.

    Args:
        name: For example ``digits13``.
        options: Arguments of the data set's function, all but the seed.
    """

    resplits = True

    def __init__(self, name: str, *, options: Mapping[str, Any] | None = None) -> None:
        self.name = name
        self.options = dict(options or {})
        self._function = find_dataset(name)
        allowed = [p for p in inspect.signature(self._function).parameters if p != "seed"]
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

    def build(self, seed: int) -> Problem:
        """The data set with the splits of this seed."""
        return self._function(seed=seed, **self.options)

    def schema(self) -> list[dict[str, Any]]:
        """The columns, where the data set is a table."""
        table = self.problem(0).table
        return [] if table is None else table.schema()

    def config(self) -> dict[str, Any]:
        doc = inspect.getdoc(self._function) or ""
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
    record = read_record(Path(folder))
    kinds: dict[str, type[Source]] = {
        kind.__name__: kind for kind in (TableSource, TablesSource, FixedSource, DatasetSource)
    }
    if record.get("type") not in kinds:
        raise ValueError(
            f"The source in {str(folder)!r} is of no known kind, found {record.get('type')!r};"
            " write it again."
        )
    return kinds[record["type"]].load(Path(folder), record)
