"""Grids of two attributes: what they promise about their best score, and who has which rows."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from polytask.datasets.attribute_grid import bilinear_grid, digits_grid


def least_squares(rows, targets):
    return torch.linalg.lstsq(rows.double(), targets.double().unsqueeze(1)).solution.squeeze(1)


def test_weights_of_the_bilinear_grid_are_sums_over_its_attributes():
    grid = bilinear_grid(first=3, second=2, num_rows=4000, noise=0.1)
    parts = grid.problem.train.parts
    assert list(parts) == ["a 0, b 0", "a 0, b 1", "a 1, b 0", "a 1, b 1", "a 2, b 0", "a 2, b 1"]
    weights = torch.stack(
        [least_squares(p.inputs, p.targets[name]) for name, p in parts.items()]
    ).reshape(3, 2, -1)
    steps = weights[:, 1] - weights[:, 0]
    torch.testing.assert_close(steps, steps[:1].expand_as(steps), atol=0.02, rtol=0)
    assert steps.norm(dim=1).min() > 0.3


def test_the_noise_is_what_the_note_says():
    grid = bilinear_grid(num_rows=3000, noise=0.4)
    part = grid.problem.train.parts["a 2, b 1"]
    weights = least_squares(part.inputs, part.targets["a 2, b 1"])
    errors = part.targets["a 2, b 1"] - part.inputs.double() @ weights
    assert errors.square().mean().sqrt().item() == pytest.approx(0.4, rel=0.05)
    assert "expected RMSE of the best possible model is 0.4" in grid.problem.notes[0]


def test_descriptors_of_the_cells():
    grid = bilinear_grid(first=2, second=3)
    assert grid.multi_hot.tolist()[4] == [0, 1, 0, 1, 0]
    assert grid.coordinates.tolist() == [[0, 0], [0, 0.5], [0, 1], [1, 0], [1, 0.5], [1, 1]]
    assert len(grid.cells) == len(grid.problem.tasks) == 6


def test_digits_are_turned_and_no_image_is_trained_on_twice():
    grid = digits_grid(angles=(0.0, 180.0), noises=(0.0, 0.1), num_rows=30, num_test=50)
    upright, noisy, turned, _ = grid.problem.test.parts.values()
    names = [task.name for task in grid.problem.tasks]
    assert names == [
        "angle 0, noise 0", "angle 0, noise 0.1", "angle 180, noise 0", "angle 180, noise 0.1",
    ]  # fmt: skip
    assert torch.equal(upright.targets[names[0]], turned.targets[names[2]])
    torch.testing.assert_close(upright.inputs.flip(1), turned.inputs, atol=1e-5, rtol=0)
    assert (noisy.inputs - upright.inputs).std().item() == pytest.approx(0.1, rel=0.05)
    trained = [p.inputs for p in grid.problem.train.parts.values()]
    straight = torch.cat([trained[0], trained[2].flip(1), upright.inputs])
    assert len(np.unique(straight.numpy().round(4), axis=0)) == len(straight)
    for name, part in grid.problem.train.parts.items():
        assert len(part) == 24
        assert set(part.targets[name].tolist()) == set(range(10))


def test_grids_are_deterministic_by_seed():
    for make in (bilinear_grid, lambda seed: digits_grid(seed=seed, num_rows=20)):
        prints = [make(seed=seed).problem.fingerprint() for seed in (0, 0, 1)]
        assert prints[0] == prints[1] != prints[2]


@pytest.mark.parametrize(
    ("make", "arguments", "message"),
    [
        (bilinear_grid, {"first": 1}, "`first` must be at least 2, found 1"),
        (bilinear_grid, {"num_rows": 1}, "`num_rows` must be at least 2, found 1"),
        (bilinear_grid, {"noise": 0.0}, "`noise` > 0, found 20 and 0.0"),
        (digits_grid, {"angles": (0.0,)}, r"`angles` needs at least two levels, .* found \[0.0\]"),
        (digits_grid, {"noises": (0.1, 0.1)}, r"`noises` needs .* found \[0.1, 0.1\]"),
        (digits_grid, {"noises": (-0.1, 0.1)}, r"`noises` must be >= 0, found \[-0.1, 0.1\]"),
        (digits_grid, {"num_rows": 10}, "`num_rows` must be at least 20"),
        (digits_grid, {"num_rows": 100}, "`num_rows`=100 images need 200 of the digit 0"),
        (digits_grid, {"num_test": 0}, "`num_test` must be"),
    ],
)
def test_bad_arguments_are_named(make, arguments, message):
    with pytest.raises(ValueError, match=message):
        make(**arguments)
