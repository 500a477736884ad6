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
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from polytask.architectures.base import Architecture
from polytask.balancers.base import Balancer
from polytask.problems.batch import Batch
from polytask.tasks import TaskTensors
from polytask.training.losses import TaskLosses
from polytask.training.reports import StepReport

__all__ = ["NonFiniteLossError", "TrainingStep"]


class NonFiniteLossError(ArithmeticError):
    """A task's loss became NaN or infinite; the message names the task and the step."""


class _Pass(NamedTuple):
    """What a forward pass of one batch gave.

    Args:
        outputs: Per task.
        features: The shared representation, where the balancer looks at it.
        losses: ``[T]``.
        terms: Terms outside the balancer, by name.
    """

    outputs: TaskTensors
    features: Tensor | None
    losses: Tensor
    terms: Mapping[str, Tensor]

    def detached(self) -> _Pass:
        """The same numbers without the graph."""
        return _Pass(
            outputs=self.outputs.map(torch.Tensor.detach),
            features=None,
            losses=self.losses.detach(),
            terms={name: term.detach() for name, term in self.terms.items()},
        )


class TrainingStep:
    """Holds the parts of a step and runs it; it has no state of its own.

    Args:
        architecture: The model.
        balancer: Turns losses into gradients.
        optimizer: Uses the gradients.
        clip_norm: Largest norm of the gradient, or None; see ``Architecture.clip_groups``.
        autocast: Dtype of mixed precision for forward passes, or None.
    """

    def __init__(
        self,
        architecture: Architecture,
        balancer: Balancer,
        optimizer: Optimizer,
        *,
        clip_norm: float | None = None,
        autocast: torch.dtype | None = None,
    ) -> None:
        self.architecture = architecture
        self.balancer = balancer
        self.optimizer = optimizer
        self.autocast = autocast
        self.losses = TaskLosses(architecture.tasks, member_weights=architecture.member_weights())
        self.positions = {task.name: i for i, task in enumerate(architecture.tasks)}
        # Gradient methods start from the shared representation, or share head work through it.
        self._looks_at_features = balancer.scope in ("trunk", "features")
        self._parameters = [p for group in optimizer.param_groups for p in group["params"]]
        self._clipped = [] if clip_norm is None else self._clip_groups(clip_norm)
        self._shared = list(
            architecture.last_shared_parameters()
            if balancer.scope == "last"
            else architecture.shared_parameters()
        )

    def __call__(self, batches: Sequence[Batch], *, step: int, epoch: int) -> StepReport:
        """One optimiser step.

        Args:
            batches: The batches of the step: one; several that accumulate; or the independent
                batches that the balancer asks for (``batches_per_step``).
            step: Number of the step, for errors and the report.
            epoch: Number of the epoch.

        Returns:
            What happened. Where no task has labels (in each of the independent batches), nothing is
            updated and the report has no task.

        Raises:
            NonFiniteLossError: A loss is NaN or infinite; nothing has been updated.
        """
        for parameter in self._parameters:  # what zero_grad does, without its bookkeeping
            parameter.grad = None
        balancer = self.balancer
        used = batches if len(batches) == 1 else self._with_common_tasks(batches)
        tasks = used[0].tasks
        if not tasks:
            return _nothing_learned(step, epoch, used[0].indices)
        positions = [self.positions[name] for name in tasks]
        accumulates = len(used) > 1 and balancer.batches_per_step == 1
        if accumulates and balancer.affine:
            losses, weights, passes = self._accumulate(used, positions, step)
            terms = _mean_terms(passes)
        else:
            counts = _label_counts(used) if accumulates else None
            passes = [self._forward(batch, counts) for batch in used]
            losses = passes[0].losses if len(used) == 1 else torch.stack([p.losses for p in passes])
            self._check_finite(losses, tasks, step)
            losses = losses.sum(0) if accumulates else losses
            terms = _mean_terms(passes)
            _backward_terms(terms)
            weights = balancer.backward(
                losses,
                shared=self._shared,
                features=passes[0].features if len(used) == 1 else None,
                tasks=positions,
                partial_losses=lambda fraction: self._losses_of_part(used, fraction),
            )
        for parameters, norm in self._clipped:
            nn.utils.clip_grad_norm_(parameters, norm)
        self.optimizer.step()
        if balancer.revisits_losses:
            with torch.no_grad():
                again = self._forward(used[0]).losses
            balancer.after_step(again, tasks=positions)
        return StepReport(
            step=step,
            epoch=epoch,
            tasks=tasks,
            losses=losses.detach() if losses.dim() == 1 else losses.detach().mean(0),
            weights=weights,
            outputs=tuple(found.outputs.map(torch.Tensor.detach) for found in passes),
            batches=tuple(batches),
            auxiliary={name: term.detach() for name, term in terms.items()},
            notes=dict(balancer.notes),
        )

    def _accumulate(
        self, batches: Sequence[Batch], positions: list[int], step: int
    ) -> tuple[Tensor, Tensor, list[_Pass]]:
        """Back-propagate batch by batch, so that there is the graph of one at a time.

        Returns:
            Losses ``[T]`` and weights ``[T]`` of the step, and the passes without their graphs.
        """
        share = 1 / len(batches)
        counts = _label_counts(batches)
        passes = []
        for batch in batches:
            found = self._forward(batch, counts)
            self._check_finite(found.losses, batch.tasks, step)
            _backward_terms(found.terms)
            weights = self.balancer.backward(
                found.losses * len(batches), shared=self._shared, tasks=positions
            )
            passes.append(found.detached())
        with_gradient = [p.grad for p in self._parameters if p.grad is not None]
        torch._foreach_mul_(with_gradient, share)
        return torch.stack([found.losses for found in passes]).sum(0), weights, passes

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

    def _forward(self, batch: Batch, counts: Mapping[str, float] | None = None) -> _Pass:
        """Outputs, losses and terms of a batch; ``counts`` as for ``TaskLosses``."""
        model = self.architecture
        device = batch.targets.blocks[0][1].device.type
        with torch.autocast(device, dtype=self.autocast, enabled=self.autocast is not None):
            features = model.features(batch.inputs) if self._looks_at_features else None
            outputs = TaskTensors.from_mapping(
                model(batch.inputs) if features is None else model.heads(features)
            )
            terms = model.auxiliary_losses(batch.inputs, outputs)
        return _Pass(outputs, features, self.losses(outputs, batch, counts), terms)

    def _losses_of_part(self, batches: Sequence[Batch], fraction: float) -> Tensor:
        """Losses of the first rows of every batch (rows are shuffled), for gradients that are
        estimated from a part of the batch; a task without labels there has loss 0.
        """
        losses = [self._forward(batch.head(fraction)).losses for batch in batches]
        if self.balancer.batches_per_step > 1:
            return torch.stack(losses)
        return losses[0] if len(losses) == 1 else torch.stack(losses).mean(0)

    def _with_common_tasks(self, batches: Sequence[Batch]) -> list[Batch]:
        """The batches, each with all tasks that have labels in the step; if it needs independent
        batches, with those that have labels in each of them.
        """
        seen = Counter(name for batch in batches for name in batch.tasks)
        least = len(batches) if self.balancer.batches_per_step > 1 else 1
        tasks = tuple(name for name in self.positions if seen[name] >= least)
        return [replace(batch, tasks=tasks) for batch in batches]

    def _check_finite(self, losses: Tensor, tasks: tuple[str, ...], step: int) -> None:
        finite = torch.isfinite(losses.detach())
        if bool(finite.all()):
            return
        task = int((~finite).nonzero()[0, -1])
        raise NonFiniteLossError(
            f"The loss of task {tasks[task]!r} is not finite at step {step} (found"
            f" {losses.detach()[~finite][0].item()}); lower the learning rate,"
            " clip gradients, or look for extreme values in its inputs and targets."
        )


