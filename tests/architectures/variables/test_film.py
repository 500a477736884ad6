"""FiLM layers and residual blocks: the reference, values by hand, two forms of one layer."""

from __future__ import annotations

import pytest
import torch
from tests.architectures.reference_layers import layer_cases
from torch import nn

from polytask.architectures.variables.film import (
    CoreResidualBlock,
    FiLM,
    FiLMResidualBlock,
    InverseFiLM,
)

#: Names of the reference's submodules to ours.
NAMES = {
    "scale_layer": "scale",
    "shift_layer": "shift",
    "value_layer": "value",
    "conv_layer": "value",
    "film_layer": "film",
}


def ours(name: str) -> str:
    """The reference's parameter name in our words."""
    return ".".join(NAMES.get(part, part) for part in name.split("."))


def load(module: nn.Module, parameters: dict[str, torch.Tensor]) -> nn.Module:
    """The module with the reference's parameters, whose kernels have size 1."""
    shapes = {name: p.shape for name, p in module.named_parameters()}
    state = {ours(name): value.reshape(shapes[ours(name)]) for name, value in parameters.items()}
    assert set(state) == set(shapes)
    module.double().load_state_dict(state)
    return module


def gradients(
    module: nn.Module, names: dict[str, torch.Tensor], inputs: dict[str, torch.Tensor]
) -> dict[str, torch.Tensor]:
    """Gradients under the fixture's names."""
    own = dict(module.named_parameters())
    return {
        **{f"g.{name}": value.grad for name, value in inputs.items()},
        **{f"gp.{name}": own[ours(name)].grad for name in names},
    }


def small(kind: str, case) -> nn.Module:
    size = case.inputs["x"].shape[1]
    if kind == "core_res_block":
        return CoreResidualBlock(size=size)
    width = case.inputs["z"].shape[1]
    if kind == "film_res_block":
        return FiLMResidualBlock(size=size, embedding_size=width, affine=True)
    outputs = case.parameters["value_layer.weight"].shape[0]
    layer = FiLM if kind == "film" else InverseFiLM
    return layer(input_size=size, output_size=outputs, embedding_size=width, affine=True)


def test_layers_are_those_of_the_reference_with_gradients(shared):
    for case in layer_cases(shared, "film"):
        module = load(small(case.settings["kind"], case), case.parameters)
        leaves = {name: value.clone().requires_grad_() for name, value in case.inputs.items()}
        out = module(*(leaf.transpose(1, 2) for leaf in leaves.values())).transpose(1, 2)
        (out.square().sum() / 2).backward()
        case.check({"out": out.detach(), **gradients(module, case.parameters, leaves)})


def test_linear_film_by_hand():
    film = FiLM(input_size=1, output_size=2, embedding_size=1)
    with torch.no_grad():
        film.value.weight.copy_(torch.tensor([[2.0], [-1.0]]))
        film.value.bias.copy_(torch.tensor([1.0, 3.0]))
        film.scale.weight.copy_(torch.tensor([[4.0], [5.0]]))
        film.shift.weight.copy_(torch.tensor([[0.5], [-2.0]]))
    # x = 3, z = 10: W x + b = (7, 0); scale = (40, 50); shift = (5, -20).
    found = film(torch.tensor([3.0]), torch.tensor([10.0]))
    torch.testing.assert_close(found, torch.tensor([285.0, -20.0]))
    assert film(torch.tensor([3.0]), torch.zeros(1)).tolist() == [0.0, 0.0]


def test_inverse_film_by_hand():
    film = InverseFiLM(input_size=2, output_size=1, embedding_size=1)
    with torch.no_grad():
        film.value.weight.copy_(torch.tensor([[2.0, -1.0]]))
        film.value.bias.fill_(0.25)
        film.scale.weight.copy_(torch.tensor([[4.0], [5.0]]))
        film.shift.weight.copy_(torch.tensor([[0.5], [-2.0]]))
    # x = (1, 3), z = 2: scale o x = (8, 30); + shift = (9, 26); 2 * 9 - 26 + 0.25.
    found = film(torch.tensor([1.0, 3.0]), torch.tensor([2.0]))
    torch.testing.assert_close(found, torch.tensor([-7.75]))


def test_affine_film_differs_in_its_biases_only():
    assert FiLM(input_size=1, output_size=2, embedding_size=3).scale.bias is None
    affine = FiLM(input_size=1, output_size=2, embedding_size=3, affine=True)
    x, z = torch.randn(5, 1), torch.zeros(3)
    torch.testing.assert_close(
        affine(x, z), affine.scale.bias * affine.value(x) + affine.shift.bias
    )


@pytest.mark.parametrize("affine", [False, True])
@pytest.mark.parametrize(("layer", "sizes"), [(FiLM, (1, 3)), (InverseFiLM, (3, 1))])
def test_the_layer_of_each_variable_is_the_layer(layer, sizes, affine):
    film = layer(input_size=sizes[0], output_size=sizes[1], embedding_size=4, affine=affine)
    values, embeddings = torch.randn(6, 5, sizes[0]).double(), torch.randn(6, 4).double()
    weights, biases = film.double().layer_of(embeddings)
    torch.testing.assert_close(
        torch.baddbmm(biases.unsqueeze(1), values, weights), film(values, embeddings.unsqueeze(1))
    )


def test_blocks_start_as_the_identity_and_learn_to_leave_it():
    hidden, z = torch.randn(4, 6), torch.randn(4, 3)
    for block in (FiLMResidualBlock(size=6, embedding_size=3), CoreResidualBlock(size=6)):
        arguments = (hidden, z) if isinstance(block, FiLMResidualBlock) else (hidden,)
        found = block(*arguments)
        torch.testing.assert_close(found, hidden)
        found.square().sum().backward()
        assert float(block.alpha.grad.abs()) > 0


@pytest.mark.parametrize(
    ("block", "sizes"),
    [
        (FiLMResidualBlock(size=8, embedding_size=3, dropout=0.5), (8, 3)),
        (CoreResidualBlock(size=8, dropout=0.5), (8,)),
    ],
    ids=["film", "core"],
)
def test_dropout_leaves_the_mean_update_and_the_skip_alone(block, sizes):
    with torch.no_grad():
        block.alpha.fill_(2.0)
    hidden, *rest = (torch.randn(size) for size in sizes)
    drawn = block.train()(hidden.expand(20_000, 8), *rest) - hidden
    whole = block.eval()(hidden, *rest) - hidden
    kept = (drawn.abs() > 1e-6).float().mean().item()
    assert kept == pytest.approx(0.5, abs=0.01)
    torch.testing.assert_close(drawn.mean(0), whole, atol=0.05, rtol=0.05)


@pytest.mark.parametrize(
    "module",
    [
        FiLM(input_size=1, output_size=2, embedding_size=3),
        InverseFiLM(input_size=4, output_size=1, embedding_size=3, affine=True),
        FiLMResidualBlock(size=4, embedding_size=2, dropout=0.25),
        CoreResidualBlock(size=4, dropout=0.25),
    ],
    ids=lambda module: type(module).__name__,
)
def test_repr_evaluates_to_the_same_layer(module):
    assert repr(eval(repr(module))) == repr(module)


def test_wrong_sizes_are_named():
    with pytest.raises(ValueError, match="`size` must be at least 1, found 0"):
        CoreResidualBlock(size=0)
    with pytest.raises(ValueError, match="`dropout` must lie in"):
        FiLMResidualBlock(size=2, embedding_size=2, dropout=1.0)
