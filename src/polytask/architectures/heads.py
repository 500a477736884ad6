"""Heads: from features to the outputs of all tasks, homogeneous tasks as one block.

Shape legend: B batch, D features, K tasks of one block, C output size, H hidden size of a head, M
ensemble members.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from polytask.architectures.base import TaskIndex
from polytask.encoders.base import check_positive
from polytask.tasks import (
    Binary,
    Kind,
    Multiclass,
    Segmentation,
    Task,
    TaskTensors,
    TokenSequence,
    group_into_blocks,
)

__all__ = ["Heads", "average_members"]


class Heads(nn.Module):
    """One head per task on a common representation; homogeneous tasks are one matrix product.

    Linear heads (no `hidden`): y_t = W_t h + b_t. With hidden layers: y_t = W_t r(V_t h + a_t) +
    b_t, r the ReLU, each task with its own V_t. The K tasks of a block are rows of the same
    parameters, so that a hundred binary tasks cost what one output layer of a hundred units costs.

    With M > 1 members (see ``TabularEncoder``) every member has its own output layer W_t, b_t,
    while hidden layers of heads are shared by the members. In training the members stay apart, so
    that each is trained on its own loss; in evaluation their predictions are averaged by
    ``average_members``.

    Args:
        input_size: D.
        tasks: The tasks, in the order in which their blocks first appear.
        hidden: Sizes of the hidden layers of every head; empty means linear heads.
        members: M.

    Shapes: features ``[B, D]`` or ``[M, B, D]``; outputs blocks ``[B, K, C]``, in training with M >
        1 ``[M, B, K, C]``.

    Raises:
        ValueError: a task with dense or sequence outputs, which needs a decoder instead of a head.

    Cost: one matrix product per layer and block.
    """

    def __init__(
        self,
        *,
        input_size: int,
        tasks: Sequence[Task],
        hidden: Sequence[int] = (),
        members: int = 1,
    ) -> None:
        super().__init__()
        self.input_size = check_positive("input_size", input_size)
        self.hidden = tuple(check_positive("hidden", size) for size in hidden)
        self.members = check_positive("members", members)
        for task in tasks:
            if task.kind.output_dims != 1:
                raise ValueError(
                    f"Task {task.name!r} is a {type(task.kind).__name__}, whose outputs are not "
                    "vectors; use an architecture with a decoder, or wrap your own with"
                    " CustomArchitecture."
                )
        self.groups = group_into_blocks(tasks)
        self.blocks = nn.ModuleList(
            BlockHead(input_size, len(group), group[0].kind.output_size, self.hidden, members)
            for group in self.groups
        )
        self.names = [tuple(task.name for task in group) for group in self.groups]
        self.places = {
            name: (b, k) for b, names in enumerate(self.names) for k, name in enumerate(names)
        }

    def forward(self, features: Tensor) -> TaskTensors:
        """Outputs of every task."""
        outputs = [block(features) for block in self.blocks]
        if self.members > 1 and not self.training:
            outputs = [
                average_members(group[0], output)
                for group, output in zip(self.groups, outputs, strict=True)
            ]
        members = self.members if self.training else 1
        return TaskTensors(zip(self.names, outputs, strict=True), members)

    def task_rows(self, name: str) -> Iterator[tuple[nn.Parameter, TaskIndex]]:
        """Every parameter of the task's block with the index of the task's rows in it."""
        block, row = self.places[name]
        for parameter_name, parameter in self.blocks[block].named_parameters():
            # Output layers lead with the members, hidden layers with the tasks.
            yield parameter, ((slice(None), row) if parameter_name.startswith("output") else (row,))


class BlockHead(nn.Module):
    """The heads of K tasks of a kind: hidden layers ``[K, H, D]``, output ``[M, K, C, D]``."""

    def __init__(
        self, input_size: int, tasks: int, output_size: int, hidden: tuple[int, ...], members: int
    ) -> None:
        super().__init__()
        self.hidden_weights = nn.ParameterList()
        self.hidden_biases = nn.ParameterList()
        size = input_size
        for width in hidden:
            self.hidden_weights.append(_uniform((tasks, width, size), size))
            self.hidden_biases.append(_uniform((tasks, width), size))
            size = width
        self.output_weight = _uniform((members, tasks, output_size, size), size)
        self.output_bias = _uniform((members, tasks, output_size), size)

    def forward(self, features: Tensor) -> Tensor:
        """Outputs of the block's tasks."""
        if not self.hidden_weights:  # all tasks of the block in one product
            weight, bias = self.output_weight.flatten(1, 2), self.output_bias.flatten(1)
            if len(weight) == 1:
                columns = functional.linear(features, weight[0], bias[0])
            else:
                columns = torch.baddbmm(bias.unsqueeze(1), features, weight.mT)
            outputs: Tensor = columns.unflatten(-1, self.output_bias.shape[1:])
            return outputs
        hidden = features.unsqueeze(-2)
        for depth, (weight, bias) in enumerate(
            zip(self.hidden_weights, self.hidden_biases, strict=True)
        ):
            if depth == 0:
                joined = functional.linear(features, weight.flatten(0, 1), bias.flatten())
                hidden = joined.unflatten(-1, bias.shape)
            else:
                hidden = torch.einsum("...bkd,khd->...bkh", hidden, weight) + bias
            hidden = functional.relu(hidden)
        if len(self.output_weight) == 1:
            product = torch.einsum("bkh,kch->bkc", hidden, self.output_weight[0])
            return product + self.output_bias[0]
        product = torch.einsum("mbkh,mkch->mbkc", hidden, self.output_weight)
        return product + self.output_bias.unsqueeze(1)


