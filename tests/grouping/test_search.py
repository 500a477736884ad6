"""The search for groups: published results, brute force, planted groups, and "do not group"."""

from __future__ import annotations

import json
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import adjusted_rand_score
from torch import Tensor

from polytask.grouping.base import Affinity
from polytask.grouping.grouping import GroupingCost
from polytask.grouping.scores import PairScores, TableScores, all_sets
from polytask.grouping.search import best_groups, find_groups, hoa_table, select_networks

FIXTURES = Path(__file__).resolve().parents[3] / "shared" / "fixtures"
ABSENT = 99.0


def _cases(*methods: str) -> list[dict]:
    index = FIXTURES / "index.json"
    if not index.is_file():
        return []
    cases = json.loads(index.read_text())["cases"]
    return [case for case in cases if case["method"] in methods]


def _arrays(case: dict) -> dict[str, Tensor]:
    with np.load(FIXTURES / case["file"]) as arrays:
        entries = {**case["inputs"], **case["outputs"]}
        return {name: torch.from_numpy(arrays[e["key"]]) for name, e in entries.items()}


def _close(found, wanted, entry: dict) -> None:
    np.testing.assert_allclose(found, wanted, rtol=entry["rtol"], atol=entry["atol"])


needs_fixtures = pytest.mark.skipif(
    not FIXTURES.is_dir(), reason="needs the reference fixtures: no folder ../shared/fixtures"
)
GROUP_CASES = _cases("tag_selection", "hoa_selection")
NETWORK_CASES = _cases("standley_selection")


def names(groups: Tensor, tasks: list[str]) -> set[frozenset[str]]:
    return {frozenset(tasks[i] for i in group.nonzero().flatten()) for group in groups}


def reference_scores(case: dict, table: Tensor) -> tuple[PairScores, int]:
    """The fixtures' tables hold the effect on the row; HOA's are errors, with tasks alone on the
    diagonal.
    """
    if case["method"] == "tag_selection":
        return PairScores(table.T), 1
    return PairScores(-table.T, alone=-table.diagonal()), -1


# --- published results ---


@needs_fixtures
@pytest.mark.parametrize("case", GROUP_CASES, ids=[case["id"] for case in GROUP_CASES])
def test_reference_groups(case):
    arrays = _arrays(case)
    scores, sign = reference_scores(case, arrays["A"])
    found = best_groups(scores, len(arrays["A"]), case["params"]["splits"])
    assert found.exact
    _close(sign * found.total, arrays["value"], case["outputs"]["value"])
    _close(sign * found.per_task, arrays["per_task"], case["outputs"]["per_task"])
    used = arrays["groups"].bool()
    everyone = [str(i) for i in range(used.shape[1])]
    assert names(found.groups, everyone) == names(used[used.any(1)], everyone)


PUBLISHED = [
    ("tag_taskonomy", 2, 0.32170, 5e-6, ["ss_l depth_l norm_l", "key_l edge2d_l"]),
    ("tag_taskonomy", 3, 0.34867, 5e-6, ["ss_l depth_l", "depth_l norm_l", "key_l edge2d_l"]),
    (
        "tag_celeba",
        2,
        -99.4418,
        5e-5,
        [
            "5_o_Clock_Shadow No_Beard",
            "Black_Hair Blond_Hair Brown_Hair Goatee Mustache No_Beard Rosy_Cheeks Wearing_Hat",
        ],
    ),
    (
        "tag_celeba",
        3,
        -92.43843,
        5e-6,
        [
            "5_o_Clock_Shadow No_Beard",
            "Black_Hair Brown_Hair",
            "Black_Hair Blond_Hair Goatee Mustache No_Beard Rosy_Cheeks Wearing_Hat",
        ],
    ),
]


@needs_fixtures
@pytest.mark.parametrize("exact_up_to", [13, 0], ids=["exact", "search"])
@pytest.mark.parametrize(("tag", "number", "score", "rounding", "groups"), PUBLISHED)
def test_groups_that_tag_published(tag, number, score, rounding, groups, exact_up_to):
    case = next(case for case in GROUP_CASES if tag in case["tags"])
    scores = PairScores(_arrays(case)["A"].T)
    tasks = case["params"]["task_names"]
    found = best_groups(scores, len(tasks), number, exact_up_to=exact_up_to)
    assert found.total == pytest.approx(score, abs=rounding)
    assert names(found.groups, tasks) == {frozenset(group.split()) for group in groups}


