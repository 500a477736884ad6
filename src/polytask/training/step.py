"""One training step, from batches to updated parameters, in one file.

    Problem -sampler-> Batch -model-> outputs -tasks-> losses [T] -balancer-> .grad -optimizer->
    StepReport

Everything a step computes is a local of ``TrainingStep.__call__``; what others may see is the
frozen ``StepReport``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from polytask.architectures.base import Architecture
from polytask.balancers.base import Balancer
from polytask.problems.batch import Batch
from polytask.tasks import TaskTensors
from polytask.training.losses import TaskLosses
from polytask.training.reports import StepReport
from polytask.training.strategy import Strategy

__all__ = ["NonFiniteLossError", "TrainingStep"]


class NonFiniteLossError(ArithmeticError):
    """A task's loss became NaN or infinite; the message names the task and the step."""


class TrainingStep:
    """Holds the parts of a step and runs it; it has no state of its own.

    Args:
        architecture: The model.
        balancer: Turns losses into gradients.
        optimizer: Uses the gradients.
        strategy: For tasks that arrive one after the other; None for plain training.
        clip_norm: Largest norm of the gradient, or None; see ``Architecture.parts``.
        autocast: Dtype of mixed precision for forward passes, or None.
    """

    def __init__(
        self,
        architecture: Architecture,
        balancer: Balancer,
        optimizer: Optimizer,
        *,
        strategy: Strategy | None = None,
        clip_norm: float | None = None,
        autocast: torch.dtype | None = None,
    ) -> None:
        self.architecture = architecture
        self.balancer = balancer
        self.optimizer = optimizer
        self.strategy = strategy
        self.autocast = autocast
        self.losses = TaskLosses(architecture.tasks, member_weights=architecture.member_weights())
        self.positions = {task.name: i for i, task in enumerate(architecture.tasks)}
        # Gradient methods start from the shared representation, or share head work through it.
        self._looks_at_gradients = balancer.scope in ("trunk", "features")
        self._parameters = [p for group in optimizer.param_groups for p in group["params"]]
        self._clipped = [] if clip_norm is None else self._clip_groups(clip_norm)
        self._shared = list(architecture.shared_parameters())
        self._last_shared = list(architecture.last_shared_parameters())

    def __call__(self, batches: Sequence[Batch], *, step: int, epoch: int) -> StepReport:
        """One optimiser step.

        Args:
            batches: The batches of the step: one; several that accumulate; or the independent
                batches that the balancer asks for (``batches_per_step``).
            step: Number of the step, for errors and the report.
            epoch: Number of the epoch.

        Raises:
            NonFiniteLossError: A loss is NaN or infinite; nothing has been updated.
        """
        for parameter in self._parameters:  # what zero_grad does, without its bookkeeping
            parameter.grad = None
        balancer, accumulates = (
            self.balancer,
            self.balancer.batches_per_step == 1 and len(batches) > 1,
        )
        tasks = self._tasks_of(batches)
        positions = [self.positions[name] for name in tasks]
        shared = self._last_shared if balancer.scope == "last" else self._shared
        counts = _label_counts(batches) if accumulates else None
        one_by_one = accumulates and balancer.affine

        outputs: list[TaskTensors] = []
        losses: list[Tensor] = []
        auxiliary: dict[str, Tensor] = {}
        for batch in batches:
            found, features, own = self._forward(batch)
            values = self.losses(_in_full_precision(found), _with_tasks(batch, tasks), counts)
            self._check_finite(values, tasks, step)
            _add_terms(auxiliary, own, 1 / len(batches), backward=one_by_one)
            if one_by_one:
                weights = balancer.backward(values * len(batches), shared=shared, tasks=positions)
            outputs.append(found.map(torch.Tensor.detach))
            losses.append(values.detach() if one_by_one else values)
        if one_by_one:
            combined = torch.stack(losses).sum(0)
            _scale_gradients(self._parameters, 1 / len(batches))
        else:
            combined = losses[0] if len(losses) == 1 else torch.stack(losses)
            combined = combined.sum(0) if accumulates else combined
            if auxiliary:
                _backward_terms(auxiliary)
            weights = balancer.backward(
                combined,
                shared=shared,
                features=features if len(batches) == 1 else None,
                tasks=positions,
                partial_losses=lambda fraction: self._losses_of_part(batches, tasks, fraction),
            )
        if self.strategy is not None:
            self.strategy.edit_gradients(self.architecture)
        for parameters, norm in self._clipped:
            nn.utils.clip_grad_norm_(parameters, norm)
        self.optimizer.step()
        if balancer.revisits_losses:
            with torch.no_grad():
                found, _, _ = self._forward(batches[0])
                again = self.losses(_in_full_precision(found), _with_tasks(batches[0], tasks))
            balancer.after_step(again, tasks=positions)
        return StepReport(
            step=step,
            epoch=epoch,
            tasks=tasks,
            losses=combined.detach() if combined.dim() == 1 else combined.detach().mean(0),
            weights=weights,
            outputs=tuple(outputs),
            batches=tuple(batches),
            auxiliary={name: term.detach() for name, term in auxiliary.items()},
            notes=dict(balancer.notes),
        )

    def _clip_groups(self, norm: float) -> list[tuple[list[Tensor], float]]:
        """Parameters that are clipped together, and the largest norm of each group's gradient."""
        parts = list(self.architecture.clip_groups())
        if len(parts) == 1:
            return [(self._parameters, norm)]
        rest = {id(parameter): parameter for parameter in self._parameters}
        groups = []
        for module, share in parts:
            own = [rest.pop(id(p)) for p in module.parameters() if id(p) in rest]
            groups.append((own, norm * share))
        return [*groups, (list(rest.values()), norm)] if rest else groups

    def _forward(self, batch: Batch) -> tuple[TaskTensors, Tensor | None, dict[str, Tensor]]:
        """Outputs, the shared representation where the balancer looks at it, and terms outside the
        balancer.
        """
        model = self.architecture
        with torch.autocast(
            feature_device(batch), dtype=self.autocast, enabled=self.autocast is not None
        ):
            features = model.features(batch.inputs) if self._looks_at_gradients else None
            outputs = model(batch.inputs) if features is None else model.heads(features)
            outputs = TaskTensors.from_mapping(outputs)
            extra = dict(model.auxiliary_losses(batch.inputs, outputs))
            if self.strategy is not None:
                extra.update(self.strategy.extra_losses(model, batch))
        return outputs, features, extra

    def _losses_of_part(
        self, batches: Sequence[Batch], tasks: tuple[str, ...], fraction: float
    ) -> Tensor:
        """Losses of the first rows of every batch (rows are shuffled), for gradients that are
        estimated from a part of the batch; a task without labels there has loss 0.
        """
        losses = []
        for batch in batches:
            part = _with_tasks(batch.head(fraction), tasks)
            losses.append(self.losses(_in_full_precision(self._forward(part)[0]), part))
        stacked = torch.stack(losses)
        if self.balancer.batches_per_step > 1:
            return stacked
        return losses[0] if len(losses) == 1 else stacked.mean(0)

    def _tasks_of(self, batches: Sequence[Batch]) -> tuple[str, ...]:
        """Tasks with labels in the step; if it needs independent batches, those with labels in each
        of them.
        """
        if len(batches) == 1:
            return batches[0].tasks
        seen = Counter(name for batch in batches for name in batch.tasks)
        least = len(batches) if self.balancer.batches_per_step > 1 else 1
        return tuple(name for name in self.positions if seen[name] >= least)

    def _check_finite(self, losses: Tensor, tasks: tuple[str, ...], step: int) -> None:
        finite = torch.isfinite(losses.detach())
        if bool(finite.all()):
            return
        bad = int((~finite).reshape(-1, len(tasks)).any(0).nonzero()[0])
        value = losses.detach().reshape(-1, len(tasks))[:, bad].tolist()
        raise NonFiniteLossError(
            f"The loss of task {tasks[bad]!r} is not finite at step {step} (found {value[0]}); "
            "lower the learning rate,"
            " clip gradients, or look for extreme values in its inputs and targets."
        )


