from __future__ import annotations

import pytest
import torch

from polytask.grouping.gain_models import (
    MembershipRidge,
    PartnerRelevance,
    TaskMean,
    _RidgePath,
)
from polytask.grouping.sampled_groups import random_sets
from polytask.grouping.scores import all_sets

MODELS = (TaskMean(), MembershipRidge(), PartnerRelevance())
NAN = float("nan")


def outside_nan(masks, gains):
    return gains.double().masked_fill(~masks, NAN)


def additive(masks, effects, offsets):
    """Gains that are an offset and the sum of what the partners do; entry (i, j): i for j."""
    effects = effects.clone().fill_diagonal_(0.0)
    return outside_nan(masks, offsets + masks.double() @ effects)


def some_sets(num_tasks, count, seed=0):
    return random_sets(num_tasks, count, generator=torch.Generator().manual_seed(seed))


def ranks(values):
    return values.argsort().argsort().double()


def within_task(predicted, gains, masks):
    """Mean of Spearman's correlations over tasks."""
    found = []
    for j in range(masks.shape[1]):
        rows = masks[:, j]
        pair = torch.stack([ranks(predicted[rows, j]), ranks(gains[rows, j])])
        found.append(torch.corrcoef(pair)[0, 1])
    return float(torch.stack(found).mean())


# --- values by hand ------------------------------------------------------------------------------


def test_task_mean_is_the_mean_of_what_was_measured():
    masks = torch.tensor([[True, True, False], [True, False, True]])
    gains = torch.tensor([[1.0, 5.0, NAN], [3.0, NAN, 7.0]])
    model = TaskMean().fit(masks, gains)
    assert model(torch.ones(1, 3, dtype=torch.bool)).tolist() == [[2.0, 5.0, 7.0]]


def test_ridge_by_hand():
    # Task 0 gains 1 with task 1 and 3 with task 2: centred, X = [[.5, -.5], [-.5, .5]] and
    # y = [-1, 1]. X'X has the eigenvalue 1 on (1, -1), so for a penalty of 1
    # w = X'y / (1 + 1) = (-.5, .5).
    masks = torch.tensor([[True, True, False], [True, False, True]])
    gains = torch.tensor([[1.0, 0.0, NAN], [3.0, NAN, 0.0]])
    model = MembershipRidge(penalty=1.0).fit(masks, gains)
    asked = torch.tensor([[True, True, False], [True, False, True], [True, True, True]])
    torch.testing.assert_close(model(asked)[:, 0], torch.tensor([1.5, 2.5, 2.0]).double())


def test_leave_one_out_error_is_that_of_refits():
    masks = some_sets(4, 8)
    gains = outside_nan(masks, torch.randn(8, 4))
    rows = masks[:, 0].nonzero().flatten()
    errors = {}
    for penalty in (0.1, 10.0):
        total = 0.0
        for row in rows.tolist():
            kept = [r for r in rows.tolist() if r != row]
            ridge = MembershipRidge(penalty=penalty).fit(masks[kept], gains[kept])
            total += float((ridge(masks[[row]])[0, 0] - gains[row, 0]).square())
        errors[penalty] = total
    path = _RidgePath(masks[rows], gains[rows, 0])
    spread = float((gains[rows, 0] - gains[rows, 0].mean()).square().sum())
    for penalty, error in errors.items():
        assert path.left_out(penalty) == pytest.approx(error / spread, rel=1e-9)


# --- what must be found --------------------------------------------------------------------------


def test_additive_gains_are_recovered():
    torch.manual_seed(1)
    masks = some_sets(6, 40)
    effects, offsets = torch.randn(6, 6).double(), torch.randn(6).double()
    gains = additive(masks, effects, offsets)
    every = all_sets(6)
    every = every[every.sum(1) > 1]
    truth = additive(every, effects, offsets)[every]
    exact = MembershipRidge(penalty=1e-9).fit(masks, gains)(every)[every]
    torch.testing.assert_close(exact, truth, rtol=1e-6, atol=1e-6)
    error = PartnerRelevance().fit(masks, gains)(every)[every] - truth
    assert float(error.square().mean()) < 0.02 * float(truth.var())


def test_relevance_finds_what_a_few_harmful_partners_do_to_everybody():
    torch.manual_seed(2)
    effects = 0.02 * torch.randn(15, 15).double()
    effects[3] -= 1.0
    effects[7] += 0.5
    offsets = torch.randn(15).double()
    masks, asked = some_sets(15, 30), some_sets(15, 400, seed=1)
    gains = additive(masks, effects, offsets)
    gains = gains + 0.3 * torch.randn_like(gains)
    truth = additive(asked, effects, offsets)
    quality = {
        type(model).__name__: within_task(model.fit(masks, gains)(asked), truth, asked)
        for model in (MembershipRidge(), PartnerRelevance())
    }
    assert quality["PartnerRelevance"] > 0.8
    assert quality["PartnerRelevance"] > quality["MembershipRidge"] + 0.1


