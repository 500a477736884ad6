"""Adam on a vector of task weights, as state of a balancer.

Shape legend: T tasks.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["TaskAdam"]


class TaskAdam(nn.Module):
    """Adam whose rows can be updated alone, because tasks without labels take no part in a step.

    ``m = b1 m + (1 - b1) g``, ``v = b2 v + (1 - b2) g^2``, and the value moves by
    ``-r m^ / (sqrt(v^) + 1e-8)`` with the bias-corrected moments ``m^``, ``v^``.

    Args:
        num_tasks: T.
        learning_rate: r, > 0.
        weight_decay: Factor of the value that is added to the gradient.

    References:
        D. Kingma, J. Ba, Adam: A Method for Stochastic Optimization, ICLR 2015,
        https://arxiv.org/abs/1412.6980, Algorithm 1.
    """

    first: Tensor
    second: Tensor
    steps: Tensor

    def __init__(self, *, num_tasks: int, learning_rate: float, weight_decay: float = 0.0) -> None:
        super().__init__()
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        for name in ("first", "second", "steps"):
            self.register_buffer(name, torch.zeros(num_tasks, dtype=torch.float64))

    def moved(self, value: Tensor, gradient: Tensor, tasks: Tensor) -> Tensor:
        """The value ``[K]`` of the given tasks after a step.

        Args:
            value: ``[K]``.
            gradient: ``[K]``.
            tasks: Positions ``[K]`` of these tasks among all T.
        """
        gradient = gradient + self.weight_decay * value
        self.steps[tasks] += 1
        first = self.first[tasks] = 0.9 * self.first[tasks] + 0.1 * gradient
        second = self.second[tasks] = 0.999 * self.second[tasks] + 0.001 * gradient**2
        first = first / (1 - 0.9 ** self.steps[tasks])
        second = second / (1 - 0.999 ** self.steps[tasks])
        return value - self.learning_rate * first / (second.sqrt() + 1e-8)
