"""What the checks do with an example: make it anew, change its arguments, call its mathematics.

Shape legend: T tasks, P shared parameters.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from polytask import balancers
from polytask.balancers import Balancer, GramBalancer, JacobianBalancer, LossBalancer
from polytask.checks.balancers.network import ToyNetwork
from polytask.config import arguments
from polytask.solvers import random_orders

__all__ = [
    "Example",
    "close",
    "counts",
    "draws_for",
    "flat_gradient",
    "fresh",
    "has_task_arguments",
    "network_for",
    "public_balancers",
    "pure",
    "replayed",
    "solve",
    "with_arguments",
    "with_gradients",
]

#: Makes a small fresh balancer.
Example = Callable[[], Balancer]


def public_balancers() -> list[type[Balancer]]:
    """The concrete balancers among the exports of ``polytask.balancers``."""
    exported = [getattr(balancers, name) for name in balancers.__all__]
    return [
        item
        for item in exported
        if isinstance(item, type)
        and issubclass(item, Balancer)
        and not getattr(item, "__abstractmethods__", None)
    ]


def counts(example: Example) -> tuple[int, ...]:
    """Numbers of tasks that the example can be set up for."""
    return type(example()).example_counts


def network_for(example: Example) -> ToyNetwork:
    """A network with as many tasks as the example allows."""
    return ToyNetwork(counts(example)[-1])


def fresh(example: Example, count: int) -> Balancer:
    """A new balancer, set up for ``count`` tasks."""
    balancer = example()
    balancer.setup(count)
    return balancer


def with_arguments(example: Example, **options: Any) -> Example:
    """An example with some of its arguments replaced, as far as it has them."""
    given = example()
    known = arguments(given)
    chosen = {name: value for name, value in options.items() if name in known}
    return lambda: type(given)(**{**known, **chosen})


def has_task_arguments(balancer: Balancer) -> bool:
    """Whether an argument holds a value per task, which a permutation would have to move along."""
    return any(isinstance(value, tuple) for value in arguments(balancer).values())


def with_gradients(example: Example, **options: Any) -> Example:
    """An example with some of its ``GradientOptions`` replaced, if it has any."""
    given = arguments(example()).get("gradients")
    return (
        example if given is None else with_arguments(example, gradients=replace(given, **options))
    )


def solve(balancer: Balancer, jacobian: Tensor, losses: Tensor) -> tuple[Tensor, Tensor]:
    """Weights ``[T]`` and direction ``[P]`` as a training step finds them."""
    tasks = torch.arange(len(losses))
    if isinstance(balancer, LossBalancer):
        weights = balancer.weights(losses, tasks)
        return weights, weights.to(jacobian.dtype) @ jacobian
    if isinstance(balancer, GramBalancer):
        weights = balancer.solve(jacobian @ jacobian.mT, losses, tasks)
        return weights, weights.to(jacobian.dtype) @ jacobian
    assert isinstance(balancer, JacobianBalancer), "a balancer belongs to one of three families"
    direction, weights = balancer.solve(jacobian, losses, tasks)
    return weights, direction


def pure(
    balancer: Balancer,
    rows: Tensor,
    losses: Tensor,
    draws: dict[str, Tensor],
    batch: tuple[int, ...] = (),
) -> Tensor:
    """Weights or directions by the pure function, with the draws given."""
    given = {k: v.unflatten(0, batch) if batch else v for k, v in draws.items()}
    values = losses.unflatten(0, batch) if batch else losses
    if isinstance(balancer, GramBalancer):
        return balancer.weights(rows @ rows.mT, values, **given)
    assert isinstance(balancer, JacobianBalancer)
    return balancer.combine(rows, values, **given)


def draws_for(balancer: Balancer, rows: Tensor) -> dict[str, Tensor]:
    """What the pure function takes instead of drawing it, one row per problem."""
    name = "weights" if isinstance(balancer, GramBalancer) else "combine"
    known = inspect.signature(getattr(balancer, name)).parameters
    generator = torch.Generator().manual_seed(0)
    problems, tasks, size = rows.shape
    draws: dict[str, Callable[[], Tensor]] = {
        "orders": lambda: random_orders(tasks, generator=generator, batch=(problems,)),
        "noise": lambda: torch.rand(problems, size, generator=generator, dtype=rows.dtype),
    }
    return {name: draw() for name, draw in draws.items() if name in known}


def replayed(network: ToyNetwork, balancer: Balancer) -> tuple[Tensor, Tensor]:
    """The losses of the network's (last) batch again, with a graph of their own."""
    twin = ToyNetwork(len(network.heads), dtype=network.first.dtype)
    network.generator.set_state(twin.generator.get_state())
    found = network.losses()
    for _ in range(balancer.batches_per_step - 1):
        found = network.losses()
    return found


def flat_gradient(loss: Tensor, parameters: Sequence[Tensor]) -> Tensor:
    """A loss's gradient as one row ``[P]``, with zeros where it does not depend on a parameter."""
    pieces = torch.autograd.grad(
        loss, list(parameters), retain_graph=True, allow_unused=True, materialize_grads=True
    )
    return torch.cat([piece.flatten() for piece in pieces])


def close(found: Tensor, wanted: Tensor, tolerance: float) -> bool:
    """Whether two tensors agree relative to the larger one's largest entry."""
    size = float(wanted.abs().max()) if wanted.numel() else 0.0
    return bool((found - wanted).abs().max() <= tolerance * max(size, 1e-300))
