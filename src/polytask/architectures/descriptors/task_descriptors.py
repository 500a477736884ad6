"""Task descriptors: a vector per task that says what the task is.

Shape legend: T tasks, Z numbers of a descriptor, K chosen tasks.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from polytask.config import rebuildable_repr
from polytask.encoders.base import check_positive

__all__ = ["TaskDescriptors"]

#: Most numbers of a learned descriptor where nothing is said.
LEARNED_SIZE = 8

#: Descriptors as a user gives them: a row per task, or a row by name.
Values = Tensor | Sequence[Sequence[float]] | Mapping[str, Sequence[float]]


class TaskDescriptors(nn.Module):
    """A vector z_t per task: one-hot, learned, or known attributes of the tasks.

    With names alone z_t is one-hot, Z = T. With ``size`` the vectors are learned embeddings [T, Z];
    where they are to be compared afterwards, a small ``deviation`` lets what is learned outweigh
    where they started. With ``values`` they are given and fixed: attributes of the tasks such as an
    angle or a place, possibly of more tasks than a model is trained on; new tasks can then be
    predicted without training (``DescriptorModel.predict_for``).

    Args:
        names: Of the tasks, in the order of the vectors.
        size: Z of learned embeddings.
        deviation: Standard deviation of their Gaussian initial values, > 0.
        values: Given vectors: ``[T, Z]`` in the order of ``names``, or a vector by name.

    Shapes: ``forward(names)`` is ``[K, Z]``; without names ``[T, Z]``.

    Raises:
        ValueError: both ``size`` and ``values``, a deviation that is not positive, names that
            repeat, a number of vectors other than that of the names, vectors of different or no
            length, values that are not finite.

    Cost: Z numbers per task.

    Example:
        >>> angles = TaskDescriptors(names=("left", "ahead"), values=((0.0, -1.0), (1.0, 0.0)))
        >>> angles.distances()
        tensor([[0.0000, 1.4142],
                [1.4142, 0.0000]])
        >>> TaskDescriptors(names=("a", "b", "c"))(["c", "a"])
        tensor([[0., 0., 1.],
                [1., 0., 0.]])

    References:
        Y. Yang, T. Hospedales, A Unified Perspective on Multi-Domain and Multi-Task Learning, ICLR
        2015, https://arxiv.org/abs/1412.7489, section 3 (semantic descriptors).
    """

    fixed: Tensor

    def __init__(
        self,
        *,
        names: Sequence[str],
        size: int | None = None,
        deviation: float = 1.0,
        values: Values | None = None,
    ) -> None:
        super().__init__()
        if size is not None and values is not None:
            raise ValueError(
                f"Descriptors are learned (`size`) or given (`values`), found size={size} and "
                "values; give one of them."
            )
        self.names = tuple(names)
        self._places = {name: place for place, name in enumerate(self.names)}
        if not self.names or len(self._places) != len(self.names):
            raise ValueError(
                f"`names` must name at least one task, each once, found {list(self.names)}."
            )
        self.size = None if size is None else check_positive("size", size)
        if not (math.isfinite(deviation) and deviation > 0):
            raise ValueError(f"`deviation` must be > 0, found {deviation}.")
        self.deviation = deviation
        self.values = None if values is None else _as_rows(values, self.names)
        if self.size is not None:
            self.embedding: nn.Parameter | None = nn.Parameter(
                deviation * torch.randn(len(self.names), self.size)
            )
        else:
            self.embedding = None
            rows = torch.eye(len(self.names)) if self.values is None else torch.tensor(self.values)
            # One-hot vectors follow from the names; given ones belong to the state of a model.
            self.register_buffer("fixed", rows, persistent=self.values is not None)

    @property
    def vectors(self) -> Tensor:
        """All descriptors ``[T, Z]``."""
        return self.fixed if self.embedding is None else self.embedding

    @property
    def output_size(self) -> int:
        """Z."""
        return self.vectors.shape[1]

    @property
    def is_one_hot(self) -> bool:
        """Whether each number of a descriptor belongs to one task."""
        return self.size is None and self.values is None

    @property
    def scale(self) -> float:
        """Root of the mean squared length of the vectors; 1 where all of them are zero.

        Layers on descriptors divide their initial weights by it, so that outputs start at the same
        scale whatever the descriptors are.
        """
        found = math.sqrt(float(self.vectors.detach().square().sum(1).mean()))
        return found or 1.0

    def position(self, name: str) -> int:
        """The row of this task."""
        if name not in self._places:
            raise ValueError(f"No descriptor of task {name!r}; there are those of {self.names}.")
        return self._places[name]

    def forward(self, names: Sequence[str] | None = None) -> Tensor:
        """Descriptors ``[K, Z]`` of these tasks, of all by default."""
        if names is None:
            return self.vectors
        rows = torch.tensor([self.position(name) for name in names], device=self.vectors.device)
        return self.vectors.index_select(0, rows)

    def distances(self) -> Tensor:
        """Euclidean distances ``[T, T]`` between the descriptors, detached."""
        found = self.vectors.detach()
        # The fast way through inner products is not exactly 0 for equal vectors.
        return torch.cdist(found, found, compute_mode="donot_use_mm_for_euclid_dist")

    def similarity(self) -> Tensor:
        """Cosines ``[T, T]`` between the descriptors, detached; 0 with a descriptor of zeros."""
        unit = functional.normalize(self.vectors.detach(), dim=1)
        return (unit @ unit.mT).clamp(-1, 1)

    def __repr__(self) -> str:
        return rebuildable_repr(self)


def _as_rows(values: Values, names: tuple[str, ...]) -> tuple[tuple[float, ...], ...]:
    """The given descriptors as plain numbers, in the order of the names."""
    if isinstance(values, Mapping):
        odd = sorted(set(values) ^ set(names))
        if odd:
            raise ValueError(f"`values` must hold a descriptor of every task, found no pair: {odd}")
        values = [values[name] for name in names]
    given = values.tolist() if isinstance(values, Tensor) else values
    rows = tuple(tuple(float(number) for number in row) for row in given)
    if len(rows) != len(names):
        raise ValueError(f"`values` has {len(rows)} descriptors for {len(names)} tasks.")
    lengths = sorted({len(row) for row in rows})
    if len(lengths) > 1 or lengths[0] == 0:
        raise ValueError(
            f"The descriptors in `values` must have one length of at least 1, found {lengths}."
        )
    for name, row in zip(names, rows, strict=True):
        if not all(map(math.isfinite, row)):
            raise ValueError(f"The descriptor of task {name!r} must be finite, found {row}.")
    return rows
