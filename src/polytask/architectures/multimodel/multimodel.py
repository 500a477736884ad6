"""MultiModel: one encoder, mixer and autoregressive decoder for tasks of any modality.

Shape legend: T tasks, B_t rows of task t, R rows of all tasks, M source positions, S source
numbers of a row, L length of an answer, D features, C output size.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from polytask.architectures.base import Architecture, Inputs, TaskIndex
from polytask.architectures.families import Family
from polytask.architectures.multimodel.blocks import Decoder, Encoder, Mixed, Mixer, MultiModelBody
from polytask.architectures.multimodel.modalities import (
    CategoricalModality,
    ImageModality,
    Modality,
    TextModality,
)
from polytask.architectures.perceiver.tokens import Tokens, join_tokens
from polytask.config import rebuildable_repr
from polytask.encoders.base import check_positive
from polytask.tasks import Task, TaskTensors, TokenSequence

__all__ = ["MultiModel"]

#: Weight of the experts' balance loss.
BALANCE_WEIGHT = 0.01
UNKNOWN = -1


class MultiModel(Architecture):
    """Modality nets into one representation, one body, and answers as sequences that a task token
    starts.

    h = encoder(modality(x)), y_i = out(decoder(mixer([task, y_1 .. y_{i-1}], h), h)_i). The token
    of the task is chosen before decoding and is all that tells the body which task it is asked;
    classes and numbers are answers of length 1, read by a linear map of their task. A modality net
    that several tasks read or write is shared by them, and so is the whole body; the rows of all
    tasks of a step go through it in one pass.

    An answer is decoded one token after the other, so a step needs what is known of the answer: the
    inputs of a ``TokenSequence`` task are its source followed by the first L - 1 tokens of its
    answer, as one row of numbers (``polytask.datasets.with_answers`` makes them). Known tokens are
    taken as they are (training on the whole answer is one pass), unknown ones, -1, are filled in
    greedily from left to right (validation and test rows have nothing else). So the same forward
    pass trains and predicts.

    Args:
        tasks: With vector outputs or of kind ``TokenSequence``.
        modalities: The modality nets by a name of theirs, all with the body's ``size``.
        reads: Task to the name of the modality of its inputs.
        writes: ``TokenSequence`` task to the name of the ``TextModality`` of its answers.
        lengths: ``TokenSequence`` task to L.
        body: Size and blocks of encoder, mixer and decoder.

    Shapes: inputs ``{task: [B_t, ...]}`` for any of the tasks, as their modality takes them;
        ``TokenSequence`` tasks ``[B_t, S + L - 1]``. Outputs a block ``[B_t, 1, C]`` or
        ``[B_t, 1, L, C]`` per task.

    Raises:
        ValueError: a task with dense outputs, without modality or with one that does not exist; a
            modality that no task uses or of another size; a ``TokenSequence`` without length or
            whose vocabulary is not that of the modality it writes; inputs that do not fit their
            modality.

    Differences: default sizes are far below the paper's (see ``MultiModelBody``); attention has
    normalisations around it and a timing signal on the source too; class outputs are one linear
    layer, without convolutions; the modality nets are one to three layers.

    Cost: one body pass over R rows padded to the longest source and answer; L passes of mixer and
        decoder where answers are unknown.

    Example:
        >>> import torch
        >>> from polytask.architectures.multimodel import AudioModality, TextModality
        >>> from polytask.tasks import Multiclass, TokenSequence, Task
        >>> tasks = (Task("tone", Multiclass(3)), Task("reverse", TokenSequence(vocabulary=9)))
        >>> model = MultiModel(
        ...     tasks=tasks,
        ...     modalities={
        ...         "audio": AudioModality(samples=64, size=16),
        ...         "text": TextModality(vocabulary=9, size=16),
        ...     },
        ...     reads={"tone": "audio", "reverse": "text"},
        ...     writes={"reverse": "text"},
        ...     lengths={"reverse": 5},
        ...     body=MultiModelBody(size=16),
        ... )
        >>> words = torch.randint(9, (2, 5))
        >>> model.generate(words, "reverse").shape
        torch.Size([2, 5])
        >>> unknown = torch.full((2, 4), -1)
        >>> model({"tone": torch.randn(3, 64), "reverse": torch.cat([words, unknown], dim=1)})
        TaskTensors(1 task(s) (3, 1, 3), 1 task(s) (2, 1, 5, 9))

    References:
        L. Kaiser, A. N. Gomez, N. Shazeer, A. Vaswani, N. Parmar, L. Jones, J. Uszkoreit, One Model
        To Learn Them All, 2017, https://arxiv.org/abs/1706.05137, section 2.
    """

    family = Family.CROSS_DOMAIN

    def __init__(
        self,
        *,
        tasks: Sequence[Task],
        modalities: Mapping[str, Modality],
        reads: Mapping[str, str],
        writes: Mapping[str, str] | None = None,
        lengths: Mapping[str, int] | None = None,
        body: MultiModelBody | None = None,
    ) -> None:
        super().__init__(tuple(tasks))
        self.body = MultiModelBody() if body is None else body
        self.reads = dict(reads)
        self.writes = dict(writes or {})
        self.lengths = {k: check_positive("lengths", n) for k, n in (lengths or {}).items()}
        self.positions = {task.name: row for row, task in enumerate(self.tasks)}
        _check_names(self.tasks, self.reads, self.writes, self.lengths)
        _check_modalities(modalities, self.reads, self.writes, self.body.size)
        for task in self.tasks:
            _check_answers(task, modalities, self.writes)
        self.modality_names = tuple(modalities)
        self.nets = nn.ModuleList(modalities.values())

        size = self.body.size
        self.task_tokens = nn.Parameter(torch.randn(len(self.tasks), size))
        self.encoder = Encoder(self.body)
        self.mixer = Mixer(self.body)
        self.decoder = Decoder(self.body)
        self.answer_norm = nn.LayerNorm(size)
        # A TokenSequence task is read out by its text modality.
        self.outputs = nn.ModuleList(
            nn.Identity() if task.name in self.writes else nn.Linear(size, task.kind.output_size)
            for task in self.tasks
        )

    @classmethod
    def example(cls, tasks: Sequence[Task]) -> tuple[MultiModel, Inputs]:
        makers: dict[str, Callable[[], Modality]] = {
            "image": lambda: ImageModality(channels=1, height=4, width=3, size=8),
            "table": lambda: CategoricalModality(cardinalities=(2, 3, 4), size=8),
        }
        reads = {task.name: ("image", "table")[i % 2] for i, task in enumerate(tasks)}
        model = cls(
            tasks=tasks,
            modalities={name: makers[name]() for name in dict.fromkeys(reads.values())},
            reads=reads,
            body=MultiModelBody(size=8, depth=1, kernels=(3, 3, 5, 5), num_heads=2, num_experts=3),
        )
        inputs = {
            name: torch.randn(3 + i, 1, 4, 3)
            if kind == "image"
            else torch.randint(-1, 2, (3 + i, 3)).to(torch.get_default_dtype())
            for i, (name, kind) in enumerate(reads.items())
        }
        return model, inputs

    @property
    def modalities(self) -> dict[str, Modality]:
        """The modality nets by name."""
        return {name: self._net(name) for name in self.modality_names}

    def forward(self, inputs: Inputs) -> TaskTensors:
        """Outputs of the tasks; unknown tokens of answers are filled in greedily."""
        asked = self._read(inputs)
        source, balance = self._encode([row.source for row in asked])
        if any(bool((row.prefix == UNKNOWN).any()) for row in asked):
            self._complete(asked, source)
        outputs, more = self._answer(asked, source)
        return AnswerTensors(outputs, BALANCE_WEIGHT * (balance + more))

    @torch.no_grad()
    def generate(self, inputs: Tensor, task: str) -> Tensor:
        """Answers ``[B, L]`` of a ``TokenSequence`` task to its source alone, in evaluation mode.

        Args:
            inputs: ``[B, ...]`` as the modality that the task reads takes them.
            task: Its name.

        Raises:
            ValueError: the task is no ``TokenSequence``.
        """
        if task not in self.lengths:
            raise ValueError(
                f"{task!r} has no sequence to generate; those that have are {list(self.lengths)}."
            )
        unknown = inputs.new_full((len(inputs), self.lengths[task] - 1), UNKNOWN)
        was_training = self.training
        self.eval()
        try:
            outputs = self({task: torch.cat([inputs.flatten(1), unknown], dim=1)})
        finally:
            self.train(was_training)
        codes: Tensor = outputs[task].argmax(-1)
        return codes

    def auxiliary_losses(self, inputs: Inputs, outputs: TaskTensors) -> dict[str, Tensor]:
        """How unevenly the experts were used in the pass that gave these outputs."""
        if not self.body.num_experts:
            return {}
        made = outputs if isinstance(outputs, AnswerTensors) else self(inputs)
        return {"expert balance": made.balance}

    def _read(self, inputs: Inputs) -> list[_Asked]:
        """Tokens of the source and what is known of the answer, per task."""
        if not isinstance(inputs, Mapping):
            raise ValueError(
                f"MultiModel takes one tensor per task, found one tensor of shape "
                f"{list(inputs.shape)}."
            )
        unknown = [name for name in inputs if name not in self.positions]
        if unknown:
            raise ValueError(
                f"MultiModel has no task {unknown}; its tasks are {list(self.positions)}."
            )
        return [self._read_task(name, rows) for name, rows in inputs.items()]

    def _read_task(self, name: str, rows: Tensor) -> _Asked:
        net = self._net(self.reads[name])
        if name not in self.lengths:
            return _Asked(name, net(rows), rows.new_zeros(len(rows), 0, dtype=torch.int64))
        known = self.lengths[name] - 1
        flat = rows.flatten(1)
        size = flat.shape[1] - known
        shape = net.input_shape or (size,)
        if size < 1 or size != math.prod(shape):
            wanted = "at least 1" if net.input_shape is None else math.prod(shape)
            raise ValueError(
                f"Inputs of {name!r} need {wanted} numbers of its source and {known} of its answer "
                f"per row, found {flat.shape[1]} in all."
            )
        source, prefix = flat.split([size, known], dim=1)
        # A copy, since unknown tokens are filled in.
        codes = prefix.to(torch.int64, copy=True)
        return _Asked(name, net(source.unflatten(1, shape)), codes)

    def _encode(self, sources: list[Tokens]) -> tuple[Tokens, Tensor]:
        values, present = join_tokens(sources)
        assert present is not None
        encoded: Mixed = self.encoder(values, present)
        return Tokens(encoded.values, present), encoded.balance

    def _answer(
        self, asked: list[_Asked], source: Tokens
    ) -> tuple[list[tuple[tuple[str, ...], Tensor]], Tensor]:
        """A block of outputs per task, after the tokens that it is told of its answer."""
        told = [self._tell(row) for row in asked]
        lengths = [answer.shape[1] for answer in told]
        counts = [len(answer) for answer in told]
        known = torch.arange(max(lengths), device=told[0].device) < torch.tensor(
            lengths, device=told[0].device
        ).unsqueeze(1)
        known = known.repeat_interleave(torch.tensor(counts, device=known.device), dim=0)
        answer = torch.cat([functional.pad(t, (0, 0, 0, max(lengths) - t.shape[1])) for t in told])
        mixed = self.mixer(answer, known, *source)
        decoded: Mixed = self.decoder(mixed, known, *source)
        pieces = self.answer_norm(decoded.values).split(counts)
        blocks: list[tuple[tuple[str, ...], Tensor]] = [
            ((row.name,), self._write(row.name, piece[:, :length]).unsqueeze(1))
            for row, piece, length in zip(asked, pieces, lengths, strict=True)
        ]
        return blocks, decoded.balance

    def _tell(self, asked: _Asked) -> Tensor:
        """The task's token and the known tokens ``[B_t, length, D]``."""
        start = self.task_tokens[self.positions[asked.name]].expand(len(asked.prefix), 1, -1)
        if asked.name not in self.writes:
            return start
        return torch.cat([start, self._text(asked.name).embed(asked.prefix)], dim=1)

    def _write(self, name: str, hidden: Tensor) -> Tensor:
        """Outputs ``[B_t, C]`` or ``[B_t, L, C]`` from the decoder's answer."""
        if name in self.writes:
            return self._text(name).logits(hidden)
        outputs: Tensor = self.outputs[self.positions[name]](hidden[:, 0])
        return outputs

    @torch.no_grad()
    def _complete(self, asked: list[_Asked], source: Tokens) -> None:
        """Fill in unknown tokens, from left to right, with the most likely ones."""
        assert source.present is not None
        counts = [len(row.prefix) for row in asked]
        values, present = source.values.split(counts), source.present.split(counts)
        for position in range(max(row.prefix.shape[1] for row in asked)):
            open_rows = [
                i
                for i, row in enumerate(asked)
                if row.prefix.shape[1] > position
                and bool((row.prefix[:, position] == UNKNOWN).any())
            ]
            if not open_rows:
                continue
            own = Tokens(
                torch.cat([values[i] for i in open_rows]),
                torch.cat([present[i] for i in open_rows]),
            )
            begun = [asked[i]._replace(prefix=asked[i].prefix[:, :position]) for i in open_rows]
            outputs, _ = self._answer(begun, own)
            for i, (_, output) in zip(open_rows, outputs, strict=True):
                column = asked[i].prefix[:, position]
                found = output[:, 0, position].argmax(-1)
                asked[i].prefix[:, position] = torch.where(column == UNKNOWN, found, column)

    def _net(self, name: str) -> Modality:
        net = self.nets[self.modality_names.index(name)]
        assert isinstance(net, Modality)
        return net

    def _text(self, task: str) -> TextModality:
        net = self._net(self.writes[task])
        assert isinstance(net, TextModality)
        return net

    def _users(self, modality: str) -> set[str]:
        """Tasks that read or write a modality."""
        pairs = (*self.reads.items(), *self.writes.items())
        return {task for task, used in pairs if used == modality}

    def shared_parameters(self) -> Iterator[nn.Parameter]:
        for name in self.modality_names:
            if len(self._users(name)) > 1:
                yield from self._net(name).parameters()
        for part in (self.encoder, self.mixer, self.decoder, self.answer_norm):
            yield from part.parameters()

    def task_parameters(self, name: str) -> Iterator[nn.Parameter]:
        return (parameter for parameter, _ in self.task_rows(name))

    def task_rows(self, name: str) -> Iterator[tuple[nn.Parameter, TaskIndex]]:
        yield self.task_tokens, (self.positions[name],)
        own: Iterable[nn.Module] = (
            self._net(m) for m in self.modality_names if self._users(m) == {name}
        )
        for module in (*own, self.outputs[self.positions[name]]):
            for parameter in module.parameters():
                yield parameter, (...,)

    def last_shared_parameters(self) -> Iterator[nn.Parameter]:
        """Parameters of the decoder's last attention block and normalisation."""
        yield from self.decoder.attentions[-1].parameters()
        yield from self.answer_norm.parameters()

    def __repr__(self) -> str:
        return rebuildable_repr(self)


