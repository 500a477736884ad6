"""Task gradients of shared variables: Jacobian rows, Gramians, and weighted sums of rows.

Shape legend: T tasks, P numbers in the variables (parameters or features).

``TaskGradients`` runs one backward pass per task through the part of the graph that the variables
need, and keeps of each pass only what the Gramian ``G = J J^T`` needs: the row itself, or, where a
layer rule is cheaper, coordinates of it. Where rows do not fit the memory budget the variables are
treated in chunks, those nearest the losses first, because the passes of the first chunks then stop
early.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from operator import attrgetter

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge, get_gradient_edge

from polytask.gradients.graph import ACCUMULATE, Node, find_uses, task_roots
from polytask.gradients.layers import LayerRule, find_rule

__all__ = [
    "Seed",
    "TaskGradients",
    "Workspace",
    "gramian",
    "jacobian",
    "jacobian_rows",
    "scaled",
    "split_like",
    "unique_variables",
]

MEBIBYTE = 2**20

#: Numbers per task up to which one batched pass for all tasks beats a pass per task.
SMALL_PASS = 2**15
#: Operations whose backward passes are known to batch exactly and without slow paths.
BATCHED_NODES = frozenset(
    {
        ACCUMULATE, "AddBackward0", "AddmmBackward0", "DivBackward0", "EluBackward0",
        "ExpandBackward0", "GeluBackward0", "LeakyReluBackward0", "MeanBackward1", "MmBackward0",
        "MulBackward0", "NativeDropoutBackward0", "NativeLayerNormBackward0", "NegBackward0",
        "PermuteBackward0", "PowBackward0", "ReluBackward0", "SigmoidBackward0", "SiluBackward0",
        "SoftplusBackward0", "SqueezeBackward1", "SubBackward0", "SumBackward1", "TBackward0",
        "TanhBackward0", "TransposeBackward0", "UnsafeViewBackward0", "UnsqueezeBackward0",
        "ViewBackward0",
    }
)  # fmt: skip

#: Where one task's backward pass starts and the gradient it starts from; None for a task that has
#: none.
Seed = tuple[GradientEdge, Tensor] | None


class Workspace:
    """A buffer that grows to the largest size asked for and is used again in every step.

    Fresh memory for T rows of P numbers costs more in page faults than writing the rows.
    """

    def __init__(self) -> None:
        self._buffer: Tensor | None = None

    def take(self, rows: int, columns: int, *, dtype: torch.dtype, device: torch.device) -> Tensor:
        """``[rows, columns]``, with whatever the last user left in it."""
        size = rows * columns
        buffer = self._buffer
        if (
            buffer is None
            or buffer.dtype != dtype
            or buffer.device != device
            or buffer.numel() < size
        ):
            self._buffer = None
            buffer = self._buffer = torch.empty(size, dtype=dtype, device=device)
        return buffer[:size].view(rows, columns)

    def __deepcopy__(self, memo: object) -> Workspace:
        """A copy starts empty."""
        del memo
        return Workspace()

    def __reduce__(self) -> tuple[type[Workspace], tuple[()]]:
        """A pickled workspace is empty."""
        return Workspace, ()


@dataclass
class _Unit:
    """One variable's share of a row: its gradient (``rule`` None) or coordinates from a layer
    rule.
    """

    variable: int
    size: int
    distance: int
    rule: LayerRule | None = None


class TaskGradients:
    """Gramian of the task gradients, and their weighted sums.

    ``gram = J J^T`` with the rows ``J_t = s dL_t / dv`` over all variables v and the scale s of the
    seeds.

    Args:
        seeds: Per task where its backward pass starts; see ``task_roots``.
        variables: Leaf parameters or features that the rows belong to. Unused ones are allowed.
        memory: Budget in bytes for what is kept of the rows of all tasks; None means the larger of
            512 MiB and eight times the size of the variables, so that memory grows with P, not with
            T P. At least one variable's rows are kept at a time.
        rules: Whether layer rules may be used where they save work.
        workspace: Buffer to reuse between steps.

    Cost: T backward passes through the part of the trunk that the variables need; c chunks repeat
        the propagation (not the weight gradients) for the layers between the losses and each chunk.
    """

    def __init__(
        self,
        seeds: Sequence[Seed],
        variables: Sequence[Tensor],
        *,
        memory: int | None = None,
        rules: bool = True,
        workspace: Workspace | None = None,
    ) -> None:
        self.seeds = seeds
        self.variables = variables
        self.workspace = workspace or Workspace()
        self.dtype = row_dtype(variables)
        self.device = variables[0].device
        numbers = sum(variable.numel() for variable in variables)
        if memory is None:
            memory = max(512 * MEBIBYTE, 8 * numbers * self.dtype.itemsize)
        #: The nodes below the losses, nearest first; filled where a plan needs them.
        self._order: dict[Node, int] = {}
        self._chunks = self._make_chunks(memory, rules)
        self._rows: Tensor | None = None
        self._used: set[int] = set()
        self.gram = self._gramian()
        #: Whether the rows themselves are still there, so that ``weighted_sum`` needs no further
        #: backward pass.
        self.has_rows = self._rows is not None

    def weighted_sum(self, weights: Tensor) -> list[Tensor | None]:
        """``sum_t w_t J_t`` as one tensor per variable, from the kept rows; None for unused ones.

        Args:
            weights: ``[T]``.
        """
        assert self._rows is not None
        total = weights.to(self.dtype) @ self._rows
        pieces: dict[int, Tensor] = {}
        start = 0
        for unit in self._chunks[0]:
            pieces[unit.variable] = total[start : start + unit.size].view_as(
                self.variables[unit.variable]
            )
            start += unit.size
        return [
            pieces[index].to(variable.dtype) if index in self._used else None
            for index, variable in enumerate(self.variables)
        ]

    def _make_chunks(self, memory: int, rules: bool) -> list[list[_Unit]]:
        """Which variables share a pass per task, and by which rule each is treated."""
        limit = memory / (max(len(self.seeds), 1) * self.dtype.itemsize)
        sizes = [variable.numel() for variable in self.variables]
        if sum(sizes) <= limit and not rules:
            return [[_Unit(index, size, 0) for index, size in enumerate(sizes)]]
        nodes = [get_gradient_edge(variable).node for variable in self.variables]
        uses = find_uses([seed[0] for seed in self.seeds if seed is not None])
        self._order = uses.order
        units = [
            _Unit(
                index,
                size,
                min((uses.order[user] for user in uses.consumers.get(node, ())), default=0),
            )
            for index, (size, node) in enumerate(zip(sizes, nodes, strict=True))
        ]
        if rules:
            self._use_rules(units, [find_rule(node, uses) for node in nodes])
        units.sort(key=attrgetter("distance"))
        chunks: list[list[_Unit]] = []
        room = 0.0
        for unit in units:
            if unit.size > room or not chunks:
                chunks.append([])
                room = limit
            chunks[-1].append(unit)
            room -= unit.size
        return chunks

    def _use_rules(self, units: list[_Unit], found: list[LayerRule | None]) -> None:
        """Take the rules that save work; together they must pay for the weighted backward pass that
        they make necessary.
        """
        tasks = len(self.seeds)
        useful = [
            (unit, rule)
            for unit, rule in zip(units, found, strict=True)
            if rule is not None and tasks * rule.saving > rule.overhead
        ]
        saved = sum(tasks * rule.saving - rule.overhead for _, rule in useful)
        final_pass = sum(rule.final_pass for rule in found if rule is not None)
        if saved > final_pass:
            for unit, rule in useful:
                unit.rule, unit.size = rule, rule.size

    def _gramian(self) -> Tensor:
        tasks = len(self.seeds)
        gram = torch.zeros(tasks, tasks, dtype=self.dtype, device=self.device)
        for chunk in self._chunks:
            rows = self.workspace.take(
                tasks, sum(unit.size for unit in chunk), dtype=self.dtype, device=self.device
            )
            self._fill(chunk, rows)
            gram += rows @ rows.mT
            if len(self._chunks) == 1 and all(unit.rule is None for unit in chunk):
                self._rows = rows
        return gram

    def _fill(self, chunk: list[_Unit], rows: Tensor) -> None:
        targets = [
            GradientEdge(unit.rule.node, 0)
            if unit.rule
            else get_gradient_edge(self.variables[unit.variable])
            for unit in chunk
        ]
        for unit in chunk:
            if unit.rule is not None:
                unit.rule.prepare()
        if self._goes_together(chunk):
            self._fill_together(chunk, rows, targets)
            return
        for row, seed in zip(rows, self.seeds, strict=True):
            gradients = vector_jacobian(seed, targets)
            start = 0
            for unit, gradient in zip(chunk, gradients, strict=True):
                out = row[start : start + unit.size]
                start += unit.size
                if gradient is None:
                    out.zero_()
                    continue
                self._used.add(unit.variable)
                if unit.rule is not None:
                    unit.rule.write(gradient, out)
                else:
                    out.view(gradient.shape).copy_(
                        gradient.to_dense() if gradient.is_sparse else gradient
                    )

    def _goes_together(self, chunk: list[_Unit]) -> bool:
        """Whether all tasks can go through the trunk in one batched pass, and gain by it.

        They gain where one task's matrices are too small to keep a core busy; the operations on the
        way must be known to batch.
        """
        edges = {seed[0] for seed in self.seeds if seed is not None}
        if len(edges) != 1 or None in self.seeds or len(self.seeds) == 1:
            return False
        widest = max((unit.size for unit in chunk if unit.rule is not None), default=0)
        numbers = sum(unit.size for unit in chunk if unit.rule is None)
        if max(widest, numbers) > SMALL_PASS:
            return False
        order = self._order or find_uses(edges).order
        return all(node.name() in BATCHED_NODES for node in order)

    def _fill_together(
        self, chunk: list[_Unit], rows: Tensor, targets: Sequence[GradientEdge]
    ) -> None:
        seeds = [seed for seed in self.seeds if seed is not None]
        starts = torch.stack([gradient for _, gradient in seeds])
        gradients: Sequence[Tensor | None] = torch.autograd.grad(
            [seeds[0][0]],
            list(targets),
            [starts],
            retain_graph=True,
            allow_unused=True,
            is_grads_batched=True,
        )
        start = 0
        for unit, gradient in zip(chunk, gradients, strict=True):
            out = rows[:, start : start + unit.size]
            start += unit.size
            if gradient is None:
                out.zero_()
                continue
            self._used.add(unit.variable)
            if unit.rule is not None:
                out.copy_(unit.rule.coordinates(gradient))
            else:
                out.copy_(gradient.flatten(1))


def vector_jacobian(seed: Seed, targets: Sequence[GradientEdge]) -> Sequence[Tensor | None]:
    """One task's gradients at the targets; None where the task does not depend on a target."""
    if seed is None:
        return [None] * len(targets)
    edge, gradient = seed
    found: Sequence[Tensor | None] = torch.autograd.grad(
        [edge], list(targets), [gradient], retain_graph=True, allow_unused=True
    )
    return found


