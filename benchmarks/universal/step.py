"""A training step of a model over many tables at once, against a loop over the tables.

    python benchmarks/universal/step.py [--rounds 20] [--threads 1] [--out step.json]

A hundred tables of 3 to 262 columns and 2 to 100 classes (UCI-121 where the data is there, else
random tables of such shapes). A step is forward, loss, backward and optimiser. The loops compute
the same mathematics with the same weights, table by table, on dense tensors [rows, columns, units];
before anything is timed, losses and gradients are compared. Of the Traveling Observer there are two
loops: "loop" applies the maps of an embedding once per variable and broadcasts them over the rows,
as the packed step does; "loop, per cell" has an embedding beside every number, as the formulas
FiLM(h, z) are written. The goal is a fifth of the loop's time. How long it takes to make the
batches is measured apart.
"""

from __future__ import annotations

import copy
import dataclasses
import functools
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import timing

if TYPE_CHECKING:
    from torch import Tensor, nn

    from polytask.problems.batch import Batch
    from polytask.problems.problem import Problem

UNITS = 128
DATA = Path(__file__).resolve().parents[3] / "shared" / "data" / "uci121"


def problem_of(folder: Path, tables: int) -> Problem:
    """The sets of UCI-121, or tables of such shapes: columns and classes are spread evenly on a
    logarithmic scale, in an order of their own.
    """
    import torch

    from polytask.datasets.uci121 import uci121
    from polytask.problems import Problem
    from polytask.tasks import Multiclass

    if folder.is_dir():
        names = sorted(path.stem for path in folder.glob("*.npz"))[:tables]
        return uci121(folder, sets=names)
    generator = torch.Generator().manual_seed(0)
    shares = torch.linspace(0, 1, tables)
    widths = (3 * (262 / 3) ** shares[torch.randperm(tables, generator=generator)]).round().int()
    classes = (2 * 50 ** shares[torch.randperm(tables, generator=generator)] ** 4).round().int()
    data = {}
    for number, (width, count) in enumerate(zip(widths.tolist(), classes.tolist(), strict=True)):
        inputs = torch.randn(12 * count, width, generator=generator)
        data[f"table {number}"] = (inputs, torch.arange(12 * count) % count)
    kinds = {name: Multiclass(int(target.max()) + 1) for name, (_, target) in data.items()}
    return Problem.from_separate(data, kinds, name="random tables")


# --- the same mathematics, table by table ---------------------------------------------------------


def observer_by_hand(model: Any, name: str, rows: Tensor, *, per_cell: bool = False) -> Tensor:
    """Outputs ``[B, C]`` of a ``TravelingObserver`` for one table ``[B, F]``."""
    tables = model.variables
    own, answers = tables.variables_of(name), tables.outputs_of(name)
    inputs = model.table.weight[own.start : answers.start]
    outputs = model.table.weight[answers]
    if per_cell:
        inputs, outputs = (z.expand(len(rows), -1, -1) for z in (inputs, outputs))
    hidden = model.reader(rows.unsqueeze(-1), inputs)
    for block in model.encoder_blocks:
        hidden = block(hidden, inputs)
    hidden = model.core(hidden.sum(1)).unsqueeze(1)
    for block in model.decoder_blocks:
        hidden = block(hidden, outputs)
    return model.readout(hidden, outputs).squeeze(-1)


def residual_by_hand(model: Any, name: str, rows: Tensor) -> Tensor:
    """Outputs ``[B, C]`` of a ``DeepResidual`` for one table ``[B, F]``."""
    tables = model.variables
    own, answers = tables.variables_of(name), tables.outputs_of(name)
    hidden = model.core(rows @ model.table.weight[own.start : answers.start])
    return hidden @ model.table.weight[answers].T


