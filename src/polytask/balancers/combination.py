"""Any rule of your own that combines task gradients."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from polytask.balancers.base import HeadRule
from polytask.balancers.gradient_families import JacobianBalancer
from polytask.balancers.gradient_options import GradientOptions

__all__ = ["Combination"]


class Combination(JacobianBalancer):
    """Applies a function of your own to the matrix of task gradients.

    The update is ``rule(J)`` with the gradients ``J [T, P]``.

    Args:
        rule: Maps ``[T, P]`` to ``[P]``.
        gradients: Where, how often and from how much of the batch gradients are taken.
        heads: Rule for task-specific parameters, "weighted" or "mean".

    Raises:
        TypeError: If ``rule`` cannot be called.
        ValueError: If its result is not of shape ``[P]``.

    Differences: not from a paper.

    Cost: T backward passes of the trunk, T x P memory, and the rule. Needs: Jacobian.

    Example:
        >>> import torch
        >>> from polytask.balancers import Combination
        >>> median = Combination(rule=lambda jacobian: jacobian.median(dim=0).values)
        >>> median.combine(torch.tensor([[1.0, 5.0], [2.0, 1.0], [9.0, 4.0]]))
        tensor([2., 4.])

    References:
        Quinton, Rey. Jacobian descent for multi-objective optimization. 2024, section 2, on rules
        of this form.
        https://arxiv.org/abs/2406.16232
    """

    def __init__(
        self,
        *,
        rule: Callable[[Tensor], Tensor],
        gradients: GradientOptions = GradientOptions(),
        heads: HeadRule = "weighted",
    ) -> None:
        super().__init__(gradients=gradients, heads=heads)
        if not callable(rule):
            raise TypeError(f"`rule` must be a function from [T, P] to [P], found {rule!r}.")
        self.rule = rule

    @classmethod
    def example(cls) -> Combination:
        """Coordinate-wise median."""
        return cls(rule=_median)

    def combine(self, jacobian: Tensor, losses: Tensor | None = None) -> Tensor:
        """``rule(jacobian)``, checked."""
        del losses
        direction = self.rule(jacobian)
        expected = (*jacobian.shape[:-2], jacobian.shape[-1])
        if tuple(direction.shape) != expected:
            raise ValueError(
                f"`rule` must return shape {expected}, found {tuple(direction.shape)}."
            )
        return direction


def _median(jacobian: Tensor) -> Tensor:
    return jacobian.median(dim=-2).values
