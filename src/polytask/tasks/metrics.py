"""Scores of predictions: small vectorised metrics in numpy.

Every metric takes a ``Scored`` (predictions, targets, probabilities; only labelled examples) and
returns one number in the user's units. A metric that is undefined on the data it gets (no example,
or one class only for AUC) is NaN and never 0, which would silently corrupt a mean over tasks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

__all__ = ["Metric", "Scored", "by_name"]


@dataclass(frozen=True)
class Scored:
    """What a metric may look at.

    Args:
        prediction: ``[N, ...]`` predictions; class indices for classes.
        target: ``[N, ...]`` targets; class indices for classes (-1 marks an unlabelled pixel).
        probabilities: ``[N, classes]`` or None.
    """

    prediction: np.ndarray
    target: np.ndarray
    probabilities: np.ndarray | None = None


@dataclass(frozen=True)
class Metric:
    """A named score and its direction.

    Args:
        name: As it appears in tables.
        function: ``Scored -> float``.
        higher_is_better: Direction.
    """

    name: str
    function: Callable[[Scored], float]
    higher_is_better: bool

    def __call__(self, scored: Scored) -> float:
        """The score; NaN without examples."""
        return float(self.function(scored)) if len(scored.target) else float("nan")

    def __repr__(self) -> str:
        return f"metrics.by_name({self.name!r})"


def by_name(name: str) -> Metric:
    """The metric with this name; ValueError names those that exist."""
    if name not in _ALL:
        raise ValueError(f"Unknown metric {name!r}; choose one of {', '.join(sorted(_ALL))}.")
    return _ALL[name]


def _labelled(scored: Scored) -> tuple[np.ndarray, np.ndarray]:
    """Flat predictions and targets without unlabelled pixels or positions."""
    target, prediction = scored.target.reshape(-1), scored.prediction.reshape(-1)
    valid = target != -1 if target.dtype.kind == "i" else ~np.isnan(target)
    return prediction[valid], target[valid]


def _rmse(scored: Scored) -> float:
    prediction, target = _labelled(scored)
    return float(np.sqrt(np.mean((prediction - target) ** 2)))


def _mae(scored: Scored) -> float:
    prediction, target = _labelled(scored)
    return float(np.mean(np.abs(prediction - target)))


def _relative_error(scored: Scored) -> float:
    prediction, target = _labelled(scored)
    return float(np.mean(np.abs(prediction - target) / np.maximum(np.abs(target), 1e-12)))


def _r2(scored: Scored) -> float:
    prediction, target = _labelled(scored)
    spread = float(np.sum((target - target.mean()) ** 2))
    return 1 - float(np.sum((prediction - target) ** 2)) / spread if spread > 0 else float("nan")


def _accuracy(scored: Scored) -> float:
    prediction, target = _labelled(scored)
    return float(np.mean(prediction == target))


def _per_class(scored: Scored) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """True positives, predicted and actual counts per class that occurs."""
    prediction, target = _labelled(scored)
    classes = np.union1d(target, prediction).astype(np.int64)
    p, t = np.searchsorted(classes, prediction), np.searchsorted(classes, target)
    size = len(classes)
    return (
        np.bincount(t[p == t], minlength=size),
        np.bincount(p, minlength=size),
        np.bincount(t, minlength=size),
    )


def _balanced_accuracy(scored: Scored) -> float:
    hits, _, actual = _per_class(scored)
    return float(np.mean(hits[actual > 0] / actual[actual > 0]))


def _macro_f1(scored: Scored) -> float:
    hits, predicted, actual = _per_class(scored)
    return float(np.mean(2 * hits / (predicted + actual)))


def _f1(scored: Scored) -> float:
    prediction, target = _labelled(scored)
    positives = float((prediction == 1).sum() + (target == 1).sum())
    return (
        2 * float(((prediction == 1) & (target == 1)).sum()) / positives
        if positives
        else float("nan")
    )


def _positive_scores(scored: Scored) -> tuple[np.ndarray, np.ndarray]:
    if scored.probabilities is None:
        raise ValueError(
            "This metric needs class probabilities; choose accuracy or f1 for hard predictions."
        )
    return scored.probabilities[:, 1], scored.target == 1


def _auc(scored: Scored) -> float:
    """Area under the ROC curve from mid-ranks (Mann-Whitney); one class only is NaN."""
    score, positive = _positive_scores(scored)
    num_positive = int(positive.sum())
    num_negative = len(positive) - num_positive
    if not num_positive or not num_negative:
        return float("nan")
    _, inverse, counts = np.unique(score, return_inverse=True, return_counts=True)
    mid_rank = np.cumsum(counts) - (counts - 1) / 2
    rank_sum = float(mid_rank[inverse][positive].sum())
    return (rank_sum - num_positive * (num_positive + 1) / 2) / (num_positive * num_negative)


def _average_precision(scored: Scored) -> float:
    """Step-wise area under the precision-recall curve; ties share one threshold."""
    score, positive = _positive_scores(scored)
    num_positive = int(positive.sum())
    if not num_positive:
        return float("nan")
    order = np.argsort(-score, kind="stable")
    hits = np.cumsum(positive[order])
    last_of_tie = np.append(np.diff(score[order]) != 0, True)
    hits, seen = hits[last_of_tie], (np.arange(len(score)) + 1)[last_of_tie]
    recall_gain = np.diff(np.concatenate([[0], hits])) / num_positive
    return float(np.sum(recall_gain * hits / seen))


def _log_loss(scored: Scored) -> float:
    if scored.probabilities is None:
        return float("nan")
    chosen = np.take_along_axis(
        scored.probabilities, scored.target[:, None].astype(np.int64), axis=1
    )
    return float(-np.mean(np.log(np.clip(chosen, 1e-7, None))))


def _mean_iou(scored: Scored) -> float:
    hits, predicted, actual = _per_class(scored)
    return float(np.mean(hits / (predicted + actual - hits)))


def _mean_angle(scored: Scored) -> float:
    """Mean angle in degrees between predicted and true normals ``[N, 3, H, W]``."""
    target = np.moveaxis(scored.target, 1, -1).reshape(-1, 3)
    prediction = np.moveaxis(scored.prediction, 1, -1).reshape(-1, 3)
    valid = ~np.isnan(target).any(1)
    target, prediction = target[valid], prediction[valid]
    norms = np.linalg.norm(target, axis=1) * np.linalg.norm(prediction, axis=1)
    cosine = np.sum(target * prediction, axis=1) / np.maximum(norms, 1e-12)
    return float(np.degrees(np.arccos(np.clip(cosine, -1, 1))).mean())


RMSE = Metric("rmse", _rmse, False)
MAE = Metric("mae", _mae, False)
R2 = Metric("r2", _r2, True)
RELATIVE_ERROR = Metric("relative_error", _relative_error, False)
ACCURACY = Metric("accuracy", _accuracy, True)
BALANCED_ACCURACY = Metric("balanced_accuracy", _balanced_accuracy, True)
F1 = Metric("f1", _f1, True)
MACRO_F1 = Metric("macro_f1", _macro_f1, True)
AUC = Metric("auc", _auc, True)
AVERAGE_PRECISION = Metric("average_precision", _average_precision, True)
LOG_LOSS = Metric("log_loss", _log_loss, False)
MEAN_IOU = Metric("mean_iou", _mean_iou, True)
MEAN_ANGLE = Metric("mean_angle", _mean_angle, False)

_ALL = {
    metric.name: metric
    for metric in (
        RMSE,
        MAE,
        R2,
        RELATIVE_ERROR,
        ACCURACY,
        BALANCED_ACCURACY,
        F1,
        MACRO_F1,
        AUC,
        AVERAGE_PRECISION,
        LOG_LOSS,
        MEAN_IOU,
        MEAN_ANGLE,
    )
}
