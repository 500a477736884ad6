"""Groups from the gains of a few sets of tasks that are trained, and a model of all other sets.

Shape legend: T tasks, S sets of tasks, C candidate sets.
"""

from __future__ import annotations

import copy
import time

import torch
from torch import Tensor

from polytask.grouping.affinity_grouper import AffinityGrouper, refuse
from polytask.grouping.base import Affinity, GroupScores
from polytask.grouping.gain_models import GainModel, PartnerRelevance
from polytask.grouping.grouping import GroupingCost
from polytask.grouping.learner import Learner
from polytask.grouping.scores import TableScores, all_sets, sets_of_size
from polytask.grouping.trained_gains import measure_losses, relative_gains, why_not_validated
from polytask.problems.problem import Problem

__all__ = ["MeasuredFirst", "SampledGroups", "next_sets", "random_sets"]

#: Up to this many tasks random sets are drawn from the list of all.
LISTED_TASKS = 12
#: Random sets among which a later round chooses, per set to be chosen, and the least number.
CANDIDATES_PER_SET, LEAST_CANDIDATES = 50, 1000


class MeasuredFirst:
    """Measured scores of the sets that were trained, predictions of all others.

    Args:
        masks: ``[S, T]`` (bool), the sets that were trained, each once.
        gains: ``[S, T]``, what was measured; NaN outside.
        model: Predicts the others.
    """

    def __init__(self, masks: Tensor, gains: Tensor, model: GroupScores) -> None:
        self.measured = TableScores(masks, gains)
        self.model = model

    def __repr__(self) -> str:
        return f"MeasuredFirst({self.measured!r}, {self.model!r})"

    def __call__(self, masks: Tensor) -> Tensor:
        """Scores ``[S, T]`` of sets ``[S, T]``; minus infinity outside."""
        measured = self.measured(masks)
        known = measured.isfinite().any(1, keepdim=True)
        return torch.where(known, measured, self.model(masks))


class SampledGroups(AffinityGrouper):
    """Trains K T random sets of tasks, fits a model of the gains, and searches what it predicts.

    A network is trained for every task alone and for every sampled set. The gain of a task in a set
    is (L_alone - L) / L_alone with validation losses L. A gain model learns from them what each
    task would gain in any set; the groups are those with the largest mean gain. Sets that were
    trained keep the gain that was measured: on the published tables this decides better than the
    model's own opinion of them, most of all where no model predicts anything. A task alone gains 0,
    so that "do not group" is an answer.

    Args:
        model: Predicts gains; None means ``PartnerRelevance``. It is copied, not fitted itself.
        sets_per_task: K: so many networks per task are trained besides the single-task networks;
            4 is 108 sets for 27 tasks, after which ``PartnerRelevance`` orders sets better than a
            ridge after 351, the number of pairs (experiments/grouping/gains).
        rounds: In how many rounds. The sets of the first are random (the first one holds all
            tasks), those of each later round are chosen by ``next_sets`` from the model so far.

    Cost: T + min(K T, 2^T - T - 1) networks; the model's fits and the search beside them.

    Raises:
        ValueError: ``sets_per_task`` or ``rounds`` below 1.

    References:
        X. Song, S. Zheng, W. Cao, J. Yu, J. Bian: Efficient and Effective Multi-task Grouping via
        Meta Learning on Task Combinations, NeurIPS 2022 (sampled sets, a learned gain, a search).
        Li, Nguyen, Zhang: Identification of Negative Transfers in Multitask Learning Using
        Surrogate Models, TMLR 2023, https://arxiv.org/abs/2303.14582.
    """

    def __init__(
        self, *, model: GainModel | None = None, sets_per_task: int = 4, rounds: int = 1
    ) -> None:
        for name, value in (("sets_per_task", sets_per_task), ("rounds", rounds)):
            if value < 1:
                raise ValueError(f"`{name}` must be >= 1, found {value}.")
        self.model = model
        self.sets_per_task = sets_per_task
        self.rounds = rounds

    @property
    def name(self) -> str:
        return "sampled"

    def why_not(self, problem: Problem) -> str | None:
        return why_not_validated(problem)

    def models_trained(self, num_tasks: int) -> int:
        return num_tasks + self._num_sets(num_tasks)

    def affinity(
        self, problem: Problem, *, learner: Learner | None = None, seed: int = 0
    ) -> Affinity:
        refuse(self, problem)
        tasks = tuple(task.name for task in problem.tasks)
        alone = torch.eye(len(tasks), dtype=torch.bool)
        learner = learner or Learner()
        losses, cost = measure_losses(problem, learner, alone, seed=seed)
        single = losses.diagonal()
        generator = torch.Generator().manual_seed(seed)
        masks = torch.zeros(0, len(tasks), dtype=torch.bool)
        gains = torch.zeros(0, len(tasks), dtype=torch.float64)
        model = copy.deepcopy(self.model or PartnerRelevance())
        for count in self._per_round(len(tasks)):
            new = self._next(model, masks, gains, count, generator)
            losses, spent = measure_losses(problem, learner, new, seed=seed)
            masks = torch.cat([masks, new])
            gains = torch.cat([gains, relative_gains(losses, single)])
            started = time.process_time()
            model.fit(masks, gains, seed=seed)
            cost += spent + GroupingCost(seconds=time.process_time() - started)
        return Affinity(
            tasks,
            MeasuredFirst(masks, gains, model),
            matrix=_pair_matrix(model, len(tasks)),
            cost=cost,
            notes=(f"Gains of other sets are predicted from {len(masks)} that were trained.",),
        )

    def _num_sets(self, num_tasks: int) -> int:
        return int(min(self.sets_per_task * num_tasks, 2**num_tasks - num_tasks - 1))

    def _per_round(self, num_tasks: int) -> list[int]:
        """Sets of each round; the first rounds get what does not divide evenly."""
        rounds = min(self.rounds, self._num_sets(num_tasks))
        each, more = divmod(self._num_sets(num_tasks), rounds)
        return [each + (k < more) for k in range(rounds)]

    def _next(
        self, model: GainModel, masks: Tensor, gains: Tensor, count: int, generator: torch.Generator
    ) -> Tensor:
        num_tasks = masks.shape[1]
        if len(masks) == 0:
            everyone = torch.ones(1, num_tasks, dtype=torch.bool)
            others = random_sets(num_tasks, count - 1, generator=generator, exclude=everyone)
            return torch.cat([everyone, others])
        left = 2**num_tasks - num_tasks - 1 - len(masks)
        size = min(max(CANDIDATES_PER_SET * count, LEAST_CANDIDATES), left)
        candidates = random_sets(num_tasks, size, generator=generator, exclude=masks)
        best = gains.nan_to_num(nan=-torch.inf).max(0).values.clamp(min=0.0)
        return candidates[next_sets(model, candidates, best, count)]


