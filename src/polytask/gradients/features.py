"""Task gradients with respect to the shared representation, with a closed form for linear heads.

Shape legend: T tasks, B batch, D features, C columns of all linear heads together.

Where every head starts with a linear layer ``y = z W^T + b`` and each column of y belongs to one
task, the gradient of
task t with respect to z is ``R_t W_t``: the gradients R ``[B, C]`` of its columns times its rows of
``W [C, D]``. Then
``<dL_s/dz, dL_t/dz>`` sums ``(R^T R) * (W W^T)`` over the columns of s and t: one backward pass
from all losses to the
columns gives everything, and the gradients ``[T, B, D]`` are never formed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge

from polytask.gradients.engine import Seed, TaskGradients, jacobian, scaled, vector_jacobian
from polytask.gradients.graph import Node, edge_of, linear_input, task_roots

__all__ = ["LinearHeads", "feature_gramian", "linear_heads", "trunk_seeds"]


class LinearHeads:
    """The linear layers that all heads start with, and the gradient of every column.

    Args:
        columns: R, the gradient of the losses at the layers' outputs ``[B, C]``.
        weight: W ``[C, D]``.
        owner: Task of each column ``[C]``.
    """

    def __init__(self, columns: Tensor, weight: Tensor, owner: Tensor) -> None:
        self.columns = columns
        self.weight = weight
        self.owner = owner

    def gramian(self, tasks: int, rows: int | None = None) -> Tensor:
        """Inner products ``[T, T]`` of the task gradients with respect to the first ``rows``
        features (None: all).
        """
        dtype = torch.promote_types(self.weight.dtype, torch.float32)
        columns, weight = self.columns[:rows].to(dtype), self.weight.to(dtype)
        products = (columns.mT @ columns) * (weight @ weight.mT)
        if len(self.owner) == tasks and bool(
            (self.owner == torch.arange(tasks, device=self.owner.device)).all()
        ):
            return products
        gram = products.new_zeros(tasks, len(self.owner)).index_add_(0, self.owner, products)
        return gram.new_zeros(tasks, tasks).index_add_(1, self.owner, gram)

    def seeds(self, features: Tensor, tasks: int) -> list[Seed]:
        """Each task's backward pass, starting at the features instead of at its loss."""
        edge = edge_of(features)
        found: list[Seed] = []
        for task in range(tasks):
            own = self.owner == task
            found.append(
                (edge, self.columns[:, own] @ self.weight[own]) if bool(own.any()) else None
            )
        return found


def feature_gramian(
    losses: Tensor, features: Tensor, *, memory: int | None = None, fraction: float = 1.0
) -> Tensor:
    """Inner products of the task gradients with respect to the shared representation.

    Args:
        losses: ``[T]``.
        features: The tensor that all heads start from, part of the losses' graph.
        memory: Budget in bytes for heads that are not linear, see ``TaskGradients``.
        fraction: Part of the features' rows that is looked at, from the first on.

    Returns:
        ``[T, T]``.

    Cost: linear heads: one backward pass from the losses to the heads' outputs; otherwise one
        through each head.

    Example:
        >>> features = torch.tensor([[1.0, 2.0]], requires_grad=True)
        >>> weights = torch.tensor([[1.0, 0.0], [1.0, 1.0]])
        >>> feature_gramian(torch.nn.functional.linear(features, weights)[0], features)
        tensor([[1., 1.],
                [1., 2.]])
    """
    heads = linear_heads(losses, features)
    rows = math.ceil(fraction * len(features))
    if heads is not None:
        return heads.gramian(len(losses), rows)
    if rows == len(features):
        return TaskGradients(task_roots(losses), [features], memory=memory, rules=False).gram
    numbers = features[0].numel() * rows
    part = jacobian(losses, [features])[:, :numbers]
    return part @ part.mT


def trunk_seeds(
    losses: Tensor, features: Tensor | None, scale: float | Tensor = 1.0
) -> Sequence[Seed]:
    """Where each task's backward pass through the trunk starts.

    With linear heads in blocks it is the features, so that the heads are passed once and not once
    per task.

    Args:
        losses: ``[T]``.
        features: The shared representation, or None where it is not known.
        scale: Factor on the gradients.
    """
    roots = task_roots(losses)
    if (
        features is not None
        and features.requires_grad
        and len({root[0].node for root in roots if root}) == 1
    ):
        heads = linear_heads(losses, features)
        if heads is not None:
            return scaled(heads.seeds(features, len(losses)), scale)
    return scaled(roots, scale)