def _nothing_learned(step: int, epoch: int, indices: Tensor | Mapping[str, Tensor]) -> StepReport:
    """The report of a step whose batches have no task in common that has labels in each."""
    some = indices if isinstance(indices, Tensor) else next(iter(indices.values()))
    nothing = torch.zeros(0, device=some.device)
    return StepReport(
        step=step, epoch=epoch, tasks=(), losses=nothing, weights=nothing, outputs=(), batches=()
    )


def _mean_terms(passes: Sequence[_Pass]) -> dict[str, Tensor]:
    """The terms outside the balancer, each as the mean over the batches of the step."""
    terms: dict[str, Tensor] = {}
    for found in passes:
        for name, term in found.terms.items():
            value = term * (1 / len(passes))
            terms[name] = terms[name] + value if name in terms else value
    return terms


def _backward_terms(terms: Mapping[str, Tensor]) -> None:
    """Differentiate the sum of some terms before the balancer uses up the graph they share."""
    if terms:
        torch.stack(list(terms.values())).sum().backward(retain_graph=True)


def _label_counts(batches: Sequence[Batch]) -> Mapping[str, float]:
    """Labels per task over all batches of the step."""
    counts: Counter[str] = Counter()
    for batch in batches:
        for (names, target), mask in zip(batch.targets.blocks, batch.present, strict=True):
            found = [target.shape[0]] * len(names) if mask is None else mask.sum(0).tolist()
            counts.update(dict(zip(names, found, strict=True)))
    return counts
