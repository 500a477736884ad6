"""How a model is trained: one flat, frozen record."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch

if TYPE_CHECKING:
    from polytask.problems.problem import Problem

__all__ = ["TrainingSettings"]

Precision = Literal["auto", "float32", "bfloat16"]
Schedule = Literal["constant", "cosine"]


@dataclass(frozen=True, kw_only=True)
class TrainingSettings:
    """Everything about training that is not the problem, the model or the balancer.

    Args:
        epochs: Most passes over the (largest task's) training rows.
        batch_size: Rows per step; None picks the power of two nearest to a sixteenth of the rows,
            within 16 .. 256.
        learning_rate: Of AdamW.
        weight_decay: Decoupled, on parameters of two or more dimensions whose name does not say
            "bias" (never on norms, biases or learned task weights).
        schedule: "constant", or "cosine" from ``learning_rate`` to 0 over all epochs.
        warmup_steps: Steps over which the learning rate rises linearly from 0.
        patience: Epochs without a better validation criterion before training stops; None trains
            all epochs.
        clip_norm: Largest allowed norm of the gradient (of each of several models, see
            ``Architecture.parts``); None does not clip.
        accumulate: Batches per optimiser step.
        precision: "bfloat16" runs forward passes under autocast; "auto" does so on a GPU that
            supports it.
        device: "auto" takes CUDA, then Apple's MPS, then the CPU.
        seed: Of the batch order and of everything random in the model while it trains.
        time_limit: Seconds of training after which it stops with the best model so far; None for no
            limit. A run that hits it is not reproducible to the bit, and its result says so.
    """

    epochs: int = 100
    batch_size: int | None = None
    learning_rate: float = 1e-3
    weight_decay: float = 1e-4
    schedule: Schedule = "constant"
    warmup_steps: int = 0
    patience: int | None = 16
    clip_norm: float | None = 1.0
    accumulate: int = 1
    precision: Precision = "auto"
    device: str = "auto"
    seed: int = 0
    time_limit: float | None = None

    def __post_init__(self) -> None:
        for name, least in (("epochs", 1), ("accumulate", 1), ("warmup_steps", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"`{name}` must be >= {least}, found {getattr(self, name)}.")
        for name in ("batch_size", "patience", "clip_norm", "time_limit"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"`{name}` must be > 0 or None, found {value}.")
        if not (math.isfinite(self.learning_rate) and self.learning_rate > 0):
            raise ValueError(f"`learning_rate` must be > 0, found {self.learning_rate}.")
        if not self.weight_decay >= 0:
            raise ValueError(f"`weight_decay` must be >= 0, found {self.weight_decay}.")
        if self.schedule not in ("constant", "cosine"):
            raise ValueError(f"`schedule` must be 'constant' or 'cosine', found {self.schedule!r}.")
        if self.precision not in ("auto", "float32", "bfloat16"):
            raise ValueError(
                f"`precision` must be 'auto', 'float32' or 'bfloat16', found {self.precision!r}."
            )

    @classmethod
    def for_problem(cls, problem: Problem) -> TrainingSettings:
        """The defaults that go with ``default_architecture``: tables have rates of their own, tuned
        once with their encoder (``experiments/tabular_encoder``).
        """
        if problem.table is not None or problem.tables:
            return cls(learning_rate=4e-3, weight_decay=0.1)
        return cls()

    def batch_size_for(self, rows: int) -> int:
        """The batch size for a training split of this many rows."""
        if self.batch_size is not None:
            return self.batch_size
        return min(256, max(16, 2 ** round(math.log2(max(rows, 1) / 16)) if rows > 16 else 16))

    def resolved_device(self) -> torch.device:
        """The device that "auto" stands for on this machine."""
        if self.device != "auto":
            return torch.device(self.device)
        if torch.cuda.is_available():
            return torch.device("cuda")
        if torch.backends.mps.is_available():
            return torch.device("mps")
        return torch.device("cpu")

    def autocast_dtype(self, device: torch.device) -> torch.dtype | None:
        """The dtype of mixed precision on this device, or None for full precision."""
        if self.precision == "bfloat16":
            return torch.bfloat16
        if (
            self.precision == "auto"
            and device.type == "cuda"
            and torch.cuda.is_bf16_supported(including_emulation=False)
        ):
            return torch.bfloat16
        return None
