"""Tasks and their kinds: output size, loss per example, prediction, and the metric that scores it.

Shape legend: B batch, K tasks of one block, C output size, M ensemble members.

A *kind* says how one output vector becomes a loss, a prediction and a score. A *task* is a named
kind; any part of the kind can be replaced with a callable of the user's. Targets are stored
*encoded* (a regression target is standardised, a class is an index); scores are always computed in
the user's own units through ``decode``.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from polytask import metrics
from polytask.metrics import Metric

__all__ = [
    "Binary",
    "Depth",
    "Kind",
    "Metric",
    "Multiclass",
    "Normals",
    "Regression",
    "Segmentation",
    "Sequence",
    "Task",
    "TaskTensors",
    "group_into_blocks",
]

LossFunction = Callable[[Tensor, Tensor], Tensor]
PredictFunction = Callable[[Tensor], Tensor]

IGNORE_INDEX = -1


@dataclass(frozen=True)
class Kind(ABC):
    """What a target is. Subclasses say how outputs are compared with targets.

    ``loss`` and ``predict`` work on any leading dimensions, so that homogeneous tasks are computed
    as one block: outputs are ``[..., C]`` and targets ``[...]`` (dense kinds: ``[..., C, H, W]``
    and ``[..., H, W]``).
    """

    #: Fields that describe one task only; two kinds that differ in these alone still form one
    #: block.
    per_task_fields: ClassVar[frozenset[str]] = frozenset()
    #: Fields in which tasks may also differ whose outputs are padded to one size with -inf.
    padded_fields: ClassVar[frozenset[str]] = frozenset()
    #: Trailing target dimensions beyond the leading (batch) ones.
    target_dims: ClassVar[int] = 0
    #: Trailing output dimensions beyond the leading ones (1: a vector of C numbers; 3: a map of C
    #: channels).
    output_dims: ClassVar[int] = 1
    #: Whether targets are class indices (int64, missing = -1) instead of numbers (missing = NaN).
    is_categorical: ClassVar[bool] = False

    @property
    @abstractmethod
    def output_size(self) -> int:
        """Numbers (or channels) that a model must produce per example."""

    @property
    @abstractmethod
    def default_metrics(self) -> tuple[Metric, ...]:
        """Metrics of this kind; the first is the primary one."""

    @abstractmethod
    def loss(self, output: Tensor, target: Tensor, class_weights: Tensor | None = None) -> Tensor:
        """Loss per example ``[...]``, with missing targets already replaced by any valid value."""

    @abstractmethod
    def predict(self, output: Tensor) -> Tensor:
        """Prediction ``[...]`` in the encoding of the targets."""

    def probabilities(self, output: Tensor) -> Tensor | None:
        """Class probabilities ``[..., classes]``, or None where the kind has none."""
        del output
        return None

    def missing(self, target: Tensor) -> Tensor:
        """Mask ``[...]`` of the examples without a label; a dense target is missing when every
        pixel is.
        """
        absent = target == IGNORE_INDEX if self.is_categorical else torch.isnan(target)
        return absent.flatten(-self.target_dims).all(-1) if self.target_dims else absent

    def encode(self, values: np.ndarray) -> np.ndarray:
        """Values in the user's units to the encoding that training uses."""
        return values

    def decode(self, encoded: np.ndarray) -> np.ndarray:
        """The inverse of ``encode``."""
        return encoded

    @property
    def block_key(self) -> Hashable:
        """Equal for kinds whose outputs can be computed and compared as one block."""
        return self._key_without(self.per_task_fields)

    @property
    def padded_key(self) -> Hashable:
        """Equal for kinds whose outputs form one block if they are padded with -inf."""
        return self._key_without(self.per_task_fields | self.padded_fields)

    def _key_without(self, left_out: frozenset[str]) -> Hashable:
        shared = tuple(
            (f.name, getattr(self, f.name)) for f in fields(self) if f.name not in left_out
        )
        return (type(self).__name__, shared)

    def describe(self) -> dict[str, Any]:
        """A plain record of the kind, for files and reports."""
        record = {f.name: getattr(self, f.name) for f in fields(self)}
        return {"kind": type(self).__name__.lower(), **record}


