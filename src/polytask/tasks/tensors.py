"""One tensor per task, stored by block.

Shape legend: B batch, K tasks of one block, M ensemble members.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

import torch
from torch import Tensor

__all__ = ["TaskTensors"]


class TaskTensors(Mapping[str, Tensor]):
    """One tensor per task, stored by block: homogeneous tasks share one tensor ``[B, K, ...]``.

    A hundred binary tasks are one tensor of a hundred columns, so that heads, losses and metrics
    are single operations. As a mapping it yields each task's own view ``[B, ...]``.

    Args:
        blocks: Task names and their tensor: dimension 1 runs over the names (dimension 2 if
            ``members > 1``).
        members: Number of ensemble members M; if M > 1 every tensor has a leading dimension of M.
        sizes: Outputs of every task where tasks of different sizes share a block, padded at the end
            of the last dimension; None where nothing is padded.
    """

    __slots__ = ("_places", "blocks", "members", "sizes")

    def __init__(
        self,
        blocks: Iterable[tuple[tuple[str, ...], Tensor]],
        members: int = 1,
        *,
        sizes: Mapping[str, int] | None = None,
    ) -> None:
        self.blocks = tuple(blocks)
        self.members = members
        self.sizes = sizes
        self._places: dict[str, tuple[int, int]] | None = None

    @classmethod
    def from_mapping(cls, tensors: Mapping[str, Tensor]) -> TaskTensors:
        """One block per task from plain tensors ``[B, ...]``; ready TaskTensors pass through."""
        if isinstance(tensors, TaskTensors):
            return tensors
        return cls(((name,), tensor.unsqueeze(1)) for name, tensor in tensors.items())

    @property
    def row_axis(self) -> int:
        """The dimension of every tensor that runs over rows: 1 behind ensemble members, otherwise
        0; the next one runs over the tasks of the block.
        """
        return 1 if self.members > 1 else 0

    @property
    def places(self) -> dict[str, tuple[int, int]]:
        """Task name to (block, column)."""
        if self._places is None:
            self._places = {
                name: (b, k)
                for b, (names, _) in enumerate(self.blocks)
                for k, name in enumerate(names)
            }
        return self._places

    def __getitem__(self, name: str) -> Tensor:
        block, column = self.places[name]
        tensor = self.blocks[block][1].select(self.row_axis + 1, column)
        return tensor if self.sizes is None else tensor[..., : self.sizes[name]]

    def __contains__(self, name: object) -> bool:
        return name in self.places

    def __iter__(self) -> Iterator[str]:
        return iter(self.places)

    def __len__(self) -> int:
        return sum(len(names) for names, _ in self.blocks)

    def __repr__(self) -> str:
        shapes = ", ".join(f"{len(names)} task(s) {tuple(t.shape)}" for names, t in self.blocks)
        return f"TaskTensors({shapes})"

    def block(self, names: tuple[str, ...]) -> Tensor | None:
        """The tensor of the block that holds exactly these tasks in this order, if there is one."""
        for block_names, tensor in self.blocks:
            if block_names == names:
                return tensor
        return None

    def stacked(self, names: tuple[str, ...]) -> Tensor:
        """The tensors of these tasks as one block, without a copy if they are one."""
        found = self.block(names)
        if found is None:
            found = torch.stack([self[name] for name in names], dim=self.row_axis + 1)
        return found

    def map(self, function: Callable[[Tensor], Tensor]) -> TaskTensors:
        """The same blocks with ``function`` applied to each tensor."""
        blocks = ((names, function(t)) for names, t in self.blocks)
        return TaskTensors(blocks, self.members, sizes=self.sizes)

    def select(self, names: Iterable[str]) -> TaskTensors:
        """The blocks restricted to some tasks, in the order of the blocks."""
        wanted = set(names)
        kept = []
        for block_names, tensor in self.blocks:
            columns = [k for k, name in enumerate(block_names) if name in wanted]
            if len(columns) == len(block_names):
                kept.append((block_names, tensor))
            elif columns:
                index = torch.tensor(columns, device=tensor.device)
                chosen = tensor.index_select(self.row_axis + 1, index)
                kept.append((tuple(block_names[k] for k in columns), chosen))
        return TaskTensors(kept, self.members, sizes=self.sizes)
