"""Boosted trees as plain arrays: taken out of scikit-learn, evaluated with numpy.

Shape legend: N rows, F features, J nodes of all trees, K outputs, I boosting iterations.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

__all__ = ["TreeEnsemble"]

#: Row-tree pairs that are evaluated at a time; bounds the memory of a prediction.
CHUNK = 4_000_000


@dataclass(frozen=True)
class TreeEnsemble:
    """Raw predictions ``baseline + sum of leaf values`` of I x K trees.

    Nodes of all trees lie one after the other; children are positions in these arrays. A split
    sends a row left if its value is <= the threshold (numbers) or is in the split's set (categories
    0 .. 255 as 8 words of 32 bits); a missing value goes where training sent missing values.

    Args:
        roots: ``[I * K]`` position of each tree's root; iteration by iteration.
        feature: ``[J]`` column of a split.
        threshold: ``[J]``.
        left: ``[J]`` position of the left child; a leaf points at itself.
        right: ``[J]``.
        missing_left: ``[J]`` whether a missing value goes left.
        bitset: ``[J]`` row of ``bitsets`` for a categorical split, -1 for a numeric one.
        value: ``[J]`` value of a leaf.
        bitsets: ``[S, 8]`` sets of categories that go left.
        baseline: ``[K]``.
    """

    roots: np.ndarray
    feature: np.ndarray
    threshold: np.ndarray
    left: np.ndarray
    right: np.ndarray
    missing_left: np.ndarray
    bitset: np.ndarray
    value: np.ndarray
    bitsets: np.ndarray
    baseline: np.ndarray

    @classmethod
    def from_sklearn(cls, model: Any, iterations: int) -> TreeEnsemble:
        """The first trees of a ``HistGradientBoosting*`` whose categorical columns come first.

        Raises:
            RuntimeError: This scikit-learn keeps its trees differently.
        """
        try:
            predictors = [tree for row in model._predictors[:iterations] for tree in row]
            baseline = np.asarray(model._baseline_prediction, dtype=np.float64).reshape(-1)
            nodes = [tree.nodes for tree in predictors]
            sets = [tree.raw_left_cat_bitsets for tree in predictors]
            sizes = [len(n) for n in nodes]
            starts = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
            set_starts = np.concatenate([[0], np.cumsum([len(s) for s in sets])]).astype(np.int64)
            joined = np.concatenate(nodes) if nodes else np.zeros(0, dtype=_node_type(model))
            own = np.arange(len(joined))
            start_of = np.repeat(starts[:-1], sizes)
            leaf = joined["is_leaf"].astype(bool)
            categorical = joined["is_categorical"].astype(bool) & ~leaf
            set_start_of = np.repeat(set_starts[:-1], sizes)
            return cls(
                roots=starts[:-1],
                feature=np.where(leaf, 0, joined["feature_idx"]).astype(np.int64),
                threshold=joined["num_threshold"].astype(np.float64),
                left=np.where(leaf, own, joined["left"] + start_of),
                right=np.where(leaf, own, joined["right"] + start_of),
                missing_left=joined["missing_go_to_left"].astype(bool),
                bitset=np.where(categorical, joined["bitset_idx"] + set_start_of, -1),
                value=joined["value"].astype(np.float64),
                bitsets=np.concatenate(sets).astype(np.uint32)
                if sets
                else np.zeros((0, 8), np.uint32),
                baseline=baseline,
            )
        except (AttributeError, ValueError, KeyError) as error:
            import sklearn

            raise RuntimeError(
                f"The trees of scikit-learn {sklearn.__version__} cannot be read ({error});"
                " compare without boosting, or install the version in constraints.txt."
            ) from error

    @property
    def num_outputs(self) -> int:
        """K."""
        return len(self.baseline)

    @property
    def num_parameters(self) -> int:
        """Thresholds of all splits and values of all leaves."""
        return len(self.value)

    def raw(self, features: np.ndarray) -> np.ndarray:
        """Raw predictions ``[N, K]`` from features ``[N, F]``, bit for bit scikit-learn's."""
        rows = max(1, CHUNK // max(1, len(self.roots)))
        pieces = [
            self._raw(features[start : start + rows]) for start in range(0, len(features), rows)
        ]
        return np.concatenate(pieces) if pieces else np.zeros((0, self.num_outputs))

    def _raw(self, features: np.ndarray) -> np.ndarray:
        count, outputs = len(features), self.num_outputs
        leaves = self._leaves(features)
        values = self.value[leaves].reshape(count, -1, outputs)
        start = np.broadcast_to(self.baseline, (count, 1, outputs))
        # A running sum adds in the order of the iterations; np.sum would add pairwise and round
        # differently.
        return np.cumsum(np.concatenate([start, values], axis=1), axis=1)[:, -1]

    def _leaves(self, features: np.ndarray) -> np.ndarray:
        """Leaf ``[N, I * K]`` that each row reaches in each tree."""
        node = np.broadcast_to(self.roots, (len(features), len(self.roots))).copy()
        row = np.arange(len(features))[:, None]
        while True:
            value = features[row, self.feature[node]]
            goes_left = value <= self.threshold[node]
            bitset = self.bitset[node]
            categorical = bitset >= 0
            if categorical.any():
                goes_left[categorical] = self._in_set(bitset[categorical], value[categorical])
            goes_left = np.where(np.isnan(value), self.missing_left[node], goes_left)
            following = np.where(goes_left, self.left[node], self.right[node])
            if np.array_equal(following, node):
                return node
            node = following

    def _in_set(self, bitset: np.ndarray, value: np.ndarray) -> np.ndarray:
        code = np.nan_to_num(value).astype(np.uint32)
        found: np.ndarray = (self.bitsets[bitset, code // 32] >> (code % 32)) & 1
        return found.astype(bool)

    def arrays(self) -> dict[str, np.ndarray]:
        """Everything by name, for a file."""
        return {f.name: np.ascontiguousarray(getattr(self, f.name)) for f in fields(self)}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray], *, num_features: int) -> TreeEnsemble:
        """The inverse of ``arrays``, for trees that may come from someone else.

        Args:
            arrays: By name.
            num_features: F, the columns that the trees may ask for.

        Raises:
            ValueError: An array is missing or has another form; a position leads out of its array;
                a way through a tree would not end.
        """
        missing = [f.name for f in fields(cls) if f.name not in arrays]
        if missing:
            raise ValueError(f"The trees lack {missing[0]!r}; the file is damaged.")
        ensemble = cls(**{f.name: arrays[f.name] for f in fields(cls)})
        ensemble._check(num_features)
        return ensemble

    def _check(self, num_features: int) -> None:
        nodes, sets, outputs = len(self.feature), len(self.bitsets), len(self.baseline)
        own = np.arange(nodes)
        leaf = (self.left == own) & (self.right == own)
        forms = {
            "roots": (self.roots, "i", 1),
            "feature": (self.feature, "i", 1),
            "threshold": (self.threshold, "f", 1),
            "left": (self.left, "i", 1),
            "right": (self.right, "i", 1),
            "missing_left": (self.missing_left, "b", 1),
            "bitset": (self.bitset, "i", 1),
            "value": (self.value, "f", 1),
            "bitsets": (self.bitsets, "u", 2),
            "baseline": (self.baseline, "f", 1),
        }
        for name, (array, kind, dimensions) in forms.items():
            if array.dtype.kind != kind or array.ndim != dimensions:
                raise ValueError(f"{name!r} of the trees has another form; the file is damaged.")
        sound = {
            "every array of nodes has one entry per node": all(
                len(array) == nodes
                for array in (
                    self.threshold, self.left, self.right,
                    self.missing_left, self.bitset, self.value,
                )
            ),
            "there are as many trees as outputs per iteration": outputs > 0
            and len(self.roots) % outputs == 0,
            "roots are nodes": _within(self.roots, 0, nodes),
            "splits ask for columns of the table": _within(self.feature, 0, max(num_features, 1)),
            "sets of categories exist": _within(self.bitset, -1, sets)
            and self.bitsets.shape[1] == 8,
            "thresholds and values are numbers": not np.isnan(self.threshold).any()
            and bool(np.isfinite(self.value).all() and np.isfinite(self.baseline).all()),
        }  # fmt: skip
        # A child stands behind its parent, so that every way through a tree ends at a leaf.
        if all(sound.values()):
            sound["children stand behind their parents"] = all(
                _within(child, 0, nodes) and bool((leaf | (child > own)).all())
                for child in (self.left, self.right)
            )
        for what, holds in sound.items():
            if not holds:
                raise ValueError(f"The trees are damaged: it does not hold that {what}.")


def _within(positions: np.ndarray, low: int, end: int) -> bool:
    return bool(((positions >= low) & (positions < end)).all())


def _node_type(model: Any) -> np.dtype[Any]:
    """The structure of a node of an ensemble that keeps no iteration at all."""
    found: np.dtype[Any] = model._predictors[0][0].nodes.dtype
    return found
