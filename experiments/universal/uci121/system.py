"""The joint system: one NeighbourEnsemble on all tables, its answers mixed per table.

All tables learn together first; then those of many rows, which need more steps, go on together.

Five folds of the rows to learn from (training and validation rows). Member m learns from the rows
outside fold m mod 5, so every row has members that never saw it. At some steps of the one training
run the heads' and the neighbours' probabilities are kept: for every row to learn from those of the
members that did not see it, for every test row those of all members. The mixture of these answers
is chosen per table on the rows to learn from alone.

Shape legend: T tables, B rows of each in a step, N rows of a table, M members, C classes, A kept
answers (three per kept step).
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from experiments.universal.uci121.joint import learn
from torch import Tensor
from torch.nn import functional

from polytask.architectures.variables.neighbour_ensemble import NeighbourEnsemble
from polytask.problems import Problem
from polytask.problems.table_stream import TableBatchSplit, TableBatchStream

FOLDS = 5
#: Factors of the sharpness of neighbours for further answers, and answers per kept step.
SHARPER = (4.0,)
ANSWERS = 2 + len(SHARPER)
#: Parameters that weight decay acts on.
MATRICES = ("weight", "head", "inner", "outer", "key")


@dataclass(frozen=True)
class Table:
    """Rows of one set: to learn from, with their folds, and to test on."""

    inputs: Tensor
    classes: Tensor
    folds: Tensor
    test_inputs: Tensor
    test_classes: Tensor
    num_classes: int


@dataclass(frozen=True)
class Plan:
    """How long and how large.

    Attributes:
        steps: Of all tables together, with ``rows`` of each.
        later_steps: Of the tables with at least ``large`` rows, with ``later_rows`` of each.
        kept: Shares of the steps after which answers are kept. Early ones matter: before much is
            learned, neighbours are those of the expanded rows.
        later_kept: The same in the second phase.
        prior: See ``mixture``.
        judged: Most rows per table that the mixture is chosen on.
        remembered: Most rows per table that neighbours are found among in evaluation.
    """

    steps: int = 500
    rows: int = 48
    later_steps: int = 300
    later_rows: int = 96
    large: int = 1000
    members: int = 5
    hidden: int = 64
    depth: int = 2
    dropout: float = 0.35
    learning_rate: float = 2e-3
    weight_decay: float = 0.1
    warmup: int = 30
    kept: tuple[float, ...] = (0.04, 0.15, 0.4, 1.0)
    later_kept: tuple[float, ...] = (0.5, 1.0)
    prior: float = 10.0
    judged: int = 1000
    remembered: int = 4000
    shared: bool = True
    seed: int = 0


@dataclass
class Answers:
    """Kept probabilities of one table: of judged rows by members that did not see them, of test
    rows by all members.
    """

    rows: np.ndarray
    unseen: np.ndarray  # [A, N, C]
    test: dict[str, np.ndarray]  # name of a version of the test rows to [A, N, C]


def tables_of(problem: Problem, seed: int) -> dict[str, Table]:
    """The sets of a problem whose training rows include the validation rows."""
    found = {}
    for task in problem.tasks:
        train, test = (s.parts[task.name] for s in (problem.train, problem.test))
        classes = train.targets[task.name]
        found[task.name] = Table(
            inputs=train.inputs,
            classes=classes,
            folds=stratified(classes, seed),
            test_inputs=test.inputs,
            test_classes=test.targets[task.name],
            num_classes=task.kind.output_size,
        )
    return found


def stratified(classes: Tensor, seed: int) -> Tensor:
    """A fold of every row, with the rows of every class spread evenly."""
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(classes), generator=generator)
    order = order[torch.sort(classes[order], stable=True).indices]
    folds = torch.empty(len(classes), dtype=torch.int64)
    folds[order] = torch.arange(len(classes)) % FOLDS
    return folds


def train(
    problem: Problem,
    tables: Mapping[str, Table],
    plan: Plan,
    test_versions: Mapping[str, Mapping[str, Tensor]],
) -> tuple[dict[str, Answers], dict[str, float]]:
    """One run; answers at the kept steps, and facts about the run.

    Args:
        problem: Its training rows are those to learn from.
        tables: The same, with folds.
        plan: Of the run.
        test_versions: Name of a version to ``{set: test rows}``.
    """
    torch.manual_seed(plan.seed)
    model = NeighbourEnsemble(
        tasks=problem.tasks,
        columns={name: table.inputs.shape[1] for name, table in tables.items()},
        members=plan.members,
        hidden=plan.hidden,
        depth=plan.depth,
        dropout=plan.dropout,
        folds=FOLDS,
        shared=plan.shared,
    )
    generator = torch.Generator().manual_seed(plan.seed)
    kept = {name: _some(len(t.classes), plan.remembered, generator) for name, t in tables.items()}
    # The edges of the steps see all rows; neighbours are then looked for among some of them.
    whole = {name: torch.arange(len(table.classes)) for name, table in tables.items()}
    for chosen in (whole, {n: rows for n, rows in kept.items() if len(rows) < len(whole[n])}):
        model.remember(
            {n: tables[n].inputs[rows] for n, rows in chosen.items()},
            {n: tables[n].classes[rows] for n, rows in chosen.items()},
            {n: tables[n].folds[rows] for n, rows in chosen.items()},
        )
    optimizer = _optimizer(model, plan)
    data = TableBatchSplit(problem.train)
    judged = {n: _some(len(t.classes), plan.judged, generator) for n, t in tables.items()}
    answers = {
        n: Answers(judged[n].numpy(), np.empty(0), dict.fromkeys(test_versions, np.empty(0)))
        for n in tables
    }
    started, evaluating = time.process_time(), 0.0
    for phase in phases(tables, plan):
        for step in run_phase(model, optimizer, data, tables, phase, plan):
            if step in phase.stops:
                before = time.process_time()
                keep(model, {n: tables[n] for n in phase.names}, answers, test_versions)
                evaluating += time.process_time() - before
                print(f"step {step}: unseen rows {_unseen(answers, tables):.2f}", flush=True)
    facts = {
        "parameters": sum(p.numel() for p in model.parameters()),
        "shared_parameters": sum(p.numel() for p in model.shared_parameters()),
        "processor_seconds": time.process_time() - started,
        "of_them_evaluating": evaluating,
    }
    return answers, facts


@dataclass(frozen=True)
class Phase:
    """Steps of some tables.

    Attributes:
        names: The tables.
        steps: Number of steps.
        rows: Of each table per step.
        stops: Steps after which answers are kept.
    """

    names: tuple[str, ...]
    steps: int
    rows: int
    stops: tuple[int, ...]


def phases(tables: Mapping[str, Table], plan: Plan) -> list[Phase]:
    """All tables, then the large ones."""

    def stops(steps: int, shares: tuple[float, ...]) -> tuple[int, ...]:
        return tuple(sorted({max(1, round(share * steps)) for share in shares}))

    large = tuple(name for name, table in tables.items() if len(table.classes) >= plan.large)
    first = Phase(tuple(tables), plan.steps, plan.rows, stops(plan.steps, plan.kept))
    if not large or not plan.later_steps:
        return [first]
    later = stops(plan.later_steps, plan.later_kept)
    return [first, Phase(large, plan.later_steps, plan.later_rows, later)]


def run_phase(
    model: NeighbourEnsemble,
    optimizer: torch.optim.Optimizer,
    data: TableBatchSplit,
    tables: Mapping[str, Table],
    phase: Phase,
    plan: Plan,
) -> Iterator[int]:
    """Take the steps of a phase; the number of each after it."""
    places = torch.tensor([data.places[name] for name in phase.names])
    stream = TableBatchStream(data.counts[places], phase.rows, plan.seed)
    folds = [tables[name].folds for name in phase.names]
    every = torch.arange(len(places))
    for step in range(1, phase.steps + 1):
        for group in optimizer.param_groups:
            group["lr"] = plan.learning_rate * schedule(step, phase.steps, plan.warmup)
        rows = stream.draw(every)
        batch = data.batch(phase.names, rows)
        fold = torch.stack([f[r] for f, r in zip(folds, rows, strict=True)])
        use = fold != model.held_out[:, None, None]
        optimizer.zero_grad(set_to_none=True)
        _loss(model, batch.inputs, batch.targets, use, rows, phase.names).backward()
        optimizer.step()
        yield step


def schedule(step: int, steps: int, warmup: int) -> float:
    """Linear warm-up, then a cosine to a twentieth."""
    return min(1.0, step / warmup) * (0.05 + 0.475 * (1 + math.cos(math.pi * step / steps)))


@torch.no_grad()
def keep(
    model: NeighbourEnsemble,
    tables: Mapping[str, Table],
    answers: Mapping[str, Answers],
    test_versions: Mapping[str, Mapping[str, Tensor]],
) -> None:
    """Append the present probabilities of judged and of test rows."""
    model.eval()
    for name, table in tables.items():
        own = answers[name]
        found = _probabilities(model, name, table.inputs[own.rows])
        unseen = (table.folds[own.rows] == model.held_out[:, None]).to(found.dtype)
        weights = unseen / unseen.sum(0)
        own.unseen = _append(own.unseen, (found * weights[None, :, :, None]).sum(1))
        for version, inputs in test_versions.items():
            if name in inputs:
                test = _probabilities(model, name, inputs[name]).mean(1)
                own.test[version] = _append(own.test[version], test)
    model.train()


def mixture(unseen: np.ndarray, classes: np.ndarray, prior: float, rounds: int = 60) -> np.ndarray:
    """Weights ``[A]`` of the answers: the most probable ones given the rows and a Dirichlet prior
    of ``prior`` rows that speak for equal weights (expectation maximisation).
    """
    likely = np.clip(unseen[:, np.arange(len(classes)), classes], 0.01, 1.0)
    weights = np.full(len(unseen), 1 / len(unseen))
    for _ in range(rounds):
        shares = weights[:, None] * likely
        weights = (shares / shares.sum(0)).sum(1) + prior / len(unseen)
        weights /= weights.sum()
    return weights


def mixed_unseen(table: Table, answers: Answers, prior: float) -> np.ndarray:
    """Probabilities of judged rows, with weights chosen on the other folds' rows."""
    classes, folds = table.classes[answers.rows].numpy(), table.folds[answers.rows].numpy()
    found = np.empty(answers.unseen.shape[1:])
    for fold in np.unique(folds):
        rest = folds != fold
        weights = mixture(answers.unseen[:, rest], classes[rest], prior)
        found[~rest] = np.tensordot(weights, answers.unseen[:, ~rest], 1)
    return found


