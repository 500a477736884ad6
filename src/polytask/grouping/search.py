"""Which groups are best, given how well every task would do in a set of tasks.

Shape legend: T tasks, S sets, m groups.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from polytask.grouping.base import Affinity, GroupScores
from polytask.grouping.grouping import Grouping
from polytask.grouping.network_selection import Selection, hoa_table, select_networks
from polytask.grouping.pair_search import PairSearch
from polytask.grouping.scores import (
    ALONE_UNKNOWN,
    PairScores,
    TableScores,
    all_sets,
    sets_of_size,
)
from polytask.grouping.set_search import SetSearch, best_rows
from polytask.grouping.subset_search import SubsetSearch

__all__ = ["Choice", "Selection", "best_groups", "find_groups", "hoa_table", "select_networks"]

#: Up to this many tasks the best groups are found exactly: 3^13 additions per number of groups.
EXACT_TASKS = 13
#: A search among known sets is that much cheaper than the others, and gets stuck that much more.
TABLE_STARTS = 8
#: Up to this many tasks the groups that PairSearch finds are improved one change at a time.
POLISHED_TASKS = 200
#: ``find_groups`` takes the fewest groups that reach this share of the gain over one group.
ENOUGH = 0.95
#: The largest number of groups that ``find_groups`` tries by itself.
MOST_GROUPS = 32
#: Scores that differ by less than this, relative to the larger, differ by rounding.
ROUNDING = 1e-12


@dataclass(frozen=True, eq=False)
class Choice:
    """Groups that a search settled for.

    Args:
        groups: ``[m, T]`` (bool); they may overlap, and a task may only help in a group.
        serving: ``[T]``, the group in which each task scores best.
        per_task: ``[T]``, those scores.
        total: Their mean.
        exact: Whether no other choice can be better.
    """

    groups: Tensor
    serving: Tensor
    per_task: Tensor
    total: float
    exact: bool


def best_groups(
    scores: GroupScores,
    num_tasks: int,
    num_groups: int,
    *,
    exact_up_to: int = EXACT_TASKS,
    seed: int = 0,
    restarts: int | None = None,
) -> Choice:
    """Choose overlapping groups that cover all tasks and maximise the mean of the tasks' scores.

    maximise over S_1 .. S_m, m <= ``num_groups``: mean over j of max over g of score(j, S_g).

    Few tasks are solved exactly by dynamic programming over subsets. Beyond that: pairs by a local
    search over partitions in which the helpers of a part are always optimal, tables by exchanging
    known sets, anything else by a local search that scores all neighbours of a set at once. Groups
    without which the score is the same are left out.

    Args:
        scores: How well each task does in a set.
        num_tasks: T.
        num_groups: The most groups, 1 .. T.
        exact_up_to: Up to this many tasks the answer is exact.
        seed: Fixes random starts; exact answers do not depend on it.
        restarts: Searches, beyond ``exact_up_to``; None means 1000 / T, at least 8.

    Raises:
        ValueError: There cannot be this many groups, or no choice of scored sets covers all tasks.

    Cost: exact: 2^T sets are scored, then 3^T additions for every number of groups. PairScores:
        seconds for a thousand tasks. Others: T sets are scored per change of a group.

    References:
        Standley et al.: Which Tasks Should Be Learned Together in Multi-task Learning? ICML 2020
        (section 5). Fifty et al.: Efficiently Identifying Task Groupings for Multi-Task Learning,
        NeurIPS 2021 (section 3.3).
    """
    if not 1 <= num_groups <= num_tasks:
        raise ValueError(
            f"`num_groups` must be 1 .. {num_tasks}, the number of tasks, found {num_groups}."
        )
    choice = _searcher(scores, num_tasks, exact_up_to, seed, restarts)(num_groups)
    if choice is None:
        raise ValueError(
            f"No {num_groups} of the sets with known scores cover all {num_tasks} tasks; allow more"
            " groups or score more sets."
        )
    return choice


def find_groups(
    affinity: Affinity, *, method: str, num_groups: int | None = None, seed: int = 0
) -> Grouping:
    """Search an affinity and make the choice a grouping.

    Every task is served by the group in which it scores best. Without a given number of groups the
    smallest is taken that reaches 95 % of what the best number tried gains over doing nothing:
    over all tasks together or, where scores of tasks alone are known, over every task alone if that
    is better. Where no number gains anything, doing nothing is the answer. The numbers 1 .. 32 are
    tried, up to T where scores of tasks alone are known and up to T / 2 otherwise (beyond 64 tasks
    in steps of a fifth).

    Args:
        affinity: What a method found out.
        method: Who found it.
        num_groups: The most groups; None chooses.
        seed: Fixes random starts of the search.

    Raises:
        ValueError: There cannot be this many groups.
    """
    scores, tasks = affinity.scores, affinity.tasks
    notes = list(affinity.notes)
    if num_groups is None:
        choice, note = _choose_number(scores, len(tasks), seed)
        notes += note
    else:
        choice = best_groups(scores, len(tasks), num_groups, seed=seed)
    if not choice.exact:
        notes.append(
            f"The groups of {len(tasks)} tasks come from a search that may miss the best ones."
        )
    served = torch.nn.functional.one_hot(choice.serving, len(choice.groups))
    return Grouping(
        tasks,
        choice.groups.T.to(torch.float64),
        served.to(torch.float64),
        method=method,
        cost=affinity.cost,
        score=choice.total,
        notes=tuple(notes),
    )


def _searcher(
    scores: GroupScores, num_tasks: int, exact_up_to: int, seed: int, restarts: int | None
) -> Callable[[int], Choice | None]:
    """From the most groups to the choice; what does not depend on their number is done once."""
    if num_tasks <= exact_up_to:
        return _exact_searcher(scores, num_tasks)
    everyone = torch.ones(1, num_tasks, dtype=torch.bool)
    searches = restarts or max(8, 1000 // num_tasks)

    def choose(num_groups: int) -> Choice | None:
        if num_groups == 1:
            return _choice(scores, everyone, exact=True)
        if isinstance(scores, TableScores):
            starts = searches * TABLE_STARTS
            rows = best_rows(scores.values, num_groups, seed=seed, restarts=starts)
            return _choice(scores, scores.masks[rows], exact=False)
        masks = _pair_groups(scores, num_tasks, num_groups, seed, searches)
        if num_tasks <= POLISHED_TASKS or not isinstance(scores, PairScores):
            # What pairs say is nearly all there is to know about PairScores, a start for others.
            again = 1 if isinstance(scores, PairScores) else searches
            masks = SetSearch(scores, num_tasks, num_groups, seed).best(masks, again)
        return _choice(scores, masks, exact=False)

    return choose


def _exact_searcher(scores: GroupScores, num_tasks: int) -> Callable[[int], Choice | None]:
    masks = all_sets(num_tasks)
    values = scores(masks).to("cpu", torch.float64)
    search = SubsetSearch(torch.cat([torch.full_like(values[:1], -torch.inf), values]))
    return lambda num_groups: _choice(scores, masks[search.groups(num_groups) - 1], exact=True)


def _pair_groups(
    scores: GroupScores, num_tasks: int, num_groups: int, seed: int, restarts: int
) -> Tensor:
    """Groups ``[k, T]`` that are good by what pairs of tasks do for each other."""
    if isinstance(scores, PairScores):
        matrix, alone = scores.matrix, scores.alone
    else:
        matrix, alone = _pair_matrix(scores, num_tasks), _diagonal(scores, num_tasks)
        lowest = float(torch.where(matrix.isfinite(), matrix, 0.0).min())
        matrix = torch.where(matrix.isfinite(), matrix, lowest).fill_diagonal_(0.0)
        alone = torch.where(alone.isfinite(), alone, lowest)
    search = PairSearch(matrix.numpy(), alone.numpy(), num_groups, seed)
    return torch.from_numpy(search.best(restarts))


def _pair_matrix(scores: GroupScores, num_tasks: int) -> Tensor:
    """Entry (i, j): the score of j with i as its only partner."""
    pairs = sets_of_size(num_tasks, 2)
    first, second = pairs.nonzero()[:, 1].reshape(-1, 2).unbind(1)
    values = scores(pairs).to("cpu", torch.float64)
    matrix = torch.zeros(num_tasks, num_tasks, dtype=torch.float64)
    matrix[first, second] = values.gather(1, second[:, None])[:, 0]
    matrix[second, first] = values.gather(1, first[:, None])[:, 0]
    return matrix


def _diagonal(scores: GroupScores, num_tasks: int) -> Tensor:
    """Each task's score alone ``[T]``."""
    return scores(torch.eye(num_tasks, dtype=torch.bool)).to("cpu", torch.float64).diagonal()


