"""Every exported balancer, and main variants, against every check."""

from __future__ import annotations

from typing import ClassVar

import pytest

from polytask.balancers import Balancer, GramBalancer, JacobianBalancer, LossBalancer
from polytask.checks import balancers as checks


def cases():
    for method in checks.public_balancers():
        for check in checks.CHECKS:
            reason = method.exceptions.get(check.__name__)
            marks = [pytest.mark.xfail(reason=reason)] if reason else []
            yield pytest.param(
                method, check, id=f"{method.__name__}-{check.__name__[6:]}", marks=marks
            )


@pytest.mark.parametrize(("method", "check"), list(cases()))
def test_conforms(method, check):
    check(method.example)


def test_the_exports_hold_balancers_of_each_family():
    found = checks.public_balancers()
    for family in (LossBalancer, GramBalancer, JacobianBalancer):
        assert [method for method in found if issubclass(method, family)]


def test_exceptions_name_checks_and_give_reasons():
    names = {check.__name__ for check in checks.CHECKS}
    for method in checks.public_balancers():
        assert set(method.exceptions) <= names
        assert all(len(reason) > 20 for reason in method.exceptions.values())


class Careless(LossBalancer):
    """A balancer that breaks most rules, to see that the checks notice."""

    scale_invariant = True

    def weights(self, losses, tasks=None):
        return losses.float() - losses[0]


@pytest.mark.parametrize(
    "check",
    [
        checks.check_precision,
        checks.check_documentation,
        checks.check_permutation,
    ],
)
def test_checks_find_a_careless_balancer(check):
    with pytest.raises(AssertionError):
        check(Careless)


class AlwaysMean(GramBalancer):
    """Declares what it does not keep."""

    non_conflicting = True
    stationary_fixed_point = True
    cost = "T"

    def weights(self, gram, losses=None):
        return gram.new_full(gram.shape[:-1], 1 / gram.shape[-1])


@pytest.mark.parametrize(
    "check", [checks.check_non_conflicting, checks.check_stationary_fixed_point]
)
def test_checks_find_a_false_declaration(check):
    with pytest.raises(AssertionError):
        check(AlwaysMean)


def test_check_balancer_names_the_balancer_and_the_check():
    with pytest.raises(AssertionError, match=r"^Careless fails `check_"):
        checks.check_balancer(Careless())
    with pytest.raises(AssertionError, match="AlwaysMean fails `check_non_conflicting`: cos"):
        checks.check_balancer(AlwaysMean())


class Excused(AlwaysMean):
    """Keeps its word but for what it is excused from."""

    non_conflicting = False
    cost = "T + 1"
    exceptions: ClassVar = {"check_stationary_fixed_point": "the mean does not vanish there"}


def test_check_balancer_leaves_out_what_the_class_is_excused_from():
    checks.check_balancer(Excused())


class Broken(LossBalancer):
    """Fails with an error of its own."""

    def weights(self, losses, tasks=None):
        raise KeyError("nothing")


class Secretive(LossBalancer):
    """Keeps its argument under another name."""

    def __init__(self, *, power=1.0):
        super().__init__()
        self.exponent = power

    def weights(self, losses, tasks=None):
        return losses**self.exponent


def test_check_balancer_explains_balancers_that_cannot_be_run():
    with pytest.raises(AssertionError, match="Broken fails `check_finite_on_zoo` with KeyError"):
        checks.check_balancer(Broken())
    with pytest.raises(AssertionError, match=r"Secretive does not keep every .* argument"):
        checks.check_balancer(Secretive())


class Forgetful(Balancer):
    """Overwrites gradients."""

    def fill_gradients(self, step):
        for parameter in step.shared:
            parameter.grad = None
        step.losses.mean().backward()
        return step.losses.detach() * 0 + 1 / len(step.losses)


def test_checks_find_overwritten_gradients():
    with pytest.raises(AssertionError, match="overwritten"):
        checks.check_accumulates(Forgetful)
