"""Perceiver IO: one model whose outputs have any structure, because each is asked for by a query.

Shape legend: T tasks, B batch, M input tokens, N latents, D latent features, O queries, E query
features, K tasks of one block, C output size.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from polytask.architectures.base import Architecture, Inputs, TaskIndex
from polytask.architectures.families import Family
from polytask.architectures.perceiver.attention import AttentionLayer
from polytask.architectures.perceiver.tokens import (
    CellTokens,
    PixelTokens,
    TokenAdapter,
    Tokens,
    fourier_positions,
    fourier_size,
    join_tokens,
)
from polytask.config import rebuildable_repr
from polytask.encoders.base import check_positive
from polytask.tasks import Task, TaskTensors, group_into_blocks

if TYPE_CHECKING:
    from polytask.problems import Problem

__all__ = ["PerceiverIO"]

#: Frequencies per dimension of the positions of dense and sequence outputs.
QUERY_BANDS = 8
#: Standard deviation of the initial latents, as in the paper.
LATENT_SCALE = 0.02
#: Features of a cell's token where nothing is said.
TOKEN_SIZE = 64


class PerceiverIO(Architecture):
    """Tokens are read into a few latents, and every output value is read out of them by a query.

    z = attend(latents, tokens), z = attend(z, z) L times, y = W attend(queries, z): the latents
    ``[N, D]`` are learned; a query is the embedding of its task, followed by Fourier features of
    the position that it asks for. A task with vector outputs is one query, an image H W queries, a
    sequence one per position, and the queries of all tasks are answered in one attention call.
    Tasks of the same kind and output shape share W ``[C, E]`` too, so that the query alone tells
    them apart: y_t = g(f(x), z_t), the family of task descriptors with the descriptor at the
    decoder.

    Args:
        tasks: The tasks, of any kind.
        adapter: From inputs to tokens: one for all tasks, or one per task where the tasks have
            inputs of their own format; all with the same ``output_size``.
        output_shapes: Per task with dense outputs (H, W), per ``TokenSequence`` task (length,).
        num_latents: N.
        size: D, and the size of a task's embedding.
        depth: L, self-attention layers of the latents.
        num_heads: Of every attention; divides ``size``.

    Shapes: shared layout: inputs as the adapter takes them, ``[B, ...]``; outputs blocks
        ``[B, K, C]``, ``[B, K, C, H, W]`` or ``[B, K, length, C]``. Separate layout: inputs
        ``{task: [B_t, ...]}`` for any of the tasks, and a block of one task each. Tokens that are
        absent (missing cells and pixels, padding) are masked; the order of the tokens does not
        matter, since each carries its position.

    Raises:
        ValueError: an output shape that is missing, not needed, or has the wrong number of
            dimensions; adapters that are not one per task, are used twice, or disagree in
            ``output_size``; a ``num_heads`` that does not divide ``size``.

    Differences: self-attention normalises queries and keys with parameters of their own; the final
    map W is one per kind and shape of output instead of one per modality.

    Cost: O((M + O) N + L N^2) attention scores per row, against O(L (M + O)^2) of a transformer.

    Example:
        >>> import torch
        >>> from polytask.architectures.perceiver import PixelTokens
        >>> from polytask.tasks import Binary, Segmentation, Task
        >>> tasks = (Task("cat", Binary()), Task("parts", Segmentation(num_classes=3)))
        >>> adapter = PixelTokens(channels=1, height=8, width=8)
        >>> shapes = {"parts": (4, 4)}
        >>> model = PerceiverIO(adapter=adapter, tasks=tasks, output_shapes=shapes, size=16)
        >>> model(torch.zeros(5, 1, 8, 8))
        TaskTensors(1 task(s) (5, 1, 1), 1 task(s) (5, 1, 3, 4, 4))

    References:
        A. Jaegle et al., Perceiver IO: A General Architecture for Structured Inputs & Outputs,
        ICLR 2022, https://arxiv.org/abs/2107.14795, section 3 and appendix E.
    """

    family = Family.DESCRIPTOR

    query_positions: Tensor
    query_owners: Tensor

    def __init__(
        self,
        *,
        tasks: Sequence[Task],
        adapter: TokenAdapter | Mapping[str, TokenAdapter],
        output_shapes: Mapping[str, Sequence[int]] | None = None,
        num_latents: int = 16,
        size: int = 64,
        depth: int = 2,
        num_heads: int = 4,
    ) -> None:
        super().__init__(tuple(tasks))
        self.output_shapes = _checked_shapes(self.tasks, output_shapes or {})
        self.num_latents = check_positive("num_latents", num_latents)
        self.size = check_positive("size", size)
        self.depth = check_positive("depth", depth)
        self.num_heads = check_positive("num_heads", num_heads)
        self.positions = {task.name: row for row, task in enumerate(self.tasks)}
        adapters = _checked_adapters(adapter, self.positions)
        self.has_own_adapters = isinstance(adapter, Mapping)
        self.adapters = nn.ModuleList(adapters)

        self.latents = nn.Parameter(LATENT_SCALE * torch.randn(num_latents, size))
        self.encoder = AttentionLayer(
            query_size=size, key_size=adapters[0].output_size, heads=num_heads, channels=size
        )
        self.processor = nn.ModuleList(
            AttentionLayer(query_size=size, key_size=size, heads=num_heads) for _ in range(depth)
        )
        self.task_embeddings = nn.Parameter(torch.randn(len(self.tasks), size))
        self.blocks = self._blocks()
        positions, owners = self._query_places()
        self.register_buffer("query_positions", positions, persistent=False)
        self.register_buffer("query_owners", owners, persistent=False)
        query_size = size + positions.shape[1]
        self.decoder = AttentionLayer(
            query_size=query_size, key_size=size, heads=num_heads, channels=size
        )
        self.projections = nn.ModuleList(
            nn.Linear(query_size, block[0].kind.output_size) for block in self.blocks
        )

    @classmethod
    def example(cls, tasks: Sequence[Task]) -> tuple[PerceiverIO, Inputs]:
        adapter = CellTokens(num_columns=5, size=6)
        model = cls(tasks=tasks, adapter=adapter, num_latents=3, size=8, depth=1, num_heads=2)
        inputs = torch.randn(6, 5)
        inputs[0, 1] = torch.nan
        return model, inputs

    @classmethod
    def for_problem(cls, problem: Problem) -> PerceiverIO:
        """Tokens per cell of a table or pixel of an image, one adapter where tasks share inputs.

        Raises:
            ValueError: inputs that are neither rows of numbers nor images; categories; tasks with
                dense or sequence outputs, whose shapes must be said.
        """
        adapters: dict[str, TokenAdapter] = {}
        for name, piece in problem.train.pieces.items():
            table = problem.table_of(name)
            codes = None if table is None else table.cardinalities
            adapters[name] = _default_adapter(piece.inputs, codes)
        adapter = adapters if problem.layout == "separate" else adapters[""]
        return cls(tasks=problem.tasks, adapter=adapter)

    @property
    def adapter(self) -> TokenAdapter | dict[str, TokenAdapter]:
        """As it was given."""
        if not self.has_own_adapters:
            return self._adapter_of(self.tasks[0].name)
        return {name: self._adapter_of(name) for name in self.positions}

    def forward(self, inputs: Inputs) -> TaskTensors:
        if isinstance(inputs, Mapping):
            return self._forward_separate(inputs)
        return self.heads(self._encode_rows(inputs))

    def features(self, inputs: Inputs) -> Tensor | None:
        """The latents ``[B, N, D]`` that all queries read; None in the separate layout."""
        return None if isinstance(inputs, Mapping) else self._encode_rows(inputs)

    def encode(self, tokens: Tokens) -> Tensor:
        """Latents ``[B, N, D]`` from any input array, whoever made it."""
        rows = len(tokens.values)
        start = self.latents.expand(rows, -1, -1)
        latents: Tensor = self.encoder(start, tokens.values, tokens.present)
        for layer in self.processor:
            latents = layer(latents, latents)
        return latents

    def heads(self, features: Tensor) -> TaskTensors:
        """Outputs of every task from the latents, in one attention call."""
        queries = self._queries(self.query_owners, self.query_positions)
        answers = self.decoder(queries.expand(len(features), -1, -1), features)
        pieces = answers.split([self._block_queries(block) for block in self.blocks], dim=1)
        return TaskTensors(
            (tuple(task.name for task in block), self._project(number, piece, len(block)))
            for number, (block, piece) in enumerate(zip(self.blocks, pieces, strict=True))
        )

    def _encode_rows(self, inputs: Tensor) -> Tensor:
        if self.has_own_adapters and len(self.tasks) > 1:
            raise ValueError(
                "This PerceiverIO has an adapter per task and takes one tensor per task, found one "
                f"tensor of shape {list(inputs.shape)}."
            )
        return self.encode(self.adapters[0](inputs))

    def _forward_separate(self, inputs: Mapping[str, Tensor]) -> TaskTensors:
        """All rows through one pass; each row with the queries of its own task, padded."""
        unknown = [name for name in inputs if name not in self.positions]
        if unknown:
            raise ValueError(
                f"PerceiverIO has no task {unknown}; its tasks are {list(self.positions)}."
            )
        latents = self.encode(join_tokens([self._adapter_of(n)(x) for n, x in inputs.items()]))
        own = [self._own_queries(name) for name in inputs]
        longest = max(len(queries) for queries in own)
        queries = torch.cat(
            [
                functional.pad(q, (0, 0, 0, longest - len(q))).expand(len(rows), -1, -1)
                for q, rows in zip(own, inputs.values(), strict=True)
            ]
        )
        answers = self.decoder(queries, latents).split([len(rows) for rows in inputs.values()])
        return TaskTensors(
            ((name,), self._project(self._block_of(name), answer[:, : len(queries)], 1))
            for name, queries, answer in zip(inputs, own, answers, strict=True)
        )

    def _queries(self, owners: Tensor, positions: Tensor) -> Tensor:
        """Queries ``[O, E]``: embeddings of the tasks beside the positions."""
        embeddings = self.task_embeddings[owners]
        return torch.cat([embeddings, positions.to(embeddings)], dim=-1)

    def _own_queries(self, name: str) -> Tensor:
        mine = self.query_owners == self.positions[name]
        return self._queries(self.query_owners[mine], self.query_positions[mine])

    def _project(self, number: int, answers: Tensor, tasks: int) -> Tensor:
        """Answers ``[B, K O, E]`` of a block to its outputs ``[B, K, ...]``."""
        outputs: Tensor = self.projections[number](answers).unflatten(1, (tasks, -1))
        task = self.blocks[number][0]
        if task.kind.output_dims == 1:
            return outputs.squeeze(2)
        if task.kind.output_dims == 3:
            maps: Tensor = outputs.mT.unflatten(-1, self.output_shapes[task.name])
            return maps
        return outputs

    def _blocks(self) -> list[tuple[Task, ...]]:
        """Tasks whose outputs are one tensor: of the same kind, and of the same output shape."""
        blocks: list[tuple[Task, ...]] = []
        for group in group_into_blocks(self.tasks):
            shapes: dict[tuple[int, ...], list[Task]] = {}
            for task in group:
                shapes.setdefault(self.output_shapes.get(task.name, ()), []).append(task)
            blocks.extend(tuple(tasks) for tasks in shapes.values())
        return blocks

    def _query_places(self) -> tuple[Tensor, Tensor]:
        """Positions ``[O, F]`` that the queries ask for, and the task ``[O]`` of each, by block."""
        ordered = [task for block in self.blocks for task in block]
        shapes = [self.output_shapes.get(task.name, ()) for task in ordered]
        width = fourier_size(max(len(shape) for shape in shapes), QUERY_BANDS)
        places = [
            fourier_positions(shape, QUERY_BANDS) if shape else torch.zeros(1, 0)
            for shape in shapes
        ]
        positions = [functional.pad(place, (0, width - place.shape[1])) for place in places]
        owners = [
            torch.full((len(place),), self.positions[task.name])
            for task, place in zip(ordered, places, strict=True)
        ]
        return torch.cat(positions), torch.cat(owners)

    def _block_queries(self, block: tuple[Task, ...]) -> int:
        return len(block) * math.prod(self.output_shapes.get(block[0].name, ()))

    def _block_of(self, name: str) -> int:
        return next(
            number
            for number, block in enumerate(self.blocks)
            if any(task.name == name for task in block)
        )

    def _adapter_of(self, name: str) -> TokenAdapter:
        found = self.adapters[self.positions[name] if self.has_own_adapters else 0]
        assert isinstance(found, TokenAdapter)
        return found

    def shared_parameters(self) -> Iterator[nn.Parameter]:
        if not self.has_own_adapters:
            yield from self.adapters.parameters()
        yield self.latents
        for part in (self.encoder, self.processor, self.decoder):
            yield from part.parameters()
        for block, projection in zip(self.blocks, self.projections, strict=True):
            if len(block) > 1:
                yield from projection.parameters()

    def task_parameters(self, name: str) -> Iterator[nn.Parameter]:
        return (parameter for parameter, _ in self.task_rows(name))

    def task_rows(self, name: str) -> Iterator[tuple[nn.Parameter, TaskIndex]]:
        yield self.task_embeddings, (self.positions[name],)
        own = [self._adapter_of(name)] if self.has_own_adapters else []
        number = self._block_of(name)
        alone = [self.projections[number]] if len(self.blocks[number]) == 1 else []
        for module in (*own, *alone):
            for parameter in module.parameters():
                yield parameter, (...,)

    def last_shared_parameters(self) -> Iterator[nn.Parameter]:
        """Parameters of the attention that answers the queries."""
        return self.decoder.parameters()

    def __repr__(self) -> str:
        return rebuildable_repr(self)


def _default_adapter(inputs: Tensor, cardinalities: tuple[int, ...] | None) -> TokenAdapter:
    if cardinalities:
        raise ValueError(
            f"PerceiverIO reads rows of numbers, found {len(cardinalities)} column(s) of"
            " categories; use TravelingObserver, or give an adapter."
        )
    if inputs.dim() == 2:
        return CellTokens(num_columns=inputs.shape[1], size=TOKEN_SIZE)
    if inputs.dim() == 4:
        channels, height, width = inputs.shape[1:]
        return PixelTokens(channels=channels, height=height, width=width)
    raise ValueError(
        f"PerceiverIO reads tables and images by itself, found inputs of shape"
        f" {list(inputs.shape[1:])}; give an adapter."
    )


def _checked_shapes(
    tasks: tuple[Task, ...], shapes: Mapping[str, Sequence[int]]
) -> dict[str, tuple[int, ...]]:
    """Output shapes of the tasks that need one."""
    names = [task.name for task in tasks]
    unknown = [name for name in shapes if name not in names]
    if unknown:
        raise ValueError(f"`output_shapes` names {unknown}; the tasks are {names}.")
    checked = {}
    for task in tasks:
        wanted = task.kind.output_dims - 1
        shape = tuple(shapes.get(task.name, ()))
        if len(shape) != wanted:
            raise ValueError(
                f"Task {task.name!r} is a {type(task.kind).__name__}, which needs {wanted} "
                f"number(s) in `output_shapes`, found {shape!r}."
            )
        if wanted:
            checked[task.name] = tuple(check_positive("output_shapes", size) for size in shape)
    return checked


def _checked_adapters(
    adapter: TokenAdapter | Mapping[str, TokenAdapter], names: Mapping[str, int]
) -> list[TokenAdapter]:
    """The adapters, in the order of the tasks where each has its own."""
    if not isinstance(adapter, Mapping):
        return [adapter]
    if set(adapter) != set(names):
        odd = sorted(set(adapter) ^ set(names))
        raise ValueError(
            f"PerceiverIO needs one adapter, or exactly one per task; found no pair for {odd}."
        )
    adapters = [adapter[name] for name in names]
    if len({id(item) for item in adapters}) < len(adapters):
        raise ValueError(
            "Two tasks have the same adapter; give one for all tasks, or a separate one for each."
        )
    sizes = sorted({item.output_size for item in adapters})
    if len(sizes) > 1:
        raise ValueError(f"The adapters must agree in `output_size`, found {sizes}.")
    return adapters
