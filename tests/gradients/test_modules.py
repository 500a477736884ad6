"""Modules that vectorised Jacobians refuse: recurrent, compiled, and with weights used twice."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from polytask import gradients
from polytask.balancers import MGDA, PCGrad, UPGrad


class Recurrent(nn.Module):
    def __init__(self, kind: type[nn.Module]) -> None:
        super().__init__()
        self.core = kind(4, 8, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.core(x.reshape(len(x), 5, 4))[0][:, -1]


class Tied(nn.Module):
    """One layer used twice, as in weight-tied networks."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(20, 8)
        self.twice = nn.Linear(8, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.twice(torch.tanh(self.twice(torch.tanh(self.first(x)))))


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(4, 2, 8, dropout=0.0, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x.reshape(len(x), 5, 4)).flatten(1)[:, :8]


def compiled() -> nn.Module:
    # The eager backend traces and replays the graph as every compiled module does, without a
    # C++ compiler.
    return torch.compile(nn.Sequential(nn.Linear(20, 8), nn.Tanh()), backend="aot_eager")


TRUNKS = {
    "lstm": lambda: Recurrent(nn.LSTM),
    "gru": lambda: Recurrent(nn.GRU),
    "tied": Tied,
    "attention": Attention,
    "compiled": compiled,
}


def losses_of(trunk: nn.Module, x: torch.Tensor) -> torch.Tensor:
    features = trunk(x)
    scales = torch.tensor([1.0, -3.0, 0.1])
    return torch.stack([(features[:, i : i + 3].sum(1) * s - i).square().mean() for i, s in
                        enumerate(scales)])  # fmt: skip


def one_backward_per_task(trunk: nn.Module, x: torch.Tensor) -> torch.Tensor:
    rows = []
    for task in range(3):
        trunk.zero_grad()
        losses_of(trunk, x)[task].backward()
        rows.append(torch.cat([p.grad.flatten() for p in trunk.parameters()]))
    trunk.zero_grad()
    return torch.stack(rows)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("name", TRUNKS)
def test_gramian_and_updates_are_exact(name: str) -> None:
    torch.manual_seed(0)
    trunk, x = TRUNKS[name](), torch.randn(12, 20)
    jacobian = one_backward_per_task(trunk, x)
    found = gradients.gramian(losses_of(trunk, x), list(trunk.parameters()))
    torch.testing.assert_close(found, jacobian @ jacobian.T, rtol=1e-4, atol=1e-5)
    for method in (MGDA, PCGrad, UPGrad):
        trunk.zero_grad()
        method().backward(losses_of(trunk, x), shared=trunk.parameters())
        update = torch.cat([p.grad.flatten() for p in trunk.parameters()])
        torch.testing.assert_close(update, method().combine(jacobian), rtol=1e-3, atol=1e-4)
