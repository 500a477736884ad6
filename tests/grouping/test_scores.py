"""Scores of sets: by hand, and what is refused."""

from __future__ import annotations

import pytest
import torch

from polytask.grouping.scores import (
    ALONE_UNKNOWN,
    PairScores,
    TableScores,
    all_sets,
    sets_of_size,
)

# What each task does for the others: rows help, columns are helped.
MATRIX = torch.tensor([[9.0, 1.0, 2.0], [3.0, 9.0, 5.0], [-1.0, 4.0, 9.0]], dtype=torch.float64)


def test_a_score_is_the_mean_of_what_the_partners_do():
    masks = torch.tensor([[True, True, True], [True, False, True], [False, True, False]])
    found = PairScores(MATRIX, alone=torch.tensor([7.0, 8.0, 9.0]))(masks)
    inf = torch.inf
    # Task 0 of {0, 1, 2}: 3 from task 1, -1 from task 2.
    wanted = torch.tensor([[1.0, 2.5, 3.5], [-1.0, -inf, 2.0], [-inf, 8.0, -inf]])
    assert found.dtype == torch.float64
    assert torch.equal(found, wanted.double())


def test_alone_is_far_below_any_affinity_where_nothing_is_known():
    found = PairScores(MATRIX)(torch.eye(3, dtype=torch.bool)).diagonal()
    assert found.tolist() == [ALONE_UNKNOWN] * 3 == [-1e6] * 3


def test_the_diagonal_is_not_looked_at():
    matrix = MATRIX.clone().fill_diagonal_(torch.nan)
    masks = all_sets(3)
    assert torch.equal(PairScores(matrix)(masks), PairScores(MATRIX)(masks))
    assert bool(matrix.diagonal().isnan().all()), "the argument must stay as it was"


def test_pair_scores_follow_a_permutation_of_the_tasks():
    matrix, order = torch.randn(6, 6, dtype=torch.float64), torch.randperm(6)
    masks = torch.rand(40, 6) < 0.5
    masks[:, 0] = True
    found = PairScores(matrix[order][:, order])(masks[:, order])
    torch.testing.assert_close(found, PairScores(matrix)(masks)[:, order], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("matrix", "alone", "message"),
    [
        (torch.zeros(2, 3), None, "tasks, tasks"),
        (torch.zeros(0, 0), None, "tasks, tasks"),
        (torch.tensor([[0.0, torch.nan], [0.0, 0.0]]), None, "what task 0 does for task 1"),
        (torch.zeros(2, 2), torch.zeros(3), "2 finite scores"),
        (torch.zeros(2, 2), torch.tensor([0.0, torch.inf]), "2 finite scores"),
    ],
)
def test_bad_matrices_are_refused(matrix, alone, message):
    with pytest.raises(ValueError, match=message):
        PairScores(matrix, alone)


def test_a_table_knows_its_sets_and_no_others():
    masks = torch.tensor([[True, True, False], [False, False, True]])
    values = torch.tensor([[0.5, -0.5, torch.nan], [9.0, 9.0, 0.25]])
    table = TableScores(masks, values)
    asked = torch.tensor([[False, False, True], [True, True, True], [True, True, False]])
    inf = torch.inf
    wanted = [[-inf, -inf, 0.25], [-inf, -inf, -inf], [0.5, -0.5, -inf]]
    assert table(asked).tolist() == wanted


@pytest.mark.parametrize(
    ("masks", "values", "message"),
    [
        ([[True, True]], [[0.0, 0.0, 0.0]], "must both be"),
        ([[1, 1]], [[0.0, 0.0]], "must both be"),
        ([[True, True]], [[0.0, torch.nan]], "task 1 in row 0"),
        ([[True, True], [False, False]], [[0.0, 0.0], [0.0, 0.0]], "empty"),
        ([[True, True], [True, True]], [[0.0, 0.0], [1.0, 1.0]], "twice"),
    ],
)
def test_bad_tables_are_refused(masks, values, message):
    with pytest.raises(ValueError, match=message):
        TableScores(torch.tensor(masks), torch.tensor(values))


def test_enumerations():
    assert all_sets(2).tolist() == [[True, False], [False, True], [True, True]]
    assert all_sets(9).unique(dim=0).shape == (511, 9)
    assert sets_of_size(3, 2).long().tolist() == [[1, 1, 0], [1, 0, 1], [0, 1, 1]]
    assert sets_of_size(5, 3).sum(1).tolist() == [3] * 10
