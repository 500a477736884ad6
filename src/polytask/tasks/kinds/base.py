"""What a target is: the interface of all kinds, and what kinds of classes have in common.

Shape legend: C output size, H and W of a map.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable
from dataclasses import dataclass, fields
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from polytask.tasks.metrics import Metric

__all__ = ["IGNORE_INDEX", "Kind", "decode_labels", "encode_labels"]

#: The class index that marks a missing label.
IGNORE_INDEX = -1


@dataclass(frozen=True)
class Kind(ABC):
    """What a target is. Subclasses say how outputs are compared with targets.

    ``loss`` and ``predict`` work on any leading dimensions, so that homogeneous tasks are computed
    as one block: outputs are ``[..., C]`` and targets ``[...]`` (dense kinds: ``[..., C, H, W]``
    and ``[..., H, W]``).
    """

    #: Fields that describe one task only; two kinds that differ in these alone still form one
    #: block.
    per_task_fields: ClassVar[frozenset[str]] = frozenset()
    #: Fields in which tasks may also differ whose outputs are padded to one size with -inf.
    padded_fields: ClassVar[frozenset[str]] = frozenset()
    #: Trailing target dimensions beyond the leading (batch) ones.
    target_dims: ClassVar[int] = 0
    #: Trailing output dimensions beyond the leading ones (1: a vector of C numbers; 3: a map of C
    #: channels).
    output_dims: ClassVar[int] = 1
    #: Whether targets are class indices (int64, missing = -1) instead of numbers (missing = NaN).
    is_categorical: ClassVar[bool] = False
    #: What the kind is called in files and tables; the class's name in small letters by default.
    name_in_files: ClassVar[str]

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        if "name_in_files" not in cls.__dict__:
            cls.name_in_files = cls.__name__.lower()

    @property
    @abstractmethod
    def output_size(self) -> int:
        """Numbers (or channels) that a model must produce per example."""

    @property
    @abstractmethod
    def default_metrics(self) -> tuple[Metric, ...]:
        """Metrics of this kind; the first is the primary one."""

    @abstractmethod
    def loss(self, output: Tensor, target: Tensor, class_weights: Tensor | None = None) -> Tensor:
        """Loss per example ``[...]``, with missing targets already replaced by any valid value."""

    @abstractmethod
    def predict(self, output: Tensor) -> Tensor:
        """Prediction ``[...]`` in the encoding of the targets."""

    def probabilities(self, output: Tensor) -> Tensor | None:
        """Class probabilities ``[..., classes]``, or None where the kind has none."""
        del output
        return None

    def missing(self, target: Tensor) -> Tensor:
        """Mask ``[...]`` of the examples without a label; a dense target is missing when every
        pixel is.
        """
        absent = target == IGNORE_INDEX if self.is_categorical else torch.isnan(target)
        return absent.flatten(-self.target_dims).all(-1) if self.target_dims else absent

    def encode(self, values: np.ndarray) -> np.ndarray:
        """Values in the user's units to the encoding that training uses."""
        return values

    def decode(self, encoded: np.ndarray) -> np.ndarray:
        """The inverse of ``encode``."""
        return encoded

    @property
    def block_key(self) -> Hashable:
        """Equal for kinds whose outputs can be computed and compared as one block."""
        return self._key_without(self.per_task_fields)

    @property
    def padded_key(self) -> Hashable:
        """Equal for kinds whose outputs form one block if they are padded with -inf."""
        return self._key_without(self.per_task_fields | self.padded_fields)

    def _key_without(self, left_out: frozenset[str]) -> Hashable:
        shared = tuple(
            (f.name, getattr(self, f.name)) for f in fields(self) if f.name not in left_out
        )
        return (type(self).__name__, shared)

    def config(self) -> dict[str, Any]:
        """A plain record of the kind, for files and reports."""
        record = {f.name: getattr(self, f.name) for f in fields(self)}
        return {"kind": self.name_in_files, **record}


def encode_labels(values: np.ndarray, labels: tuple[Any, ...]) -> np.ndarray:
    """Class indices of labels; ``IGNORE_INDEX`` for what is none of them."""
    index = {label: i for i, label in enumerate(labels)}
    return np.array([index.get(value, IGNORE_INDEX) for value in values], dtype=np.int64)


def decode_labels(encoded: np.ndarray, labels: tuple[Any, ...]) -> np.ndarray:
    """The inverse of ``encode_labels``."""
    table = np.empty(len(labels), dtype=object)
    table[:] = labels
    return table[np.asarray(encoded, dtype=np.int64)]