def feature_device(batch: Batch) -> str:
    """Type of the device that a batch lives on."""
    return batch.targets.blocks[0][1].device.type


def _add_terms(
    terms: dict[str, Tensor], more: Mapping[str, Tensor], share: float, *, backward: bool
) -> None:
    """Add a batch's share of the terms outside the balancer; with ``backward`` they are
    differentiated at once, and the gradients scaled by ``share`` as a whole afterwards.
    """
    if backward and more:
        _backward_terms(more)
    for name, term in more.items():
        value = (term.detach() if backward else term) * share
        terms[name] = terms[name] + value if name in terms else value


def _backward_terms(terms: Mapping[str, Tensor]) -> None:
    """Differentiate the sum of some terms before the balancer uses up the graph they share."""
    torch.stack(list(terms.values())).sum().backward(retain_graph=True)


def _scale_gradients(parameters: Sequence[Tensor], factor: float) -> None:
    torch._foreach_mul_([p.grad for p in parameters if p.grad is not None], factor)


def _in_full_precision(outputs: TaskTensors) -> TaskTensors:
    """Outputs of autocast as float32: losses are sums over a batch and lose too much in half
    precision.
    """
    if all(t.dtype in (torch.float32, torch.float64) for _, t in outputs.blocks):
        return outputs
    return outputs.map(lambda t: t.float())


def _with_tasks(batch: Batch, tasks: tuple[str, ...]) -> Batch:
    if batch.tasks == tasks:
        return batch
    return replace(batch, tasks=tasks)


def _label_counts(batches: Sequence[Batch]) -> Mapping[str, float]:
    """Labels per task over all batches of the step."""
    counts: Counter[str] = Counter()
    for batch in batches:
        for (names, target), mask in zip(batch.targets.blocks, batch.present, strict=True):
            found = [target.shape[0]] * len(names) if mask is None else mask.sum(0).tolist()
            counts.update(dict(zip(names, found, strict=True)))
    return counts
