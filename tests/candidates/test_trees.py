"""Trees of someone else's: what is not sound is refused before a row goes through it."""

from __future__ import annotations

import numpy as np
import pytest

from polytask.candidates.trees import TreeEnsemble


def arrays(**changes):
    """One tree: feature 0 <= 0.5 gives 1, else feature 1 in {2} gives 2, else 3."""
    sound = {
        "roots": np.array([0]),
        "feature": np.array([0, 0, 1, 0, 0]),
        "threshold": np.array([0.5, 0.0, 0.0, 0.0, 0.0]),
        "left": np.array([1, 1, 3, 3, 4]),
        "right": np.array([2, 1, 4, 3, 4]),
        "missing_left": np.zeros(5, dtype=bool),
        "bitset": np.array([-1, -1, 0, -1, -1]),
        "value": np.array([0.0, 1.0, 0.0, 2.0, 3.0]),
        "bitsets": np.array([[4, 0, 0, 0, 0, 0, 0, 0]], dtype=np.uint32),
        "baseline": np.array([10.0]),
    }
    return {**sound, **changes}


def test_sound_trees_predict():
    ensemble = TreeEnsemble.from_arrays(arrays(), num_features=2)
    rows = np.array([[0.0, 0.0], [1.0, 2.0], [1.0, 3.0], [np.nan, 2.0]])
    assert ensemble.raw(rows)[:, 0].tolist() == [11.0, 12.0, 13.0, 12.0]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"left": np.array([0, 1, 3, 3, 4])}, "children stand behind"),  # a circle
        ({"right": np.array([2, 1, 0, 3, 4])}, "children stand behind"),  # a longer one
        ({"left": np.array([1, 1, 9, 3, 4])}, "children stand behind"),
        ({"roots": np.array([5])}, "roots are nodes"),
        ({"roots": np.array([-1])}, "roots are nodes"),
        ({"feature": np.array([2, 0, 1, 0, 0])}, "columns of the table"),
        ({"feature": np.array([-1, 0, 1, 0, 0])}, "columns of the table"),
        ({"bitset": np.array([1, -1, 0, -1, -1])}, "sets of categories exist"),
        ({"bitsets": np.zeros((1, 7), dtype=np.uint32)}, "sets of categories exist"),
        ({"threshold": np.array([np.nan, 0, 0, 0, 0])}, "are numbers"),
        ({"value": np.array([0, np.inf, 0, 2, 3.0])}, "are numbers"),
        ({"value": np.array([0.0, 1.0])}, "one entry per node"),
        ({"baseline": np.array([1.0, 2.0])}, "as many trees as outputs"),
        ({"baseline": np.array([])}, "as many trees as outputs"),
        ({"left": np.array([1.0, 1.0, 3.0, 3.0, 4.0])}, "'left' .* has another form"),
        ({"roots": np.array([[0]])}, "'roots' .* has another form"),
    ],
)
def test_damaged_trees_are_refused(changes, words):
    with pytest.raises(ValueError, match=words):
        TreeEnsemble.from_arrays(arrays(**changes), num_features=2)


def test_a_missing_array_is_named():
    without = {name: array for name, array in arrays().items() if name != "value"}
    with pytest.raises(ValueError, match="lack 'value'"):
        TreeEnsemble.from_arrays(without, num_features=2)
