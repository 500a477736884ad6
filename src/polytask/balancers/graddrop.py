"""GradDrop: keeps one random sign per coordinate."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from polytask.balancers.base import HeadRule
from polytask.balancers.draws import Draws
from polytask.balancers.gradient_families import JacobianBalancer
from polytask.balancers.gradient_options import GradientOptions
from polytask.solvers import drop_signs, sign_purity

__all__ = ["GradDrop"]


class GradDrop(JacobianBalancer):
    """Keeps, coordinate by coordinate, either the positive or the negative gradients, by chance.

    ``P = 1/2 (1 + sum_t g_t / sum_t |g_t|)`` per coordinate of the gradients (rows of
    ``J [T, P]``), noise ``U`` uniform in [0, 1): positive entries survive where ``P > U``, negative
    ones where ``P < U``. The update is ``sum_t (l_t + (1 - l_t) M_t) g_t`` with the masks ``M`` and
    the leaks ``l``.

    Args:
        leak: Share of a task's dropped entries that passes, in [0, 1]: one number, or T; 0
            (default), the paper.
        seed: First state of the generator of the noise.
        gradients: Where, how often and from how much of the batch gradients are taken; scope
            "features" is the paper's layer version.
        heads: Rule for task-specific parameters, "weighted" or "mean".

    Raises:
        ValueError: If a leak is outside [0, 1], or there are not T of them.

    Differences: none known for parameters. For activations, ``combine_features`` multiplies the
    gradients by the sign of the activations and sums over the batch before it takes the sign, as in
    algorithm 1; one public port also sums over the units.

    Cost: T backward passes of the trunk, T x P memory. Needs: Jacobian.

    Example:
        >>> import torch
        >>> from polytask.balancers import GradDrop
        >>> jacobian = torch.tensor([[1.0, 2.0], [3.0, 1.0]])
        >>> GradDrop().combine(jacobian)
        tensor([4., 3.])

    References:
        Chen, Ngiam, Huang, Luong, Kretzschmar, Chai, Anguelov. Just pick a sign: optimizing deep
        multitask models with gradient sign dropout. NeurIPS 2020, equation 1, algorithm 1.
        https://arxiv.org/abs/2010.06808
    """

    takes_tasks: ClassVar[bool] = True
    scale_invariant: ClassVar[bool] = True

    def __init__(
        self,
        *,
        leak: float | Sequence[float] = 0.0,
        seed: int = 0,
        gradients: GradientOptions = GradientOptions(),
        heads: HeadRule = "weighted",
    ) -> None:
        super().__init__(gradients=gradients, heads=heads)
        leaks = [leak] if isinstance(leak, int | float) else list(leak)
        if not leaks or not all(0 <= value <= 1 for value in leaks):
            raise ValueError(f"`leak` must hold numbers in [0, 1], found {leak}.")
        self.leak = leak if isinstance(leak, int | float) else tuple(leak)
        self.seed = seed
        self.draws = Draws(seed=seed)

    def combine(
        self,
        jacobian: Tensor,
        losses: Tensor | None = None,
        *,
        tasks: Tensor | None = None,
        noise: Tensor | None = None,
    ) -> Tensor:
        """The update ``[..., P]`` from ``[..., T, P]``.

        ``tasks`` are the positions of the T tasks among all; ``noise`` ``[..., P]`` is drawn unless
        given.
        """
        del losses
        if noise is None:
            noise = self._draw(jacobian[..., 0, :])
        return drop_signs(
            jacobian, sign_purity(jacobian), noise, self._leaks(jacobian, tasks, axis=-2)
        )

    def combine_features(
        self, features: Tensor, gradients: Tensor, *, noise: Tensor | None = None
    ) -> Tensor:
        """Gradient ``[B, D]`` for the trunk from features ``[B, D]``.

        ``gradients`` are those of the tasks, ``[T, B, D]``. The masks are common to the batch;
        ``noise`` ``[D]`` is drawn unless given.
        """
        signed = (features.sign() * gradients).sum(dim=1)
        if noise is None:
            noise = self._draw(signed[0])
        # Masks follow the summed signs; the entries themselves pass or not.
        purity = sign_purity(signed)
        positive, negative = purity > noise, purity < noise
        mask = torch.where(signed > 0, positive, negative & (signed < 0)).to(gradients)
        share = self._leaks(gradients, None, axis=0)[:, None]
        return (gradients * (share + (1 - share) * mask).unsqueeze(1)).sum(dim=0)

    def _draw(self, like: Tensor) -> Tensor:
        # Drawn in one precision, so that all precisions drop the same coordinates.
        noise = torch.rand(like.shape, generator=self.draws.generator, dtype=torch.float64)
        return noise.to(like)

    def _leaks(self, gradients: Tensor, tasks: Tensor | None, *, axis: int) -> Tensor:
        """``[T]`` leaks of the present tasks; T is the size of ``axis``."""
        count = gradients.shape[axis]
        leak = torch.as_tensor(self.leak, dtype=gradients.dtype, device=gradients.device)
        if leak.dim() == 0:
            return leak.expand(count)
        if tasks is not None:
            leak = leak[tasks]
        if len(leak) != count:
            raise ValueError(f"`leak` must hold one number or {count}, found {len(leak)}.")
        return leak
