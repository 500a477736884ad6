"""Cross-domain encoder-decoder: tasks with different inputs around one shared core.

Shape legend: B_t rows of task t, E encoder features, D core features, M ensemble members.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn

from polytask.architectures.base import Architecture, Inputs
from polytask.architectures.families import Family
from polytask.architectures.heads import Heads, encoder_output_size, head_layers
from polytask.architectures.sharing.hard_sharing import last_layer_parameters
from polytask.config import rebuildable_repr
from polytask.encoders import MLP
from polytask.tasks import Task, TaskTensors

__all__ = ["CrossDomain"]


class CrossDomain(Architecture):
    """Own encoder and own decoder per task around a shared core: y_t = g_t(c(f_t(x_t))).

    f_t maps the inputs of task t, of whatever dimension, to E features; the core c is the part that
    all tasks share; g_t is the head of task t. The rows of all tasks of a step go through the core
    together, in one pass; a core with batch normalisation therefore normalises over all tasks.

    Args:
        encoders: Task name to f_t, modules with ``output_size``; all have the same E (and the same
            number of members).
        core: c, a module with ``output_size`` D from features ``[rows, E]`` to ``[rows, D]``.
        tasks: The tasks, with vector outputs; one encoder each.
        head: "linear" or "mlp".
        hidden: Hidden sizes of an "mlp" head; None means one layer of D / 2 units (at least 8).

    Shapes: inputs ``{task: [B_t, ...]}`` for any of the tasks; outputs a block ``[B_t, 1, C]`` per
        task, in training with M > 1 members ``[M, B_t, 1, C]``.

    Raises:
        ValueError: a task without encoder, encoders that disagree in E or members, inputs that are
            not one tensor per task.

    Cost: one encoder pass per task, one core pass.

    Example:
        >>> import torch
        >>> from polytask.encoders import MLP
        >>> from polytask.tasks import Binary, Regression, Task
        >>> price, spam = MLP(input_size=4, widths=(8,)), MLP(input_size=9, widths=(8,))
        >>> encoders = {"price": price, "spam": spam}
        >>> tasks = (Task("price", Regression()), Task("spam", Binary()))
        >>> model = CrossDomain(encoders=encoders, core=MLP(input_size=8, widths=(8,)), tasks=tasks)
        >>> model({"price": torch.zeros(5, 4), "spam": torch.zeros(3, 9)})
        TaskTensors(1 task(s) (5, 1, 1), 1 task(s) (3, 1, 1))

    References:
        E. Meyerson, R. Miikkulainen, The Traveling Observer Model, ICLR 2021,
        https://arxiv.org/abs/2010.02354, section 2 (the cross-domain family).
    """

    family = Family.CROSS_DOMAIN

    def __init__(
        self,
        *,
        encoders: Mapping[str, nn.Module],
        core: nn.Module,
        tasks: Sequence[Task],
        head: str = "linear",
        hidden: Sequence[int] | None = None,
    ) -> None:
        super().__init__(tuple(tasks))
        names = [task.name for task in self.tasks]
        if set(encoders) != set(names):
            odd = sorted(set(encoders) ^ set(names))
            raise ValueError(
                f"CrossDomain needs exactly one encoder per task, found no pair for {odd}."
            )
        agreed = {
            (encoder_output_size(encoders[name]), getattr(encoders[name], "num_members", 1))
            for name in names
        }
        if len(agreed) > 1:
            raise ValueError(
                "The encoders of CrossDomain must agree in `output_size` and `num_members`, found "
                f"{sorted(agreed)}; give them one width."
            )
        self.head = head
        self.hidden = None if hidden is None else tuple(hidden)
        self.positions = {name: position for position, name in enumerate(names)}
        self.task_encoders = nn.ModuleList(encoders[name] for name in names)
        self.core = core
        self.num_members = agreed.pop()[1]
        features = encoder_output_size(core)
        layers = head_layers(head, self.hidden, features)
        self.task_heads = nn.ModuleList(
            Heads(input_size=features, tasks=(task,), hidden=layers, members=self.num_members)
            for task in self.tasks
        )

    @classmethod
    def example(cls, tasks: Sequence[Task]) -> tuple[CrossDomain, Inputs]:
        sizes = {task.name: 3 + position for position, task in enumerate(tasks)}
        encoders = {name: MLP(input_size=size, widths=(6,)) for name, size in sizes.items()}
        model = cls(encoders=encoders, core=MLP(input_size=6, widths=(7,)), tasks=tasks)
        return model, {name: torch.randn(size + 1, size) for name, size in sizes.items()}

    @property
    def encoders(self) -> dict[str, nn.Module]:
        """Task name to its encoder."""
        return {name: self.task_encoders[position] for name, position in self.positions.items()}

    def forward(self, inputs: Inputs) -> TaskTensors:
        if not isinstance(inputs, Mapping):
            raise ValueError(
                f"CrossDomain takes one tensor per task, found one tensor of shape "
                f"{list(inputs.shape)}; use HardSharing for tasks that share their inputs."
            )
        unknown = [name for name in inputs if name not in self.positions]
        if unknown:
            raise ValueError(
                f"CrossDomain has no encoder for {unknown}; its tasks are {list(self.positions)}."
            )
        encoded = [self.task_encoders[self.positions[name]](rows) for name, rows in inputs.items()]
        features = self._through_core(torch.cat(encoded, dim=-2))
        pieces = features.split([part.shape[-2] for part in encoded], dim=-2)
        blocks = []
        for name, piece in zip(inputs, pieces, strict=True):
            blocks.extend(self.task_heads[self.positions[name]](piece).blocks)
        return TaskTensors(blocks, self.num_members if self.training else 1)

    def _through_core(self, features: Tensor) -> Tensor:
        rows: Tensor = self.core(features.flatten(0, -2))
        return rows.reshape(*features.shape[:-1], -1)

    def shared_parameters(self) -> Iterator[nn.Parameter]:
        return self.core.parameters()

    def task_parameters(self, name: str) -> Iterator[nn.Parameter]:
        position = self.positions[name]
        yield from self.task_encoders[position].parameters()
        yield from self.task_heads[position].parameters()

    def last_shared_parameters(self) -> Iterator[nn.Parameter]:
        return last_layer_parameters(self.core)

    def __repr__(self) -> str:
        return rebuildable_repr(self)