@dataclass(frozen=True)
class Regression(Kind):
    """A number (``size = 1``) or a vector of numbers per example, with squared error.

    Args:
        size: Numbers per target.
        mean: Mean of the training targets, in the user's units; targets are stored as ``(y - mean)
            / scale``.
        scale: Standard deviation of the training targets, > 0.
    """

    per_task_fields: ClassVar[frozenset[str]] = frozenset({"mean", "scale"})

    size: int = 1
    mean: float = 0.0
    scale: float = 1.0

    def __post_init__(self) -> None:
        """Check the arguments."""
        if self.size < 1:
            raise ValueError(f"`size` of a Regression must be >= 1, found {self.size}.")
        if not (math.isfinite(self.scale) and self.scale > 0 and math.isfinite(self.mean)):
            raise ValueError(
                f"Regression needs a finite mean and scale > 0, found mean={self.mean}, "
                f"scale={self.scale}."
            )

    @property
    def output_size(self) -> int:
        return self.size

    @property
    def default_metrics(self) -> tuple[Metric, ...]:
        return (metrics.RMSE, metrics.R2, metrics.MAE)

    def loss(self, output: Tensor, target: Tensor, class_weights: Tensor | None = None) -> Tensor:
        del class_weights
        if self.size == 1:
            return (output.squeeze(-1) - target).square()
        return (output - target).square().mean(-1)

    def predict(self, output: Tensor) -> Tensor:
        return output.squeeze(-1) if self.size == 1 else output

    def missing(self, target: Tensor) -> Tensor:
        absent = torch.isnan(target)
        return absent if self.size == 1 else absent.any(-1)

    def encode(self, values: np.ndarray) -> np.ndarray:
        return ((np.asarray(values, dtype=np.float64) - self.mean) / self.scale).astype(np.float32)

    def decode(self, encoded: np.ndarray) -> np.ndarray:
        return np.asarray(encoded, dtype=np.float64) * self.scale + self.mean


@dataclass(frozen=True)
class Binary(Kind):
    """A yes/no target with logistic loss; the output is the log-odds of the second label.

    Args:
        labels: The user's names of class 0 and class 1.
    """

    per_task_fields: ClassVar[frozenset[str]] = frozenset({"labels"})
    is_categorical: ClassVar[bool] = True

    labels: tuple[Any, Any] = (0, 1)

    def __post_init__(self) -> None:
        """Check the arguments."""
        if self.labels[0] == self.labels[1]:
            raise ValueError(f"Binary needs two different labels, found {self.labels!r}.")

    @property
    def output_size(self) -> int:
        return 1

    @property
    def default_metrics(self) -> tuple[Metric, ...]:
        return (
            metrics.AUC,
            metrics.AVERAGE_PRECISION,
            metrics.F1,
            metrics.BALANCED_ACCURACY,
            metrics.ACCURACY,
            metrics.LOG_LOSS,
        )

    def loss(self, output: Tensor, target: Tensor, class_weights: Tensor | None = None) -> Tensor:
        """Weighted logistic loss; ``class_weights`` is ``[..., 2]``, weights of class 0 and class
        1.
        """
        logit = output.squeeze(-1)
        label = target.to(output.dtype).expand_as(logit)
        if class_weights is None:
            return functional.binary_cross_entropy_with_logits(logit, label, reduction="none")
        weight = torch.lerp(class_weights[..., 0], class_weights[..., 1], label)
        return functional.binary_cross_entropy_with_logits(logit, label, weight, reduction="none")

    def predict(self, output: Tensor) -> Tensor:
        return (output.squeeze(-1) > 0).long()

    def probabilities(self, output: Tensor) -> Tensor:
        positive = torch.sigmoid(output)
        return torch.cat([1 - positive, positive], dim=-1)

    def encode(self, values: np.ndarray) -> np.ndarray:
        return _encode_labels(values, self.labels)

    def decode(self, encoded: np.ndarray) -> np.ndarray:
        return _decode_labels(encoded, self.labels)


