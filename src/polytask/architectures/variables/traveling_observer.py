"""The Traveling Observer Model: one network for any inputs and outputs, told by embeddings which
variables it looks at.

Shape legend: K tables in the batch, B rows of each, N input variables, Q output variables, V
variables of all tasks, C embedding size, M hidden units, n columns of shared inputs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from polytask.architectures.base import Inputs
from polytask.architectures.families import Family
from polytask.architectures.variables.film import (
    CoreResidualBlock,
    FiLM,
    FiLMResidualBlock,
    InverseFiLM,
    Maps,
)
from polytask.architectures.variables.variable_embeddings import VariableEmbeddings, embedding_table
from polytask.architectures.variables.variable_grid import Columns, Grid
from polytask.architectures.variables.variable_model import (
    VariableModel,
    columns_of,
    variable_source,
)
from polytask.encoders.base import check_fraction, check_positive
from polytask.problems.segments import lookup_sum, segment_sum
from polytask.tasks import Task, TaskTensors

if TYPE_CHECKING:
    from polytask.problems import Problem

__all__ = ["TravelingObserver"]

#: Hidden values of a part on a CPU: 8 MiB in single precision.
_NUMBERS_AT_ONCE = 2**21


class TravelingObserver(VariableModel):
    """One network for tasks of any inputs and outputs: E[y_j | x] = g2(g1(sum_i f(x_i, z_i)), z_j).

    Every variable that is measured, input or output, has an embedding z of C numbers. The encoder f
    reads one number at a time together with the embedding of its variable, the readings of a row
    are summed, the core g1 works on the sum, and the decoder g2 answers for one variable at a time.
    All weights are shared by all tasks; what tells them apart is where their variables lie.

    When to use it: tasks whose inputs have nothing in common (a hundred tables with different
    columns), inputs of which a changing part is missing, or the question how variables are related
    (their embeddings can be drawn). When not: a few tasks that share one input format and have
    many rows are served better, and faster, by ``HardSharing``.

    Layers (figure 15): encoder FC 1 -> M, FiLM(z_i), dropout, FRBs; core CRBs; decoder FRBs,
    dropout, FiLM(z_j), FC M -> 1. The residual blocks start as the identity.

    Args:
        tasks: The tasks, with vector outputs. A task has one output variable per number that it
            outputs, so one per class of several.
        columns: n, for inputs ``[B, n]`` that all tasks share (a ``TableShape`` where some columns
            hold codes of categories); or the columns of every task's own table, ``{task: number or
            TableShape}``, for inputs ``{task: [B_t, F_t]}``.
        embeddings: A table of V embeddings, or C for a learned one (2, as in the paper's synthetic
            problems; 128 for UCI-121). V counts the n columns (for a categorical column its
            categories and one more) and then the outputs of every task; for tables, task by task,
            its columns and then its outputs.
        hidden: M.
        encoder_layers: The FiLM layer and ``encoder_layers - 1`` FRBs, so 3 means 1 + 2 as in the
            authors' code.
        core_layers: CRBs.
        decoder_layers: ``decoder_layers - 1`` FRBs and the FiLM layer.
        dropout: Probability in every place that figure 15 has one.
        affine: Whether the FiLM maps of z have biases. False is the paper's text, where embeddings
            of 0 make the model a constant; True is the authors' code.
        same_variables: Shared inputs: whether the outputs are the columns themselves (they then
            have one embedding, as in an autoencoder), or which tasks are: task name to column.
        observe: Shared inputs: in training, how many columns of each row to read: a number drawn
            uniformly from low .. high; all outputs are predicted. None reads all. In evaluation
            every number that is not NaN is read.
        encoder_chunk: Input variables that are encoded at a time, to save memory; in training their
            hidden values are computed again in the backward pass. None: the hidden values of all
            are kept.
        decoder_chunk: The same for output variables.

    Shapes: shared inputs ``[B, n]``, NaN where not observed; outputs blocks ``[B, K, C]``. Tables
        ``{task: [B_t, F_t]}`` for any of the tasks (``TableBatch`` pass through); outputs of each
        task for its own rows, see ``TableVariables.blocks``.

    Raises:
        ValueError: an embedding table for another number of variables; outputs that do not fit
            ``same_variables``; ``observe`` beyond the columns, or with tables; inputs of another
            form.

    Cost: an M x M product per cell and FRB of the encoder, per row and CRB, and per row, output and
        FRB of the decoder but the first (whose product is the same for all outputs of a row). What
        depends on a variable alone is computed once per variable. Memory for ``[N, B, M]`` and
        ``[Q, B, M]`` hidden values per layer, unless chunked. No loop over tasks. A category of a
        table is encoded once per step and not per row, with dropout as well.

    Needs: gradient methods work on all parameters (scope "trunk" or "last", which are the same
        here). There is no scope "features": the decoder behind the representation is shared too.

    Differences: the paper draws one task per step; here a step holds whatever tasks the sampler
        draws, all of them by default.

    Example:
        Two tables without a column in common, one of them with a missing number:

        >>> import torch
        >>> from polytask.tasks import Multiclass, Regression, Task
        >>> tasks = (Task("price", Regression()), Task("species", Multiclass(3)))
        >>> model = TravelingObserver(tasks=tasks, columns={"price": 5, "species": 2}, hidden=16)
        >>> rows = {"price": torch.ones(4, 5), "species": torch.tensor([[0.5, torch.nan]])}
        >>> outputs = model(rows)
        >>> outputs["price"].shape, outputs["species"].shape
        (torch.Size([4, 1]), torch.Size([1, 3]))

        Ten temperatures, of which any can be given and all are predicted:

        >>> days = tuple(Task(f"day {i}", Regression()) for i in range(10))
        >>> model = TravelingObserver(
        ...     tasks=days, columns=10, hidden=16, same_variables=True, observe=(1, 9)
        ... )
        >>> model(torch.zeros(4, 10))
        TaskTensors(10 task(s) (4, 10, 1))

    References:
        E. Meyerson, R. Miikkulainen, The Traveling Observer Model: Multi-task Learning Through
        Spatial Variable Embeddings, ICLR 2021, https://arxiv.org/abs/2010.02354, equations 5-7 and
        figure 15.
    """

    family = Family.VARIABLES

    def __init__(  # noqa: PLR0913 - the paper's model has this many choices
        self,
        *,
        tasks: Sequence[Task],
        columns: Columns,
        embeddings: VariableEmbeddings | int = 2,
        hidden: int = 128,
        encoder_layers: int = 3,
        core_layers: int = 3,
        decoder_layers: int = 3,
        dropout: float = 0.0,
        affine: bool = False,
        same_variables: bool | Mapping[str, int] = False,
        observe: tuple[int, int] | None = None,
        encoder_chunk: int | None = None,
        decoder_chunk: int | None = None,
    ) -> None:
        super().__init__(tasks, columns, embeddings)
        self.hidden = check_positive("hidden", hidden)
        self.encoder_layers = check_positive("encoder_layers", encoder_layers)
        self.core_layers = _checked_count("core_layers", core_layers)
        self.decoder_layers = check_positive("decoder_layers", decoder_layers)
        self.dropout = check_fraction("dropout", dropout)
        self.affine = affine
        self.same_variables = same_variables
        self.observe = _checked_observe(observe, columns)
        self.encoder_chunk = _checked_chunk("encoder_chunk", encoder_chunk)
        self.decoder_chunk = _checked_chunk("decoder_chunk", decoder_chunk)
        self.variables = variable_source(self.tasks, columns, same_variables)
        self.table = embedding_table(embeddings, self.variables.num_variables)
        size = self.table.size

        def blocks(count: int) -> nn.ModuleList:
            return nn.ModuleList(
                FiLMResidualBlock(size=hidden, embedding_size=size, dropout=dropout, affine=affine)
                for _ in range(count)
            )

        self.reader = FiLM(input_size=1, output_size=hidden, embedding_size=size, affine=affine)
        self.encoder_blocks = blocks(encoder_layers - 1)
        self.core = nn.Sequential(
            *(CoreResidualBlock(size=hidden, dropout=dropout) for _ in range(core_layers))
        )
        self.decoder_blocks = blocks(decoder_layers - 1)
        self.readout = InverseFiLM(
            input_size=hidden, output_size=1, embedding_size=size, affine=affine
        )

    @classmethod
    def example(cls, tasks: Sequence[Task]) -> tuple[TravelingObserver, Inputs]:
        return cls(tasks=tasks, columns=5, hidden=8), torch.randn(6, 5)

    @classmethod
    def for_problem(cls, problem: Problem) -> TravelingObserver:
        """An instance for the tables of a problem, with the paper's sizes for them."""
        return cls(tasks=problem.tasks, columns=columns_of(problem), embeddings=128)

    def forward(self, inputs: Inputs) -> TaskTensors:
        grid = self.variables.read(inputs)
        hidden = self.core(self._encode(grid))
        return self.variables.write(grid, self._decode(grid, hidden))

    def _encode(self, grid: Grid) -> Tensor:
        """Sums ``[K, B, M]`` of the readings of every row."""
        observed = grid.observed
        if self.training and self.observe is not None:
            observed = _draw_observed(grid.values, observed, self.observe)
        embeddings = self.table(grid.columns)
        sums = [
            self._run(
                self._row_sums,
                self.encoder_chunk,
                grid.values[part],
                None if observed is None else observed[part],
                embeddings[part],
                grid.column_tables[part],
                grid.num_tables,
            )
            for part in _parts(len(grid.values), self.encoder_chunk or self._at_once(grid))
        ]
        total = sums[0] if len(sums) == 1 else torch.stack(sums).sum(0)
        return total if grid.categories is None else total + self._category_sums(grid)

    def _row_sums(
        self,
        values: Tensor,
        observed: Tensor | None,
        embeddings: Tensor,
        tables: Tensor,
        num_tables: int,
    ) -> Tensor:
        hidden = self._readings(values, embeddings)
        if observed is not None:
            hidden = hidden * observed.unsqueeze(-1)
        if num_tables == 1:
            return hidden.sum(0, keepdim=True)
        return segment_sum(hidden, tables, num_tables)

    def _readings(self, values: Tensor, embeddings: Tensor) -> Tensor:
        """f(x_i, z_i) ``[N, B, M]`` of values ``[N, B]``."""
        weights, biases = self.reader.layer_of(embeddings)
        hidden = torch.baddbmm(biases.unsqueeze(1), values.unsqueeze(-1), weights)
        hidden = functional.dropout(hidden, self.dropout, self.training)
        for block in _frbs(self.encoder_blocks):
            maps = _over_rows(block.maps(embeddings))
            hidden = block.update(hidden, block.values(hidden), maps)
        return hidden

    def _category_sums(self, grid: Grid) -> Tensor:
        """The readings of categories, which have the value 1, summed per row ``[K, B, M]``."""
        assert grid.categories is not None
        variables, rows = grid.categories
        used, place = torch.unique(variables, return_inverse=True)
        ones = grid.values.new_ones(len(used), 1)
        readings = self._readings(ones, self.table(used)).squeeze(1)
        sums = lookup_sum(readings, place, rows, grid.num_tables * grid.num_rows)
        return sums.view(grid.num_tables, grid.num_rows, -1)

    def _decode(self, grid: Grid, hidden: Tensor) -> Tensor:
        """Answers ``[Q, B]`` from the core's output ``[K, B, M]``."""
        embeddings = self.table(grid.outputs)
        first = next(_frbs(self.decoder_blocks)).values(hidden) if self.decoder_blocks else hidden
        answers = [
            self._run(
                self._answers,
                self.decoder_chunk,
                hidden,
                first,
                embeddings[part],
                grid.output_tables[part],
            )
            for part in _parts(len(embeddings), self.decoder_chunk or self._at_once(grid))
        ]
        return answers[0] if len(answers) == 1 else torch.cat(answers)

    def _answers(self, hidden: Tensor, first: Tensor, embeddings: Tensor, tables: Tensor) -> Tensor:
        """g2(h, z_j) ``[Q, B]``; ``first`` is the product of the first block, which does not depend
        on j.
        """
        if len(hidden) > 1:
            hidden, first = hidden.index_select(0, tables), first.index_select(0, tables)
        for number, block in enumerate(_frbs(self.decoder_blocks)):
            values = block.values(hidden) if number else first
            hidden = block.update(hidden, values, _over_rows(block.maps(embeddings)))
        hidden = hidden.expand(len(embeddings), -1, -1)
        hidden = functional.dropout(hidden, self.dropout, self.training)
        weights, biases = self.readout.layer_of(embeddings)
        return torch.baddbmm(biases.unsqueeze(1), hidden, weights).squeeze(-1)

    def _at_once(self, grid: Grid) -> int | None:
        """Variables whose hidden values ``[variables, B, M]`` stay in reach of a processor's cache:
        nothing is computed twice, but larger tensors take up to twice the time per number.
        """
        if grid.values.device.type != "cpu":
            return None
        return max(1, _NUMBERS_AT_ONCE // (self.hidden * max(grid.num_rows, 1)))

    def _run(
        self, function: Callable[..., Tensor], chunk: int | None, *arguments: object
    ) -> Tensor:
        """The function's value; where it works on chunks, its inner values are not kept."""
        if chunk is None or not (self.training and torch.is_grad_enabled()):
            return function(*arguments)
        result: Tensor = checkpoint(
            function, *arguments, use_reentrant=False, preserve_rng_state=self.dropout > 0
        )
        return result


def _frbs(blocks: nn.ModuleList) -> Iterator[FiLMResidualBlock]:
    return (cast(FiLMResidualBlock, block) for block in blocks)


def _over_rows(maps: Maps) -> Maps:
    """Maps ``[V, M]`` as ``[V, 1, M]``, for hidden values ``[V, B, M]``."""
    return Maps(maps.scale.unsqueeze(1), maps.shift.unsqueeze(1))


def _parts(count: int, size: int | None) -> Iterator[slice]:
    """Slices of at most ``size`` variables; one empty slice if there are none."""
    count = max(count, 1)
    size = min(size or count, count)
    return (slice(start, start + size) for start in range(0, count, size))


def _draw_observed(values: Tensor, observed: Tensor | None, bounds: tuple[int, int]) -> Tensor:
    """``[N, B]``: for every row some of its observed columns, low .. high of them at random."""
    keys = torch.rand_like(values)
    if observed is not None:
        keys = keys.masked_fill(~observed, 2.0)
    low, high = bounds
    count = torch.randint(low, high + 1, (1, values.shape[1]), device=values.device)
    threshold = keys.sort(dim=0).values.gather(0, count - 1)
    kept = keys <= threshold
    return kept if observed is None else kept & observed


def _checked_observe(observe: tuple[int, int] | None, columns: Columns) -> tuple[int, int] | None:
    if observe is None:
        return None
    if not isinstance(columns, int):
        raise ValueError(
            "`observe` needs numbers that all tasks share (`columns` a whole number), found "
            f"columns={columns!r}."
        )
    low, high = observe
    if not 1 <= low <= high <= columns:
        raise ValueError(
            f"`observe` must be two whole numbers (low, high) with 1 <= low <= high <= {columns} "
            f"columns, found {observe!r}."
        )
    return (low, high)


def _checked_chunk(name: str, chunk: int | None) -> int | None:
    return None if chunk is None else check_positive(name, chunk)


def _checked_count(name: str, count: int) -> int:
    if count < 0:
        raise ValueError(f"`{name}` must be >= 0, found {count}.")
    return count
