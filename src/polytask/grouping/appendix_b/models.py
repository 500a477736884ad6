"""Models of appendix B: a network, and how its outputs become losses, confidences and metrics.

Shape legend: T tasks, B batch, C classes, m models.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from polytask.encoders import ResNet18, SmallCNN
from polytask.problems.splits import SPLIT_NAMES
from polytask.tasks import metrics

__all__ = [
    "BaseMetrics",
    "BaseModel",
    "BinaryMetrics",
    "BinaryModel",
    "C10Model",
    "C100Model",
    "CelebAModel",
    "LossFunction",
]

#: From a task's outputs and targets to the mean loss.
LossFunction = Callable[[Tensor, Tensor], Tensor]


class BaseMetrics(ABC):
    """Metrics of one epoch, per task: reset, told every batch, computed at the end.

    Args:
        num_of_tasks: T.
    """

    def __init__(self, num_of_tasks: int) -> None:
        self._num_of_tasks = num_of_tasks
        self.initialize()

    @abstractmethod
    def initialize(self) -> None:
        """Forget everything; a new epoch begins."""

    @abstractmethod
    def update_metrics_iteration(
        self, results: Tensor, targets: Tensor, ensemble_weights: Tensor | None = None
    ) -> None:
        """One batch.

        Args:
            results: What the model's ``forward`` returned; with ``ensemble_weights`` the same of m
                models, stacked along a new last dimension.
            targets: ``[B, T]``.
            ensemble_weights: ``[T, m]``, rows sum to 1: the weight of each model in each task's
                answer (eq. 4).
        """

    @abstractmethod
    def compute_metrics_epoch(self) -> None:
        """The epoch is over: compute what ``get_metrics`` returns."""

    @abstractmethod
    def get_metrics(self) -> Sequence[Tensor]:
        """One tensor ``[T]`` per name."""

    @abstractmethod
    def get_metric_names(self) -> Sequence[str]:
        """Names, in the order of ``get_metrics``."""


class BinaryMetrics(BaseMetrics):
    """F1, accuracy and balanced accuracy of yes/no tasks from their logits ``[B, T]``.

    Args:
        num_of_tasks: T.
        t: "Yes" is answered above this probability.
    """

    names = ("f1", "accuracy", "balanced_accuracy")

    def __init__(self, num_of_tasks: int, t: float = 0.5) -> None:
        super().__init__(num_of_tasks)
        self.t = t

    def initialize(self) -> None:
        self._predicted: list[Tensor] = []
        self._targets: list[Tensor] = []
        self._values: list[Tensor] = []

    def update_metrics_iteration(
        self, results: Tensor, targets: Tensor, ensemble_weights: Tensor | None = None
    ) -> None:
        probability = torch.sigmoid(results.detach())
        if ensemble_weights is not None:
            probability = (probability * ensemble_weights).sum(-1)
        self._predicted.append(probability > self.t)
        self._targets.append(targets.detach() > 0.5)

    def compute_metrics_epoch(self) -> None:
        predicted = torch.cat(self._predicted).long().cpu().numpy()
        targets = torch.cat(self._targets).long().cpu().numpy()
        scored = [metrics.Scored(predicted[:, k], targets[:, k]) for k in range(self._num_of_tasks)]
        self._values = [
            torch.tensor([metrics.by_name(name)(task) for task in scored]) for name in self.names
        ]

    def get_metrics(self) -> Sequence[Tensor]:
        return self._values

    def get_metric_names(self) -> Sequence[str]:
        return self.names


class BaseModel(nn.Module, ABC):
    """A model of all tasks: a network, and how its outputs become losses, confidences, metrics.

    A subclass sets ``self._model`` (or overrides ``forward``) and fills in the abstract methods.

    Args:
        task_ids: The tasks, as ``BaseDataModule.get_task_ids`` gives them.
    """

    def __init__(self, task_ids: Sequence[int]) -> None:
        super().__init__()
        self._model: nn.Module | None = None
        self._task_ids = tuple(task_ids)
        self._metrics: Sequence[BaseMetrics] = ()
        self._losses: Sequence[LossFunction] = ()

    def forward(self, x: Tensor) -> Tensor:
        """Outputs of all tasks."""
        if self._model is None:
            raise ValueError(
                f"{type(self).__name__} must set `self._model` to a network or override `forward`."
            )
        outputs: Tensor = self._model(x)
        return outputs

    @abstractmethod
    def _intialize_metrics_generator(self) -> None:
        """Set ``self._metrics``: metrics of training, validation and test rows."""

    @abstractmethod
    def get_task_output(self, batch_outputs: Tensor, task_id: int) -> Tensor:
        """The part of what ``forward`` returned that is of one task, by its position: ``[B]``, or
        ``[B, C]`` for a task of C classes.
        """

    @abstractmethod
    def get_probabilities_true_target(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Probability of the true class ``[B, T]``, from what ``forward`` returned and the labels
        ``[B, T]``.
        """

    @abstractmethod
    def initialize_losses(self) -> None:
        """Set ``self._losses``: per task a function of its outputs and targets to the mean loss."""

    def get_metrics_generator(self) -> Sequence[BaseMetrics]:
        """Metrics of training, validation and test rows."""
        if not self._metrics:
            self._intialize_metrics_generator()
        return self._metrics

    def get_losses(self) -> Sequence[LossFunction]:
        """One loss per task."""
        if not self._losses:
            self.initialize_losses()
        return self._losses