@dataclass(frozen=True)
class Multiclass(Kind):
    """One of several classes, with cross-entropy (a padded class, of output -inf, has no part in
    it).

    Args:
        num_classes: Number of classes, >= 2.
        labels: The user's names of the classes; None means 0 .. num_classes - 1.
    """

    per_task_fields: ClassVar[frozenset[str]] = frozenset({"labels"})
    padded_fields: ClassVar[frozenset[str]] = frozenset({"num_classes"})
    is_categorical: ClassVar[bool] = True

    num_classes: int
    labels: tuple[Any, ...] | None = None

    def __post_init__(self) -> None:
        """Check the arguments."""
        if self.num_classes < 2:
            raise ValueError(f"Multiclass needs at least 2 classes, found {self.num_classes}.")
        if self.labels is not None and len(set(self.labels)) != self.num_classes:
            raise ValueError(
                f"Multiclass needs {self.num_classes} different labels, found {self.labels!r}."
            )

    @property
    def output_size(self) -> int:
        return self.num_classes

    @property
    def default_metrics(self) -> tuple[Metric, ...]:
        return (metrics.ACCURACY, metrics.BALANCED_ACCURACY, metrics.MACRO_F1, metrics.LOG_LOSS)

    def loss(self, output: Tensor, target: Tensor, class_weights: Tensor | None = None) -> Tensor:
        """Cross-entropy; ``class_weights`` is ``[..., num_classes]``, broadcast over the leading
        dimensions.
        """
        index = target.expand(output.shape[:-1]).long().unsqueeze(-1)
        chosen = output.gather(-1, index).squeeze(-1)
        loss = output.logsumexp(-1) - chosen
        if class_weights is None:
            return loss
        return loss * class_weights.expand_as(output).gather(-1, index).squeeze(-1)

    def predict(self, output: Tensor) -> Tensor:
        return output.argmax(-1)

    def probabilities(self, output: Tensor) -> Tensor:
        return torch.softmax(output, dim=-1)

    def encode(self, values: np.ndarray) -> np.ndarray:
        return _encode_labels(values, self.labels or tuple(range(self.num_classes)))

    def decode(self, encoded: np.ndarray) -> np.ndarray:
        return _decode_labels(encoded, self.labels or tuple(range(self.num_classes)))


@dataclass(frozen=True)
class Segmentation(Kind):
    """A class per pixel, with cross-entropy averaged over the labelled pixels of an example; -1
    marks unlabelled pixels.
    """

    target_dims: ClassVar[int] = 2
    output_dims: ClassVar[int] = 3
    is_categorical: ClassVar[bool] = True

    num_classes: int

    def __post_init__(self) -> None:
        """Check the arguments."""
        if self.num_classes < 2:
            raise ValueError(f"Segmentation needs at least 2 classes, found {self.num_classes}.")

    @property
    def output_size(self) -> int:
        return self.num_classes

    @property
    def default_metrics(self) -> tuple[Metric, ...]:
        return (metrics.MEAN_IOU, metrics.ACCURACY)

    def loss(self, output: Tensor, target: Tensor, class_weights: Tensor | None = None) -> Tensor:
        del class_weights
        index = target.expand(*output.shape[:-3], *output.shape[-2:]).long()
        valid = index != IGNORE_INDEX
        chosen = output.gather(-3, index.clamp_min(0).unsqueeze(-3)).squeeze(-3)
        return _masked_pixel_mean(output.logsumexp(-3) - chosen, valid)

    def predict(self, output: Tensor) -> Tensor:
        return output.argmax(-3)

    def probabilities(self, output: Tensor) -> Tensor:
        return torch.softmax(output, dim=-3).movedim(-3, -1)


