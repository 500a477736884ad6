"""Multiplicative gating: features times descriptor, which for one-hot descriptors are expert heads.

Shape legend: B batch, R rows of several tasks, T tasks, K chosen tasks, Z numbers of a descriptor,
H hidden size, C output size, M ensemble members.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from polytask.architectures.base import Inputs
from polytask.architectures.descriptors.descriptor_model import (
    DescriptorModel,
    alike,
    linear_by_task,
    spread,
)
from polytask.architectures.descriptors.task_descriptors import LEARNED_SIZE, TaskDescriptors
from polytask.architectures.heads import encoder_output_size
from polytask.architectures.sharing.hard_sharing import last_layer_parameters
from polytask.config import rebuildable_repr
from polytask.encoders import MLP
from polytask.encoders.base import check_positive
from polytask.tasks import Task

if TYPE_CHECKING:
    from polytask.problems import Problem

__all__ = ["Gated"]


class Gated(DescriptorModel):
    """A linear map of the outer product of features and descriptor: y_t = W (f(x) ⊗ z_t) + B z_t.

    Written by entries, y = sum_k z_k (W_k f(x) + b_k): Z expert layers, mixed by the descriptor.
    For one-hot descriptors that is one linear head per task, equal to ``HardSharing`` in its
    function and in every gradient step. Hidden layers are gated in the same way, with a ReLU
    between them; for one-hot descriptors they are MLP heads.

    Args:
        descriptors: z_t.
        tasks: The tasks, of one kind.
        encoder: f: any module with ``output_size`` from inputs ``[B, ...]`` to features ``[B, H]``
            (``[M, B, H]`` where it has ``num_members`` M > 1).
        hidden: Sizes of gated hidden layers.

    Shapes: inputs ``[B, ...]``, outputs ``[B, T, C]``; separate layout ``{task: [B_t, ...]}``.

    Raises:
        ValueError: tasks of several kinds, an encoder without ``output_size``.

    Cost: one encoder pass, the mixtures of T Z C H numbers once per step, then one product per
        layer.

    Example:
        >>> import torch
        >>> from polytask.tasks import Binary, Task
        >>> tasks = tuple(Task(name, Binary()) for name in "ab")
        >>> encoder = MLP(input_size=4, widths=(8,))
        >>> model = Gated(descriptors=TaskDescriptors(names="ab"), tasks=tasks, encoder=encoder)
        >>> model(torch.zeros(5, 4))
        TaskTensors(2 task(s) (5, 2, 1))

    References:
        R. A. Jacobs, M. I. Jordan, S. J. Nowlan, G. E. Hinton, Adaptive Mixtures of Local Experts,
        Neural Computation 3, 1991, https://doi.org/10.1162/neco.1991.3.1.79 (experts under a gate;
        here the gate is the descriptor).
    """

    def __init__(
        self,
        *,
        descriptors: TaskDescriptors,
        tasks: Sequence[Task],
        encoder: nn.Module,
        hidden: Sequence[int] = (),
    ) -> None:
        super().__init__(descriptors=descriptors, tasks=tasks)
        self.encoder = encoder
        self.hidden = tuple(check_positive("hidden", size) for size in hidden)
        self.num_members = getattr(encoder, "num_members", 1)
        sizes = (encoder_output_size(encoder), *self.hidden, self.output_size)
        self.weights = nn.ParameterList()
        self.biases = nn.ParameterList()
        for before, after in itertools.pairwise(sizes):
            bound = 1 / (math.sqrt(before) * descriptors.scale)
            for parameters, shape in ((self.weights, (after, before)), (self.biases, (after,))):
                values = torch.empty(descriptors.output_size, *shape)
                parameters.append(nn.Parameter(values.uniform_(-bound, bound)))

    @classmethod
    def for_problem(cls, problem: Problem) -> Gated:
        """The default encoder under learned descriptors of at most 8 numbers, so that tasks mix at
        most 8 experts.

        Raises:
            ValueError: tasks of several kinds, or with inputs of several forms.
        """
        from polytask.architectures.defaults import common_encoder

        names = [task.name for task in problem.tasks]
        descriptors = TaskDescriptors(names=names, size=min(len(names), LEARNED_SIZE))
        return cls(descriptors=descriptors, tasks=problem.tasks, encoder=common_encoder(problem))

    @classmethod
    def example(cls, tasks: Sequence[Task]) -> tuple[Gated, Inputs]:
        same = alike(tasks)
        descriptors = TaskDescriptors(names=[task.name for task in same])
        encoder = MLP(input_size=5, widths=(8,))
        model = cls(descriptors=descriptors, tasks=same, encoder=encoder, hidden=(7,))
        return model, torch.randn(6, 5)

    def represent(self, inputs: Tensor) -> Tensor:
        """f(x)."""
        features: Tensor = self.encoder(inputs)
        return features

    def outputs_of_all(self, features: Tensor, vectors: Tensor) -> Tensor:
        """The experts' weights mixed for each descriptor, then applied to all rows."""
        hidden = features
        for depth, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            mixed, shift = torch.einsum("kz,zoi->koi", vectors, weight), vectors @ bias
            if depth == 0:
                columns = functional.linear(hidden, mixed.flatten(0, 1))
                hidden = columns.unflatten(-1, shift.shape) + shift
            else:
                hidden = torch.einsum("...ki,koi->...ko", functional.relu(hidden), mixed) + shift
        return hidden

    def outputs_of_rows(self, features: Tensor, vectors: Tensor, counts: Sequence[int]) -> Tensor:
        """The experts' weights mixed for each descriptor, then applied to its rows."""
        hidden = features
        for depth, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            rows = functional.relu(hidden) if depth else hidden
            mixed, shift = torch.einsum("kz,zoi->koi", vectors, weight), vectors @ bias
            hidden = linear_by_task(rows, mixed, counts) + spread(shift, counts)
        return hidden

    def descriptor_weights(self) -> Iterator[tuple[nn.Parameter, int]]:
        """W ``[Z, C, H]`` and B ``[Z, C]`` of every gated layer."""
        for parameter in (*self.weights, *self.biases):
            yield parameter, 0

    def last_shared_parameters(self) -> Iterator[nn.Parameter]:
        """Of the encoder's last layer."""
        return last_layer_parameters(self.encoder)

    def __repr__(self) -> str:
        return rebuildable_repr(self)