@needs_fixtures
@pytest.mark.parametrize("case", NETWORK_CASES, ids=[case["id"] for case in NETWORK_CASES])
def test_reference_networks_at_nine_budgets(case):
    arrays = _arrays(case)
    losses = arrays["models"].masked_fill(arrays["models"] == ABSENT, torch.inf)
    predicted = hoa_table(losses)
    _close(predicted.nan_to_num(posinf=ABSENT), arrays["hoa_models"], case["outputs"]["hoa_models"])
    for row, budget in enumerate(arrays["budgets"].tolist()):
        found = select_networks(losses, arrays["costs"], budget)
        _close(found.total, arrays["best_total"][row], case["outputs"]["best_total"])
        found = select_networks(predicted, arrays["costs"], budget)
        _close(found.total, arrays["best_total_hoa"][row], case["outputs"]["best_total_hoa"])
        true = losses[list(found.chosen)].amin(0).sum()
        _close(true, arrays["hoa_true_total"][row], case["outputs"]["hoa_true_total"])
        assert float(arrays["costs"][list(found.chosen)].sum()) <= budget


# --- exact search ---


def brute_force(values: Tensor, number: int) -> float:
    """The best mean over all choices of sets ``[S, T]``."""
    return max(
        float(values[list(rows)].amax(0).mean())
        for k in range(1, number + 1)
        for rows in combinations(range(len(values)), k)
    )


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("tasks", "number"), [(3, 3), (4, 2), (4, 3), (4, 4), (5, 3)])
@pytest.mark.parametrize("kind", ["affinity", "gain", "table"])
def test_exact_search_is_as_good_as_brute_force(tasks, number, kind, seed):
    generator = torch.Generator().manual_seed(seed)
    masks = all_sets(tasks)
    matrix = torch.randn(tasks, tasks, generator=generator, dtype=torch.float64)
    scores: PairScores | TableScores
    if kind == "table":
        values = torch.randn(masks.shape, generator=generator, dtype=torch.float64)
        scores = TableScores(masks, values)
    else:
        scores = PairScores(matrix, None if kind == "affinity" else torch.zeros(tasks))
    found = best_groups(scores, tasks, number)
    assert found.exact
    assert found.total == pytest.approx(brute_force(scores(masks), number), rel=1e-12)
    assert torch.equal(found.per_task, scores(found.groups).amax(0))
    assert found.total == float(found.per_task.mean())
    assert bool(found.groups[found.serving, torch.arange(tasks)].all())


def test_a_task_helps_where_it_is_not_served():
    # Task 2 helps 0 and 1 a lot; 1 and 2 get more in {1, 2} than among three.
    matrix = torch.tensor([[0.0, 0.0, 0.0], [0.0, 0.0, 0.5], [1.0, 0.9, 0.0]])
    found = best_groups(PairScores(matrix), 3, 2)
    assert names(found.groups, ["a", "b", "c"]) == {frozenset("ac"), frozenset("bc")}
    assert found.per_task.tolist() == pytest.approx([1.0, 0.9, 0.5])
    grouping = find_groups(Affinity(("a", "b", "c"), PairScores(matrix)), method="x", num_groups=2)
    assert {grouping.groups[k] for k in grouping.assignment} == {("a", "c"), ("b", "c")}
    assert grouping.groups[grouping.assignment[2]] == ("b", "c")


def test_the_answer_does_not_depend_on_the_order_of_the_tasks():
    matrix, order = torch.randn(8, 8, dtype=torch.float64), torch.randperm(8)
    tasks = [f"t{i}" for i in range(8)]
    one = best_groups(PairScores(matrix), 8, 3)
    other = best_groups(PairScores(matrix[order][:, order]), 8, 3)
    assert other.total == pytest.approx(one.total, rel=1e-12)
    assert names(other.groups, [tasks[i] for i in order]) == names(one.groups, tasks)


def test_groups_that_change_nothing_are_left_out():
    found = best_groups(PairScores(torch.ones(5, 5)), 5, 4)
    assert found.total == 1.0
    assert bool(found.groups.any(0).all())
    every = best_groups(PairScores(torch.zeros(4, 4), alone=torch.zeros(4)), 4, 4)
    assert len(every.groups) == 1


# --- search beyond what can be done exactly ---


class Anything:
    """Scores that hide that they come from pairs."""

    def __init__(self, scores: PairScores) -> None:
        self.scores = scores

    def __call__(self, masks: Tensor) -> Tensor:
        return self.scores(masks)


