"""`polytask datasets`: the data sets that come with the package."""

from __future__ import annotations

from typing import Annotated

import typer

from polytask.cli.data_options import print_records, show_data


def datasets(
    name: Annotated[
        str | None, typer.Argument(help="A data set to look at; leave it out to list all of them.")
    ] = None,
) -> None:
    """List the data sets that come with the package, or show one: its columns, tasks and notes.

    [bold]Examples[/bold]

    polytask datasets

    polytask datasets diabetes

    polytask compare --dataset digits13 --out runs/digits
    """
    from polytask.datasets import DatasetSource
    from polytask.datasets.catalogue import all_datasets, describe_dataset

    if name is None:
        print_records("Data sets", [describe_dataset(known) for known in all_datasets()])
        return
    about = describe_dataset(name)
    typer.echo(f"{name}: {about['what']}")
    typer.echo(f"{about['rows']} rows, {about['layout']} inputs")
    show_data(DatasetSource(name))
