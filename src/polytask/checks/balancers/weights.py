"""The weights of a method, or its directions, as a function of gradients and losses.

Shape legend: T tasks.
"""

from __future__ import annotations

import torch

from polytask.balancers import GramBalancer, JacobianBalancer
from polytask.checks import zoo
from polytask.checks.balancers.examples import (
    Example,
    close,
    counts,
    draws_for,
    fresh,
    has_task_arguments,
    pure,
    solve,
)
from polytask.checks.balancers.network import ToyNetwork

__all__ = ["check_batches", "check_finite_on_zoo", "check_permutation", "check_precision"]

#: Buffers of the base class; more than these is state of a method's own.
EVERY_BALANCER = frozenset({"steps", "last_weights"})


def check_finite_on_zoo(example: Example) -> None:
    """Weights are finite and one per task, whatever gradients and losses come."""
    for count in counts(example):
        for name, rows in zoo.jacobians(count).items():
            for dtype in (torch.float64, torch.float32):
                losses = torch.linspace(0.5, 2.0, count, dtype=dtype)
                weights, direction = solve(fresh(example, count), rows.to(dtype), losses)
                where = f"on {name!r} with {count} tasks in {dtype}"
                assert weights.shape == (count,), f"weights are {tuple(weights.shape)} {where}"
                assert bool(weights.isfinite().all()), f"weights are {weights.tolist()} {where}"
                assert direction.shape == rows.shape[1:], f"direction is misshaped {where}"
                assert bool(direction.isfinite().all()), f"the direction is not finite {where}"
        for name, losses in zoo.losses(count).items():
            weights, _ = solve(fresh(example, count), zoo.regular(count), losses)
            assert bool(weights.isfinite().all()), f"weights are not finite on {name!r} losses"


def check_permutation(example: Example) -> None:
    """Tasks in another order get the same combined gradient."""
    if not example().permutation_equivariant:
        return
    for count in counts(example):
        rows = zoo.regular(count)
        losses = torch.linspace(0.5, 2.0, count, dtype=torch.float64)
        order = torch.randperm(count, generator=torch.Generator().manual_seed(1))
        if has_task_arguments(example()):
            continue
        _, straight = solve(fresh(example, count), rows, losses)
        _, permuted = solve(fresh(example, count), rows[order], losses[order])
        assert close(permuted, straight, 1e-6), f"order matters with {count} tasks"


def check_precision(example: Example) -> None:
    """Single and double precision agree, and each keeps its type."""
    count = counts(example)[-1]
    found = {}
    for dtype in (torch.float64, torch.float32):
        losses = torch.linspace(0.5, 2.0, count, dtype=dtype)
        rows = zoo.regular(count, dtype=dtype)
        weights, direction = solve(fresh(example, count), rows, losses)
        assert weights.dtype == dtype, f"weights are {weights.dtype} for {dtype}"
        assert direction.dtype == dtype, f"the direction is {direction.dtype} for {dtype}"
        network = ToyNetwork(count, dtype=dtype)
        assert network.step(fresh(example, count)).dtype == dtype, f"backward changes {dtype}"
        found[dtype] = direction.double()
    assert close(found[torch.float32], found[torch.float64], 1e-3), "precisions disagree"


def check_batches(example: Example) -> None:
    """Leading dimensions are problems of their own: each has the result that it has alone.

    Balancers that carry task state from step to step see one problem at a time.
    """
    given = example()
    if not isinstance(given, GramBalancer | JacobianBalancer):
        return
    for count in counts(example):
        if {name for name, _ in fresh(example, count).named_buffers()} - EVERY_BALANCER:
            return
        rows = torch.stack([zoo.regular(count, seed=seed) for seed in range(6)])
        losses = torch.linspace(0.5, 2.0, 6 * count, dtype=torch.float64).reshape(6, count)
        draws = draws_for(given, rows)
        together = pure(fresh(example, count), rows.unflatten(0, (2, 3)), losses, draws, (2, 3))
        for i, found in enumerate(together.flatten(0, 1)):
            own = {name: value[i] for name, value in draws.items()}
            alone = pure(fresh(example, count), rows[i], losses[i], own)
            assert close(found, alone, 1e-6), f"problem {i} of a batch has another result alone"
