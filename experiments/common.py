"""What all experiments share: settings as a command line, records, resumable workers.

Every experiment has one frozen dataclass of settings, whose fields are the options of the command
line, and a function that gives a ``Report``; ``experiment`` makes the ``main`` of them. What it
writes names the settings, seeds, date and versions behind the numbers.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import functools
import inspect
import json
import multiprocessing
import platform
import tempfile
import time
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

import numpy as np
import torch
from matplotlib.figure import Figure

import polytask
from polytask.files import write_atomically

#: The shared data beside the checkout.
DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
#: Settings that say where files are; they are no part of what was measured.
PLACES = ("data", "out", "log", "workers", "minutes")

Settings = TypeVar("Settings", bound="BaseSettings")
Job = TypeVar("Job")


@dataclass(frozen=True, kw_only=True)
class BaseSettings:
    """Of every experiment.

    Args:
        out: The JSON file to write, other files beside it; unless it is given, ``results.json`` in
            the folder of the experiment.
    """

    out: Path = Path("results.json")


@dataclass(frozen=True, kw_only=True)
class ResumableSettings(BaseSettings):
    """Of an experiment that is made of jobs, whose outcomes are kept in a log.

    Args:
        workers: Processes; 0 works in this one.
        minutes: After this time no further job is started; 0 only reads the log.
        log: JSON lines; unless it is given, ``runs.jsonl`` beside ``out``.
    """

    workers: int = 0
    minutes: float = 60.0
    log: Path = Path("runs.jsonl")

    def job(self, job: type[Job], /, **own: Any) -> Job:
        """A job: fields that are not given here are the settings of the same name."""
        names = [f.name for f in dataclasses.fields(job) if f.name not in own]
        return job(**own, **{name: getattr(self, name) for name in names if hasattr(self, name)})


@dataclass(frozen=True)
class Report:
    """What came out of an experiment.

    Args:
        results: Plain values for the results file.
        text: To print.
        files: Texts and figures by name, to write beside the results file; None is not written.
    """

    results: Mapping[str, Any]
    text: str = ""
    files: Mapping[str, str | Figure | None] = field(default_factory=dict)


def experiment(
    settings: type[BaseSettings],
    report: Callable[..., Report | None],
    *,
    smoke: Mapping[str, Any],
    scales: Mapping[str, Mapping[str, Any]] | None = None,
    jobs: Callable[[Any], Sequence[Any]] | None = None,
    work: Callable[..., dict[str, Any]] | None = None,
) -> Callable[[Sequence[str] | None], None]:
    """The ``main`` of an experiment, a function of the command line's arguments.

    Args:
        settings: Its dataclass; the docstring of its module is the text of ``--help``.
        report: From the settings to what came out, or from the outcomes of all finished jobs and
            the settings; None where there is nothing to write.
        smoke: See ``parse``.
        scales: See ``parse``.
        jobs: From the settings to the jobs of a resumable experiment; see ``run_jobs``.
        work: From a job, and a ``folder`` where the settings have ``data``, to plain values.
    """

    def main(arguments: Sequence[str] | None = None) -> None:
        given: Any = parse(
            settings,
            description=inspect.getdoc(inspect.getmodule(settings)),
            smoke=smoke,
            scales=scales,
            arguments=arguments,
        )
        if jobs is None or work is None:
            found = report(given)
        else:
            known = {"folder": given.data} if hasattr(given, "data") else {}
            runs = run_jobs(
                jobs(given),
                functools.partial(work, **known),
                log=given.log,
                workers=given.workers,
                minutes=given.minutes,
            )
            found = report(runs, given)
        if found is not None:
            publish(found, given)

    return main


def publish(report: Report, settings: BaseSettings) -> None:
    """Print the text of a report, and write its results and files."""
    if report.text:
        print(report.text.rstrip("\n"))
    write(settings.out, record(settings, report.results))
    for name, content in report.files.items():
        if isinstance(content, str):
            write_atomically(settings.out.with_name(name), content.rstrip("\n") + "\n")
        elif content is not None:
            save(content, settings.out.with_name(name))


def parse(
    settings: type[Settings],
    *,
    description: str | None,
    smoke: Mapping[str, Any],
    scales: Mapping[str, Mapping[str, Any]] | None = None,
    arguments: Sequence[str] | None = None,
) -> Settings:
    """Settings from the command line: defaults, then ``--scale``, ``--smoke``, given options.

    Args:
        settings: A frozen dataclass.
        description: Text of ``--help``.
        smoke: Values that make the experiment end within seconds; its files go to a temporary
            folder unless ``--out`` says otherwise.
        scales: Named sets of values.
        arguments: Of the command line; None takes the process's own.
    """
    parser = argparse.ArgumentParser(
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        argument_default=argparse.SUPPRESS,
    )
    parser.add_argument("--smoke", action="store_true", default=False, help="a run of seconds")
    if scales:
        parser.add_argument("--scale", choices=tuple(scales), default=None)
    types = get_type_hints(settings)
    for option in dataclasses.fields(settings):
        kind, several = types[option.name], get_origin(types[option.name]) is tuple
        parser.add_argument(
            "--" + option.name.replace("_", "-"),
            type=get_args(kind)[0] if several else kind,
            nargs="+" if several else None,
            help=f"default {option.default}" if option.name not in PLACES else None,
        )
    given = vars(parser.parse_args(arguments))
    folder = Path(inspect.getfile(settings)).resolve().parent
    values: dict[str, Any] = dict((scales or {}).get(given.pop("scale", None) or "", {}))
    if given.pop("smoke"):
        folder = Path(tempfile.gettempdir()) / "polytask-smoke" / folder.name
        values |= smoke
    values |= {k: tuple(v) if isinstance(v, list) else v for k, v in given.items()}
    values.setdefault("out", folder / "results.json")
    if "log" in types:
        values.setdefault("log", values["out"].with_name("runs.jsonl"))
    return settings(**values)


def record(settings: Any, results: Mapping[str, Any]) -> dict[str, Any]:
    """The content of a results file: what was run, when, with which versions, and what came out."""
    kept = {k: v for k, v in dataclasses.asdict(settings).items() if k not in PLACES}
    return {
        "settings": kept,
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "numpy": np.__version__,
            "polytask": polytask.__version__,
        },
        "machine": {
            "architecture": platform.machine(),
            "accelerator": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        },
        **results,
    }


def write(path: Path, content: Mapping[str, Any]) -> None:
    """Write a results file; numbers keep six significant digits."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(rounded(content), indent=1, allow_nan=True)
    write_atomically(path, text + "\n")
    print(f"wrote {path}")


