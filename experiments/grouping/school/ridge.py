"""Mean-regularised ridge in closed form: any group of tasks fitted, and judged, in milliseconds.

Shape legend: T tasks, S sets of tasks, F folds, D features with the constant, N rows.

A set of tasks has weights w_t = w_0 + v_t that minimise

    sum_t |y_t - X_t w_t|^2 + common |w_0|^2 + own sum_t |v_t|^2.

With G_t = X_t^T X_t and b_t = X_t^T y_t the v_t drop out, and what is left is one system of D
equations per set:

    (common I + sum_t own (G_t + own I)^-1 G_t) w_0 = sum_t own (G_t + own I)^-1 b_t,
    w_t = w_0 + (G_t + own I)^-1 (b_t - G_t w_0).

T. Evgeniou, M. Pontil, Regularized multi-task learning, KDD 2004.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from polytask.candidates.method import Budget, FitRecord
from polytask.grouping.grouping import Grouping
from polytask.grouping.search import best_groups
from polytask.problems.problem import Problem
from polytask.problems.splits import AnySplit, SeparateSplit
from polytask.tasks import Regression

Rule = Literal["together", "alone", "random", "k-means", "search"]

#: Penalties that cross-validation chooses among, of w_0 and of the v_t.
COMMON = (1.0, 10.0, 100.0)
OWN = (30.0, 100.0, 300.0, 1000.0, 3000.0)
FOLDS = 5
#: Sets that are judged in one go.
CHUNK = 512


@dataclass(frozen=True)
class Rows:
    """Inputs ``[N_t, D]``, standardised over all tasks and with the constant last, and centred
    targets ``[N_t]`` per task.

    Args:
        shift: Means of the raw inputs.
        scale: Their standard deviations, 1 where a column is constant.
        level: Mean of the raw targets.
    """

    inputs: Sequence[Tensor]
    targets: Sequence[Tensor]
    shift: Tensor
    scale: Tensor
    level: float

    @classmethod
    def of(cls, inputs: Sequence[Tensor], targets: Sequence[Tensor]) -> Rows:
        """From raw rows."""
        pooled = torch.cat(list(inputs)).double()
        spread = pooled.std(0, correction=0)
        scale = torch.where(spread > 1e-9, spread, 1.0)
        shift, level = pooled.mean(0), float(torch.cat(list(targets)).double().mean())
        scaled = [with_constant(x, shift, scale) for x in inputs]
        return cls(scaled, [y.double() - level for y in targets], shift, scale, level)


def with_constant(inputs: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """Standardised inputs ``[N, D]`` with a column of ones."""
    scaled = (inputs.double() - shift) / scale
    return torch.cat([scaled, torch.ones_like(scaled[:, :1])], dim=1)


@dataclass(frozen=True)
class Moments:
    """G ``[..., T, D, D]``, b ``[..., T, D]``, sums of squared targets and counts ``[..., T]``."""

    gram: Tensor
    cross: Tensor
    squares: Tensor
    counts: Tensor

    @classmethod
    def by_fold(cls, rows: Rows, seed: int) -> Moments:
        """``[F, T, ...]``: every task's rows dealt out to the folds at random."""
        generator = torch.Generator().manual_seed(seed)
        parts = []
        for x, y in zip(rows.inputs, rows.targets, strict=True):
            folds = torch.randperm(len(y), generator=generator) % FOLDS
            inside = [(x[folds == f], y[folds == f]) for f in range(FOLDS)]
            parts.append(
                [(a.mT @ a, a.mT @ b, b @ b, torch.tensor(float(len(b)))) for a, b in inside]
            )
        return cls(
            *(
                torch.stack([torch.stack([fold[k] for fold in task]) for task in parts], dim=1)
                for k in range(4)
            )
        )

    def sum(self) -> Moments:
        """Of all folds."""
        return Moments(*(value.sum(0) for value in vars(self).values()))

    def without_each(self) -> Moments:
        """All folds but one, for every fold."""
        return Moments(*(value.sum(0) - value for value in vars(self).values()))


