"""GradNorm."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

import torch
from torch import Tensor

from polytask.balancers.adam import TaskAdam
from polytask.balancers.base import HeadRule
from polytask.balancers.gradient_families import GramBalancer
from polytask.balancers.gradient_options import GradientOptions
from polytask.balancers.rows import state_rows
from polytask.tasks import Kind

__all__ = ["GradNorm", "gradient_targets"]

Parameterisation = Literal["simplex", "softmax"]
#: Weights stay above this, because a task with weight 0 would never come back.
LEAST_WEIGHT = 1e-6


class GradNorm(GramBalancer):
    """Learns weights that make all tasks train at similar rates, by balancing gradient norms.

    With ``n_t = |grad_W L_t|`` on the last shared layer W, ``G_t = w_t n_t`` and the relative
    inverse training rates ``r_t = (L_t / L_t(0)) / mean_u (L_u / L_u(0))``, the weights descend
    ``sum_t |G_t - mean(G) r_t^a|`` with the targets ``mean(G) r_t^a`` held constant, by an Adam of
    their own, and are then scaled to sum to T. A step of the model uses the weights from before.

    Args:
        alpha: a >= 0, the pull towards slow tasks; 1.5, section 5.1 of the paper (0.12 for its
            toy).
        learning_rate: Of the weights; 0.025, the paper's for NYUv2.
        parameterisation: "simplex" as in the paper, or "softmax": ``w = T softmax(s)`` with the
            gradient taken through the softmax, as LibMTL does.
        gradients: Where, how often and from how much of the batch gradients are taken; scope "last"
            as in the paper. With ``every`` the weights learn in those steps only.
        heads: Rule for task-specific parameters, "weighted" or "mean".

    Differences: the paper's ``L_t(0)`` is the loss of the first step, here of the first step in
        which the task has labels. Weights are kept above 1e-6. The notebook port of hosseinshn
        uses weighted losses in r, LibMTL the whole encoder instead of the last layer.

    Cost: T backward passes through the last shared layer and one through all. Needs: Gramian
        (its diagonal), losses.

    Example:
        >>> balancer = GradNorm(learning_rate=0.1)
        >>> balancer.setup(2)
        >>> gram = torch.diag(torch.tensor([1.0, 100.0]))
        >>> losses = torch.tensor([1.0, 1.0])
        >>> first = balancer.weights(gram, losses)
        >>> balancer.weights(gram)
        tensor([1.1000, 0.9000])

    References:
        Z. Chen, V. Badrinarayanan, C. Lee, A. Rabinovich, GradNorm: Gradient Normalization for
        Adaptive Loss Balancing in Deep Multitask Networks, ICML 2018,
        https://arxiv.org/abs/1711.02257, eq. (1)-(2) and Algorithm 1.
    """

    takes_tasks: ClassVar[bool] = True
    values: Tensor
    initial_losses: Tensor

    def __init__(
        self,
        *,
        alpha: float = 1.5,
        learning_rate: float = 0.025,
        parameterisation: Parameterisation = "simplex",
        gradients: GradientOptions = GradientOptions(scope="last"),
        heads: HeadRule = "weighted",
    ) -> None:
        super().__init__(gradients=gradients, heads=heads)
        if not alpha >= 0:
            raise ValueError(f"`alpha` must be >= 0, found {alpha}.")
        if not learning_rate > 0:
            raise ValueError(f"`learning_rate` must be > 0, found {learning_rate}.")
        if parameterisation not in ("simplex", "softmax"):
            raise ValueError(
                f"`parameterisation` must be 'simplex' or 'softmax', found {parameterisation!r}."
            )
        self.alpha = alpha
        self.learning_rate = learning_rate
        self.parameterisation: Parameterisation = parameterisation

    def weights(
        self, gram: Tensor, losses: Tensor | None = None, *, tasks: Tensor | None = None
    ) -> Tensor:
        """The present weights ``[..., T]`` of the tasks at positions ``tasks`` (or all).

        Given the losses ``[T]`` of one step, the weights learn from them afterwards.
        """
        rows = state_rows(self, gram, tasks)
        weights = self._current()[rows]
        if losses is not None and gram.dim() == 2:
            self._learn(gram.diagonal().double().sqrt(), losses.double(), weights, rows)
        return weights.to(gram.dtype).expand(gram.shape[:-1])

    def _learn(self, norms: Tensor, losses: Tensor, weights: Tensor, tasks: Tensor) -> None:
        unknown = self.initial_losses[tasks].isnan()
        self.initial_losses[tasks] = torch.where(unknown, losses, self.initial_losses[tasks])
        gradient = gradient_targets(
            weights, norms, losses, self.initial_losses[tasks], alpha=self.alpha
        )[1]
        if self.parameterisation == "softmax":
            gradient = weights * (gradient - (gradient * weights).sum() / len(self.values))
            self.values[tasks] = self.optimizer.moved(self.values[tasks], gradient, tasks)
            return
        moved = self.optimizer.moved(weights, gradient, tasks).clamp_min(LEAST_WEIGHT)
        # Tasks without labels keep their weights, so the others keep their sum.
        self.values[tasks] = moved * weights.sum() / moved.sum()

    def _current(self) -> Tensor:
        if self.parameterisation == "softmax":
            return torch.softmax(self.values, dim=0) * len(self.values)
        return self.values.clone()

    def _create_state(self, num_tasks: int, kinds: Sequence[Kind] | None) -> None:
        del kinds
        start = 0.0 if self.parameterisation == "softmax" else 1.0
        self.register_buffer("values", torch.full((num_tasks,), start, dtype=torch.float64))
        empty = torch.full((num_tasks,), torch.nan, dtype=torch.float64)
        self.register_buffer("initial_losses", empty)
        self.optimizer = TaskAdam(num_tasks=num_tasks, learning_rate=self.learning_rate)


def gradient_targets(
    weights: Tensor, norms: Tensor, losses: Tensor, initial_losses: Tensor, *, alpha: float
) -> tuple[Tensor, Tensor]:
    """GradNorm's target norms, and the gradient of its loss with respect to the weights.

    Args:
        weights: w ``[..., T]``.
        norms: n, the gradient norms of the unweighted losses ``[..., T]``.
        losses: L ``[..., T]``.
        initial_losses: L(0) ``[..., T]``.
        alpha: a.

    Returns:
        ``mean(G) r_t^a`` and ``sign(G_t - mean(G) r_t^a) n_t``, both ``[..., T]``.
    """
    weighted = weights * norms
    progress = losses / initial_losses
    rates = progress / progress.mean(-1, keepdim=True)
    targets = weighted.mean(-1, keepdim=True) * rates**alpha
    return targets, (weighted - targets).sign() * norms
