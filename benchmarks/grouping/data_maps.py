"""What does recording a data map of a hundred tasks add to a training step?

    python benchmarks/grouping/data_maps.py [--rounds 40] [--out benchmarks/grouping/data_maps.json]

A hundred binary tasks, batch 128, goal: at most 1.05 times the step without a recorder. Two
networks: STG-MTL's small CNN on 32 x 32 colour images, and an MLP of two layers of 512 units on 64
numbers, whose cheap step is the harder case. One and the same trainer takes a few steps without and
a few with the recorder in turn (as many as the recorder adds together, or their cost would fall
between the measurements). "Inside" is the processor time between entering and leaving the recorder,
divided by that of the same steps without it: less noisy, but blind to what the recorder pushes out
of the caches. Last, a snapshot beside the epoch that it belongs to.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import timing

BATCH, TASKS = 128, 100
#: Steps per measurement: twice what the recorder adds at a time.
STEPS = 22


def trainer_of(inputs: object, encoder: object, recorder: object) -> object:
    """A trainer of hard sharing with the recorder, ready for its first step."""
    import torch

    from polytask.architectures import HardSharing
    from polytask.problems import Problem
    from polytask.tasks import Binary
    from polytask.training import Trainer, TrainingSettings

    labels = (torch.rand(len(inputs), TASKS) > 0.5).long()
    names = [f"t{i}" for i in range(TASKS)]
    problem = Problem.from_arrays(
        inputs,
        {name: labels[:, i] for i, name in enumerate(names)},
        dict.fromkeys(names, Binary()),
        fractions=(0.8, 0.1, 0.1),
    )
    settings = TrainingSettings(batch_size=BATCH, device="cpu", epochs=10**6)
    model = HardSharing(encoder=encoder, tasks=problem.tasks)
    trainer = Trainer(problem, model, settings=settings, observers=(recorder,))
    recorder.on_start(trainer.start())
    model.train()
    return trainer


def steps(
    inputs: object, encoder: object, rounds: int, folder: Path | None = None
) -> dict[str, dict[str, float]]:
    """Ratios of one network."""
    from polytask.grouping.data_map_recorder import DataMapRecorder

    recorder = DataMapRecorder(folder=folder)
    trainer = trainer_of(inputs, encoder, recorder)
    plain, spent = recorder.on_step, []

    def timed(report: object) -> None:
        started = time.process_time()
        plain(report)
        spent.append(time.process_time() - started)

    recorder.on_step = timed

    def take(*observers: object) -> Callable[[], None]:
        def step() -> None:
            trainer.observers = observers
            trainer.train_step()

        return step

    contestants = {"step": take(), "step with recorder": take(recorder)}
    seconds = timing.take_turns(contestants, rounds=rounds, warmup=2, inner=STEPS)
    parts = [sum(spent[at : at + STEPS]) / STEPS for at in range(2 * STEPS, len(spent), STEPS)]
    table = timing.ratios({**seconds, "inside": parts}, "step")
    return {"inside the recorder" if name == "inside" else name: table[name] for name in table}


def snapshot(inputs: object, encoder: object, rounds: int) -> dict[str, dict[str, float]]:
    """A snapshot beside the steps of one epoch."""
    import torch

    from polytask.grouping.data_map_recorder import DataMapRecorder

    recorder = DataMapRecorder(dtype=torch.float16)
    trainer = trainer_of(inputs, encoder, recorder)

    def epoch() -> None:
        for _ in range(trainer.steps_per_epoch):
            trainer.train_step()

    contestants = {"epoch": epoch, "snapshot": recorder.current}
    return timing.ratios(timing.take_turns(contestants, rounds=rounds, warmup=1), "epoch")


def main() -> None:
    options = timing.parser(__doc__.splitlines()[0], rounds=40).parse_args()
    timing.prepare(options.threads)
    import torch

    from polytask.encoders import MLP, SmallCNN

    torch.manual_seed(0)
    images, numbers = torch.randn(4000, 3, 32, 32), torch.randn(60_000, 64)

    def perceptron() -> MLP:
        return MLP(input_size=64, widths=(512, 512))

    few = max(3, options.rounds // 5)
    with tempfile.TemporaryDirectory() as folder:
        tables = {
            "small CNN, batch 128, 100 binary tasks (goal <= 1.05)": steps(images, SmallCNN(), few),
            "MLP 2 x 512, batch 128, 100 binary tasks, 48,000 rows (goal <= 1.05)": steps(
                numbers, perceptron(), options.rounds
            ),
            "the same MLP, moments on disk (goal <= 1.05)": steps(
                numbers, perceptron(), options.rounds, Path(folder)
            ),
            "a snapshot of 48,000 rows in float16, in the MLP's epoch": snapshot(
                numbers, perceptron(), few
            ),
        }
    for title, table in tables.items():
        timing.show(title, table)
    if options.out:
        timing.write(options.out, {"batch": BATCH, "tasks": TASKS, "tables": tables})


if __name__ == "__main__":
    main()
