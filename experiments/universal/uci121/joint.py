"""One training step of a ``NeighbourEnsemble`` on all tables: those of like size as one product,
and the rows of the step as each other's neighbours.

Shape legend: K tables in the batch, T' of one group, B rows of each, F columns, M members, H hidden
units, Z key size, C outputs.

Cost: B^2 distances per table and member. ``NeighbourEnsemble.forward`` instead compares every row
with remembered ones, table by table.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from polytask.architectures.variables.neighbour_ensemble import NeighbourEnsemble
from polytask.architectures.variables.neighbour_layers import (
    TableGroup,
    as_outputs,
    vote,
    vote_values,
)
from polytask.problems import TableBatch
from polytask.tasks import TaskTensors


def learn(
    model: NeighbourEnsemble,
    inputs: Mapping[str, Tensor],
    targets: Mapping[str, Tensor],
    use: Tensor,
    rows: Tensor | None = None,
) -> TaskTensors:
    """Answers for a training batch, whose rows are each other's neighbours.

    Args:
        model: The ensemble.
        inputs: Tables with as many rows each, or ``TableBatch``.
        targets: Of every table, encoded.
        use: ``[M, K, B]``, whether member m may learn from row b of table k; the other rows are no
            neighbours for it, and their losses should be left out.
        rows: Row numbers ``[K, B]``, where a row may have been drawn twice: a row is no neighbour
            of itself. None means that all rows differ.

    Returns:
        Blocks ``[2 M, B, T', C]`` of tables of like size, padded with -inf.
    """
    batch = TableBatch.pack(inputs)
    order = {name: k for k, name in enumerate(batch.names)}
    chosen = [(group, [n for n in group.names if n in order]) for group in model.table_groups()]
    chosen = [(group, names) for group, names in chosen if names]
    first = [
        group.first(cells_of(group, batch, [order[n] for n in names]), select(group, names))
        for group, names in chosen
    ]
    tables = torch.tensor([model.positions[n] for _, names in chosen for n in names])
    hidden = model.layers(torch.cat(first, dim=1), None if model.shared else tables)
    keys = model.layers.keys(hidden, None if model.shared else tables)
    dropped = model.drop(hidden)
    numbers = torch.arange(batch.size).expand(len(order), -1) if rows is None else rows
    other = (numbers.unsqueeze(2) != numbers.unsqueeze(1)).to(batch.device)
    blocks, start = [], 0
    for group, names in chosen:
        own = slice(start, start + len(names))
        start += len(names)
        places = torch.tensor([order[n] for n in names])
        allowed = use[:, places].unsqueeze(-2) & other[places]
        target = torch.stack([targets[n] for n in names])
        answers = answers_of(group, names, keys[:, own], dropped[:, own], target, allowed)
        blocks.append((tuple(names), answers.transpose(1, 2)))
    sizes = {task.name: task.kind.output_size for task in model.tasks if task.name in order}
    return TaskTensors(blocks, 2 * model.members, sizes=sizes)


def select(group: TableGroup, names: Sequence[str]) -> Tensor | None:
    """Places of some tables in their group; None means all."""
    if len(names) == len(group.names):
        return None
    return torch.tensor([group.names.index(name) for name in names])


def cells_of(group: TableGroup, batch: TableBatch, tables: Sequence[int]) -> Tensor:
    """The rows ``[T', B, F]`` of some tables of a batch; NaN where there is no cell."""
    size, device = batch.size, batch.device
    base = torch.full((len(batch.names),), -1, device=device)
    base[torch.tensor(tables, device=device)] = torch.arange(len(tables), device=device)
    row = batch.rows
    table = base[torch.div(row, size, rounding_mode="floor")]
    own = table >= 0
    where = (table[own] * size + row[own] % size) * group.width + batch.positions[own]
    flat = batch.cells.new_full((len(tables) * size * group.width,), torch.nan)
    flat[where] = batch.cells[own]
    return flat.view(len(tables), size, group.width)


def answers_of(
    group: TableGroup,
    names: Sequence[str],
    keys: Tensor,
    dropped: Tensor,
    targets: Tensor,
    allowed: Tensor,
) -> Tensor:
    """Answers ``[2 M, T', B, C]``, with the rows of the batch as neighbours of each other.

    Args:
        group: Tables of like size.
        names: T' of them.
        keys: ``[M, T', B, Z]``.
        dropped: Hidden values after dropout ``[M, T', B, H]``.
        targets: ``[T', B]``, encoded.
        allowed: ``[M, T', B, B]``, whether a row may be a neighbour.
    """
    tables = select(group, names)
    head, bias, sharpness = (
        (p if tables is None else p[tables]).transpose(0, 1)
        for p in (group.head, group.head_bias, group.sharpness)
    )
    sizes = torch.tensor([t.kind.output_size for t in group.tasks if t.name in names])
    lacks = torch.arange(group.outputs) >= sizes.unsqueeze(1)
    padding = torch.zeros(lacks.shape).masked_fill(lacks, -torch.inf).unsqueeze(1).to(keys.device)
    heads = dropped @ head + bias + padding
    task = group.tasks[0]
    values = vote_values(task, targets, keys.dtype, group.outputs)
    (votes,) = vote(keys, keys, values, allowed, sharpness)
    return torch.cat([heads, as_outputs(task, votes, padding)])
