"""`polytask train`: one network on all tasks, with checkpoints, saved for `polytask predict`."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from polytask.cli.data_options import DataOptions, print_records, show_data
from polytask.cli.options import option

if TYPE_CHECKING:
    from polytask.candidates import FittedNetwork
    from polytask.problems import Problem, Source
    from polytask.training import TrainingResult, TrainingSettings

SETTINGS_FILE = "train.json"
TRAINING_PANEL = "Training"
#: Options that are settings of the same name.
SETTINGS = ("epochs", "patience", "batch_size", "seed", "time_limit", "device")


@dataclass(frozen=True, kw_only=True)
class TrainingOptions:
    """What the options about the training said."""

    balancer: Annotated[
        str,
        option("How to weigh the tasks: a balancer of polytask.balancers.", panel=TRAINING_PANEL),
    ] = "equal"
    model: Annotated[
        str | None,
        option(
            "What the tasks share: an architecture such as traveling-observer or gated. Without it"
            " the inputs decide: hard sharing, or own encoders around a shared core.",
            panel=TRAINING_PANEL,
        ),
    ] = None
    epochs: Annotated[
        int, option("Most passes over the training rows.", panel=TRAINING_PANEL, min=1)
    ] = 100
    patience: Annotated[
        int,
        option(
            "Epochs without progress on validation before training stops.",
            panel=TRAINING_PANEL,
            min=1,
        ),
    ] = 16
    learning_rate: Annotated[
        float | None,
        option("Of AdamW; left out: 0.004 for tables, else 0.001.", panel=TRAINING_PANEL),
    ] = None
    batch_size: Annotated[
        int | None,
        option("Rows per step; left out: by the number of rows.", panel=TRAINING_PANEL, min=1),
    ] = None
    seed: Annotated[int, option("Of split and training.", panel=TRAINING_PANEL, min=0)] = 0
    time_limit: Annotated[float | None, option("Seconds of training.", panel=TRAINING_PANEL)] = None
    device: Annotated[str, option("auto, cpu, cuda, cuda:1, mps ...", panel=TRAINING_PANEL)] = (
        "auto"
    )

    @property
    def candidate(self) -> str:
        """What the trained model is called."""
        if self.model is None:
            return f"shared: {self.balancer}"
        return f"model: {self.model}, {self.balancer}"

    def settings(self, problem: Problem) -> TrainingSettings:
        """Those of the problem, with what was said."""
        from polytask.training import TrainingSettings

        usual = TrainingSettings.for_problem(problem)
        rate = usual.learning_rate if self.learning_rate is None else self.learning_rate
        said = {name: getattr(self, name) for name in SETTINGS}
        return dataclasses.replace(usual, **said, learning_rate=rate)


def train(
    *,
    data: DataOptions,
    training: TrainingOptions,
    out: Annotated[
        Path | None, typer.Option(help="Folder for checkpoints, log and model. \\[required]")
    ] = None,
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
    source = data.source()
    problem = source.problem(training.seed)
    settings = training.settings(problem)
    show_data(source)
    identity = {
        "data": source.fingerprint(),
        "balancer": training.balancer,
        "model": training.model,
        "seed": training.seed,
        "learning_rate": settings.learning_rate,
        "batch_size": training.batch_size,
    }
    _check_folder(out, identity, resume=resume)
    fitted, result = _fit(problem, training, settings, out, resume=resume)
    _show_scores(fitted, problem)
    _save(fitted, problem, source, training, out)
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


def _fit(
    problem: Problem,
    training: TrainingOptions,
    settings: TrainingSettings,
    out: Path,
    *,
    resume: bool,
) -> tuple[FittedNetwork, TrainingResult]:
    """Train, with checkpoints and a log."""
    from polytask.candidates import NetworkMethod, architecture_by_name, candidate_by_name, fit_one
    from polytask.training import Checkpoints, JsonLinesLog, Progress

    build = None if training.model is None else architecture_by_name(training.model)
    method = candidate_by_name(training.balancer, architecture=build).method
    if not isinstance(method, NetworkMethod) or method.balancer is None:
        raise ValueError(f"`--balancer` must name a balancer, found {training.balancer!r}.")
    return fit_one(
        problem,
        method,
        settings,
        observers=[Progress(label=problem.name), JsonLinesLog(out / "log.jsonl")],
        checkpoints=Checkpoints(out / "checkpoints"),
        resume=resume,
    )


def _show_scores(fitted: FittedNetwork, problem: Problem) -> None:
    """Print what the best epoch's model scores; the test rows are read here."""
    from polytask.candidates.run import score

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


def _save(
    fitted: FittedNetwork, problem: Problem, source: Source, training: TrainingOptions, out: Path
) -> None:
    """Write the model that `polytask predict` reads."""
    import shutil

    from polytask.evaluation.provenance import versions
    from polytask.serving import save_predictor

    part = out / ".network"
    fitted.save(part)
    about = {
        "problem": problem.name,
        "candidate": training.candidate,
        "seed": training.seed,
        "data": source.fingerprint(),
        "versions": versions(),
    }
    names = tuple(task.name for task in problem.tasks)
    save_predictor(out / "model", problem, [(part, names)], about=about)
    shutil.rmtree(part)
    typer.echo(f"model: {out / 'model'} (polytask predict {out} new.csv)")
