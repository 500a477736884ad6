"""Every exported architecture, and its main variants, against every check."""

from __future__ import annotations

import pytest
import torch

from polytask.architectures import (
    Architecture,
    CrossDomain,
    CustomArchitecture,
    DeepResidual,
    HardSharing,
    Independent,
    SoftLayerOrdering,
    TravelingObserver,
)
from polytask.architectures.sharing.specialised import SpecialisedModels
from polytask.checks import architectures as checks
from polytask.encoders import MLP, SmallCNN, TabularEncoder
from polytask.problems.table_batch import TableShape


def tabular_inputs(rows: int) -> torch.Tensor:
    codes = torch.randint(0, 4, (rows, 2)).to(torch.get_default_dtype())
    inputs = torch.cat([torch.randn(rows, 3), codes], dim=1)
    inputs[0, 1] = float("nan")
    return inputs


def tabular_encoder(members: int) -> TabularEncoder:
    return TabularEncoder(
        num_numeric=3, cardinalities=(3, 20), members=members, width=8, depth=2, dropout=0.1
    )


def linear_heads(tasks):
    return HardSharing(encoder=MLP(input_size=5), tasks=tasks), torch.randn(6, 5)


def images(tasks):
    return HardSharing(encoder=SmallCNN(image_size=8, channels=1), tasks=tasks), torch.randn(
        6, 1, 8, 8
    )


def members_with_linear_heads(tasks):
    return HardSharing(encoder=tabular_encoder(4), tasks=tasks), tabular_inputs(6)


def members_with_mlp_heads(tasks):
    return HardSharing(encoder=tabular_encoder(3), tasks=tasks, head="mlp"), tabular_inputs(6)


def one_member(tasks):
    return HardSharing(encoder=tabular_encoder(1), tasks=tasks), tabular_inputs(6)


def separate_inputs(tasks):
    model = HardSharing(encoder=MLP(input_size=5, widths=(8,)), tasks=tasks)
    return model, {task.name: torch.randn(3 + i, 5) for i, task in enumerate(tasks)}


def separate_members(tasks):
    model = HardSharing(encoder=tabular_encoder(2), tasks=tasks)
    return model, {task.name: tabular_inputs(3 + i) for i, task in enumerate(tasks)}


def independent_members(tasks):
    return Independent(encoder=tabular_encoder(2), tasks=tasks, head="mlp"), tabular_inputs(6)


def cross_domain_members(tasks):
    encoders = {task.name: tabular_encoder(2) for task in tasks}
    model = CrossDomain(encoders=encoders, core=MLP(input_size=8, widths=(6,)), tasks=tasks)
    return model, {task.name: tabular_inputs(3 + i) for i, task in enumerate(tasks)}


def observer_over_tables(tasks):
    columns = {task.name: TableShape(2 + i, (3,) * (i % 2)) for i, task in enumerate(tasks)}
    return TravelingObserver(tasks=tasks, columns=columns, hidden=8), tables_of(columns)


def observer_in_chunks(tasks):
    model = TravelingObserver(
        tasks=tasks, columns=5, hidden=8, affine=True, encoder_chunk=2, decoder_chunk=3
    )
    return model, torch.randn(6, 5)


def deep_residual_on_shared_inputs(tasks):
    return DeepResidual(tasks=tasks, columns=5, hidden=8), torch.randn(6, 5)


def soft_ordering_on_shared_inputs(tasks):
    return SoftLayerOrdering(tasks=tasks, columns=5, hidden=8), torch.randn(6, 5)


def tables_of(columns):
    """Rows of tables of different lengths, with a number missing and every category but one."""
    tables = {}
    for i, (name, shape) in enumerate(columns.items()):
        rows = 3 + i
        numbers = torch.randn(rows, shape.num_numeric)
        numbers[0, 0] = float("nan")
        codes = [torch.arange(rows).remainder(c) for c in shape.cardinalities]
        tables[name] = torch.column_stack([numbers, *codes]).to(torch.get_default_dtype())
    return tables


VARIANTS = [
    observer_over_tables,
    observer_in_chunks,
    deep_residual_on_shared_inputs,
    soft_ordering_on_shared_inputs,
    linear_heads,
    images,
    members_with_linear_heads,
    members_with_mlp_heads,
    one_member,
    separate_inputs,
    separate_members,
    independent_members,
    cross_domain_members,
]
EXAMPLES = [
    *(pytest.param(cls.example, id=cls.__name__) for cls in checks.public_architectures()),
    *(pytest.param(variant, id=variant.__name__) for variant in VARIANTS),
]


@pytest.mark.parametrize("check", checks.CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("example", EXAMPLES)
def test_conformance(example, check):
    check(example)


def test_every_check_of_the_module_is_run():
    written = {name for name in vars(checks) if name.startswith("check_")}
    assert written == {check.__name__ for check in checks.CHECKS}


def test_abstract_architectures_are_left_out_by_rule():
    assert Architecture not in checks.public_architectures()
    assert HardSharing in checks.public_architectures()


def test_every_architecture_says_where_the_task_enters():
    without = {cls for cls in checks.public_architectures() if cls.family is None}
    assert without == {Independent, SpecialisedModels, CustomArchitecture}


class Leaking(HardSharing):
    """Claims the whole head block for each of its tasks."""

    def task_rows(self, name):
        return ((parameter, (...,)) for parameter in self.task_parameters(name))

    @classmethod
    def example(cls, tasks):
        return cls(encoder=MLP(input_size=5), tasks=tasks), torch.randn(6, 5)


class Mixing(HardSharing):
    """Centres the batch, so that rows depend on each other."""

    def forward(self, inputs):
        return super().forward(inputs - inputs.mean(0))

    @classmethod
    def example(cls, tasks):
        return cls(encoder=MLP(input_size=5), tasks=tasks), torch.randn(6, 5)


class Noisy(HardSharing):
    """Draws random numbers in evaluation."""

    def forward(self, inputs):
        return super().forward(inputs + 1e-3 * torch.randn_like(inputs))

    @classmethod
    def example(cls, tasks):
        return cls(encoder=MLP(input_size=5), tasks=tasks), torch.randn(6, 5)


@pytest.mark.parametrize(
    ("wrong", "check", "message"),
    [
        (Leaking, checks.check_parameters_disjoint_and_complete, "claimed more than once"),
        (Leaking, checks.check_no_leak, "changes parameters of"),
        (Mixing, checks.check_rows_do_not_mix, "depend on the other rows"),
        (Noisy, checks.check_evaluation_is_deterministic, "draws random numbers"),
        (Mixing, checks.check_features_and_heads, "is not forward"),
    ],
)
def test_a_wrong_architecture_is_found(wrong, check, message):
    with pytest.raises(AssertionError, match=message):
        check(wrong.example)