@dataclass(frozen=True)
class Depth(Kind):
    """A positive distance per pixel, with absolute error averaged over the labelled pixels; NaN
    marks unlabelled pixels.
    """

    target_dims: ClassVar[int] = 2
    output_dims: ClassVar[int] = 3

    @property
    def output_size(self) -> int:
        return 1

    @property
    def default_metrics(self) -> tuple[Metric, ...]:
        return (metrics.MAE, metrics.RELATIVE_ERROR, metrics.RMSE)

    def loss(self, output: Tensor, target: Tensor, class_weights: Tensor | None = None) -> Tensor:
        del class_weights
        valid = ~torch.isnan(target)
        error = (output.squeeze(-3) - target.nan_to_num()).abs()
        return _masked_pixel_mean(error, valid.expand_as(error))

    def predict(self, output: Tensor) -> Tensor:
        return output.squeeze(-3)


@dataclass(frozen=True)
class Normals(Kind):
    """A unit vector per pixel (targets ``[..., 3, H, W]``), with loss 1 - cosine; NaN marks
    unlabelled pixels.
    """

    target_dims: ClassVar[int] = 3
    output_dims: ClassVar[int] = 3

    @property
    def output_size(self) -> int:
        return 3

    @property
    def default_metrics(self) -> tuple[Metric, ...]:
        return (metrics.MEAN_ANGLE,)

    def loss(self, output: Tensor, target: Tensor, class_weights: Tensor | None = None) -> Tensor:
        del class_weights
        valid = ~torch.isnan(target).any(-3)
        cosine = functional.cosine_similarity(output, target.nan_to_num(), dim=-3)
        return _masked_pixel_mean(1 - cosine, valid.expand_as(cosine))

    def predict(self, output: Tensor) -> Tensor:
        return functional.normalize(output, dim=-3)


@dataclass(frozen=True)
class Sequence(Kind):
    """A token per position (outputs ``[..., L, V]``), with cross-entropy averaged over the
    positions; -1 marks padding.
    """

    target_dims: ClassVar[int] = 1
    output_dims: ClassVar[int] = 2
    is_categorical: ClassVar[bool] = True

    vocabulary: int

    def __post_init__(self) -> None:
        """Check the arguments."""
        if self.vocabulary < 2:
            raise ValueError(f"Sequence needs a vocabulary of at least 2, found {self.vocabulary}.")

    @property
    def output_size(self) -> int:
        return self.vocabulary

    @property
    def default_metrics(self) -> tuple[Metric, ...]:
        return (metrics.ACCURACY,)

    def loss(self, output: Tensor, target: Tensor, class_weights: Tensor | None = None) -> Tensor:
        del class_weights
        index = target.expand(output.shape[:-1]).long()
        valid = index != IGNORE_INDEX
        chosen = output.gather(-1, index.clamp_min(0).unsqueeze(-1)).squeeze(-1)
        loss = (output.logsumexp(-1) - chosen) * valid
        return loss.sum(-1) / valid.sum(-1).clamp_min(1)

    def predict(self, output: Tensor) -> Tensor:
        return output.argmax(-1)

    def probabilities(self, output: Tensor) -> Tensor:
        return torch.softmax(output, dim=-1)


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
        """Check the arguments."""
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
        kept = metrics.Scored(
            prediction=self.kind.decode(self.predict(output).numpy())
            if not self.kind.is_categorical
            else self.predict(output).numpy(),
            target=self.kind.decode(target.numpy())
            if not self.kind.is_categorical
            else target.numpy(),
            probabilities=_to_numpy(self.probabilities(output)),
        )
        return {metric.name: metric(kept) for metric in self.all_metrics}

    def with_kind(self, kind: Kind) -> Task:
        """This task with another kind (for example with the training mean and scale filled in)."""
        return replace(self, kind=kind)

    def describe(self) -> dict[str, Any]:
        """A plain record of the task, for files and reports."""
        return {
            "name": self.name,
            **self.kind.describe(),
            "metrics": [m.name for m in self.all_metrics],
            "class_weights": self.class_weights,
        }


