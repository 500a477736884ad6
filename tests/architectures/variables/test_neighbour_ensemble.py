"""Heads and neighbours on tables of any shape."""

from __future__ import annotations

import math

import pytest
import torch

from polytask.architectures.variables.neighbour_ensemble import NeighbourEnsemble
from polytask.checks.architectures import CHECKS
from polytask.problems import Problem, SeparateSplit, Split
from polytask.problems.table_batch import TableShape
from polytask.tasks import Binary, Depth, Multiclass, Regression, Task

TASKS = (
    Task("wide", Multiclass(3)),
    Task("narrow", Multiclass(2)),
    Task("yes", Binary()),
    Task("number", Regression()),
)
COLUMNS = {"wide": 7, "narrow": 2, "yes": 2, "number": 1}
ROWS = 6
UNLABELLED = torch.tensor([0.0, 1.0, float("nan"), 3.0])


def tables(rows: int = ROWS, seed: int = 0) -> dict[str, torch.Tensor]:
    """Random rows of every table."""
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(rows, width, generator=generator) for name, width in COLUMNS.items()}


def answers_to(rows: int = ROWS) -> dict[str, torch.Tensor]:
    """A target for every row."""
    number = torch.arange(rows)
    return {
        "wide": number % 3,
        "narrow": number % 2,
        "yes": (number % 2).float(),
        "number": number / rows,
    }


def ensemble(**changes) -> NeighbourEnsemble:
    """A small model that remembers the tables."""
    torch.manual_seed(0)
    given = {"members": 2, "hidden": 8, "steps": 3, "dropout": 0.0} | changes
    model = NeighbourEnsemble(tasks=TASKS, columns=COLUMNS, **given)
    model.remember(tables(), answers_to())
    return model


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_passes_the_checks_of_all_architectures(check):
    check(NeighbourEnsemble.example)


@pytest.mark.parametrize("check", CHECKS[1:5], ids=lambda check: check.__name__)
def test_passes_them_with_nothing_shared(check):
    def alone(tasks):
        model, inputs = NeighbourEnsemble.example(tasks)
        own = NeighbourEnsemble(tasks=tasks, columns=model.columns, hidden=6, shared=False)
        number = torch.arange(9)
        targets = {
            t.name: number % 2 if isinstance(t.kind, (Binary, Multiclass)) else number / 9
            for t in tasks
        }
        own.remember({n: torch.randn(9, x.shape[1]) for n, x in inputs.items()}, targets)
        return own, inputs

    check(alone)


def test_a_very_sharp_neighbour_answers_with_the_nearest_rows_target():
    model = ensemble().eval()
    for group in model.groups:
        torch.nn.init.constant_(group.sharpness, 12.0)
    rows, targets = tables(), answers_to()
    found = {name: model.answers(name, rows[name])[model.members :] for name in COLUMNS}
    for name in ("wide", "narrow"):
        assert torch.equal(found[name].argmax(-1), targets[name].expand(2, -1))
    assert torch.equal(found["yes"].squeeze(-1) > 0, (targets["yes"] > 0).expand(2, -1))
    torch.testing.assert_close(found["number"].squeeze(-1), targets["number"].expand(2, -1))


def test_a_neighbour_without_sharpness_answers_with_the_frequencies():
    model = ensemble().eval()
    for group in model.groups:
        torch.nn.init.constant_(group.sharpness, -math.inf)
    rows = tables(seed=1)
    votes = model.answers("wide", rows["wide"])[2:].exp()
    torch.testing.assert_close(votes, torch.full_like(votes, 1 / 3))
    numbers = model.answers("number", rows["number"])[2:]
    torch.testing.assert_close(numbers, torch.full_like(numbers, 2.5 / ROWS))


def test_a_factor_of_the_sharpness_is_a_larger_sharpness():
    model = ensemble().eval()
    rows = tables(seed=3)["wide"]
    found = model.answers("wide", rows, sharper=(4.0,))
    torch.testing.assert_close(found[:4], model.answers("wide", rows))
    for group in model.groups:
        torch.nn.init.constant_(group.sharpness, math.log(4.0))
    torch.testing.assert_close(found[4:], model.answers("wide", rows)[2:])


def test_in_training_a_row_does_not_find_itself_with_gaps_either():
    model = ensemble().train()
    for group in model.groups:
        torch.nn.init.constant_(group.sharpness, 12.0)
    rows = tables()["narrow"]
    rows[2, 1] = torch.nan
    targets = torch.tensor([0, 0, 1, 0, 0, 0])
    model.remember({"narrow": rows}, {"narrow": targets})
    assert bool((model.answers("narrow", rows)[2:, 2].argmax(-1) == 0).all())
    assert bool((model.eval().answers("narrow", rows)[2:, 2].argmax(-1) == 1).all())


def test_members_find_no_neighbours_in_their_own_fold():
    model = ensemble(folds=2).eval()
    for group in model.groups:
        torch.nn.init.constant_(group.sharpness, 12.0)
    fold = torch.arange(ROWS) % 2  # and so is the class of "narrow"
    model.remember(tables(), answers_to(), dict.fromkeys(COLUMNS, fold))
    found = model.answers("narrow", tables(seed=2)["narrow"])[2:].argmax(-1)
    assert torch.equal(found, torch.tensor([[1], [0]]).expand(2, ROWS))