def test_diluted_effects_are_learned():
    torch.manual_seed(3)
    masks, asked = some_sets(12, 80), some_sets(12, 300, seed=1)
    effects = torch.randn(12, 12).double().fill_diagonal_(0.0)

    def gains_of(sets):
        partners = (sets.sum(1, keepdim=True) - 1).clamp(min=1)
        return outside_nan(sets, sets.double() @ effects / partners)

    quality = {}
    for diluted in (False, True):
        model = PartnerRelevance(diluted=diluted).fit(masks, gains_of(masks))
        quality[diluted] = within_task(model(asked), gains_of(asked), asked)
    assert quality[True] > max(quality[False], 0.9)


# --- laws of all models --------------------------------------------------------------------------


@pytest.mark.parametrize("model", MODELS, ids=repr)
def test_permuting_tasks_permutes_predictions(model):
    masks, asked = some_sets(5, 12), all_sets(5)
    gains = outside_nan(masks, torch.randn(12, 5))
    order = torch.tensor([3, 0, 4, 1, 2])
    plain = model.fit(masks, gains)(asked)
    permuted = model.fit(masks[:, order], gains[:, order])(asked[:, order])
    torch.testing.assert_close(permuted, plain[:, order])


@pytest.mark.parametrize("model", MODELS, ids=repr)
def test_outside_is_minus_infinity_and_alone_is_zero(model):
    masks = some_sets(5, 12)
    asked = all_sets(5)
    scores = model.fit(masks, outside_nan(masks, torch.randn(12, 5)))(asked)
    assert scores.dtype == torch.float64
    assert bool((scores[~asked] == -torch.inf).all())
    assert bool(scores[asked].isfinite().all())
    alone = asked.sum(1) == 1
    assert bool((scores[alone][asked[alone]] == 0).all())


@pytest.mark.parametrize("model", MODELS, ids=repr)
def test_scale_of_the_gains_is_that_of_the_predictions(model):
    masks, asked = some_sets(5, 12), all_sets(5)
    gains = outside_nan(masks, torch.randn(12, 5))
    small = model.fit(masks, gains)(asked)[asked]
    torch.testing.assert_close(model.fit(masks, 1e6 * gains)(asked)[asked], 1e6 * small)


@pytest.mark.parametrize("model", MODELS, ids=repr)
def test_singletons_teach_nothing(model):
    masks = some_sets(5, 12)
    gains = outside_nan(masks, torch.randn(12, 5))
    with_alone = torch.cat([masks, torch.eye(5, dtype=torch.bool)])
    more = torch.cat([gains, torch.full((5, 5), NAN).double().fill_diagonal_(0.0)])
    asked = all_sets(5)
    expected = model.fit(masks, gains)(asked)
    torch.testing.assert_close(model.fit(with_alone, more)(asked), expected)


@pytest.mark.parametrize("model", MODELS, ids=repr)
def test_a_task_without_observations_gets_the_mean_of_the_others(model):
    masks = torch.tensor([[True, True, False], [True, True, False]])
    gains = torch.tensor([[1.0, 3.0, NAN], [1.0, 3.0, NAN]])
    scores = model.fit(masks, gains)(torch.tensor([[True, False, True]]))
    assert scores[0, 2] == pytest.approx(2.0)


@pytest.mark.parametrize("model", MODELS, ids=repr)
def test_bad_input(model):
    masks = torch.tensor([[True, True, False]])
    gains = torch.tensor([[1.0, 2.0, NAN]])
    with pytest.raises(ValueError, match="both be \\[sets, tasks\\]"):
        model.fit(masks.double(), gains)
    with pytest.raises(ValueError, match="both be \\[sets, tasks\\]"):
        model.fit(masks, gains[:, :2])
    with pytest.raises(ValueError, match="two or more tasks"):
        model.fit(masks[:0], gains[:0])
    with pytest.raises(ValueError, match="two or more tasks"):
        model.fit(torch.eye(3, dtype=torch.bool), torch.zeros(3, 3))
    with pytest.raises(ValueError, match="finite inside the sets, found nan for task 1 in row 0"):
        model.fit(masks, torch.tensor([[1.0, NAN, NAN]]))
    model.fit(masks, gains)
    with pytest.raises(ValueError, match=r"\[sets, 3 tasks\]"):
        model(torch.ones(1, 4, dtype=torch.bool))


def test_bad_settings_and_a_model_that_was_not_fitted():
    with pytest.raises(ValueError, match="`penalty` must be > 0"):
        MembershipRidge(penalty=0.0)
    with pytest.raises(ValueError, match="`iterations` must be >= 1"):
        PartnerRelevance(iterations=0)
    with pytest.raises(ValueError, match="TaskMean must be fitted"):
        TaskMean()(torch.ones(1, 2, dtype=torch.bool))


def test_repr_evaluates_back():
    assert repr(MembershipRidge(penalty=2.0)) == "MembershipRidge(penalty=2.0)"
    assert repr(PartnerRelevance(diluted=False)) == "PartnerRelevance(diluted=False)"
