"""What a class declares of its method: pass on balancers that do not declare it."""

from __future__ import annotations

import torch

from polytask.checks import zoo
from polytask.checks.balancers.examples import Example, counts, fresh, solve

__all__ = ["check_non_conflicting", "check_scale_invariance", "check_stationary_fixed_point"]


def check_scale_invariance(example: Example) -> None:
    """Declared: all losses times 1e-6 or 1e6 leave the direction as it is."""
    if not example().scale_invariant:
        return
    for count in counts(example):
        rows = zoo.regular(count)
        losses = torch.linspace(0.5, 2.0, count, dtype=torch.float64)
        _, reference = solve(fresh(example, count), rows, losses)
        for factor in (1e-6, 1e6):
            _, scaled = solve(fresh(example, count), rows * factor, losses * factor)
            cosine = torch.nn.functional.cosine_similarity(scaled, reference, dim=0)
            assert float(cosine) > 1 - 1e-6, f"losses times {factor} turn it to cosine {cosine}"


def check_non_conflicting(example: Example) -> None:
    """Declared: the direction opposes no task's gradient, however short that gradient is."""
    if not example().non_conflicting:
        return
    for count in (c for c in counts(example) if c > 1):
        for ratio in (1.0, 1e-3, 1e-6):
            for seed in range(3):
                rows = zoo.conflicting(count, ratio, seed=seed)
                losses = torch.linspace(0.5, 2.0, count, dtype=torch.float64)
                _, direction = solve(fresh(example, count), rows, losses)
                lengths = rows.norm(dim=1) * direction.norm()
                cosines = (rows @ direction) / lengths.clamp_min(1e-300)
                worst = float(cosines.min())
                assert worst > -1e-6, f"cosine {worst:.2f} to a task {1 / ratio:g} times shorter"


def check_stationary_fixed_point(example: Example) -> None:
    """Declared: where a convex combination of the gradients vanishes, so does the update."""
    if not example().stationary_fixed_point:
        return
    for count in (c for c in counts(example) if c > 1):
        for name in ("opposite", "stationary") if count > 2 else ("opposite",):
            rows = zoo.jacobians(count)[name]
            rows = rows[:2] if name == "opposite" else rows
            losses = torch.ones(len(rows), dtype=torch.float64)
            _, direction = solve(fresh(example, len(rows)), rows, losses)
            length = float(direction.norm() / rows.norm(dim=1).max())
            assert length < 1e-4, f"a step of {length} at a stationary point ({name})"
