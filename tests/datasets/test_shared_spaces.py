"""Hyperspheres and the transposed Gaussian process: the statistics that their papers promise."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from polytask.architectures.variables.variable_grid import TableVariables
from polytask.datasets.hyperspheres import hypersphere_embeddings, hyperspheres
from polytask.datasets.transposed_gp import (
    transposed_gp,
    transposed_gp_embeddings,
    transposed_gp_optimum,
)

SPLITS = ("train", "validation", "test")


def split_truth(problem, truth):
    """Per task the true embeddings of its inputs and of its outputs."""
    variables = TableVariables(tasks=problem.tasks, tables=problem.table_shapes())
    assert len(truth) == variables.num_variables
    return {
        task.name: (
            truth[variables.variables_of(task.name).start : variables.outputs_of(task.name).start],
            truth[variables.outputs_of(task.name)],
        )
        for task in problem.tasks
    }


# --- hyperspheres --------------------------------------------------------------------------------


def test_ninety_tasks_with_the_rows_of_the_paper():
    problem = hyperspheres()
    assert len(problem.tasks) == 90
    for task in problem.tasks:
        features, classes = (int(word.split()[0]) for word in task.name.split(", "))
        for part, rows in zip(SPLITS, (5, 5, 100), strict=True):
            own = getattr(problem, part).parts[task.name]
            assert own.inputs.shape[1] == features
            counts = torch.bincount(own.targets[task.name], minlength=classes)
            assert counts.tolist() == [rows * (2 if classes == 2 else 1)] * classes


def test_points_lie_on_spheres_around_the_true_embeddings_of_their_features():
    sizes = {"num_features": (1, 4), "num_classes": (2, 5)}
    problem, truth = hyperspheres(seed=3, **sizes), hypersphere_embeddings(seed=3, **sizes)
    for name, (features, classes) in split_truth(problem, truth).items():
        for part in SPLITS:
            own = getattr(problem, part).parts[name]
            radius = (own.inputs - features.T).norm(dim=1)
            expected = 10 * classes[own.targets[name], 0]
            torch.testing.assert_close(radius, expected, rtol=1e-4, atol=1e-4)


def test_directions_and_centres_have_the_promised_distribution():
    problem = hyperspheres(num_features=(3,), num_classes=(2,), rows_per_class=(5000, 1, 1))
    own = problem.train.parts["3 features, 2 classes"]
    centre = hypersphere_embeddings(num_features=(3,), num_classes=(2,))[:3, 0]
    direction = (own.inputs - centre) / (own.targets["3 features, 2 classes"][:, None] + 1)
    # On the unit sphere in three dimensions every coordinate is uniform in -1 .. 1.
    assert direction.mean(0).abs().max() < 4 / (3 * len(direction)) ** 0.5
    torch.testing.assert_close(
        direction.square().mean(0), torch.full((3,), 1 / 3), atol=0.01, rtol=0
    )
    sizes = {"num_features": (10,), "num_classes": (2,)}
    centres = torch.cat([hypersphere_embeddings(seed=s, **sizes)[:10] for s in range(40)])
    assert abs(centres.mean()) < 4 / len(centres) ** 0.5
    assert abs(centres.var() - 1) < 4 * (2 / len(centres)) ** 0.5


def test_a_task_does_not_depend_on_the_others():
    everything, one = hyperspheres(), hyperspheres(num_features=(4,), num_classes=(7,))
    name = "4 features, 7 classes"
    assert torch.equal(everything.test.parts[name].inputs, one.test.parts[name].inputs)


# --- transposed Gaussian process -----------------------------------------------------------------


def test_a_hundred_tasks_with_the_rows_of_the_paper():
    problem = transposed_gp()
    assert len(problem.tasks) == 100
    for part, rows in zip(SPLITS, (10, 10, 100), strict=True):
        own = getattr(problem, part).parts["3 to 7"]
        assert own.inputs.shape == (rows, 3)
        assert own.targets["3 to 7"].shape == (rows, 7)
        assert getattr(problem, part).parts["3 to 1"].targets["3 to 1"].shape == (rows,)


def test_values_have_the_covariance_of_the_process_at_the_true_places():
    sizes = {"num_inputs": (3,), "num_outputs": (2,)}
    own = transposed_gp(**sizes, rows=(20_000, 1, 1)).train.parts["3 to 2"]
    values = torch.cat([own.inputs, own.targets["3 to 2"]], dim=1).double()
    places = 5 * transposed_gp_embeddings(**sizes).double()
    assert places.min() >= 0
    assert places.max() <= 5
    expected = torch.exp(-0.5 * (places - places.T).square())
    # The standard deviation of an entry is at most sqrt(2 / 20,000) = 0.01.
    torch.testing.assert_close(values.T @ values / len(values), expected, atol=0.04, rtol=0)


def test_no_linear_predictor_beats_the_optimum_and_the_posterior_mean_reaches_it():
    sizes = {"num_inputs": (4,), "num_outputs": (6,), "seed": 2}
    own = transposed_gp(**sizes, rows=(20_000, 1, 20_000))
    train, test = own.train.parts["4 to 6"], own.test.parts["4 to 6"]
    design, targets = train.inputs.double(), train.targets["4 to 6"].double()
    weights = torch.linalg.lstsq(design, targets).solution
    error = (test.inputs.double() @ weights - test.targets["4 to 6"]).square().mean()
    assert float(error) == pytest.approx(float(transposed_gp_optimum(**sizes)), rel=0.03)


def test_the_note_says_what_is_possible():
    problem = transposed_gp(num_inputs=(1, 2), num_outputs=(3,))
    mean = float(transposed_gp_optimum(num_inputs=(1, 2), num_outputs=(3,)).mean())
    assert f"{mean:.3f}" in problem.notes[0]
    # A process known at no place near an output is known no better than by its mean.
    assert 0 < mean < 1


# --- both ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [hyperspheres, transposed_gp])
def test_the_seed_fixes_everything(make):
    sizes = {"num_features": (2,), "num_classes": (3,)} if make is hyperspheres else {
        "num_inputs": (2,), "num_outputs": (3,)}  # fmt: skip
    one, same, other = (make(**sizes, seed=seed).fingerprint() for seed in (1, 1, 2))
    assert one == same != other


@pytest.mark.parametrize(
    ("make", "options", "message"),
    [
        (hyperspheres, {"num_classes": (1, 2)}, r"`num_classes` .* at least 2, found \(1, 2\)"),
        (hyperspheres, {"num_features": ()}, r"`num_features` .* at least 1, found \(\)"),
        (hyperspheres, {"num_features": (2, 2)}, "`num_features` holds a number twice"),
        (hyperspheres, {"rows_per_class": (5, 0, 1)}, r"`rows_per_class` .* found \(5, 0, 1\)"),
        (transposed_gp, {"num_inputs": (0,)}, r"`num_inputs` .* at least 1, found \(0,\)"),
        (transposed_gp, {"num_outputs": (1, 1)}, "`num_outputs` holds a number twice"),
        (transposed_gp, {"rows": (10, 10, 0)}, r"`rows` .* found \(10, 10, 0\)"),
    ],
)
def test_bad_sizes_are_named(make, options, message):
    with pytest.raises(ValueError, match=message):
        make(**options)


def test_embeddings_are_in_the_order_of_the_variables():
    truth = hypersphere_embeddings(num_features=(2,), num_classes=(2, 3)).flatten().numpy()
    np.testing.assert_allclose(truth[[2, 3, 6, 7, 8]], [0.1, 0.2, 0.1, 0.2, 0.3], rtol=1e-6)
