"""Annealed sampling: the exponent over the epochs, the law of the draws, state."""

from __future__ import annotations

import pytest
import torch

from polytask.problems import Problem, SeparateSplit, Split
from polytask.samplers import ProportionalSampler
from polytask.samplers.annealed import AnnealedSampler
from polytask.tasks import Regression, Task

SIZES = {"big": 64, "middle": 16, "small": 4}


def sized(sizes: dict[str, int]) -> Problem:
    split = SeparateSplit(
        {
            name: Split(torch.randn(size, 2), {name: torch.randn(size)}, [Task(name, Regression())])
            for name, size in sizes.items()
        }
    )
    return Problem(name="sized", train=split, validation=split, test=split)


def test_the_exponent_falls_as_in_the_paper():
    problem = sized(SIZES)
    sampler = AnnealedSampler(epochs=5, draws_per_epoch=3)
    found = []
    for _ in range(7 * 3):
        found.append(sampler.exponent)
        sampler.draw(problem)
    epochs = [1.0, 0.8, 0.6, 0.4, 0.2, 0.2, 0.2]
    assert found == pytest.approx([a for a in epochs for _ in range(3)])


@pytest.mark.parametrize(
    ("options", "exponent"),
    [({}, 1.0), ({"first": 0.5}, 0.5), ({"first": 0.0, "last": 1.0}, 0.0)],
)
def test_one_epoch_keeps_the_first_exponent(options, exponent):
    problem = sized(SIZES)
    sampler = AnnealedSampler(epochs=1, draws_per_epoch=2, **options)
    for _ in range(5):
        assert sampler.exponent == exponent
        sampler.draw(problem)


@pytest.mark.parametrize(
    ("skip", "shares"),
    [
        (0, (64 / 84, 16 / 84, 4 / 84)),  # a = 1
        (4000, (8 / 14, 4 / 14, 2 / 14)),  # a = 1/2
        (8000, (1 / 3, 1 / 3, 1 / 3)),  # a = 0
    ],
)
def test_tasks_are_drawn_by_a_power_of_their_size(skip, shares):
    problem = sized(SIZES)
    sampler = AnnealedSampler(epochs=3, draws_per_epoch=4000, last=0.0, seed=1)
    sampler.load_state_dict({**sampler.state_dict(), "draws": skip})
    drawn = [sampler.draw(problem) for _ in range(4000)]
    for name, share in zip(SIZES, shares, strict=True):
        deviation = (share * (1 - share) / 4000) ** 0.5
        assert drawn.count((name,)) / 4000 == pytest.approx(share, abs=4 * deviation)


def test_a_constant_exponent_is_proportional_sampling():
    problem = sized(SIZES)
    annealed = AnnealedSampler(epochs=4, draws_per_epoch=2, first=0.5, last=0.5, seed=3)
    constant = ProportionalSampler(exponent=0.5, seed=3)
    assert [annealed.draw(problem) for _ in range(20)] == [
        constant.draw(problem) for _ in range(20)
    ]


def test_it_goes_on_where_it_stopped():
    problem = sized(SIZES)
    first = AnnealedSampler(epochs=3, draws_per_epoch=4, seed=5)
    for _ in range(6):
        first.draw(problem)
    second = AnnealedSampler(epochs=3, draws_per_epoch=4, seed=99)
    second.load_state_dict(first.state_dict())
    assert second.exponent == first.exponent == pytest.approx(0.6)
    assert [first.draw(problem) for _ in range(9)] == [second.draw(problem) for _ in range(9)]


def test_repr_evaluates_back():
    sampler = AnnealedSampler(epochs=3, draws_per_epoch=4, last=0.1, seed=2)
    assert repr(eval(repr(sampler))) == repr(sampler)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": 0}, "`epochs` must be at least 1, found 0"),
        ({"draws_per_epoch": 0}, "`draws_per_epoch` must be at least 1"),
        ({"first": -0.1}, "`first` must be >= 0, found -0.1"),
        ({"last": float("nan")}, "`last` must be >= 0, found nan"),
    ],
)
def test_bad_arguments_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        AnnealedSampler(**{"epochs": 2, "draws_per_epoch": 2, **options})
