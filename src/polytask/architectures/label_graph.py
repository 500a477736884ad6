"""Heads of a multi-label problem from a graph of its labels.

Shape legend: N rows, B batch, T labels (binary tasks), Z numbers of a label embedding, H hidden
size, D features, M ensemble members.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional

from polytask.architectures.base import Architecture, Inputs, TaskIndex
from polytask.architectures.defaults import default_encoder
from polytask.architectures.descriptors.task_descriptors import TaskDescriptors
from polytask.architectures.families import Family
from polytask.architectures.heads import average_members, encoder_output_size
from polytask.architectures.sharing.hard_sharing import split_rows
from polytask.config import rebuildable_repr
from polytask.encoders import MLP
from polytask.encoders.base import check_positive
from polytask.tasks import IGNORE_INDEX, Binary, Task, TaskTensors

if TYPE_CHECKING:
    from polytask.problems import Problem

__all__ = ["LabelGraph", "Variant", "label_adjacency", "label_counts", "reweighted"]

#: The paper's equations, or what its authors' code computes.
Variant = Literal["paper", "code"]
#: Slope of the leaky ReLU between the two graph layers.
SLOPE = 0.2
#: What the authors' code adds to a sum of edges before it divides by it.
EPSILON = 1e-6


class LabelGraph(Architecture):
    """Classifiers made by a graph convolution over the labels: ML-GCN.

    The labels have embeddings E [T, Z] and a graph A' [T, T] of which labels occur together; two
    layers pass the embeddings along its edges, and what comes out are the classifiers:
    W = Â r(Â E W_1) W_2 with r the leaky ReLU of slope 0.2, and y = W f(x). Â is A' normalised by
    its row sums, D^-1/2 A' D^-1/2; with ``variant="code"`` it is D^-1/2 A'^T D^-1/2, the transpose
    that the authors' code takes.

    Args:
        encoder: f: any module with ``output_size`` from inputs ``[B, ...]`` to pooled features
            ``[B, D]`` (``[M, B, D]`` where it has ``num_members`` M > 1). Most of the published
            gain over plain heads is its max pooling: compare at the same encoder.
        tasks: The labels, all of kind Binary.
        adjacency: A' ``[T, T]`` in the order of the tasks, from ``label_adjacency``.
        embeddings: E, by name of the labels; None means one-hot, that is W_1 is a learned table.
        hidden: H; 1024 in the paper.
        variant: "paper" or "code".
        bias: Whether every label has a constant of its own, which the paper's formula lacks; rare
            labels need one unless the features hold a constant.

    Shapes: inputs ``[B, ...]``, outputs one block ``[B, T, 1]``, in training with M > 1 members
        ``[M, B, T, 1]``; separate layout ``{task: [B_t, ...]}``.

    Differences: the paper's embeddings are 300 numbers of GloVe; here they are given, learned or
        one-hot.

    Raises:
        ValueError: a task that is not Binary, an adjacency of another shape, with negative or
            infinite entries, or with a row of zeros; embeddings of other labels.

    Cost: one encoder pass, and (Z + H) H T + 2 T^2 H + H D T multiplications per step, however many
        rows.

    Example:
        >>> import torch
        >>> tasks = tuple(Task(name, Binary()) for name in ("sea", "beach", "forest"))
        >>> seen = torch.tensor([[1, 1, 0], [1, 0, 0], [0, 0, 1], [1, 1, 0]])
        >>> graph = label_adjacency(seen)
        >>> encoder = MLP(input_size=4, widths=(8,))
        >>> LabelGraph(encoder=encoder, tasks=tasks, adjacency=graph, hidden=6)(torch.zeros(5, 4))
        TaskTensors(3 task(s) (5, 3, 1))

    References:
        Z.-M. Chen, X.-S. Wei, P. Wang, Y. Guo, Multi-Label Image Recognition with Graph
        Convolutional Networks, CVPR 2019, https://arxiv.org/abs/1904.03582, equations 2-8.
    """

    family = Family.DESCRIPTOR
    propagation: Tensor

    def __init__(
        self,
        *,
        encoder: nn.Module,
        tasks: Sequence[Task],
        adjacency: Tensor | Sequence[Sequence[float]],
        embeddings: TaskDescriptors | None = None,
        hidden: int = 1024,
        variant: Variant = "paper",
        bias: bool = False,
    ) -> None:
        super().__init__(tuple(tasks))
        names = [task.name for task in self.tasks]
        for task in self.tasks:
            _check_binary(task)
        matrix = torch.as_tensor(adjacency, dtype=torch.get_default_dtype()).detach().cpu()
        self.adjacency = tuple(map(tuple, matrix.tolist()))
        self.register_buffer("propagation", _normalised(matrix, len(names), variant))
        self.variant = variant
        if embeddings is not None and set(embeddings.names) != set(names):
            raise ValueError(
                f"`embeddings` must be those of the labels {names}, found {embeddings.names}."
            )
        self.embeddings = embeddings
        self.hidden = check_positive("hidden", hidden)
        self.bias = bias
        features = encoder_output_size(encoder)
        self.num_members = getattr(encoder, "num_members", 1)
        size = len(names) if embeddings is None else embeddings.output_size
        self.encoder = encoder
        self.first = nn.Linear(size, self.hidden, bias=False)
        self.second = nn.Linear(self.hidden, features, bias=False)
        self.constants = nn.Parameter(torch.zeros(len(names))) if bias else None
        with torch.no_grad():
            for layer in (self.first, self.second):
                # By the layers' outputs: classifiers start at the scale of linear heads.
                bound = 1 / math.sqrt(layer.out_features)
                layer.weight.uniform_(-bound, bound)

    @classmethod
    def example(cls, tasks: Sequence[Task]) -> tuple[LabelGraph, Inputs]:
        """A small instance for labels of these names and inputs for it, for the checks."""
        labels = tuple(Task(task.name, Binary()) for task in tasks)
        graph = label_adjacency(torch.randint(0, 2, (20, len(labels))))
        encoder = MLP(input_size=5, widths=(8,))
        model = cls(encoder=encoder, tasks=labels, adjacency=graph, hidden=7, bias=True)
        return model, torch.randn(6, 5)

    @classmethod
    def for_problem(cls, problem: Problem) -> LabelGraph:
        """The default encoder under the graph of the labels of the training rows, with a constant
        per label.

        Raises:
            ValueError: a task that is not Binary, or tasks with inputs of their own.
        """
        if problem.layout != "shared":
            raise ValueError(
                "LabelGraph counts which labels occur together, and the tasks of problem "
                f"{problem.name!r} have rows of their own; use a problem with shared inputs."
            )
        for task in problem.tasks:
            _check_binary(task)
        (rows,) = problem.train.pieces.values()
        columns = [rows.targets[task.name] for task in problem.tasks]
        return cls(
            encoder=default_encoder(rows.inputs, problem.table),
            tasks=problem.tasks,
            adjacency=label_adjacency(torch.stack(columns, dim=1)),
            bias=True,
        )

    def classifiers(self) -> Tensor:
        """W ``[T, D]``."""
        # Rows of the first product are one-hot embeddings times W_1 where there are no embeddings.
        table = (
            self.first.weight.mT
            if self.embeddings is None
            else self.first(self.embeddings([task.name for task in self.tasks]))
        )
        hidden = functional.leaky_relu(self.propagation @ table, SLOPE)
        found: Tensor = self.propagation @ self.second(hidden)
        return found

    def forward(self, inputs: Inputs) -> TaskTensors:
        """Outputs of the labels."""
        if isinstance(inputs, Mapping):
            outputs = self._outputs(torch.cat(list(inputs.values()))).select(inputs)
            own = split_rows(outputs, {name: len(rows) for name, rows in inputs.items()})
            return TaskTensors(own, outputs.members)
        return self._outputs(inputs)

    def _outputs(self, rows: Tensor) -> TaskTensors:
        outputs = functional.linear(self.encoder(rows), self.classifiers(), self.constants)
        outputs = outputs.unsqueeze(-1)
        if self.num_members > 1 and not self.training:
            outputs = average_members(self.tasks[0], outputs)
        names = tuple(task.name for task in self.tasks)
        return TaskTensors([(names, outputs)], self.num_members if self.training else 1)

    def shared_parameters(self) -> Iterator[nn.Parameter]:
        """All but the constants: along the graph every embedding reaches several labels."""
        return (p for name, p in self.named_parameters() if name != "constants")

    def task_parameters(self, name: str) -> Iterator[nn.Parameter]:
        """The constants, if there are any."""
        return (parameter for parameter, _ in self.task_rows(name))

    def task_rows(self, name: str) -> Iterator[tuple[nn.Parameter, TaskIndex]]:
        """The label's constant."""
        names = [task.name for task in self.tasks]
        if self.constants is not None:
            yield self.constants, (names.index(name),)

    def last_shared_parameters(self) -> Iterator[nn.Parameter]:
        """W_2, the last layer that all labels share."""
        return self.second.parameters()

    def __repr__(self) -> str:
        return rebuildable_repr(self)