def jacobian(
    losses: Tensor,
    variables: Iterable[Tensor],
    *,
    workspace: Workspace | None = None,
    scale: float | Tensor = 1.0,
) -> Tensor:
    """Task gradients as rows, ``J[t] = dL_t / dv`` flattened and in the order of the variables.

    Looped vector-Jacobian products: no limits on what the network is made of (recurrent, compiled,
    in-place), and on a CPU as fast as batching them. The graph stays usable.

    Args:
        losses: ``[T]``.
        variables: Parameters or features; unused ones give zeros, frozen ones are left out.
        workspace: Buffer to reuse between calls; the result is then overwritten by the next call.
        scale: Factor on the rows.

    Returns:
        ``[T, P]``, in single precision or better.

    Cost: T backward passes, T P numbers.

    Example:
        >>> weight = torch.tensor([1.0, 2.0], requires_grad=True)
        >>> jacobian(torch.stack([weight.sum(), weight.prod()]), [weight])
        tensor([[1., 1.],
                [2., 1.]])
    """
    seeds = scaled(task_roots(losses), scale)
    return jacobian_rows(seeds, unique_variables(variables), workspace=workspace)


def jacobian_rows(
    seeds: Sequence[Seed], variables: Sequence[Tensor], *, workspace: Workspace | None = None
) -> Tensor:
    """``jacobian`` from the places where the tasks' backward passes start."""
    sizes = [variable.numel() for variable in variables]
    space = workspace or Workspace()
    rows = space.take(
        len(seeds), sum(sizes), dtype=row_dtype(variables), device=variables[0].device
    )
    targets = [get_gradient_edge(variable) for variable in variables]
    for row, seed in zip(rows, seeds, strict=True):
        pieces = row.split(sizes)
        for piece, gradient in zip(pieces, vector_jacobian(seed, targets), strict=True):
            if gradient is None:
                piece.zero_()
            else:
                piece.view(gradient.shape).copy_(
                    gradient.to_dense() if gradient.is_sparse else gradient
                )
    return rows


