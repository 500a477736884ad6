"""What does a look at the tasks' affinities cost, and how good is the approximation without
lookaheads?

    python benchmarks/grouping/tag.py [--rounds 10] [--out benchmarks/grouping/tag.json]

Cost: processor time of one look of ``TaskAffinity`` in each mode and scope, as a ratio to one
training step of the same model, for 10, 40 and 100 binary tasks. A look happens every tenth step,
so a tenth of the ratio is what the observer adds to training. Error: both modes look at the same
steps of one real training, with the trainer's learning rate 0.001 and with larger ones; off the
diagonal, Spearman's rank correlation of the mean affinities, the largest absolute difference, and
beside it the mean absolute affinity.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import timing

TASKS = (10, 40, 100)
RATES = (1e-3, 1e-2, 1e-1)
WAYS = (("exact", "trunk"), ("first-order", "trunk"), ("exact", "last"), ("first-order", "last"))


def binary_problem(inputs: object, num_tasks: int) -> object:
    """Random labels: cost does not depend on them."""
    import torch

    from polytask.problems import Problem
    from polytask.tasks import Binary

    labels = (torch.rand(len(inputs), num_tasks) > 0.5).long()
    names = [f"t{i}" for i in range(num_tasks)]
    return Problem.from_arrays(
        inputs, {n: labels[:, i] for i, n in enumerate(names)}, {n: Binary() for n in names}
    )


def costs(
    inputs: object, encoder: Callable[[], object], batch: int, rounds: int
) -> dict[str, dict[str, float]]:
    """Ratios to a training step, per number of tasks and way of looking."""
    from polytask.architectures import HardSharing
    from polytask.grouping.tag import TaskAffinity
    from polytask.training import Trainer, TrainingSettings

    rows: dict[str, dict[str, float]] = {}
    for num_tasks in TASKS:
        problem = binary_problem(inputs, num_tasks)
        model = HardSharing(encoder=encoder(), tasks=problem.tasks)
        settings = TrainingSettings(batch_size=batch, device="cpu", epochs=10**6)
        trainer = Trainer(problem, model, settings=settings)
        model.train()
        drawn = trainer._draw()[0]
        contestants: dict[str, Callable[[], object]] = {"training step": trainer.train_step}
        for mode, scope in WAYS:
            observer = TaskAffinity(mode=mode, scope=scope)
            observer.on_start(trainer.start())
            contestants[f"{mode}, {scope}"] = partial(
                observer.before_update, model, trainer.step.losses, drawn, 1e-3
            )
        found = timing.ratios(
            timing.take_turns(contestants, rounds=rounds, warmup=1), "training step"
        )
        rows.update({f"{num_tasks} tasks: {name}": row for name, row in found.items()})
    return rows


def errors(problem: object, epochs: int) -> dict[str, dict[str, float]]:
    """Both modes beside each other at every rate, and the last layer beside the whole trunk."""
    import torch
    from scipy.stats import spearmanr

    from polytask.grouping.learner import Learner
    from polytask.grouping.tag import TaskAffinity
    from polytask.training import TrainingSettings

    observers = {
        (mode, scope, rate): TaskAffinity(mode=mode, scope=scope, learning_rate=rate)
        for mode, scope in WAYS
        for rate in RATES
    }
    settings = TrainingSettings(epochs=epochs, patience=None, device="cpu")
    Learner(settings=settings).train(problem, observers=list(observers.values()))
    off = ~torch.eye(len(problem.tasks), dtype=torch.bool)
    means = {key: observer.mean[off] for key, observer in observers.items()}
    rows = {}
    for scope in ("trunk", "last"):
        for rate in RATES:
            pairs = [(("first-order", scope, rate), ("exact", scope, rate))]
            if scope == "last":
                pairs.append((("exact", "last", rate), ("exact", "trunk", rate)))
            for one, other in pairs:
                name = f"rate {rate}: {one[0]}, {one[1]} against {other[0]}, {other[1]}"
                rows[name] = {
                    "spearman": float(spearmanr(means[one], means[other]).statistic),
                    "largest_difference": float((means[one] - means[other]).abs().max()),
                    "mean_absolute_affinity": float(means[other].abs().mean()),
                }
    return rows


def main() -> None:
    options = timing.parser(__doc__.splitlines()[0], rounds=10).parse_args()
    timing.prepare(options.threads)
    import torch

    from polytask.datasets.digits import digits13
    from polytask.datasets.planted import planted_groups
    from polytask.encoders import MLP, SmallCNN

    torch.manual_seed(0)
    cost = {
        "MLP 64-256-256, batch 256": costs(
            torch.randn(2048, 64),
            lambda: MLP(input_size=64, widths=(256, 256)),
            256,
            options.rounds,
        ),
        "small CNN on 3 x 16 x 16, batch 64": costs(
            torch.randn(512, 3, 16, 16), lambda: SmallCNN(image_size=16), 64, options.rounds
        ),
    }
    for title, table in cost.items():
        timing.show(title, table)
    error = {
        "digits13, 13 tasks, 20 epochs": errors(digits13(), 20),
        "planted, 40 tasks in 4 groups, 20 epochs": errors(
            planted_groups(num_tasks=40, num_groups=4), 20
        ),
    }
    for title, table in error.items():
        print(f"\n{title}")
        for name, row in table.items():
            numbers = ", ".join(f"{key} {value:.4g}" for key, value in row.items())
            print(f"  {name:<60} {numbers}")
    if options.out:
        timing.write(options.out, {"cost": cost, "error": error})


if __name__ == "__main__":
    main()