class AnswerTensors(TaskTensors):
    """Outputs, and the balance loss of the experts in the pass that made them.

    Args:
        blocks: As ``TaskTensors``.
        balance: ``[]``.
    """

    __slots__ = ("balance",)

    def __init__(self, blocks: Iterable[tuple[tuple[str, ...], Tensor]], balance: Tensor) -> None:
        super().__init__(blocks)
        self.balance = balance


class _Asked(NamedTuple):
    """Rows of one task: source tokens, and what is known of the answer ``[B_t, L - 1]``."""

    name: str
    source: Tokens
    prefix: Tensor


def _check_names(
    tasks: tuple[Task, ...],
    reads: Mapping[str, str],
    writes: Mapping[str, str],
    lengths: Mapping[str, int],
) -> None:
    """Every task reads, and every TokenSequence task writes an answer of a length."""
    names = [task.name for task in tasks]
    sequences = [task.name for task in tasks if isinstance(task.kind, TokenSequence)]
    for argument, given, needed in (
        ("reads", reads, names),
        ("writes", writes, sequences),
        ("lengths", lengths, sequences),
    ):
        if set(given) != set(needed):
            odd = sorted(set(given) ^ set(needed))
            kind = "task" if argument == "reads" else "TokenSequence task"
            raise ValueError(
                f"`{argument}` needs exactly one entry per {kind}; found no pair for {odd}."
            )


