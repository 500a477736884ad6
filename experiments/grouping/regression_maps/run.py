"""What should a data map of a regression task hold? Candidates, judged by the planted groups that
k-means finds in them.

    python -m experiments.grouping.regression_maps.run

STG-MTL's data map is the probability of the true class while a network trains; the paper names
regression as future work. One network per problem and seed records every candidate in the same
training. The score is the adjusted Rand index between the k-means clusters of the tasks (true
number of groups) and the planted groups: 1 is right, 0 is chance.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from experiments.common import Report, ResumableSettings, experiment
from experiments.showing import shown, table
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score
from torch import Tensor

from polytask.datasets.planted import planted_assignment, planted_groups
from polytask.datasets.synthetic import conflicting
from polytask.grouping.data_map_recorder import DataMapRecorder, Measure, confidence
from polytask.grouping.learner import Learner
from polytask.problems import Problem, Split
from polytask.tasks import Binary, Kind, Regression
from polytask.training import TrainingSettings

EPOCHS = 40
#: Which snapshots are clustered; after all of them is the default of ``record_data_map``.
WHEN: dict[str, tuple[int, ...]] = {
    "quarters": (10, 20, 30, 40),
    "last": (40,),
    "first quarter": (10,),
    "first tenth": (4,),
}


def likelihood(width: float) -> Measure:
    """exp(-(y - f)^2 / (2 s^2)), s in standard deviations of the target."""

    def measure(kind: Kind, output: Tensor, target: Tensor) -> Tensor:
        return (-(kind.predict(output) - target).square() / (2 * width**2)).exp()

    return measure


def laplace(kind: Kind, output: Tensor, target: Tensor) -> Tensor:
    """exp(-|y - f|)."""
    return (-(kind.predict(output) - target).abs()).exp()


def tail(kind: Kind, output: Tensor, target: Tensor) -> Tensor:
    """Probability of an error at least as large, where errors are standard Gaussian."""
    return torch.erfc((kind.predict(output) - target).abs() / math.sqrt(2))


def side(kind: Kind, output: Tensor, target: Tensor) -> Tensor:
    """Probability that the value is on the side of the mean where it is, if it is N(f, 1)."""
    return torch.special.ndtr(kind.predict(output) * target.sign())


def against_mean(width: float) -> Measure:
    """Probability that y is from N(f, s^2) and not from N(0, s^2), the mean of the targets, if both
    are as likely beforehand.
    """

    def measure(kind: Kind, output: Tensor, target: Tensor) -> Tensor:
        fall = target.square() - (kind.predict(output) - target).square()
        return (fall / (2 * width**2)).sigmoid()

    return measure


def signed(kind: Kind, output: Tensor, target: Tensor) -> Tensor:
    """The error f - y."""
    return kind.predict(output) - target


def size(kind: Kind, output: Tensor, target: Tensor) -> Tensor:
    """Its size |f - y|."""
    return (kind.predict(output) - target).abs()


CANDIDATES: dict[str, Measure] = {
    "against the mean, s = 1": against_mean(1.0),
    "against the mean, s = √½": against_mean(0.5**0.5),
    "against the mean, s = ½": against_mean(0.5),
    "likelihood, s = 1": likelihood(1.0),
    "likelihood, s = √½": likelihood(0.5**0.5),
    "likelihood, s = ½": likelihood(0.5),
    "exp(-size of the error)": laplace,
    "tail probability": tail,
    "side of the mean": side,
    "signed error": signed,
    "size of the error": size,
}


def classes_too(measure: Measure) -> Measure:
    """The true class's probability for classes, a candidate for numbers."""

    def both(kind: Kind, output: Tensor, target: Tensor) -> Tensor:
        chosen = measure if isinstance(kind, Regression) else confidence
        return chosen(kind, output, target)

    return both


def halved(problem: Problem) -> Problem:
    """Every second task of each group becomes "above its mean?", yes or no."""
    groups = planted_assignment(problem)
    turn: dict[int, int] = {}
    classes = set()
    for task, group in zip(problem.tasks, groups, strict=True):
        turn[group] = turn.get(group, 0) + 1
        if turn[group] % 2:
            classes.add(task.name)
    return changed(
        problem,
        lambda name, y: (y > 0).astype(np.int64) if name in classes else y,
        lambda name: Binary() if name in classes else Regression(),
    )