@dataclass(frozen=True)
class Solver:
    """One set's weights need a sum over its tasks and one small system.

    Args:
        left: own (G_t + own I)^-1 G_t ``[T, D, D]``.
        right: own (G_t + own I)^-1 b_t ``[T, D]``.
        own: Penalty of the v_t.
    """

    left: Tensor
    right: Tensor
    own: float

    @classmethod
    def of(cls, moments: Moments, own: float) -> Solver:
        """For the training rows of these moments."""
        eye = torch.eye(moments.gram.shape[-1], dtype=torch.float64)
        both = torch.cat([moments.gram, moments.cross.unsqueeze(-1)], dim=-1)
        solved = own * torch.linalg.solve(moments.gram + own * eye, both)
        return cls(solved[..., :-1], solved[..., -1], own)

    def shared(self, masks: Tensor, common: float) -> Tensor:
        """w_0 ``[S, D]`` of sets ``[S, T]``."""
        size = self.left.shape[-1]
        inside = masks.double()
        left = (inside @ self.left.flatten(1)).reshape(-1, size, size)
        return torch.linalg.solve(
            left + common * torch.eye(size, dtype=torch.float64), inside @ self.right
        )

    def weights(self, shared: Tensor) -> Tensor:
        """w_t ``[T, D]`` of all tasks for one w_0 ``[D]``."""
        return shared + (self.right - self.left @ shared) / self.own


class CrossValidation:
    """Exact cross-validated errors of any set of tasks.

    The squared error of task t on a fold is a quadratic function of w_0, whose coefficients do not
    depend on the set: they are computed once, and a set costs a product per fold.
    """

    def __init__(self, folds: Moments) -> None:
        self.counts = folds.counts.sum(0)
        self._training = folds.without_each()
        self._folds = folds
        self._parts = {own: self._quadratics(own) for own in OWN}

    def errors(self, masks: Tensor, common: float, own: float) -> Tensor:
        """Mean squared errors ``[S, T]`` of all tasks, each as if it were in the set (only members
        have been learned from).
        """
        found = torch.zeros(masks.shape, dtype=torch.float64)
        for solver, constant, linear, square in self._parts[own]:
            for chosen in torch.arange(len(masks)).split(CHUNK):
                shared = solver.shared(masks[chosen], common)
                outer = (shared[:, :, None] * shared[:, None, :]).flatten(1)
                found[chosen] += constant + shared @ linear.mT + outer @ square.flatten(1).mT
        return found / self.counts

    def best_penalties(self, mask: Tensor) -> tuple[float, float]:
        """The penalties ``(common, own)`` with the smallest error over the rows of a set."""
        errors = {
            (common, own): float(
                (self.errors(mask[None], common, own)[0] * self.counts)[mask].sum()
            )
            for own in OWN
            for common in COMMON
        }
        return min(errors, key=errors.__getitem__)

    def _quadratics(self, own: float) -> list[tuple[Solver, Tensor, Tensor, Tensor]]:
        """Per fold the solver, and c_t, l_t, Q_t of the error c + l^T w_0 + w_0^T Q w_0."""
        found = []
        for fold in range(FOLDS):
            kept = Moments(*(value[fold] for value in vars(self._training).values()))
            held = Moments(*(value[fold] for value in vars(self._folds).values()))
            solver = Solver.of(kept, own)
            eye = torch.eye(kept.gram.shape[-1], dtype=torch.float64)
            base, turn = solver.right / own, eye - solver.left / own  # w_t = base + turn w_0
            residual = held.cross - (held.gram @ base[..., None])[..., 0]
            constant = held.squares - (base * (held.cross + residual)).sum(-1)
            linear = -2 * (residual[:, None] @ turn)[:, 0]
            found.append((solver, constant, linear, turn.mT @ held.gram @ turn))
        return found