def ordering_by_hand(model: Any, name: str, rows: Tensor) -> Tensor:
    """Outputs ``[B, C]`` of a ``SoftLayerOrdering`` for one table ``[B, F]``."""
    import torch
    from torch.nn import functional

    place = model.variables.places[name]
    own, answers = model.variables.variables_of(name), model.variables.outputs_of(name)
    hidden = rows @ model.table.weight[own.start : answers.start]
    for depth in range(model.depth):
        units = functional.linear(hidden, model.layers.weight.flatten(0, 1))
        units = functional.relu(units + model.layers.bias.flatten()).view(
            len(rows), model.depth, -1
        )
        share = torch.softmax(model.layers.scores[place, depth], 0)
        hidden = torch.einsum("d,bdh->bh", share, units)
    first = int(model.variables.num_outputs[:place].sum())
    bias = model.output_bias[first : first + answers.stop - answers.start]
    return functional.linear(hidden, model.table.weight[answers], bias)


# --- contestants ----------------------------------------------------------------------------------


class Loop:
    """A step over plain tables, one after the other."""

    def __init__(self, model: nn.Module, outputs: Callable[..., Tensor], batch: Batch) -> None:
        self.model, self.outputs = model, outputs
        self.rows = {name: batch.inputs[name] for name in batch.tasks}
        self.targets = {name: batch.targets[name] for name in batch.tasks}

    def __call__(self) -> Tensor:
        import torch
        from torch.nn import functional

        losses = [
            functional.cross_entropy(self.outputs(self.model, name, rows), self.targets[name])
            for name, rows in self.rows.items()
        ]
        return torch.stack(losses)


class Packed:
    """A step over all tables in one piece."""

    def __init__(self, model: nn.Module, batch: Batch) -> None:
        from polytask.training.losses import TaskLosses

        self.model, self.batch = model, batch
        self.losses = TaskLosses(model.tasks)

    def __call__(self) -> Tensor:
        return self.losses(self.model(self.batch.inputs), self.batch)


def step_of(model: nn.Module, losses: Callable[[], Tensor]) -> Callable[[], None]:
    """Forward, loss, backward, optimiser."""
    import torch

    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        losses().mean().backward()
        optimizer.step()

    return step


def check_equal(model: nn.Module, by_hand: Callable[..., Tensor], batch: Batch) -> dict[str, float]:
    """Largest relative differences of losses and gradients, in double precision: what is left is
    mathematics, not rounding.
    """
    exact = copy.deepcopy(model).double()
    inputs = dataclasses.replace(batch.inputs, cells=batch.inputs.cells.double())
    batch = dataclasses.replace(batch, inputs=inputs)
    losses, gradients = [], []
    for contestant in (Packed(exact, batch), Loop(exact, by_hand, batch)):
        exact.zero_grad(set_to_none=True)
        found = contestant()
        found.mean().backward()
        losses.append(found.detach())
        gradients.append([p.grad for p in exact.parameters()])
    differences = {
        "losses": _difference(*losses),
        "gradients": max(_difference(a, b) for a, b in zip(*gradients, strict=True)),
    }
    if max(differences.values()) > 1e-4:
        raise AssertionError(f"The loop is not the same mathematics: {differences}.")
    return differences


def _difference(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).abs().max() / expected.abs().max().clamp_min(1e-9))


def models_of(problem: Problem) -> dict[str, tuple[nn.Module, dict[str, Callable[..., Tensor]]]]:
    """Every model with its loops; weights are moved away from where blocks are the identity."""
    import torch

    from polytask.architectures.variables.deep_residual import DeepResidual
    from polytask.architectures.variables.soft_layer_ordering import SoftLayerOrdering
    from polytask.architectures.variables.traveling_observer import TravelingObserver

    common = {"tasks": problem.tasks, "columns": problem.table_shapes(), "hidden": UNITS}
    torch.manual_seed(0)
    observer = TravelingObserver(embeddings=UNITS, **common)
    residual, ordering = DeepResidual(**common), SoftLayerOrdering(**common)
    with torch.no_grad():
        observer.table.weight.normal_(std=0.3)
        for model in (observer, residual):
            for name, parameter in model.named_parameters():
                if name.endswith("alpha"):
                    parameter.fill_(0.3)
        ordering.layers.scores.normal_()
    per_cell = functools.partial(observer_by_hand, per_cell=True)
    return {
        "traveling observer": (observer, {"loop": observer_by_hand, "loop, per cell": per_cell}),
        "deep residual": (residual, {"loop": residual_by_hand}),
        "soft layer ordering": (ordering, {"loop": ordering_by_hand}),
    }


