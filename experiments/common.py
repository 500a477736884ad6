"""What all experiments share: settings as a command line, records, resumable workers, figures.

Every experiment has one frozen dataclass of settings; its fields are the options of the command
line. What an experiment writes names the settings, seeds, date and versions behind the numbers.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import json
import multiprocessing
import platform
import tempfile
import time
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import polytask
from polytask.evaluation.scores import Interval, interval, relative_gains
from polytask.files import write_atomically

#: The shared data beside the checkout.
DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
#: Settings that say where files are; they are no part of what was measured.
PLACES = ("data", "out", "log", "workers", "minutes")
COLOURS = (
    "#4c72b0", "#dd8452", "#55a868", "#c44e52", "#8172b3", "#937860",
    "#da8bc3", "#8c8c8c", "#ccb974", "#64b5cd", "#1b6e3c", "#7a1f5c",
)  # fmt: skip

Settings = TypeVar("Settings")


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
        settings: A frozen dataclass with a field ``out``, the JSON file to write.
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
    fields = dataclasses.fields(settings)
    for field in fields:
        kind, several = types[field.name], get_origin(types[field.name]) is tuple
        parser.add_argument(
            "--" + field.name.replace("_", "-"),
            type=get_args(kind)[0] if several else kind,
            nargs="+" if several else None,
            help=f"default {field.default}" if field.name not in PLACES else None,
        )
    given = vars(parser.parse_args(arguments))
    values: dict[str, Any] = dict((scales or {}).get(given.pop("scale", None) or "", {}))
    if given.pop("smoke"):
        experiment = next(f.default for f in fields if f.name == "out").parent.name
        folder = Path(tempfile.gettempdir()) / "polytask-smoke" / experiment
        values |= {**smoke, "out": folder / "results.json"}
    values |= {k: tuple(v) if isinstance(v, list) else v for k, v in given.items()}
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


def delta_m(scores: np.ndarray, baseline: int, *, higher_is_better: bool) -> np.ndarray:
    """Delta_m in per cent ``[C, S]``: mean over tasks of the gain relative to the baseline's score.

    Args:
        scores: ``[C, S, T]``, of candidates, seeds and tasks; NaN where a run is missing, which
            makes Delta_m of that candidate and seed NaN.
        baseline: Index of the candidate that gains are relative to.
        higher_is_better: Of all tasks.
    """
    better = np.full(scores.shape[-1], higher_is_better)
    gains: np.ndarray = 100 * relative_gains(scores, baseline, better).mean(-1)
    return gains


def shown(values: Iterable[float] | Interval, digits: int = 2, *, overlap: float = 0.0) -> str:
    """``mean ± half width of the 95 % interval`` over seeds."""
    found = values if isinstance(values, Interval) else interval(list(values), overlap=overlap)
    if np.isnan(found.low):
        return f"{found.mean:.{digits}f}"
    return f"{found.mean:.{digits}f} ± {found.half_width:.{digits}f}"


def table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A Markdown table."""
    lines = ["| " + " | ".join(map(str, row)) + " |" for row in (header, *rows)]
    lines.insert(1, "|" + " --- |" * len(header))
    return "\n".join(lines)


def canvas(
    rows: int = 1, columns: int = 1, *, width: float = 5.0, height: float = 4.0
) -> tuple[Figure, np.ndarray]:
    """A figure and its axes ``[rows, columns]``."""
    figure = Figure(figsize=(width * columns, height * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    for ax in axes.flat:
        ax.spines[["top", "right"]].set_visible(False)
    return figure, axes


def label(ax: Axes, title: str, x: str, y: str) -> None:
    """Title and axis labels."""
    ax.set_title(title, fontsize=10)
    ax.set_xlabel(x)
    ax.set_ylabel(y)


def save(figure: Figure, path: Path) -> None:
    """Write a PNG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    print(f"wrote {path}")
