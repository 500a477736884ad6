"""Tasks in known groups, with a known amount of interference between the groups.

Shape legend: N rows, D features, T tasks, G groups, R features of one representation.
"""

from __future__ import annotations

import math
import re
from typing import Literal

import numpy as np

from polytask.problems.problem import Problem
from polytask.tasks import Binary, Kind, Regression

__all__ = ["planted_assignment", "planted_groups"]

#: R: what the tasks of a group are made of.
RANK = 2
#: Frequency w of the features: 69 % correlated with the nearest linear function, so that a network
#: finds their directions quickly and still needs several units for each.
FREQUENCY = 1.5
NAME = re.compile(r"g(\d+) t\d+")


def planted_groups(  # noqa: PLR0913 - the knobs of a generator, each of them a question of its own
    *,
    seed: int = 0,
    num_tasks: int = 10,
    num_groups: int = 3,
    interference: float = 1.0,
    spread: float = 0.3,
    num_rows: int = 1000,
    num_features: int = 20,
    kind: Literal["binary", "regression"] = "binary",
    noise: float = 0.3,
    data_seed: int = 0,
) -> Problem:
    """Tasks "g0 t0", "g1 t1", ... in known groups (g) with a known interference between groups.

    Tasks of a group are made of the same R = 2 features, the groups of features that agree in part:

        f_t(x) = a_t · (√(1 - ρ) ψ_0(x) + √ρ ψ_g(x)),   ψ_k(x) = c sin(1.5 U_k^T x)   [R],

    with group g of task t, inputs x [D] standard Gaussian, all columns of U_0 .. U_G [D, R]
    orthonormal, and c such that every feature has variance 1; all G + 1 times R features are
    independent. Task t has labels f_t + e > 0 (binary) or values f_t + e (regression), e Gaussian
    with standard deviation ``noise``. f_t has mean 0 and variance 1, so classes are balanced.

    The interference ρ is 1 minus the correlation between the features of two groups. At 0 all
    groups have the same features: the names mean nothing, and all tasks are best learned together.
    At 1 they have nothing in common, and a representation that is right for one group is noise for
    the others. The correlation of f_s and f_t is a_s · a_t within a group and (1 - ρ) a_s · a_t
    between groups. By Eckart and Young one representation of any R features holds at most the sum
    of the R largest squared singular values of the tasks' weights [(G + 1) R, T] over T of the
    tasks' variance: all of it at 0, between 1 / G (any direction, see ``spread``) and 2 / G (the
    same direction) at 1 with many tasks. ``problem.notes`` gives this share, and the best possible
    score.

    Task t is in group t mod G, so sizes differ by at most one; ``planted_assignment`` gives the
    groups.

    Args:
        seed: Of the split; the data stay.
        num_tasks: T.
        num_groups: G, at most T.
        interference: ρ in [0, 1].
        spread: How different the tasks of a group are, in [0, 1]: a_t has a random sign and the
            direction of (1 - spread) e_1 + spread ε_t, ε_t Gaussian [R] of mean square 1. 0: all
            the same up to sign; 1: any direction.
        num_rows: N, of all three parts.
        num_features: D, at least (G + 1) R.
        kind: "binary" or "regression".
        noise: Standard deviation of e, > 0.
        data_seed: Of everything but the split: another one is another problem of the same sort.

    Raises:
        ValueError: An argument out of its range.
    """
    _check(num_tasks, num_groups, interference, spread, num_rows, num_features, kind, noise)
    rng = np.random.default_rng([20_261_122, data_seed])
    inputs = rng.standard_normal((num_rows, num_features))
    basis = np.linalg.qr(rng.standard_normal((num_features, (num_groups + 1) * RANK)))[0]
    coefficients = spread * rng.standard_normal((num_tasks, RANK)) / math.sqrt(RANK)
    coefficients[:, 0] += 1 - spread
    coefficients *= rng.choice([-1.0, 1.0], size=(num_tasks, 1))
    coefficients /= np.linalg.norm(coefficients, axis=1, keepdims=True)
    weights = _weights(coefficients, num_groups, interference)
    clean = _features(inputs @ basis) @ weights
    noisy = clean + noise * rng.standard_normal(clean.shape)
    names = [f"g{t % num_groups} t{t}" for t in range(num_tasks)]
    values = (noisy > 0).astype(np.int64) if kind == "binary" else noisy
    one: Kind = Binary() if kind == "binary" else Regression()
    problem = Problem.from_arrays(
        inputs,
        dict(zip(names, values.T, strict=True)),
        dict.fromkeys(names, one),
        name="planted_groups",
        seed=seed,
    )
    return Problem(
        name=problem.name,
        train=problem.train,
        validation=problem.validation,
        test=problem.test,
        notes=[_optimum(clean, noise, kind), _capacity(weights)],
    )


