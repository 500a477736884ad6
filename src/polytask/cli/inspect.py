"""`polytask inspect`: what would be learned from a table, without training anything."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Annotated

import typer

from polytask.cli.data_options import DataOptions, show_inspection
from polytask.cli.options import Without


def inspect(
    data: Annotated[
        Path,
        typer.Argument(metavar="TABLE", help="A table: CSV or other text, Parquet, .xlsx."),
    ],
    table: Annotated[DataOptions, Without(("data", "task", "dataset"))],
    as_json: Annotated[
        bool, typer.Option("--json", help="Everything as JSON, for other programs.")
    ] = False,
) -> None:
    """Show what would be learned from a table: columns, targets, split and notes.

    Nothing is trained. The options are those of `polytask compare`, which shows the same before it
    trains.

    [bold]Examples[/bold]

    polytask inspect houses.csv --target price:regression --target sold

    polytask inspect air.csv --target co --missing -200 --json
    """
    if not table.target:
        raise ValueError("`inspect` needs at least one --target, for example --target price.")
    from polytask.tables import TableSource, inspect_source

    source = dataclasses.replace(table, data=data).source()
    assert isinstance(source, TableSource)
    found = inspect_source(source)
    if as_json:
        typer.echo(json.dumps(found.to_record(), ensure_ascii=False, indent=1))
    else:
        show_inspection(found)
