"""Groups of tasks whose labels, or whose models' predictions, go together.

Shape legend: T tasks, N rows, C columns of numbers of one task.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from statistics import NormalDist
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from polytask.grouping.affinity_grouper import AffinityGrouper
from polytask.grouping.base import Affinity
from polytask.grouping.grouping import GroupingCost
from polytask.grouping.learner import Learner
from polytask.grouping.pairs import pair_affinity, too_few_tasks
from polytask.problems.problem import Problem
from polytask.tasks import Binary, Kind, Multiclass, Regression
from polytask.training.prediction import predict_outputs

__all__ = ["LabelCorrelation", "PredictionCorrelation", "association"]

#: Rows that are in double precision at a time.
CHUNK = 8192
#: Probability that chance alone brings any pair of unrelated tasks above the score of a task alone.
CHANCE = 0.05


def association(columns: Sequence[Tensor], *, absolute: bool = True) -> Tensor:
    """How strongly every two tasks go together, in [0, 1] (numbers with sign: [-1, 1]).

    One rule for all kinds: the root mean square of the canonical correlations between the columns
    of the two tasks,

        A_ij^2 = tr(S_ii^+ S_ij S_jj^+ S_ji) / min(rank S_ii, rank S_jj),

    with the covariances S over the rows where both tasks have a value, and the pseudo-inverse
    ``^+``. It is the absolute Pearson correlation for two numbers (phi for two yes-or-no tasks),
    the correlation ratio for a number and one-hot classes, and Cramér's V for two sets of classes.

    Args:
        columns: Per task ``[N, C]``; a row that has a NaN is missing.
        absolute: False keeps the sign of correlations between two single columns; other pairs have
            none.

    Returns:
        ``[T, T]`` in double precision; NaN where a task is constant over the common rows or there
        are fewer than two.

    Cost: single columns: one matrix product (five where values are missing) for all pairs; others:
        a product per pair.

    Example:
        >>> yes_no = torch.tensor([[0.0], [0.0], [1.0], [1.0]])
        >>> association([yes_no, 1 - yes_no], absolute=False).tolist()
        [[1.0, -1.0], [-1.0, 1.0]]
    """
    matrix = torch.full((len(columns), len(columns)), torch.nan, dtype=torch.float64)
    single = [i for i, own in enumerate(columns) if own.shape[1] == 1]
    if single:
        numbers = torch.cat([columns[i] for i in single], dim=1)
        pearson = _pearson(numbers if numbers.is_floating_point() else numbers.double())
        place = torch.tensor(single)
        matrix[place[:, None], place] = pearson.abs() if absolute else pearson
    for i in set(range(len(columns))) - set(single):
        for j, other in enumerate(columns):
            if other.shape[1] == 1 or j <= i:
                matrix[i, j] = matrix[j, i] = _canonical(columns[i], other)
    return matrix


class LabelCorrelation(AffinityGrouper):
    """Groups tasks by the correlation of their labels in the training rows; trains nothing.

    A_ij is ``association`` of the two tasks' labels: ``|phi|`` or ``|Pearson|``, correlation ratio,
    or Cramér's V, over the rows that have both labels.

    Args:
        absolute: Whether complements count as related, as they should: "living" and "not living"
            need the same features, and a linear head turns one into the other. False keeps signs.
        alone: Score of a task without partners. None is what chance reaches: the correlation that
            the largest of all pairs of unrelated tasks exceeds with probability 0.05, so that
            unrelated tasks stay alone.

    Differences: none known; the idea has no single source. Labels say what tasks have in common,
        not whether a network gains by learning them together.

    Cost: no model; one matrix product for numbers and yes-or-no tasks.

    References:
        A. Sherif, A. Abid, M. Elattar, M. ElHelw, STG-MTL: Scalable Task Grouping for Multi-Task
        Learning Using Data Maps, 2023, https://arxiv.org/abs/2307.03374 (related work).
        H. Cramér, Mathematical Methods of Statistics, Princeton, 1946, section 21.9 (V).
    """

    def __init__(self, *, absolute: bool = True, alone: float | None = None) -> None:
        self.absolute = absolute
        self.alone = alone

    @property
    def name(self) -> str:
        return "label-correlation"

    def why_not(self, problem: Problem) -> str | None:
        return _cannot_correlate(problem, "labels")

    def models_trained(self, num_tasks: int) -> int:
        del num_tasks
        return 0

    def affinity(
        self, problem: Problem, *, learner: Learner | None = None, seed: int = 0
    ) -> Affinity:
        del learner, seed
        started = time.process_time()
        train = problem.train
        columns = [
            _label_columns(task.kind, train.piece(task.name).targets[task.name])
            for task in train.tasks
        ]
        matrix = association(columns, absolute=self.absolute)
        cost = GroupingCost(seconds=time.process_time() - started)
        return _to_affinity(problem, columns, matrix, cost, self.alone)


class PredictionCorrelation(AffinityGrouper):
    """Groups tasks by the correlation of what models predict for them on the validation rows.

    A_ij is ``association`` of the predicted numbers and class probabilities. Predictions leave out
    the part of the labels that the inputs do not explain, and exist for rows without labels.

    Args:
        source: "single": a network per task; "joint": one network of all tasks, whose shared trunk
            makes predictions more alike than tasks are.
        absolute: As for ``LabelCorrelation``.
        alone: As for ``LabelCorrelation``; models of unrelated tasks on the same inputs can
            correlate by more than chance, so consider a larger number.

    Differences: none known; the idea has no single source.

    Cost: T networks of one task each, or one.

    Raises:
        ValueError: A source that does not exist.

    References:
        A. Sherif, A. Abid, M. Elattar, M. ElHelw, STG-MTL: Scalable Task Grouping for Multi-Task
        Learning Using Data Maps, 2023, https://arxiv.org/abs/2307.03374 (related work).
    """

    def __init__(
        self,
        *,
        source: Literal["single", "joint"] = "single",
        absolute: bool = True,
        alone: float | None = None,
    ) -> None:
        if source not in ("single", "joint"):
            raise ValueError(f"`source` must be 'single' or 'joint', found {source!r}.")
        self.source = source
        self.absolute = absolute
        self.alone = alone

    @property
    def name(self) -> str:
        return "prediction-correlation"

    def why_not(self, problem: Problem) -> str | None:
        return _cannot_correlate(problem, "predictions")

    def models_trained(self, num_tasks: int) -> int:
        return num_tasks if self.source == "single" else 1

    def affinity(
        self, problem: Problem, *, learner: Learner | None = None, seed: int = 0
    ) -> Affinity:
        chosen = learner or Learner()
        names = [task.name for task in problem.tasks]
        cost = GroupingCost()
        outputs: dict[str, Tensor] = {}
        for group in [names] if self.source == "joint" else [[name] for name in names]:
            part = problem if self.source == "joint" else problem.select_tasks(group)
            trained = chosen.train(part, seed=seed)
            outputs.update(predict_outputs(trained.architecture, part.validation))
            cost = cost + trained.cost
        columns = []
        for task in problem.tasks:
            probabilities = task.probabilities(outputs[task.name])
            # The last class is 1 minus the others: the same information, and phi for two classes.
            found = outputs[task.name] if probabilities is None else probabilities[:, 1:]
            columns.append(found)
        matrix = association(columns, absolute=self.absolute)
        return _to_affinity(problem, columns, matrix, cost, self.alone)


def _cannot_correlate(problem: Problem, what: str) -> str | None:
    if problem.layout != "shared":
        return f"Correlating {what} needs common rows, and every task has rows of its own here."
    for task in problem.tasks:
        if not isinstance(task.kind, (Regression, Binary, Multiclass)):
            return (
                f"Task {task.name!r} is a {type(task.kind).__name__}; correlating {what} needs a"
                " number or a class per row."
            )
    return too_few_tasks(problem)


def _label_columns(kind: Kind, target: Tensor) -> Tensor:
    """Labels ``[N]`` (``[N, size]``) as columns ``[N, C]``, NaN where missing."""
    missing = kind.missing(target)
    if isinstance(kind, Multiclass):
        index = target.long().clamp_min(0)
        columns = functional.one_hot(index, kind.num_classes)[:, 1:].float()
    else:
        columns = target.float().reshape(len(target), -1)
    return columns.masked_fill(missing[:, None], torch.nan)


def _to_affinity(
    problem: Problem,
    columns: Sequence[Tensor],
    matrix: Tensor,
    cost: GroupingCost,
    alone: float | None,
) -> Affinity:
    """With the scores of tasks alone at chance level, or where the user has put them."""
    tasks = [task.name for task in problem.tasks]
    scores = _chance_levels(columns) if alone is None else alone
    return pair_affinity(tasks, matrix, cost=cost, alone=scores)


def _chance_levels(columns: Sequence[Tensor]) -> Tensor:
    """About what the largest association ``[T]`` of unrelated tasks stays below with probability
    1 - ``CHANCE``: a correlation over n rows has deviation n^-1/2, and C columns have C^1/2 of it.
    """
    pairs = max(1, len(columns) * (len(columns) - 1) // 2)
    quantile = NormalDist().inv_cdf(1 - CHANCE / (2 * pairs))
    rows = torch.tensor([int((~own.isnan()).all(1).sum()) for own in columns])
    widths = torch.tensor([own.shape[1] for own in columns])
    return (quantile * (widths.double() / rows.clamp_min(1)).sqrt()).clamp_max(1.0)


def _pearson(values: Tensor) -> Tensor:
    """Correlations ``[C, C]`` of single columns ``[N, C]`` over the rows that both have."""
    size = values.shape[1]
    shift = values.nanmean(0).nan_to_num().double()  # any will do; this one keeps sums small
    incomplete = bool(values.isnan().any())
    counts, sums, squares, products = torch.zeros(4, size, size, dtype=torch.float64).unbind()
    for chunk in values.split(CHUNK):
        seen = ~chunk.isnan()
        rows = torch.where(seen, chunk.double() - shift, 0.0)
        products += rows.mT @ rows
        if incomplete:
            mask = seen.double()
            counts += mask.mT @ mask
            sums += rows.mT @ mask
            squares += rows.square().mT @ mask
        else:  # the same rows for every pair
            counts += len(rows)
            sums += rows.sum(0)[:, None]
            squares += rows.square().sum(0)[:, None]
    covariance = products - sums * sums.mT / counts
    variance = squares - sums.square() / counts
    # What rounding leaves of the variance of a constant.
    least = 1e-12 * squares + 1e-26 * counts * shift.square()[:, None]
    scale = torch.where((variance > least) & (counts >= 2), variance.rsqrt(), torch.nan)
    correlation: Tensor = (covariance * scale * scale.mT).clamp(-1, 1)
    return correlation


def _canonical(first: Tensor, second: Tensor) -> float:
    """Root mean square of the canonical correlations over the rows that both have."""
    both = ~(first.isnan().any(1) | second.isnan().any(1))
    x, y = (columns[both].double() for columns in (first, second))
    if len(x) < 2:
        return torch.nan
    x, y = _orthonormal(x), _orthonormal(y)
    least = min(x.shape[1], y.shape[1])
    return (
        torch.nan if least == 0 else float(((x.mT @ y).square().sum() / least).sqrt().clamp_max(1))
    )


def _orthonormal(columns: Tensor) -> Tensor:
    """An orthonormal basis ``[N, rank]`` of the centred columns."""
    centred = columns - columns.mean(0)
    values, vectors = torch.linalg.eigh(centred.mT @ centred)
    kept = (values > 1e-10 * values.max()) & (values > 1e-26 * columns.square().sum())
    basis: Tensor = centred @ (vectors[:, kept] / values[kept].sqrt())
    return basis