def linear_heads(losses: Tensor, features: Tensor) -> LinearHeads | None:
    """The closed form's ingredients, or None where heads do not start with linear layers whose
    columns have one task.

    Args:
        losses: ``[T]``.
        features: ``[B, D]``.
    """
    if features.dim() != 2:
        return None
    roots = task_roots(losses)
    edge = edge_of(features)
    layers, owners = _first_layers(roots, edge.node)
    if not layers:
        return None
    weight = torch.cat([_weight_of(layer) for layer in layers])
    targets = [GradientEdge(layer, 0) for layer in layers]
    if all(len(tasks) == 1 for tasks in owners):
        columns = _all_at_once(roots, targets)
        owner = torch.cat(
            [
                column.new_full((column.shape[1],), tasks[0], dtype=torch.long)
                for column, tasks in zip(columns, owners, strict=True)
            ]
        )
        return LinearHeads(torch.cat(columns, dim=1), weight, owner)
    return _one_by_one(roots, targets, weight)


def _first_layers(roots: Sequence[Seed], features: Node) -> tuple[list[Node], list[list[int]]]:
    """The nodes that consume the features, if all are linear layers, with the tasks that reach
    each.
    """
    owners: dict[Node, list[int]] = {}
    known: dict[Node, set[Node]] = {}
    for task, root in enumerate(roots):
        if root is None:
            continue
        start = root[0].node
        if start not in known:
            reached = _consumers(start, features)
            if reached is None:
                return [], []
            known[start] = reached
        for layer in known[start]:
            owners.setdefault(layer, []).append(task)
    return list(owners), list(owners.values())


def _consumers(start: Node, features: Node) -> set[Node] | None:
    """Linear layers on the features below a loss; None if something else uses the features."""
    if start is features:
        return None
    found: set[Node] = set()
    seen: set[Node] = set()
    pending = [start]
    while pending:
        node = pending.pop()
        if node in seen:
            continue
        seen.add(node)
        for position, (parent, _) in enumerate(node.next_functions):
            if parent is features:
                is_input = (
                    linear_input(node) is not None and position == len(node.next_functions) - 2
                )
                if not is_input:
                    return None
                found.add(node)
            elif parent is not None:
                pending.append(parent)
    return found


def _weight_of(layer: Node) -> Tensor:
    weight: Tensor = layer._saved_mat2.detach().mT
    return weight


def _all_at_once(roots: Sequence[Seed], targets: list[GradientEdge]) -> list[Tensor]:
    """Gradients at the layers of all tasks from one backward pass; every layer belongs to one
    task.
    """
    present = [root for root in roots if root is not None]
    return list(
        torch.autograd.grad(
            [edge for edge, _ in present],
            targets,
            [gradient for _, gradient in present],
            retain_graph=True,
        )
    )


def _one_by_one(
    roots: Sequence[Seed], targets: list[GradientEdge], weight: Tensor
) -> LinearHeads | None:
    """One short backward pass per task, for layers whose columns belong to several tasks (blocks of
    heads).

    A column's task is where its gradient is not zero; a column that two tasks use has no closed
    form.
    """
    total: Tensor | None = None
    sizes = [_weight_of(edge.node).shape[0] for edge in targets]
    owner = torch.full((len(weight),), -1, device=weight.device)
    for task, root in enumerate(roots):
        pieces = vector_jacobian(root, targets)
        if all(piece is None for piece in pieces):
            continue
        rows = next(piece.shape[0] for piece in pieces if piece is not None)
        columns = torch.cat(
            [
                weight.new_zeros(rows, size) if piece is None else piece
                for piece, size in zip(pieces, sizes, strict=True)
            ],
            dim=1,
        )
        used = (columns != 0).any(0)
        if bool((used & (owner >= 0)).any()):
            return None
        owner = torch.where(used, task, owner)
        total = columns if total is None else total.add_(columns)
    if total is None:
        return None
    kept = owner >= 0
    return LinearHeads(total[:, kept], weight[kept], owner[kept])
