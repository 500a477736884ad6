"""A shared attention encoder with parameters of each task's own at every layer.

Shape legend: T tasks, K tasks of one block, R rows of a step over all tasks, B rows of a task, L
positions, D features, C output size.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from polytask.architectures.adaptations.attention import ProjectedAttention
from polytask.architectures.adaptations.layers import Adaptation, TaskLinear, TaskRows, attached
from polytask.architectures.base import Architecture, Inputs, TaskIndex
from polytask.architectures.families import Family
from polytask.architectures.heads import head_layers
from polytask.config import rebuildable_repr
from polytask.encoders.layered import LayeredEncoder
from polytask.encoders.transformer import TokenInputs, Transformer, VectorInputs
from polytask.tasks import Task, TaskTensors, group_into_blocks

if TYPE_CHECKING:
    from polytask.problems import Problem

__all__ = ["ParameterReport", "TaskAdapted"]


class TaskAdapted(Architecture):
    """One attention encoder for all tasks, with a few parameters of each task's own inside it.

    y_t = g_t(f(x_t; theta, theta_t)): theta is shared by all tasks, theta_t are the task's small
    layers beside, after or on the shared ones (``ProjectedAttention``, ``Adapters``, ``LowRank``,
    ``Scaling``), g_t is its head. It is of the intra-domain family, extended: the encoder is still
    one function of inputs of one format and every task decodes for itself; theta_t belongs to one
    task and cannot be computed for a new one, as a descriptor's effect could. With theta_t at its
    starting values it *is* hard sharing.

    All tasks are computed in one pass. The rows of the tasks lie one after the other in the batch;
    the shared layers see one long batch, and every layer of the tasks' own is one batched product
    over blocks ``[T, ...]``, however many tasks there are.

    Args:
        encoder: A ``LayeredEncoder``: ``Transformer`` or ``HuggingFaceEncoder``.
        tasks: The tasks, with vector outputs.
        adaptation: What a task has of its own.
        head: "linear" or "mlp".
        hidden: Hidden sizes of an "mlp" head; None means one layer of D / 2 units (at least 8).

    Shapes: inputs as the encoder's, ``[B, L]`` or ``[B, L, S]``; blocks of outputs ``[B, K, C]``.
        Separate layout: inputs ``{task: [B_t, L]}`` of one length for any of the tasks, a block
        ``[B_t, 1, C]`` per task.

    Raises:
        ValueError: an encoder without layers to adapt, an unknown head, a task with dense outputs,
            inputs of unequal length.

    Cost: shared layout, T passes of the encoder over B rows (a task's parameters act from the first
        layer on, so that nothing is computed once for all tasks); separate layout, one pass over
        all rows. While a pass runs, forward hooks are on the encoder's layers: two passes of one
        model must not run in two threads at a time.

    Example:
        >>> import torch
        >>> from polytask.tasks import Binary, Task
        >>> inputs = TokenInputs(vocabulary=50, length=8)
        >>> encoder = Transformer(inputs=inputs, width=16, depth=2, heads=4)
        >>> tasks = (Task("spam", Binary()), Task("polite", Binary()))
        >>> pals = ProjectedAttention(size=6, heads=2)
        >>> model = TaskAdapted(encoder=encoder, tasks=tasks, adaptation=pals)
        >>> model(torch.randint(1, 50, (5, 8)))
        TaskTensors(2 task(s) (5, 2, 1))

    References:
        A. C. Stickland, I. Murray, BERT and PALs, ICML 2019, https://arxiv.org/abs/1902.02671.
        N. Houlsby et al., Parameter-Efficient Transfer Learning for NLP, ICML 2019,
        https://arxiv.org/abs/1902.00751.
    """

    family = Family.INTRA_DOMAIN

    def __init__(
        self,
        *,
        encoder: nn.Module,
        tasks: Sequence[Task],
        adaptation: Adaptation,
        head: str = "linear",
        hidden: Sequence[int] | None = None,
    ) -> None:
        super().__init__(tuple(tasks))
        if not isinstance(encoder, LayeredEncoder):
            raise ValueError(
                "TaskAdapted needs an encoder whose attention layers it can reach, such as "
                f"Transformer or HuggingFaceEncoder, found a {type(encoder).__name__}; derive it "
                "from LayeredEncoder, or use HardSharing."
            )
        self.encoder = encoder
        self.adaptation = adaptation
        self.head = head
        self.hidden = None if hidden is None else tuple(hidden)
        self.task_heads = TaskHeads(
            encoder.output_size, self.tasks, head_layers(head, self.hidden, encoder.output_size)
        )
        #: Row of each task in the parameters; tasks of one block have adjacent rows.
        self.positions = {name: row for row, name in enumerate(self.task_heads.order)}
        self.task_layers = adaptation.build(
            num_tasks=len(self.tasks),
            width=encoder.output_size,
            depth=len(encoder.layer_sites()),
        )

    @classmethod
    def example(cls, tasks: Sequence[Task]) -> tuple[TaskAdapted, Inputs]:
        tokens = torch.randint(1, 11, (6, 5)).to(torch.get_default_dtype())
        tokens[1, 3:] = 0
        encoder = Transformer(
            inputs=TokenInputs(vocabulary=11, length=5), width=8, depth=2, heads=2
        )
        pals = ProjectedAttention(size=4, heads=2)
        return cls(encoder=encoder, tasks=tasks, adaptation=pals), tokens

    @classmethod
    def for_problem(cls, problem: Problem) -> TaskAdapted:
        """PALs in a small transformer over a problem's token ids (0 is padding) or vectors.

        Raises:
            ValueError: inputs that are neither whole numbers ``[N, L]`` nor vectors ``[N, L, S]``.
        """
        encoder = Transformer(inputs=_inputs_of(problem), pooling="mean")
        adaptation = ProjectedAttention(size=24, heads=6)
        return cls(encoder=encoder, tasks=problem.tasks, adaptation=adaptation)

    def forward(self, inputs: Inputs) -> TaskTensors:
        if isinstance(inputs, Mapping):
            return self._forward_separate(inputs)
        tokens = inputs.repeat(len(self.tasks), *(1 for _ in inputs.shape[1:]))
        counts = [len(inputs)] * len(self.tasks)
        features = self._encode(tokens, None, counts)
        return self.task_heads.all(features.reshape(len(self.tasks), len(inputs), -1))

    def _forward_separate(self, inputs: Mapping[str, Tensor]) -> TaskTensors:
        """The rows of the step's tasks after each other, in the order of their parameters."""
        unknown = [name for name in inputs if name not in self.positions]
        if unknown:
            raise ValueError(
                f"TaskAdapted has no task {unknown}; its tasks are {list(self.positions)}."
            )
        shapes = {name: list(rows.shape[1:]) for name, rows in inputs.items()}
        if len({tuple(shape) for shape in shapes.values()}) > 1:
            raise ValueError(
                f"TaskAdapted needs rows of one shape for all tasks of a step, found {shapes}; pad "
                "them to one length."
            )
        names = sorted(inputs, key=self.positions.__getitem__)
        tokens = torch.cat([inputs[name] for name in names])
        counts = [len(inputs[name]) for name in names]
        every = len(names) == len(self.tasks)
        places = torch.tensor([self.positions[name] for name in names], device=tokens.device)
        features = self._encode(tokens, None if every else places, counts)
        own = self.task_heads.some(features, names, counts)
        return TaskTensors(((name,), own[name].unsqueeze(1)) for name in inputs)

    def _encode(self, tokens: Tensor, tasks: Tensor | None, counts: Sequence[int]) -> Tensor:
        """Features ``[R, D]`` of rows that lie task after task."""
        padding = self.encoder.padding(tokens)
        rows = TaskRows(tasks, counts, device=tokens.device, padding=padding)
        with attached(self.task_layers, self.encoder.layer_sites(), rows):
            features: Tensor = self.encoder(tokens)
        return features

    def parameter_report(self) -> ParameterReport:
        """How many parameters are shared, and how many each task adds."""
        return ParameterReport(
            num_tasks=len(self.tasks),
            shared=_count(self.encoder),
            inside=_count(self.task_layers),
            heads=_count(self.task_heads),
        )

    def shared_parameters(self) -> Iterator[nn.Parameter]:
        return self.encoder.parameters()

    def task_parameters(self, name: str) -> Iterator[nn.Parameter]:
        return (parameter for parameter, _ in self.task_rows(name))

    def task_rows(self, name: str) -> Iterator[tuple[nn.Parameter, TaskIndex]]:
        for parameter in self.task_layers.parameters():
            yield parameter, (self.positions[name],)
        yield from self.task_heads.task_rows(name)

    def last_shared_parameters(self) -> Iterator[nn.Parameter]:
        """Parameters of the last shared layer of the encoder."""
        return self.encoder.layer_sites()[-1].layer.parameters()

    def __repr__(self) -> str:
        return rebuildable_repr(self)