def accuracy(probabilities: np.ndarray, classes: Tensor | np.ndarray) -> float:
    """Share of rows whose most probable class is theirs."""
    return float((probabilities.argmax(-1) == np.asarray(classes)).mean())


def _loss(
    model: NeighbourEnsemble,
    inputs: Mapping[str, Tensor],
    targets: Mapping[str, Tensor],
    use: Tensor,
    rows: Tensor,
    names: Sequence[str],
) -> Tensor:
    """Mean over tables and answers of the mean cross-entropy of the rows that count."""
    outputs = learn(model, inputs, targets, use, rows)
    places = {name: k for k, name in enumerate(names)}
    total = use.new_zeros((), dtype=torch.float32)
    for block_names, block in outputs.blocks:
        chosen = torch.tensor([places[name] for name in block_names])
        classes = torch.stack([targets[name] for name in block_names], dim=1)  # [B, K]
        counts = use[:, chosen].transpose(1, 2).to(block.dtype)  # [M, B, K]
        counts = counts / counts.sum(1, keepdim=True).clamp_min(1.0)
        index = classes.long().expand(block.shape[:-1]).unsqueeze(-1)
        losses = -functional.log_softmax(block, -1).gather(-1, index).squeeze(-1)
        total = total + (losses * counts.repeat(2, 1, 1)).sum()
    return total / (len(names) * 2 * model.members)