def save(figure: Figure, path: Path) -> None:
    """Write a PNG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    print(f"wrote {path}")


def rounded(value: Any, digits: int = 6) -> Any:
    """Plain values with numbers of so many significant digits."""
    if isinstance(value, Mapping):
        return {str(key): rounded(item, digits) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [rounded(item, digits) for item in value]
    if isinstance(value, (torch.Tensor, np.ndarray)):
        return rounded(value.tolist(), digits)
    if isinstance(value, float):
        return float(f"{value:.{digits}g}")
    return value


def run_jobs(
    jobs: Sequence[Any],
    work: Callable[[Any], dict[str, Any]],
    *,
    log: Path,
    workers: int,
    minutes: float,
) -> list[dict[str, Any]]:
    """Outcomes of all jobs that are done, those of earlier calls included.

    Every outcome is appended to ``log`` as soon as it is there, as one line of JSON with the job
    that it belongs to, so that an interrupted experiment goes on where it stopped.

    Args:
        jobs: Frozen dataclasses of plain values, most important first.
        work: A function of a module, from a job to plain values.
        log: JSON lines.
        workers: Processes; 0 works in this one.
        minutes: After this time no further job is started; 0 only reads the log.

    Raises:
        ExceptionGroup: Jobs failed; the others have been run and are in the log.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    done = read_log(log)
    pending = [job for job in jobs if key_of(job) not in done]
    print(f"{len(jobs) - len(pending)} of {len(jobs)} runs are in {log.name}", flush=True)
    errors: list[Exception] = []
    with log.open("a", encoding="utf-8") as file:
        for job, outcome in _outcomes(pending, work, workers=workers, minutes=minutes):
            if isinstance(outcome, Exception):
                outcome.add_note(f"in {job}")
                errors.append(outcome)
                continue
            line = {"job": dataclasses.asdict(job), "outcome": rounded(outcome, 8)}
            file.write(json.dumps(line) + "\n")
            file.flush()
            done[key_of(job)] = line["outcome"]
            print(f"{len(done)}: {job}", flush=True)
    if errors:
        raise ExceptionGroup(f"{len(errors)} runs failed; all others are in {log}.", errors)
    return [{**dataclasses.asdict(job), **done[key_of(job)]} for job in jobs if key_of(job) in done]


def _outcomes(
    jobs: Sequence[Any], work: Callable[[Any], dict[str, Any]], *, workers: int, minutes: float
) -> Iterable[tuple[Any, dict[str, Any] | Exception]]:
    """Each job that was run with its outcome, or with the error that ended it."""
    deadline = time.monotonic() + 60 * minutes
    if minutes <= 0:
        return
    if workers == 0:
        for job in jobs:
            if time.monotonic() < deadline:
                yield job, _outcome(work, job)
        return
    # CUDA cannot be used in forked processes.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(max_workers=workers, mp_context=context) as pool:
        running = {pool.submit(work, job): job for job in jobs}
        for future in as_completed(running):
            if future.cancelled():
                continue
            error = future.exception()
            yield running[future], error if isinstance(error, Exception) else future.result()
            if time.monotonic() > deadline:
                pool.shutdown(wait=False, cancel_futures=True)


def _outcome(work: Callable[[Any], dict[str, Any]], job: Any) -> dict[str, Any] | Exception:
    try:
        return work(job)
    except Exception as error:
        return error


def read_log(log: Path) -> dict[Hashable, dict[str, Any]]:
    """Outcomes by job; a last line that was cut off while it was written is not counted."""
    if not log.exists():
        return {}
    text = log.read_text(encoding="utf-8")
    whole = text[: text.rfind("\n") + 1]
    if whole != text:
        write_atomically(log, whole)
    lines = [json.loads(line) for line in whole.splitlines()]
    return {json.dumps(line["job"], sort_keys=True): line["outcome"] for line in lines}


def key_of(job: Any) -> str:
    """What identifies a job in the log."""
    return json.dumps(dataclasses.asdict(job), sort_keys=True)
