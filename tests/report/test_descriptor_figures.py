"""The comparison of tasks by their descriptors: the map, the distances, and bad input."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from tests.report.examples import HOSTILE_NAMES

from polytask.report.figures.descriptors import descriptor_figure, principal_components


def drawn_texts(figure) -> list[str]:
    figure.savefig(io.BytesIO(), format="png", dpi=40)
    axes = figure.axes
    return [t.get_text() for ax in axes for t in (*ax.texts, *ax.get_yticklabels())]


def test_components_of_a_rectangle_are_its_sides():
    corners = np.array([[0.0, 0.0], [3.0, 4.0], [-0.8, 0.6], [2.2, 4.6]])
    points, shares = principal_components(corners)
    np.testing.assert_allclose(np.abs(points), [[2.5, 0.5]] * 4)
    np.testing.assert_allclose(shares, [25 / 26, 1 / 26])
    distances = np.linalg.norm(points[:, None] - points[None], axis=-1)
    expected = np.linalg.norm(corners[:, None] - corners[None], axis=-1)
    np.testing.assert_allclose(distances, expected, atol=1e-12)


@pytest.mark.parametrize("shape", [(1, 3), (4, 1), (2, 5)])
def test_few_tasks_or_numbers_have_empty_components(shape):
    points, shares = principal_components(np.arange(np.prod(shape), dtype=float).reshape(shape))
    assert points.shape == (shape[0], 2)
    assert shares[1] == pytest.approx(0, abs=1e-12)
    descriptor_figure(points, [str(i) for i in range(shape[0])]).savefig(io.BytesIO(), dpi=40)


def test_names_and_distances_are_written():
    figure = descriptor_figure(torch.tensor([[0.0, 0.0], [3.0, 4.0]]), ["near", "far"])
    texts = drawn_texts(figure)
    assert texts.count("near") == texts.count("far") == 2
    assert texts.count("5") == texts.count("0") == 2
    assert figure.axes[0].get_xlabel() == "component 1 (100% of the variance)"
    assert figure.axes[1].get_xlabel() == "bluest: 0, white: 5"


def test_tasks_at_one_place_have_one_label():
    texts = drawn_texts(descriptor_figure(np.zeros((5, 2)), list("abcde")))
    assert "a and 4 more" in texts


def test_many_tasks_are_numbered():
    rng = np.random.default_rng(0)
    figure = descriptor_figure(rng.standard_normal((200, 8)), [f"task {i}" for i in range(200)])
    assert len(figure.axes[0].texts) == 0
    assert figure.axes[1].get_xlabel().endswith("; tasks by their numbers")
    assert {"1", "21", "181"} <= set(drawn_texts(figure))


@pytest.mark.filterwarnings("ignore:.*Glyph .* missing from .*font")
def test_hostile_names_are_text():
    names = [*HOSTILE_NAMES, "$a", "$x^2$", r"\frac"]
    values = np.random.default_rng(0).standard_normal((len(names), 3))
    assert {"$a", "$x^2$", r"\frac"} <= set(drawn_texts(descriptor_figure(values, names)))


@pytest.mark.parametrize(
    ("values", "names", "message"),
    [
        (np.zeros(3), ["a", "b", "c"], r"table \[tasks, numbers\] .* found shape \[3\]"),
        (np.zeros((0, 2)), [], r"found shape \[0, 2\]"),
        (np.array([[1.0, np.nan]]), ["a"], "with 1 that are not finite"),
        (np.zeros((2, 2)), ["a"], "`names` has 1 entries for 2 descriptors"),
    ],
)
def test_bad_input_is_named(values, names, message):
    with pytest.raises(ValueError, match=message):
        descriptor_figure(values, names)
