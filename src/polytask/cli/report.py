"""`polytask report`: write the HTML report of a comparison again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def report(
    folder: Annotated[Path, typer.Argument(help="The --out folder of `polytask compare`.")],
    out: Annotated[
        Path | None,
        typer.Option("--out", help="File to write; report.html in the folder by default."),
    ] = None,
    open_it: Annotated[
        bool, typer.Option("--open", help="Show the report in the default browser.")
    ] = False,
) -> None:
    """Write the report of a comparison again, also of one that was interrupted.

    Nothing is trained: the report is made from the runs that are finished.

    [bold]Examples[/bold]

    polytask report runs/houses

    polytask report runs/houses --out houses.html --open
    """
    from polytask.evaluation import Comparison

    path = Comparison.load(folder).report(out)
    typer.echo(path)
    if open_it:
        import webbrowser

        webbrowser.open(path.resolve().as_uri())
