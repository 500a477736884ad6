"""`polytask predict`: predictions of a saved model for the rows of a table."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    import pandas as pd

ENDINGS = (".csv", ".parquet")


def predict(
    model: Annotated[
        Path, typer.Argument(help="The --out folder of `polytask compare` or `polytask train`.")
    ],
    table: Annotated[Path, typer.Argument(help="A file with the columns of the training table.")],
    out: Annotated[
        Path | None,
        typer.Option(help="Where to: a .csv or .parquet file. Left out: CSV on the terminal."),
    ] = None,
    id_columns: Annotated[
        list[str] | None,
        typer.Option("--id", help="A column to copy in front of the predictions (repeatable)."),
    ] = None,
    tasks: Annotated[
        list[str] | None,
        typer.Option("--task", help="A task to predict (repeatable; all of them)."),
    ] = None,
    skip_rows: Annotated[
        int | None,
        typer.Option(
            min=0, help="Lines of the file above the column names; left out: they are found."
        ),
    ] = None,
) -> None:
    """Predict every target for the rows of a table, in their order.

    Per row and task there is a prediction, and for classes one probability per class. Categories
    that training did not know and missing cells are fine; columns that training did not use are
    ignored.

    [bold]Examples[/bold]

    polytask predict runs/houses new.csv --out predictions.csv

    polytask predict runs/houses new.parquet --id house --task price --out prices.parquet
    """
    if out is not None:
        _check_output(out)

    from polytask.serving.predictor import load_predictor
    from polytask.tables.reading import read_table

    predictor = load_predictor(model)
    as_text = [*predictor.text_columns, *(id_columns or [])]
    frame = read_table(table, as_text=as_text, skip_rows=skip_rows)
    for note in frame.attrs.get("notes", ()):
        typer.echo(f"note: {note}", err=True)
    predictions = _with_ids(
        frame, predictor.predict_table(frame, tasks=tasks or None), id_columns or []
    )
    if out is None:
        typer.echo(predictions.to_csv(index=False), nl=False)
        return
    _write(predictions, out)
    typer.echo(f"wrote {len(predictions)} rows to {out}")


def _check_output(out: Path) -> None:
    """Find out that the file cannot be written before anything is computed."""
    if out.suffix.lower() not in ENDINGS:
        raise ValueError(f"`--out` must end in {' or '.join(ENDINGS)}, found {out.name!r}.")
    if out.is_dir():
        raise ValueError(f"`--out` must be a file, found the folder {str(out)!r}.")
    out.parent.mkdir(parents=True, exist_ok=True)
    if out.suffix.lower() == ".parquet":
        try:
            import pyarrow  # noqa: F401 - only whether it is there
        except ImportError as error:
            raise ImportError(
                "Writing Parquet needs pyarrow, which is not installed: pip install"
                " 'polytask[data]'."
            ) from error


def _with_ids(frame: pd.DataFrame, predictions: pd.DataFrame, ids: list[str]) -> pd.DataFrame:
    for position, column in enumerate(ids):
        if column not in frame.columns:
            raise ValueError(f"`--id` names the column {column!r}, which the table does not have.")
        if column in predictions.columns:
            raise ValueError(
                f"`--id` names {column!r}, which is a prediction; choose another column."
            )
        predictions.insert(position, column, frame[column])
    return predictions


def _write(predictions: pd.DataFrame, out: Path) -> None:
    from polytask.files import write_atomically

    if out.suffix.lower() == ".parquet":
        write_atomically(out, lambda path: predictions.to_parquet(path, index=False))
    else:
        write_atomically(out, lambda path: predictions.to_csv(path, index=False))