class ExactGains:
    """``GroupScores``: what a set does for its members, as the share of a task's cross-validated
    root mean squared error alone that it takes away.
    """

    def __init__(self, judge: CrossValidation) -> None:
        self.judge = judge
        number = len(judge.counts)
        self.penalties = judge.best_penalties(torch.ones(number, dtype=torch.bool))
        self.alone_penalties = best_alone(judge)
        singles = torch.eye(number, dtype=torch.bool)
        self.alone = judge.errors(singles, *self.alone_penalties).diagonal().sqrt()

    def __call__(self, masks: Tensor) -> Tensor:
        """Scores ``[S, T]``, minus infinity outside; a task alone has gain 0."""
        gains = 1 - self.judge.errors(masks, *self.penalties).sqrt() / self.alone
        gains = torch.where(masks.sum(1, keepdim=True) == 1, 0.0, gains)
        return gains.masked_fill(~masks, -torch.inf)


def best_alone(judge: CrossValidation) -> tuple[float, float]:
    """The penalties that are best for all tasks, each alone, in sum."""
    singles = torch.eye(len(judge.counts), dtype=torch.bool)
    errors = {
        (common, own): float((judge.errors(singles, common, own).diagonal() * judge.counts).sum())
        for own in OWN
        for common in COMMON
    }
    return min(errors, key=errors.__getitem__)


@dataclass(frozen=True)
class Learned:
    """Weights ``[T, D]``, the groups that they come from, how long finding the groups took, and the
    mean gain over the tasks that cross-validation promises for them (``ExactGains``).
    """

    weights: Tensor
    grouping: Grouping
    grouping_seconds: float
    promised: float


def learn(rows: Rows, rule: Rule, num_groups: int, seed: int) -> Learned:
    """Group the tasks by a rule, then fit every group with penalties of its own.

    "alone" uses the same penalties for all tasks: choosing them per school from a few dozen rows
    does worse. Everything is found in these rows.
    """
    folds = Moments.by_fold(rows, seed)
    judge = CrossValidation(folds)
    started = time.process_time()
    grouping = group_tasks(judge, folds, rule, num_groups, seed)
    seconds = time.process_time() - started
    assert grouping.serving is not None
    weights = torch.zeros(folds.cross.shape[1:], dtype=torch.float64)
    total = folds.sum()
    alone = best_alone(judge) if rule == "alone" else None
    for mask, served in zip(grouping.memberships.mT > 0.5, grouping.serving.mT > 0.5, strict=True):
        common, own = alone or judge.best_penalties(mask)
        solver = Solver.of(total, own)
        weights[served] = solver.weights(solver.shared(mask[None], common)[0])[served]
    gains = ExactGains(judge)(grouping.memberships.mT > 0.5)
    promised = float(gains.gather(0, torch.tensor([grouping.assignment])).mean())
    return Learned(weights, grouping, seconds, promised)


def group_tasks(
    judge: CrossValidation, folds: Moments, rule: Rule, num_groups: int, seed: int
) -> Grouping:
    """The groups of a rule; tasks are called by their numbers."""
    number = len(judge.counts)
    names = [str(t) for t in range(number)]
    if rule == "together" or number == 1:
        return Grouping.together(names)
    if rule == "alone":
        return Grouping.alone(names)
    if rule == "search":
        # More starts take minutes over all splits and promise little more.
        choice = best_groups(ExactGains(judge), number, num_groups, seed=seed, restarts=2)
        serving = torch.nn.functional.one_hot(choice.serving, len(choice.groups))
        return Grouping(tuple(names), choice.groups.mT.double(), serving.double(), method=rule)
    if rule == "random":
        generator = torch.Generator().manual_seed(seed)
        labels = torch.randperm(number, generator=generator) % num_groups
    else:
        from sklearn.cluster import KMeans

        singles = torch.eye(number, dtype=torch.bool)
        common, own = best_alone(judge)
        solver = Solver.of(folds.sum(), own)
        own_weights = torch.stack(
            [solver.weights(w)[t] for t, w in enumerate(solver.shared(singles, common))]
        )
        means = KMeans(num_groups, n_init=10, random_state=seed).fit(own_weights.numpy())
        labels = torch.from_numpy(means.labels_).long()
    kept = [g for g in range(num_groups) if bool((labels == g).any())]
    groups = [[names[t] for t in (labels == g).nonzero().flatten().tolist()] for g in kept]
    return Grouping.from_groups(names, groups, method=rule)


