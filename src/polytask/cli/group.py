"""`polytask group`: which tasks belong together, and whether learning in groups is worth it."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from polytask.cli import command_line
from polytask.cli.budget_options import BudgetOptions, WorkersOption
from polytask.cli.compare import finish
from polytask.cli.data_options import DataOptions, print_records, show_data
from polytask.cli.options import Without

if TYPE_CHECKING:
    from polytask.candidates import Budget, Candidate, GroupedNetworks
    from polytask.grouping import Grouping
    from polytask.problems import Problem, Source

AUTO = "auto"
TABLE_SUFFIXES = (".csv", ".csv.gz", ".tsv", ".parquet")
GROUPING_FILE = "grouping.json"


def group(
    *,
    data: Annotated[
        str,
        typer.Argument(
            metavar="DATA",
            help="A CSV or Parquet file, or a data set that comes with the package (see `polytask"
            " datasets`).",
        ),
    ],
    table: Annotated[DataOptions, Without(("data", "task", "dataset"))],
    method: Annotated[
        str,
        typer.Option(
            help="Who groups: stg, tag, hoa, label-correlation and the others of"
            " polytask.grouping; NAME-hard puts every task in one group only."
        ),
    ] = "stg",
    groups: Annotated[
        str, typer.Option(help="The number of groups, or auto: as the method finds right.")
    ] = AUTO,
    out: Annotated[
        Path | None, typer.Option(help="Folder for grouping, runs, report and model. \\[required]")
    ] = None,
    check: Annotated[
        bool,
        typer.Option(
            "--check/--no-check",
            help="Measure whether the groups are better than all tasks together, each alone, and as"
            " many networks without thought; or only find the groups.",
        ),
    ] = True,
    budget: Annotated[BudgetOptions, Without(("patience", "trials", "time_limit"))],
    workers: WorkersOption = None,
) -> None:
    """Find out which tasks belong together, and measure whether groups are worth it.

    The groups of the first split are shown and saved; the measurement finds them anew for every
    seed, on training and validation rows only. The answer may well be "do not group".

    [bold]Examples[/bold]

    polytask group digits13 --groups auto --method stg --out runs/groups

    polytask group houses.csv --target price:regression --target rent:regression --target
    sold:binary --method hoa --groups 2 --out runs/houses

    polytask group digits13 --method label-correlation --no-check --out runs/quick
    """
    if out is None:
        raise ValueError("`--out` is needed: the folder for grouping, runs, report and model.")
    is_table = Path(data).exists() or data.lower().endswith(TABLE_SUFFIXES)
    given = {"data": Path(data)} if is_table else {"dataset": data}
    source = dataclasses.replace(table, **given).source()
    from polytask import candidates

    spending = budget.budget()
    candidate = _candidate(method, groups)
    problem = source.problem(0)
    assert isinstance(candidate.method, candidates.GroupedNetworks)
    if (reason := candidate.method.why_not(problem)) is not None:
        raise ValueError(f"`--method {method}` cannot group these tasks: {reason}.")
    show_data(source)
    found = _find(candidate.method, problem, spending)
    show_grouping(found)
    out.mkdir(parents=True, exist_ok=True)
    found.save(out / GROUPING_FILE)
    typer.echo(f"grouping: {out / GROUPING_FILE}")
    for picture in _pictures(found, out):
        typer.echo(f"figure:   {picture}")
    if check:
        _measure(source, candidate, found, spending, out, budget.num_seeds, workers)


def _candidate(method: str, groups: str) -> Candidate:
    """Networks of the groups that the method finds."""
    from polytask import candidates

    if groups != AUTO and not (groups.isdecimal() and int(groups) >= 1):
        raise ValueError(f"`--groups` must be {AUTO} or a number >= 1, found {groups!r}.")
    name = f"groups: {method}" if groups == AUTO else f"groups: {method}:{int(groups)}"
    candidate = candidates.candidate_by_name(name)
    if not isinstance(candidate.method, candidates.GroupedNetworks):
        raise ValueError(f"`--method` must be a way of grouping, found {method!r}.")
    return candidate


def _find(method: GroupedNetworks, problem: Problem, budget: Budget) -> Grouping:
    """The groups of the first split, found as the measurement finds them."""
    grouping, _ = method.find(problem, seed=0, budget=budget)
    return grouping


def show_grouping(grouping: Grouping) -> None:
    """Print who is in which group, and what finding it took."""
    count = grouping.num_groups
    typer.echo(f"{'1 group' if count == 1 else f'{count} groups'} by {grouping.method}")
    if grouping.is_hard:
        print_records(
            "Groups",
            [{"group": j, "tasks": ", ".join(names)} for j, names in enumerate(grouping.groups)],
        )
    else:
        rows = [
            {"task": task, **{f"group {j}": f"{value:.2f}" for j, value in enumerate(row)}}
            for task, row in zip(grouping.tasks, grouping.memberships.tolist(), strict=True)
        ]
        print_records("Memberships", rows)
    for note in grouping.notes:
        typer.echo(f"note: {note}")
    typer.echo(f"found with {grouping.cost}")


def _pictures(found: Grouping, out: Path) -> list[Path]:
    """Draw the memberships."""
    from polytask.files import write_atomically
    from polytask.report.figures import membership_figures

    drawn = membership_figures(found.tasks, found.memberships.tolist())
    paths = [out / f"memberships{number or ''}.svg" for number in range(len(drawn))]
    for path, picture in zip(paths, drawn, strict=True):
        write_atomically(path, picture)
    return paths


def _measure(
    source: Source,
    candidate: Candidate,
    found: Grouping,
    budget: Budget,
    out: Path,
    seeds: int,
    workers: int | None,
) -> None:
    """Compare the groups with everything simpler, and with controls."""
    from polytask import evaluation

    comparison = evaluation.compare(
        source,
        candidates=["single-task", "equal", candidate, *_controls(found)],
        seeds=seeds,
        out=out,
        budget=budget,
        workers=workers,
        command=command_line(),
    )
    finish(comparison)


def _controls(found: Grouping) -> list[Candidate]:
    """As many networks without any thought: what the groups gain must not be averaging alone."""
    from polytask.candidates import Candidate, GroupedNetworks
    from polytask.grouping import RandomGroups

    count = found.num_groups
    if count < 2:
        return []
    if found.is_hard:
        controls = {f"groups: {count} at random": RandomGroups(kind="hard")}
    else:
        controls = {
            f"groups: {count} at random": RandomGroups(kind="soft"),
            f"{count} shared networks averaged": RandomGroups(kind="ensemble"),
        }
    return [
        Candidate(name, GroupedNetworks(grouper=grouper, num_groups=count))
        for name, grouper in controls.items()
    ]
