"""Models that predict what a task gains in a set of tasks from the gains in a few sets that were
trained.

Shape legend: T tasks, S sets of tasks, F features of a set.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Self

import torch
from torch import Tensor

from polytask.config import rebuildable_repr

__all__ = ["GainModel", "MembershipRidge", "PartnerRelevance", "TaskMean"]

#: Penalties that leave-one-out error chooses from, in units of one observation.
PENALTIES = tuple(10.0 ** (k / 2) for k in range(-4, 7))
#: Pseudo-observations with which a task's own spread and noise are drawn to those of all tasks.
SHRINKAGE = 5.0
#: Share of noise in the variance of gains that is assumed where nothing is known.
PRIOR_NOISE = 0.5
#: Variances of partner effects below this, in units of the task's spread, are no effect.
LEAST_VARIANCE = 1e-8


class GainModel(ABC):
    """Predicts gains of tasks in sets; ``GroupScores`` once it is fitted.

    A gain is measured relative to the task alone, so a set of one task gains 0 by definition:
    such sets are left out of a fit, and are predicted as 0.
    """

    def __init__(self) -> None:
        self._num_tasks = 0

    def __repr__(self) -> str:
        return rebuildable_repr(self)

    def fit(self, masks: Tensor, gains: Tensor, *, seed: int = 0) -> Self:
        """Learn from sets that were trained.

        Args:
            masks: ``[S, T]`` (bool), the sets.
            gains: ``[S, T]``, how much better each member is than alone; NaN outside the sets.
            seed: For models that draw random numbers.

        Raises:
            ValueError: Shapes that differ, no set of two or more tasks, or a member's gain that is
                not finite.
        """
        if masks.dim() != 2 or masks.dtype != torch.bool or masks.shape != gains.shape:
            raise ValueError(
                "`masks` (bool) and `gains` must both be [sets, tasks], found"
                f" {masks.dtype} {tuple(masks.shape)} and {tuple(gains.shape)}."
            )
        several = masks.sum(1) > 1
        if not bool(several.any()):
            raise ValueError(
                f"`masks` must have a set of two or more tasks to learn from, found {len(masks)}"
                " sets without any."
            )
        gains = gains.detach().to("cpu", torch.float64)
        for row, task in (masks & ~gains.isfinite()).nonzero().tolist():
            raise ValueError(
                f"`gains` must be finite inside the sets, found {gains[row, task]} for task {task}"
                f" in row {row}."
            )
        inside = masks[several].cpu()
        self._num_tasks = masks.shape[1]
        self._fit(inside, gains[several].masked_fill(~inside, 0.0), seed)
        return self

    def __call__(self, masks: Tensor) -> Tensor:
        """Gains ``[S, T]`` of sets ``[S, T]``; minus infinity outside, 0 for a task alone."""
        if self._num_tasks == 0:
            raise ValueError(f"{type(self).__name__} must be fitted before it predicts.")
        if masks.dim() != 2 or masks.dtype != torch.bool or masks.shape[1] != self._num_tasks:
            raise ValueError(
                f"`masks` must be [sets, {self._num_tasks} tasks] (bool), found {masks.dtype}"
                f" {tuple(masks.shape)}."
            )
        inside = masks.cpu()
        gains = self._predict(inside).masked_fill(inside.sum(1, keepdim=True) == 1, 0.0)
        return gains.masked_fill(~inside, -torch.inf)

    @abstractmethod
    def _fit(self, inside: Tensor, gains: Tensor, seed: int) -> None:
        """Learn from sets of at least two tasks ``[S, T]``; gains are 0 outside."""

    @abstractmethod
    def _predict(self, inside: Tensor) -> Tensor:
        """Gains ``[S, T]``; entries outside the sets are not looked at."""


class TaskMean(GainModel):
    """The mean of a task's measured gains, whoever its partners are: the control.

    It says which tasks gain from company, not which company; every other model must order the sets
    of a task better than this constant does.
    """

    def _fit(self, inside: Tensor, gains: Tensor, seed: int) -> None:
        self._means = task_means(inside, gains)

    def _predict(self, inside: Tensor) -> Tensor:
        return self._means.expand(inside.shape)


class MembershipRidge(GainModel):
    """A ridge regression per task on the indicators of its partners.

    g_t(S) = mean_t + (x_S - mean x) w_t, with w_t = (X'X + penalty I)^-1 X'y, where X and y are
    the centred indicators ``[S_t, T]`` and gains of the S_t observed sets that hold the task.

    Args:
        penalty: > 0, shared by all tasks; None chooses the one of eleven between 0.01 and 1000
            with the least leave-one-out error, each task's errors divided by its variance.

    Cost: T eigendecompositions of ``[T, T]``; milliseconds for 27 tasks and 3,000 sets.

    References:
        Li, Nguyen, Zhang: Identification of Negative Transfers in Multitask Learning Using
        Surrogate Models, TMLR 2023, https://arxiv.org/abs/2303.14582 (linear surrogates of the
        membership indicators). A. Hoerl, R. Kennard: Ridge Regression, Technometrics 1970.
    """

    def __init__(self, *, penalty: float | None = None) -> None:
        super().__init__()
        if penalty is not None and not penalty > 0:
            raise ValueError(f"`penalty` must be > 0 or None, found {penalty}.")
        self.penalty = penalty

    def _fit(self, inside: Tensor, gains: Tensor, seed: int) -> None:
        self._means = task_means(inside, gains)
        fits = [_RidgePath(inside[rows], gains[rows, t]) for t, rows in enumerate(inside.T)]
        penalty = self.penalty or _least(PENALTIES, [_left_out(fits, p) for p in PENALTIES])
        self._weights = torch.stack([fit.weights(penalty) for fit in fits])
        self._centres = torch.stack([fit.centre for fit in fits])

    def _predict(self, inside: Tensor) -> Tensor:
        shift = (self._weights * self._centres).sum(1)
        return self._means + inside.to(torch.float64) @ self._weights.T - shift


class _RidgePath:
    """Ridge regressions of one task for any penalty, from one eigendecomposition."""

    def __init__(self, inside: Tensor, gains: Tensor) -> None:
        features = inside.to(torch.float64)
        count = max(len(features), 1)
        self.centre = features.sum(0) / count
        centred = features - self.centre
        values, self._vectors = torch.linalg.eigh(centred.T @ centred)
        self._values = values.clamp(min=0.0)
        self._rotated = centred @ self._vectors
        self._targets = gains - gains.sum() / count

    def _shrunk(self, penalty: float) -> Tensor:
        shrunk: Tensor = (self._rotated.T @ self._targets) / (self._values + penalty)
        return shrunk

    def weights(self, penalty: float) -> Tensor:
        """Effects of the partners ``[T]``."""
        effects: Tensor = self._vectors @ self._shrunk(penalty)
        return effects

    def left_out(self, penalty: float) -> float:
        """Mean squared leave-one-out error relative to the variance; 0 where nothing varies."""
        count, spread = len(self._targets), float(self._targets.square().sum())
        if count < 2 or spread == 0.0:
            return 0.0
        leverage = 1 / count + (self._rotated.square() / (self._values + penalty)).sum(1)
        errors = (self._targets - self._rotated @ self._shrunk(penalty)) / (1 - leverage)
        return float(errors.square().sum()) / spread


def _left_out(fits: Sequence[_RidgePath], penalty: float) -> float:
    return sum(fit.left_out(penalty) for fit in fits)


def _least(candidates: Sequence[float], errors: Sequence[float]) -> float:
    """The largest of the candidates with the least error: more shrinkage where it costs nothing."""
    least = min(errors)
    return max(c for c, e in zip(candidates, errors, strict=True) if e <= least * (1 + 1e-9))


class PartnerRelevance(GainModel):
    """Linear effects of the partners that all tasks learn together, most of them switched off.

    g_t(S) = c_t + s_t (b_t + sum over f of z_f(S) w_tf) + noise of variance s_t^2 v_t

    with features z(S): the indicator of every task, and the same divided by the number of partners
    (a partner's effect, and its effect as it is diluted in a large set), centred over the observed
    sets. c_t and s_t are the mean and spread of the task's gains. The effects have the prior
    w_tf ~ N(m_f, r_f), m_f ~ N(0, q): a partner does about the same to everybody (m_f), to a degree
    that is learned per partner (relevance r_f), so that what ten tasks say about a harmful partner
    helps the eleventh, and a partner that matters to nobody costs no degrees of freedom. r, m, q
    and the noise v_t are found by EM on the marginal likelihood.

    Args:
        diluted: Whether the second half of the features is used.
        iterations: Of EM; 60 is past the point from which predictions hardly change.

    Differences: this is our own combination; no paper describes it. With every relevance equal and
        m = 0 it is ``MembershipRidge`` with another way to find the penalty.

    Cost: per iteration T inversions of ``[F, F]``, F = T or 2 T: a second for 27 tasks, however
        many sets, about ten for 100 tasks.

    References:
        B. Bakker, T. Heskes: Task Clustering and Gating for Bayesian Multitask Learning, JMLR 2003
        (the prior over tasks). D. MacKay: Bayesian Non-linear Modelling for the Prediction
        Competition, 1994 (automatic relevance determination).
    """

    def __init__(self, *, diluted: bool = True, iterations: int = 60) -> None:
        super().__init__()
        if iterations < 1:
            raise ValueError(f"`iterations` must be >= 1, found {iterations}.")
        self.diluted = diluted
        self.iterations = iterations

    def _fit(self, inside: Tensor, gains: Tensor, seed: int) -> None:
        counts = inside.sum(0).to(torch.float64)
        self._means = task_means(inside, gains)
        residuals = (gains - self._means).masked_fill(~inside, 0.0)
        self._spread = _spread(residuals.square().sum(0), counts)
        self._centre = torch.zeros(())
        features = self._features(inside)
        self._centre = features.mean(0)
        features = features - self._centre
        # The constant feature is b_t: the observed sets of a task need not have the mean features.
        design = torch.cat([features, torch.ones(len(features), 1, dtype=torch.float64)], 1)
        self._weights = _relevance_em(
            design, residuals / self._spread, inside.to(torch.float64), self.iterations
        )

    def _features(self, inside: Tensor) -> Tensor:
        indicator = inside.to(torch.float64)
        if not self.diluted:
            return indicator - self._centre
        partners = (indicator.sum(1, keepdim=True) - 1).clamp(min=1)
        # Scaled so that both halves have about the same size in a set of half the tasks.
        scale = (inside.shape[1] / 4) ** 0.5
        return torch.cat([indicator, indicator / partners * scale], 1) - self._centre

    def _predict(self, inside: Tensor) -> Tensor:
        effects = self._features(inside) @ self._weights[:, :-1].T + self._weights[:, -1]
        return self._means + self._spread * effects


def _relevance_em(design: Tensor, targets: Tensor, inside: Tensor, iterations: int) -> Tensor:
    """Posterior mean effects ``[T, F + 1]``; the last feature is a constant with a flat prior.

    Args:
        design: Features of the sets ``[S, F + 1]``.
        targets: Standardised gains ``[S, T]``, 0 outside.
        inside: ``[S, T]``, 1 or 0.
        iterations: Of EM.
    """
    num_tasks, width = inside.shape[1], design.shape[1]
    gram = torch.stack([(design * column[:, None]).T @ design for column in inside.T])
    moments = targets.T @ design
    squares, counts = targets.square().sum(0), inside.sum(0)
    relevance = torch.full((width,), 0.1, dtype=torch.float64)
    relevance[-1] = 100.0
    shared_variance, noise = 0.1, torch.full((num_tasks,), PRIOR_NOISE, dtype=torch.float64)
    shared = torch.zeros(width, dtype=torch.float64)
    effects = torch.zeros(num_tasks, width, dtype=torch.float64)
    for _ in range(iterations):
        covariance = torch.linalg.inv(gram / noise[:, None, None] + torch.diag(1 / relevance))
        pull = moments / noise[:, None] + shared / relevance
        effects = (covariance @ pull[:, :, None]).squeeze(-1)
        shared_spread = 1 / (num_tasks / relevance + 1 / shared_variance)
        shared = shared_spread * effects.sum(0) / relevance
        shared[-1] = 0.0
        shared_variance = float((shared.square() + shared_spread)[:-1].mean())
        variances = covariance.diagonal(dim1=1, dim2=2)
        found = ((effects - shared).square() + variances).mean(0) + shared_spread
        relevance[:-1] = found[:-1].clamp(min=LEAST_VARIANCE)
        noise = _noise(effects, covariance, gram, moments, squares, counts)
    return effects


def _noise(
    effects: Tensor,
    covariance: Tensor,
    gram: Tensor,
    moments: Tensor,
    squares: Tensor,
    counts: Tensor,
) -> Tensor:
    """Noise variances ``[T]``, each drawn to that of all tasks, and that to ``PRIOR_NOISE``."""
    fitted = (gram @ effects[:, :, None]).squeeze(-1)
    errors = squares - 2 * (effects * moments).sum(1) + (effects * fitted).sum(1)
    errors = errors + (covariance * gram).sum((1, 2))
    pooled = (errors.sum() + SHRINKAGE * PRIOR_NOISE) / (counts.sum() + SHRINKAGE)
    return (errors + SHRINKAGE * pooled) / (counts + SHRINKAGE)


def task_means(inside: Tensor, gains: Tensor) -> Tensor:
    """Mean gains ``[T]``; a task that was in no set gets the mean of the others."""
    counts = inside.sum(0)
    means = gains.sum(0) / counts.clamp(min=1)
    return torch.where(counts > 0, means, means[counts > 0].mean())


def _spread(squares: Tensor, counts: Tensor) -> Tensor:
    """Standard deviations ``[T]`` drawn to that of all tasks; 1 where nothing varies at all."""
    freedom = (counts - 1).clamp(min=0)
    pooled = squares.sum() / freedom.sum().clamp(min=1)
    found = ((squares + SHRINKAGE * pooled) / (freedom + SHRINKAGE)).sqrt()
    return torch.where(found > 0, found, 1.0)
