"""`polytask train`: one network on all tasks, with checkpoints, saved for `polytask predict`."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from polytask.cli.data_options import (
    CategoricalOption,
    DataOption,
    DataOptions,
    DatasetOption,
    DropOption,
    SplitByOption,
    SplitColumnOption,
    TargetOption,
    TaskOption,
    print_records,
    show_data,
)

if TYPE_CHECKING:
    from polytask.problems import Problem, Source
    from polytask.training import Trainer

SETTINGS_FILE = "train.json"
TRAINING_PANEL = "Training"


def train(  # noqa: PLR0913, PLR0917 - one argument per option of the command
    data: DataOption = None,
    target: TargetOption = None,
    task: TaskOption = None,
    dataset: DatasetOption = None,
    drop: DropOption = None,
    categorical: CategoricalOption = None,
    split_by: SplitByOption = None,
    split_column: SplitColumnOption = None,
    balancer: Annotated[
        str,
        typer.Option(
            help="How to weigh the tasks: a balancer of polytask.balancers.",
            rich_help_panel=TRAINING_PANEL,
        ),
    ] = "equal",
    model: Annotated[
        str | None,
        typer.Option(
            help="What the tasks share: an architecture such as traveling-observer or gated."
            " Without it the inputs decide: hard sharing, or own encoders around a shared core.",
            rich_help_panel=TRAINING_PANEL,
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for checkpoints, log and model. [required]")
    ] = None,
    epochs: Annotated[
        int,
        typer.Option(
            min=1, help="Most passes over the training rows.", rich_help_panel=TRAINING_PANEL
        ),
    ] = 100,
    patience: Annotated[
        int,
        typer.Option(
            min=1,
            help="Epochs without progress on validation before training stops.",
            rich_help_panel=TRAINING_PANEL,
        ),
    ] = 16,
    learning_rate: Annotated[
        float | None,
        typer.Option(
            help="Of AdamW; left out: 0.004 for tables, else 0.001.", rich_help_panel=TRAINING_PANEL
        ),
    ] = None,
    batch_size: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Rows per step; left out: by the number of rows.",
            rich_help_panel=TRAINING_PANEL,
        ),
    ] = None,
    seed: Annotated[
        int,
        typer.Option(min=0, help="Of split and training.", rich_help_panel=TRAINING_PANEL),
    ] = 0,
    time_limit: Annotated[
        float | None,
        typer.Option(help="Seconds of training.", rich_help_panel=TRAINING_PANEL),
    ] = None,
    device: Annotated[
        str,
        typer.Option(help="auto, cpu, cuda, cuda:1, mps ...", rich_help_panel=TRAINING_PANEL),
    ] = "auto",
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue from the newest whole checkpoint in --out.")
    ] = False,
) -> None:
    """Train one network on all tasks and save it.

    Early stopping looks at the validation rows; the test rows are read once, at the end. With
    --resume a training that was interrupted ends as if it had not been.

    [bold]Examples[/bold]

    polytask train --data houses.csv --target price:regression --target sold:binary --out runs/model

    polytask train --dataset digits13 --balancer pcgrad --epochs 200 --out runs/digits

    polytask train --dataset digits13 --balancer pcgrad --epochs 200 --out runs/digits --resume

    polytask train --dataset separate_shapes --model traveling-observer --out runs/observer
    """
    if out is None:
        raise ValueError("`--out` is needed: the folder for checkpoints, log and model.")
    source = DataOptions(
        data=data,
        targets=target,
        tasks=task,
        dataset=dataset,
        drop=drop,
        categorical=categorical,
        split_by=split_by,
        split_column=split_column,
    ).source()
    from polytask.training import TrainingSettings

    problem = source.problem(seed)
    usual = TrainingSettings.for_problem(problem)
    settings = dataclasses.replace(
        usual,
        epochs=epochs,
        patience=patience,
        learning_rate=usual.learning_rate if learning_rate is None else learning_rate,
        batch_size=batch_size,
        seed=seed,
        time_limit=time_limit,
        device=device,
    )
    show_data(source)
    identity = {
        "data": source.fingerprint(),
        "balancer": balancer,
        "model": model,
        "seed": seed,
        "learning_rate": settings.learning_rate,
        "batch_size": batch_size,
    }
    _check_folder(out, identity, resume=resume)
    trainer = _trainer(problem, balancer, model, settings, out)
    result = trainer.fit(resume=resume)
    _save(trainer, result, problem, source, _called(balancer, model), seed, out)
    if result.stopped_by == "interrupt":
        typer.echo("interrupted: the best model so far is saved; --resume continues the training")
        raise typer.Exit(130)


def _check_folder(out: Path, identity: dict[str, Any], *, resume: bool) -> None:
    """Find out before training that the folder can be written and holds nothing else."""
    from polytask.files import write_atomically

    out.mkdir(parents=True, exist_ok=True)
    path = out / SETTINGS_FILE
    if resume and path.is_file():
        before = json.loads(path.read_text(encoding="utf-8"))
        changed = [name for name, value in identity.items() if before.get(name) != value]
        if changed:
            raise ValueError(
                f"`--resume` needs the same options: {changed[0]} was {before.get(changed[0])!r},"
                f" found {identity[changed[0]]!r}."
            )
    elif (out / "checkpoints").is_dir() and not resume:
        raise ValueError(
            f"{out} holds the checkpoints of a training; add --resume to continue it, or choose"
            " another --out."
        )
    write_atomically(path, json.dumps(identity, ensure_ascii=False, indent=1))


def _trainer(
    problem: Problem, balancer: str, model: str | None, settings: Any, out: Path
) -> Trainer:
    import torch

    from polytask.architectures import default_architecture
    from polytask.candidates import NetworkMethod, architecture_by_name, candidate_by_name
    from polytask.training import Checkpoints, JsonLinesLog, Progress, Trainer

    method = candidate_by_name(balancer).method
    if not isinstance(method, NetworkMethod) or method.balancer is None:
        raise ValueError(f"`--balancer` must name a balancer, found {balancer!r}.")
    build = default_architecture if model is None else architecture_by_name(model)
    torch.manual_seed(settings.seed)
    return Trainer(
        problem,
        build(problem),
        balancer=method.balancer,
        settings=settings,
        observers=[Progress(label=problem.name), JsonLinesLog(out / "log.jsonl")],
        checkpoints=Checkpoints(out / "checkpoints"),
    )


def _called(balancer: str, model: str | None) -> str:
    """What the trained model is called in its card."""
    return f"shared: {balancer}" if model is None else f"model: {model}, {balancer}"


def _save(
    trainer: Trainer,
    result: Any,
    problem: Problem,
    source: Source,
    candidate: str,
    seed: int,
    out: Path,
) -> None:
    """Score the best epoch's model, print and save it."""
    import shutil

    from polytask.candidates.network import FittedNetwork, fit_record
    from polytask.candidates.run import score
    from polytask.evaluation.provenance import versions
    from polytask.serving.predictor import save_predictor

    record = fit_record(result, trainer.settings, str(trainer.device), None)
    fitted = FittedNetwork(trainer.architecture.cpu(), record)
    validation, test = (score(fitted, problem, s) for s in (problem.validation, problem.test))
    print_records(
        "Scores",
        [
            {
                "task": task.name,
                "metric": name,
                "validation": f"{validation[task.name][name]:.4g}",
                "test": f"{test[task.name][name]:.4g}",
            }
            for task in problem.tasks
            for name in validation[task.name]
        ],
    )
    part = out / ".network"
    fitted.save(part)
    about = {
        "problem": problem.name,
        "candidate": candidate,
        "seed": seed,
        "data": source.fingerprint(),
        "versions": versions(),
    }
    names = tuple(task.name for task in problem.tasks)
    save_predictor(out / "model", problem, [(part, names)], about=about)
    shutil.rmtree(part)
    typer.echo(f"model: {out / 'model'} (polytask predict {out} new.csv)")
