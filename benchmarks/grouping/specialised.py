"""What does it save to train m specialised models in one pass instead of one after the other?

    python benchmarks/grouping/specialised.py [--rounds 25] [--out FILE.json]

One step of m models of ten binary tasks, each with its own weights of the losses:
"apart": m trainers, one step each (ratio 1); "together": one trainer of ``SpecialisedModels``;
"stacked": the same trainer, with the m networks' parameters in tensors with a leading axis
(``torch.func.stack_module_state`` and ``vmap``, which makes batched matrix products and grouped
convolutions of them). Batch order, losses, AdamW and clipping are the same.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import timing

TASKS = 10
COUNTS = (2, 3, 5)


def trainer(
    problem: object, model: object, batch: int, weights: list[float] | None = None
) -> object:
    """A trainer that is ready for steps; ``weights``: of the losses, for one model alone."""
    from polytask.balancers import FixedWeights
    from polytask.training import Trainer, TrainingSettings

    settings = TrainingSettings(batch_size=batch, device="cpu", epochs=10**6)
    balancer = None if weights is None else FixedWeights(values=weights)
    made = Trainer(problem, model, settings=settings, balancer=balancer)
    model.train()
    return made


def stacked(specialised: object) -> object:
    """The same models with stacked parameters."""
    import torch
    from torch import nn
    from torch.func import functional_call, stack_module_state, vmap

    from polytask.architectures import Architecture
    from polytask.tasks import TaskTensors

    class Stacked(Architecture):
        def __init__(self) -> None:
            super().__init__(specialised.tasks)
            models = list(specialised.models)
            parameters, self.state = stack_module_state(models)
            self.names = list(parameters)
            self.values = nn.ParameterList(nn.Parameter(p.detach()) for p in parameters.values())
            self.__dict__["skeleton"] = models[0]

        def forward(self, inputs: torch.Tensor) -> TaskTensors:
            blocks: list[tuple[str, ...]] = []

            def one(parameters: dict, state: dict) -> tuple[torch.Tensor, ...]:
                outputs = functional_call(self.skeleton, (parameters, state), (inputs,))
                blocks[:] = [names for names, _ in outputs.blocks]
                return tuple(block for _, block in outputs.blocks)

            parameters = dict(zip(self.names, self.values, strict=True))
            found = vmap(one, randomness="different")(parameters, self.state)
            # Members of a model's own follow each other.
            flat = [f.flatten(0, 1) if f.dim() == 5 else f for f in found]
            return TaskTensors(zip(blocks, flat, strict=True), len(flat[0]))

        def member_weights(self) -> torch.Tensor:
            return specialised.member_weights()

        def shared_parameters(self) -> object:
            return iter(self.values)

        def task_parameters(self, name: str) -> object:
            return iter(())

    return Stacked()


def measure(
    build: Callable[[object], object], problem: object, batch: int, rounds: int, *, stack: bool
) -> dict[str, dict[str, dict[str, float]]]:
    """Ratios to the steps apart, per number of models."""
    import torch

    from polytask.architectures import SpecialisedModels

    tables = {}
    for count in COUNTS:
        memberships = torch.rand(TASKS, count).softmax(1)

        def specialised(count: int = count, memberships: torch.Tensor = memberships) -> object:
            models = [build(problem) for _ in range(count)]
            return SpecialisedModels(models=models, memberships=memberships)

        apart = [
            trainer(problem, build(problem), batch, (column / column.sum()).tolist())
            for column in memberships.T
        ]

        def all_apart(trainers: list = apart) -> None:
            for one in trainers:
                one.train_step()

        contestants: dict[str, Callable[[], object]] = {
            "apart": all_apart,
            "together": trainer(problem, specialised(), batch).train_step,
        }
        if stack:
            contestants["stacked"] = trainer(problem, stacked(specialised()), batch).train_step
        tables[f"m = {count}"] = timing.ratios(
            timing.take_turns(contestants, rounds=rounds), "apart"
        )
    return tables


def vectors(rows: int, size: int) -> object:
    """Ten binary tasks on vectors."""
    import torch

    return problem_of(torch.randn(rows, size))


def problem_of(inputs: object) -> object:
    import torch

    from polytask.problems import Problem
    from polytask.tasks import Binary

    labels = (torch.rand(len(inputs), TASKS) > 0.5).long()
    names = [f"t{i}" for i in range(TASKS)]
    return Problem.from_arrays(
        inputs, {n: labels[:, i] for i, n in enumerate(names)}, {n: Binary() for n in names}
    )


def main() -> None:
    options = timing.parser(__doc__.splitlines()[0], rounds=25).parse_args()
    timing.prepare(options.threads)
    import torch

    from polytask.architectures import HardSharing
    from polytask.encoders import MLP, SmallCNN, TabularEncoder

    def mlp(*widths: int) -> Callable[[object], object]:
        return lambda problem: HardSharing(
            encoder=MLP(input_size=64, widths=widths), tasks=problem.tasks
        )

    def cnn(problem: object) -> object:
        return HardSharing(encoder=SmallCNN(), tasks=problem.tasks)

    def tabular(problem: object) -> object:
        return HardSharing(encoder=TabularEncoder(num_numeric=20), tasks=problem.tasks)

    rounds = options.rounds
    images = problem_of(torch.randn(400, 3, 32, 32))
    results = {
        "MLP 64, batch 32": measure(mlp(64), vectors(4096, 64), 32, 4 * rounds, stack=True),
        "MLP 2 x 256, batch 256": measure(
            mlp(256, 256), vectors(4096, 64), 256, 4 * rounds, stack=True
        ),
        "TabularEncoder (4 members), 20 columns, batch 256": measure(
            tabular, vectors(4096, 20), 256, rounds, stack=False
        ),
        "SmallCNN 32 x 32, batch 32": measure(cnn, images, 32, rounds, stack=True),
    }
    for title, tables in results.items():
        for count, table in tables.items():
            timing.show(f"{title}, {count}", table)
    if options.out:
        timing.write(options.out, {"tables": results})


if __name__ == "__main__":
    main()