class BinaryModel(BaseModel):
    """Yes/no tasks, a logit each: what all models of the paper are.

    Args:
        task_ids: The tasks.
        network: From inputs ``[B, ...]`` to logits ``[B, T]``; bytes arrive divided by 255.
        pos_weights: Weight of "yes" in each task's loss; None for 1.
        t: "Yes" is answered above this probability.
    """

    def __init__(
        self,
        task_ids: Sequence[int],
        network: nn.Module,
        pos_weights: Sequence[float] | None = None,
        t: float = 0.5,
    ) -> None:
        super().__init__(task_ids)
        if pos_weights is not None and len(pos_weights) != len(self._task_ids):
            raise ValueError(
                f"`pos_weights` must hold one weight per task ({len(self._task_ids)}), found"
                f" {len(pos_weights)}."
            )
        self._model = network
        self._pos_weights = pos_weights
        self._t = t

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.float() / 255 if x.dtype == torch.uint8 else x)

    def _intialize_metrics_generator(self) -> None:
        self._metrics = [BinaryMetrics(len(self._task_ids), self._t) for _ in SPLIT_NAMES]

    def get_task_output(self, batch_outputs: Tensor, task_id: int) -> Tensor:
        return batch_outputs[:, task_id]

    def get_probabilities_true_target(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return 1 - (targets - torch.sigmoid(outputs)).abs()

    def initialize_losses(self) -> None:
        weights = self._pos_weights or [1.0] * len(self._task_ids)
        self._losses = [nn.BCEWithLogitsLoss(pos_weight=torch.tensor(w)) for w in weights]


class C10Model(BinaryModel):
    """One of the paper's two networks for colour images ``[B, 3, H, W]``.

    Args:
        task_ids: The tasks.
        pos_weights: Weight of "yes" in each task's loss; None for 1.
        t: "Yes" is answered above this probability.
        network: "cnn", the custom network of table 2, or "resnet18" with a head without bias.
        image_size: Height and width, of the "cnn".
        dropout: Of the "cnn"; 0 as in table 2, the authors' code has 0.2.
    """

    def __init__(
        self,
        task_ids: Sequence[int],
        pos_weights: Sequence[float] | None = None,
        t: float = 0.5,
        *,
        network: Literal["cnn", "resnet18"] = "cnn",
        image_size: int | tuple[int, int] = 32,
        dropout: float = 0.0,
    ) -> None:
        if network not in ("cnn", "resnet18"):
            raise ValueError(f"`network` must be 'cnn' or 'resnet18', found {network!r}.")
        small = network == "cnn"
        encoder = SmallCNN(image_size=image_size, dropout=dropout) if small else ResNet18()
        head = nn.Linear(encoder.output_size, len(task_ids), bias=small)
        super().__init__(task_ids, nn.Sequential(encoder, head), pos_weights, t)


class C100Model(C10Model):
    """The same networks for CIFAR-100: with all 100 tasks 472,612 and 11,227,712 parameters."""


class CelebAModel(C10Model):
    """The same networks for CelebA's attributes; give ``image_size`` if it is not 32."""