class RidgeMethod:
    """``learn`` as a method of ``compare``: a problem whose tasks have rows of their own and the
    same columns. It looks at training rows only.

    Args:
        rule: How tasks are grouped inside the method, because groups that are found in the rows
            differ from split to split.
        num_groups: Of "random", "k-means" and "search".
    """

    def __init__(self, *, rule: Rule = "together", num_groups: int = 1) -> None:
        self.rule: Rule = rule
        self.num_groups = num_groups

    def config(self, num_tasks: int) -> dict[str, Any]:
        """Plain values that fix the results."""
        del num_tasks
        grid = {"common": COMMON, "own": OWN, "folds": FOLDS}
        return {"method": "ridge", "rule": self.rule, "num_groups": self.num_groups, **grid}

    def why_not(self, problem: Problem) -> str | None:
        """Why it cannot learn this problem."""
        if problem.layout != "separate":
            return "every task needs rows of its own"
        if not all(isinstance(task.kind, Regression) for task in problem.tasks):
            return "every task must be a number"
        return None

    def fit(self, problem: Problem, *, seed: int, budget: Budget, rate: float = 1.0) -> FittedRidge:
        """In closed form."""
        del budget, rate
        started = time.process_time()
        raw = [raw_rows(problem.train, task.name) for task in problem.tasks]
        rows = Rows.of([x for x, _ in raw], [y for _, y in raw])
        learned = learn(rows, self.rule, self.num_groups, seed)
        seconds = time.process_time() - started
        sizes = sorted((len(group) for group in learned.grouping.groups), reverse=True)
        record = FitRecord(
            seconds=seconds,
            steps=0,
            epochs=0,
            learning_rate=0.0,
            stopped_by="closed form",
            device="cpu",
            notes=(f"groups of {sizes}",) if self.rule not in ("together", "alone") else (),
        )
        names = [task.name for task in problem.tasks]
        return FittedRidge(dict(zip(names, learned.weights, strict=True)), rows, record)


@dataclass(frozen=True)
class FittedRidge:
    """Weights ``[D]`` per task."""

    weights: Mapping[str, Tensor]
    rows: Rows
    record: FitRecord

    @property
    def num_parameters(self) -> int:
        """All weights."""
        return sum(w.numel() for w in self.weights.values())

    def outputs(self, split: AnySplit) -> Mapping[str, Tensor]:
        """Encoded predictions ``[N_t, 1]``."""
        assert isinstance(split, SeparateSplit)
        found = {}
        for name, w in self.weights.items():
            part = split.parts[name]
            kind = part.tasks[0].kind
            assert isinstance(part.inputs, Tensor)
            inputs = with_constant(part.inputs, self.rows.shift, self.rows.scale)
            raw = inputs @ w + self.rows.level
            found[name] = torch.from_numpy(kind.encode(raw.numpy()))[:, None]
        return found

    def save(self, folder: Path) -> None:
        """There is nothing to serve."""
        raise ValueError("the ridge of this experiment is not served")


def raw_rows(split: AnySplit, name: str) -> tuple[Tensor, Tensor]:
    """Inputs and decoded targets of a task."""
    assert isinstance(split, SeparateSplit)
    part = split.parts[name]
    target = part.tasks[0].kind.decode(part.targets[name].numpy())
    return part.inputs, torch.from_numpy(target)
