"""What stands under tables and figures: how they were computed."""

from __future__ import annotations

import math

from polytask.report.data import CosineMatrix, TaskGroups
from polytask.report.figures.cosines import conflicts
from polytask.report.formats import number, shorten

__all__ = ["COST", "CURVE", "GAIN", "LEADERBOARD", "WEIGHT", "cosines", "groups"]

LEADERBOARD = (
    "Means over seeds on the test rows, with 95 % intervals (Student's t). Δm is the mean over"
    " tasks of the relative gain over the baseline, in percent; p is of a paired t test over seeds,"
    " adjusted by Holm's method for the number of candidates. Win: percent of the tasks on which"
    " the candidate alone is best; best: ties count for all. Mean rank: 0 is best. Normalised: 0"
    " for the worst and 100 for the best candidate of each task, averaged. Arrows point to better."
)
COST = (
    "Parameters, training time and prediction time of all models of a candidate together, mean over"
    " seeds; for trees, parameters are thresholds and leaf values. Times were taken while other"
    " runs may have used the machine. Memory: the most that one process held while it trained one"
    " of the models."
)
GAIN = (
    "Relative gain of the test score, (candidate − baseline) / |baseline| in percent, with the sign"
    " turned where lower is better; mean over seeds with Student's 95 % interval of the per-seed"
    " gains, not corrected for the number of tasks. Diamond: mean over all tasks, Δm. Tasks are"
    " sorted by their mean gain. An arrow at the edge: the value or its interval goes on beyond"
    " the axis."
)
CURVE = (
    "Loss per epoch, averaged over the tasks (each task's loss has equal weight, whatever the"
    " balancer does); thin lines are seeds, thick ones their mean. Where tasks are learned by"
    " several models, their losses are averaged at equal epochs; a training that has stopped keeps"
    " its last value. For boosting an epoch is one iteration, and only validation is recorded."
    " Losses of different kinds of models need not be comparable; their scores are."
)
WEIGHT = (
    "Weight of a task divided by the sum of the sizes of all weights, mean over the steps of an"
    " epoch and over seeds. Dotted: equal shares. Up to six tasks are named (those that end highest"
    " and lowest); the others are grey."
)


def cosines(found: CosineMatrix) -> str:
    """What a matrix of cosines shows, with its lowest entries in words."""
    lowest = [
        f"{shorten(a, 32)} with {shorten(b, 32)} ({number(c, 2)})" for a, b, c in conflicts(found)
    ]
    words = f" Lowest here: {'; '.join(lowest)}." if lowest else ""
    return (
        "Cosine between the tasks' gradients on the shared parameters, mean over the looks during"
        " training and over seeds. Below 0 (orange) a step that helps one task hurts the other;"
        f" above 0 (blue) it helps both; near 0 they do not touch.{words}"
    )


def groups(found: TaskGroups) -> str:
    """What a matrix of memberships shows, and how far the seeds agree."""
    words = ""
    if not math.isnan(found.agreement):
        words = (
            f" Agreement of the seeds' groups (adjusted Rand index, 1: the same, 0: chance):"
            f" {number(found.agreement, 2)}."
        )
    return (
        f"Weight of each task's loss in the network of each group, as found with seed {found.seed}"
        f" on training and validation rows.{words}"
    )