def planted_assignment(problem: Problem) -> tuple[int, ...]:
    """The true group of every task of ``planted_groups`` or of a subset of its tasks, in order.

    Raises:
        ValueError: The problem has tasks of other names.

    Example:
        >>> planted_assignment(planted_groups(num_tasks=5, num_groups=2))
        (0, 1, 0, 1, 0)
    """
    found = []
    for task in problem.tasks:
        match = NAME.fullmatch(task.name)
        if match is None:
            raise ValueError(
                f"Task names of planted groups look like 'g0 t3', found {task.name!r}; pass a"
                " problem made by planted_groups."
            )
        found.append(int(match[1]))
    return tuple(found)


def _features(projections: np.ndarray) -> np.ndarray:
    """ψ ``[N, (G + 1) R]``: odd and of variance 1 for standard Gaussian projections."""
    variance = (1 - math.exp(-2 * FREQUENCY**2)) / 2
    features: np.ndarray = np.sin(FREQUENCY * projections) / math.sqrt(variance)
    return features


def _weights(coefficients: np.ndarray, num_groups: int, interference: float) -> np.ndarray:
    """Weights ``[(G + 1) R, T]`` of all features for every task; columns have length 1."""
    tasks = np.arange(len(coefficients))
    blocks = np.zeros((num_groups + 1, len(coefficients), RANK))
    blocks[0] = math.sqrt(1 - interference) * coefficients
    blocks[1 + tasks % num_groups, tasks] = math.sqrt(interference) * coefficients
    return blocks.transpose(0, 2, 1).reshape(-1, len(coefficients))


def _capacity(weights: np.ndarray) -> str:
    """What one representation can hold, in words."""
    squares = np.linalg.svd(weights, compute_uv=False) ** 2
    return (
        f"synthetic: one representation of {RANK} features holds at most"
        f" {100 * squares[:RANK].sum() / squares.sum():.1f} % of the tasks' variance, one per group"
        " all of it"
    )


def _optimum(clean: np.ndarray, noise: float, kind: str) -> str:
    """The best possible score, in words.

    With labels f + e > 0 the probability of class 1 is p = Φ(f / noise). The best prediction is the
    sign of f, right with probability Φ(|f| / noise), and the best ranking is by f. Its area under
    the curve is, in expectation over the labels of given rows (of numerator and denominator), the
    share of pairs i, j with f_i > f_j among all, each counted p_i (1 - p_j).
    """
    if kind == "regression":
        return (
            f"synthetic: the expected RMSE of the best possible model is {noise:g} for every task"
        )
    from scipy.special import ndtr

    ordered = ndtr(np.sort(clean, axis=0) / noise)
    accuracy = np.maximum(ordered, 1 - ordered).mean()
    below = np.cumsum(1 - ordered, axis=0) - (1 - ordered)
    pairs = ordered.sum(0) * (1 - ordered).sum(0) - (ordered * (1 - ordered)).sum(0)
    area = ((ordered * below).sum(0) / pairs).mean()
    return (
        "synthetic: for the best possible model the mean over the tasks of the expected accuracy"
        f" is {accuracy:.4f}, that of the ROC AUC {area:.4f}"
    )


def _check(
    num_tasks: int,
    num_groups: int,
    interference: float,
    spread: float,
    num_rows: int,
    num_features: int,
    kind: str,
    noise: float,
) -> None:
    for name, value in (
        ("num_tasks", num_tasks),
        ("num_groups", num_groups),
        ("num_rows", num_rows),
        ("noise", noise),
    ):
        if not value > 0:
            raise ValueError(f"`{name}` must be > 0, found {value}.")
    for name, value in (("interference", interference), ("spread", spread)):
        if not 0 <= value <= 1:
            raise ValueError(f"`{name}` must be in [0, 1], found {value}.")
    if num_groups > num_tasks:
        raise ValueError(
            f"`num_groups` must be at most `num_tasks` ({num_tasks}), found {num_groups}."
        )
    if num_features < (num_groups + 1) * RANK:
        raise ValueError(
            f"`num_features` must be at least {(num_groups + 1) * RANK} for {num_groups} groups"
            f" ({RANK} per group and {RANK} in common), found {num_features}."
        )
    if kind not in ("binary", "regression"):
        raise ValueError(f"`kind` must be 'binary' or 'regression', found {kind!r}.")
