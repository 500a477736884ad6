"""Metrics: values by hand, agreement with scikit-learn, and NaN where a score is undefined."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn import metrics as reference

from polytask.tasks import metrics
from polytask.tasks.metrics import Scored


def scored(prediction, target, probabilities=None):
    return Scored(
        np.asarray(prediction),
        np.asarray(target),
        None if probabilities is None else np.asarray(probabilities),
    )


def probabilities_of(positive):
    positive = np.asarray(positive, dtype=float)
    return np.stack([1 - positive, positive], axis=1)


# --- by hand -------------------------------------------------------------------------------------


def test_regression_scores_by_hand():
    values = scored([1.0, 2.0, 6.0], [1.0, 4.0, 4.0])
    assert metrics.RMSE(values) == pytest.approx(math.sqrt(8 / 3))
    assert metrics.MAE(values) == pytest.approx(4 / 3)
    assert metrics.R2(values) == pytest.approx(1 - 8 / 6)
    assert metrics.RELATIVE_ERROR(values) == pytest.approx((0 + 2 / 4 + 2 / 4) / 3)


def test_class_scores_by_hand():
    values = scored([0, 0, 1, 2, 2, 2], [0, 0, 0, 1, 2, 2])
    assert metrics.ACCURACY(values) == pytest.approx(4 / 6)
    assert metrics.BALANCED_ACCURACY(values) == pytest.approx((2 / 3 + 0 + 1) / 3)
    # F1 per class: 2*2/(2+3), 0/(1+1), 2*2/(3+2).
    assert metrics.MACRO_F1(values) == pytest.approx((4 / 5 + 0 + 4 / 5) / 3)
    # Intersection over union: 2/3, 0/2, 2/3.
    assert metrics.MEAN_IOU(values) == pytest.approx((2 / 3 + 0 + 2 / 3) / 3)


def test_binary_scores_by_hand():
    values = scored([1, 1, 0, 0], [1, 0, 1, 0], probabilities_of([0.9, 0.6, 0.4, 0.1]))
    assert metrics.F1(values) == pytest.approx(2 * 1 / (2 + 2))
    assert metrics.AUC(values) == pytest.approx(3 / 4)
    # Precision is 1/1 at recall 1/2 and 2/3 at recall 1.
    assert metrics.AVERAGE_PRECISION(values) == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)
    expected = -(math.log(0.9) + math.log(0.4) + math.log(0.4) + math.log(0.9)) / 4
    assert metrics.LOG_LOSS(values) == pytest.approx(expected)


def test_ties_count_half_in_the_area_under_the_curve():
    values = scored([0, 0, 0], [1, 0, 0], probabilities_of([0.5, 0.5, 0.2]))
    assert metrics.AUC(values) == pytest.approx(0.75)


def test_angle_between_normals():
    target = np.zeros((1, 3, 1, 2))
    target[:, 2] = 1.0
    prediction = np.zeros((1, 3, 1, 2))
    prediction[0, 2, 0, 0] = 3.0  # the same direction at another length
    prediction[0, 0, 0, 1] = 1.0  # a right angle
    assert metrics.MEAN_ANGLE(scored(prediction, target)) == pytest.approx(45.0)
    target[0, :, 0, 1] = np.nan
    assert metrics.MEAN_ANGLE(scored(prediction, target)) == pytest.approx(0.0)


# --- against scikit-learn ------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
def test_regression_scores_agree_with_scikit_learn(seed):
    rng = np.random.default_rng(seed)
    target, prediction = rng.normal(size=(2, 200))
    values = scored(prediction, target)
    assert metrics.RMSE(values) == pytest.approx(
        reference.root_mean_squared_error(target, prediction), rel=1e-12
    )
    assert metrics.MAE(values) == pytest.approx(
        reference.mean_absolute_error(target, prediction), rel=1e-12
    )
    assert metrics.R2(values) == pytest.approx(reference.r2_score(target, prediction), rel=1e-12)


@pytest.mark.parametrize("decimals", [1, 8], ids=["many ties", "few ties"])
@pytest.mark.parametrize("seed", range(5))
def test_binary_scores_agree_with_scikit_learn(seed, decimals):
    rng = np.random.default_rng(seed)
    target = (rng.random(300) < 0.2).astype(int)
    positive = np.clip(np.round(rng.random(300) + 0.1 * target, decimals), 0.01, 0.99)
    prediction = (positive > 0.5).astype(int)
    values = scored(prediction, target, probabilities_of(positive))
    expected = {
        metrics.AUC: reference.roc_auc_score(target, positive),
        metrics.AVERAGE_PRECISION: reference.average_precision_score(target, positive),
        metrics.F1: reference.f1_score(target, prediction),
        metrics.ACCURACY: reference.accuracy_score(target, prediction),
        metrics.BALANCED_ACCURACY: reference.balanced_accuracy_score(target, prediction),
        metrics.LOG_LOSS: reference.log_loss(target, positive),
    }
    for metric, value in expected.items():
        assert metric(values) == pytest.approx(value, rel=1e-9), metric.name


@pytest.mark.parametrize("seed", range(5))
def test_multiclass_scores_agree_with_scikit_learn(seed):
    rng = np.random.default_rng(seed)
    target = rng.integers(0, 5, size=200)
    probabilities = rng.dirichlet(np.ones(5), size=200)
    prediction = probabilities.argmax(1)
    values = scored(prediction, target, probabilities)
    expected = {
        metrics.ACCURACY: reference.accuracy_score(target, prediction),
        metrics.BALANCED_ACCURACY: reference.balanced_accuracy_score(target, prediction),
        metrics.MACRO_F1: reference.f1_score(target, prediction, average="macro"),
        metrics.LOG_LOSS: reference.log_loss(target, probabilities, labels=range(5)),
        metrics.MEAN_IOU: reference.jaccard_score(target, prediction, average="macro"),
    }
    for metric, value in expected.items():
        assert metric(values) == pytest.approx(value, rel=1e-9), metric.name


# --- undefined -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(metrics._ALL))
def test_no_example_is_nan(name):
    empty = scored(np.empty(0), np.empty(0), np.empty((0, 2)))
    assert math.isnan(metrics.by_name(name)(empty))


@pytest.mark.parametrize("label", [0, 1])
def test_one_class_has_no_area_under_the_curve(label):
    values = scored([0, 1], [label, label], probabilities_of([0.2, 0.7]))
    assert math.isnan(metrics.AUC(values))


def test_no_positive_has_no_average_precision_and_no_f1():
    values = scored([0, 0], [0, 0], probabilities_of([0.2, 0.3]))
    assert math.isnan(metrics.AVERAGE_PRECISION(values))
    assert math.isnan(metrics.F1(values))
    assert metrics.ACCURACY(values) == 1.0


def test_constant_target_has_no_r2():
    assert math.isnan(metrics.R2(scored([1.0, 2.0], [3.0, 3.0])))


def test_log_loss_without_probabilities_is_nan_and_certain_mistakes_are_finite():
    assert math.isnan(metrics.LOG_LOSS(scored([0], [1])))
    assert math.isfinite(metrics.LOG_LOSS(scored([0], [1], probabilities_of([0.0]))))


@pytest.mark.parametrize("metric", [metrics.AUC, metrics.AVERAGE_PRECISION])
def test_ranking_without_probabilities_is_an_error(metric):
    with pytest.raises(ValueError, match="needs class probabilities"):
        metric(scored([0, 1], [0, 1]))


def test_unlabelled_pixels_do_not_count():
    classes = scored(np.array([[0, 1, 1]]), np.array([[0, 1, -1]]))
    assert metrics.ACCURACY(classes) == 1.0
    depths = scored(np.array([[1.0, 5.0]]), np.array([[2.0, np.nan]]))
    assert metrics.MAE(depths) == 1.0


def test_names_are_found_and_repr_evaluates_back():
    for name, metric in metrics._ALL.items():
        assert metrics.by_name(name) is metric
        assert eval(repr(metric)) is metric
    with pytest.raises(ValueError, match=r"Unknown metric 'rsme'; choose one of .*rmse"):
        metrics.by_name("rsme")
