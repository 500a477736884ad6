"""Every exported balancer, and main variants, against every check."""

from __future__ import annotations

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
