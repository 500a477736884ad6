"""Options that `compare`, `group` and `train` share: which data, and how they are read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from polytask.cli.options import option

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from polytask.problems import Source, SplitPlan

__all__ = ["DataOptions", "print_records", "show_data"]

DATA_PANEL = "Data"


@dataclass(frozen=True, kw_only=True)
class DataOptions:
    """What the data options said."""

    data: Annotated[Path | None, option("A CSV or Parquet file.", panel=DATA_PANEL)] = None
    target: Annotated[
        list[str] | None,
        option(
            "A column to predict, as NAME or NAME:KIND with KIND regression, binary or multiclass"
            " (repeatable).",
            panel=DATA_PANEL,
        ),
    ] = None
    task: Annotated[
        list[str] | None,
        option(
            "A task with a table of its own, as NAME=FILE:COLUMN or NAME=FILE:COLUMN:KIND"
            " (repeatable; instead of --data).",
            panel=DATA_PANEL,
        ),
    ] = None
    dataset: Annotated[
        str | None,
        option(
            "A data set that comes with the package (see `polytask datasets`).", panel=DATA_PANEL
        ),
    ] = None
    drop: Annotated[
        list[str] | None, option("A column that is no input (repeatable).", panel=DATA_PANEL)
    ] = None
    categorical: Annotated[
        list[str] | None,
        option("A column of numbers that are codes of categories (repeatable).", panel=DATA_PANEL),
    ] = None
    split_by: Annotated[
        str | None,
        option(
            "A column of groups (patients, households) that no two splits may share.",
            panel=DATA_PANEL,
        ),
    ] = None
    split_column: Annotated[
        str | None,
        option("A column that says train, validation or test for every row.", panel=DATA_PANEL),
    ] = None

    def source(self) -> Source:
        """The source that the options name.

        Raises:
            ValueError: Not exactly one of --data, --task and --dataset; an option that does not go
                with it.
        """
        given = [
            option
            for option, value in (
                ("--data", self.data),
                ("--task", self.task),
                ("--dataset", self.dataset),
            )
            if value
        ]
        if len(given) != 1:
            found = " and ".join(given) or "none of them"
            raise ValueError(f"Give exactly one of --data, --task and --dataset, found {found}.")
        if self.target and self.data is None:
            raise ValueError(f"`--target` goes with --data, found it with {given[0]}.")
        if self.dataset is not None:
            return self._from_dataset(self.dataset)
        return self._from_table(self.data) if self.data is not None else self._from_tables()

    def _from_dataset(self, name: str) -> Source:
        for word, value in (
            ("--drop", self.drop),
            ("--categorical", self.categorical),
            ("--split-by", self.split_by),
            ("--split-column", self.split_column),
        ):
            if value:
                raise ValueError(f"`{word}` is for tables, found it with --dataset {name}.")
        from polytask.datasets import DatasetSource

        return DatasetSource(name)

    def _from_table(self, path: Path) -> Source:
        from polytask.tables import TableSource, read_table

        if not self.target:
            raise ValueError(
                "`--data` needs at least one --target, for example --target price:regression."
            )
        return TableSource(
            read_table(path, as_text=self.categorical or ()),
            self.target,
            name=_stem(path),
            drop=self.drop or (),
            split=self._split(),
            categorical=self.categorical or (),
        )

    def _from_tables(self) -> Source:
        from polytask.tables import TablesSource, read_table

        tables = {}
        for text in self.task or []:
            name, path, column = parse_task(text)
            if name in tables:
                raise ValueError(f"Task names must be unique, found --task {name!r} twice.")
            tables[name] = (read_table(path, as_text=self.categorical or ()), column)
        return TablesSource(
            tables,
            drop=self.drop or (),
            split=self._split(),
            categorical=self.categorical or (),
        )

    def _split(self) -> SplitPlan | None:
        if self.split_by is None and self.split_column is None:
            return None
        from polytask.problems import SplitPlan

        return SplitPlan(by=self.split_by, column=self.split_column)


def parse_task(text: str) -> tuple[str, Path, str]:
    """``quality=red.csv:quality:regression`` -> name, path, and the target's text for its table."""
    name, equals, rest = text.partition("=")
    path, column = _split_path(rest)
    if not (name and equals and path and column):
        raise ValueError(
            f"`--task` must be NAME=FILE:COLUMN or NAME=FILE:COLUMN:KIND, found {text!r}."
        )
    return name, Path(path), column


def _split_path(text: str) -> tuple[str, str]:
    """Path (the longest beginning that is a file, else up to the first colon) and the rest."""
    places = [i for i, letter in enumerate(text) if letter == ":"]
    for place in reversed(places):
        if Path(text[:place]).is_file():
            return text[:place], text[place + 1 :]
    # A drive letter of Windows is no end of a path.
    first = next((i for i in places if i != 1), None)
    return (text, "") if first is None else (text[:first], text[first + 1 :])


def _stem(path: Path) -> str:
    return path.name.split(".")[0] or path.name


def show_data(source: Source) -> None:
    """Print how the columns are read and what the tasks are, before anything is trained."""
    problem = source.problem(0)
    if columns := source.schema():
        shown = columns[:60]
        print_records("Columns", shown)
        if len(columns) > len(shown):
            typer.echo(f"... and {len(columns) - len(shown)} more columns")
    print_records("Tasks", _task_records(problem.summary()))
    for note in problem.notes[:20]:
        typer.echo(f"note: {note}")
    if len(problem.notes) > 20:
        typer.echo(f"... and {len(problem.notes) - 20} more notes, all of them in the report")


def _task_records(summary: Mapping[str, object]) -> Iterable[Mapping[str, object]]:
    tasks = summary["tasks"]
    assert isinstance(tasks, list)
    for task in tasks:
        yield {
            "task": task["name"],
            "kind": task["kind"],
            "metric": task["metrics"][0],
            **{f"{part} labels": count for part, count in task["labels_per_split"].items()},
        }


def print_records(title: str, rows: Iterable[Mapping[str, object]]) -> None:
    """Records with equal keys as a table; numbers to the right."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    records = list(rows)
    table = Table(title=title, title_justify="left", title_style="bold")
    for key, value in records[0].items():
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        table.add_column(Text(key), justify="right" if is_number else "left", overflow="fold")
    for record in records:
        # Names come from data: Text keeps square brackets from being read as markup.
        table.add_row(*(Text("" if value is None else str(value)) for value in record.values()))
    Console().print(table)
