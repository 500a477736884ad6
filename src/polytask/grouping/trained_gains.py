"""Validation losses of networks that were trained for the purpose, and the gains that they show.

Shape legend: T tasks, S sets of tasks.
"""

from __future__ import annotations

import torch
from torch import Tensor

from polytask.grouping.grouping import GroupingCost
from polytask.grouping.learner import Learner
from polytask.problems.problem import Problem
from polytask.training.settings import TrainingSettings

__all__ = ["measure_losses", "relative_gains", "why_not_validated"]

#: A task whose single-task loss is below this is solved already: a thousandth of a nat, or of a
#: standardised squared error, is the unit in which its gains are counted instead of its own loss.
LEAST_LOSS = 1e-3


def measure_losses(
    problem: Problem,
    learner: Learner,
    masks: Tensor,
    *,
    seed: int,
    settings: TrainingSettings | None = None,
) -> tuple[Tensor, GroupingCost]:
    """Train one network per set, all with the same seed.

    Args:
        problem: Its training and validation rows are looked at.
        learner: How networks are trained.
        masks: ``[S, T]`` (bool).
        seed: Of every network.
        settings: Instead of the learner's own.

    Returns:
        Validation losses ``[S, T]``, NaN outside the sets, and what they cost together.

    Raises:
        ValueError: A network's validation loss is not finite.
    """
    names = [task.name for task in problem.tasks]
    losses = torch.full(masks.shape, torch.nan, dtype=torch.float64)
    cost = GroupingCost()
    for row, mask in enumerate(masks.tolist()):
        group = [name for name, inside in zip(names, mask, strict=True) if inside]
        trained = learner.train(problem.select_tasks(group), seed=seed, settings=settings)
        cost += trained.cost
        for name in group:
            losses[row, names.index(name)] = trained.losses[name]
        if not bool(losses[row, masks[row]].isfinite().all()):
            raise ValueError(
                f"The network of tasks {group} has a validation loss that is not finite; lower the"
                " learning rate."
            )
    return losses, cost


def relative_gains(losses: Tensor, single: Tensor) -> Tensor:
    """By which share of the single-task loss a task's loss is lower, (L_1 - L) / max(|L_1|, 0.001).

    Args:
        losses: ``[S, T]`` or ``[T, T]`` with tasks in the last dimension.
        single: ``[T]``, losses of the single-task networks. The floor keeps a task that is solved
            already (loss 0) from dividing by nothing and from drowning all other tasks in the mean.
    """
    return (single - losses) / single.abs().clamp(min=LEAST_LOSS)


def why_not_validated(problem: Problem) -> str | None:
    """Why validation losses cannot tell the tasks apart: fewer than two tasks, or no labels."""
    if len(problem.tasks) < 2:
        return f"There is nothing to group: the problem has {len(problem.tasks)} task."
    for task in problem.tasks:
        if problem.validation.num_labels(task.name) == 0:
            return f"Task {task.name!r} has no labels in the validation rows."
    return None
