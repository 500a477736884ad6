"""What one training step sees.

Shape legend: B batch, K tasks of one block.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from torch import Tensor

from polytask.problems.table_batch import TableBatch
from polytask.tasks import TaskTensors

__all__ = ["Batch"]


@dataclass(frozen=True)
class Batch:
    """What one step sees.

    Args:
        inputs: ``[B, ...]``, or one tensor per task in the separate layout (``TableBatch`` where
            an architecture takes many tables in one piece).
        targets: Encoded targets per task; missing ones hold an arbitrary valid value.
        present: Per block of ``targets``, a mask ``[B, K]`` of the labels that exist, or None if
            all do.
        tasks: Names of the tasks that have at least one label here, in the order of the problem.
        indices: Row numbers ``[B]`` in the split (per task in the separate layout).
        all_rows_count: False where some rows only fill up a short table; their indices are -1 and
            they are not ``present``.
    """

    inputs: Tensor | Mapping[str, Tensor]
    targets: TaskTensors
    present: tuple[Tensor | None, ...]
    tasks: tuple[str, ...]
    indices: Tensor | Mapping[str, Tensor]
    all_rows_count: bool = True

    def head(self, fraction: float) -> Batch:
        """The first share of the rows (of every task where inputs are separate), at least one."""

        def cut(tensor: Tensor) -> Tensor:
            return tensor[: max(1, math.ceil(fraction * len(tensor)))]

        def cut_all(tensors: Tensor | Mapping[str, Tensor]) -> Tensor | Mapping[str, Tensor]:
            if isinstance(tensors, Tensor):
                return cut(tensors)
            if isinstance(tensors, TableBatch):
                return tensors.head(fraction)
            return {name: cut(tensor) for name, tensor in tensors.items()}

        return replace(
            self,
            inputs=cut_all(self.inputs),
            targets=self.targets.map(cut),
            present=tuple(None if mask is None else cut(mask) for mask in self.present),
            indices=cut_all(self.indices),
        )
