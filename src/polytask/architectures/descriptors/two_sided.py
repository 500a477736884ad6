"""The two-sided network: one network reads the example, another one the task.

Shape legend: B batch, R rows of several tasks, D inputs, T tasks, K chosen tasks, Z numbers of a
descriptor, H size of the inner product, C output size, M ensemble members.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from polytask.architectures.base import Inputs
from polytask.architectures.descriptors.descriptor_model import (
    DescriptorModel,
    alike,
    linear_by_task,
)
from polytask.architectures.descriptors.task_descriptors import TaskDescriptors
from polytask.architectures.heads import encoder_output_size
from polytask.config import rebuildable_repr
from polytask.encoders import MLP
from polytask.encoders.base import check_positive
from polytask.tasks import Task

if TYPE_CHECKING:
    from polytask.problems import Problem

__all__ = ["TwoSided"]

#: H unless it is said.
INNER_SIZE = 16


class TwoSided(DescriptorModel):
    """The inner product of a network of the example and a network of the task: y = P(x) · Q(z_t).

    P(x) has H numbers; Q(z) has H numbers for one output and is a matrix ``[C, H]`` for C. Both end
    in a linear map, P(x) = P e(x) and Q(z) = Q d(z), after encoders e and d that may be left out.
    Without them the model is y = x P Q^T z, linear in the inputs with the weights W = P Q^T times
    z: a factorised table of the tasks' weights, rank H at most, one row per one-hot task. Q can be
    evaluated at any z, so a task that was never seen is predicted from its descriptor alone
    (``predict_for``).

    Args:
        descriptors: z_t.
        tasks: The tasks, of one kind.
        inner_size: H.
        input_size: D, where there is no encoder.
        encoder: e: any module with ``output_size``, from inputs ``[B, ...]`` to ``[B, E]``
            (``[M, B, E]`` where it has ``num_members`` M > 1); None means the inputs themselves.
        descriptor_encoder: d: any module with ``output_size`` from ``[K, Z]`` to ``[K, F]``; None
            means the descriptors themselves.
        bias: Whether both linear maps have a constant, which the paper's formula lacks; then
            outputs can have a level that no input explains.

    Shapes: inputs ``[B, ...]``, outputs ``[B, T, C]``; separate layout ``{task: [B_t, ...]}``.

    Differences: none known in the function. Q starts smaller by the root of H and by the length of
        descriptors, so that outputs start at the scale of ordinary heads.

    Raises:
        ValueError: tasks of several kinds, both or neither of ``encoder`` and ``input_size``.

    Cost: one pass of e over the rows and one of d over the tasks, then one product.

    Example:
        >>> import torch
        >>> from polytask.tasks import Regression, Task
        >>> tasks = tuple(Task(name, Regression()) for name in ("cold", "warm"))
        >>> degrees = TaskDescriptors(names=("cold", "warm"), values=((1.0, 0.0), (1.0, 30.0)))
        >>> model = TwoSided(descriptors=degrees, tasks=tasks, inner_size=3, input_size=4)
        >>> model.predict_for(torch.ones(5, 4), torch.tensor([[1.0, 15.0]])).shape
        torch.Size([5, 1, 1])

    References:
        Y. Yang, T. Hospedales, A Unified Perspective on Multi-Domain and Multi-Task Learning, ICLR
        2015, https://arxiv.org/abs/1412.7489, equations 1-3.
    """

    def __init__(
        self,
        *,
        descriptors: TaskDescriptors,
        tasks: Sequence[Task],
        inner_size: int,
        input_size: int | None = None,
        encoder: nn.Module | None = None,
        descriptor_encoder: nn.Module | None = None,
        bias: bool = False,
    ) -> None:
        super().__init__(descriptors=descriptors, tasks=tasks)
        if (encoder is None) == (input_size is None):
            raise ValueError(
                "TwoSided needs `encoder`, or `input_size` without one, and not both, found "
                f"input_size={input_size} and {'no ' if encoder is None else 'an '}encoder."
            )
        self.inner_size = check_positive("inner_size", inner_size)
        self.input_size = None if input_size is None else check_positive("input_size", input_size)
        self.encoder = encoder
        self.descriptor_encoder = descriptor_encoder
        self.bias = bias
        self.num_members = getattr(encoder, "num_members", 1)
        rows = self.input_size if encoder is None else encoder_output_size(encoder)
        assert rows is not None
        size, scale = descriptors.output_size, descriptors.scale
        if descriptor_encoder is not None:
            size = encoder_output_size(descriptor_encoder)
            scale = math.sqrt(size)
        self.P = nn.Linear(rows, self.inner_size, bias=bias)
        self.Q = nn.Linear(size, self.output_size * self.inner_size, bias=bias)
        bound = 1 / (math.sqrt(self.inner_size) * scale)
        with torch.no_grad():
            for parameter in self.Q.parameters():
                parameter.uniform_(-bound, bound)

    @classmethod
    def for_problem(cls, problem: Problem) -> TwoSided:
        """The default encoder and one-hot descriptors: heads that are factorised into 16 numbers.

        Raises:
            ValueError: tasks of several kinds, or with inputs of several forms.
        """
        from polytask.architectures.defaults import common_encoder

        return cls(
            descriptors=TaskDescriptors(names=[task.name for task in problem.tasks]),
            tasks=problem.tasks,
            inner_size=INNER_SIZE,
            encoder=common_encoder(problem),
            bias=True,
        )

    @classmethod
    def example(cls, tasks: Sequence[Task]) -> tuple[TwoSided, Inputs]:
        same = alike(tasks)
        names = [task.name for task in same]
        model = cls(
            descriptors=TaskDescriptors(names=names, values=torch.randn(len(names), 3)),
            tasks=same,
            inner_size=4,
            encoder=MLP(input_size=5, widths=(8,)),
            descriptor_encoder=MLP(input_size=3, widths=(6,), activation="tanh"),
        )
        return model, torch.randn(6, 5)

    def represent(self, inputs: Tensor) -> Tensor:
        """P(x) ``[B, H]``."""
        found: Tensor = self.P(inputs if self.encoder is None else self.encoder(inputs))
        return found

    def weights_of(self, vectors: Tensor) -> Tensor:
        """Q(z) ``[K, C, H]`` of descriptors ``[K, Z]``."""
        encoder = self.descriptor_encoder
        flat: Tensor = self.Q(vectors if encoder is None else encoder(vectors))
        return flat.reshape(len(vectors), self.output_size, self.inner_size)

    def outputs_of_all(self, features: Tensor, vectors: Tensor) -> Tensor:
        """P(x) · Q(z) of every row and every descriptor."""
        return torch.einsum("...bh,kch->...bkc", features, self.weights_of(vectors))

    def outputs_of_rows(self, features: Tensor, vectors: Tensor, counts: Sequence[int]) -> Tensor:
        """P(x) · Q(z) of every row and its descriptor."""
        return linear_by_task(features, self.weights_of(vectors), counts)

    def descriptor_weights(self) -> Iterator[tuple[nn.Parameter, int]]:
        """Q ``[C H, Z]``, where nothing stands between it and the descriptors."""
        if self.descriptor_encoder is None:
            for parameter in self.Q.parameters():
                if parameter.dim() == 2:
                    yield parameter, 1

    def last_shared_parameters(self) -> Iterator[nn.Parameter]:
        """P's linear map."""
        return self.P.parameters()

    def __repr__(self) -> str:
        return rebuildable_repr(self)
