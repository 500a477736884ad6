"""What every balancer must satisfy.

``check_balancer`` runs everything on a balancer of yours and says what is wrong::

    from polytask.checks.balancers import check_balancer

    check_balancer(MyBalancer(step_size=0.1))

A single check takes an *example*, a function that makes a small fresh balancer (the classmethod
``Balancer.example``, or a function of yours), and raises ``AssertionError`` with a sentence that
says what is wrong. ``CHECKS`` holds all of them. Checks of a declared property
(``scale_invariant`` and the like) pass on balancers that do not declare it.
"""

from __future__ import annotations

from collections.abc import Callable

from polytask.balancers import Balancer
from polytask.checks.balancers.examples import Example, public_balancers
from polytask.checks.balancers.gradients import (
    check_accumulates,
    check_channels_last,
    check_cost,
    check_gradients_match_weights,
    check_loss_scale,
    check_missing_tasks,
    check_single_task,
    check_writes_only_gradients,
    check_zero_gradient_keeps_head,
)
from polytask.checks.balancers.interface import (
    check_bad_values,
    check_documentation,
    check_options,
    check_round_trips,
)
from polytask.checks.balancers.network import ToyNetwork
from polytask.checks.balancers.promises import (
    check_non_conflicting,
    check_scale_invariance,
    check_stationary_fixed_point,
)
from polytask.checks.balancers.weights import (
    check_batches,
    check_finite_on_zoo,
    check_permutation,
    check_precision,
)
from polytask.config import arguments

__all__ = [
    "CHECKS",
    "HOUSE_CHECKS",
    "Example",
    "ToyNetwork",
    "check_accumulates",
    "check_bad_values",
    "check_balancer",
    "check_batches",
    "check_channels_last",
    "check_cost",
    "check_documentation",
    "check_finite_on_zoo",
    "check_gradients_match_weights",
    "check_loss_scale",
    "check_missing_tasks",
    "check_non_conflicting",
    "check_options",
    "check_permutation",
    "check_precision",
    "check_round_trips",
    "check_scale_invariance",
    "check_single_task",
    "check_stationary_fixed_point",
    "check_writes_only_gradients",
    "check_zero_gradient_keeps_head",
    "public_balancers",
]

#: All checks but those of ``HOUSE_CHECKS``, in the order in which they are worth reading.
_GENERAL: tuple[Callable[[Example], None], ...] = (
    check_finite_on_zoo,
    check_writes_only_gradients,
    check_gradients_match_weights,
    check_permutation,
    check_precision,
    check_cost,
    check_batches,
    check_scale_invariance,
    check_non_conflicting,
    check_stationary_fixed_point,
    check_single_task,
    check_missing_tasks,
    check_zero_gradient_keeps_head,
    check_accumulates,
    check_loss_scale,
    check_channels_last,
    check_options,
    check_round_trips,
    check_bad_values,
)
#: What only the balancers of Polytask itself must satisfy: the sections of their docstrings.
HOUSE_CHECKS: tuple[Callable[[Example], None], ...] = (check_documentation,)
CHECKS = (*_GENERAL, *HOUSE_CHECKS)


def check_balancer(balancer: Balancer) -> None:
    """Run every check that applies on a balancer of yours.

    Args:
        balancer: As its constructor made it; it is not used itself but made anew from its arguments
            for every check. Checks that its class names in ``exceptions`` are left out, as are
            those of declared properties that it does not declare and ``HOUSE_CHECKS``.

    Raises:
        AssertionError: At the first check that fails, with the check's name and what is wrong.

    Cost: some seconds.

    Example:
        >>> from polytask.balancers import PCGrad
        >>> check_balancer(PCGrad(seed=1))
    """
    method = type(balancer)
    try:
        given = arguments(balancer)
    except AttributeError as error:
        raise AssertionError(
            f"{method.__name__} does not keep every constructor argument under its own name, so it"
            f" cannot be made anew: {error}."
        ) from error
    for check in _GENERAL:
        if check.__name__ in method.exceptions:
            continue
        try:
            check(lambda: method(**given))
        except AssertionError as error:
            raise AssertionError(f"{method.__name__} fails `{check.__name__}`: {error}") from error
        except Exception as error:
            raise AssertionError(
                f"{method.__name__} fails `{check.__name__}` with {type(error).__name__}: {error}"
            ) from error
