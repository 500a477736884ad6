"""What every way of grouping tasks must satisfy.

A check takes an *example*, a function that makes a grouper (its class, where it needs no
arguments), and raises ``AssertionError`` with a sentence that says what is wrong. ``CHECKS`` holds
all of them::

    for check in polytask.checks.groupers.CHECKS:
        check(MyGrouper)

Shape legend: T tasks.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from polytask import grouping
from polytask.architectures import HardSharing
from polytask.encoders import MLP
from polytask.grouping.base import Grouper
from polytask.grouping.grouping import Grouping
from polytask.grouping.learner import Learner
from polytask.problems.problem import Problem
from polytask.problems.splits import Split
from polytask.tasks import Binary, Kind, Regression
from polytask.training.settings import TrainingSettings

__all__ = ["CHECKS", "Example", "public_groupers", "toy_learner", "toy_problem"]

Example = Callable[[], Grouper]


def public_groupers() -> list[type[Grouper]]:
    """The concrete groupers among the exports of ``polytask.grouping``."""
    exported = [getattr(grouping, name) for name in grouping.__all__]
    return [
        item
        for item in exported
        if isinstance(item, type)
        and issubclass(item, Grouper)
        and not getattr(item, "__abstractmethods__", None)
    ]


def toy_problem(num_tasks: int = 4, *, spoilt_test: bool = False) -> Problem:
    """Tasks of two kinds that agree or do not, on 80 rows, some labels missing.

    Args:
        num_tasks: T.
        spoilt_test: Turn the labels of the test rows round, which must not change a grouping.
    """
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(80, 4, generator=generator)
    targets, kinds = {}, dict[str, Kind]()
    for k in range(num_tasks):
        values = inputs[:, k % 2] + 0.3 * torch.randn(80, generator=generator)
        targets[f"task {k}"] = (values > 0).float() if k % 2 else values
        kinds[f"task {k}"] = Binary() if k % 2 else Regression()
    targets["task 0"][::9] = torch.nan
    problem = Problem.from_arrays(inputs, targets, kinds)
    if spoilt_test:
        assert isinstance(problem.test, Split)
        for _, block in problem.test.targets.blocks:
            block.copy_(block.flip(0))
    return problem


def toy_learner() -> Learner:
    """A network of 8 units, two epochs."""

    def network(problem: Problem) -> HardSharing:
        return HardSharing(encoder=MLP(input_size=4, widths=(8, 8)), tasks=problem.tasks)

    return Learner(architecture=network, settings=TrainingSettings(epochs=2, batch_size=16))


def check_groups_every_task(example: Example) -> None:
    """The grouping has the problem's tasks in order, each served by a group that trains it."""
    problem = toy_problem()
    found = _find(example, problem)
    assert isinstance(found, Grouping), f"find must return a Grouping, not {found!r}"
    names = tuple(task.name for task in problem.tasks)
    assert found.tasks == names, f"the tasks are {names}, the grouping has {found.tasks}"
    assert found.method == example().name, f"method is {found.method!r}, not {example().name!r}"


def check_number_of_groups(example: Example) -> None:
    """No more groups than asked for; without a number the grouper chooses one itself."""
    found = _find(example, toy_problem(), num_groups=2)
    assert found.num_groups <= 2, f"2 groups were asked for, {found.num_groups} found"
    assert _find(example, toy_problem(), num_groups=None).num_groups >= 1


def check_cost(example: Example) -> None:
    """As many networks are trained as declared, and counted."""
    learner, trained = toy_learner(), []
    train = learner.train

    def counting(*args: object, **options: object) -> object:
        trained.append(1)
        return train(*args, **options)  # type: ignore[arg-type]

    learner.train = counting  # type: ignore[assignment, method-assign]
    problem = toy_problem()
    found = example().find(problem, learner=learner, num_groups=2)
    declared = example().models_trained(len(problem.tasks))
    assert len(trained) == declared, f"{len(trained)} networks were trained, {declared} declared"
    assert found.cost.models == declared, f"cost says {found.cost.models} models, not {declared}"
    assert (found.cost.steps > 0) == (declared > 0), f"cost says {found.cost.steps} steps"


def check_deterministic(example: Example) -> None:
    """One seed gives one grouping, and the caller's random state stays as it was."""
    before = torch.get_rng_state()
    first, second = (_find(example, toy_problem(), num_groups=2, seed=3) for _ in range(2))
    assert torch.equal(torch.get_rng_state(), before), "the global random state has changed"
    assert torch.equal(first.memberships, second.memberships), "the same seed, another grouping"


def check_never_looks_at_test_rows(example: Example) -> None:
    """Other labels in the test rows leave the grouping as it is."""
    clean = _find(example, toy_problem(), num_groups=2)
    spoilt = _find(example, toy_problem(spoilt_test=True), num_groups=2)
    assert torch.equal(clean.memberships, spoilt.memberships), "test labels change the grouping"


def check_leaves_the_problem(example: Example) -> None:
    """Inputs and targets are as they were."""
    problem = toy_problem()
    before = problem.fingerprint()
    _find(example, problem, num_groups=2)
    assert problem.fingerprint() == before, "the problem has been changed"


def check_refuses_what_it_cannot(example: Example) -> None:
    """Impossible numbers of groups are refused before anything is trained."""
    for number in (0, 99):
        learner = toy_learner()
        learner.train = _must_not_train  # type: ignore[assignment, method-assign]
        try:
            example().find(toy_problem(), learner=learner, num_groups=number)
        except ValueError as error:
            assert str(number) in str(error), f"the error does not say {number}: {error}"
        else:
            assert number > 4, f"{number} groups were accepted"


def check_round_trips(example: Example) -> None:
    """The ``repr`` of a grouper evaluates to an equal one, with the names of its package."""
    text = repr(example())
    again = eval(text, dict(vars(grouping)))
    assert repr(again) == text, f"{text} evaluates to {again!r}"


def _find(
    example: Example, problem: Problem, *, num_groups: int | None = 2, seed: int = 0
) -> Grouping:
    return example().find(problem, learner=toy_learner(), num_groups=num_groups, seed=seed)


def _must_not_train(*args: object, **options: object) -> None:
    raise AssertionError("a network is trained before the arguments are checked")


#: All checks, in the order in which they are worth reading.
CHECKS: tuple[Callable[[Example], None], ...] = tuple(
    value for name, value in list(globals().items()) if name.startswith("check_")
)