@pytest.mark.parametrize("kind", ["pairs", "anything", "table"])
def test_the_search_comes_close_to_the_exact_answer(kind):
    """Random affinities are the hardest case: there is nothing to find but noise."""
    shortfalls = []
    for seed in range(4):
        generator = torch.Generator().manual_seed(seed)
        pairs = PairScores(
            torch.randn(9, 9, generator=generator), torch.zeros(9) if seed % 2 else None
        )
        masks = all_sets(9)
        table = TableScores(masks, pairs(masks))
        scores = {"pairs": pairs, "anything": Anything(pairs), "table": table}[kind]
        for number in (2, 4):
            exact = best_groups(pairs, 9, number).total
            found = best_groups(scores, 9, number, exact_up_to=0, restarts=24)
            assert not found.exact
            shortfalls.append((exact - found.total) / exact)
    assert min(shortfalls) > -1e-12
    assert max(shortfalls) < 0.05
    assert np.mean(shortfalls) < 0.01


def planted(tasks: int, groups: int, noise: float, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(tasks) % groups
    same = (labels[:, None] == labels).double()
    return labels, same + noise * torch.randn(
        tasks, tasks, generator=generator, dtype=torch.float64
    )


@pytest.mark.parametrize(("tasks", "groups"), [(30, 3), (100, 5), (1000, 20)])
def test_planted_groups_are_found(tasks, groups):
    labels, matrix = planted(tasks, groups, noise=1.0)
    found = best_groups(PairScores(matrix), tasks, groups, restarts=2)
    assert adjusted_rand_score(labels, found.serving) == 1.0
    assert bool(found.groups.any(0).all())


def test_splitting_and_merging_finds_many_small_groups():
    # Beyond what the eigenvectors of so noisy a matrix can tell.
    labels, matrix = planted(400, 40, noise=0.7)
    found = best_groups(PairScores(matrix), 400, 40, restarts=2)
    assert adjusted_rand_score(labels, found.serving) > 0.9


def test_planted_groups_are_found_in_any_scores():
    labels, matrix = planted(20, 4, noise=0.2)
    found = best_groups(Anything(PairScores(matrix)), 20, 4, restarts=2)
    assert adjusted_rand_score(labels, found.serving) == 1.0


def test_the_search_is_fixed_by_its_seed():
    _, matrix = planted(80, 8, noise=2.0)
    one, other = (best_groups(PairScores(matrix), 80, 8, seed=3, restarts=3) for _ in range(2))
    assert torch.equal(one.groups, other.groups)


def test_known_sets_of_many_tasks():
    # Fifteen tasks of which only three sets and the singles were measured.
    masks = torch.zeros(18, 15, dtype=torch.bool)
    masks[:3] = torch.eye(3, dtype=torch.bool).repeat_interleave(5, 1)
    masks[3:] = torch.eye(15, dtype=torch.bool)
    values = torch.where(torch.arange(18)[:, None] < 3, 1.0, 2.0).expand(18, 15)
    scores = TableScores(masks, values)
    assert best_groups(scores, 15, 3).total == 1.0
    assert best_groups(scores, 15, 15).total == 2.0
    with pytest.raises(ValueError, match="No 2 of the sets with known scores cover all 15 tasks"):
        best_groups(scores, 15, 2)


@pytest.mark.parametrize("number", [0, -1, 4])
def test_impossible_numbers_of_groups_are_refused(number):
    with pytest.raises(ValueError, match=r"`num_groups` must be 1 .. 3"):
        best_groups(PairScores(torch.zeros(3, 3)), 3, number)


# --- from an affinity to a grouping ---


def affinity(scores) -> Affinity:
    tasks = tuple(f"t{i}" for i in range(len(scores.matrix)))
    return Affinity(tasks, scores, cost=GroupingCost(models=7), notes=("measured",))


def test_the_number_of_groups_is_the_smallest_that_gains_enough():
    labels, matrix = planted(12, 3, noise=0.0)
    found = find_groups(affinity(PairScores(matrix)), method="test")
    assert found.num_groups == 3
    assert found.agreement(labels.tolist()) == 1.0
    assert (found.method, found.cost.models, found.score) == ("test", 7, 1.0)
    assert found.notes == ("measured",)


def test_a_small_gain_of_more_groups_is_not_worth_them():
    labels, matrix = planted(8, 2, noise=0.0)
    # Within a group, pairs gain 1 % more.
    matrix += 0.01 * (torch.arange(8)[:, None] // 4 == torch.arange(8) // 4)
    found = find_groups(affinity(PairScores(matrix)), method="test")
    assert found.agreement(labels.tolist()) == 1.0
    finer = find_groups(affinity(PairScores(matrix)), method="test", num_groups=4)
    assert finer.num_groups == 4
    assert finer.score > found.score


def test_the_answer_can_be_not_to_group():
    hurts = PairScores(-torch.ones(5, 5), alone=torch.zeros(5))
    found = find_groups(affinity(hurts), method="test")
    assert found.groups == tuple((f"t{i}",) for i in range(5))
    assert any("every task alone: do not group" in note for note in found.notes)
    equal = PairScores(torch.ones(5, 5), alone=torch.zeros(5))
    found = find_groups(affinity(equal), method="test")
    assert found.groups == (tuple(f"t{i}" for i in range(5)),)
    assert any("all tasks together: do not group" in note for note in found.notes)


def test_one_helpful_pair_among_tasks_that_do_better_alone():
    matrix = -torch.ones(5, 5)
    matrix[0, 1] = matrix[1, 0] = 0.1
    found = find_groups(affinity(PairScores(matrix, alone=torch.zeros(5))), method="test")
    assert set(found.groups) == {("t0", "t1"), ("t2",), ("t3",), ("t4",)}


def test_a_search_that_may_miss_says_so():
    _, matrix = planted(20, 2, noise=0.1)
    found = find_groups(affinity(PairScores(matrix)), method="test", num_groups=2)
    assert any("may miss" in note for note in found.notes)


# --- networks under a budget ---


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("budget", [1.1, 1.5, 2.0, 3.0])
def test_selection_is_as_good_as_brute_force(seed, budget):
    generator = torch.Generator().manual_seed(seed)
    masks = all_sets(4)
    losses = torch.rand(masks.shape, generator=generator, dtype=torch.float64)
    costs = torch.where(masks.sum(1) == 1, 0.5, 1.0) + 0.05 * (torch.arange(15) % 3)
    filled = losses.masked_fill(~masks, torch.inf)
    wanted = min(
        float(filled[list(rows)].amin(0).sum())
        for k in range(1, 5)
        for rows in combinations(range(15), k)
        if costs[list(rows)].sum() <= budget
    )
    found = select_networks(losses.masked_fill(~masks, torch.nan), costs, budget)
    assert found.total == pytest.approx(wanted, rel=1e-12)
    assert float(costs[list(found.chosen)].sum()) <= budget + 1e-6


def test_selection_says_which_network_serves_whom():
    losses = torch.tensor([[3.0, 3.0, 3.0], [1.0, torch.nan, 2.0], [torch.inf, 1.0, torch.inf]])
    found = select_networks(losses, torch.ones(3), 2.0)
    assert found.chosen == (1, 2)
    assert found.total == 4.0
    assert found.per_task.tolist() == [1.0, 1.0, 2.0]
    assert found.networks.tolist() == [1, 2, 1]


def test_networks_that_serve_nobody_are_not_chosen():
    losses = torch.tensor([[1.0, 1.0], [1.0, torch.nan], [torch.nan, 2.0]])
    assert select_networks(losses, torch.ones(3), 3.0).chosen == (0,)


def test_a_budget_that_is_spent_to_the_last_tenth():
    losses = torch.full((10, 10), torch.inf).fill_diagonal_(1.0)
    assert len(select_networks(losses, torch.full((10,), 0.1), 1.0).chosen) == 10
    with pytest.raises(ValueError, match="too small"):
        select_networks(losses, torch.full((10,), 0.1), 0.99)


@pytest.mark.parametrize(
    ("losses", "costs", "budget", "message"),
    [
        ([[1.0, torch.nan], [torch.nan, 1.0]], [1.0, 1.0], 1.0, "budget of 1.0 is too small"),
        ([[1.0, torch.nan]], [1.0], 9.0, "too small to cover all 2 tasks"),
        ([[1.0, 1.0]], [0.0], 1.0, "`costs` must be > 0"),
        ([[1.0, 1.0]], [1.0, 1.0], 1.0, "networks, tasks"),
    ],
)
def test_impossible_selections_are_refused(losses, costs, budget, message):
    with pytest.raises(ValueError, match=message):
        select_networks(torch.tensor(losses), torch.tensor(costs), budget)


def test_larger_networks_are_predicted_from_pairs():
    nan = torch.nan
    losses = torch.tensor(
        [[1.0, 2.0, nan], [3.0, nan, 4.0], [nan, 5.0, 6.0], [0.0, 0.0, 0.0], [7.0, nan, nan]]
    )
    found = hoa_table(losses)
    assert found[3].tolist() == [2.0, 3.5, 5.0]
    assert torch.equal(found[:3].nan_to_num(-1), losses[:3].double().nan_to_num(-1))
    assert found[4, 0] == 7.0
    with pytest.raises(ValueError, match="no network of tasks 0 and 2 alone"):
        hoa_table(losses[[0, 2, 3]])
