"""Can the difference be shown? Paired tests over seeds, corrected for their number.

Shape legend: S seeds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from polytask.evaluation.scores import Interval, interval

__all__ = ["PairedTest", "holm", "paired_test"]


@dataclass(frozen=True)
class PairedTest:
    """Outcome of a test that a mean difference is zero.

    Args:
        interval: Mean difference with its 95 % interval.
        p: Two-sided p value; NaN where the test is undefined.
        note: Why it is undefined; empty otherwise.
    """

    interval: Interval
    p: float
    note: str = ""


def paired_test(differences: np.ndarray | Sequence[float], *, overlap: float = 0.0) -> PairedTest:
    """Paired t test over seeds, corrected where the seeds share rows.

    ``t = m / (s sqrt(1 / S + overlap))`` with S - 1 degrees of freedom. Seeds that draw the split
    anew share most of their training rows, so their differences are correlated and the plain test
    finds differences that are not there; the correction adds the ratio of test to training rows.
    With a fixed test split ``overlap`` is 0 and the test is the plain paired one, which then speaks
    about these test rows only.

    Args:
        differences: ``[S]``, one per seed; NaN are left out.
        overlap: n_test / n_train where splits are redrawn, else 0.

    Returns:
        With one seed no test and no interval; all differences exactly 0: p = 1; all equal but not
        0: undefined, because seeds that do not vary say nothing about what another seed would give.

    References:
        C. Nadeau, Y. Bengio, Inference for the Generalization Error, Machine Learning 52, 2003,
        https://doi.org/10.1023/A:1024068626366.
    """
    from scipy import stats

    kept = np.asarray(differences, dtype=np.float64)
    kept = kept[~np.isnan(kept)]
    summary = interval(kept, overlap=overlap)
    if len(kept) == 0:
        return PairedTest(summary, math.nan, "no complete seed")
    if len(kept) == 1:
        return PairedTest(summary, math.nan, "one seed: no interval and no test")
    if np.all(kept == kept[0]):
        if kept[0] == 0:
            return PairedTest(summary, 1.0)
        return PairedTest(summary, math.nan, "the seeds do not vary: no test")
    error = float(kept.std(ddof=1)) * math.sqrt(1 / len(kept) + overlap)
    t = summary.mean / error
    return PairedTest(summary, float(2 * stats.t.sf(abs(t), len(kept) - 1)))


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's adjusted p values: the chance of any false discovery stays below the level.

    ``p'_(i) = max_{j <= i} min(1, (m - j + 1) p_(j))`` over the sorted values; undefined ones (NaN)
    stay so and are not counted.

    References:
        S. Holm, A simple sequentially rejective multiple test procedure, Scandinavian Journal of
        Statistics 6, 1979.
    """
    values = np.asarray(p_values, dtype=np.float64)
    adjusted = np.full(len(values), np.nan)
    defined = np.flatnonzero(~np.isnan(values))
    order = defined[np.argsort(values[defined], kind="stable")]
    largest = 0.0
    for position, index in enumerate(order):
        largest = max(largest, min(1.0, (len(order) - position) * float(values[index])))
        adjusted[index] = largest
    return [float(p) for p in adjusted]
