"""What does the Trainer add to a step? The same model, batch size and optimiser, by Trainer and by
hand.

    python benchmarks/training/step.py [--rounds 40] [--out benchmarks/training/step.json]

Three comparisons, with the goals this project sets itself: an MLP with two layers of 512 units
(batch 256, ratio at most 1.10), the small CNN on 32 x 32 images (batch 64, at most 1.10), and a
hundred homogeneous binary tasks against one hand-written head of a hundred outputs (at most 1.2).
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import timing


def by_trainer(problem: object, model: object, batch: int) -> Callable[[], object]:
    """One call is what ``Trainer.fit`` does for one step: learning rate, batch, step, running
    means.
    """
    from polytask.training import Trainer, TrainingSettings

    settings = TrainingSettings(batch_size=batch, clip_norm=None, device="cpu", epochs=10**6)
    trainer = Trainer(problem, model, settings=settings)
    model.train()

    return trainer.train_step


def by_hand(
    inputs: object, targets: object, model: object, loss_of: Callable, batch: int
) -> Callable[[], object]:
    """A plain PyTorch loop over shuffled row numbers, as one would write it for this one model."""
    import torch

    decayed = [p for p in model.parameters() if p.dim() >= 2]
    plain = [p for p in model.parameters() if p.dim() < 2]
    groups = [{"params": decayed, "weight_decay": 1e-4}, {"params": plain, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=1e-3, fused=True)
    model.train()
    state = {"order": torch.randperm(len(inputs)), "position": 0}

    def step() -> None:
        if state["position"] + batch > len(inputs):
            state.update(order=torch.randperm(len(inputs)), position=0)
        rows = state["order"][state["position"] : state["position"] + batch]
        state["position"] += batch
        optimizer.zero_grad(set_to_none=True)
        loss = loss_of(model(inputs[rows]), targets[rows])
        loss.backward()
        optimizer.step()

    return step


def mlp_regressions(rounds: int) -> dict[str, dict[str, float]]:
    """Four regressions on 64 numbers."""
    import torch
    from torch import nn

    from polytask.architectures import HardSharing
    from polytask.encoders import MLP
    from polytask.problems import Problem
    from polytask.tasks import Regression

    x, y = torch.randn(4096, 64), torch.randn(4096, 4)
    names = [f"t{i}" for i in range(4)]
    problem = Problem.from_arrays(
        x, {n: y[:, i] for i, n in enumerate(names)}, {n: Regression() for n in names}
    )
    ours = HardSharing(encoder=MLP(input_size=64, widths=(512, 512)), tasks=problem.tasks)
    hand = nn.Sequential(
        nn.Linear(64, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 4)
    )
    contestants = {
        "by hand": by_hand(x, y, hand, lambda o, t: ((o - t) ** 2).mean(0).mean(), 256),
        "Trainer": by_trainer(problem, ours, 256),
    }
    return timing.ratios(timing.take_turns(contestants, rounds=rounds, inner=5), "by hand")


def small_cnn(rounds: int) -> dict[str, dict[str, float]]:
    """Ten binary tasks on 32 x 32 colour images."""
    import torch
    from torch import nn

    from polytask.architectures import HardSharing
    from polytask.encoders import SmallCNN
    from polytask.problems import Problem
    from polytask.tasks import Binary

    x, y = torch.randn(640, 3, 32, 32), (torch.rand(640, 10) > 0.5).long()
    names = [f"t{i}" for i in range(10)]
    problem = Problem.from_arrays(
        x, {n: y[:, i] for i, n in enumerate(names)}, {n: Binary() for n in names}
    )
    ours = HardSharing(encoder=SmallCNN(), tasks=problem.tasks)
    hand = nn.Sequential(SmallCNN(), nn.Linear(128, 10))
    loss = nn.functional.binary_cross_entropy_with_logits
    contestants = {
        "by hand": by_hand(
            x, y.float(), hand, lambda o, t: loss(o, t, reduction="none").mean(0).mean(), 64
        ),
        "Trainer": by_trainer(problem, ours, 64),
    }
    return timing.ratios(timing.take_turns(contestants, rounds=rounds), "by hand")


def hundred_binary_tasks(rounds: int) -> dict[str, dict[str, float]]:
    """A hundred binary tasks on 64 numbers."""
    import torch
    from torch import nn

    from polytask.architectures import HardSharing
    from polytask.encoders import MLP
    from polytask.problems import Problem
    from polytask.tasks import Binary

    x, y = torch.randn(4096, 64), (torch.rand(4096, 100) > 0.5).long()
    names = [f"t{i}" for i in range(100)]
    problem = Problem.from_arrays(
        x, {n: y[:, i] for i, n in enumerate(names)}, {n: Binary() for n in names}
    )
    ours = HardSharing(encoder=MLP(input_size=64, widths=(512, 512)), tasks=problem.tasks)
    hand = nn.Sequential(
        nn.Linear(64, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 100)
    )
    loss = nn.functional.binary_cross_entropy_with_logits
    contestants = {
        "by hand": by_hand(x, y.float(), hand, lambda o, t: loss(o, t), 256),
        "Trainer": by_trainer(problem, ours, 256),
    }
    return timing.ratios(timing.take_turns(contestants, rounds=rounds, inner=5), "by hand")


def main() -> None:
    options = timing.parser(__doc__.splitlines()[0], rounds=40).parse_args()
    timing.prepare(options.threads)
    tables = {
        "MLP 2 x 512, batch 256, 4 regressions (goal <= 1.10)": mlp_regressions(options.rounds),
        "small CNN, batch 64, 10 binary tasks (goal <= 1.10)": small_cnn(options.rounds),
        "100 binary tasks against one head of 100 outputs (goal <= 1.20)": hundred_binary_tasks(
            options.rounds
        ),
    }
    for title, table in tables.items():
        timing.show(title, table)
    if options.out:
        timing.write(options.out, {"tables": tables})


if __name__ == "__main__":
    main()
