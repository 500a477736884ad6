"""Candidates: names, groups, defaults."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
from tests.evaluation.helpers import FakeMethod, tiny_problem

from polytask import balancers, candidates
from polytask.candidates.boosting import BoostingMethod
from polytask.candidates.candidate import Candidate, candidate_by_name, default_candidates
from polytask.candidates.naming import NamedMethod, plain_name
from polytask.candidates.network import NetworkMethod
from polytask.grouping import Grouping
from polytask.problems import Problem
from polytask.tasks import Regression

TASKS = ("a", "b", "c")


def test_groups():
    method = FakeMethod()
    assert Candidate("x", method).groups_of(TASKS) == (TASKS,)
    assert Candidate("x", method, "single").groups_of(TASKS) == (("a",), ("b",), ("c",))
    grouped = Candidate("x", method, [["c", "a"], ["b"]])
    assert grouped.groups_of(TASKS) == (("a", "c"), ("b",))


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ([["a", "b"]], "task 'c' in 0 groups"),
        ([["a", "b", "c"], ["a"]], "task 'a' in 2 groups"),
        ([["a", "b", "c", "d"]], "a task 'd'"),
    ],
)
def test_groups_must_hold_each_task_once(groups, message):
    with pytest.raises(ValueError, match=message):
        Candidate("x", FakeMethod(), groups).groups_of(TASKS)


@pytest.mark.parametrize("name", ["pcgrad", "PCGrad", "pc-grad", "shared: pcgrad"])
def test_balancers_in_any_spelling(name):
    candidate = candidate_by_name(name)
    assert candidate.name == "shared: pcgrad"
    assert isinstance(candidate.method.balancer, balancers.PCGrad)


def test_short_names():
    for name in ("uncertainty", "UncertaintyWeighting", "uncertainty_weighting"):
        assert candidate_by_name(name).name == "shared: uncertainty"
    assert candidate_by_name("single-task").groups == "single"
    assert isinstance(candidate_by_name("boosting").method, BoostingMethod)


def test_every_exported_balancer_has_a_name_or_needs_arguments():
    named = 0
    for export in balancers.__all__:
        value = getattr(balancers, export)
        if not inspect.isclass(value) or not issubclass(value, balancers.Balancer):
            continue
        if inspect.isabstract(value):
            continue
        try:
            candidate = candidate_by_name(export)
        except ValueError as error:
            assert "needs arguments" in str(error)
        else:
            assert type(candidate.method.balancer).__name__ == export
            named += 1
    assert named >= 3


def test_unknown_names_are_answered_with_the_known_ones():
    with pytest.raises(ValueError, match=r"No candidate 'magic'; choose from .*pcgrad"):
        candidate_by_name("magic")


class Oracle(FakeMethod, NamedMethod):
    """All that a new method needs to be asked for by name."""

    @classmethod
    def named(cls, name, architecture):
        return ("oracle", cls(quality=9.0), None) if plain_name(name) == "oracle" else None

    @classmethod
    def names(cls):
        return ["oracle"]


def test_a_method_from_outside_says_what_it_is_called():
    candidate = candidate_by_name("Oracle")
    assert (candidate.name, candidate.method.quality) == ("oracle", 9.0)
    with pytest.raises(ValueError, match=r"choose from .*, oracle\.$"):
        candidate_by_name("magic")


def test_every_name_means_one_method_which_is_exported():
    methods = [m for m in NamedMethod.__subclasses__() if m.__module__.startswith("polytask.")]
    assert all(getattr(candidates, method.__name__) is method for method in methods)
    names = [name for method in methods for name in method.names()]
    assert len(names) == len(set(names)) > 50
    for name in names:
        try:
            found = [method for method in methods if method.named(name, None) is not None]
        except ValueError as error:
            assert "needs arguments" in str(error)
        else:
            assert len(found) == 1, name


def test_a_balancer_that_needs_arguments_says_so():
    with pytest.raises(ValueError, match="FixedWeights needs arguments"):
        candidate_by_name("fixed")


def test_defaults_follow_the_problem():
    names = [candidate.name for candidate in default_candidates(tiny_problem())]
    assert names == [
        "single-task", "boosting", "shared: equal", "shared: uncertainty", "shared: pcgrad",
    ]  # fmt: skip
    alone = tiny_problem().select_tasks(["sum"])
    assert [c.name for c in default_candidates(alone)] == ["single-task", "boosting"]
    rng = np.random.default_rng(0)
    images = rng.normal(size=(20, 3, 40, 40))
    targets = {"a": images[:, 0, 0, 0], "b": images[:, 1, 0, 0]}
    kinds = {"a": Regression(), "b": Regression()}
    found = default_candidates(Problem.from_arrays(images, targets, kinds))
    assert "boosting" not in [candidate.name for candidate in found]


def test_bad_candidates_are_named():
    with pytest.raises(ValueError, match="non-empty name"):
        Candidate("", NetworkMethod())
    with pytest.raises(TypeError, match="`method` must be a method"):
        Candidate("x", balancers.Equal())
    whole = Grouping.together(TASKS)
    with pytest.raises(TypeError, match=r"use Candidate\.from_grouping\(name, grouping\)"):
        Candidate("x", NetworkMethod(), whole)