class TaskTensors(Mapping[str, Tensor]):
    """One tensor per task, stored by block: homogeneous tasks share one tensor ``[B, K, ...]``.

    A hundred binary tasks are one tensor of a hundred columns, so that heads, losses and metrics
    are single operations. As a mapping it yields each task's own view ``[B, ...]``.

    Args:
        blocks: Task names and their tensor: dimension 1 runs over the names (dimension 2 if
            ``members > 1``).
        members: Number of ensemble members M; if M > 1 every tensor has a leading dimension of M.
        sizes: Outputs of every task where tasks of different sizes share a block, padded at the end
            of the last dimension; None where nothing is padded.
    """

    __slots__ = ("_places", "blocks", "members", "sizes")

    def __init__(
        self,
        blocks: Iterable[tuple[tuple[str, ...], Tensor]],
        members: int = 1,
        *,
        sizes: Mapping[str, int] | None = None,
    ) -> None:
        self.blocks = tuple(blocks)
        self.members = members
        self.sizes = sizes
        self._places: dict[str, tuple[int, int]] | None = None

    @classmethod
    def from_mapping(cls, tensors: Mapping[str, Tensor]) -> TaskTensors:
        """One block per task from plain tensors ``[B, ...]``; ready TaskTensors pass through."""
        if isinstance(tensors, TaskTensors):
            return tensors
        return cls(((name,), tensor.unsqueeze(1)) for name, tensor in tensors.items())

    @property
    def places(self) -> dict[str, tuple[int, int]]:
        """Task name to (block, column)."""
        if self._places is None:
            self._places = {
                name: (b, k)
                for b, (names, _) in enumerate(self.blocks)
                for k, name in enumerate(names)
            }
        return self._places

    def __getitem__(self, name: str) -> Tensor:
        block, column = self.places[name]
        tensor = self.blocks[block][1].select(2 if self.members > 1 else 1, column)
        return tensor if self.sizes is None else tensor[..., : self.sizes[name]]

    def __contains__(self, name: object) -> bool:
        return name in self.places

    def __iter__(self) -> Iterator[str]:
        return iter(self.places)

    def __len__(self) -> int:
        return sum(len(names) for names, _ in self.blocks)

    def __repr__(self) -> str:
        shapes = ", ".join(f"{len(names)} task(s) {tuple(t.shape)}" for names, t in self.blocks)
        return f"TaskTensors({shapes})"

    def block(self, names: tuple[str, ...]) -> Tensor | None:
        """The tensor of the block that holds exactly these tasks in this order, if there is one."""
        for block_names, tensor in self.blocks:
            if block_names == names:
                return tensor
        return None

    def map(self, function: Callable[[Tensor], Tensor]) -> TaskTensors:
        """The same blocks with ``function`` applied to each tensor."""
        blocks = ((names, function(t)) for names, t in self.blocks)
        return TaskTensors(blocks, self.members, sizes=self.sizes)

    def select(self, names: Iterable[str]) -> TaskTensors:
        """The blocks restricted to some tasks, in the order of the blocks."""
        wanted = set(names)
        kept = []
        for block_names, tensor in self.blocks:
            columns = [k for k, name in enumerate(block_names) if name in wanted]
            if len(columns) == len(block_names):
                kept.append((block_names, tensor))
            elif columns:
                index = torch.tensor(columns, device=tensor.device)
                chosen = tensor.index_select(2 if self.members > 1 else 1, index)
                kept.append((tuple(block_names[k] for k in columns), chosen))
        return TaskTensors(kept, self.members, sizes=self.sizes)


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


def _masked_pixel_mean(values: Tensor, valid: Tensor) -> Tensor:
    total = torch.where(valid, values, values.new_zeros(())).sum((-2, -1))
    return total / valid.sum((-2, -1)).clamp_min(1)


def _encode_labels(values: np.ndarray, labels: tuple[Any, ...]) -> np.ndarray:
    index = {label: i for i, label in enumerate(labels)}
    return np.array([index.get(value, IGNORE_INDEX) for value in values], dtype=np.int64)


def _decode_labels(encoded: np.ndarray, labels: tuple[Any, ...]) -> np.ndarray:
    table = np.empty(len(labels), dtype=object)
    table[:] = labels
    return table[np.asarray(encoded, dtype=np.int64)]


def _to_numpy(tensor: Tensor | None) -> np.ndarray | None:
    return None if tensor is None else tensor.numpy()
