"""A small network whose gradients can be derived in every way, for the checks.

Shape legend: T tasks, S batches of a step, B examples.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from polytask.balancers import Balancer

__all__ = ["ToyNetwork"]


class _Counter(torch.autograd.Function):
    """The identity, which counts the backward passes that come through."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, counts: list[int]) -> Tensor:
        ctx.counts = counts
        return values.view_as(values)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        ctx.counts[-1] += 1
        return gradient, None


class ToyNetwork(nn.Module):
    """A trunk with T linear heads, a shared parameter that no task uses, a frozen one, and one that
    only the first task uses.

    Args:
        tasks: T.
        dtype: Of parameters and inputs.
    """

    def __init__(self, tasks: int, *, dtype: torch.dtype = torch.float64) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(tasks)

        def values(*shape: int) -> nn.Parameter:
            draw = torch.randn(shape, generator=generator, dtype=torch.float64)
            return nn.Parameter((draw / math.sqrt(shape[-1])).to(dtype))

        self.first, self.second, self.side = values(6, 5), values(4, 6), values(4)
        self.unused, self.frozen = values(3), values(4)
        self.frozen.requires_grad_(False)
        self.heads = nn.ParameterList([values(2, 4) for _ in range(tasks)])
        self.generator = generator
        self.passes = [0]

    def shared(self, scope: str = "trunk") -> list[Tensor]:
        """The shared parameters, or those of the last shared layer."""
        last: list[Tensor] = [self.second, self.frozen, self.unused, self.side]
        return last if scope == "last" else [self.first, *last]

    def losses(self, tasks: Sequence[int] | None = None) -> tuple[Tensor, Tensor]:
        """Positive losses ``[T]`` of a fresh batch, and the features ``[B, 4]``."""
        inputs = torch.randn(8, 5, generator=self.generator, dtype=torch.float64)
        hidden = torch.tanh(inputs.to(self.first) @ self.first.mT)
        hidden = _Counter.apply(hidden, self.passes)  # type: ignore[no-untyped-call]
        features = torch.tanh(torch.nn.functional.linear(hidden, self.second, self.frozen))
        chosen = range(len(self.heads)) if tasks is None else tasks
        values = []
        for task in chosen:
            outputs = torch.nn.functional.linear(features, self.heads[task]) - 0.5
            extra = self.side.square().sum() if task == 0 else 0.0
            values.append(outputs.square().mean() * (task + 1) + extra)
        return torch.stack(values), features

    def batches(
        self, balancer: Balancer, tasks: Sequence[int] | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """The losses of one step, ``[T]`` or ``[S, T]``, and the features if there is one batch."""
        if balancer.batches_per_step == 1:
            return self.losses(tasks)
        stack = [self.losses(tasks)[0] for _ in range(balancer.batches_per_step)]
        return torch.stack(stack), None

    def step(self, balancer: Balancer, **options: Any) -> Tensor:
        """One backward pass by the balancer on a fresh batch; returns its weights."""
        tasks = options.get("tasks")
        losses, features = self.batches(balancer, tasks)
        scope = balancer.scope or "trunk"
        weights = balancer.backward(
            losses,
            shared=self.shared(scope),
            features=features,
            partial_losses=lambda fraction: self.losses(tasks)[0] if 0 < fraction < 1 else losses,
            **options,
        )
        if balancer.revisits_losses:
            balancer.after_step(losses.detach() * 0.9, tasks=tasks)
        return weights

    def gradients(self) -> dict[str, Tensor]:
        """Copies of all gradients that exist."""
        found = {name: p.grad for name, p in self.named_parameters()}
        return {name: grad.clone() for name, grad in found.items() if grad is not None}
