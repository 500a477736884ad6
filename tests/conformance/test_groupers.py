"""Every exported grouper, and main variants, against every check."""

from __future__ import annotations

import functools

import pytest

from polytask.checks import groupers as checks
from polytask.grouping import ESA, STG, TAG, GradientSimilarity, Grouping, RandomGroups

VARIANTS = {
    "STG-single": functools.partial(STG, source="single"),
    "STG-fuzzy": functools.partial(STG, clustering="fuzzy", fuzzifier=1.5),
    "TAG-first-order": functools.partial(TAG, mode="first-order"),
    "TAG-last": functools.partial(TAG, scope="last", every=2),
    "GradientSimilarity-features": functools.partial(GradientSimilarity, scope="features"),
    "ESA-pairs": functools.partial(ESA, pairs_only=True, fraction=0.5),
    "RandomGroups-soft": functools.partial(RandomGroups, kind="soft"),
    "RandomGroups-ensemble": functools.partial(RandomGroups, kind="ensemble"),
}
EXAMPLES = {found.__name__: found for found in checks.public_groupers()} | VARIANTS


@pytest.mark.parametrize("check", checks.CHECKS, ids=lambda check: check.__name__[6:])
@pytest.mark.parametrize("name", EXAMPLES)
def test_conforms(name, check):
    check(EXAMPLES[name])


class Careless(RandomGroups):
    """Breaks most rules, to see that the checks notice."""

    def find(self, problem, *, learner=None, num_groups=None, seed=0):
        if learner is not None:
            learner.train(problem)
        label = int(problem.test.targets[problem.tasks[1].name].sum()) % 2
        groups = [[task.name] for task in problem.tasks[: 3 + label]]
        groups[-1] += [task.name for task in problem.tasks[3 + label :]]
        return Grouping.from_groups([task.name for task in problem.tasks], groups, method="other")


@pytest.mark.parametrize(
    "check",
    [
        checks.check_groups_every_task,
        checks.check_number_of_groups,
        checks.check_cost,
        checks.check_refuses_what_it_cannot,
        checks.check_round_trips,
    ],
)
def test_checks_find_a_careless_grouper(check):
    with pytest.raises((AssertionError, NameError)):
        check(Careless)
