"""Token tasks with planted differences: one rule for all, a parameter of each task's own in it.

A row is a start token and the K keys in a random order, each with a random value out of V; a token
says key and value at once. Task t asks about its own key k_t, and has its own set S_t of V / 2
values: its label is whether the value of k_t is in S_t. So all tasks look one position up by its
key and compare its value: the same machinery with other parameters inside.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from polytask.problems import Problem, SeparateSplit, Split
from polytask.tasks import Binary, Task

#: Ids before those of keys and values: padding (unused), start.
START, FIRST = 1, 2


def planted_lookups(
    *, keys: int, values: int, sizes: Sequence[int], held_out: int, seed: int
) -> Problem:
    """One task per entry of ``sizes``, its number of training rows; tasks t and t + K share a key.

    Args:
        keys: K.
        values: V, even.
        sizes: Training rows of each task.
        held_out: Validation rows of each task, and test rows.
        seed: Of everything.
    """
    generator = torch.Generator().manual_seed(seed)
    parts: dict[str, dict[str, Split]] = {"train": {}, "validation": {}, "test": {}}
    for number, size in enumerate(sizes):
        name = f"task {number}"
        accepted = torch.randperm(values, generator=generator)[: values // 2]
        for part, rows in (("train", size), ("validation", held_out), ("test", held_out)):
            tokens, drawn = _rows(rows, keys, values, generator)
            label = torch.isin(drawn[:, number % keys], accepted).long()
            parts[part][name] = Split(tokens, {name: label}, [Task(name, Binary())])
    splits = {part: SeparateSplit(found) for part, found in parts.items()}
    return Problem(
        name="planted lookups",
        train=splits["train"],
        validation=splits["validation"],
        test=splits["test"],
    )


def vocabulary_size(keys: int, values: int) -> int:
    """Number of token ids."""
    return FIRST + keys * values


def _rows(count: int, keys: int, values: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Token ids ``[N, 1 + K]`` and the value of every key ``[N, K]``."""
    drawn = torch.randint(values, (count, keys), generator=generator)
    codes = FIRST + torch.arange(keys) * values + drawn
    order = torch.rand(count, keys, generator=generator).argsort(1)
    start = torch.full((count, 1), START)
    return torch.cat([start, codes.gather(1, order)], dim=1), drawn
