"""Task gradients with respect to the shared representation, with a closed form for linear heads.

Shape legend: T tasks, B batch, D features, C columns of all linear heads together.

Where every head starts with a linear layer ``y = z W^T + b`` and each column of y belongs to one
task, the gradient of task t with respect to z is ``R_t W_t``: the gradients R ``[B, C]`` of its
columns times its rows of ``W [C, D]``. Then ``<dL_s/dz, dL_t/dz>`` sums ``(R^T R) * (W W^T)`` over
the columns of s and t: one backward pass from all losses to the columns gives everything, and the
gradients ``[T, B, D]`` are never formed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge, get_gradient_edge

from polytask.gradients.engine import Seed, TaskGradients, jacobian, scaled
from polytask.gradients.graph import Node, leaves, linear_input, task_roots

#: Digits that tell tasks apart; 2 ** 15 is far from the largest single-precision number.
CODE_BASE = 16

__all__ = ["LinearHeads", "feature_gramian", "linear_heads", "trunk_seeds"]


@dataclass(frozen=True)
class LinearHeads:
    """The linear layers that all heads start with, and the gradient of every column.

    Args:
        columns: R, the gradient of the losses at the layers' outputs ``[B, C]``.
        weight: W ``[C, D]``.
        owner: Task of each column ``[C]``.
    """

    columns: Tensor
    weight: Tensor
    owner: Tensor

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
        edge = get_gradient_edge(features)
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
    roots = task_roots(losses)
    heads = linear_heads(roots, features)
    rows = math.ceil(fraction * len(features))
    if heads is not None:
        return heads.gramian(len(losses), rows)
    if rows == len(features):
        return TaskGradients(roots, [features], memory=memory, rules=False).gram
    numbers = features[0].numel() * rows
    part = jacobian(losses, [features])[:, :numbers]
    return part @ part.mT


def trunk_seeds(
    losses: Tensor,
    features: Tensor | None,
    variables: Sequence[Tensor],
    scale: float | Tensor = 1.0,
) -> Sequence[Seed]:
    """Where each task's backward pass through the trunk starts.

    With linear heads in blocks it is the features, so that the heads are passed once and not once
    per task.

    Args:
        losses: ``[T]``.
        features: The shared representation, or None where it is not known.
        variables: What the rows belong to. If the losses depend on some of them other than through
            the features, the passes start at the losses.
        scale: Factor on the gradients.
    """
    roots = task_roots(losses)
    if (
        features is not None
        and features.requires_grad
        and _is_bottleneck(features, roots, variables)
    ):
        heads = linear_heads(roots, features)
        if heads is not None:
            return scaled(heads.seeds(features, len(losses)), scale)
    return scaled(roots, scale)


def _is_bottleneck(features: Tensor, roots: Sequence[Seed], variables: Sequence[Tensor]) -> bool:
    """Whether the losses depend on the variables through the features only."""
    edges = [root[0] for root in roots if root is not None]
    around = {id(leaf) for leaf in leaves(edges, {get_gradient_edge(features).node})}
    return all(variable.is_leaf and id(variable) not in around for variable in variables)


def linear_heads(roots: Sequence[Seed], features: Tensor) -> LinearHeads | None:
    """The closed form's ingredients, or None where heads do not start with linear layers whose
    columns have one task.

    Args:
        roots: T starts, see ``task_roots``.
        features: ``[B, D]``.
    """
    if features.dim() != 2:
        return None
    layers, owners = _first_layers(roots, get_gradient_edge(features).node)
    if not layers:
        return None
    weight = torch.cat([layer._saved_mat2.detach().mT for layer in layers])
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
    return _by_codes(roots, targets, weight)


def _first_layers(roots: Sequence[Seed], features: Node) -> tuple[list[Node], list[list[int]]]:
    """The nodes that consume the features, if all are linear layers, with the tasks that reach
    each.
    """
    owners: dict[Node, list[int]] = {}
    known: dict[Node, list[Node]] = {}
    for task, root in enumerate(roots):
        if root is None:
            continue
        start = root[0].node
        if start is features:
            return [], []
        if start not in known:
            consumers = _consumers(start, features)
            for node, position in consumers:
                # The input of a layer stands before its weight, which comes last.
                if position != len(node.next_functions) - 2 or linear_input(node) is None:
                    return [], []
            known[start] = [node for node, _ in consumers]
        for layer in known[start]:
            owners.setdefault(layer, []).append(task)
    return list(owners), list(owners.values())


def _consumers(start: Node, features: Node) -> list[tuple[Node, int]]:
    """The nodes below a loss that use the features, and as which of their inputs."""
    found: list[tuple[Node, int]] = []
    seen: set[Node] = set()
    pending = [start]
    while pending:
        node = pending.pop()
        if node in seen:
            continue
        seen.add(node)
        for position, (parent, _) in enumerate(node.next_functions):
            if parent is features:
                found.append((node, position))
            elif parent is not None:
                pending.append(parent)
    return found


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


def _by_codes(
    roots: Sequence[Seed], targets: list[GradientEdge], weight: Tensor
) -> LinearHeads | None:
    """Gradients of layers whose columns belong to several tasks (blocks of heads), in few passes.

    One pass gives the gradients of all tasks together. In a further pass each task is multiplied by
    a power of two that spells a digit of its number; such a product is exact, so a column that only
    one task uses comes back as an exact multiple and tells the digit. A column that does not has
    several tasks (or overflowed), and the answer is None.
    """
    total = _weighted_columns(roots, targets, [1.0] * len(roots))
    peaks = total.abs().argmax(0, keepdim=True)
    at_peak = total.gather(0, peaks).squeeze(0)
    kept = at_peak != 0
    owner = torch.zeros(total.shape[1], dtype=torch.long, device=total.device)
    place = 1
    while place == 1 or place < len(roots):
        digits = [task // place % CODE_BASE for task in range(len(roots))]
        coded = _weighted_columns(roots, targets, [2.0**digit for digit in digits])
        ratio = torch.where(kept, coded.gather(0, peaks).squeeze(0) / at_peak, 1.0)
        digit = ratio.clamp(1, 2.0 ** (CODE_BASE - 1)).log2().round()
        if not bool((coded == total * digit.exp2()).all()):
            return None
        owner += digit.long() * place
        place *= CODE_BASE
    if bool((owner[kept] >= len(roots)).any()):
        return None
    return LinearHeads(total[:, kept], weight[kept], owner[kept])


def _weighted_columns(
    roots: Sequence[Seed], targets: list[GradientEdge], factors: Sequence[float]
) -> Tensor:
    """Gradients at the layers of the weighted sum of all tasks, side by side."""
    pairs = [
        (root, factor) for root, factor in zip(roots, factors, strict=True) if root is not None
    ]
    starts = [root[1] * factor for root, factor in pairs]
    edges = [root[0] for root, _ in pairs]
    return torch.cat(torch.autograd.grad(edges, targets, starts, retain_graph=True), dim=1)