def next_sets(scores: GroupScores, candidates: Tensor, best: Tensor, count: int) -> Tensor:
    """Which sets to train next: those expected to differ most from what is known to be possible.

    Args:
        scores: A fitted gain model.
        candidates: ``[C, T]`` (bool).
        best: ``[T]``, the largest gain measured so far per task.
        count: How many to choose.

    Returns:
        Rows of ``candidates`` ``[count]`` with the largest abs(sum over members of the predicted
        gain - best), the rule of MTG-Net's authors for one set at a time.
    """
    if count > len(candidates):
        raise ValueError(f"`count` is {count}, but there are {len(candidates)} candidate sets.")
    differences = (scores(candidates) - best).masked_fill(~candidates, 0.0)
    return differences.sum(1).abs().topk(count).indices


def random_sets(
    num_tasks: int,
    count: int,
    *,
    generator: torch.Generator,
    exclude: Tensor | None = None,
) -> Tensor:
    """Different sets ``[count, T]`` of at least two tasks: the size is uniform, then the members.

    Args:
        num_tasks: T.
        count: How many.
        generator: Where the randomness comes from.
        exclude: ``[S, T]``, sets that are not to be drawn.

    Raises:
        ValueError: There are fewer sets than that.
    """
    seen = {tuple(row) for row in ([] if exclude is None else exclude.tolist())}
    available = 2**num_tasks - num_tasks - 1 - sum(sum(row) > 1 for row in seen)
    if count > available:
        raise ValueError(f"`count` is {count}, but there are only {available} sets of two or more.")
    if num_tasks <= LISTED_TASKS:
        return _listed(num_tasks, count, generator, seen)
    found: list[Tensor] = []
    while len(found) < count:
        size = int(torch.randint(2, num_tasks + 1, (), generator=generator))
        members = torch.randperm(num_tasks, generator=generator)[:size]
        mask = torch.zeros(num_tasks, dtype=torch.bool).index_fill_(0, members, True)
        key = tuple(mask.tolist())
        if key not in seen:
            seen.add(key)
            found.append(mask)
    return torch.stack(found) if found else torch.zeros(0, num_tasks, dtype=torch.bool)


def _listed(
    num_tasks: int, count: int, generator: torch.Generator, seen: set[tuple[bool, ...]]
) -> Tensor:
    """The same law from the list of all sets, which ends however few are left."""
    every = all_sets(num_tasks)
    keep = torch.tensor([sum(row) > 1 and tuple(row) not in seen for row in every.tolist()])
    every = every[keep]
    if count == 0:
        return every[:0]
    sizes = every.sum(1)
    weights = 1 / sizes.bincount(minlength=num_tasks + 1)[sizes].to(torch.float64)
    return every[torch.multinomial(weights, count, generator=generator)]


def _pair_matrix(model: GainModel, num_tasks: int) -> Tensor:
    """Predicted gains in pairs ``[T, T]``, entry (i, j): what i does for j; 0 for j alone."""
    pairs = sets_of_size(num_tasks, 2)
    gains = model(pairs)
    first, second = pairs.nonzero()[:, 1].view(-1, 2).T
    rows = torch.arange(len(pairs))
    matrix = torch.zeros(num_tasks, num_tasks, dtype=torch.float64)
    matrix[first, second] = gains[rows, second]
    matrix[second, first] = gains[rows, first]
    return matrix