def gramian(losses: Tensor, variables: Iterable[Tensor], *, memory: int | None = None) -> Tensor:
    """Inner products of the task gradients, ``G = J J^T``; the graph stays usable.

    Args:
        losses: ``[T]``.
        variables: Parameters or features; unused ones are allowed, frozen ones are left out.
        memory: Budget in bytes, see ``TaskGradients``.

    Returns:
        ``[T, T]``, in single precision or better.

    Cost: T backward passes, less the weight gradients where a layer rule is cheaper; memory O(P)
        for large T.

    Example:
        >>> weight = torch.tensor([1.0, 2.0], requires_grad=True)
        >>> gramian(torch.stack([weight.sum(), weight.prod()]), [weight])
        tensor([[2., 3.],
                [3., 5.]])
    """
    return TaskGradients(task_roots(losses), unique_variables(variables), memory=memory).gram


def scaled(seeds: Sequence[Seed], scale: float | Tensor) -> Sequence[Seed]:
    """The same backward passes with a factor on what they start from, which keeps half precision
    from underflow.
    """
    if isinstance(scale, float | int) and scale == 1:
        return seeds
    return [None if seed is None else (seed[0], seed[1] * scale) for seed in seeds]


def split_like(row: Tensor, variables: Sequence[Tensor]) -> list[Tensor]:
    """A row ``[P]`` cut into one tensor per variable."""
    pieces = row.split([variable.numel() for variable in variables])
    return [
        piece.view_as(variable).to(variable.dtype)
        for piece, variable in zip(pieces, variables, strict=True)
    ]


def unique_variables(variables: Iterable[Tensor]) -> list[Tensor]:
    """The variables that need gradients, each once."""
    chosen = list(
        {id(variable): variable for variable in variables if variable.requires_grad}.values()
    )
    if not chosen:
        raise ValueError(
            "Task gradients need at least one shared tensor that requires gradients, found none."
        )
    return chosen


def row_dtype(variables: Iterable[Tensor]) -> torch.dtype:
    """The precision of rows: the variables' own, but at least single."""
    dtype = torch.float32
    for variable in variables:
        dtype = torch.promote_types(dtype, variable.dtype)
    return dtype
