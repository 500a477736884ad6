"""A task: a named kind of target, any part of which can be replaced with a callable of the user's.

Shape legend: B batch, C output size.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch import Tensor

from polytask.tasks.kinds import Binary, Kind, Multiclass
from polytask.tasks.metrics import Metric, Scored

__all__ = ["Task", "check_unique_names", "group_into_blocks"]

LossFunction = Callable[[Tensor, Tensor], Tensor]
PredictFunction = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Task:
    """A named target: its kind, and whatever of the kind the user replaces.

    Args:
        name: Unique in its problem; any non-empty text.
        kind: What the target is.
        loss: Replaces the kind's loss: ``loss(output [..., C], target [...]) -> [...]``.
        prediction: Replaces the kind's prediction: ``prediction(output [..., C]) -> [...]``.
        metrics: Replaces the kind's metrics; the first is the primary one.
        class_weights: One weight per class in the loss (two for Binary), for imbalanced classes.
            None means 1.
    """

    name: str
    kind: Kind
    loss: LossFunction | None = None
    prediction: PredictFunction | None = None
    metrics: tuple[Metric, ...] = field(default=())
    class_weights: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        if not self.name:
            raise ValueError(f"A task needs a non-empty name, found {self.name!r}.")
        if not isinstance(self.kind, Kind):
            raise TypeError(
                f"Task {self.name!r}: `kind` must be a Kind such as Regression() or Binary(), "
                f"found {self.kind!r}."
            )
        if self.class_weights is not None:
            classes = 2 if isinstance(self.kind, Binary) else self.kind.output_size
            if (
                not isinstance(self.kind, (Binary, Multiclass))
                or len(self.class_weights) != classes
            ):
                raise ValueError(
                    f"Task {self.name!r}: `class_weights` needs one weight per class of a Binary "
                    "or Multiclass"
                    f" task ({classes}), found {self.class_weights!r}."
                )
            if not all(math.isfinite(w) and w > 0 for w in self.class_weights):
                raise ValueError(
                    f"Task {self.name!r}: `class_weights` must be positive, found "
                    f"{self.class_weights!r}."
                )

    @property
    def all_metrics(self) -> tuple[Metric, ...]:
        """The metrics that score this task; the first is the primary one."""
        return self.metrics or self.kind.default_metrics

    @property
    def metric(self) -> Metric:
        """The primary metric."""
        return self.all_metrics[0]

    @property
    def block_key(self) -> Hashable:
        """Equal for tasks that can be computed as one block."""
        return (self.kind.block_key, self.loss, self.prediction)

    @property
    def padded_key(self) -> Hashable:
        """Equal for tasks that can be computed as one block of padded outputs.

        A loss of the user's does not meet outputs of -inf that it was not written for: it has to
        say ``takes_padding = True`` as an attribute.
        """
        if self.loss is not None and not getattr(self.loss, "takes_padding", False):
            return self.block_key
        return (self.kind.padded_key, self.loss, self.prediction)

    def predict(self, output: Tensor) -> Tensor:
        """Prediction in the encoding of the targets."""
        return self.prediction(output) if self.prediction else self.kind.predict(output)

    def probabilities(self, output: Tensor) -> Tensor | None:
        """Class probabilities ``[..., classes]``, or None where the kind has none.

        A loss with class weights w learns probabilities proportional to ``w_c p_c``; they are
        divided by the weights again, so that they mean frequencies. The prediction keeps the
        weights: a rare class is predicted where its weighted share is the largest.
        """
        weighted = self.kind.probabilities(output)
        if weighted is None or self.class_weights is None:
            return weighted
        shares = weighted / weighted.new_tensor(self.class_weights)
        return shares / shares.sum(-1, keepdim=True)

    def score(self, output: Tensor, target: Tensor) -> dict[str, float]:
        """Every metric of this task in the user's units, over the labelled examples only.

        Args:
            output: ``[B, C]``.
            target: ``[B]``, encoded; missing labels are left out.

        Returns:
            Metric name to value; NaN where the metric is undefined (no labels, or one class only
            for AUC).
        """
        present = ~self.kind.missing(target)
        output, target = output[present].float().cpu(), target[present].cpu()
        kept = Scored(
            prediction=self.kind.decode(self.predict(output).numpy())
            if not self.kind.is_categorical
            else self.predict(output).numpy(),
            target=self.kind.decode(target.numpy())
            if not self.kind.is_categorical
            else target.numpy(),
            probabilities=_to_numpy(self.probabilities(output)),
        )
        return {metric.name: metric(kept) for metric in self.all_metrics}

    def config(self) -> dict[str, Any]:
        """A plain record of the task, for files and reports."""
        return {
            "name": self.name,
            **self.kind.config(),
            "metrics": [m.name for m in self.all_metrics],
            "class_weights": self.class_weights,
        }


def group_into_blocks(tasks: Iterable[Task], *, padded: bool = False) -> list[tuple[Task, ...]]:
    """Tasks that can be computed together, in order of first appearance.

    Args:
        tasks: The tasks.
        padded: Also those whose outputs only have to be padded with -inf.
    """
    groups: dict[Hashable, list[Task]] = {}
    for task in tasks:
        groups.setdefault(task.padded_key if padded else task.block_key, []).append(task)
    return [tuple(group) for group in groups.values()]


def check_unique_names(tasks: Iterable[Task]) -> None:
    """Raise ValueError if two tasks have one name."""
    seen: set[str] = set()
    for task in tasks:
        if task.name in seen:
            raise ValueError(f"Task names must be unique, found {task.name!r} twice.")
        seen.add(task.name)


def _to_numpy(tensor: Tensor | None) -> np.ndarray | None:
    return None if tensor is None else tensor.numpy()