# --- measuring ------------------------------------------------------------------------------------


def compare(
    contestants: dict[str, Callable[[], object]], *, base: str, rounds: int, inner: int = 1
) -> dict[str, dict[str, dict[str, float]]]:
    """Ratios of processor time and of wall time."""
    walls: dict[str, list[float]] = {name: [] for name in contestants}

    def clocked(name: str, call: Callable[[], object]) -> Callable[[], None]:
        def run() -> None:
            started = time.perf_counter()
            call()
            walls[name].append(time.perf_counter() - started)

        return run

    calls = {name: clocked(name, call) for name, call in contestants.items()}
    seconds = timing.take_turns(calls, rounds=rounds, warmup=2, inner=inner)
    counted = {name: values[-rounds * inner :] for name, values in walls.items()}
    return {"processor": timing.ratios(seconds, base), "wall": timing.ratios(counted, base)}


def steps(problem: Problem, *, rows: int, rounds: int) -> dict[str, Any]:
    """Every model's step, packed and as a loop, on one batch of so many rows of every table."""
    from polytask.problems.table_stream import TableBatchSplit, TableBatchStream

    split = TableBatchSplit(problem.train)
    every = list(range(len(split.names)))
    batch = split.batch(split.names, TableBatchStream(split.counts, rows, seed=0).draw(every))
    found: dict[str, Any] = {}
    for name, (model, loops) in models_of(problem).items():
        differences = {title: check_equal(model, loop, batch) for title, loop in loops.items()}
        contestants = {
            title: step_of(model, Loop(model, loop, batch)) for title, loop in loops.items()
        }
        contestants["packed"] = step_of(model, Packed(model, batch))
        found[name] = {"differences": differences}
        found[name] |= compare(contestants, base="packed", rounds=rounds)
        for clock in ("processor", "wall"):
            timing.show(f"{name}, {rows} rows of each table, {clock} time", found[name][clock])
    return found


def batches(problem: Problem, *, rows: int, rounds: int) -> dict[str, Any]:
    """Drawing a batch, in one piece and table by table."""
    from polytask.problems.loaders import BatchLoader
    from polytask.problems.table_stream import TableBatchSplit

    packed = BatchLoader(TableBatchSplit(problem.train), batch_size=rows, seed=0)
    plain = BatchLoader(problem.train, batch_size=rows, seed=0)
    contestants = {"loop": plain.draw, "packed": packed.draw}
    found = compare(contestants, base="packed", rounds=rounds, inner=5)
    timing.show(f"drawing {rows} rows of each table", found["processor"])
    return found


def main() -> None:
    arguments = timing.parser(__doc__.splitlines()[0], rounds=20)
    arguments.add_argument("--rows", type=int, nargs="+", default=[2, 8, 32])
    arguments.add_argument("--tables", type=int, default=100)
    arguments.add_argument("--data", type=Path, default=DATA)
    options = arguments.parse_args()
    timing.prepare(options.threads)
    problem = problem_of(options.data, options.tables)
    record: dict[str, Any] = {
        "tables": len(problem.tasks),
        "cells per row of all tables": sum(p.inputs.shape[1] for p in problem.train.parts.values()),
        "outputs": sum(task.kind.output_size for task in problem.tasks),
    }
    for rows in options.rows:
        record[f"{rows} rows"] = {
            "steps": steps(problem, rows=rows, rounds=options.rounds),
            "batches": batches(problem, rows=rows, rounds=options.rounds),
        }
        if options.out:
            timing.write(options.out, record)


if __name__ == "__main__":
    main()
