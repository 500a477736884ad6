"""The architecture that a problem gets when nothing is said.

The one place where architectures meet data: the classes themselves know nothing of problems.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from polytask.architectures.base import Architecture
from polytask.architectures.sharing.cross_domain import CrossDomain
from polytask.architectures.sharing.hard_sharing import HardSharing
from polytask.encoders import MLP, Encoder, SmallCNN, TabularEncoder
from polytask.encoders.cnn import SMALLEST_IMAGE
from polytask.encoders.tabular import DEPTH, MEMBERS, WIDTH

if TYPE_CHECKING:
    from polytask.problems import Problem
    from polytask.problems.table_info import TableInfo

__all__ = ["common_encoder", "default_architecture", "default_encoder"]

#: Features that own encoders hand to a shared core.
CORE_WIDTH = 128


def default_architecture(
    problem: Problem, *, head: str = "linear", members: int | None = None
) -> Architecture:
    """Hard sharing for shared inputs, a shared core between own encoders for separate ones.

    Tables get a ``TabularEncoder``, images a ``SmallCNN``, everything else an ``MLP``.

    Args:
        problem: Whose inputs and tasks decide; a problem of one task gives a single-task network.
        head: "linear" or "mlp".
        members: Ensemble members of tabular encoders; None means their default.

    Returns:
        A freshly initialised ``HardSharing`` (shared layout) or ``CrossDomain`` (separate layout).
    """
    train = problem.train
    if train.layout == "shared":
        encoder = default_encoder(train.pieces[""].inputs, problem.table, members=members)
        return HardSharing(encoder=encoder, tasks=problem.tasks, head=head)
    if len(problem.tables) < len(train.pieces):
        # Members run through the core together, so tasks without them allow none to any task.
        members = 1
    encoders = {
        name: default_encoder(
            piece.inputs, problem.table_of(name), members=members, depth=1, width=CORE_WIDTH
        )
        for name, piece in train.pieces.items()
    }
    core = MLP(input_size=CORE_WIDTH, widths=(CORE_WIDTH, CORE_WIDTH))
    return CrossDomain(encoders=encoders, core=core, tasks=problem.tasks, head=head)


def common_encoder(problem: Problem) -> Encoder:
    """A fresh default encoder for inputs that all tasks of a problem have in one form.

    Raises:
        ValueError: tasks with inputs of different forms.
    """
    pieces = problem.train.pieces
    forms = {(piece.inputs.shape[1:], problem.table_of(name)) for name, piece in pieces.items()}
    if len(forms) > 1:
        raise ValueError(
            f"The tasks of problem {problem.name!r} have inputs of {len(forms)} forms, and the"
            " architecture has one encoder for all; use one over variables, or CrossDomain."
        )
    name, piece = next(iter(pieces.items()))
    return default_encoder(piece.inputs, problem.table_of(name))


def default_encoder(
    inputs: Tensor,
    table: TableInfo | None = None,
    *,
    members: int | None = None,
    depth: int | None = None,
    width: int | None = None,
) -> Encoder:
    """A fresh encoder for inputs of this form.

    Args:
        inputs: ``[N, ...]``: rows of a table, images ``[N, channels, height, width]``, or vectors.
        table: How the columns of a table became inputs; None where they are no table.
        members: Of a tabular encoder; None means its default.
        depth: Layers of a perceptron; None means the default.
        width: Features; None means the encoder's default.
    """
    if table is not None:
        return TabularEncoder(
            num_numeric=table.num_numeric,
            cardinalities=table.cardinalities,
            members=members or MEMBERS,
            width=width or WIDTH,
            depth=depth or DEPTH,
        )
    if inputs.dim() == 4 and min(inputs.shape[2:]) >= SMALLEST_IMAGE:
        channels, height, columns = inputs.shape[1:]
        return SmallCNN(image_size=(height, columns), channels=channels, output_size=width or 128)
    return MLP(input_size=inputs.shape[1:].numel(), widths=(width or 256,) * (depth or 2))
