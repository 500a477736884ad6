"""Any module of the user's as an architecture.

Shape legend: B batch, C output size.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn

from polytask.architectures.base import Architecture, Inputs
from polytask.config import rebuildable_repr
from polytask.encoders import MLP
from polytask.tasks import Task, TaskTensors, group_into_blocks

__all__ = ["CustomArchitecture"]


class CustomArchitecture(Architecture):
    """A module of the user's that returns the outputs of all tasks, and which part is whose.

    Args:
        module: Returns ``{task: [B, C]}`` (dense kinds ``[B, C, H, W]``; a task of C = 1 may leave
            that axis out), or one tensor ``[B, sum of C]`` whose columns are the tasks in order.
            TaskTensors pass through.
        tasks: The tasks.
        own: Task name to the names of the submodules or parameters (as in
            ``module.named_parameters()``; "heads.a" covers "heads.a.weight") that only this task
            uses. Everything else is shared; None means that everything is.

    Raises:
        ValueError: a name in ``own`` that matches no parameter, a parameter given to two tasks, or
            outputs of another form.

    Cost: the module's, and one copy of the outputs of homogeneous tasks into a block.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from polytask.tasks import Binary, Regression, Task
        >>> tasks = (Task("sold", Binary()), Task("price", Regression()))
        >>> module = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
        >>> model = CustomArchitecture(module=module, tasks=tasks)
        >>> model(torch.zeros(5, 4))["price"].shape
        torch.Size([5, 1])
    """

    def __init__(
        self,
        *,
        module: nn.Module,
        tasks: Sequence[Task],
        own: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        super().__init__(tuple(tasks))
        self.module = module
        self.own = (
            None if own is None else {name: tuple(prefixes) for name, prefixes in own.items()}
        )
        self.blocks = group_into_blocks(self.tasks)
        self.owners = _owners(module, self.own or {}, [task.name for task in self.tasks])

    @classmethod
    def example(cls, tasks: Sequence[Task]) -> tuple[CustomArchitecture, Inputs]:
        columns = sum(task.kind.output_size for task in tasks)
        module = MLP(input_size=5, widths=(6, columns), activation="tanh")
        return cls(module=module, tasks=tasks), torch.randn(6, 5)

    def forward(self, inputs: Inputs) -> TaskTensors:
        outputs = self.module(inputs)
        if isinstance(outputs, TaskTensors):
            return outputs
        if isinstance(outputs, Tensor):
            outputs = self._split(outputs)
        if not isinstance(outputs, Mapping):
            raise ValueError(
                "A wrapped module must return a dict of tensors or one tensor, found "
                f"{type(outputs).__name__}."
            )
        missing = [task.name for task in self.tasks if task.name not in outputs]
        if missing and not isinstance(inputs, Mapping):
            raise ValueError(
                f"The wrapped module returned no output for {missing}; it returned {list(outputs)}."
            )
        return self._stack(outputs)

    def shared_parameters(self) -> Iterator[nn.Parameter]:
        return (p for name, p in self.module.named_parameters() if name not in self.owners)

    def task_parameters(self, name: str) -> Iterator[nn.Parameter]:
        return (
            p
            for parameter, p in self.module.named_parameters()
            if self.owners.get(parameter) == name
        )

    def _split(self, outputs: Tensor) -> dict[str, Tensor]:
        sizes = [task.kind.output_size for task in self.tasks]
        if outputs.dim() != 2 or outputs.shape[1] != sum(sizes):
            raise ValueError(
                f"A wrapped module that returns one tensor must return [B, {sum(sizes)}] (the "
                f"outputs of the tasks side by side), found {list(outputs.shape)}."
            )
        return dict(
            zip((task.name for task in self.tasks), outputs.split(sizes, dim=1), strict=True)
        )

    def _stack(self, outputs: Mapping[str, Tensor]) -> TaskTensors:
        blocks: list[tuple[tuple[str, ...], Tensor]] = []
        for group in self.blocks:
            own = {
                task.name: _checked(task, outputs[task.name])
                for task in group
                if task.name in outputs
            }
            if len({tensor.shape for tensor in own.values()}) == 1:
                blocks.append((tuple(own), torch.stack(list(own.values()), dim=1)))
            else:
                blocks.extend(((name,), tensor.unsqueeze(1)) for name, tensor in own.items())
        return TaskTensors(blocks)

    def __repr__(self) -> str:
        return rebuildable_repr(self)


def _checked(task: Task, output: Tensor) -> Tensor:
    kind = task.kind
    expected = 1 + kind.output_dims
    if kind.output_size == 1 and output.dim() == expected - 1:
        output = output.unsqueeze(1)
    size = output.shape[-1 if kind.output_dims <= 2 else -3] if output.dim() == expected else None
    if size != kind.output_size:
        raise ValueError(
            f"Task {task.name!r} needs outputs with {kind.output_size} values or channels and "
            f"{expected} axes, found {list(output.shape)} from the wrapped module."
        )
    return output


def _owners(
    module: nn.Module, own: Mapping[str, tuple[str, ...]], tasks: list[str]
) -> dict[str, str]:
    """Parameter name to the one task that owns it."""
    names = [name for name, _ in module.named_parameters()]
    owners: dict[str, str] = {}
    for task, prefixes in own.items():
        if task not in tasks:
            raise ValueError(f"`own` names the task {task!r}, which is not among {tasks}.")
        for prefix in prefixes:
            matching = [name for name in names if name == prefix or name.startswith(f"{prefix}.")]
            if not matching:
                raise ValueError(
                    f"`own` of task {task!r} names {prefix!r}, which matches no parameter of the "
                    f"module; its parameters are {names}."
                )
            for name in matching:
                if owners.setdefault(name, task) != task:
                    raise ValueError(
                        f"Parameter {name!r} is given to the tasks {owners[name]!r} and {task!r}."
                    )
    return owners