def average_members(task: Task, outputs: Tensor, weights: Tensor | None = None) -> Tensor:
    """The output whose prediction is the average of the members' predictions.

    Numbers are averaged as they are. For classes the average of the members' *probabilities* is
    what an ensemble predicts; an average of logits would be their geometric mean, overconfident
    where members disagree. So with member logits z_m the result is log mean_m softmax(z_m), and for
    a binary task log p - log(1 - p) with p = mean_m sigmoid(z_m): again a logit, so loss,
    prediction and probabilities of the task apply to it unchanged. A task with a loss of the user's
    is averaged as numbers, since the meaning of its outputs is not known.

    Args:
        task: Any task of the block.
        outputs: ``[M, ..., C]``.
        weights: Of the members, broadcast to ``outputs``, sum 1 over M; None means 1 / M each.

    Returns:
        ``[..., C]``.
    """
    kind: Kind = task.kind
    if task.loss is None and isinstance(kind, Binary):
        return _log_mean_exp(functional.logsigmoid(outputs), weights) - _log_mean_exp(
            functional.logsigmoid(-outputs), weights
        )
    if task.loss is None and isinstance(kind, (Multiclass, Segmentation, TokenSequence)):
        classes = -3 if isinstance(kind, Segmentation) else -1
        return _log_mean_exp(torch.log_softmax(outputs, dim=classes), weights)
    return outputs.mean(0) if weights is None else (outputs * weights).sum(0)


def encoder_output_size(encoder: nn.Module) -> int:
    """The number of features D that an encoder says it produces."""
    size = getattr(encoder, "output_size", None)
    if not isinstance(size, int):
        raise ValueError(
            f"The encoder {type(encoder).__name__} needs an attribute `output_size` (features per "
            f"row), found {size!r}; set it on the module."
        )
    return size


def head_layers(head: str, hidden: tuple[int, ...] | None, features: int) -> tuple[int, ...]:
    """Hidden sizes of the heads of the given sort."""
    if head == "linear":
        if hidden:
            raise ValueError(
                f"A linear head has no hidden layers, found hidden={hidden!r}; use head='mlp'."
            )
        return ()
    if head != "mlp":
        raise ValueError(f"`head` must be 'linear' or 'mlp', found {head!r}.")
    return hidden or (max(8, features // 2),)


def _log_mean_exp(values: Tensor, weights: Tensor | None) -> Tensor:
    if weights is not None:
        return torch.logsumexp(values + weights.log(), dim=0)
    return torch.logsumexp(values, dim=0) - math.log(values.shape[0])


def _uniform(shape: tuple[int, ...], fan_in: int) -> nn.Parameter:
    bound = 1 / math.sqrt(fan_in)
    return nn.Parameter(torch.empty(shape).uniform_(-bound, bound))