def _alone(scores: GroupScores, num_tasks: int) -> Choice | None:
    """Every task alone; None where the method says nothing about that."""
    groups, per_task = torch.eye(num_tasks, dtype=torch.bool), _diagonal(scores, num_tasks)
    if not bool((per_task > ALONE_UNKNOWN).all()):
        return None
    return Choice(groups, torch.arange(num_tasks), per_task, float(per_task.mean()), exact=True)


def _choice(scores: GroupScores, masks: Tensor, *, exact: bool) -> Choice | None:
    """Serve every task where it scores best and leave out groups that change nothing; None where a
    task is not covered.
    """
    masks = masks[masks.any(1)].unique(dim=0)
    values = scores(masks).to("cpu", torch.float64)
    if not len(masks) or bool((values == -torch.inf).all(0).any()):
        return None
    for group in range(len(masks) - 1, -1, -1):
        kept = torch.arange(len(masks)) != group
        if len(masks) > 1 and _same(values[kept].amax(0).mean(), values.amax(0).mean()):
            masks, values = masks[kept], values[kept]
    per_task, serving = values.max(0)
    return Choice(masks, serving, per_task, float(per_task.mean()), exact)


def _choose_number(scores: GroupScores, num_tasks: int, seed: int) -> tuple[Choice, list[str]]:
    """The choice with the fewest groups that reaches ``ENOUGH`` of the gain, and what to say."""
    alone = _alone(scores, num_tasks)
    most = min((num_tasks + 1) // 2 if alone is None else num_tasks, MOST_GROUPS)
    choose = _searcher(scores, num_tasks, EXACT_TASKS, seed, restarts=3)
    found = [choice for k in _numbers(most, num_tasks) if (choice := choose(k)) is not None]
    if not found:
        raise ValueError(f"No {most} of the sets with known scores cover all {num_tasks} tasks.")
    nothing, note = found[0], "No grouping scores better than all tasks together: do not group."
    if alone is not None and alone.total > nothing.total + _rounding(nothing.total):
        nothing, note = alone, "No grouping scores better than every task alone: do not group."
    top = max(choice.total for choice in found)
    if top <= nothing.total + _rounding(nothing.total):
        return nothing, [note]
    least = nothing.total + ENOUGH * (top - nothing.total)
    return next(choice for choice in found if choice.total >= least - _rounding(least)), []


def _numbers(most: int, num_tasks: int) -> list[int]:
    """Numbers of groups to try."""
    if num_tasks <= 64:
        return list(range(1, most + 1))
    steps = [1]
    while steps[-1] < most:
        steps.append(min(most, max(steps[-1] + 1, round(steps[-1] * 1.2))))
    return steps


def _same(one: Tensor, other: Tensor) -> bool:
    return bool((one - other).abs() <= _rounding(float(other)))


def _rounding(value: float) -> float:
    return ROUNDING * max(1.0, abs(value))
