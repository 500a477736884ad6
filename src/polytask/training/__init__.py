"""Training: the step, the trainer around it, what it reports, and checkpoints."""

from polytask.training.checkpoint import Checkpoints, CorruptCheckpointWarning
from polytask.training.fine_tuning import FineTuned, fine_tune
from polytask.training.losses import TaskLosses
from polytask.training.observers import (
    GradientCosines,
    GradientObserver,
    JsonLinesLog,
    Observer,
    Progress,
    TensorBoard,
)
from polytask.training.prediction import predict_outputs, validation_losses
from polytask.training.reports import EpochReport, StepReport, TrainingResult, TrainingStart
from polytask.training.settings import TrainingSettings
from polytask.training.step import NonFiniteLossError, TrainingStep
from polytask.training.trainer import Trainer

__all__ = [
    "Checkpoints",
    "CorruptCheckpointWarning",
    "EpochReport",
    "FineTuned",
    "GradientCosines",
    "GradientObserver",
    "JsonLinesLog",
    "NonFiniteLossError",
    "Observer",
    "Progress",
    "StepReport",
    "TaskLosses",
    "TensorBoard",
    "Trainer",
    "TrainingResult",
    "TrainingSettings",
    "TrainingStart",
    "TrainingStep",
    "fine_tune",
    "predict_outputs",
    "validation_losses",
]