@dataclass(frozen=True)
class ParameterReport:
    """Numbers of parameters of a ``TaskAdapted``, all tasks counted.

    Args:
        num_tasks: T.
        shared: Of the encoder.
        inside: Of the tasks' own layers inside the encoder.
        heads: Of the heads.
    """

    num_tasks: int
    shared: int
    inside: int
    heads: int

    @property
    def total(self) -> int:
        """All parameters."""
        return self.shared + self.inside + self.heads

    @property
    def separate(self) -> int:
        """What a network per task would have."""
        return self.num_tasks * self.shared + self.heads

    @property
    def relative(self) -> float:
        """Times the parameters of the encoder alone, heads left out: T networks would be T."""
        return (self.shared + self.inside) / self.shared


class TaskHeads(nn.Module):
    """One head per task on features of that task's own; homogeneous tasks are one batched product.

    Unlike ``Heads``, whose features are common to all tasks.

    Args:
        input_size: D.
        tasks: The tasks.
        hidden: Sizes of the hidden layers of every head; empty means linear heads.
    """

    def __init__(self, input_size: int, tasks: Sequence[Task], hidden: tuple[int, ...]) -> None:
        super().__init__()
        for task in tasks:
            if task.kind.output_dims != 1:
                raise ValueError(
                    f"Task {task.name!r} is a {type(task.kind).__name__}, whose outputs are not "
                    "vectors; TaskAdapted gives one vector per row."
                )
        groups = group_into_blocks(tasks)
        self.names = [tuple(task.name for task in group) for group in groups]
        self.order = [name for names in self.names for name in names]
        self.blocks = nn.ModuleList(
            nn.ModuleList(
                TaskLinear(len(group), before, after)
                for before, after in zip(
                    (input_size, *hidden), (*hidden, group[0].kind.output_size), strict=True
                )
            )
            for group in groups
        )
        self.places = {
            name: (b, k) for b, names in enumerate(self.names) for k, name in enumerate(names)
        }

    def all(self, features: Tensor) -> TaskTensors:
        """Outputs of every task from features ``[T, B, D]`` in the order of ``order``."""
        parts = features.split([len(names) for names in self.names])
        outputs = []
        for block, names, part in zip(self.blocks, self.names, parts, strict=True):
            rows = TaskRows(None, [part.shape[1]] * len(names), device=part.device)
            outputs.append((names, _through(block, part, rows).transpose(0, 1)))
        return TaskTensors(outputs)

    def some(
        self, features: Tensor, names: Sequence[str], counts: Sequence[int]
    ) -> dict[str, Tensor]:
        """Outputs ``[B_t, C]`` of some tasks in that order from their features ``[R, D]``."""
        found: dict[str, Tensor] = {}
        start = 0
        for number, block in enumerate(self.blocks):
            own = [
                (name, self.places[name][1], count)
                for name, count in zip(names, counts, strict=True)
                if self.places[name][0] == number
            ]
            if not own:
                continue
            lengths = [count for _, _, count in own]
            columns = torch.tensor([column for _, column, _ in own], device=features.device)
            rows = TaskRows(columns, lengths, device=features.device)
            part = features[start : start + sum(lengths)]
            start += sum(lengths)
            outputs = rows.ungroup(_through(block, rows.group(part), rows))
            for (name, _, _), output in zip(own, outputs.split(lengths), strict=True):
                found[name] = output
        return found

    def task_rows(self, name: str) -> Iterator[tuple[nn.Parameter, TaskIndex]]:
        """Every parameter of the task's block with the index of the task's row in it."""
        block, row = self.places[name]
        for parameter in self.blocks[block].parameters():
            yield parameter, (row,)


def _inputs_of(problem: Problem) -> TokenInputs | VectorInputs:
    """What the rows of all splits are."""
    splits = (problem.train, problem.validation, problem.test)
    rows = [part.inputs for split in splits for part in split.parts.values()]
    shape = rows[0].shape[1:]
    whole = not rows[0].is_floating_point()
    if len(shape) != (1 if whole else 2) or any(part.shape[1:] != shape for part in rows):
        raise ValueError(
            "TaskAdapted needs rows of token ids (whole numbers [N, L]) or of vectors [N, L, S], "
            f"the same for all tasks; {problem.name!r} has rows of shape {list(shape)}, "
            f"{rows[0].dtype}."
        )
    if whole:
        largest = max(int(part.max()) for part in rows)
        return TokenInputs(vocabulary=largest + 1, length=shape[0])
    return VectorInputs(size=shape[1], length=shape[0])


def _through(layers: nn.Module, values: Tensor, rows: TaskRows) -> Tensor:
    """Linear layers with ReLUs between them."""
    for depth, layer in enumerate(layers.children()):
        values = layer(functional.relu(values) if depth else values, rows)
    return values


def _count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
