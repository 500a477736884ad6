"""Agnostic learning with multiple objectives."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from polytask.balancers.base import HeadRule, LossBalancer
from polytask.solvers import project_simplex
from polytask.tasks import Kind

__all__ = ["AgnosticMinimax"]

Ascent = Literal["exponentiated", "projected"]


class AgnosticMinimax(LossBalancer):
    """Plays the model against the worst mixture of tasks: ``min_h max_{w in W} sum_t w_t L_t(h)``.

    W is the simplex, or the convex hull of given mixtures ``v_1 .. v_V``. With mixing
    probabilities ``m`` (``w = sum_k m_k v_k``) and payoffs ``a_k = sum_t v_kt L_t`` each step
    descends the weighted loss and then ascends::

        exponentiated:  m_k <- m_k exp(g a_k) / sum
        projected:      m <- projection of m + g a on the simplex

    The game's solution is the average over the steps (``average_weights``), not the last weights.

    Args:
        step_size: g > 0; 0.01, ours, for losses of order 1 (the paper gives no value).
        ascent: "exponentiated" (mirror ascent, as in the paper) or "projected".
        vertices: Mixtures ``[V][T]``, each >= 0 with sum 1; None means the whole simplex.
        heads: Rule for task-specific parameters.

    Differences: the paper's pseudo-code was not available to us; both updates are the standard ones
        for this game. Tasks without labels in a batch count with the weighted mean of the
        others, and so keep their place.

    Cost: one backward pass. Needs: losses.

    Example:
        >>> balancer = AgnosticMinimax(step_size=1.0)
        >>> balancer.setup(2)
        >>> losses = torch.tensor([1.0, 2.0], requires_grad=True)
        >>> first, second = balancer.backward(losses), balancer.backward(losses)
        >>> second
        tensor([0.2689, 0.7311])

    References:
        C. Cortes, M. Mohri, J. Gonzalvo, D. Storcheus, Agnostic Learning with Multiple
        Objectives, NeurIPS 2020,
        https://proceedings.neurips.cc/paper/2020/hash/ebea2325dc670423afe9a1f4d9d1aef5-Abstract.html
        M. Mohri, G. Sivek, A. Suresh, Agnostic Federated Learning, ICML 2019,
        https://arxiv.org/abs/1902.00146, Algorithm 1.
    """

    mixture: Tensor
    mixture_sum: Tensor
    rounds: Tensor
    corners: Tensor

    def __init__(
        self,
        *,
        step_size: float = 0.01,
        ascent: Ascent = "exponentiated",
        vertices: Sequence[Sequence[float]] | None = None,
        heads: HeadRule = "weighted",
    ) -> None:
        super().__init__(heads=heads)
        if not step_size > 0:
            raise ValueError(f"`step_size` must be > 0, found {step_size}.")
        if ascent not in ("exponentiated", "projected"):
            raise ValueError(f"`ascent` must be 'exponentiated' or 'projected', found {ascent!r}.")
        rows = None if vertices is None else tuple(tuple(map(float, row)) for row in vertices)
        for row in rows or ():
            if min(row) < 0 or abs(sum(row) - 1) > 1e-6:
                raise ValueError(f"`vertices` must be mixtures >= 0 that sum to 1, found {row}.")
        self.step_size = step_size
        self.ascent: Ascent = ascent
        self.vertices = rows

    @property
    def average_weights(self) -> Tensor:
        """Mean ``[T]`` over the steps of the weights that were used, the solution of the game."""
        if int(self.rounds) == 0:
            return self.mixture @ self.corners
        return self.mixture_sum / self.rounds @ self.corners

    def weights(self, losses: Tensor, tasks: Tensor | None = None) -> Tensor:
        """The mixture's weights, before the losses change it."""
        weights = self.mixture @ self.corners
        chosen = weights if tasks is None else weights[tasks]
        return chosen.to(losses.dtype).expand(losses.shape)

    def objective(self, losses: Tensor, tasks: Tensor) -> tuple[Tensor, Tensor]:
        """The loss under the present mixture; afterwards the mixture moves."""
        total, weights = super().objective(losses, tasks)
        self.ascend(losses.detach(), tasks)
        return total, weights

    def ascend(self, losses: Tensor, tasks: Tensor | None = None) -> None:
        """Move the mixture towards what these losses ``[T]`` make worse."""
        self.mixture_sum += self.mixture
        self.rounds += 1
        values = losses.to(self.corners)
        if tasks is not None:
            own = self.weights(values, tasks)
            mean = (own * values).sum() / own.sum() if bool(own.sum() > 0) else values.mean()
            values = mean.expand(self.corners.shape[1]).index_copy(0, tasks, values)
        moved = self.step_size * (self.corners @ values)
        if self.ascent == "projected":
            self.mixture.copy_(project_simplex(self.mixture + moved))
        else:
            self.mixture.copy_(torch.softmax(self.mixture.log() + moved, dim=0))

    def _create_state(self, num_tasks: int, kinds: Sequence[Kind] | None) -> None:
        del kinds
        corners = torch.eye(num_tasks, dtype=torch.float64)
        if self.vertices is not None:
            corners = torch.tensor(self.vertices, dtype=torch.float64)
            if corners.shape[1] != num_tasks:
                raise ValueError(
                    f"`vertices` mix {corners.shape[1]} tasks but the problem has {num_tasks}."
                )
        self.register_buffer("corners", corners, persistent=False)
        start = torch.full((len(corners),), 1 / len(corners), dtype=torch.float64)
        self.register_buffer("mixture", start)
        self.register_buffer("mixture_sum", torch.zeros_like(start))
        self.register_buffer("rounds", torch.zeros((), dtype=torch.long))