def label_adjacency(
    targets: Tensor, *, threshold: float = 0.4, reweight: float = 0.2, variant: Variant = "paper"
) -> Tensor:
    """The graph A' of labels that occur together, from the targets of training rows.

    Args:
        targets: ``[N, T]``: 1 where a label occurs, 0 where not, -1 or NaN where that is not known.
            Give training rows only: the graph is learned from labels.
        threshold: τ; an edge from i to j where the share of rows with i that have j is at least τ
            (0.4, section 4.1 of the paper).
        reweight: p, the weight of all neighbours together beside a label's own 1 - p (0.2, section
            4.1).
        variant: "paper" or "code", see ``reweighted``.

    Returns:
        ``[T, T]``, in the default dtype.

    Raises:
        ValueError: targets that are not a table of 0, 1 and missing values; a threshold outside
            (0, 1], a weight outside [0, 1).

    Example:
        >>> label_adjacency(torch.tensor([[1, 1, 0], [1, 0, 0], [1, 0, -1]]))
        tensor([[0.8000, 0.0000, 0.0000],
                [0.2000, 0.8000, 0.0000],
                [0.0000, 0.0000, 0.8000]])

    References:
        Chen et al., CVPR 2019, https://arxiv.org/abs/1904.03582, equations 6-8.
    """
    together, positives = label_counts(targets)
    return reweighted(
        together, positives, threshold=threshold, reweight=reweight, variant=variant
    ).to(torch.get_default_dtype())


