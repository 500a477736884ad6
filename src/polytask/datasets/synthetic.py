"""Generators whose best possible score is known, for tests and for seeing what a method can do.

Shape legend: N rows, D features, T tasks, R dimension of the shared subspace.
"""

from __future__ import annotations

import numpy as np

from polytask.problems.problem import Problem
from polytask.tasks import Binary, Kind, Regression

__all__ = ["conflicting", "related_regression", "separate_shapes"]

#: Name, rows and features of the tasks of ``separate_shapes``.
SEPARATE_SIZES = (("small", 120, 5), ("wide", 300, 30), ("large", 1000, 8), ("sign", 400, 12))


def related_regression(
    *,
    seed: int = 0,
    num_tasks: int = 8,
    num_rows: int = 500,
    num_features: int = 40,
    rank: int = 2,
    noise: float = 0.5,
) -> Problem:
    """Linear regression tasks whose weights share a small subspace: together they need fewer rows.

    Y = X B A + e with X [N, D] standard Gaussian, B [D, R] with orthonormal columns, A [R, T] with
    columns of length 1 and e Gaussian with standard deviation ``noise``. A cell of X B A has
    variance 1, so no method can have an RMSE below ``noise`` (in expectation), nor an R2 above
    1 / (1 + noise^2); ``problem.notes`` says so.

    Args:
        seed: Of the split; the data stay.
        num_tasks: T.
        num_rows: N.
        num_features: D.
        rank: R, at most D.
        noise: Standard deviation of the noise, > 0.
    """
    _check_positive(
        num_tasks=num_tasks, num_rows=num_rows, num_features=num_features, rank=rank, noise=noise
    )
    if rank > num_features:
        raise ValueError(f"`rank` must be at most `num_features` ({num_features}), found {rank}.")
    rng = np.random.default_rng(20_230_703)
    inputs = rng.standard_normal((num_rows, num_features))
    basis = np.linalg.qr(rng.standard_normal((num_features, rank)))[0]
    mixing = _unit_columns(rng.standard_normal((rank, num_tasks)))
    targets = inputs @ basis @ mixing + noise * rng.standard_normal((num_rows, num_tasks))
    names = [f"task {t}" for t in range(num_tasks)]
    note = f"synthetic: the expected RMSE of the best possible model is {noise:g} for every task"
    return _shared(
        "related_regression", inputs, dict(zip(names, targets.T, strict=True)), seed, note
    )


def conflicting(
    *,
    seed: int = 0,
    tasks_per_group: int = 4,
    num_rows: int = 600,
    num_features: int = 20,
    rank: int = 2,
    noise: float = 0.3,
) -> Problem:
    """Two groups of regression tasks, "a..." and "b...", that compete for a shared representation.

    As ``related_regression`` within each group, with two subspaces B_a and B_b [D, R] that are
    orthogonal to each other: tasks of one group help each other, and what one group needs from a
    shared layer the other has no use for. A representation of R dimensions can serve one group
    only. By Eckart and Young the mean squared error over all tasks is then at least noise^2 + (sum
    of the R smallest squared singular values of the weights [D, T]) / T, while 2R dimensions reach
    noise^2; ``problem.notes`` gives both as RMSE.

    Args:
        seed: Of the split; the data stay.
        tasks_per_group: Tasks in each of the two groups, at least R.
        num_rows: N.
        num_features: D, at least 2R.
        rank: R.
        noise: Standard deviation of the noise, > 0.
    """
    _check_positive(
        tasks_per_group=tasks_per_group,
        num_rows=num_rows,
        num_features=num_features,
        rank=rank,
        noise=noise,
    )
    if 2 * rank > num_features or rank > tasks_per_group:
        raise ValueError(
            f"`rank` must be at most half of `num_features` ({num_features}) and at most"
            " `tasks_per_group`"
            f" ({tasks_per_group}), found {rank}."
        )
    rng = np.random.default_rng(20_230_704)
    inputs = rng.standard_normal((num_rows, num_features))
    basis = np.linalg.qr(rng.standard_normal((num_features, 2 * rank)))[0]
    groups = [
        basis[:, start : start + rank] @ _unit_columns(rng.standard_normal((rank, tasks_per_group)))
        for start in (0, rank)
    ]
    weights = np.concatenate(groups, axis=1)
    targets = inputs @ weights + noise * rng.standard_normal((num_rows, 2 * tasks_per_group))
    names = [f"{group}{t}" for group in "ab" for t in range(tasks_per_group)]
    lost = (np.linalg.svd(weights, compute_uv=False)[rank : 2 * rank] ** 2).sum() / weights.shape[1]
    note = (
        f"synthetic: the expected RMSE of the best possible model is {noise:g} for every task;"
        f" with {rank} shared dimensions its mean square over the tasks is at least"
        f" {(noise**2 + lost) ** 0.5:.4g} squared"
    )
    return _shared("conflicting", inputs, dict(zip(names, targets.T, strict=True)), seed, note)


def separate_shapes(*, seed: int = 0, noise: float = 0.3) -> Problem:
    """Four tasks with rows and features of their own (separate layout) that share a hidden rule.

    Task t sees X_t [N_t, D_t] = Z M_t with hidden Z [N_t, 3], standard Gaussian, and its own
    mixing M_t [3, D_t] of full rank; the target is r = sin(z_1) + z_2 z_3 / 2 plus Gaussian noise
    for "small", "wide" and "large", and whether r > 0 for "sign". No method can have an RMSE below
    ``noise`` in expectation; "sign" has no noise.

    Args:
        seed: Of the split; the data stay.
        noise: Standard deviation of the noise of the three regression tasks, > 0.
    """
    _check_positive(noise=noise)
    rng = np.random.default_rng(20_230_705)
    data: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    kinds: dict[str, Kind] = {}
    for name, rows, features in SEPARATE_SIZES:
        hidden = rng.standard_normal((rows, 3))
        mixing = rng.standard_normal((3, features)) / np.sqrt(3)
        rule = np.sin(hidden[:, 0]) + hidden[:, 1] * hidden[:, 2] / 2
        if name == "sign":
            kinds[name], data[name] = Binary(), (hidden @ mixing, (rule > 0).astype(np.int64))
        else:
            noisy = rule + noise * rng.standard_normal(rows)
            kinds[name], data[name] = Regression(), (hidden @ mixing, noisy)
    return Problem.from_separate(data, kinds, name="separate_shapes", seed=seed)


def _shared(
    name: str, inputs: np.ndarray, targets: dict[str, np.ndarray], seed: int, note: str
) -> Problem:
    kinds = dict.fromkeys(targets, Regression())
    problem = Problem.from_arrays(inputs, targets, kinds, name=name, seed=seed)
    return Problem(
        name=name,
        train=problem.train,
        validation=problem.validation,
        test=problem.test,
        notes=[note],
    )


def _unit_columns(matrix: np.ndarray) -> np.ndarray:
    scaled: np.ndarray = matrix / np.linalg.norm(matrix, axis=0)
    return scaled


def _check_positive(**values: float) -> None:
    for name, value in values.items():
        if not value > 0:
            raise ValueError(f"`{name}` must be > 0, found {value}.")
