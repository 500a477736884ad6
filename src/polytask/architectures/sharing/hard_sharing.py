"""Hard parameter sharing: one encoder for all tasks, one head each.

Shape legend: B batch, D features, M ensemble members.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn

from polytask.architectures.base import Architecture, Inputs, TaskIndex
from polytask.architectures.families import Family
from polytask.architectures.heads import Heads, encoder_output_size, head_layers
from polytask.config import rebuildable_repr
from polytask.encoders import MLP
from polytask.tasks import Task, TaskTensors

__all__ = ["HardSharing"]


class HardSharing(Architecture):
    """One encoder that every task shares, and one head per task: y_t = g_t(f(x)).

    f is the encoder, g_t the head of task t. With one task it is an ordinary single-task network.
    Homogeneous tasks are one block: the parameters of their heads are rows of common tensors, which
    ``task_parameters`` yields for each of these tasks and ``task_rows`` narrows to the task's own
    part.

    Args:
        encoder: f: any module with ``output_size`` from inputs ``[B, ...]`` to features ``[B, D]``
            (``[M, B, D]`` where it has ``num_members`` M > 1).
        tasks: The tasks, with vector outputs.
        head: "linear" or "mlp".
        hidden: Hidden sizes of an "mlp" head; None means one layer of D / 2 units (at least 8).

    Shapes: inputs ``[B, ...]``; blocks of outputs ``[B, K, C]``, in training with M > 1 members
        ``[M, B, K, C]``. Separate layout with one input format: inputs ``{task: [B_t, ...]}``, one
        encoder pass over all rows, and each task's outputs for its own rows.

    Raises:
        ValueError: an encoder without ``output_size``, an unknown head, a task with dense outputs.

    Cost: one encoder pass whatever the number of tasks, and one matrix product per block and head
        layer.

    Example:
        >>> import torch
        >>> from polytask.encoders import MLP
        >>> from polytask.tasks import Binary, Regression, Task
        >>> tasks = (Task("sold", Binary()), Task("rare", Binary()), Task("price", Regression()))
        >>> model = HardSharing(encoder=MLP(input_size=4, widths=(8,)), tasks=tasks)
        >>> model(torch.zeros(5, 4))
        TaskTensors(2 task(s) (5, 2, 1), 1 task(s) (5, 1, 1))

    References:
        R. Caruana, Multitask Learning, Machine Learning 28, 1997,
        https://doi.org/10.1023/A:1007379606734.
    """

    family = Family.INTRA_DOMAIN

    def __init__(
        self,
        *,
        encoder: nn.Module,
        tasks: Sequence[Task],
        head: str = "linear",
        hidden: Sequence[int] | None = None,
    ) -> None:
        super().__init__(tuple(tasks))
        features = encoder_output_size(encoder)
        self.encoder = encoder
        self.head = head
        self.hidden = None if hidden is None else tuple(hidden)
        self.task_heads = Heads(
            input_size=features,
            tasks=self.tasks,
            hidden=head_layers(head, self.hidden, features),
            members=getattr(encoder, "num_members", 1),
        )

    @classmethod
    def example(cls, tasks: Sequence[Task]) -> tuple[HardSharing, Inputs]:
        encoder = MLP(input_size=5, widths=(8, 6))
        return cls(encoder=encoder, tasks=tasks, head="mlp", hidden=(7, 5)), torch.randn(6, 5)

    def forward(self, inputs: Inputs) -> TaskTensors:
        if isinstance(inputs, Mapping):
            return self._forward_separate(inputs)
        outputs: TaskTensors = self.task_heads(self.encoder(inputs))
        return outputs

    def features(self, inputs: Inputs) -> Tensor | None:
        """The shared representation that all heads start from; None in the separate layout.

        With separate inputs each row belongs to one task, which features alone do not tell.
        """
        return None if isinstance(inputs, Mapping) else self.encoder(inputs)

    def heads(self, features: Tensor) -> TaskTensors:
        outputs: TaskTensors = self.task_heads(features)
        return outputs

    def _forward_separate(self, inputs: Mapping[str, Tensor]) -> TaskTensors:
        """Every head on every row in one product, then each task keeps its own rows."""
        rows = torch.cat(list(inputs.values()))
        outputs = self.heads(self.encoder(rows)).select(inputs)
        own = split_rows(outputs, {name: len(rows) for name, rows in inputs.items()})
        return TaskTensors(own, outputs.members)

    def shared_parameters(self) -> Iterator[nn.Parameter]:
        return self.encoder.parameters()

    def task_parameters(self, name: str) -> Iterator[nn.Parameter]:
        return (parameter for parameter, _ in self.task_heads.task_rows(name))

    def task_rows(self, name: str) -> Iterator[tuple[nn.Parameter, TaskIndex]]:
        return self.task_heads.task_rows(name)

    def last_shared_parameters(self) -> Iterator[nn.Parameter]:
        return last_layer_parameters(self.encoder)

    def __repr__(self) -> str:
        return rebuildable_repr(self)


def last_layer_parameters(module: nn.Module) -> Iterator[nn.Parameter]:
    """Parameters of the last submodule, in order of registration, that has any of its own."""
    last: list[nn.Parameter] = []
    for part in module.modules():
        own = list(part.parameters(recurse=False))
        last = own or last
    return iter(last)


def split_rows(
    outputs: TaskTensors, counts: Mapping[str, int]
) -> list[tuple[tuple[str, ...], Tensor]]:
    """One block per task with that task's rows, from outputs of all tasks for all rows."""
    pieces: list[tuple[tuple[str, ...], Tensor]] = []
    axis = outputs.row_axis
    start = 0
    for name, count in counts.items():
        pieces.append(((name,), outputs[name].narrow(axis, start, count).unsqueeze(axis + 1)))
        start += count
    return pieces