def uneven(problem: Problem, *, noise: float = 1.0) -> Problem:
    """Every second task of each group gets more noise."""
    rng = np.random.default_rng(0)
    loud = {task.name for i, task in enumerate(problem.tasks) if (i // 3) % 2}
    return changed(
        problem,
        lambda name, y: y + noise * rng.standard_normal(len(y)) * (name in loud),
        lambda name: Regression(),
    )


def changed(
    problem: Problem, target: Callable[[str, np.ndarray], np.ndarray], kind: Callable[[str], Kind]
) -> Problem:
    """The same rows with other targets (from those in the encoding, mean 0 and deviation 1)."""
    splits: Sequence[Split] = [problem.train, problem.validation, problem.test]
    rows = np.cumsum([0, *(len(split) for split in splits)])
    names = [task.name for task in problem.tasks]
    return Problem.from_arrays(
        torch.cat([split.inputs for split in splits]),
        {
            name: target(name, torch.cat([split.targets[name] for split in splits]).numpy())
            for name in names
        },
        {name: kind(name) for name in names},
        splits={
            part: np.arange(rows[i], rows[i + 1])
            for i, part in enumerate(("train", "validation", "test"))
        },
    )


def planted(seed: int, **more: Any) -> Problem:
    """Twelve regression tasks in three groups; another problem for every seed."""
    chosen = {"num_tasks": 12, "num_groups": 3, "spread": 0.3, "kind": "regression", **more}
    return planted_groups(seed=seed, data_seed=seed, **chosen)


PROBLEMS: dict[str, Callable[[int], Problem]] = {
    "conflicting, 2 x 4": lambda seed: conflicting(seed=seed),
    "conflicting, 2 x 10": lambda seed: conflicting(seed=seed, tasks_per_group=10),
    "planted, 3 x 4, alike": planted,
    "planted, 3 x 4, any direction": lambda seed: planted(seed, spread=1.0),
    "planted, 3 x 4, interference 1/2": lambda seed: planted(seed, interference=0.5),
    "planted, 3 x 4, half of them noisy": lambda seed: uneven(planted(seed)),
    "planted, 3 x 4, half of them classes": lambda seed: halved(planted(seed)),
}


@dataclass(frozen=True)
class Settings(ResumableSettings):
    """Of the experiment."""

    problems: tuple[str, ...] = tuple(PROBLEMS)
    seeds: tuple[int, ...] = tuple(range(10))
    batch_size: int = 32
    learning_rate: float = 1e-3
    workers: int = 2


@dataclass(frozen=True)
class Job:
    """One training."""

    problem: str
    seed: int
    batch_size: int
    learning_rate: float


def true_groups(problem: Problem) -> list[str]:
    """The planted group of each task, from its name: "a3" or "g2 t5"."""
    return [task.name.split()[0] if " " in task.name else task.name[0] for task in problem.tasks]


def work(job: Job) -> dict[str, Any]:
    """Adjusted Rand index per candidate and choice of snapshots."""
    torch.set_num_threads(1)
    problem = PROBLEMS[job.problem](job.seed)
    truth = true_groups(problem)
    every = sorted({epoch for epochs in WHEN.values() for epoch in epochs})
    recorders = {
        name: DataMapRecorder(epochs=every, measure=classes_too(measure))
        for name, measure in CANDIDATES.items()
    }
    settings = TrainingSettings(
        epochs=EPOCHS,
        patience=None,
        batch_size=job.batch_size,
        learning_rate=job.learning_rate,
        device="cpu",
    )
    Learner(settings=settings).train(problem, seed=job.seed, observers=tuple(recorders.values()))
    found = {}
    for name, recorder in recorders.items():
        values = recorder.data_map().values
        for when, epochs in WHEN.items():
            points = values[:, [every.index(epoch) for epoch in epochs]].flatten(1).numpy()
            labels = KMeans(len(set(truth)), n_init=10, random_state=0).fit_predict(points)
            found[f"{name} | {when}"] = float(adjusted_rand_score(truth, labels))
    return found


def jobs_of(settings: Settings) -> list[Job]:
    """Seed by seed."""
    return [
        settings.job(Job, problem=name, seed=seed)
        for seed in settings.seeds
        for name in settings.problems
    ]


def report(runs: Sequence[dict[str, Any]], settings: Settings) -> Report:
    results = {
        problem: {
            key: [run[key] for run in runs if run["problem"] == problem]
            for key in (f"{name} | {when}" for name in CANDIDATES for when in WHEN)
        }
        for problem in settings.problems
    }
    text = "\n".join(f"\n{when}\n\n{summary(results, when)}" for when in WHEN)
    return Report({"runs": len(runs), "adjusted Rand index": results}, text)


def summary(results: dict[str, dict[str, list[float]]], when: str) -> str:
    """A row per candidate, a column per problem, and the mean over problems."""
    body = []
    for name in CANDIDATES:
        columns = [found[f"{name} | {when}"] for found in results.values()]
        mean = np.mean([np.mean(column) for column in columns])
        body.append([name, *(shown(column) for column in columns), f"{mean:.2f}"])
    return table(["measure", *results, "mean"], body)


SMOKE = {"problems": ("conflicting, 2 x 4",), "seeds": (0,), "workers": 0}

main = experiment(Settings, report, jobs=jobs_of, work=work, smoke=SMOKE)


if __name__ == "__main__":
    main()