def _check_modalities(
    modalities: Mapping[str, Modality],
    reads: Mapping[str, str],
    writes: Mapping[str, str],
    size: int,
) -> None:
    """The modalities that are used are there, are used, and have the body's size."""
    used = {*reads.values(), *writes.values()}
    if used != set(modalities):
        odd = sorted(used ^ set(modalities))
        raise ValueError(
            f"`modalities` must be those that tasks read or write, found only one of them for {odd}"
            "."
        )
    for name, net in modalities.items():
        if net.output_size != size:
            raise ValueError(
                f"Modality {name!r} has size {net.output_size}, but the body has {size}."
            )
    if len({id(net) for net in modalities.values()}) < len(modalities):
        raise ValueError("Two names in `modalities` mean the same net; give it one name.")


def _check_answers(
    task: Task, modalities: Mapping[str, Modality], writes: Mapping[str, str]
) -> None:
    """A task's outputs are vectors, or tokens of the vocabulary that it writes."""
    if not isinstance(task.kind, TokenSequence):
        if task.kind.output_dims != 1:
            raise ValueError(
                f"Task {task.name!r} is a {type(task.kind).__name__}; MultiModel answers with "
                "vectors or sequences of tokens."
            )
        return
    net = modalities[writes[task.name]]
    if not isinstance(net, TextModality):
        raise ValueError(
            f"Task {task.name!r} must write a TextModality, found {writes[task.name]!r}, a "
            f"{type(net).__name__}."
        )
    if net.vocabulary != task.kind.vocabulary:
        raise ValueError(
            f"Task {task.name!r} has a vocabulary of {task.kind.vocabulary}, but modality "
            f"{writes[task.name]!r} has {net.vocabulary}."
        )
