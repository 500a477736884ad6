"""Descriptors concatenated at the input or at any layer of a shared network.

Shape legend: B batch, R rows of several tasks, D inputs, T tasks, K chosen tasks, Z numbers of a
descriptor, H hidden size, C output size.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from polytask.architectures.base import Inputs
from polytask.architectures.descriptors.descriptor_model import DescriptorModel, alike, spread
from polytask.architectures.descriptors.task_descriptors import LEARNED_SIZE, TaskDescriptors
from polytask.config import rebuildable_repr
from polytask.encoders.base import check_fraction, check_positive
from polytask.encoders.mlp import ACTIVATIONS
from polytask.tasks import Task

if TYPE_CHECKING:
    from polytask.problems import Problem

__all__ = ["Conditioned"]


class Conditioned(DescriptorModel):
    """A multilayer perceptron that reads the task's descriptor beside its own features.

    Layer l of L + 1 computes h_{l+1} = r(W_l [h_l, z_t] + b_l) if l is in ``at``, and
    r(W_l h_l + b_l) if not; h_0 = x, the last layer has no activation r and is the head of all
    tasks: y_t = g(f(x, z_t)). Since W [h, z] = W_h h + W_z z, the part of z is computed once per
    task and not per row, and layers before the first in ``at`` run once for all tasks.

    Args:
        descriptors: z_t.
        tasks: The tasks, of one kind.
        input_size: D.
        widths: Sizes of the L hidden layers; (256, 256) as of ``MLP``.
        at: Layers that read z, from 0 (the input) to L (the output layer, where z can only shift
            outputs); None means all.
        activation: "relu", "gelu", "silu", "tanh" or "selu".
        dropout: Probability of dropping a hidden value, in [0, 1).

    Shapes: inputs ``[B, D]``, outputs ``[B, T, C]``; separate layout ``{task: [B_t, D]}``, each
        row computed for its own task only.

    Raises:
        ValueError: tasks of several kinds, a layer that there is not, inputs of another width.

    Cost: shared inputs: B rows up to the first layer in ``at``, B T rows of H numbers beyond it,
        in one product per layer. Separate inputs: R rows.

    Example:
        >>> import torch
        >>> from polytask.tasks import Regression, Task
        >>> tasks = (Task("north", Regression()), Task("south", Regression()))
        >>> where = TaskDescriptors(names=("north", "south"), values=((60.0,), (40.0,)))
        >>> model = Conditioned(descriptors=where, tasks=tasks, input_size=4, widths=(8,), at=(1,))
        >>> model(torch.zeros(5, 4))
        TaskTensors(2 task(s) (5, 2, 1))
        >>> model.predict_for(torch.zeros(5, 4), torch.tensor([50.0])).shape
        torch.Size([5, 1])

    References:
        Y. Yang, T. Hospedales, A Unified Perspective on Multi-Domain and Multi-Task Learning, ICLR
        2015, https://arxiv.org/abs/1412.7489 (descriptors); the form is figure 8 of the first
        lecture (the embedding joined to the inputs).
    """

    def __init__(
        self,
        *,
        descriptors: TaskDescriptors,
        tasks: Sequence[Task],
        input_size: int,
        widths: Sequence[int] = (256, 256),
        at: Sequence[int] | None = (0,),
        activation: str = "relu",
        dropout: float = 0.0,
    ) -> None:
        super().__init__(descriptors=descriptors, tasks=tasks)
        self.input_size = check_positive("input_size", input_size)
        self.widths = tuple(check_positive("widths", width) for width in widths)
        self.at = None if at is None else tuple(at)
        if activation not in ACTIVATIONS:
            raise ValueError(
                f"`activation` must be one of {sorted(ACTIVATIONS)}, found {activation!r}."
            )
        self.activation = activation
        self.dropout = check_fraction("dropout", dropout)
        last = len(self.widths)
        reading = range(last + 1) if self.at is None else self.at
        if not reading or not set(reading) <= set(range(last + 1)):
            raise ValueError(
                f"`at` must name layers from 0 (the input) to {last} (the output layer), at least "
                f"one, found {self.at}; without any all tasks would be the same."
            )
        self.first = min(reading)
        sizes = (self.input_size, *self.widths, self.output_size)
        self.row_layers = nn.ModuleList()
        self.task_layers = nn.ModuleDict()
        for depth, (before, after) in enumerate(itertools.pairwise(sizes)):
            layers = [nn.Linear(before, after)]
            if depth in reading:
                layers.append(nn.Linear(descriptors.output_size, after, bias=False))
                self.task_layers[str(depth)] = layers[1]
            self.row_layers.append(layers[0])
            _initialise_as_one(layers)
        self.between = nn.Sequential(ACTIVATIONS[activation](), nn.Dropout(self.dropout))

    @classmethod
    def for_problem(cls, problem: Problem) -> Conditioned:
        """Learned descriptors of at most 8 numbers beside the inputs and in every layer.

        Raises:
            ValueError: tasks of several kinds, or with inputs of several sizes; inputs that are no
                rows of numbers, as images and columns of categories.
        """
        shapes = set(problem.table_shapes().values())
        shape = next(iter(shapes))
        if len(shapes) > 1 or shape.cardinalities:
            raise ValueError(
                f"Conditioned needs rows of numbers of one length, and problem {problem.name!r} has"
                f" {sorted(map(repr, shapes))}; use Gated."
            )
        names = [task.name for task in problem.tasks]
        descriptors = TaskDescriptors(names=names, size=min(len(names), LEARNED_SIZE))
        return cls(
            descriptors=descriptors, tasks=problem.tasks, input_size=shape.num_numeric, at=None
        )

    @classmethod
    def example(cls, tasks: Sequence[Task]) -> tuple[Conditioned, Inputs]:
        same = alike(tasks)
        descriptors = TaskDescriptors(names=[task.name for task in same], size=3)
        model = cls(descriptors=descriptors, tasks=same, input_size=5, widths=(8, 6), at=(1,))
        return model, torch.randn(6, 5)

    def represent(self, inputs: Tensor) -> Tensor:
        """The layers before the first that reads descriptors."""
        rows = inputs.flatten(1) if inputs.dim() > 2 else inputs
        if rows.dim() != 2 or rows.shape[1] != self.input_size:
            raise ValueError(
                f"Conditioned expects rows of {self.input_size} values, found inputs of shape "
                f"{list(inputs.shape)}; give `input_size` the number of values per row."
            )
        for layer in self.row_layers[: self.first]:
            rows = self.between(layer(rows))
        return rows

    def outputs_of_all(self, features: Tensor, vectors: Tensor) -> Tensor:
        """Every row for every descriptor: the rows' part ``[B, 1, H]`` plus the tasks' ``[K, H]``
        where they first meet.
        """
        return self._from_first(features.unsqueeze(1), vectors, lambda part: part)

    def outputs_of_rows(self, features: Tensor, vectors: Tensor, counts: Sequence[int]) -> Tensor:
        """Every row for its own descriptor."""
        return self._from_first(features, vectors, lambda part: spread(part, counts))

    def _from_first(
        self, hidden: Tensor, vectors: Tensor, at_rows: Callable[[Tensor], Tensor]
    ) -> Tensor:
        for depth in range(self.first, len(self.row_layers)):
            rows = hidden if depth == self.first else self.between(hidden)
            hidden = self.row_layers[depth](rows)
            if str(depth) in self.task_layers:
                hidden = hidden + at_rows(self.task_layers[str(depth)](vectors))
        return hidden

    def descriptor_weights(self) -> Iterator[tuple[nn.Parameter, int]]:
        """W_z ``[H, Z]`` of the layers that read descriptors."""
        for parameter in self.task_layers.parameters():
            yield parameter, 1

    def last_shared_parameters(self) -> Iterator[nn.Parameter]:
        """The head's, which all tasks share."""
        return self.row_layers[-1].parameters()

    def __repr__(self) -> str:
        return rebuildable_repr(self)


def _initialise_as_one(layers: Sequence[nn.Linear]) -> None:
    """Initial values as those of a single linear layer that reads the inputs of all of them."""
    bound = 1 / math.sqrt(sum(layer.in_features for layer in layers))
    with torch.no_grad():
        for layer in layers:
            for parameter in layer.parameters():
                parameter.uniform_(-bound, bound)
