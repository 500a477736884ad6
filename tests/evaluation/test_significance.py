"""Paired tests and Holm's correction, against scipy and by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from polytask.evaluation.significance import holm, paired_test


def test_fixed_split_is_the_plain_paired_t_test():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=6), rng.normal(0.3, 1, size=6)
    expected = stats.ttest_rel(a, b)
    found = paired_test(a - b)
    assert found.p == pytest.approx(expected.pvalue)
    interval = expected.confidence_interval()
    assert (found.interval.low, found.interval.high) == pytest.approx(tuple(interval))


def test_redrawn_splits_have_the_corrected_variance():
    # Differences 1, 2, 3: mean 2, s = 1; n_test / n_train = 1 / 3: t = 2 / sqrt(1/3 + 1/3).
    found = paired_test([1.0, 2.0, 3.0], overlap=1 / 3)
    t = 2 / math.sqrt(2 / 3)
    assert found.p == pytest.approx(2 * stats.t.sf(t, 2))
    assert found.p > paired_test([1.0, 2.0, 3.0]).p


def test_correction_keeps_the_level_where_the_plain_test_does_not():
    # Ten redrawn splits share most rows: differences with correlation n_test / (n_test + n_train).
    rng = np.random.default_rng(1)
    seeds, overlap, rounds = 10, 1 / 3, 2000
    rho = overlap / (1 + overlap)
    common = rng.normal(size=(rounds, 1)) * math.sqrt(rho)
    draws = common + rng.normal(size=(rounds, seeds)) * math.sqrt(1 - rho)
    plain = np.mean([paired_test(row).p < 0.05 for row in draws])
    corrected = np.mean([paired_test(row, overlap=overlap).p < 0.05 for row in draws])
    assert plain > 0.2
    assert corrected < 0.07


def test_one_seed_has_no_test_and_says_so():
    found = paired_test([0.4])
    assert math.isnan(found.p)
    assert math.isnan(found.interval.low)
    assert found.interval.mean == 0.4
    assert found.note == "one seed: no interval and no test"


def test_no_seed_has_nothing():
    assert paired_test([math.nan]).note == "no complete seed"


def test_zero_variance():
    assert paired_test([0.0, 0.0, 0.0]).p == 1.0
    same = paired_test([0.1, 0.1, 0.1])
    assert math.isnan(same.p)
    assert same.note == "the seeds do not vary: no test"


def test_missing_seeds_are_left_out():
    assert paired_test([0.1, math.nan, 0.3]).p == paired_test([0.1, 0.3]).p


def test_holm_by_hand():
    # Sorted .01 .02 .03 .04 times 4 3 2 1 is .04 .06 .06 .04; its running maximum .04 .06 .06 .06.
    assert holm([0.03, 0.01, 0.04, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([0.6, 0.7]) == pytest.approx([1.0, 1.0])


def test_holm_does_not_count_undefined_values():
    found = holm([0.02, math.nan, 0.04])
    assert [found[0], found[2]] == pytest.approx([0.04, 0.04])
    assert math.isnan(found[1])
    assert holm([]) == []