def _optimizer(model: NeighbourEnsemble, plan: Plan) -> torch.optim.Optimizer:
    matrices, rest = [], []
    for name, parameter in model.named_parameters():
        is_matrix = any(part in MATRICES for part in name.split("."))
        (matrices if is_matrix else rest).append(parameter)
    groups = [
        {"params": matrices, "weight_decay": plan.weight_decay},
        {"params": rest, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=plan.learning_rate, betas=(0.9, 0.99), fused=True)


def _probabilities(model: NeighbourEnsemble, name: str, rows: Tensor) -> Tensor:
    """``[3, M, B, C]``: heads, neighbours, sharper neighbours."""
    parts = [model.answers(name, part, sharper=SHARPER).softmax(-1) for part in rows.split(2000)]
    return torch.cat(parts, dim=1).unflatten(0, (ANSWERS, model.members))


def _unseen(answers: Mapping[str, Answers], tables: Mapping[str, Table]) -> float:
    """Mean accuracy in per cent of the latest answers, of rows by members that did not see them."""
    own = [
        accuracy(a.unseen[-ANSWERS:].mean(0), tables[n].classes[a.rows])
        for n, a in answers.items()
        if a.unseen.size
    ]
    return 100 * sum(own) / len(own)


def _some(count: int, most: int, generator: torch.Generator) -> Tensor:
    return torch.randperm(count, generator=generator)[:most].sort().values


def _append(before: np.ndarray, now: Tensor) -> np.ndarray:
    values = now.numpy().astype(np.float32)
    return values if before.size == 0 else np.concatenate([before, values])