def test_an_expanded_row_is_the_bent_column_and_its_steps():
    model = NeighbourEnsemble(tasks=TASKS[3:], columns={"number": 1}, steps=2, members=1)
    column = torch.tensor([[0.0], [1.0], [4.0]])
    model.remember({"number": column}, {"number": torch.zeros(3)})
    (group,) = model.groups
    values = group.expand(torch.tensor([[[0.0], [0.5], [4.0], [float("nan")]]]), None)[0]
    bent = torch.tensor([0.0, 0.5 / (1 + 1 / 36) ** 0.5, 4 / (1 + 16 / 9) ** 0.5])
    mean = (torch.tensor([0.0, 1.0, 4.0]) / (1 + torch.tensor([0.0, 1.0, 16.0]) / 9).sqrt()).mean()
    torch.testing.assert_close(values[:3, 0], bent - mean)
    # Edges 0, 1, 4: the steps of 0.5 are (1/2, 0), those of the column have the means 2/3 and 1/3.
    spread = (2 / 9) ** 0.5
    steps = torch.tensor([[-2 / 3, -1 / 3], [-1 / 6, -1 / 3], [1 / 3, 2 / 3]])
    torch.testing.assert_close(values[:3, 1:], steps * 0.6 / (0.5 * spread) ** 0.5)
    assert not bool(values[3].any())


def test_categories_and_constant_columns():
    shape = TableShape(1, (2,))
    model = NeighbourEnsemble(tasks=TASKS[3:], columns={"number": shape}, steps=2, members=1)
    rows = torch.tensor([[3.0, 0.0], [3.0, 1.0], [3.0, 1.0], [3.0, 0.0]])
    model.remember({"number": rows}, {"number": torch.zeros(4)})
    (group,) = model.groups
    values = group.expand(rows.unsqueeze(0), None)[0]
    assert not bool(values[:, :3].any())  # the constant column says nothing
    assert bool((values[:, 3] == -values[:, 4]).all()) and bool(values[:, 3].all())
    assert not bool(values[:, 5].any())  # the code that never occurs


def test_an_instance_for_a_problem_remembers_its_labelled_rows():
    rows = {"number": Split(torch.randn(4, 2), {"number": UNLABELLED}, TASKS[3:])}
    part = SeparateSplit(rows)
    problem = Problem(name="gaps", train=part, validation=part, test=part)
    model = NeighbourEnsemble.for_problem(problem)
    torch.testing.assert_close(model.memories[0].values, torch.tensor([[0.0], [1.0], [3.0]]))


def test_a_problem_whose_tasks_share_their_inputs_is_refused():
    part = Split(torch.randn(4, 2), {"number": torch.arange(4.0)}, TASKS[3:])
    problem = Problem(name="shared", train=part, validation=part, test=part)
    with pytest.raises(ValueError, match="the tasks of 'shared' share their inputs"):
        NeighbourEnsemble.for_problem(problem)


def test_without_any_neighbour_all_classes_are_alike():
    model = ensemble(folds=1).eval()
    model.remember(tables(), answers_to(), dict.fromkeys(COLUMNS, torch.zeros(ROWS)))
    votes = model.answers("wide", tables()["wide"])[2:]
    torch.testing.assert_close(votes.softmax(-1), torch.full_like(votes, 1 / 3))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"columns": {"wide": 7}}, r"no pair for \['narrow', 'number', 'yes'\]"),
        ({"columns": {**COLUMNS, "wide": 0}}, "at least one column"),
        ({"members": 0}, "`members` must be at least 1, found 0"),
        ({"steps": 0}, "`steps` must be at least 1, found 0"),
        ({"dropout": 1.5}, r"`dropout` must lie in \[0, 1\), found 1.5"),
        ({"folds": 0}, "`folds` must be at least 1"),
    ],
)
def test_bad_arguments_are_named(changes, message):
    with pytest.raises(ValueError, match=message):
        NeighbourEnsemble(**({"tasks": TASKS, "columns": COLUMNS} | changes))


def test_dense_outputs_are_refused():
    with pytest.raises(ValueError, match="'map' is a Depth"):
        NeighbourEnsemble(tasks=[Task("map", Depth())], columns={"map": 3})


def test_bad_rows_are_named():
    model = ensemble().eval()
    with pytest.raises(ValueError, match="one tensor per task"):
        model(torch.zeros(3, 7))
    with pytest.raises(ValueError, match="No table for task 'other'"):
        model({"other": torch.zeros(3, 7)})
    with pytest.raises(ValueError, match=r"'wide' must have 7 columns, found shape \[3, 2\]"):
        model({"wide": torch.zeros(3, 2)})
    with pytest.raises(ValueError, match="No rows of 'wide' are remembered"):
        NeighbourEnsemble(tasks=TASKS, columns=COLUMNS)({"wide": torch.zeros(3, 7)})
    with pytest.raises(ValueError, match=r"'wide' must be \[rows, 7\]"):
        model.remember({"wide": torch.zeros(0, 7)}, {"wide": torch.zeros(0)})
    with pytest.raises(ValueError, match="has 3 rows, but 2 targets and 3 folds"):
        model.remember({"wide": torch.zeros(3, 7)}, {"wide": torch.zeros(2)})
