"""Methods that follow the course of training: DWA, DTP, FAMO, STCH, ALMO."""

from __future__ import annotations

import pytest
import torch

from polytask.balancers import (
    FAMO,
    AgnosticMinimax,
    DynamicTaskPrioritization,
    DynamicWeightAverage,
    FocalLoss,
    HighestLoss,
    SmoothTchebycheff,
)
from polytask.tasks import Binary


def set_up(balancer, tasks):
    balancer.setup(tasks)
    return balancer


def test_dwa_favours_the_task_that_fell_less():
    balancer = set_up(DynamicWeightAverage(temperature=1.0), 2)
    assert balancer.weights(torch.ones(2)).tolist() == [1, 1]
    balancer.end_epoch(torch.tensor([2.0, 2.0]))
    assert balancer.weights(torch.ones(2)).tolist() == [1, 1]
    balancer.end_epoch(torch.tensor([1.0, 2.0]))
    # ratios 1/2 and 1: 2 softmax(1/2, 1)
    wanted = 2 * torch.softmax(torch.tensor([0.5, 1.0]), 0)
    assert torch.allclose(balancer.weights(torch.ones(2)), wanted)


def test_dwa_keeps_the_last_value_of_a_task_without_labels():
    balancer = set_up(DynamicWeightAverage(), 2)
    for means in ([2.0, 2.0], [1.0, 1.0], [0.5, float("nan")]):
        balancer.end_epoch(torch.tensor(means))
    weights = balancer.weights(torch.ones(2))
    assert weights[1] > weights[0]
    assert weights.isfinite().all()


def test_dtp_gives_a_mastered_task_no_weight():
    balancer = set_up(DynamicTaskPrioritization(smoothing=1.0), 3)
    balancer.end_epoch(torch.ones(3), torch.tensor([1.0, 0.5, 0.0]))
    weights = balancer.weights(torch.ones(3))
    assert weights[0] == 0
    assert weights[1] == pytest.approx(0.5 * torch.log(torch.tensor(2.0)).item())
    assert weights[2] > weights[1]
    assert weights.isfinite().all()


def test_dtp_needs_scores_between_zero_and_one():
    balancer = set_up(DynamicTaskPrioritization(), 2)
    with pytest.raises(ValueError, match="needs `scores`"):
        balancer.end_epoch(torch.ones(2))
    with pytest.raises(ValueError, match=r"found \[1.5\] for tasks \[1\]"):
        balancer.end_epoch(torch.ones(2), torch.tensor([0.5, 1.5]))


def test_focal_loss_is_cross_entropy_without_focus():
    logits, target = torch.randn(6, 1), torch.tensor([0.0, 1, 1, 0, 1, 0])
    plain = Binary().loss(logits, target)
    assert torch.allclose(FocalLoss(gamma=0.0)(logits, target), plain, atol=1e-6)
    many = torch.randn(6, 4)
    wanted = torch.nn.functional.cross_entropy(many, target.long(), reduction="none")
    assert torch.allclose(FocalLoss(gamma=0.0)(many, target), wanted, atol=1e-6)


def test_focal_loss_discounts_easy_examples():
    easy, hard = FocalLoss(gamma=2.0)(torch.tensor([[5.0], [-5.0]]), torch.ones(2))
    p = torch.sigmoid(torch.tensor(5.0))
    assert easy == pytest.approx(float(-((1 - p) ** 2) * p.log()), rel=1e-3)
    assert hard > 1000 * easy


def test_famo_raises_the_weight_of_the_task_that_fell_less():
    balancer = set_up(FAMO(learning_rate=0.1), 2)
    losses = torch.ones(2, requires_grad=True)
    before = balancer.backward(losses * 1)
    balancer.after_step(torch.tensor([0.5, 1.0]))
    after = balancer.backward(losses * 1)
    assert before.tolist() == [0.5, 0.5]
    assert after[1] > after[0]


def test_famo_without_look_ahead_uses_the_next_batch():
    ahead, lazy = FAMO(decay=0.0), FAMO(decay=0.0, look_ahead=False)
    assert not lazy.revisits_losses
    assert ahead.revisits_losses
    first, second = torch.tensor([1.0, 1.0]), torch.tensor([0.5, 1.0])
    set_up(ahead, 2).backward(first.clone().requires_grad_() * 1)
    ahead.after_step(second)
    set_up(lazy, 2).backward(first.clone().requires_grad_() * 1)
    lazy.backward(second.clone().requires_grad_() * 1)
    assert torch.equal(ahead.logits, lazy.logits)


