"""Options that `compare`, `group` and `train` share: which data, and how they are read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from polytask.cli.options import option

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import pandas as pd

    from polytask.problems import Source, SplitPlan
    from polytask.tables import Inspection

__all__ = ["DataOptions", "print_records", "show_data", "show_inspection"]

DATA_PANEL = "Data"
#: What is printed of wide tables.
MOST_COLUMNS, MOST_NOTES = 60, 40
WIDTH_OF_FILES = 200


@dataclass(frozen=True, kw_only=True)
class DataOptions:
    """What the data options said."""

    data: Annotated[
        Path | None, option("A table: CSV or other text, Parquet, .xlsx.", panel=DATA_PANEL)
    ] = None
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
    missing: Annotated[
        list[str] | None,
        option(
            "A code that means a missing cell, as CODE (in every column) or COLUMN=CODE, for"
            " example -999 or flag=-1 (repeatable).",
            panel=DATA_PANEL,
        ),
    ] = None
    fold_case: Annotated[
        bool,
        option(
            "Categories and classes that differ only in case or spaces are one.",
            panel=DATA_PANEL,
        ),
    ] = False
    skip_rows: Annotated[
        int | None,
        option(
            "Lines of the file above the column names; left out: they are found.",
            panel=DATA_PANEL,
            min=0,
        ),
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
            ("--missing", self.missing),
            ("--fold-case", self.fold_case),
            ("--skip-rows", self.skip_rows),
        ):
            if value:
                raise ValueError(f"`{word}` is for tables, found it with --dataset {name}.")
        from polytask.datasets import DatasetSource

        return DatasetSource(name)

    def _from_table(self, path: Path) -> Source:
        from polytask.tables import TableSource

        if not self.target:
            raise ValueError(
                "`--data` needs at least one --target, for example --target price:regression."
            )
        return TableSource(
            self._read(path),
            self.target,
            name=_stem(path),
            drop=self.drop or (),
            split=self._split(),
            categorical=self.categorical or (),
            missing=self.missing or (),
            fold_case=self.fold_case,
        )

    def _from_tables(self) -> Source:
        from polytask.tables import TablesSource

        tables = {}
        for text in self.task or []:
            name, path, column = parse_task(text)
            if name in tables:
                raise ValueError(f"Task names must be unique, found --task {name!r} twice.")
            tables[name] = (self._read(path), column)
        return TablesSource(
            tables,
            drop=self.drop or (),
            split=self._split(),
            categorical=self.categorical or (),
            missing=self.missing or (),
            fold_case=self.fold_case,
        )

    def _read(self, path: Path) -> pd.DataFrame:
        from polytask.tables import read_table

        return read_table(path, as_text=self.categorical or (), skip_rows=self.skip_rows)

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
    from polytask.tables import TableSource, inspect_source

    if isinstance(source, TableSource):
        show_inspection(inspect_source(source))
        return
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


def show_inspection(found: Inspection) -> None:
    """Print the columns, the tasks and the notes of a table."""
    columns = [
        {
            "column": name,
            "type": about["type"] if about["role"] in ("input", "target") else about["role"],
            "missing": about["missing"],
            "distinct": about["distinct"],
            "least": _cell(about.get("min", "")),
            "greatest": _cell(about.get("max", "")),
            "mean": _cell(about.get("mean", "")),
        }
        for name, about in found.columns.items()
    ]
    print_records(f"{found.name}: {found.rows} rows, columns", columns[:MOST_COLUMNS])
    if len(columns) > MOST_COLUMNS:
        typer.echo(f"... and {len(columns) - MOST_COLUMNS} more columns")
    print_records(
        "Tasks",
        [
            {
                "task": name,
                "kind": about["kind"],
                "metric": about["metric"],
                "labels": about["labels"],
                **{f"{part} labels": count for part, count in about["labels_per_split"].items()},
            }
            for name, about in found.targets.items()
        ],
    )
    rows = ", ".join(f"{count} {part}" for part, count in found.split.items())
    typer.echo(f"split: {rows}")
    for note in found.notes[:MOST_NOTES]:
        typer.echo(f"note: {note}")
    if len(found.notes) > MOST_NOTES:
        typer.echo(f"... and {len(found.notes) - MOST_NOTES} more notes (polytask inspect --json)")


def _cell(value: object) -> str:
    return f"{value:.6g}" if isinstance(value, (int, float)) else str(value)


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
    console = Console()
    if not console.is_terminal:
        # A file or a pipe has no edge to fold at.
        console = Console(width=max(console.width, WIDTH_OF_FILES))
    console.print(table)
