"""Independent networks: nothing is shared.

Shape legend: B batch, D features, M ensemble members.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn

from polytask.architectures.base import Architecture, Inputs
from polytask.architectures.heads import Heads, encoder_output_size, head_layers
from polytask.config import rebuildable_repr
from polytask.encoders import MLP, Encoder
from polytask.tasks import Task, TaskTensors

__all__ = ["Independent"]


class Independent(Architecture):
    """A whole network per task, in one module: y_t = g_t(f_t(x)), no parameter shared.

    What single-task learning is when all tasks are trained in one loop; a balancer has nothing to
    balance in it.

    Args:
        encoder: an encoder, of which every task gets a fresh one with the same arguments (and its
            own initial values), or a function without arguments that makes a module with
            ``output_size``.
        tasks: The tasks, with vector outputs.
        head: "linear" or "mlp".
        hidden: Hidden sizes of an "mlp" head; None means one layer of D / 2 units (at least 8).

    Shapes: as ``HardSharing``; every task is a block of its own.

    Raises:
        TypeError: a module that is no ``Encoder``, of which fresh copies cannot be made.

    Cost: T encoder passes.

    Example:
        >>> import torch
        >>> from polytask.encoders import MLP
        >>> from polytask.tasks import Regression, Task
        >>> tasks = (Task("price", Regression()), Task("rent", Regression()))
        >>> model = Independent(encoder=MLP(input_size=4, widths=(8,)), tasks=tasks)
        >>> list(model.shared_parameters())
        []
        >>> model(torch.zeros(5, 4))["rent"].shape
        torch.Size([5, 1])

    References:
        R. Caruana, Multitask Learning, Machine Learning 28, 1997,
        https://doi.org/10.1023/A:1007379606734 (the baseline).
    """

    def __init__(
        self,
        *,
        encoder: Encoder | Callable[[], nn.Module],
        tasks: Sequence[Task],
        head: str = "linear",
        hidden: Sequence[int] | None = None,
    ) -> None:
        super().__init__(tuple(tasks))
        if isinstance(encoder, nn.Module) and not isinstance(encoder, Encoder):
            raise TypeError(
                f"Independent cannot make fresh copies of a {type(encoder).__name__}; pass a "
                "function that makes one, such as `lambda: MyEncoder()`."
            )
        make = encoder.fresh if isinstance(encoder, Encoder) else encoder
        # Not registered as a submodule: the encoder given is the pattern of the networks, not one.
        self.__dict__["encoder"] = encoder
        self.head = head
        self.hidden = None if hidden is None else tuple(hidden)
        self.networks = nn.ModuleList(self._network(make(), task) for task in self.tasks)
        self.positions = {task.name: position for position, task in enumerate(self.tasks)}

    @classmethod
    def example(cls, tasks: Sequence[Task]) -> tuple[Independent, Inputs]:
        return cls(encoder=MLP(input_size=5, widths=(6,)), tasks=tasks), torch.randn(6, 5)

    def forward(self, inputs: Inputs) -> TaskTensors:
        own = inputs if isinstance(inputs, Mapping) else dict.fromkeys(self.positions, inputs)
        outputs = [self._output(name, rows) for name, rows in own.items()]
        return TaskTensors([block for part in outputs for block in part.blocks], outputs[0].members)

    def shared_parameters(self) -> Iterator[nn.Parameter]:
        return iter(())

    def task_parameters(self, name: str) -> Iterator[nn.Parameter]:
        return self.networks[self.positions[name]].parameters()

    def _network(self, encoder: nn.Module, task: Task) -> nn.Sequential:
        features = encoder_output_size(encoder)
        hidden = head_layers(self.head, self.hidden, features)
        heads = Heads(
            input_size=features,
            tasks=(task,),
            hidden=hidden,
            members=getattr(encoder, "num_members", 1),
        )
        return nn.Sequential(encoder, heads)

    def _output(self, name: str, rows: Tensor) -> TaskTensors:
        outputs: TaskTensors = self.networks[self.positions[name]](rows)
        return outputs

    def __repr__(self) -> str:
        return rebuildable_repr(self)
