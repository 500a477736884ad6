"""`polytask compare`: from a table or a data set to a leaderboard, a verdict and a model."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from polytask.cli import command_line
from polytask.cli.budget_options import BudgetOptions, WorkersOption
from polytask.cli.data_options import DataOptions, show_data

if TYPE_CHECKING:
    from polytask.evaluation import Comparison

FAILED, INTERRUPTED = 1, 130


def compare(
    *,
    data: DataOptions,
    candidate: Annotated[
        list[str] | None,
        typer.Option(
            help="What to compare with the single-task networks: boosting, or a balancer of"
            " polytask.balancers such as equal, uncertainty, pcgrad, or weight-search: the best of"
            " 20 trainings with fixed weights, or a grouper of polytask.grouping such as stg"
            " (stg-hard: each task in one group only; stg:3: three groups), or the .json file of a"
            " saved grouping (repeatable). Left out:"
            " boosting (tables only), equal, uncertainty and pcgrad."
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for runs, results, report and model. \\[required]")
    ] = None,
    budget: BudgetOptions,
    workers: WorkersOption = None,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Start runs again that have failed before.")
    ] = False,
) -> None:
    """Find out whether to learn several targets together, how, and what it gains.

    Trains single-task networks, gradient boosting and shared networks under one budget, and says
    with intervals and tests what helped. Finished runs are kept: the same command continues after
    a crash, and a command with more candidates or seeds trains only what is new.

    [bold]Examples[/bold]

    polytask compare --data houses.csv --target price:regression --target sold:binary --out
    runs/houses

    polytask compare --data visits.csv --target stay:regression --split-by patient --drop visit
    --out runs/visits

    polytask compare --task red=red.csv:quality --task white=white.csv:quality --out runs/wine

    polytask compare --dataset digits13 --preset demo --candidate cagrad --out runs/digits
    """
    if out is None:
        raise ValueError("`--out` is needed: the folder for runs, results, report and model.")
    source = data.source()
    spending = budget.budget()
    from polytask import evaluation

    show_data(source)
    comparison = evaluation.compare(
        source,
        candidates=candidate or None,
        seeds=budget.num_seeds,
        out=out,
        budget=spending,
        workers=workers,
        retry_failed=retry_failed,
        command=command_line(),
    )
    finish(comparison)


def finish(comparison: Comparison) -> None:
    """Show the outcome, and end with the exit code that it means."""
    show_outcome(comparison)
    if not comparison.is_complete:
        typer.echo("Not every run has ended; the same command continues.", err=True)
        raise typer.Exit(INTERRUPTED)
    if comparison.failures or comparison.winner is None:
        count = f"{len(comparison.failures)} of {len(comparison.runs)} runs failed"
        typer.echo(f"{count}; the same command with --retry-failed starts them again.", err=True)
        raise typer.Exit(FAILED)


def show_outcome(comparison: Comparison) -> None:
    """Print leaderboard, failures and verdict, write the report, and say where everything is."""
    _print_leaderboard(comparison)
    for run in comparison.failures[:10]:
        what = f"{', '.join(run.candidates)} on {', '.join(run.tasks[:4])}, seed {run.seed}"
        typer.echo(f"failed ({run.attempts} attempt(s)): {what}: {run.error}")
    typer.echo("")
    typer.echo(str(comparison.verdict))
    typer.echo("")
    report = comparison.report()
    typer.echo(f"report:  {report}")
    typer.echo(f"results: {comparison.folder / 'results.jsonl'}")
    model = comparison.folder / "model"
    if model.is_dir():
        typer.echo(f"model:   {model} (polytask predict {comparison.folder} new.csv)")


def _print_leaderboard(comparison: Comparison) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    frame = comparison.leaderboard()
    metrics = [
        name.removeprefix("mean_").removesuffix("_low")
        for name in frame.columns
        if name.startswith("mean_") and name.endswith("_low")
    ]
    table = Table(
        title=f"{comparison.name}: {len(comparison.tasks)} tasks, {len(comparison.seeds)} seed(s);"
        " test rows, mean ± 95 % interval",
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD,
    )
    table.add_column("candidate")
    headings = [
        "Δm %",
        "p (adj.)",
        *metrics,
        "win %",
        "best %",
        "rank",
        "norm.",
        "params",
        "train s",
    ]
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    for row in frame.to_dict("records"):
        name = f"{'* ' if row['winner'] else ''}{row['candidate']}"
        is_baseline = row["candidate"] == comparison.baseline
        cells = [
            "0" if is_baseline else _with_interval(row, "delta_m", "{:+.2f}", "{:.2f}"),
            _number(row["p_adjusted"], "{:.3f}"),
            *(_with_interval(row, f"mean_{metric}", "{:.4g}", "{:.2g}") for metric in metrics),
            *(_number(row[column], "{:.1f}") for column in ("win", "best")),
            _number(row["mean_rank"], "{:.2f}"),
            _number(row["normalised"], "{:.1f}"),
            _number(row["parameters"], "{:,.0f}"),
            _number(row["train_seconds"], "{:.1f}"),
        ]
        # Names come from data: Text keeps square brackets from being read as markup.
        table.add_row(
            *(Text(cell) for cell in [name, *cells]), style="bold" if row["winner"] else ""
        )
    console = Console()
    if not console.is_terminal:
        # A file or a pipe has no edge to fold at.
        console = Console(width=max(console.width, 40 + 16 * len(headings)))
    console.print(table)
    typer.echo(
        "* best mean gain on validation. Δm: mean gain over single-task networks; rank: 0 is best."
    )


def _with_interval(row: dict[Any, Any], name: str, form: str, half_form: str) -> str:
    half = (row[f"{name}_high"] - row[f"{name}_low"]) / 2
    mean = _number(row[name], form)
    return mean if math.isnan(half) else f"{mean} ± {half_form.format(half)}"


def _number(value: float, form: str) -> str:
    return "" if math.isnan(value) else form.format(value)