def label_counts(targets: Tensor) -> tuple[Tensor, Tensor]:
    """Rows where labels i and j occur together, and rows where i occurs and j is known.

    Args:
        targets: ``[N, T]``: 1, 0, or -1 or NaN where it is not known.

    Returns:
        M and the counts to divide it by, both ``[T, T]`` in float64; where nothing is missing, row
        i of the second is N_i throughout. The share M_ij / N_ij is then not biased by missing
        labels.
    """
    values = targets.double()
    missing = values.isnan() | (values == IGNORE_INDEX)
    if targets.dim() != 2 or not bool((missing | (values == 0) | (values == 1)).all()):
        raise ValueError(
            "`targets` must be a table [rows, labels] of 0, 1, and -1 or NaN for missing, found "
            f"shape {list(targets.shape)} with values {values[~missing].unique()[:6].tolist()}."
        )
    occurs = (values == 1).double()
    return occurs.mT @ occurs, occurs.mT @ (~missing).double()


def reweighted(
    together: Tensor,
    positives: Tensor,
    *,
    threshold: float = 0.4,
    reweight: float = 0.2,
    variant: Variant = "paper",
) -> Tensor:
    """A' from counts: edges where M_ij / N_ij >= τ, weights of neighbours and of the label itself.

    Paper: A'_ij = p / (number of neighbours of i) for its neighbours j, A'_ii = 1 - p. Code:
    p / (1 - p) of every edge over the sum of its *column*, and ones on the diagonal. The diagonal
    of the counts is not looked at: a label always occurs with itself. A label without neighbours,
    or without positives, keeps its diagonal only.

    Args:
        together: M ``[T, T]``.
        positives: N_i ``[T]``, or N_ij ``[T, T]`` where labels are missing.
        threshold: τ in (0, 1].
        reweight: p in [0, 1).
        variant: "paper" or "code".
    """
    _check_variant(variant)
    if not 0 < threshold <= 1:
        raise ValueError(f"`threshold` must lie in (0, 1], found {threshold}.")
    if not 0 <= reweight < 1:
        raise ValueError(f"`reweight` must lie in [0, 1), found {reweight}.")
    of_each = positives if positives.dim() == 2 else positives.unsqueeze(1)
    share = together / of_each.clamp_min(1)
    edges = (share >= threshold).to(share.dtype).fill_diagonal_(0)
    own = torch.eye(len(edges), dtype=edges.dtype, device=edges.device)
    if variant == "code":
        return reweight / (1 - reweight) * edges / (edges.sum(0, keepdim=True) + EPSILON) + own
    neighbours = edges.sum(1, keepdim=True).clamp_min(1)
    return reweight * edges / neighbours + (1 - reweight) * own


def _normalised(adjacency: Tensor, labels: int, variant: Variant) -> Tensor:
    """Â ``[T, T]``."""
    _check_variant(variant)
    if adjacency.shape != (labels, labels):
        raise ValueError(
            f"`adjacency` must have shape [{labels}, {labels}], one row per label, found "
            f"{list(adjacency.shape)}."
        )
    sums = adjacency.sum(1)
    if not bool(adjacency.isfinite().all()) or bool((adjacency < 0).any() or (sums <= 0).any()):
        raise ValueError(
            "`adjacency` needs finite entries >= 0 and something in every row (a label is its own "
            f"neighbour), found row sums {sums.tolist()}."
        )
    roots = sums.rsqrt()
    turned = adjacency.mT if variant == "code" else adjacency
    return roots.unsqueeze(1) * turned * roots


def _check_binary(task: Task) -> None:
    if not isinstance(task.kind, Binary):
        raise ValueError(
            f"LabelGraph is for labels that occur or do not; task {task.name!r} is a "
            f"{type(task.kind).__name__}, not Binary."
        )


def _check_variant(variant: str) -> None:
    if variant not in get_args(Variant):
        raise ValueError(f"`variant` must be 'paper' or 'code', found {variant!r}.")