def test_famo_moves_only_tasks_that_it_saw():
    balancer = set_up(FAMO(), 3)
    balancer.backward(torch.ones(2, requires_grad=True) * 1, tasks=[0, 2])
    balancer.after_step(torch.tensor([0.5, 0.9]), tasks=[0, 2])
    assert balancer.logits[1] == 0
    assert balancer.logits[2] > 0 > balancer.logits[0]


def test_smooth_tchebycheff_becomes_the_highest_loss():
    losses = torch.tensor([1.0, 1.5, 0.5], dtype=torch.float64)
    sharp = set_up(SmoothTchebycheff(space="linear", smoothness=1e-3), 3)
    assert torch.allclose(sharp.weights(losses), HighestLoss().weights(losses))
    assert sharp.total(losses) == pytest.approx(1.5)


@pytest.mark.parametrize("space", ["log", "linear"])
def test_smooth_tchebycheff_is_the_derivative_of_its_total(space):
    losses = torch.tensor([1.0, 1.5, 0.5], dtype=torch.float64, requires_grad=True)
    balancer = set_up(SmoothTchebycheff(space=space, warmup_epochs=1), 3)
    balancer.end_epoch(torch.tensor([2.0, 1.0, 4.0]))
    balancer.total(losses).backward()
    assert torch.allclose(balancer.weights(losses.detach()), losses.grad)


def test_smooth_tchebycheff_takes_the_nadir_from_the_last_warm_up_epoch():
    balancer = set_up(SmoothTchebycheff(warmup_epochs=2), 2)
    assert balancer.weights(torch.ones(2)).tolist() == [1, 1]
    for means in ([9.0, 9.0], [2.0, 3.0], [1.0, 1.0]):
        balancer.end_epoch(torch.tensor(means))
    assert balancer.nadir.tolist() == [2, 3]
    with pytest.raises(ValueError, match="space='linear'"):
        SmoothTchebycheff(preference=(1.0, 1.0))


def quadratics(point):
    """Losses with minima at -1 and 1, the second three times as steep."""
    return torch.stack([(point + 1).square(), 3 * (point - 1).square()])


@pytest.mark.parametrize("ascent", ["exponentiated", "projected"])
def test_minimax_equalises_two_quadratics(ascent):
    # (x + 1)^2 = 3 (1 - x)^2 at x = 2 - sqrt(3) reflected: x + 1 = sqrt(3) (1 - x).
    optimum = (3**0.5 - 1) / (3**0.5 + 1)
    balancer = set_up(AgnosticMinimax(step_size=0.02, ascent=ascent), 2)
    point = torch.zeros((), dtype=torch.float64, requires_grad=True)
    average = 0.0
    for step in range(2500):
        point.grad = None
        balancer.backward(quadratics(point))
        with torch.no_grad():
            point -= 0.02 * point.grad
        average += (point.item() - average) / (step + 1)
    assert average == pytest.approx(optimum, abs=0.01)
    # Stationarity at the optimum: w_1 (x + 1) = 3 w_2 (1 - x).
    first, second = balancer.average_weights.tolist()
    assert first * (optimum + 1) == pytest.approx(3 * second * (1 - optimum), abs=0.05)


def test_minimax_stays_in_the_hull_of_its_vertices():
    balancer = set_up(AgnosticMinimax(step_size=10.0, vertices=((0.8, 0.2), (0.3, 0.7))), 2)
    for _ in range(50):
        balancer.ascend(torch.tensor([0.0, 1.0]))
    assert torch.allclose(balancer.weights(torch.ones(2)), torch.tensor([0.3, 0.7]))
    with pytest.raises(ValueError, match="mixtures"):
        AgnosticMinimax(vertices=((0.5, 0.6),))
    with pytest.raises(ValueError, match="mix 2 tasks"):
        AgnosticMinimax(vertices=((0.5, 0.5),)).setup(3)


def test_minimax_keeps_the_place_of_absent_tasks():
    balancer = set_up(AgnosticMinimax(step_size=1.0), 3)
    balancer.backward(torch.tensor([1.0, 3.0]).requires_grad_() * 1, tasks=[0, 2])
    assert balancer.mixture[0] < balancer.mixture[1] < balancer.mixture[2]
